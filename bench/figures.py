"""The rates that every comparison is made of: small requests at 8 connections, listings, 64 MiB bodies.

`Figures` measures any S3 server; `limits` what the same machine could do at most meanwhile. Nothing is
measured once: callers go round all figures several times and take medians, so that whatever else the
machine does falls on all of them alike.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import KIB, MIB, Client, Load, Signer, expect, pattern

CONNECTIONS = 8
BIG = 64 * MIB
SMALL = 4 * KIB
_MOST_PER_S = 9000  # small PUTs and DELETEs that are signed ahead for each second

Figure = Callable[[float], float]
"""Measures for about so many seconds; the rate."""


class Figures:
    """One server's figures. ``big`` and ``keys`` are smaller in tests."""

    def __init__(
        self, signer: Signer, *, big: int = BIG, keys: int = 10_000, connections: int = CONNECTIONS
    ) -> None:
        self._signer = signer
        host, port = signer.host.rsplit(":", 1)
        self._address = (host, int(port))
        self.load = Load(self._address, connections)  # of small requests; it keeps their latencies
        self._client = Client(signer)
        self._big = big
        self._keys = keys
        self.bucket = f"bench-{secrets.token_hex(4)}"
        self._body = secrets.token_bytes(SMALL)
        self._payload = hashlib.sha256(self._body).hexdigest()
        self._written: list[str] = []
        self._round = itertools.count()

    def prepare(self) -> None:
        """Make the bucket, the keys that are listed and read, and the large object."""
        expect(self._client.call("PUT", f"/{self.bucket}"), 200)
        targets = (f"/{self.bucket}/list/{number:06}" for number in range(self._keys))
        done, _ = self.load.run(self._puts(targets), 600)
        assert done == self._keys, f"{done} of {self._keys} keys"
        targets = (f"/{self.bucket}/tree/{number % 100:02}/{number}" for number in range(self._keys // 10))
        self.load.run(self._puts(targets), 600)
        expect(self._client.stream("PUT", f"/{self.bucket}/big", pattern(self._big), self._big), 200)

    def all(self, *, form: bool = True) -> dict[str, Figure]:
        """By name, in the order to measure them: DELETE removes what PUT made."""
        found = {
            "PUT 4 KiB": self.put,
            "GET 4 KiB": self.get,
            "HEAD": self.head,
            "DELETE": self.delete,
            "LIST 1000": self.list,
            "LIST 100 prefixes": self.list_prefixes,
            "PUT 64 MiB": self.put_big,
            "GET 64 MiB": self.get_big,
            "form POST 64 MiB": self.post_big,
        }
        if not form:
            del found["form POST 64 MiB"]
        return found

    # -- small requests, per second

    def _puts(self, targets: Iterator[str], extra: dict[str, str] | None = None) -> Iterator[bytes]:
        for target in targets:
            head = self._signer.head("PUT", target, payload=self._payload, length=SMALL, extra=extra)
            yield head + self._body

    def put(self, seconds: float) -> float:
        """New objects of 4 KiB, payload signed."""
        number = next(self._round)
        targets = [f"/{self.bucket}/put/{number}/{i:06}" for i in range(int(_MOST_PER_S * seconds) + 50)]
        requests = list(self._puts(iter(targets)))
        done, took = self.load.run(iter(requests), seconds)
        self._written += targets[:done]
        return done / took

    def put_with_callback(self, application: tuple[str, int]) -> Figure:
        """As `put`; each upload asks an application, whose answer is the upload's."""
        callback = {
            "callbackUrl": f"http://{application[0]}:{application[1]}/",
            "callbackBody": "bucket=${bucket}&object=${object}&size=${size}&etag=${etag}",
        }
        extra = {"x-amz-meta-callback": base64.b64encode(json.dumps(callback).encode()).decode()}

        def measure(seconds: float) -> float:
            number = next(self._round)
            targets = (f"/{self.bucket}/called/{number}/{i:06}" for i in range(int(_MOST_PER_S * seconds)))
            requests = list(self._puts(targets, extra))
            done, took = self.load.run(iter(requests), seconds)
            return done / took

        return measure

    def delete(self, seconds: float) -> float:
        """What `put` made."""
        chosen = self._written[: int(_MOST_PER_S * seconds) + 50]
        del self._written[: len(chosen)]
        if not chosen:
            raise RuntimeError("there is nothing to delete: its PUTs were refused")
        done, took = self.load.run(iter([self._signer.head("DELETE", target) for target in chosen]), seconds)
        return done / took

    def _cycle(self, method: str, seconds: float) -> float:
        numbers = [secrets.randbelow(self._keys) for _ in range(1000)]
        heads = [self._signer.head(method, f"/{self.bucket}/list/{number:06}") for number in numbers]
        done, took = self.load.run(itertools.cycle(heads), seconds, head=method == "HEAD")
        return done / took

    def get(self, seconds: float) -> float:
        """Objects of 4 KiB in random order."""
        return self._cycle("GET", seconds)

    def head(self, seconds: float) -> float:
        """As `get`, headers alone."""
        return self._cycle("HEAD", seconds)

    def list(self, seconds: float) -> float:
        """Pages of 1,000 keys from random places, one connection."""
        starts = [secrets.randbelow(max(self._keys - 1000, 1)) for _ in range(50)]
        heads = [
            self._signer.head(
                "GET", f"/{self.bucket}?list-type=2&prefix=list%2F&start-after=list%2F{start:06}"
            )
            for start in starts
        ]
        done, took = Load(self._address, 1).run(itertools.cycle(heads), seconds)
        return done / took

    def list_prefixes(self, seconds: float) -> float:
        """Pages of 100 common prefixes, one connection."""
        target = f"/{self.bucket}?delimiter=%2F&list-type=2&prefix=tree%2F"
        heads = itertools.repeat(self._signer.head("GET", target))
        done, took = Load(self._address, 1).run(heads, seconds)
        return done / took

    # -- large ones, MiB/s

    def _repeat(self, seconds: float, work: Callable[[], object]) -> float:
        self._client.close()  # a server ends connections that have been idle, and filling another takes minutes
        count = 0
        begun = time.perf_counter()
        while count == 0 or time.perf_counter() < begun + seconds:
            work()
            count += 1
        return count * self._big / MIB / (time.perf_counter() - begun)

    def put_big(self, seconds: float) -> float:
        """One stream, unsigned payload, overwriting."""
        target = f"/{self.bucket}/put-big"
        return self._repeat(
            seconds, lambda: expect(self._client.stream("PUT", target, pattern(self._big), self._big), 200)
        )

    def get_big(self, seconds: float) -> float:
        """One stream, discarded."""
        target = f"/{self.bucket}/big"
        return self._repeat(
            seconds, lambda: expect(self._client.call("GET", target, sink=lambda _: None), 200)
        )

    def post_big(self, seconds: float) -> float:
        """One stream, a form with a signed policy."""
        return self._repeat(
            seconds,
            lambda: expect(
                self._client.post_form(self.bucket, "post-big", pattern(self._big), self._big), 200, 201, 204
            ),
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


# ---------------------------------------------------------------- limits


def hello_rate(address: tuple[str, int], size: int, connections: int) -> Figure:
    """Requests/s of a WSGI server that answers ``size`` bytes and does nothing else."""
    request = f"GET /{size} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def measure(seconds: float) -> float:
        done, took = Load(address, connections).run(itertools.repeat(request), seconds)
        return done / took

    return measure


def md5_rate(seconds: float) -> float:
    """MiB/s of one core: what one upload stream with an MD5 as ETag cannot exceed."""
    buffer = secrets.token_bytes(MIB)
    digest = hashlib.md5(usedforsecurity=False)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        digest.update(buffer)
        count += 1
    return count / (time.perf_counter() - begun)


def sync_rate(directory: Path) -> Figure:
    """4 KiB appended and synced, per second, one after another: small durable PUTs without group commit."""

    def measure(seconds: float) -> float:
        buffer = secrets.token_bytes(SMALL)
        fd = os.open(directory / "synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        count, begun = 0, time.perf_counter()
        try:
            while time.perf_counter() < begun + seconds:
                os.write(fd, buffer)
                os.fdatasync(fd)
                count += 1
        finally:
            os.close(fd)
        return count / (time.perf_counter() - begun)

    return measure


def copy_rate(directory: Path, size: int = BIG) -> Figure:
    """MiB/s of copying a file of ``size`` bytes and syncing the copy."""

    def measure(seconds: float) -> float:
        source, target = directory / "copied", directory / "copy"
        if not source.exists():
            with source.open("wb") as file:
                file.writelines(pattern(size))
        count, begun = 0, time.perf_counter()
        while count == 0 or time.perf_counter() < begun + seconds:
            shutil.copyfile(source, target)
            with target.open("rb") as file:
                os.fdatasync(file.fileno())
            count += 1
        return count * size / MIB / (time.perf_counter() - begun)

    return measure


@contextmanager
def sendfile_rate(directory: Path, size: int = BIG) -> Iterator[Figure]:
    """MiB/s of a file sent by sendfile to a client that reads as `Figures.get_big` does."""
    path = directory / "sent"
    with path.open("wb") as file:
        file.writelines(pattern(size))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            _send_files(listener, path, size)
        address = listener.getsockname()
        try:
            yield lambda seconds: _receive(address, size, seconds)
        finally:
            with socket.create_connection(address) as last:
                last.sendall(b"q")
            os.waitpid(child, 0)


def _send_files(listener: socket.socket, path: Path, size: int) -> None:
    """The child's life: a whole file for each byte received, until ``q``."""
    with path.open("rb") as file:
        while True:
            connection, _ = listener.accept()
            while asked := connection.recv(1):
                if asked == b"q":
                    os._exit(0)
                sent = 0
                while sent < size:
                    sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)
            connection.close()


def _receive(address: tuple[str, int], size: int, seconds: float) -> float:
    view = memoryview(bytearray(MIB))
    count = 0
    with socket.create_connection(address) as connection:
        begun = time.perf_counter()
        while count == 0 or time.perf_counter() < begun + seconds:
            connection.sendall(b"g")
            left = size
            while left:
                left -= connection.recv_into(view)
            count += 1
        return count * size / MIB / (time.perf_counter() - begun)


@contextmanager
def nginx_rate(directory: Path, size: int = BIG) -> Iterator[Figure | None]:
    """MiB/s of a file that nginx sends, to one client; None where nginx is not installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        yield None
        return
    home = directory / "nginx"
    home.mkdir()
    home.chmod(0o755)
    with (home / "file").open("wb") as file:
        file.writelines(pattern(size))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    conf = home / "nginx.conf"
    conf.write_text(
        ("user root; " if os.geteuid() == 0 else "")  # the directory is this user's alone
        + f"daemon off; worker_processes 2; pid {home}/pid; error_log {home}/log; "
        "events {} http { access_log off; sendfile on; tcp_nopush on; "
        + "".join(f"{kind}_temp_path {home}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + f"server {{ listen 127.0.0.1:{port}; root {home}; }} }}"
    )  # fmt: skip
    process = subprocess.Popen([program, "-c", str(conf), "-e", f"{home}/log"])
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield lambda seconds: _fetch(port, seconds, size)
    finally:
        process.terminate()
        process.wait()


def _fetch(port: int, seconds: float, size: int) -> float:
    view = memoryview(bytearray(MIB))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    count, begun = 0, time.perf_counter()
    while count == 0 or time.perf_counter() < begun + seconds:
        connection.request("GET", "/file")
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        while answer.readinto(view):
            pass
        count += 1
    return count * size / MIB / (time.perf_counter() - begun)


# ---------------------------------------------------------------- rounds


def interleaved(figures: dict[str, Figure], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Each figure once a round, in order."""
    found: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(rounds):
        for name, measure in figures.items():
            found[name].append(measure(seconds))
    return found


def median_ratio(rates: list[float], limits: list[float]) -> float:
    """Median of the ratios of rates measured one after the other."""
    return statistics.median([rate / limit for rate, limit in zip(rates, limits, strict=True)])


def in_parallel(count: int, work: Callable[[int], object]) -> None:
    """Run ``work(i)`` in threads; raises the first exception."""
    faults: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  # raised below, in the caller's thread
            faults.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
