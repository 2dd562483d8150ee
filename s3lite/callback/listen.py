"""A receiver of callbacks: for trying things out (`s3lite callback listen`), examples and tests.

It verifies both signatures of what it gets and answers JSON, or what it was told to answer.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from s3lite.callback.verify import VerificationError, oss_signature_fits, verify

_MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """A callback as it came in. Header names are lower case. Verdicts: valid, "not checked", or why not."""

    target: str
    headers: Mapping[str, str]
    body: bytes
    webhook: str
    oss: str
    connection: int  # a number per connection, to see that one is used again


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer."""

    body: bytes = b'{"Status":"OK"}'
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class Receiver:
    """An HTTP server in a thread; use it in a ``with`` statement.

    ``secrets`` (whsec_…), ``public_keys`` (whpk_…) and ``oss_pem`` are what signatures are checked
    against. Answers come from ``script`` in turn, then from ``default``. ``on_request`` runs before
    the answer, in the connection's thread, and may return an `Answer` of its own.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        secrets: Sequence[str] = (),
        public_keys: Sequence[str] = (),
        oss_pem: bytes = b"",
        default: Answer | None = None,
        on_request: Callable[[Received], Answer | None] | None = None,
    ) -> None:
        self.requests: list[Received] = []
        self.script: deque[Answer] = deque()
        self.default = default or Answer()
        self._secrets = secrets
        self._public_keys = public_keys
        self._oss_pem = oss_pem
        self._on_request = on_request
        self._arrived = threading.Condition()
        self._server = _Server((host, port), _handler(self))
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return str(host), port

    def url(self, target: str = "/") -> str:
        """A URL for ``callbackUrl``."""
        host, port = self.address
        return f"http://{host}:{port}{target}"

    def wait(self, count: int = 1, timeout_s: float = 5.0) -> list[Received]:
        """The first ``count`` callbacks, as soon as they are there. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self.requests)} of {count} callbacks arrived")
            return self.requests[:count]

    def start(self) -> None:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def serve_forever(self) -> None:
        """Serve in this thread until it is interrupted."""
        self._server.serve_forever()

    def close(self) -> None:
        """Stop listening."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, target: str, headers: Mapping[str, str], body: bytes, connection: int) -> Answer:
        """Record one callback and choose its answer."""
        received = Received(
            target,
            headers,
            body,
            webhook=self._webhook_verdict(headers, body),
            oss=self._oss_verdict(target, headers, body),
            connection=connection,
        )
        with self._arrived:
            self.requests.append(received)
            scripted = self.script.popleft() if self.script else self.default
            self._arrived.notify_all()
        own = self._on_request(received) if self._on_request else None
        return own or scripted

    def _webhook_verdict(self, headers: Mapping[str, str], body: bytes) -> str:
        if not self._secrets and not self._public_keys:
            return "not checked"
        try:
            verify(headers, body, secrets=self._secrets, public_keys=self._public_keys)
        except VerificationError as error:
            return str(error)
        return "valid"

    def _oss_verdict(self, target: str, headers: Mapping[str, str], body: bytes) -> str:
        if not self._oss_pem:
            return "not checked"
        fits = oss_signature_fits(target, body, headers.get("authorization", ""), self._oss_pem)
        return "valid" if fits else "no signature fits"


# ---------------------------------------------------------------- the server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that is killed breaks its connections, which is nothing to print."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body in one segment

        def do_POST(self) -> None:  # the name that http.server asks for
            size = self.headers.get("Content-Length", "")
            if not (size.isascii() and size.isdigit()) or int(size) > _MAX_BODY:
                self.send_error(411)
                return
            body = self.rfile.read(int(size))
            if len(body) < int(size):  # the sender is gone
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.take(self.path, headers, body, self.client_address[1])
            if answer.delay_s:
                time.sleep(answer.delay_s)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent: what matters is recorded or printed."""

    return Handler
