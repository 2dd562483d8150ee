"""AppendObject: who may append where, what an object is after it, and what others make of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from client import S3, Answer
from conftest import ROOT_KEY, ROOT_SECRET
from oss_signing import Oss

from s3lite.app import Application, create_app
from s3lite.callback.listen import Receiver
from s3lite.core import lifecycle, read, write
from s3lite.core.check import Check
from s3lite.core.rekey import rekey
from s3lite.core.sweep import sweep
from s3lite.settings import Settings
from s3lite.times import Clock


@pytest.fixture
def oss(s3: S3) -> Oss:
    """Alice, who owns ``bucket``, speaking OSS."""
    return Oss(s3.anonymous(), "alice-key", "alice-secret")


def append(oss: Oss, position: object, body: bytes, key: str = "log", **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent["Content-Length"] = str(len(body))
    return oss.v1("POST", f"/bucket/{key}?append&position={position}", body, sent)


def test_appends_make_one_object(oss: Oss, s3: S3) -> None:
    first = append(oss, 0, b"12345", x_oss_meta_color="red", content_type="text/plain")
    assert (first.status, first.headers["x-oss-next-append-position"]) == (200, "5")
    second = append(oss, 5, b"6789", x_oss_meta_color="ignored")
    assert second.headers["x-oss-next-append-position"] == "9"
    assert second.headers["x-oss-hash-crc64ecma"] == "11051210869376104954"  # of 123456789
    assert second.headers["ETag"] != first.headers["ETag"]
    head = oss.v1("HEAD", "/bucket/log")
    assert head.headers["x-oss-object-type"] == "Appendable"
    assert head.headers["x-oss-next-append-position"] == "9"
    assert head.headers["x-oss-hash-crc64ecma"] == "11051210869376104954"
    assert head.headers["x-oss-meta-color"] == "red"
    assert head.headers["Content-Type"] == "text/plain"
    assert head.headers["ETag"] == second.headers["ETag"]
    got = s3.get("/bucket/log")
    assert (got.body, got.headers["Content-Type"]) == (b"123456789", "text/plain")
    assert s3.get("/bucket/log", range="bytes=3-6").body == b"4567"
    assert not [name for name in got.headers if "append" in name.lower() or "crc64ecma" in name.lower()]
    assert oss.v1("GET", "/bucket").text("Contents/Type") == "Appendable"


@pytest.mark.parametrize("position", ["0", "4", "6"])
def test_a_wrong_position_is_told_the_right_one(oss: Oss, position: str) -> None:
    append(oss, 0, b"12345")
    answer = append(oss, position, b"x")
    assert (answer.status, answer.code) == (409, "PositionNotEqualToLength")
    assert answer.headers["x-oss-next-append-position"] == "5"
    assert oss.v1("GET", "/bucket/log").body == b"12345"


def test_the_first_append_is_at_nothing(oss: Oss) -> None:
    answer = append(oss, 7, b"x")
    assert (answer.code, answer.headers["x-oss-next-append-position"]) == ("PositionNotEqualToLength", "0")
    assert oss.v1("HEAD", "/bucket/log").status == 404


@pytest.mark.parametrize("query", ["", "&position=-1", "&position=1.5", "&position=" + "9" * 19])
def test_a_position_that_is_none_is_refused(oss: Oss, query: str) -> None:
    answer = oss.v1("POST", f"/bucket/log?append{query}", b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_an_object_of_another_kind_is_not_appendable(oss: Oss) -> None:
    oss.v1("PUT", "/bucket/log", b"12345")
    answer = append(oss, 5, b"x")
    assert (answer.status, answer.code) == (409, "ObjectNotAppendable")
    assert oss.v1("GET", "/bucket/log").body == b"12345"


def test_an_overwritten_object_is_no_longer_appendable(oss: Oss) -> None:
    append(oss, 0, b"12345")
    oss.v1("PUT", "/bucket/log", b"other")
    assert append(oss, 5, b"x").code == "ObjectNotAppendable"
    oss.v1("DELETE", "/bucket/log")
    assert append(oss, 0, b"again").status == 200
    assert oss.v1("GET", "/bucket/log").body == b"again"


def test_an_append_of_nothing_makes_an_empty_object(oss: Oss, app: Application) -> None:
    answer = append(oss, 0, b"")
    assert answer.headers["x-oss-next-append-position"] == "0"
    assert answer.headers["x-oss-hash-crc64ecma"] == "0"
    assert list(Check(app.services.store, deep=True).faults()) == []
    assert append(oss, 0, b"data").headers["x-oss-next-append-position"] == "4"
    assert append(oss, 4, b"").headers["x-oss-next-append-position"] == "4"
    assert oss.v1("GET", "/bucket/log").body == b"data"


def test_a_copy_has_the_bytes_and_is_a_usual_object(oss: Oss, s3: S3) -> None:
    append(oss, 0, b"one")
    append(oss, 3, b"two")
    copied = s3.put("/bucket/copy", b"", headers={"x-amz-copy-source": "/bucket/log"})
    parts = b"".join(hashlib.md5(piece).digest() for piece in (b"one", b"two"))
    assert copied.text("ETag") == f'"{hashlib.md5(parts).hexdigest()}-2"'
    append(oss, 6, b"three")
    assert s3.get("/bucket/copy").body == b"onetwo"
    assert append(oss, 6, b"x", key="copy").code == "ObjectNotAppendable"
    head = oss.v1("HEAD", "/bucket/copy")
    assert head.headers["x-oss-object-type"] == "Multipart"
    assert (
        head.headers["x-oss-hash-crc64ecma"]
        == oss.v1("PUT", "/bucket/put", b"onetwo").headers["x-oss-hash-crc64ecma"]
    )


def test_a_versioned_object_grows_in_its_version(oss: Oss, s3: S3) -> None:
    s3.put(
        "/bucket?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    first = append(oss, 0, b"one")
    second = append(oss, 3, b"two")
    assert first.headers["x-oss-version-id"] == second.headers["x-oss-version-id"]
    s3.delete("/bucket/log")
    assert (
        append(oss, 6, b"x").code == "PositionNotEqualToLength"
    )  # behind the delete marker there is nothing
    third = append(oss, 0, b"new")
    assert third.headers["x-oss-version-id"] != first.headers["x-oss-version-id"]
    assert s3.get("/bucket/log").body == b"new"
    assert s3.get(f"/bucket/log?versionId={first.headers['x-oss-version-id']}").body == b"onetwo"


def test_who_may_not_put_may_not_append(oss: Oss, other: S3) -> None:
    append(oss, 0, b"one")
    bob = Oss(other.anonymous(), "bob-key", "bob-secret")
    assert append(bob, 3, b"x").code == "AccessDenied"


def test_a_legal_hold_keeps_an_object_as_it_is(s3: S3) -> None:
    s3.put("/locked", b"", headers={"x-amz-bucket-object-lock-enabled": "true"})
    oss = Oss(s3.anonymous(), "alice-key", "alice-secret")
    assert oss.v1("POST", "/locked/log?append&position=0", b"one").status == 200
    s3.put("/locked/log?legal-hold", b"<LegalHold><Status>ON</Status></LegalHold>")
    assert oss.v1("POST", "/locked/log?append&position=3", b"x").code == "AccessDenied"
    s3.put("/locked/log?legal-hold", b"<LegalHold><Status>OFF</Status></LegalHold>")
    assert oss.v1("POST", "/locked/log?append&position=3", b"two").status == 200


def test_a_callback_of_its_own_is_refused(oss: Oss) -> None:
    assert append(oss, 0, b"x", x_oss_callback="e30=").code == "InvalidArgument"


# ---------------------------------------------------------------- with the rest of the server


def test_the_index_and_the_bytes_agree(oss: Oss, s3: S3, app: Application) -> None:
    for number in range(20):
        size = 5000 if number % 2 else 10  # in a file, in the index
        position = int(oss.v1("HEAD", "/bucket/log").headers.get("x-oss-next-append-position", 0))
        assert append(oss, position, bytes([number]) * size).status == 200
    s3.put("/bucket/copy", b"", headers={"x-amz-copy-source": "/bucket/log"})
    assert list(Check(app.services.store, deep=True).faults()) == []
    s3.delete("/bucket/log")
    s3.delete("/bucket/copy")
    sweep(app.services.store)
    assert list(Check(app.services.store, deep=True).faults()) == []
    with app.services.store.catalog.read() as tx:
        assert tx.counts()["blobs"] == 0


@pytest.mark.parametrize("kind", ["AES256", "KMS"])
def test_an_encrypted_object_grows_sealed(oss: Oss, s3: S3, app: Application, kind: str) -> None:
    app.services.store.keyring.add("aws/s3")
    first = append(oss, 0, b"1234", x_oss_server_side_encryption=kind)
    assert first.headers["x-oss-server-side-encryption"] in ("AES256", "aws:kms")
    append(oss, 4, b"x" * 5000)
    append(oss, 5004, b"56789")
    assert s3.get("/bucket/log").body == b"1234" + b"x" * 5000 + b"56789"
    assert s3.get("/bucket/log", range="bytes=2-5").body == b"34xx"
    assert list(Check(app.services.store, deep=True).faults()) == []


def test_a_quota_counts_what_is_added(oss: Oss, app: Application) -> None:
    app.services.store.catalog.write(
        lambda tx: tx.put_bucket_quota(tx.bucket("bucket"), max_bytes=10, max_objects=1)
    )
    append(oss, 0, b"123456")
    assert append(oss, 6, b"12345").code == "QuotaExceeded"
    assert append(oss, 6, b"1234").status == 200
    with app.services.store.catalog.read() as tx:
        (counted,) = tx.quotas()
    assert (counted.bytes, counted.objects) == (10, 1)


def test_a_renamed_object_goes_on(oss: Oss, s3: S3) -> None:
    append(oss, 0, b"one")
    s3.request("PUT", "/bucket/later?renameObject", headers={"x-amz-rename-source": "/bucket/log"})
    assert append(oss, 3, b"two", key="later").status == 200
    assert s3.get("/bucket/later").body == b"onetwo"


def test_limits_at_their_edge(settings: Settings) -> None:
    limits = replace(settings.limits, appends=3, put_bytes=5, object_bytes=12)
    app = create_app(replace(settings, limits=limits))
    S3(app, ROOT_KEY, ROOT_SECRET).put("/bucket")
    oss = Oss(S3(app, None), ROOT_KEY, ROOT_SECRET)
    assert append(oss, 0, b"123456").code == "EntityTooLarge"
    assert append(oss, 0, b"12345").status == append(oss, 5, b"12345").status == 200
    assert append(oss, 10, b"123").code == "EntityTooLarge"
    assert append(oss, 10, b"12").status == 200
    assert append(oss, 12, b"").code == "InvalidRequest"
    assert oss.v1("GET", "/bucket/log").body == b"123451234512"
    app.close()


def _configure(s3: S3, receiver: Receiver, **more: Any) -> None:
    callback = {"callbackUrl": receiver.url(), "callbackBody": "${operation} ${object} ${size} ${crc64}"}
    document = {"policies": [{"name": "p", "callback": callback | more, "applies": "always"}]}
    assert s3.put("/bucket?callback", json.dumps(document).encode()).status == 204


def test_a_policys_callback_tells_of_each_append(oss: Oss, s3: S3, receiver: Receiver) -> None:
    _configure(s3, receiver)
    crcs = [append(oss, at, body).headers["x-oss-hash-crc64ecma"] for at, body in ((0, b"one"), (3, b"two"))]
    told = [f"AppendObject log 3 {crcs[0]}", f"AppendObject log 6 {crcs[1]}"]
    assert [got.body.decode() for got in receiver.requests] == told


def test_a_gate_is_not_gone_around(oss: Oss, s3: S3, receiver: Receiver) -> None:
    _configure(s3, receiver, callbackMode="gate")
    assert append(oss, 0, b"one").code == "AccessDenied"
    assert not receiver.requests


def test_an_append_while_another_waits_is_told_so(
    oss: Oss, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were admitted, then both bodies are stored; the second finds the object longer."""
    append(oss, 0, b"one")
    store = app.services.store
    create, other = store.blobs.create, []

    def after_another(**asked: Any) -> Any:
        if not other:
            other.append(None)
            other.append(append(oss, 3, b"two"))
        return create(**asked)

    monkeypatch.setattr(store.blobs, "create", after_another)
    answer = append(oss, 3, b"x" * 5000)
    assert other[1].status == 200
    assert (answer.code, answer.headers["x-oss-next-append-position"]) == ("PositionNotEqualToLength", "6")
    assert oss.v1("GET", "/bucket/log").body == b"onetwo"
    assert list(Check(store, deep=True).faults()) == []


def test_a_reader_that_has_begun_sees_the_object_as_it_was(oss: Oss, app: Application) -> None:
    append(oss, 0, b"one")
    append(oss, 3, b"two")
    store = app.services.store
    with store.catalog.read() as tx:
        seen = tx.current_version(tx.bucket("bucket").id, "log")
    append(oss, 6, b"three")
    assert b"".join(read.read(store, seen, offset=0, length=seen.size)) == b"onetwo"
    assert [part.etag for part in read.segments(store, seen)] == [
        hashlib.md5(piece).hexdigest() for piece in (b"one", b"two")
    ]


def test_lifecycle_spares_what_was_appended_to_meanwhile(
    oss: Oss, s3: S3, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(oss, 0, b"old")
    rule = (
        b"<LifecycleConfiguration><Rule><Filter/><Status>Enabled</Status>"
        b"<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>"
    )
    assert s3.put("/bucket?lifecycle", rule).status == 200
    store = app.services.store
    now, commit, appended = Clock().time(), write.commit, []
    monkeypatch.setattr(store.clock, "time", lambda: now + 3 * 86_400)

    def after_an_append(*args: Any, **more: Any) -> Any:
        """The transaction that would expire the object comes after one that appends."""
        with monkeypatch.context() as patch:
            patch.setattr(lifecycle.write, "commit", commit)
            patch.setattr(store.clock, "time", lambda: now + 5)
            appended.append(append(oss, 3, b"new").status)
        return commit(*args, **more)

    monkeypatch.setattr(lifecycle.write, "commit", after_an_append)
    sweep(store)
    assert appended == [200]
    monkeypatch.undo()
    assert oss.v1("GET", "/bucket/log").body == b"oldnew"


UPDATE = b"<ObjectEncryption><SSE-KMS><KMSKeyArn>other</KMSKeyArn></SSE-KMS></ObjectEncryption>"


def test_a_key_that_is_changed_while_an_append_commits(
    oss: Oss, s3: S3, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new seal would be bound to a size that the object no longer has."""
    app.services.store.keyring.add("aws/s3")
    app.services.store.keyring.add("other")
    append(oss, 0, b"one", x_oss_server_side_encryption="AES256")
    commit = write.commit

    def after_an_append(*args: Any, **more: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(write, "commit", commit)
            assert append(oss, 3, b"two").status == 200
        return commit(*args, **more)

    monkeypatch.setattr(write, "commit", after_an_append)
    assert s3.put("/bucket/log?encryption", UPDATE).code == "OperationAborted"
    monkeypatch.undo()
    assert s3.get("/bucket/log").body == b"onetwo"
    assert s3.put("/bucket/log?encryption", UPDATE).status == 200
    assert append(oss, 6, b"three").status == 200
    assert s3.get("/bucket/log").body == b"onetwothree"


def test_an_encrypted_object_grows_over_a_rotated_key(oss: Oss, s3: S3, app: Application) -> None:
    append(oss, 0, b"one", x_oss_server_side_encryption="AES256")
    store = app.services.store
    store.keyring.rotate("sse-s3")
    assert append(oss, 3, b"two").status == 200
    assert rekey(store, "sse-s3").failed == ()
    assert append(oss, 6, b"three").status == 200
    assert s3.get("/bucket/log").body == b"onetwothree"
    assert list(Check(store, deep=True).faults()) == []
