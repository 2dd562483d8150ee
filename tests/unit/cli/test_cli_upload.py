"""`s3lite upload` against a real server: small files, parts, callbacks, and what goes wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3lite.callback.listen import Answer, Receiver
from s3lite.cli import upload as command
from s3lite.settings import load
from s3lite.testing.server import LiveServer, live_server


@pytest.fixture
def server(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    """On the data directory of the command line, whose settings say where it listens."""
    monkeypatch.setenv("S3LITE_CALLBACK_ALLOW", "127.0.0.1")
    with live_server(load()) as live:
        monkeypatch.setenv("S3LITE_BIND", live.endpoint.removeprefix("http://"))
        live.client().create_bucket(Bucket="photos")
        yield live


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "кот & dog.jpg"
    made.write_bytes(b"meow")
    return made


def stored(server: LiveServer, key: str) -> bytes:
    return server.client().get_object(Bucket="photos", Key=key)["Body"].read()


def test_a_file_goes_up_under_its_name(run, server, file):
    result = run("upload", str(file), "s3://photos/in/", "--content-type", "image/jpeg")
    assert result.stdout == f"stored s3://photos/in/{file.name}, 4 bytes\n"
    assert stored(server, f"in/{file.name}") == b"meow"
    assert server.client().head_object(Bucket="photos", Key=f"in/{file.name}")["ContentType"] == "image/jpeg"


def test_a_large_file_goes_up_in_parts(run, server, file):
    data = random.Random(1).randbytes((11 << 20) + 3)
    file.write_bytes(data)
    result = run("upload", str(file), "s3://photos/large", "--part-mib", "5", "--json")
    assert json.loads(result.stdout) == {
        "bucket": "photos",
        "key": "large",
        "size": len(data),
        "answer": None,
    }
    assert stored(server, "large") == data
    assert server.client().head_object(Bucket="photos", Key="large")["ETag"].endswith('-3"')


@pytest.mark.parametrize("size", [4, (5 << 20) + 1], ids=["whole", "parts"])
def test_the_application_answers(run, server, file, size):
    file.write_bytes(b"x" * size)
    with Receiver(default=Answer(b'{"id": 7}')) as receiver:
        result = run(
            "upload", str(file), "s3://photos/k", "--part-mib", "5",
            "--callback-url", receiver.url(), "--callback-body", "key=${object}&user=${x:user}", "--var", "x:user=42",
        )  # fmt: skip
    assert result.stdout.endswith('answer: {"id": 7}\n')
    assert [request.body for request in receiver.requests] == [b"key=k&user=42"]


def test_a_callback_that_fails_is_told_of(run, server, file):
    with Receiver(default=Answer(status=500)) as receiver:
        result = run(
            "upload", str(file), "s3://photos/k", "--callback-url", receiver.url(), "--callback-body", "k=1", exit_code=1
        )  # fmt: skip
    assert "is stored, and its callback failed: CallbackFailed" in result.stderr
    assert stored(server, "k") == b"meow"


def test_what_the_server_says_is_passed_on(run, server, file):
    assert "NoSuchBucket" in run("upload", str(file), "s3://missing/k", exit_code=1).stderr
    assert "not s3://BUCKET/KEY" in run("upload", str(file), "photos/k", exit_code=2).stderr


def test_a_server_that_does_not_run_is_named(run, server, file):
    result = run("upload", str(file), "s3://photos/k", "--endpoint", "http://127.0.0.1:9", exit_code=1)
    assert "Does the server run?" in result.stderr


def test_nothing_is_left_of_parts_that_fail(run, server, file, monkeypatch):
    file.write_bytes(b"x" * (11 << 20))
    once = command._Piece.__iter__

    def breaks(piece):
        if piece.offset:
            raise OSError("the disk is gone")
        yield from once(piece)

    monkeypatch.setattr(command._Piece, "__iter__", breaks)
    run("upload", str(file), "s3://photos/k", "--part-mib", "5", exit_code=1)
    assert "Uploads" not in server.client().list_multipart_uploads(Bucket="photos")
    assert server.client().list_objects_v2(Bucket="photos")["KeyCount"] == 0


@pytest.mark.usefixtures("terminal")
def test_a_bar_shows_how_far_it_is(run, server, file):
    assert "bytes" in run("upload", str(file), "s3://photos/k").stderr
