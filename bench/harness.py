"""What the benchmarks share: a server of their own, signed requests, a load generator, looks into /proc.

Everything runs on loopback. Requests are signed before the clock starts; small ones are replayed over
kept-alive connections by one epoll loop, large ones are streamed from one buffer in memory.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import http.client
import itertools
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ACCESS_KEY, SECRET_KEY = "bench-access", "bench-secret"
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256().hexdigest()
TICKS = os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------- the server


class Gunicorn:
    """A gunicorn in a session of its own, so that the whole of it can be stopped or killed by its group."""

    def __init__(
        self, arguments: list[str], *, env: Mapping[str, str], cwd: Path, log: Path, port: int
    ) -> None:
        self.address = ("127.0.0.1", port)
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *arguments],
                cwd=cwd,
                env=dict(env),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def wait_until_ready(self, path: str, deadline_s: float = 30) -> None:
        """Return when ``path`` answers 200. Raises RuntimeError."""
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                connection = http.client.HTTPConnection(*self.address, timeout=2)
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.03)
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")

    def memory_mib(self) -> float:
        """What the workers hold now, pages they share counted by halves (Pss)."""
        total = 0
        for pid in self.workers():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(rollup.partition("\nPss:")[2].split()[0])
        return total / 1024

    def workers(self) -> list[int]:
        """The pids of the worker processes."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()]

    def cpu_s(self) -> float:
        """CPU seconds that the workers have used."""
        total = 0
        for pid in self.workers():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def kill(self) -> None:
        """kill -9 to the master and all workers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it in order, by force after 15 s."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_environment(data_dir: Path, port: int, **settings: str) -> dict[str, str]:
    """Environment of a server, and of the command line on its data."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("S3LITE_")}
    return clean | {
        "S3LITE_BIND": f"127.0.0.1:{port}",
        "S3LITE_DATA_DIR": str(data_dir),
        "S3LITE_ACCESS_KEY": ACCESS_KEY,
        "S3LITE_SECRET_KEY": SECRET_KEY,
        **settings,
    }


def start_s3lite(directory: Path, *, port: int | None = None, **settings: str) -> Gunicorn:
    """s3lite as shipped (conf/gunicorn.conf.py) with its data and log in ``directory``."""
    port = port or free_port()
    server = Gunicorn(
        ["-c", "conf/gunicorn.conf.py", "wsgi"],
        env=server_environment(directory / "data", port, **settings),
        cwd=ROOT,
        log=directory / "server.log",
        port=port,
    )
    try:
        server.wait_until_ready("/.s3lite/ready")
    except BaseException:
        server.stop()
        raise
    return server


@contextmanager
def s3lite(directory: Path, **settings: str) -> Iterator[Gunicorn]:
    """`start_s3lite`, stopped at the end."""
    server = start_s3lite(directory, **settings)
    try:
        yield server
    finally:
        server.stop()


_HELLO = '''
SIZES = {}


def application(environ, start_response):
    """As many bytes as the path says; to a callback, that all is well."""
    if environ["REQUEST_METHOD"] == "POST":
        environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "15")])
        return (b'{"Status":"OK"}',)
    size = int(environ["PATH_INFO"][1:] or 0)
    body = SIZES.setdefault(size, b"x" * size)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(size))])
    return (body,)
'''


@contextmanager
def hello(directory: Path, workers: int, threads: int) -> Iterator[Gunicorn]:
    """A gunicorn (gthread) that answers ``/N`` with N bytes: what the WSGI server alone can do."""
    (directory / "hello.py").write_text(_HELLO)
    port = free_port()
    arguments = ["-k", "gthread", "-w", str(workers), "--threads", str(threads), "--keep-alive", "75"]
    arguments += ["-b", f"127.0.0.1:{port}", "--log-level", "warning", "hello"]
    log = directory / "hello.log"
    server = Gunicorn(arguments, env=os.environ, cwd=directory, log=log, port=port)
    try:
        server.wait_until_ready("/2")
        yield server
    finally:
        server.stop()


@contextmanager
def scratch(parent: str | None) -> Iterator[Path]:
    """A directory of this run's own, removed with everything in it."""
    path = Path(tempfile.mkdtemp(prefix="s3lite-bench-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# ---------------------------------------------------------------- requests


class Signer:
    """SigV4 in the Authorization header (API Reference, "Authenticating Requests")."""

    def __init__(
        self,
        address: tuple[str, int],
        access_key: str = ACCESS_KEY,
        secret_key: str = SECRET_KEY,
        region: str = "us-east-1",
    ) -> None:
        self.host = f"{address[0]}:{address[1]}"
        self.access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._date = ""
        self._renew()

    def _renew(self) -> None:
        """Sign with the present minute from now on."""
        self.timestamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M00Z")
        if self.timestamp[:8] != self._date:
            self._date = self.timestamp[:8]
            key = f"AWS4{self._secret_key}".encode()
            for word in (self._date, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, word.encode(), "sha256")
            self._key = key
            self.scope = f"{self._date}/{self._region}/s3/aws4_request"
        self._until = time.monotonic() + 60

    def sign(self, text: str) -> str:
        """Hex signature of a string to sign, or of a form's policy."""
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def headers(
        self, method: str, target: str, *, payload: str = EMPTY_SHA256, extra: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Signed headers of a request. The query of ``target`` is encoded and sorted already."""
        if time.monotonic() > self._until:
            self._renew()
        path, _, query = target.partition("?")
        headers = {"host": self.host, "x-amz-content-sha256": payload, "x-amz-date": self.timestamp}
        headers |= extra or {}
        names = ";".join(sorted(headers))
        lines = "".join([f"{name}:{headers[name]}\n" for name in sorted(headers)])
        request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = self.sign(f"AWS4-HMAC-SHA256\n{self.timestamp}\n{self.scope}\n{digest}")
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self.scope},"
            f"SignedHeaders={names},Signature={signature}"
        )
        return headers

    def head(
        self,
        method: str,
        target: str,
        *,
        payload: str = EMPTY_SHA256,
        length: int | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> bytes:
        """A request's head as it goes over the wire."""
        lines = [f"{method} {target} HTTP/1.1"]
        headers = self.headers(method, target, payload=payload, extra=extra)
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length is not None:
            lines += [f"Content-Length: {length}", "Content-Type: application/octet-stream"]
        return "\r\n".join([*lines, "", ""]).encode()

    def form(self, bucket: str, key: str, boundary: str) -> tuple[bytes, bytes]:
        """What surrounds the file of an upload form: fields with a signed policy before, the end after."""
        expiration = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        fields = {
            "key": key,
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": f"{self.access_key}/{self.scope}",
            "x-amz-date": self.timestamp,
        }
        document = {
            "expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "conditions": [{"bucket": bucket}, *({name: value} for name, value in fields.items())],
        }
        fields["policy"] = base64.b64encode(json.dumps(document).encode()).decode()
        fields["x-amz-signature"] = self.sign(fields["policy"])
        text = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        text += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        return text.encode(), f"\r\n--{boundary}--\r\n".encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end. ``body`` is empty when a sink took it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def etag(self) -> str:
        """Without its quotes."""
        return self.headers.get("etag", "").strip('"')


class Client:
    """One kept-alive connection that signs what it sends."""

    def __init__(self, signer: Signer, *, timeout_s: float = 120) -> None:
        self.signer = signer
        host, port = signer.host.rsplit(":", 1)
        self._connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s, blocksize=MIB)

    def call(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        extra: Mapping[str, str] | None = None,
        sink: Callable[[memoryview], object] | None = None,
    ) -> Answer:
        """A request with a small signed body. Raises OSError, http.client.HTTPException."""
        payload = hashlib.sha256(body).hexdigest()
        headers = self.signer.headers(method, target, payload=payload, extra=extra)
        self._connection.request(method, target, body or None, headers)
        return self._answer(sink)

    def stream(self, method: str, target: str, pieces: Iterable[bytes | memoryview], size: int) -> Answer:
        """An unsigned payload of ``size`` bytes, never held as a whole."""
        headers = self.signer.headers(method, target, payload=UNSIGNED)
        return self.send(method, target, headers, pieces, size)

    def post_form(self, bucket: str, key: str, pieces: Iterable[bytes | memoryview], size: int) -> Answer:
        """An upload form with a signed policy."""
        boundary = secrets.token_hex(16)
        before, after = self.signer.form(bucket, key, boundary)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}

        def whole() -> Iterator[bytes | memoryview]:
            yield before
            yield from pieces
            yield after

        return self.send("POST", f"/{bucket}", headers, whole(), len(before) + size + len(after))

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        pieces: Iterable[bytes | memoryview],
        size: int,
    ) -> Answer:
        """A request with headers that are signed already, and ``size`` bytes of body."""
        self._connection.putrequest(method, target, skip_host="host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            self._connection.putheader(name, value)
        self._connection.putheader("Content-Length", str(size))
        self._connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # the answer says why
            for piece in pieces:
                self._connection.sock.sendall(piece)
        return self._answer(None)

    def _answer(self, sink: Callable[[memoryview], object] | None) -> Answer:
        response = self._connection.getresponse()
        body = b""
        if sink is None or response.status >= 300:
            body = response.read()
        else:
            view = memoryview(bytearray(MIB))
            while count := response.readinto(view):
                sink(view[:count])
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()


def expect(answer: Answer, *statuses: int) -> Answer:
    """The answer, if its status is among those. Raises RuntimeError."""
    if answer.status not in statuses:
        raise RuntimeError(f"answered {answer.status}: {answer.body[:500]!r}")
    return answer


def path_of(bucket: str, key: str) -> str:
    """The request path of an object."""
    return f"/{bucket}/{quote(key, safe='/-_.~')}"


# ---------------------------------------------------------------- load


class Load:
    """Replays small requests over kept-alive connections, one outstanding on each, by one epoll loop.

    ``more`` are addresses that have the requests of the first, too: connections go round all of them.
    """

    def __init__(
        self, address: tuple[str, int], connections: int, *, more: Sequence[tuple[str, int]] = ()
    ) -> None:
        self._addresses = itertools.cycle((address, *more))
        self._count = connections
        self.latencies_s: list[float] = []  # of all runs

    def latency_ms(self, share: float) -> float:
        """What this share of the requests took at most."""
        ordered = sorted(self.latencies_s)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000

    def run(self, requests: Iterator[bytes], seconds: float, *, head: bool = False) -> tuple[int, float]:
        """Requests answered 2xx, and the seconds from the first to the last. Ends with time or requests.

        Raises RuntimeError on any other answer: a benchmark of refusals is worth nothing.
        """
        poll = select.epoll()
        sockets: dict[int, socket.socket] = {}
        partial: dict[int, bytearray] = {}
        sent: dict[int, float] = {}
        done = 0
        begun = last = time.perf_counter()
        stop = begun + seconds
        try:
            for _ in range(self._count):
                request = next(requests, None)
                if request is not None:
                    connection = self._connect(poll)
                    sockets[connection.fileno()] = connection
                    sent[connection.fileno()] = time.perf_counter()
                    connection.sendall(request)
            while sockets:
                for fd, _ in poll.poll(30):
                    connection = sockets[fd]
                    if not _complete(connection.recv(256 * KIB), fd, partial, head=head):
                        continue
                    done += 1
                    last = time.perf_counter()
                    self.latencies_s.append(last - sent[fd])
                    request = next(requests, None) if last < stop else None
                    if request is None:
                        poll.unregister(fd)
                        sockets.pop(fd).close()
                    else:
                        sent[fd] = time.perf_counter()
                        connection.sendall(request)
        finally:
            for connection in sockets.values():
                connection.close()
            poll.close()
        return done, last - begun

    def _connect(self, poll: select.epoll) -> socket.socket:
        connection = socket.create_connection(next(self._addresses), 30)
        connection.settimeout(None)  # a timeout would cost a system call before each other one
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection.fileno(), select.EPOLLIN)
        return connection


def _complete(data: bytes, fd: int, partial: dict[int, bytearray], *, head: bool) -> bool:
    """Whether the answer on ``fd`` is complete with ``data``; what is not is kept in ``partial``."""
    if not data:
        raise RuntimeError("the server closed a connection")
    have: bytes | bytearray = data
    if fd in partial:
        have = partial[fd]
        have += data
    end = have.find(b"\r\n\r\n")
    if end >= 0:
        if have[9:10] != b"2":
            raise RuntimeError(f"refused: {bytes(have[:600])!r}")
        at = have.find(b"ontent-Length: ", 0, end)
        length = 0 if head or at < 0 else int(have[at + 15 : have.find(b"\r", at)])
        chunked = at < 0 and not head and have.find(b"ransfer-Encoding: chunked", 0, end) >= 0
        if have.endswith(b"\r\n0\r\n\r\n") if chunked else len(have) >= end + 4 + length:
            partial.pop(fd, None)
            return True
    partial.setdefault(fd, bytearray(have))
    return False


def pattern(size: int, piece: int = MIB) -> Iterator[memoryview]:
    """``size`` bytes in pieces, from one buffer of ``piece`` bytes that begins anew with each."""
    view = memoryview(_pattern_block(piece))
    for _ in range(size // piece):
        yield view
    if size % piece:
        yield view[: size % piece]


_blocks: dict[int, bytes] = {}


def _pattern_block(piece: int) -> bytes:
    if piece not in _blocks:
        _blocks[piece] = secrets.token_bytes(piece)
    return _blocks[piece]
