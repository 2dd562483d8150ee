"""Attacks that belong to no single operation. docs/reliability.md lists all of them, and where their tests are."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import time
from dataclasses import replace
from pathlib import Path

import pytest
from client import S3, complete_document
from conftest import ROOT_SECRET
from torture.parsers import seeds, signatures, text

from s3lite.app import create_app
from s3lite.errors import S3Error
from s3lite.ids import Ids
from s3lite.settings import Settings

LARGE = b"x" * 5000  # beyond what is kept in the index

# ---------------------------------------------------------------- signatures

SIGNED = [
    path for path in seeds("authorization") if path.name.startswith("valid-") and "nobody" not in path.name
]


@pytest.mark.parametrize("path", SIGNED, ids=lambda path: path.name)
def test_signatures_are_compared_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mechanism accepts what `hmac.compare_digest` accepts, and nothing else."""
    head = text.head(text.parse(path.read_bytes()))
    assert signatures.authenticate(head).identity.key is not None
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)
    with pytest.raises(S3Error):
        signatures.authenticate(head)


# ---------------------------------------------------------------- keys as paths

KEYS = (
    "../outside", "../../outside", "a/../../outside", "/outside", "//outside", "..", ".", "a/..", "..\\outside", "C:\\outside",
    "%2e%2e/outside", "..%2foutside", "....//outside", "~/outside", "a\0b", "a\nb", "a/", "/", "CON", "blobs/00/x", "index.db",
    "secret.key", "a" * 1024, "é" * 512,
)  # fmt: skip


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["inline", "file"])
def test_a_key_is_never_a_path(settings: Settings, s3: S3, tmp_path: Path, body: bytes) -> None:
    before = {name for name in files(tmp_path) if "blobs" not in name}
    for key in KEYS:
        raw = "/bucket/" + "".join(f"%{byte:02X}" for byte in key.encode())
        assert s3.request("PUT", "/bucket/key", body, raw_path=raw).status == 200, key
        got = s3.request("GET", "/bucket/key", raw_path=raw)
        assert got.body == body, key
    assert {name for name in files(tmp_path) if "blobs" not in name} - before <= {"data/index.db-wal"}
    for path in (tmp_path / "data" / "blobs").rglob("*"):
        assert path.is_dir() or path.name.isalnum()  # random, whatever the key
    listed = s3.get("/bucket?list-type=2&encoding-type=url")
    assert len(listed.texts("Contents/Key")) == len(KEYS)


# ---------------------------------------------------------------- decompression


def test_nothing_that_a_client_sends_is_unpacked(s3: S3) -> None:
    bomb = gzip.compress(bytes(32 << 20))
    begun = time.process_time()
    etag = f'"{hashlib.md5(bomb).hexdigest()}"'
    for coding in ("gzip", "deflate", "br", "gzip, gzip"):
        assert s3.put("/bucket/bomb", bomb, {"Content-Encoding": coding}).headers["ETag"] == etag
        assert s3.get("/bucket?list-type=2").text("Contents/Size") == str(len(bomb))
    document = gzip.compress(b"<Delete><Object><Key>bomb</Key></Object></Delete>")
    assert s3.post("/bucket?delete", document, {"Content-Encoding": "gzip"}).code == "MalformedXML"
    assert s3.keys("bucket") == ["bomb"]
    assert time.process_time() - begun < 3


# ---------------------------------------------------------------- guessing


def test_ids_cannot_be_guessed() -> None:
    ids = Ids()
    for make, least in ((ids.upload, 40), (ids.version, 32), (ids.message, 31), (ids.secret_key, 40)):
        made = [make() for _ in range(1000)]
        assert len(set(made)) == 1000
        assert all(len(name) >= least for name in made)
        for at in range(len(made[0]) - 8, len(made[0])):  # no counter, no clock
            assert len({name[at] for name in made}) > 16


def test_an_upload_id_opens_nothing_to_whom_it_does_not_belong(s3: S3, other: S3, anonymous: S3) -> None:
    upload = s3.start_upload("/bucket/key")
    part = s3.put_part("/bucket/key", upload, 1, LARGE)
    assert other.put("/theirs").status == 200
    for stranger in (other, anonymous):
        for answer in (
            stranger.put(f"/bucket/key?partNumber=2&uploadId={upload}", LARGE),
            stranger.get(f"/bucket/key?uploadId={upload}"),
            stranger.complete("/bucket/key", upload, {1: part}),
            stranger.delete(f"/bucket/key?uploadId={upload}"),
        ):
            assert answer.code == "AccessDenied"
    for wrong in (f"/theirs/key?uploadId={upload}", f"/theirs/other?uploadId={upload}"):
        assert other.get(wrong).code == "NoSuchUpload"  # nor in a bucket of one's own
    assert s3.get(f"/bucket/other?uploadId={upload}").code == "NoSuchUpload"
    assert s3.complete("/bucket/key", upload, {1: part}).status == 200


def test_a_continuation_token_shows_nothing_that_its_bearer_may_not_list(s3: S3, other: S3) -> None:
    for key in ("a", "b", "c"):
        s3.put(f"/bucket/{key}", b"x")
    token = s3.get("/bucket?list-type=2&max-keys=1").text("NextContinuationToken")
    assert other.get(f"/bucket?list-type=2&continuation-token={token}").code == "AccessDenied"
    assert other.put("/theirs").status == 200
    assert other.keys("theirs", f"&continuation-token={token}") == []


# ---------------------------------------------------------------- floods


def test_ten_thousand_tiny_parts_are_one_object(settings: Settings) -> None:
    app = create_app(replace(settings, limits=replace(settings.limits, part_min_bytes=1)))
    s3 = S3(app, "root-key", ROOT_SECRET)
    s3.put("/bucket")
    upload = s3.start_upload("/bucket/key")
    etag = s3.put_part("/bucket/key", upload, 1, b"x")

    def work(tx):
        """The other parts, as copies by reference: ten thousand requests would take a minute."""
        row = tx.upload(tx.bucket("bucket").id, "key", upload)
        (part,) = tx.parts(row.row, after=0, limit=2)
        for number in range(2, 10_001):
            tx.put_part(row.row, replace(part, part_number=number), stored=None)

    app.services.store.catalog.write(work)
    etags = dict.fromkeys(range(1, 10_001), etag)
    assert s3.complete("/bucket/key", upload, {**etags, 10_001: etag}).code == "InvalidArgument"
    assert s3.post(f"/bucket/key?uploadId={upload}", complete_document(etags) * 2).code == "MalformedXML"
    begun = time.process_time()
    assert s3.complete("/bucket/key", upload, etags).status == 200
    got = s3.get("/bucket/key")
    assert time.process_time() - begun < 5
    assert got.body == b"x" * 10_000
    assert got.headers["ETag"].endswith('-10000"')
    app.close()


# ---------------------------------------------------------------- secrets at rest


def test_no_secret_lies_on_the_disk_in_the_clear(settings: Settings, s3: S3, tmp_path: Path) -> None:
    s3.put("/bucket/key", LARGE)
    secret = s3.credentials.secret_key.encode()
    found = [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert found == []
