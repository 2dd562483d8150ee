"""What only a real socket shows: 100 Continue, aborted and overlong bodies, chunked bodies, drained refusals."""

from __future__ import annotations

import hashlib
import random
import socket
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .conftest import Server


def presigned(server: Server, bucket: str, key: str, method: str = "put_object") -> str:
    url = server.client(signature_version="s3v4").generate_presigned_url(
        method, Params={"Bucket": bucket, "Key": key}
    )
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def connect(server: Server) -> socket.socket:
    parts = urlsplit(server.endpoint)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10)


def head(server: Server, method: str, target: str, *lines: str) -> bytes:
    host = urlsplit(server.endpoint).netloc
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


def answer(sock: socket.socket) -> bytes:
    """Everything until the connection closes."""
    received = b""
    while piece := sock.recv(65536):
        received += piece
    return received


def test_continue_is_said_when_the_body_is_wanted(server: Server, bucket: str) -> None:
    with closing(connect(server)) as sock:
        lines = ("Content-Length: 4", "Expect: 100-continue", "Connection: close")
        sock.sendall(head(server, "PUT", presigned(server, bucket, "key"), *lines))
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"body")
        assert answer(sock).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("target", "status"),
    [("/nowhere/key", b"403"), ("/bucket/key?uploadId=1&acl", b"400")],
    ids=["denied", "bad"],
)
def test_a_refused_upload_is_never_asked_for(server: Server, bucket: str, target: str, status: bytes) -> None:
    with closing(connect(server)) as sock:
        sock.sendall(head(server, "PUT", target, "Content-Length: 4000000000", "Expect: 100-continue"))
        received = answer(sock)
    assert received.startswith((b"HTTP/1.1 " + status, b"HTTP/1.1 404"))
    assert b"100 Continue" not in received
    assert b"Connection: close" in received


def test_an_overlong_upload_is_refused_by_its_head(server: Server, bucket: str) -> None:
    with closing(connect(server)) as sock:
        lines = (f"Content-Length: {6 << 30}", "Expect: 100-continue")
        sock.sendall(head(server, "PUT", presigned(server, bucket, "key"), *lines))
        received = answer(sock)
    assert received.startswith(b"HTTP/1.1 400")
    assert b"EntityTooLarge" in received


def test_an_aborted_upload_stores_nothing(server: Server, bucket: str) -> None:
    for cut in (0, 1, 50_000, 99_999):
        with closing(connect(server)) as sock:
            sock.sendall(head(server, "PUT", presigned(server, bucket, "cut"), "Content-Length: 100000"))
            sock.sendall(b"x" * cut)
            sock.shutdown(socket.SHUT_WR)
            assert answer(sock)[:12] in (b"HTTP/1.1 400", b"")
    assert server.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_chunked_body_is_taken(server: Server, bucket: str) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [b"a" * 70_000, b"b", b"c" * 9])
    with closing(connect(server)) as sock:
        lines = ("Transfer-Encoding: chunked", "Connection: close")
        sock.sendall(head(server, "PUT", presigned(server, bucket, "key"), *lines) + body + b"0\r\n\r\n")
        assert answer(sock).startswith(b"HTTP/1.1 200 ")
    stored = server.client().head_object(Bucket=bucket, Key="key")
    assert stored["ETag"] == f'"{hashlib.md5(b"a" * 70_000 + b"b" + b"c" * 9).hexdigest()}"'


def test_two_lengths_are_refused(server: Server, bucket: str) -> None:
    with closing(connect(server)) as sock:
        lines = ("Transfer-Encoding: chunked", "Content-Length: 5", "Connection: close")
        sock.sendall(head(server, "PUT", presigned(server, bucket, "key"), *lines) + b"0\r\n\r\n")
        assert answer(sock).startswith(b"HTTP/1.1 400")
    assert server.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_refusal_reaches_a_client_that_sends_its_body_anyway(server: Server, bucket: str) -> None:
    with closing(connect(server)) as sock:
        sock.sendall(head(server, "PUT", f"/{bucket}/key", f"Content-Length: {4 << 20}", "Connection: close"))
        sock.sendall(b"x" * (4 << 20))
        received = answer(sock)
    assert received.startswith(b"HTTP/1.1 403")
    assert b"AccessDenied" in received


@pytest.mark.parametrize(("size", "status"), [(30_000, b"200"), (33_000, b"414")])
def test_request_lines_may_be_long(server: Server, size: int, status: bytes) -> None:
    with closing(connect(server)) as sock:
        sock.sendall(head(server, "GET", "/.s3lite/health?x=" + "a" * size, "Connection: close"))
        assert answer(sock).startswith(b"HTTP/1.1 " + status)


def test_connections_are_kept(server: Server, bucket: str) -> None:
    with closing(connect(server)) as sock:
        for _ in range(3):
            sock.sendall(head(server, "PUT", presigned(server, bucket, "key"), "Content-Length: 4") + b"body")
            received = b""
            while b"\r\n\r\n" not in received:
                received += sock.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")
            assert b"Connection: keep-alive" in received


def test_underscores_in_metadata_names_survive(server: Server, bucket: str) -> None:
    s3 = server.client()
    s3.put_object(Bucket=bucket, Key="key", Body=b"x", Metadata={"a_b": "1", "a-b": "2"})
    assert s3.head_object(Bucket=bucket, Key="key")["Metadata"] == {"a_b": "1", "a-b": "2"}


def test_a_slow_body_is_taken(server: Server, bucket: str) -> None:
    with closing(connect(server)) as sock:
        sock.sendall(
            head(server, "PUT", presigned(server, bucket, "key"), "Content-Length: 10", "Connection: close")
        )
        for _ in range(10):
            time.sleep(0.02)
            sock.sendall(b"x")
        assert answer(sock).startswith(b"HTTP/1.1 200 ")


def read_by_workers(server: Server) -> int:
    """Bytes that the workers have read of files and sockets (proc(5), rchar)."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(int(Path(f"/proc/{child}/io").read_text().split()[1]) for child in children)


@pytest.mark.parametrize("length", [1000, 64 << 10, 70_000, 1 << 20])
def test_a_range_is_all_that_is_read(server: Server, bucket: str, length: int) -> None:
    s3 = server.client()
    data = random.Random(7).randbytes(8 << 20)
    s3.put_object(Bucket=bucket, Key="key", Body=data)
    before = read_by_workers(server)
    for start in range(0, 10_000, 1000):
        found = s3.get_object(Bucket=bucket, Key="key", Range=f"bytes={start}-{start + length - 1}")
        assert found["Body"].read() == data[start : start + length]
    assert read_by_workers(server) - before < 10 * length + (1 << 20)
