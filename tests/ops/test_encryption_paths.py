"""Encrypted objects on every other way through the server: copies, forms, callbacks, upkeep, damage, rotation."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import forms
import pytest
from client import S3
from ssekit import KEY_B, S3_HEADERS, customer_headers, files_with, kms_headers, text

from s3lite.app import Application
from s3lite.callback.listen import Receiver
from s3lite.core import lifecycle, read
from s3lite.core.check import Check
from s3lite.core.rekey import rekey
from s3lite.core.sweep import sweep
from s3lite.crypto.keyring import SSE_S3
from s3lite.errors import S3Error
from s3lite.settings import Settings
from s3lite.times import Clock

SSE = "x-amz-server-side-encryption"
PLAIN: dict[str, str] = {}
SOURCES = {"plain": PLAIN, "sse-s3": S3_HEADERS, "sse-kms": kms_headers(), "sse-c": customer_headers()}
TARGETS = {
    "plain": PLAIN, "sse-s3": S3_HEADERS, "sse-kms": kms_headers("archive"), "sse-c": customer_headers(KEY_B),
}  # fmt: skip


@pytest.fixture(autouse=True)
def ring(app: Application):
    keyring = app.services.store.keyring
    keyring.add("payroll")
    keyring.add("archive")
    return keyring


@pytest.fixture
def data_dir(settings: Settings, embedded: None) -> Path:
    return Path(settings.data_dir)


@pytest.fixture
def index(data_dir: Path):
    connection = sqlite3.connect(data_dir / "index.db", isolation_level=None)
    yield connection
    connection.close()


def reading(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if "customer" in name}


def get(s3: S3, path: str, headers: dict[str, str] | None = None, **more: str):
    return s3.request("GET", path, headers={**(headers or {}), **more})


def blobs(data_dir: Path) -> list[Path]:
    return [path for path in data_dir.rglob("blobs/*/*") if path.is_file()]


def upload(s3: S3, headers: dict[str, str], *parts: bytes, path: str = "/bucket/big") -> None:
    upload_id = s3.start_upload(path, headers)
    etags = {}
    for number, part in enumerate(parts, start=1):
        answer = s3.put(f"{path}?partNumber={number}&uploadId={upload_id}", part, reading(headers))
        etags[number] = answer.headers["ETag"]
    assert s3.complete(path, upload_id, etags, reading(headers)).status == 200


# ---------------------------------------------------------------- copies


def copying(source: dict[str, str], target: dict[str, str]) -> dict[str, str]:
    own = customer_headers(source=True) if source == SOURCES["sse-c"] else {}
    return {"x-amz-copy-source": "/bucket/key"} | own | target


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", [100, 150_000])
def test_copies_between_all_encryptions(s3: S3, data_dir: Path, size: int, source: str, target: str) -> None:
    body = text(size)
    s3.put("/bucket/key", body, SOURCES[source])
    before = len(blobs(data_dir))
    answer = s3.put("/bucket/copy", b"", copying(SOURCES[source], TARGETS[target]))
    assert answer.status == 200, answer
    found = get(s3, "/bucket/copy", reading(TARGETS[target]), x_amz_checksum_mode="ENABLED")
    assert found.body == body
    expected = TARGETS[target] or (S3_HEADERS if source != "plain" else PLAIN)
    assert found.headers.get(SSE) == expected.get(SSE)
    assert found.headers["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    if "plain" not in (source, target):
        assert files_with(data_dir) == []
    is_shared = (source == target == "plain") or (not {source, target} & {"sse-c"} and source != "plain")
    if size > 4096:
        assert len(blobs(data_dir)) - before == (0 if is_shared else 1)


def test_a_copy_by_reference_outlives_its_source_and_the_other_way_round(app: Application, s3: S3) -> None:
    s3.put("/bucket/key", text(9000), S3_HEADERS)
    s3.put("/bucket/copy", b"", {"x-amz-copy-source": "/bucket/key", **kms_headers()})
    s3.delete("/bucket/key")
    sweep(app.services.store)
    assert s3.get("/bucket/copy").body == text(9000)


@pytest.mark.parametrize("given", [PLAIN, customer_headers(KEY_B, source=True)], ids=["none", "another"])
def test_a_copy_needs_the_key_of_its_source(s3: S3, given: dict[str, str]) -> None:
    s3.put("/bucket/key", text(9000), customer_headers())
    answer = s3.put("/bucket/copy", b"", {"x-amz-copy-source": "/bucket/key", **given})
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert s3.head("/bucket/copy").status == 404


def test_a_key_for_a_source_that_needs_none_is_refused(s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    own = customer_headers(source=True)
    assert s3.put("/bucket/copy", b"", {"x-amz-copy-source": "/bucket/key", **own}).code == "InvalidRequest"


def test_an_object_is_encrypted_in_its_place(s3: S3, data_dir: Path, app: Application) -> None:
    s3.put("/bucket/key", text(9000), {"x-amz-meta-a": "1"})
    onto_itself = {"x-amz-copy-source": "/bucket/key"}
    assert s3.put("/bucket/key", b"", onto_itself).code == "InvalidRequest"
    assert s3.put("/bucket/key", b"", onto_itself | S3_HEADERS).status == 200
    sweep(app.services.store)
    assert files_with(data_dir / "blobs") == []
    found = s3.get("/bucket/key")
    assert (found.body, found.headers["x-amz-meta-a"]) == (text(9000), "1")


def test_a_customers_key_is_changed_by_a_copy_onto_itself(s3: S3) -> None:
    s3.put("/bucket/key", text(9000), customer_headers())
    change = {"x-amz-copy-source": "/bucket/key", **customer_headers(source=True), **customer_headers(KEY_B)}
    assert s3.put("/bucket/key", b"", change).status == 200
    assert get(s3, "/bucket/key", customer_headers(KEY_B)).body == text(9000)
    assert get(s3, "/bucket/key", customer_headers()).status == 400


def test_copies_of_multipart_objects(s3: S3) -> None:
    parts = [text(70_000), text(5_000)]
    upload(s3, kms_headers(), *parts)
    for number, target in enumerate(TARGETS.values()):
        headers = {"x-amz-copy-source": "/bucket/big", **target}
        assert s3.put(f"/bucket/copy{number}", b"", headers).status == 200
        found = get(s3, f"/bucket/copy{number}", reading(target), Range="bytes=69990-70010")
        assert found.body == b"".join(parts)[69990:70011]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("wanted", ["", "bytes=65530-140000"])
def test_part_copies_between_all_encryptions(s3: S3, wanted: str, source: str, target: str) -> None:
    body = text(150_000)
    s3.put("/bucket/key", body, SOURCES[source])
    upload_id = s3.start_upload("/bucket/big", TARGETS[target])
    own = reading(TARGETS[target])
    headers = copying(SOURCES[source], own) | ({"x-amz-copy-source-range": wanted} if wanted else {})
    copied = s3.put(f"/bucket/big?partNumber=1&uploadId={upload_id}", b"", headers)
    assert copied.headers.get(SSE) == TARGETS[target].get(SSE)
    sent = s3.put(f"/bucket/big?partNumber=2&uploadId={upload_id}", b"end", own)
    etags = {1: copied.text("ETag"), 2: sent.headers["ETag"]}
    assert s3.complete("/bucket/big", upload_id, etags, own).status == 200
    expected = (body[65530:140001] if wanted else body) + b"end"
    assert get(s3, "/bucket/big", own).body == expected


def test_part_copies_into_an_sse_c_upload_need_its_key(s3: S3) -> None:
    s3.put("/bucket/key", text(9000))
    upload_id = s3.start_upload("/bucket/big", customer_headers())
    for given in (PLAIN, customer_headers(KEY_B)):
        headers = {"x-amz-copy-source": "/bucket/key", **given}
        answer = s3.put(f"/bucket/big?partNumber=1&uploadId={upload_id}", b"", headers)
        assert (answer.status, answer.code) == (400, "InvalidRequest")


# ---------------------------------------------------------------- forms and callbacks


@pytest.mark.parametrize("headers", [S3_HEADERS, kms_headers(), customer_headers()], ids=["s3", "kms", "c"])
def test_forms_ask_for_encryption_in_fields(s3: S3, data_dir: Path, headers: dict[str, str]) -> None:
    named = [["starts-with", f"${name}", ""] for name in headers]
    signed = forms.v4_fields("alice-key", "alice-secret", [{"bucket": "bucket"}, {"key": "key"}, *named])
    body = forms.body([("key", "key"), *headers.items(), *signed.items()], text(9000), file_type=None)
    answer = s3.send("POST", "/bucket", "", body, {"Content-Type": forms.CONTENT_TYPE, "Content-Length": str(len(body))})  # fmt: skip
    assert answer.status == 204, answer
    assert get(s3, "/bucket/key", reading(headers)).body == text(9000)
    assert files_with(data_dir) == []


def png(width: int, height: int) -> bytes:
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return head + b"\x08\x02\x00\x00\x00" + bytes(9000)


@pytest.mark.parametrize("headers", [S3_HEADERS, kms_headers(), customer_headers()], ids=["s3", "kms", "c"])
def test_callbacks_see_into_encrypted_images(s3: S3, headers: dict[str, str]) -> None:
    with Receiver() as receiver:
        spec = {
            "callbackUrl": receiver.url(),
            "callbackBody": "${imageInfo.width}x${imageInfo.height} ${size}",
        }
        sent = {"x-amz-meta-callback": base64.b64encode(json.dumps(spec).encode()).decode()}
        assert s3.put("/bucket/key", png(640, 480), headers | sent).status == 200
        (got,) = receiver.requests
    assert got.body == b"640x480 %d" % len(png(640, 480))


def test_a_complete_without_the_customers_key_reports_without_looking(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key", customer_headers())
    path = f"/bucket/key?partNumber=1&uploadId={upload_id}"
    etags = {1: s3.put(path, png(640, 480), customer_headers()).headers["ETag"]}
    with Receiver() as receiver:
        spec = {"callbackUrl": receiver.url(), "callbackBody": "[${imageInfo.width}] ${size}"}
        sent = {"x-amz-meta-callback": base64.b64encode(json.dumps(spec).encode()).decode()}
        assert s3.complete("/bucket/key", upload_id, etags, sent).status == 200
        (got,) = receiver.requests
    assert got.body == b"[] %d" % len(png(640, 480))


# ---------------------------------------------------------------- lifecycle and locks


class Later(Clock):
    def time(self) -> float:
        return super().time() + 3 * 86_400


def test_lifecycle_ends_encrypted_objects(app: Application, s3: S3, data_dir: Path) -> None:
    rule = "<Rule><Status>Enabled</Status><Filter/><Expiration><Days>1</Days></Expiration></Rule>"
    s3.put("/bucket?lifecycle", f"<LifecycleConfiguration>{rule}</LifecycleConfiguration>".encode())
    for number, headers in enumerate(SOURCES.values()):
        s3.put(f"/bucket/{number}", text(9000), headers)
    later = replace(app.services.store, clock=Later())
    assert lifecycle.run(later).expired == 4
    sweep(later)
    assert blobs(data_dir) == []


def test_a_locked_version_keeps_its_encryption(s3: S3) -> None:
    assert s3.put("/locked", b"", {"x-amz-bucket-object-lock-enabled": "true"}).status == 200
    held = {"x-amz-object-lock-legal-hold": "ON"}
    made = s3.put("/locked/key", text(9000), S3_HEADERS | held).headers["x-amz-version-id"]
    body = b"<ObjectEncryption><SSE-KMS><KMSKeyArn>payroll</KMSKeyArn></SSE-KMS></ObjectEncryption>"
    assert s3.put("/locked/key?encryption", body).code == "AccessDenied"
    assert s3.delete(f"/locked/key?versionId={made}").code == "AccessDenied"
    found = s3.get(f"/locked/key?versionId={made}")
    assert (found.body, found.headers[SSE]) == (text(9000), "AES256")


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("headers", [S3_HEADERS, kms_headers(), customer_headers()], ids=["s3", "kms", "c"])
def test_a_flipped_bit_in_a_file_is_refused(s3: S3, data_dir: Path, headers: dict[str, str]) -> None:
    s3.put("/bucket/key", text(9000), headers)
    (path,) = blobs(data_dir)
    kept = bytearray(path.read_bytes())
    for position in (0, 5000, len(kept) - 1):
        damaged = bytearray(kept)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        answer = get(s3, "/bucket/key", reading(headers))
        assert (answer.status, answer.code) == (500, "InternalError")
        assert "s3lite check --deep" in answer.message
    path.write_bytes(kept)
    assert get(s3, "/bucket/key", reading(headers)).body == text(9000)


def test_damage_further_on_ends_the_answer_before_it(app: Application, s3: S3, data_dir: Path) -> None:
    s3.put("/bucket/key", text(3 << 20), S3_HEADERS)
    (path,) = blobs(data_dir)
    kept = bytearray(path.read_bytes())
    kept[-1] ^= 1
    path.write_bytes(kept)
    assert get(s3, "/bucket/key", Range="bytes=0-99").body == text(100)
    store = app.services.store
    with store.catalog.read() as tx:
        version = tx.current_version(tx.bucket("bucket").id, "key")
    seen: list[bytes] = []
    with pytest.raises(S3Error, match="damaged"):
        seen.extend(read.read(store, version, offset=0, length=version.size))
    assert seen
    assert text(3 << 20).startswith(b"".join(seen))


@pytest.mark.parametrize("size", [100, 9000])
def test_bytes_of_one_object_are_nothing_in_another(s3: S3, index, size: int) -> None:
    for key in ("a", "b"):
        s3.put(f"/bucket/{key}", key.encode() * size, S3_HEADERS)
    index.execute(
        "UPDATE versions SET blob = (SELECT blob FROM versions WHERE key = x'61') WHERE key = x'62'"
    )
    assert s3.get("/bucket/b").code == "InternalError"
    index.execute(
        "UPDATE versions SET encryption = (SELECT encryption FROM versions WHERE key = x'61'), size = 50"
    )
    assert s3.get("/bucket/b").code == "InternalError"


def test_an_inline_object_is_as_safe(s3: S3, index) -> None:
    s3.put("/bucket/key", text(100), S3_HEADERS)
    ((data,),) = index.execute("SELECT data FROM inline")
    index.execute("UPDATE inline SET data = ?", (bytes([data[0] ^ 1]) + data[1:],))
    assert s3.get("/bucket/key").code == "InternalError"


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM segments WHERE part_number = 2",
        "UPDATE segments SET part_number = 3 - part_number",
        "UPDATE segments SET sealed_key = (SELECT sealed_key FROM segments WHERE part_number = 2)",
        "UPDATE versions SET size = 70000, part_count = 1",
        "UPDATE versions SET encryption = replace(encryption, 'AES256', 'aws:kms')",
        "UPDATE versions SET encryption = replace(encryption, 'true]', 'false]')",
    ],
)
def test_parts_cannot_be_dropped_exchanged_or_reordered(s3: S3, index, change: str) -> None:
    upload(s3, S3_HEADERS, text(70_000), text(70_000)[::-1])
    index.execute("PRAGMA defer_foreign_keys = ON")
    if "part_number = 3" in change:
        index.execute("UPDATE segments SET part_number = part_number + 10")
        change = "UPDATE segments SET part_number = 13 - part_number"
    index.execute(change)
    if change.startswith("DELETE"):
        index.execute("UPDATE versions SET size = 70000, part_count = 1")
    answer = s3.get("/bucket/big")
    assert (answer.status, answer.code) == (500, "InternalError")


# ---------------------------------------------------------------- the check


def faults(app: Application) -> list[tuple[str, str]]:
    return [(fault.kind, fault.subject) for fault in Check(app.services.store, deep=True).faults()]


def test_the_check_reads_encrypted_objects_as_far_as_it_can(app: Application, s3: S3, data_dir: Path) -> None:
    for name, headers in SOURCES.items():
        s3.put(f"/bucket/{name}", text(9000), headers)
        s3.put(f"/bucket/small-{name}", text(90), headers)
        upload(s3, headers, text(70_000), text(10), path=f"/bucket/big-{name}")
        s3.put(f"/bucket/empty-{name}", b"", headers)
    check = Check(app.services.store, deep=True)
    assert list(check.faults()) == []
    assert (check.checked.versions, check.checked.without_key) == (16, 4)
    for path in blobs(data_dir):
        kept = bytearray(path.read_bytes())
        kept[7] ^= 1
        path.write_bytes(kept)
    damaged = {f"bucket/{prefix}{name}" for name in SOURCES for prefix in ("", "big-")}
    assert {subject for kind, subject in faults(app) if kind == "content"} == damaged


def test_the_check_names_what_lacks_its_key(app: Application, s3: S3, ring, data_dir: Path) -> None:
    for name, headers in SOURCES.items():
        s3.put(f"/bucket/{name}", text(9000), headers)
    lose(ring)
    assert faults(app) == [("key", "bucket/sse-s3"), ("key", "bucket/sse-kms")]


# ---------------------------------------------------------------- rotation, and a lost keyring


def lose(ring) -> None:
    """As a new process finds things after the file is gone."""
    ring.path.unlink()
    ring.__init__(ring.path, now=lambda: "")


def sealed_under(index) -> set[str]:
    tables = ("versions", "uploads")
    return {row[0] for table in tables for row in index.execute(f"SELECT master FROM {table}")}


def test_a_rotation_moves_no_byte_and_all_keys(app: Application, s3: S3, ring, index, data_dir: Path) -> None:
    for number in range(5):
        s3.put(f"/bucket/{number}", text(9000), S3_HEADERS)
    upload(s3, S3_HEADERS, text(70_000), text(100))
    s3.put("/bucket/kms", text(10), kms_headers())
    open_upload = s3.start_upload("/bucket/open", S3_HEADERS)
    first = ring.current(SSE_S3).ref
    before = {path: path.read_bytes() for path in blobs(data_dir)}
    ring.rotate(SSE_S3)
    steps: list[tuple[int, int]] = []
    done = rekey(app.services.store, SSE_S3, progress=lambda *step: steps.append(step))
    assert (done.sealed, done.failed) == (7, ())
    assert steps[-1] == (7, 7)
    assert first not in sealed_under(index)
    assert {path: path.read_bytes() for path in blobs(data_dir)} == before
    assert s3.get("/bucket/big").body == text(70_000) + text(100)
    etag = s3.put_part("/bucket/open", open_upload, 1, text(5000))
    assert s3.complete("/bucket/open", open_upload, {1: etag}).status == 200
    assert s3.get("/bucket/open").body == text(5000)
    assert rekey(app.services.store, SSE_S3).sealed == 0


def test_many_objects_are_resealed_in_batches(app: Application, s3: S3, ring, index, monkeypatch) -> None:
    monkeypatch.setattr("s3lite.core.rekey._BATCH", 3)
    for number in range(7):
        s3.put(f"/bucket/{number}", b"x", kms_headers())
    s3.put("/bucket/damaged", b"x", kms_headers())
    index.execute("UPDATE versions SET size = 5 WHERE key = ?", (b"damaged",))
    ring.rotate("payroll")
    done = rekey(app.services.store, "payroll")
    assert done.sealed == 7
    assert [name.partition(": ")[2] for name in done.failed] == ["damaged"]
    assert all(s3.get(f"/bucket/{number}").body == b"x" for number in range(7))
    index.execute("UPDATE versions SET size = 1 WHERE key = ?", (b"damaged",))


def test_a_reader_goes_on_while_the_key_is_rotated(app: Application, s3: S3, ring) -> None:
    body = text(3 << 20)
    s3.put("/bucket/key", body, S3_HEADERS)
    store = app.services.store
    with store.catalog.read() as tx:
        version = tx.current_version(tx.bucket("bucket").id, "key")
    pieces = read.read(store, version, offset=0, length=version.size)
    seen = next(pieces)
    ring.rotate(SSE_S3)
    rekey(store, SSE_S3)
    assert seen + b"".join(pieces) == body
    assert b"".join(read.read(store, version, offset=9, length=9)) == body[9:18]  # a row read before


def test_a_lost_keyring_is_not_replaced_unnoticed(app: Application, s3: S3, ring) -> None:
    s3.put("/bucket/plain", b"x")
    s3.put("/bucket/key", b"x", S3_HEADERS)
    s3.put("/bucket/kms", b"x", kms_headers())
    kept = ring.path.read_bytes()
    lose(ring)
    assert s3.get("/bucket/plain").body == b"x"
    assert s3.get("/bucket/key").code == "InternalError"
    assert s3.get("/bucket/kms").code == "KMS.NotFoundException"
    answer = s3.put("/bucket/new", b"x", S3_HEADERS)
    assert (answer.code, "s3lite keyring list" in answer.message) == ("InternalError", True)
    assert not ring.path.exists()
    ring.path.write_bytes(kept)
    assert s3.get("/bucket/key").body == b"x"
    assert s3.put("/bucket/new", b"x", S3_HEADERS).status == 200
