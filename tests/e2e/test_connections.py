"""Many connections at once: slow ones and waiting ones get out of the way of quick ones."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from .conftest import Server, running
from .test_wire import answer, connect, head, presigned

_THREADS = 24


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one worker with few threads, and a bucket."""
    settings = {"S3LITE_WORKERS": "1", "S3LITE_THREADS": str(_THREADS)}
    with running(tmp_path_factory.mktemp("busy"), **settings) as server:
        server.client().create_bucket(Bucket="bucket")
        server.client().put_object(Bucket="bucket", Key="small", Body=b"small")
        yield server


def workers(server: Server) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def threads(server: Server) -> int:
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in workers(server))


def slow_upload(server: Server, key: str) -> socket.socket:
    """An upload of which a part has been sent."""
    sock = connect(server)
    lines = ("Content-Length: 100000", "Connection: close")
    sock.sendall(head(server, "PUT", presigned(server, "bucket", key), *lines) + b"x" * 1000)
    return sock


def accepts(server: Server) -> bool:
    try:
        connect(server).close()
    except OSError:
        return False
    return True


def read_small(server: Server) -> bytes:
    return bytes(server.client().get_object(Bucket="bucket", Key="small")["Body"].read())


def test_quick_requests_pass_slow_uploads(busy: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(slow_upload(busy, f"slow-{i}"))) for i in range(_THREADS - 4)]
        assert read_small(busy) == b"small"
        for sock in slow:
            sock.sendall(b"x" * 99000)
        assert all(answer(sock).startswith(b"HTTP/1.1 200 ") for sock in slow)


def test_uploads_beyond_the_threads_are_told_to_come_back(busy: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(slow_upload(busy, f"slow-{i}"))) for i in range(_THREADS + 8)]
        assert read_small(busy) == b"small"
        for sock in slow:
            sock.sendall(b"x" * 99000)
        answers = [answer(sock) for sock in slow]
    refused = [received for received in answers if not received.startswith(b"HTTP/1.1 200 ")]
    assert 8 <= len(refused) < _THREADS
    assert all(b"<Code>SlowDown</Code>" in received for received in refused)


def test_heads_that_arrive_slowly_cost_no_thread(busy: Server) -> None:
    whole = head(busy, "GET", presigned(busy, "bucket", "small", "get_object"), "Connection: close")
    before = threads(busy)
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connect(busy))) for _ in range(60)]
        for sock in slow:
            sock.sendall(whole[:40])
        assert read_small(busy) == b"small"
        assert threads(busy) < before + 8
        for sock in slow:
            sock.sendall(whole[40:])
        assert all(answer(sock).endswith(b"small") for sock in slow)


def test_a_client_that_does_not_read_holds_up_nobody(busy: Server) -> None:
    busy.client().put_object(Bucket="bucket", Key="large", Body=bytes(32 << 20))
    with closing(connect(busy)) as sock:
        target = presigned(busy, "bucket", "large", "get_object")
        sock.sendall(head(busy, "GET", target, "Connection: close"))
        assert read_small(busy) == b"small"
        assert len(answer(sock)) > 32 << 20


def test_pipelined_requests_are_answered_in_order(busy: Server) -> None:
    put = presigned(busy, "bucket", "pipelined")
    get = presigned(busy, "bucket", "pipelined", "get_object")
    requests = [
        head(busy, "PUT", put, "Content-Length: 3") + b"one",
        head(busy, "GET", get),
        head(busy, "PUT", put, "Content-Length: 3") + b"two",
        head(busy, "GET", get, "Connection: close"),
    ]
    with closing(connect(busy)) as sock:
        sock.sendall(b"".join(requests))
        received = answer(sock)
    assert received.count(b"HTTP/1.1 200 ") == 4
    assert received.index(b"\r\n\r\none") < received.index(b"\r\n\r\ntwo")


def test_commits_at_once_are_all_answered(busy: Server) -> None:
    client = busy.client(max_pool_connections=16)
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for turn in range(10):
                client.put_object(Bucket="bucket", Key=f"many/{number}-{turn}", Body=b"x")
        except BaseException as error:  # noqa: BLE001  # looked at below
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert client.list_objects_v2(Bucket="bucket", Prefix="many/")["KeyCount"] == 160


def test_connections_spread_over_workers(server: Server) -> None:
    def sockets(pid: int) -> int:
        links = [link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
        return sum(1 for link in links if "socket:" in str(link.readlink()))

    while threads(server) < 10:  # of two workers: main, three of upkeep, leader; one may be ready long before
        time.sleep(0.05)
    before = {pid: sockets(pid) for pid in workers(server)}
    with ExitStack() as stack:
        for _ in range(40):
            sock = stack.enter_context(closing(connect(server)))
            sock.sendall(head(server, "GET", "/.s3lite/health"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        gained = [sockets(pid) - count for pid, count in before.items()]
    assert sum(gained) >= 38
    assert min(gained) >= 10


def test_a_request_in_progress_is_finished_after_sigterm(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.client().create_bucket(Bucket="bucket")
        idle = connect(server)
        with closing(slow_upload(server, "key")) as sock, closing(idle):
            server.process.send_signal(signal.SIGTERM)
            while accepts(server):
                time.sleep(0.05)
            sock.sendall(b"x" * 99000)
            assert answer(sock).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(20) == 0


def test_connections_beyond_the_setting_wait_to_be_accepted(tmp_path: Path) -> None:
    few = {"S3LITE_WORKERS": "1", "S3LITE_THREADS": "2", "S3LITE_HTTP_CONNECTIONS": "6"}
    health = b"GET /.s3lite/health HTTP/1.1\r\nHost: s3.test\r\n\r\n"
    with running(tmp_path, **few) as server, ExitStack() as stack:
        held = [stack.enter_context(closing(connect(server))) for _ in range(6)]
        for sock in held:
            sock.sendall(health)
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        waits = stack.enter_context(closing(connect(server)))
        waits.sendall(health)
        waits.settimeout(0.5)
        with pytest.raises(TimeoutError):
            waits.recv(1000)
        held[0].close()
        waits.settimeout(10)
        assert waits.recv(1000).startswith(b"HTTP/1.1 200")
