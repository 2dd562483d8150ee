"""The whole server against a simple model: what is done in whatever order, both end with the same.

``MACHINE_EXAMPLES=2000 make test ARGS=tests/machine`` runs for long; the usual number takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from urllib.parse import quote, unquote

import pytest
from client import S3, Answer
from conftest import ROOT_KEY, ROOT_SECRET
from hypothesis import HealthCheck, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from machine.model import DAY_MS, Bucket, Rule, Version

from s3lite.app import Application, create_app
from s3lite.core.check import Check
from s3lite.core.sweep import sweep
from s3lite.settings import HttpSettings, Settings
from s3lite.testing.clock import StillClock
from s3lite.times import iso8601

DAY_S = DAY_MS / 1000
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "30"))
BUDGET = hypothesis_settings(
    max_examples=EXAMPLES, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)

KEYS = st.sampled_from(["a", "a/", "a/b", "a/c/d", "b", "é/x", "b\tc"])
BODIES = st.sampled_from([b"", b"x", b"y" * 100, b"z" * 5000])  # the last one is a file of its own
TAGS = st.sampled_from([{}, {"k": "v"}, {"k": "w"}])
DAYS = st.sampled_from([1, 2, 5])
RULES = st.builds(
    Rule,
    prefix=st.sampled_from(["", "a", "a/", "b"]),
    tag=st.sampled_from([None, None, ("k", "v")]),
    days=st.one_of(st.none(), DAYS),
    noncurrent_days=st.one_of(st.none(), DAYS),
    kept=st.sampled_from([0, 1, 2]),
    markers=st.booleans(),
    abort_days=st.one_of(st.none(), DAYS),
)
WHICH = st.integers(0, 99)


def is_allowed(each: Rule) -> bool:
    """Whether S3 takes the rule: something follows from it, and what is about markers or uploads has no tag."""
    asks = each.days or each.noncurrent_days or each.markers or each.abort_days
    return (
        bool(asks)
        and not (each.markers and each.days)
        and not (each.tag and (each.markers or each.abort_days))
    )


class StoreMachine(RuleBasedStateMachine):
    """Two buckets, one of which may become versioned and one with object lock, under a clock that only this moves."""

    app: Application
    clock: StillClock
    numbers = count()

    @initialize()
    def start(self) -> None:
        self.s3 = S3(self.app, ROOT_KEY, ROOT_SECRET)
        number = next(self.numbers)
        self.clock.advance(seconds=DAY_S - self.clock.time() % DAY_S + 3600)  # the same hour in every run
        self.buckets = [
            Bucket(f"plain{number}"),
            Bucket(f"locked{number}", has_lock=True, versioning="Enabled"),
        ]
        for bucket in self.buckets:
            headers = {"x-amz-bucket-object-lock-enabled": "true"} if bucket.has_lock else {}
            assert self.s3.put(f"/{bucket.name}", headers=headers).status == 200

    def teardown(self) -> None:
        """Nothing of this run is looked at by the sweeps of the next one."""
        for bucket in getattr(self, "buckets", ()):
            self.s3.delete(f"/{bucket.name}?lifecycle")
            for upload_id, (key, _) in bucket.uploads.items():
                self.s3.delete(f"/{bucket.name}/{key}?uploadId={upload_id}")

    # ------------------------------------------------------------ helpers

    @property
    def now_ms(self) -> int:
        return self.clock.time_ms()

    def pick(self, which: int) -> Bucket:
        return self.buckets[which % 2]

    def any_version(self, bucket: Bucket, which: int) -> tuple[str, Version] | None:
        found = [(key, each) for key in sorted(bucket.keys) for each in bucket.keys[key]]
        return found[which % len(found)] if found else None

    def any_object(self, bucket: Bucket, which: int) -> tuple[str, Version] | None:
        found = [
            (key, each) for key in sorted(bucket.keys) for each in bucket.keys[key] if each.body is not None
        ]
        return found[which % len(found)] if found else None

    def published(self, bucket: Bucket, key: str, answer: Answer, version: Version) -> None:
        assert answer.status == 200, answer
        version.version_id = answer.headers.get("x-amz-version-id", "null")
        assert (version.version_id == "null") == (bucket.versioning != "Enabled")
        bucket.add(key, version)

    # ------------------------------------------------------------ objects

    @rule(which=WHICH, key=KEYS, body=BODIES, tags=TAGS)
    def put(self, which: int, key: str, body: bytes, tags: dict[str, str]) -> None:
        bucket = self.pick(which)
        header = "&".join(f"{name}={value}" for name, value in tags.items())
        answer = self.s3.put(f"/{bucket.name}/{key}", body, {"x-amz-tagging": header})
        self.published(bucket, key, answer, Version("", body, self.now_ms, tags))

    @rule(which=WHICH, key=KEYS, body=BODIES, wanted=st.sampled_from(["absent", "right", "wrong"]))
    def put_if(self, which: int, key: str, body: bytes, wanted: str) -> None:
        bucket = self.pick(which)
        current = bucket.current(key)
        etag = self.s3.head(f"/{bucket.name}/{key}").headers["ETag"] if current else '"none"'
        headers = {
            "absent": {"If-None-Match": "*"},
            "right": {"If-Match": etag},
            "wrong": {"If-Match": '"0123"'},
        }[wanted]
        answer = self.s3.put(f"/{bucket.name}/{key}", body, headers)
        if wanted == "absent" and current is not None:
            assert answer.code == "PreconditionFailed"
        elif wanted != "absent" and (current is None or wanted == "wrong"):
            assert answer.code == ("PreconditionFailed" if current else "NoSuchKey")
        else:
            self.published(bucket, key, answer, Version("", body, self.now_ms))

    @rule(
        which=WHICH,
        key=KEYS,
        mode=st.sampled_from(["GOVERNANCE", "COMPLIANCE"]),
        days=DAYS,
        hold=st.booleans(),
    )
    def put_locked(self, which: int, key: str, mode: str, days: int, hold: bool) -> None:
        bucket = self.pick(which)
        until_ms = (self.now_ms // 1000 + days * 86_400) * 1000
        headers = {
            "x-amz-object-lock-mode": mode,
            "x-amz-object-lock-retain-until-date": iso8601(until_ms),
            "x-amz-object-lock-legal-hold": "ON" if hold else "OFF",
        }
        answer = self.s3.put(f"/{bucket.name}/{key}", b"locked", headers)
        if not bucket.has_lock:
            assert answer.status == 400, answer
            return
        self.published(bucket, key, answer, Version("", b"locked", self.now_ms, {}, mode, until_ms, hold))

    @rule(which=WHICH, source=WHICH, key=KEYS)
    def copy(self, which: int, source: int, key: str) -> None:
        bucket, origin = self.pick(which), self.pick(source)
        found = self.any_object(origin, source)
        if found is None:
            return
        name, version = found
        text = f"{origin.name}/{quoted(name)}?versionId={version.version_id}"
        answer = self.s3.put(f"/{bucket.name}/{key}", headers={"x-amz-copy-source": text})
        self.published(bucket, key, answer, Version("", version.body, self.now_ms, dict(version.tags)))

    @rule(which=WHICH, key=KEYS)
    def delete(self, which: int, key: str) -> None:
        bucket = self.pick(which)
        answer = self.s3.delete(f"/{bucket.name}/{key}")
        assert answer.status == 204
        assert (answer.headers.get("x-amz-delete-marker") == "true") == bool(bucket.versioning)
        bucket.delete(key, answer.headers.get("x-amz-version-id", ""), self.now_ms)

    @rule(which=WHICH, number=WHICH, bypass=st.booleans())
    def delete_version(self, which: int, number: int, bypass: bool) -> None:
        bucket = self.pick(which)
        found = self.any_version(bucket, number)
        if found is None:
            return
        key, version = found
        headers = {"x-amz-bypass-governance-retention": "true"} if bypass and bucket.has_lock else {}
        answer = self.s3.delete(f"/{bucket.name}/{key}?versionId={version.version_id}", headers)
        if version.is_locked(self.now_ms, bypass=bool(headers)):
            assert answer.code == "AccessDenied"
            return
        assert answer.status == 204
        bucket.drop(key, version)

    @rule(which=WHICH, keys=st.lists(KEYS, min_size=1, max_size=3, unique=True))
    def delete_many(self, which: int, keys: list[str]) -> None:
        bucket = self.pick(which)
        rows = "".join(f"<Object><Key>{key.replace(chr(9), '&#9;')}</Key></Object>" for key in keys)
        answer = self.s3.post(f"/{bucket.name}?delete", f"<Delete>{rows}</Delete>".encode())
        ids = dict(
            zip(
                answer.texts("Deleted/Key"),
                answer.texts("Deleted/DeleteMarkerVersionId") or keys,
                strict=True,
            )
        )
        for key in keys:
            bucket.delete(key, ids[key], self.now_ms)

    @rule(which=WHICH, number=WHICH, tags=TAGS)
    def tag(self, which: int, number: int, tags: dict[str, str]) -> None:
        bucket = self.pick(which)
        found = self.any_object(bucket, number)
        if found is None:
            return
        key, version = found
        rows = "".join(f"<Tag><Key>{name}</Key><Value>{value}</Value></Tag>" for name, value in tags.items())
        document = f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()
        assert (
            self.s3.put(f"/{bucket.name}/{key}?tagging&versionId={version.version_id}", document).status
            == 200
        )
        version.tags = tags

    # ------------------------------------------------------------ multipart

    @rule(which=WHICH, key=KEYS)
    def begin_upload(self, which: int, key: str) -> None:
        bucket = self.pick(which)
        upload_id = self.s3.start_upload(f"/{bucket.name}/{key}")
        bucket.uploads[upload_id] = (key, self.now_ms)

    @rule(which=WHICH, number=WHICH, is_abort=st.booleans(), bodies=st.lists(BODIES, max_size=2))
    def end_upload(self, which: int, number: int, is_abort: bool, bodies: list[bytes]) -> None:
        bucket = self.pick(which)
        if not bucket.uploads:
            return
        upload_id = sorted(bucket.uploads)[number % len(bucket.uploads)]
        key, _ = bucket.uploads.pop(upload_id)
        path = f"/{bucket.name}/{key}"
        if is_abort:
            assert self.s3.delete(f"{path}?uploadId={upload_id}").status == 204
            return
        pieces = [*[b"p" * 5000 for _ in bodies], *bodies[:1], b"end"][: len(bodies) + 1]
        pieces = [piece if len(piece) >= 1024 or last else b"p" * 5000 for piece, last in last_of(pieces)]
        etags = {n: self.s3.put_part(path, upload_id, n, piece) for n, piece in enumerate(pieces, 1)}
        answer = self.s3.complete(path, upload_id, etags)
        self.published(bucket, key, answer, Version("", b"".join(pieces), self.now_ms))

    # ------------------------------------------------------------ locks

    @rule(
        number=WHICH,
        mode=st.sampled_from(["GOVERNANCE", "COMPLIANCE", ""]),
        days=DAYS,
        bypass=st.booleans(),
    )
    def retain(self, number: int, mode: str, days: int, bypass: bool) -> None:
        bucket = self.buckets[1]
        found = self.any_object(bucket, number)
        if found is None:
            return
        key, version = found
        until_ms = (self.now_ms // 1000 + days * 86_400) * 1000 if mode else 0
        fields = f"<Mode>{mode}</Mode><RetainUntilDate>{iso8601(until_ms)}</RetainUntilDate>" if mode else ""
        headers = {"x-amz-bypass-governance-retention": "true"} if bypass else {}
        path = f"/{bucket.name}/{key}?retention&versionId={version.version_id}"
        answer = self.s3.put(path, f"<Retention>{fields}</Retention>".encode(), headers)
        extends = mode == version.mode and until_ms >= version.until_ms
        may = not version.is_retained(self.now_ms) or extends or (bypass and version.mode == "GOVERNANCE")
        assert answer.status == (200 if may else 403), answer
        if may:
            version.mode, version.until_ms = mode, until_ms

    @rule(number=WHICH, hold=st.booleans())
    def hold(self, number: int, hold: bool) -> None:
        bucket = self.buckets[1]
        found = self.any_object(bucket, number)
        if found is None:
            return
        key, version = found
        document = f"<LegalHold><Status>{'ON' if hold else 'OFF'}</Status></LegalHold>".encode()
        path = f"/{bucket.name}/{key}?legal-hold&versionId={version.version_id}"
        assert self.s3.put(path, document).status == 200
        version.hold = hold

    # ------------------------------------------------------------ buckets and time

    @rule(status=st.sampled_from(["Enabled", "Suspended"]))
    def set_versioning(self, status: str) -> None:
        for bucket in self.buckets:
            document = (
                f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>".encode()
            )
            answer = self.s3.put(f"/{bucket.name}?versioning", document)
            if bucket.has_lock and status == "Suspended":
                assert answer.code == "InvalidBucketState"
            else:
                assert answer.status == 200
                bucket.versioning = status

    @rule(which=WHICH, rules=st.lists(RULES.filter(is_allowed), min_size=1, max_size=2))
    def set_lifecycle(self, which: int, rules: list[Rule]) -> None:
        bucket = self.pick(which)
        document = "".join(each.xml() for each in rules)
        answer = self.s3.put(
            f"/{bucket.name}?lifecycle",
            f"<LifecycleConfiguration>{document}</LifecycleConfiguration>".encode(),
        )
        assert answer.status == 200, answer
        bucket.rules = tuple(rules)

    @precondition(lambda self: any(bucket.rules for bucket in self.buckets))
    @rule(hours=st.sampled_from([0, 1, 30, 60, 150]))
    def sweep(self, hours: int) -> None:
        self.clock.advance(hours=hours)
        sweep(self.app.services.store)
        for bucket in self.buckets:
            marked = bucket.expire(self.now_ms)
            for key in marked if bucket.versioning == "Enabled" else ():
                bucket.keys[key][0].version_id = self.latest_id(bucket, key)
        note(f"now {self.now_ms / DAY_MS:.3f}")

    def latest_id(self, bucket: Bucket, key: str) -> str:
        shown = self.s3.get(f"/{bucket.name}?versions&encoding-type=url&prefix={quote(key, safe='')}")
        return next(
            row.findtext("VersionId")
            for row in shown.xml.findall("DeleteMarker")
            if row.findtext("Key") == quoted(key) and row.findtext("IsLatest") == "true"
        )

    @rule(which=WHICH)
    def delete_bucket(self, which: int) -> None:
        bucket = self.pick(which)
        answer = self.s3.delete(f"/{bucket.name}")
        if bucket.keys:
            assert answer.code == "BucketNotEmpty"
            return
        assert answer.status == 204
        self.buckets[which % 2] = Bucket(
            bucket.name, bucket.has_lock, versioning="Enabled" if bucket.has_lock else ""
        )
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if bucket.has_lock else {}
        assert self.s3.put(f"/{bucket.name}", headers=headers).status == 200

    # ------------------------------------------------------------ what is shown

    @rule(which=WHICH, number=WHICH)
    def read_version(self, which: int, number: int) -> None:
        bucket = self.pick(which)
        found = self.any_version(bucket, number)
        if found is None:
            return
        key, version = found
        answer = self.s3.get(f"/{bucket.name}/{key}?versionId={version.version_id}")
        if version.body is None:
            assert (answer.status, answer.headers["x-amz-delete-marker"]) == (405, "true")
            return
        assert answer.body == version.body
        assert int(answer.headers.get("x-amz-tagging-count", "0")) == len(version.tags)
        assert answer.headers.get("x-amz-object-lock-mode", "") == version.mode

    @rule(
        which=WHICH,
        prefix=st.sampled_from(["", "a", "a/", "b", "é"]),
        delimiter=st.sampled_from(["", "/"]),
        page=st.sampled_from([1, 2, 1000]),
    )
    def list_objects(self, which: int, prefix: str, delimiter: str, page: int) -> None:
        bucket = self.pick(which)
        keys, folders, token = list[str](), list[str](), ""
        while True:
            query = f"list-type=2&encoding-type=url&prefix={quote(prefix, safe='')}&delimiter={quote(delimiter, safe='')}&max-keys={page}"
            answer = self.s3.get(
                f"/{bucket.name}?{query}" + (f"&continuation-token={token}" if token else "")
            )
            keys += answer.texts("Contents/Key")
            folders += answer.texts("CommonPrefixes/Prefix")
            token = answer.text("NextContinuationToken") or ""
            if not token:
                break
        live = [
            key
            for key in sorted(bucket.keys, key=str.encode)
            if bucket.current(key) and key.startswith(prefix)
        ]
        rest = {key: key[len(prefix) :].partition("/") for key in live}
        in_folders = {
            key: prefix + name + "/" for key, (name, slash, _) in rest.items() if delimiter and slash
        }
        assert keys == [quoted(key) for key in live if key not in in_folders]
        assert folders == [quoted(name) for name in dict.fromkeys(in_folders.values())]

    @invariant()
    def versions_are_as_they_should_be(self) -> None:
        for bucket in getattr(self, "buckets", ()):
            assert list(self.shown(bucket)) == [(quoted(key), *rest) for key, *rest in bucket.listed()], (
                bucket.name
            )

    def shown(self, bucket: Bucket) -> Iterator[tuple[str, str, bool, bool, int]]:
        """Every version that the server lists, three to a page."""
        query = ""
        while True:
            answer = self.s3.get(f"/{bucket.name}?versions&encoding-type=url&max-keys=3{query}")
            for row in answer.xml:
                if row.tag in ("Version", "DeleteMarker"):
                    yield (
                        row.findtext("Key"),
                        row.findtext("VersionId"),
                        row.tag == "DeleteMarker",
                        row.findtext("IsLatest") == "true",
                        int(row.findtext("Size") or 0),
                    )
            if answer.text("IsTruncated") != "true":
                return
            marker = quote(unquote(answer.text("NextKeyMarker") or ""), safe="")
            query = f"&key-marker={marker}&version-id-marker={answer.text('NextVersionIdMarker')}"

    @invariant()
    def uploads_are_as_they_should_be(self) -> None:
        for bucket in getattr(self, "buckets", ()):
            shown = self.s3.get(f"/{bucket.name}?uploads").texts("Upload/UploadId")
            assert sorted(shown) == sorted(bucket.uploads)


def quoted(key: str) -> str:
    """As listings and copy sources have it."""
    return quote(key, safe="/")


def last_of(pieces: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    for number, piece in enumerate(pieces, 1):
        yield piece, number == len(pieces)


@pytest.mark.timeout(0 if EXAMPLES > 100 else 300)
def test_the_server_does_what_the_model_does(settings: Settings) -> None:
    """No difference in thousands of steps, and afterwards index and bytes agree."""
    still = StillClock(1_800_000_000.0)
    changed = replace(
        settings,
        http=HttpSettings(access_log=False, clock_skew_s=1e12),
        limits=replace(settings.limits, buckets_per_account=0),
        sweep=replace(settings.sweep, upload_expiry_s=0),  # rules alone end uploads here
    )
    app = create_app(changed, clock=still)

    class Machine(StoreMachine):
        pass

    Machine.app, Machine.clock = app, still
    run_machine(Machine, settings=BUDGET)
    assert list(Check(app.services.store, deep=True).faults()) == []
    app.close()
