"""Bit rot: found by `check --deep`, and under ``storage.verify_reads`` never given out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from client import S3

from s3lite.app import Application, create_app
from s3lite.core import read
from s3lite.core.check import Check
from s3lite.errors import S3Error
from s3lite.settings import Settings

LARGE = os.urandom(3 << 20)  # read in three pieces
PIECE = 1 << 20


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, storage=replace(settings.storage, verify_reads=True))


@pytest.fixture
def careless(app: Application, settings: Settings) -> Iterator[S3]:
    """The same data without verification."""
    storage = replace(settings.storage, verify_reads=False)
    other = create_app(replace(settings, storage=storage))
    yield S3(other, "alice-key", "alice-secret")
    other.close()


def rot(app: Application, settings: Settings, key: str, at: int, *, part: int = 0) -> None:
    """Flip a bit of an object's bytes where they are kept, leaving sizes and times as they are."""
    with app.services.store.catalog.read() as tx:
        version = tx.current_version(tx.bucket("bucket").id, key)
        blob = tx.segments(version.row)[part - 1].blob if part else version.blob
    flip(app, settings, blob, at)


def flip(app: Application, settings: Settings, blob: str, at: int) -> None:
    if app.services.store.settings.blobs_url:
        pytest.skip("bytes are flipped in files")
    path = Path(settings.data_dir) / "blobs" / blob[-2:] / blob
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def multipart(s3: S3, key: str, parts: list[bytes]) -> None:
    path = f"/bucket/{key}"
    upload = s3.start_upload(path)
    etags = {number: s3.put_part(path, upload, number, data) for number, data in enumerate(parts, 1)}
    assert s3.complete(path, upload, etags).status == 200


def test_sound_bytes_are_given_out_whatever_the_range(s3: S3) -> None:
    s3.put("/bucket/inline", b"small")
    s3.put("/bucket/empty", b"")
    s3.put("/bucket/file", LARGE)
    multipart(s3, "parts", [LARGE, b"x" * 5000, LARGE[:PIECE]])
    whole = LARGE + b"x" * 5000 + LARGE[:PIECE]
    assert [s3.get(f"/bucket/{key}").body for key in ("inline", "empty", "file")] == [b"small", b"", LARGE]
    assert s3.get("/bucket/inline", range="bytes=1-2").body == b"ma"
    assert s3.get("/bucket/parts").body == whole
    for first, last in ((0, 0), (PIECE - 1, PIECE), (5, 2 * PIECE + 5), (len(LARGE) - 1, len(LARGE) - 1)):
        assert s3.get("/bucket/file", range=f"bytes={first}-{last}").body == LARGE[first : last + 1]
    for first, last in (
        (0, len(whole) - 1),
        (len(LARGE) - 3, len(LARGE) + 3),
        (len(LARGE) + 4000, len(whole) - 9),
    ):
        assert s3.get("/bucket/parts", range=f"bytes={first}-{last}").body == whole[first : last + 1]


def test_damage_of_what_is_read_at_once_is_an_answer(
    app: Application, settings: Settings, s3: S3, careless: S3, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put("/bucket/key", LARGE[:PIECE])
    rot(app, settings, "key", 700_000)
    assert careless.get("/bucket/key").body != LARGE[:PIECE]  # what the setting is for
    with caplog.at_level(logging.ERROR, "s3lite"):
        refused = s3.get("/bucket/key")
    assert (refused.status, refused.code) == (500, "InternalError")
    assert "check --deep" in refused.message
    with app.services.store.catalog.read() as tx:
        assert f"blob {tx.current_version(1, 'key').blob} is damaged" in caplog.text
    assert s3.head("/bucket/key").status == 200
    assert s3.get("/bucket/key", range="bytes=0-9").status == 500  # sound bytes of a damaged blob
    (fault,) = {fault.subject for fault in Check(app.services.store, deep=True).faults()}
    assert fault == "bucket/key"


def test_damage_of_what_is_kept_in_the_index_is_found(app: Application, s3: S3) -> None:
    s3.put("/bucket/key", b"small")
    session = app.services.store.catalog

    def work(tx):
        tx._session.run("UPDATE inline SET data = ?", (b"smalk",))

    session.write(work)
    assert s3.get("/bucket/key").code == "InternalError"
    assert s3.get("/bucket/key", range="bytes=0-0").code == "InternalError"


@pytest.mark.parametrize("at", [0, PIECE, 3 * PIECE - 1])
def test_a_large_damaged_object_is_never_complete(
    app: Application, settings: Settings, s3: S3, at: int
) -> None:
    s3.put("/bucket/key", LARGE)
    rot(app, settings, "key", at)
    store = app.services.store
    with store.catalog.read() as tx:
        version = tx.current_version(1, "key")
    for offset, length in ((0, len(LARGE)), (PIECE, 2 * PIECE), (7, len(LARGE) - 7)):
        got = 0
        with pytest.raises(S3Error, match="damaged"):  # noqa: PT012  # the last of many pieces raises
            for piece in read.read(store, version, offset=offset, length=length):
                got += len(piece)
        assert got < length


def test_of_a_multipart_object_the_damaged_part_alone_is_refused(
    app: Application, settings: Settings, s3: S3
) -> None:
    first, second = os.urandom(50_000), os.urandom(60_000)
    multipart(s3, "key", [first, second])
    rot(app, settings, "key", 59_999, part=2)
    assert s3.get("/bucket/key?partNumber=1").body == first
    assert s3.get("/bucket/key", range="bytes=0-49999").body == first
    assert s3.get("/bucket/key?partNumber=2").status == 500
    with app.services.store.catalog.read() as tx:
        version = tx.current_version(1, "key")
    pieces = read.read(app.services.store, version, offset=49_999, length=2)
    assert next(pieces) == first[-1:]
    with pytest.raises(S3Error, match="damaged"):  # too late for another status: the connection is cut
        next(pieces)
    subjects = [fault.message for fault in Check(app.services.store, deep=True).faults()]
    assert all(text.startswith("part 2: ") for text in subjects)


def test_damage_is_not_laundered_by_a_copy_of_bytes(app: Application, settings: Settings, s3: S3) -> None:
    s3.put("/bucket/key", LARGE[:PIECE])
    rot(app, settings, "key", 5)
    upload = s3.start_upload("/bucket/copy")
    source = {"x-amz-copy-source": "/bucket/key"}
    part = f"/bucket/copy?partNumber=1&uploadId={upload}"
    assert s3.put(part, headers=source | {"x-amz-copy-source-range": "bytes=100-900000"}).status == 500
    assert s3.put("/bucket/sealed", headers=source | {"x-amz-server-side-encryption": "AES256"}).status == 500
    assert s3.head("/bucket/sealed").status == 404


def test_a_damaged_annotation_is_refused(app: Application, settings: Settings, s3: S3) -> None:
    path = "/bucket/key?annotation&annotationName=n"
    s3.put("/bucket/key", b"")
    text = b"0123456789" * 900
    s3.put(path, text)
    assert s3.get(path).body == text
    with app.services.store.catalog.read() as tx:
        found = tx.bucket_and_current("bucket", "key")
        assert found
        assert found[1]
        blob = tx.annotations(found[1].row)[0].blob
    flip(app, settings, blob, 5)
    assert s3.get(path).code == "InternalError"
