"""Lifecycle configuration over the wire, and what the sweeper then does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from client import S3

from s3lite.app import Application
from s3lite.core import lifecycle, write
from s3lite.core.lifecycle import Done
from s3lite.core.store import Store
from s3lite.core.sweep import sweep
from s3lite.times import Clock

DAY_S = 86_400.0


class LaterClock(Clock):
    """Real time and so many seconds more."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s

    def time(self) -> float:
        return super().time() + self._ahead_s


def run(app: Application, days: float, **values: object) -> Done:
    """What the walk does so many days from now."""
    store = app.services.store
    later = replace(store, clock=LaterClock(days * DAY_S))
    return lifecycle.run(later, **values)


def configure(s3: S3, *rules: str, bucket: str = "bucket") -> None:
    body = "".join(f"<Rule><Status>Enabled</Status>{rule}</Rule>" for rule in rules)
    answer = s3.put(
        f"/{bucket}?lifecycle", f"<LifecycleConfiguration>{body}</LifecycleConfiguration>".encode()
    )
    assert answer.status == 200, answer


def versioned(s3: S3, state: str = "Enabled") -> S3:
    body = f"<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>".encode()
    assert s3.put("/bucket?versioning", body).status == 200
    return s3


ALL = "<Filter/>"
EXPIRE = "<Expiration><Days>1</Days></Expiration>"
MARKERS = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
NONCURRENT = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>"
ABORT = (
    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>"
    "</AbortIncompleteMultipartUpload>"
)


# ---------------------------------------------------------------- configuration


def test_the_configuration_is_shown_and_deleted(s3: S3) -> None:
    configure(s3, f"<ID>one</ID><Prefix>a</Prefix>{EXPIRE}", f"{ALL}{ABORT}")
    shown = s3.get("/bucket?lifecycle")
    assert shown.texts("Rule/Prefix") == ["a"]
    first, second = shown.texts("Rule/ID")
    assert first == "one"
    assert second
    assert shown.headers["x-amz-transition-default-minimum-object-size"] == "all_storage_classes_128K"
    for _ in range(2):
        assert s3.delete("/bucket?lifecycle").status == 204
    assert s3.get("/bucket?lifecycle").code == "NoSuchLifecycleConfiguration"


def test_the_minimum_size_of_transitions_is_kept(s3: S3) -> None:
    body = (
        f"<LifecycleConfiguration><Rule><Status>Enabled</Status>{ALL}{EXPIRE}</Rule></LifecycleConfiguration>"
    )
    name = "x-amz-transition-default-minimum-object-size"
    for value in ("varies_by_storage_class", "all_storage_classes_128K"):
        assert s3.put("/bucket?lifecycle", body.encode(), {name: value}).headers[name] == value
        assert s3.get("/bucket?lifecycle").headers[name] == value
    assert s3.put("/bucket?lifecycle", body.encode(), {name: "none"}).code == "InvalidArgument"


def test_a_refused_configuration_changes_nothing(s3: S3) -> None:
    configure(s3, f"{ALL}{EXPIRE}")
    assert s3.put("/bucket?lifecycle", b"<LifecycleConfiguration/>").code == "MalformedXML"
    assert s3.get("/bucket?lifecycle").text("Rule/Expiration/Days") == "1"


def test_lifecycle_is_for_the_bucket_owner(s3: S3, other: S3) -> None:
    assert other.get("/bucket?lifecycle").code == "AccessDenied"
    assert other.delete("/bucket?lifecycle").code == "AccessDenied"


# ---------------------------------------------------------------- headers


def test_answers_tell_when_an_object_expires(s3: S3) -> None:
    configure(s3, f"<ID>a rule</ID><Prefix>a/</Prefix>{EXPIRE}")
    told = s3.put("/bucket/a/k", b"x").headers["x-amz-expiration"]
    assert told.startswith('expiry-date="')
    assert told.endswith(' 00:00:00 GMT", rule-id="a%20rule"')
    assert s3.head("/bucket/a/k").headers["x-amz-expiration"] == told
    assert s3.get("/bucket/a/k").headers["x-amz-expiration"] == told
    copied = s3.put("/bucket/a/copy", headers={"x-amz-copy-source": "bucket/a/k"})
    assert "x-amz-expiration" in copied.headers
    assert "x-amz-expiration" not in s3.put("/bucket/b", b"x").headers


def test_the_header_follows_tags(s3: S3) -> None:
    configure(s3, f"<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>{EXPIRE}")
    s3.put("/bucket/key", b"x")
    assert "x-amz-expiration" not in s3.head("/bucket/key").headers
    tags = b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"
    s3.put("/bucket/key?tagging", tags)
    assert "x-amz-expiration" in s3.head("/bucket/key").headers


def test_answers_tell_when_an_upload_is_aborted(s3: S3) -> None:
    configure(s3, f"<ID>stop</ID>{ALL}{ABORT}")
    started = s3.post("/bucket/big?uploads")
    assert started.headers["x-amz-abort-rule-id"] == "stop"
    listed = s3.get(f"/bucket/big?uploadId={started.text('UploadId')}")
    assert listed.headers["x-amz-abort-date"] == started.headers["x-amz-abort-date"]


# ---------------------------------------------------------------- the walk


def test_objects_of_plain_buckets_are_removed_when_due(app: Application, s3: S3) -> None:
    configure(s3, f"<Prefix>a/</Prefix>{EXPIRE}", f"<Prefix>a/long</Prefix>{EXPIRE}")
    for key in ("a/1", "a/2", "a/long/3", "b/1"):
        s3.put(f"/bucket/{key}", b"x" * 5000)
    assert run(app, 0.5) == Done()
    assert run(app, 2.5) == Done(expired=3)
    assert run(app, 2.5) == Done()
    assert s3.keys("bucket") == ["b/1"]
    assert s3.get("/bucket?versions").texts("Version/Key") == ["b/1"]


def test_the_sweeper_applies_rules(app: Application, s3: S3) -> None:
    past = "<Expiration><Date>2020-01-01T00:00:00Z</Date></Expiration>"
    configure(s3, f"{ALL}{past}")
    s3.put("/bucket/key", b"x")
    assert sweep(app.services.store, rules=False).expired == 0
    assert sweep(app.services.store).expired == 1
    assert s3.keys("bucket") == []


def test_versioned_buckets_get_markers_then_lose_old_versions_then_the_marker(
    app: Application, s3: S3
) -> None:
    versioned(s3)
    s3.put("/bucket/key", b"1")
    s3.put("/bucket/key", b"2")
    configure(s3, f"{ALL}{EXPIRE}")
    assert run(app, 2.5) == Done(expired=1)
    assert s3.get("/bucket/key").code == "NoSuchKey"
    assert len(s3.get("/bucket?versions").texts("Version/Key")) == 2
    assert run(app, 2.5) == Done()  # the marker hides two versions
    configure(s3, f"{ALL}{NONCURRENT}", f"{ALL}{MARKERS}")
    assert run(app, 2.5).removed == 1  # the second version is superseded by a marker made 2.5 days ahead
    assert run(app, 5.5) == Done(removed=1)
    assert run(app, 5.5) == Done(removed=1)
    listed = s3.get("/bucket?versions")
    assert listed.texts("Version/Key") + listed.texts("DeleteMarker/Key") == []


def test_suspended_buckets_get_a_null_marker(app: Application, s3: S3) -> None:
    versioned(s3)
    kept = s3.put("/bucket/kept", b"1").headers["x-amz-version-id"]
    versioned(s3, "Suspended")
    s3.put("/bucket/gone", b"2")
    configure(s3, f"{ALL}{EXPIRE}")
    assert run(app, 2.5) == Done(expired=2)
    listed = s3.get("/bucket?versions")
    assert listed.texts("DeleteMarker/VersionId") == ["null", "null"]
    assert listed.texts("Version/VersionId") == [kept]


def test_newer_noncurrent_versions_stay(app: Application, s3: S3) -> None:
    versioned(s3)
    for body in (b"1", b"2", b"3", b"4"):
        s3.put("/bucket/key", body)
    keep = (
        "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
        "<NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
    )
    configure(s3, f"{ALL}{keep}")
    assert run(app, 2.5) == Done(removed=1)
    assert run(app, 2.5) == Done()
    assert s3.get("/bucket/key").body == b"4"


def test_tags_decide(app: Application, s3: S3) -> None:
    configure(s3, f"<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>{EXPIRE}")
    s3.put("/bucket/plain", b"x")
    s3.put("/bucket/tagged", b"x", {"x-amz-tagging": "k=v"})
    assert run(app, 2.5) == Done(expired=1)
    assert s3.keys("bucket") == ["plain"]


def test_locked_versions_stay(app: Application, s3: S3) -> None:
    s3.put("/locked", headers={"x-amz-bucket-object-lock-enabled": "true"})
    held = s3.put("/locked/held", b"1", {"x-amz-object-lock-legal-hold": "ON"}).headers["x-amz-version-id"]
    s3.put("/locked/free", b"1")
    for key in ("held", "free"):
        s3.put(f"/locked/{key}", b"2")
    configure(s3, f"{ALL}{NONCURRENT}", bucket="locked")
    assert run(app, 2.5) == Done(removed=1)
    assert s3.get(f"/locked/held?versionId={held}").body == b"1"
    configure(s3, f"{ALL}{EXPIRE}", bucket="locked")
    assert run(app, 2.5) == Done(expired=2)  # a marker harms no version


def test_uploads_are_aborted(app: Application, s3: S3) -> None:
    configure(s3, f"<Prefix>a/</Prefix>{ABORT}")
    s3.put_part("/bucket/a/big", s3.start_upload("/bucket/a/big"), 1, b"x" * 5000)
    s3.start_upload("/bucket/b/big")
    assert run(app, 0.5) == Done()
    assert run(app, 2.5) == Done(aborted=1)
    assert s3.get("/bucket?uploads").texts("Upload/Key") == ["b/big"]


def test_disabled_rules_do_nothing(app: Application, s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    body = f"<LifecycleConfiguration><Rule><Status>Disabled</Status>{ALL}{EXPIRE}</Rule></LifecycleConfiguration>"
    assert s3.put("/bucket?lifecycle", body.encode()).status == 200
    assert run(app, 9) == Done()


def test_the_walk_goes_over_pages(app: Application, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_PAGE", 3)
    monkeypatch.setattr(lifecycle, "_BATCH", 2)
    versioned(s3)
    for key in "abc":
        for body in (b"1", b"2", b"3", b"4"):
            s3.put(f"/bucket/{key}", body)
    s3.delete("/bucket/d")
    configure(s3, f"{ALL}{NONCURRENT}", f"{ALL}{MARKERS}")
    assert run(app, 2.5) == Done(removed=10)
    assert s3.get("/bucket?versions").texts("Version/Key") == ["a", "b", "c"]


def test_objects_of_many_parts_expire_some_at_a_time(
    app: Application, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "PARTS_AT_ONCE", 2)
    for key in "abcde":
        upload_id = s3.start_upload(f"/bucket/{key}")
        s3.complete(f"/bucket/{key}", upload_id, {1: s3.put_part(f"/bucket/{key}", upload_id, 1, b"part")})
    configure(s3, f"{ALL}{EXPIRE}")
    assert run(app, 2.5) == Done(expired=5)
    assert s3.keys("bucket") == []


def test_a_walk_ends_when_told(app: Application, s3: S3) -> None:
    configure(s3, f"{ALL}{EXPIRE}")
    s3.put("/bucket/key", b"x")
    assert run(app, 2.5, go_on=lambda: False) == Done()
    assert s3.keys("bucket") == ["key"]


def test_a_walk_ends_with_its_configuration(
    app: Application, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_BATCH", 1)
    configure(s3, f"{ALL}{EXPIRE}")
    for key in "abc":
        s3.put(f"/bucket/{key}", b"x")
    made = lifecycle.write.commit

    def commit_then_delete_rules(store: Store, work: object, **options: object) -> object:
        result = made(store, work, **options)
        store.catalog.write(lambda tx: tx.delete_bucket_config(tx.bucket("bucket").id, lifecycle.CONFIG))
        return result

    monkeypatch.setattr(lifecycle.write, "commit", commit_then_delete_rules)
    assert run(app, 2.5) == Done(expired=1)
    assert s3.keys("bucket") == ["b", "c"]


def test_what_changed_since_the_page_is_asked_again(
    app: Application, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    versioned(s3)
    first = s3.put("/bucket/key", b"1").headers["x-amz-version-id"]
    second = s3.put("/bucket/key", b"2").headers["x-amz-version-id"]
    configure(s3, f"{ALL}{NONCURRENT}")
    made = lifecycle.write.commit

    def undo_then_commit(store: object, work: object, **options: object) -> object:
        monkeypatch.undo()
        assert s3.delete(f"/bucket/key?versionId={second}").status == 204
        return made(store, work, **options)

    monkeypatch.setattr(lifecycle.write, "commit", undo_then_commit)
    assert run(app, 2.5) == Done()
    assert s3.get("/bucket/key").headers["x-amz-version-id"] == first
