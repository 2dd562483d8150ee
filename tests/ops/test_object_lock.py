"""Object lock: configuration, retention, legal hold, and what may then be deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from client import S3
from forms import CONTENT_TYPE, body, v4_fields

from s3lite.core import write

BYPASS = {"x-amz-bypass-governance-retention": "true"}
ENABLED = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"


def later(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def configuration(retention: str = "", enabled: str = ENABLED) -> bytes:
    rule = f"<Rule><DefaultRetention>{retention}</DefaultRetention></Rule>" if retention else ""
    return f"<ObjectLockConfiguration>{enabled}{rule}</ObjectLockConfiguration>".encode()


def retention(mode: str, days: int) -> bytes:
    date = later(days)
    return f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{date}</RetainUntilDate></Retention>".encode()


def hold(status: str) -> bytes:
    return f"<LegalHold><Status>{status}</Status></LegalHold>".encode()


def retained(mode: str, days: int = 1) -> dict[str, str]:
    return {"x-amz-object-lock-mode": mode, "x-amz-object-lock-retain-until-date": later(days)}


@pytest.fixture
def locking(s3: S3) -> S3:
    """A user with a bucket ``locked``."""
    assert s3.put("/locked", headers={"x-amz-bucket-object-lock-enabled": "true"}).status == 200
    return s3


def put(s3: S3, key: str = "key", headers: dict[str, str] | None = None) -> str:
    """Store an object; its version's path."""
    answer = s3.put(f"/locked/{key}", b"x", headers)
    assert answer.status == 200, answer
    return f"/locked/{key}?versionId={answer.headers['x-amz-version-id']}"


# ---------------------------------------------------------------- configuration


def test_a_bucket_with_lock_is_versioned_for_good(locking: S3) -> None:
    assert locking.get("/locked?versioning").text("Status") == "Enabled"
    body = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    answer = locking.put("/locked?versioning", body)
    assert (answer.status, answer.code) == (409, "InvalidBucketState")
    assert locking.get("/locked?object-lock").text("ObjectLockEnabled") == "Enabled"
    assert locking.get("/locked?object-lock").text("Rule") is None


def test_the_configuration_is_shown_as_it_was_put(locking: S3) -> None:
    assert (
        locking.put("/locked?object-lock", configuration("<Mode>COMPLIANCE</Mode><Years>2</Years>")).status
        == 200
    )
    shown = locking.get("/locked?object-lock")
    assert shown.text("Rule/DefaultRetention/Mode") == "COMPLIANCE"
    assert shown.text("Rule/DefaultRetention/Years") == "2"
    assert locking.put("/locked?object-lock", configuration()).status == 200
    assert locking.get("/locked?object-lock").text("Rule") is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (configuration(enabled=""), "MalformedXML"),
        (configuration(enabled="<ObjectLockEnabled>Disabled</ObjectLockEnabled>"), "MalformedXML"),
        (configuration("<Mode>governance</Mode><Days>1</Days>"), "MalformedXML"),
        (configuration("<Mode>GOVERNANCE</Mode>"), "MalformedXML"),
        (configuration("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"), "MalformedXML"),
        (configuration("<Mode>GOVERNANCE</Mode><Days>x</Days>"), "MalformedXML"),
        (configuration("<Mode>GOVERNANCE</Mode><Days>0</Days>"), "InvalidRetentionPeriod"),
        (configuration("<Mode>GOVERNANCE</Mode><Years>-1</Years>"), "InvalidRetentionPeriod"),
        (configuration("<Mode>GOVERNANCE</Mode><Years>101</Years>"), "InvalidRetentionPeriod"),
        (
            b"<ObjectLockConfiguration>" + ENABLED.encode() + b"<Rule/></ObjectLockConfiguration>",
            "MalformedXML",
        ),
    ],
)
def test_put_object_lock_configuration_refuses(locking: S3, body: bytes, code: str) -> None:
    answer = locking.put("/locked?object-lock", body)
    assert (answer.status, answer.code) == (400, code)


def test_enabling_lock_later_needs_versioning(s3: S3) -> None:
    answer = s3.put("/bucket?object-lock", configuration())
    assert (answer.status, answer.code) == (409, "InvalidBucketState")
    enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    s3.put("/bucket?versioning", enabled)
    assert s3.get("/bucket?object-lock").code == "ObjectLockConfigurationNotFoundError"
    assert s3.put("/bucket?object-lock", configuration()).status == 200
    assert s3.put("/bucket/key?legal-hold", hold("ON")).code == "NoSuchKey"


# ---------------------------------------------------------------- retention


def test_a_retained_version_stays(locking: S3) -> None:
    version = put(locking, headers=retained("COMPLIANCE"))
    assert locking.delete(version).code == "AccessDenied"
    assert locking.delete(version, BYPASS).code == "AccessDenied"
    gone = locking.delete("/locked/key")
    assert (gone.status, gone.headers["x-amz-delete-marker"]) == (204, "true")
    assert locking.get(version).body == b"x"
    assert locking.delete(f"/locked/key?versionId={gone.headers['x-amz-version-id']}").status == 204
    assert put(locking) != version
    assert locking.get(version).status == 200


def test_governance_gives_way_to_the_owner_who_says_so(locking: S3) -> None:
    version = put(locking, headers=retained("GOVERNANCE"))
    assert locking.delete(version).code == "AccessDenied"
    assert locking.delete(version, BYPASS).status == 204
    assert locking.get(version).code == "NoSuchVersion"


def test_bypass_is_not_for_everyone(locking: S3, other: S3) -> None:
    version = put(locking, headers=retained("GOVERNANCE"))
    grant = {"x-amz-acl": "public-read-write"}
    assert locking.put("/locked?acl", headers=grant).status == 200
    assert other.delete(version, BYPASS).code == "AccessDenied"
    assert locking.get(version).status == 200


def test_a_lock_that_comes_first_wins(locking: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    version = put(locking)
    made = write.commit

    def lock_then_commit(store: object, work: object, **options: object) -> object:
        monkeypatch.undo()
        assert locking.put(version.replace("?", "?legal-hold&"), hold("ON")).status == 200
        return made(store, work, **options)

    monkeypatch.setattr(write, "commit", lock_then_commit)
    assert locking.delete(version).code == "AccessDenied"
    assert locking.get(version).body == b"x"


def test_put_object_retention_extends_and_never_shortens(locking: S3) -> None:
    version = put(locking)
    path = version.replace("?", "?retention&")
    assert locking.get(path).code == "NoSuchObjectLockConfiguration"
    for mode, days, code in [
        ("GOVERNANCE", 10, ""),
        ("GOVERNANCE", 5, "AccessDenied"),
        ("COMPLIANCE", 20, "AccessDenied"),
        ("GOVERNANCE", 20, ""),
    ]:
        answer = locking.put(path, retention(mode, days))
        assert (answer.code if code else answer.status) == (code or 200)
    assert locking.put(path, b"<Retention/>").code == "AccessDenied"
    assert locking.put(path, retention("GOVERNANCE", 5), BYPASS).status == 200
    assert locking.put(path, b"<Retention/>", BYPASS).status == 200
    assert locking.get(path).code == "NoSuchObjectLockConfiguration"
    assert locking.put(path, retention("COMPLIANCE", 10)).status == 200
    for mode, days in [("COMPLIANCE", 5), ("GOVERNANCE", 20)]:
        assert locking.put(path, retention(mode, days), BYPASS).code == "AccessDenied"
    assert locking.put(path, b"<Retention/>", BYPASS).code == "AccessDenied"
    assert locking.put(path, retention("COMPLIANCE", 20)).status == 200
    assert locking.get(path).text("Mode") == "COMPLIANCE"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (retention("governance", 1), "MalformedXML"),
        (b"<Retention><Mode>GOVERNANCE</Mode></Retention>", "MalformedXML"),
        (retention("GOVERNANCE", -1), "InvalidArgument"),
        (b"", "MissingRequestBodyError"),
    ],
)
def test_put_object_retention_refuses(locking: S3, body: bytes, code: str) -> None:
    put(locking)
    assert locking.put("/locked/key?retention", body).code == code


def test_what_is_read_can_be_sent_back(locking: S3) -> None:
    put(locking)
    date = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.700Z")
    body = f"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>{date}</RetainUntilDate></Retention>"
    assert locking.put("/locked/key?retention", body.encode()).status == 200
    shown = locking.get("/locked/key?retention").text("RetainUntilDate")
    assert shown is not None
    assert shown > date
    again = body.replace(date, shown)
    assert locking.put("/locked/key?retention", again.encode()).status == 200


def test_default_retention_joins_at_publication(locking: S3) -> None:
    locking.put("/locked?object-lock", configuration("<Mode>GOVERNANCE</Mode><Days>3</Days>"))
    version = put(locking)
    shown = locking.head(version).headers
    assert shown["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert later(2) < shown["x-amz-object-lock-retain-until-date"] < later(4)
    assert "x-amz-object-lock-legal-hold" not in shown
    assert locking.delete(version).code == "AccessDenied"
    own = put(locking, headers=retained("COMPLIANCE", 9))
    assert locking.head(own).headers["x-amz-object-lock-mode"] == "COMPLIANCE"
    held = put(locking, headers={"x-amz-object-lock-legal-hold": "ON"})
    assert locking.head(held).headers["x-amz-object-lock-mode"] == "GOVERNANCE"


# ---------------------------------------------------------------- legal hold


def test_a_legal_hold_keeps_whatever_else_says(locking: S3) -> None:
    version = put(locking, headers=retained("GOVERNANCE"))
    path = version.replace("?", "?legal-hold&")
    assert locking.get(path).code == "NoSuchObjectLockConfiguration"
    assert locking.put(path, hold("ON")).status == 200
    assert locking.get(path).text("Status") == "ON"
    assert locking.delete(version, BYPASS).code == "AccessDenied"
    assert locking.put(path, hold("OFF")).status == 200
    assert locking.head(version).headers["x-amz-object-lock-legal-hold"] == "OFF"
    assert locking.head(version).headers["x-amz-object-lock-mode"] == "GOVERNANCE"
    assert locking.delete(version, BYPASS).status == 204


def test_put_object_legal_hold_refuses(locking: S3) -> None:
    put(locking)
    assert locking.put("/locked/key?legal-hold", hold("on")).code == "MalformedXML"
    locking.delete("/locked/key")
    assert locking.put("/locked/key?legal-hold", hold("ON")).code == "NoSuchKey"


def test_a_delete_marker_cannot_be_locked(locking: S3) -> None:
    marker = locking.delete("/locked/key").headers["x-amz-version-id"]
    answer = locking.put(f"/locked/key?legal-hold&versionId={marker}", hold("ON"))
    assert (answer.status, answer.code) == (405, "MethodNotAllowed")


@pytest.mark.parametrize("word", ["retention", "legal-hold"])
def test_a_bucket_without_lock_has_neither(s3: S3, word: str) -> None:
    s3.put("/bucket/key", b"x")
    body = retention("GOVERNANCE", 1) if word == "retention" else hold("ON")
    for answer in (s3.get(f"/bucket/key?{word}"), s3.put(f"/bucket/key?{word}", body)):
        assert (answer.status, answer.code) == (400, "InvalidRequest")


def test_locks_are_for_the_bucket_owner(locking: S3, other: S3) -> None:
    put(locking)
    locking.put("/locked?acl", headers={"x-amz-acl": "public-read-write"})
    assert other.get("/locked/key?retention").code == "AccessDenied"
    assert other.put("/locked/key?legal-hold", hold("ON")).code == "AccessDenied"
    assert other.put("/locked/mine", b"x", retained("COMPLIANCE")).code == "AccessDenied"
    assert other.put("/locked/mine", b"x").status == 200


# ---------------------------------------------------------------- every way to upload and delete


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-object-lock-mode": "GOVERNANCE"},
        {"x-amz-object-lock-retain-until-date": later(1)},
        retained("governance"),
        retained("GOVERNANCE", -1),
        {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": "tomorrow"},
        {"x-amz-object-lock-legal-hold": "yes"},
    ],
)
def test_lock_headers_are_checked(locking: S3, headers: dict[str, str]) -> None:
    assert locking.put("/locked/key", b"x", headers).code == "InvalidArgument"
    assert locking.get("/locked/key").code == "NoSuchKey"


def test_lock_headers_need_a_bucket_with_lock(s3: S3) -> None:
    assert s3.put("/bucket/key", b"x", retained("GOVERNANCE")).code == "InvalidRequest"
    assert s3.post("/bucket/key?uploads", headers=retained("GOVERNANCE")).code == "InvalidRequest"


def test_a_copy_has_the_lock_it_asks_for(locking: S3) -> None:
    put(locking, headers=retained("GOVERNANCE"))
    source = {"x-amz-copy-source": "locked/key"}
    locking.put("/locked/plain", headers=source)
    assert "x-amz-object-lock-mode" not in locking.head("/locked/plain").headers
    locking.put("/locked/copy", headers=source | retained("COMPLIANCE"))
    assert locking.head("/locked/copy").headers["x-amz-object-lock-mode"] == "COMPLIANCE"


def test_a_multipart_upload_keeps_its_lock(locking: S3) -> None:
    upload_id = locking.start_upload("/locked/big", retained("GOVERNANCE"))
    etag = locking.put_part("/locked/big", upload_id, 1, b"x")
    version_id = locking.complete("/locked/big", upload_id, {1: etag}).headers["x-amz-version-id"]
    assert locking.delete(f"/locked/big?versionId={version_id}").code == "AccessDenied"


def test_a_form_can_lock(locking: S3) -> None:
    fields = retained("GOVERNANCE") | {"x-amz-object-lock-legal-hold": "ON"}
    conditions = [{name: value} for name, value in {"bucket": "locked", "key": "form", **fields}.items()]
    signed = v4_fields("alice-key", "alice-secret", conditions)
    sent = body(list({"key": "form", **fields, **signed}.items()))
    assert locking.anonymous().post("/locked", sent, {"Content-Type": CONTENT_TYPE}).status == 204
    shown = locking.head("/locked/form").headers
    assert (shown["x-amz-object-lock-mode"], shown["x-amz-object-lock-legal-hold"]) == ("GOVERNANCE", "ON")


def test_delete_objects_decides_for_each_key(locking: S3) -> None:
    locked, free = put(locking, "a", retained("GOVERNANCE")), put(locking, "b")
    rows = "".join(
        f"<Object><Key>{path[8]}</Key><VersionId>{path.partition('=')[2]}</VersionId></Object>"
        for path in (locked, free)
    )
    body = f"<Delete>{rows}</Delete>".encode()
    answer = locking.post("/locked?delete", body)
    assert (answer.texts("Error/Key"), answer.texts("Error/Code")) == (["a"], ["AccessDenied"])
    assert answer.texts("Deleted/Key") == ["b"]
    assert locking.post("/locked?delete", body, BYPASS).texts("Deleted/Key") == ["a", "b"]


def test_readers_do_not_see_the_lock(locking: S3, other: S3) -> None:
    put(locking, headers=retained("GOVERNANCE") | {"x-amz-acl": "public-read"})
    assert "x-amz-object-lock-mode" in locking.get("/locked/key").headers
    answer = other.get("/locked/key")
    assert answer.body == b"x"
    assert "x-amz-object-lock-mode" not in answer.headers
