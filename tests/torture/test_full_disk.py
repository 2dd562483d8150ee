"""A disk that is really full: a small file system in memory, and somebody else who fills it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from client import S3
from torture.driver import settings
from torture.operations import ROOT_KEY, ROOT_SECRET, Later
from webtest import TestRequest

from s3lite.app import Application, create_app
from s3lite.blobs.reserve import FILE, Reserve
from s3lite.core.check import Check
from s3lite.core.sweep import sweep
from s3lite.settings import StorageSettings

DISK = 24 << 20
RESERVE = 2 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 24 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(tmp_path)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def start(disk: Path) -> tuple[Application, S3]:
    storage = StorageSettings(inline_bytes=4096, buffer_bytes=64 << 10, reserve_bytes=RESERVE)
    app = create_app(replace(settings(disk / "data"), storage=storage))
    return app, S3(app, ROOT_KEY, ROOT_SECRET)


def fill(disk: Path) -> Path:
    """Take what is left, as a log that nobody rotates does."""
    other = disk / "somebody-elses"
    with other.open("wb", buffering=0) as file:
        for size in (64 << 10, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return other


class Unread:
    """A body that must not be asked for."""

    def read(self, *_size: int) -> bytes:
        raise AssertionError("the body was read")


def upload_unread(s3: S3, path: str, size: int) -> tuple[int, bytes]:
    """PUT with a presigned URL whose body may not be read; status and answer."""
    raw = s3.presign("PUT", path)
    request = TestRequest.blank(raw, method="PUT")
    request.environ |= {
        "HTTP_HOST": s3.host, "RAW_URI": raw, "CONTENT_LENGTH": str(size), "HTTP_EXPECT": "100-continue",
    }  # fmt: skip
    request.environ["wsgi.input"] = Unread()
    answer = request.get_response(s3.wsgi)
    return answer.status_int, answer.body


def test_a_full_disk_takes_no_uploads_and_goes_on_reading_and_deleting(disk: Path) -> None:
    app, s3 = start(disk)
    s3.put("/bucket")
    big = os.urandom(3 << 20)
    for number in range(60):
        s3.put(f"/bucket/small{number:02}", os.urandom(3000))
    s3.put("/bucket/big", big)
    other = fill(disk)
    for size in (10, 5000, 1 << 20):
        status, body = upload_unread(s3, "/bucket/new", size)
        assert (status, b"InsufficientStorage" in body) == (503, True)
    assert s3.get("/bucket/big").body == big
    assert len(s3.keys("bucket")) == 61
    for number in range(60):
        assert s3.delete(f"/bucket/small{number:02}").status == 204
    assert s3.delete("/bucket/big").status == 204
    assert s3.keys("bucket") == []
    assert upload_unread(s3, "/bucket/new", 10)[0] == 503
    sweep(replace(app.services.store, clock=Later(90)))  # the grace is short on a full disk
    other.unlink()
    assert s3.put("/bucket/new", big).status == 200
    assert s3.get("/bucket/new").body == big
    assert (disk / "data" / FILE).stat().st_size == RESERVE
    assert list(Check(app.services.store, deep=True).faults()) == []
    app.close()


def test_deletes_go_on_in_the_reserve(disk: Path) -> None:
    """The log of the index has been folded in and emptied, so that the first delete finds no room at all."""
    app, s3 = start(disk)
    s3.put("/bucket")
    for number in range(20):
        s3.put(f"/bucket/{number:02}", os.urandom(3000))
    app.services.store.catalog.checkpoint(truncate=True)
    fill(disk)
    for number in range(20):
        assert s3.delete(f"/bucket/{number:02}").status == 204
    assert not (disk / "data" / FILE).exists()
    assert upload_unread(s3, "/bucket/new", 10)[0] == 503
    assert s3.keys("bucket") == []
    app.close()


def test_a_server_starts_on_a_full_disk(disk: Path) -> None:
    app, s3 = start(disk)
    s3.put("/bucket")
    s3.put("/bucket/key", b"x" * 5000)
    app.close()
    other = fill(disk)
    app, s3 = start(disk)
    assert s3.get("/bucket/key").body == b"x" * 5000
    assert upload_unread(s3, "/bucket/new", 10)[0] == 503
    assert s3.delete("/bucket/key").status == 204
    other.unlink()
    assert s3.put("/bucket/new", b"x" * 5000).status == 200
    app.close()


def test_an_upload_that_fills_the_disk_on_its_way_leaves_nothing(disk: Path) -> None:
    """Its length is not announced, so that it is found out only when there is no more room."""
    app, s3 = start(disk)
    s3.put("/bucket")
    answer = s3.open("PUT", s3.presign("PUT", "/bucket/key"), bytes(DISK), {"Transfer-Encoding": "chunked"})
    assert (answer.status, answer.code) == (503, "InsufficientStorage")
    assert s3.keys("bucket") == []
    assert s3.put("/bucket/key", bytes(1 << 20)).status == 200
    app.close()


def test_a_reserve_is_one_file_for_all_processes(tmp_path: Path) -> None:
    one, two = Reserve(tmp_path, 4096), Reserve(tmp_path, 4096)
    one.ensure()
    two.ensure()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert two.release()
    assert one.is_short()
    assert not one.release()
    one.admit(10)
    assert not two.is_short()


def test_no_reserve_is_asked_for_and_refuses_nothing(tmp_path: Path) -> None:
    for none in (Reserve(), Reserve(tmp_path, 0)):
        none.ensure()
        none.admit(1 << 60)
        assert (none.is_short(), none.release()) == (False, False)
