"""When the disk is full or fails: a clear answer, nothing stored by halves, reads go on."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from client import S3

from s3lite.app import Application
from s3lite.blobs.local import LocalBlobs, System


class Failing(System):
    """System calls of which one fails."""

    def __init__(self, call: str, code: int) -> None:
        def fail(*_args: Any, **_kwargs: Any) -> Any:
            raise OSError(code, os.strerror(code))

        setattr(self, call, fail)


@pytest.fixture
def blobs(app: Application, embedded: None) -> LocalBlobs:
    store = app.services.store.blobs
    assert isinstance(store, LocalBlobs)
    store.is_durable = True  # so that there are syncs to fail
    return store


@pytest.mark.parametrize("call", ["reserve", "open", "write", "fdatasync", "link", "fsync"])
@pytest.mark.parametrize(
    ("code", "name"), [(errno.ENOSPC, "InsufficientStorage"), (errno.EIO, "InternalError")]
)
def test_a_failing_disk_stores_nothing(s3: S3, blobs: LocalBlobs, call: str, code: int, name: str) -> None:
    body = b"x" * (2 << 20)
    s3.put("/bucket/old", body)
    healthy = blobs.system
    blobs.system = Failing(call, code)
    for directory in list(blobs._directories.values()):
        directory._system = blobs.system
    answer = s3.put("/bucket/new", body)
    overwritten = s3.put("/bucket/old", b"y" * (2 << 20))
    assert (answer.code, overwritten.code) == (name, name)
    assert answer.status == (503 if code == errno.ENOSPC else 500)
    assert ("Retry-After" in answer.headers) is (code == errno.ENOSPC)
    assert s3.keys("bucket") == ["old"]
    assert s3.get("/bucket/old").body == body
    assert s3.delete("/bucket/old").status == 204
    blobs.system = healthy
    for directory in list(blobs._directories.values()):
        directory._system = healthy
    assert s3.put("/bucket/new", body).status == 200
    assert s3.get("/bucket/new").body == body


def test_a_full_disk_refuses_parts_and_keeps_the_upload(s3: S3, blobs: LocalBlobs) -> None:
    upload_id = s3.start_upload("/bucket/key")
    healthy = blobs.system
    blobs.system = Failing("write", errno.ENOSPC)
    assert (
        s3.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", b"x" * 10_000).code == "InsufficientStorage"
    )
    blobs.system = healthy
    assert s3.get(f"/bucket/key?uploadId={upload_id}").texts("Part") == []
    etag = s3.put_part("/bucket/key", upload_id, 1, b"x" * 10_000)
    assert s3.complete("/bucket/key", upload_id, {1: etag}).status == 200


def test_missing_bytes_are_an_error_not_an_empty_object(s3: S3, blobs: LocalBlobs) -> None:
    s3.put("/bucket/key", b"x" * 10_000)
    for blob, _size, _time in list(blobs.scan()):
        blobs.delete(blob)
    answer = s3.get("/bucket/key")
    assert (answer.status, answer.code) == (500, "InternalError")
    assert "s3lite check" in answer.message
