"""Requests under gunicorn: heads that can be read in one way only, bodies straight off the socket.

Bodies are asked for when they are wanted, and dropped without waiting when nobody wants them.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import Any, ClassVar

from gunicorn.http import Request
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import InvalidHeader, LimitRequestHeaders, UnsupportedTransferCoding
from gunicorn.http.unreader import SocketUnreader

from s3lite.crew import Crew
from s3lite.errors import Code, S3Error

HEAD_MOST = 256 << 10
"""Bytes of a head, which are collected without a thread."""

_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")  # RFC 3986, 3.2.2
_PEERS_REMEMBERED = 1024
_LOOKS, _AT_ONCE = 4, 256 << 10  # at what has arrived of a body that nobody wants; bytes


class StrictRequest(Request):  # type: ignore[misc]  # gunicorn has no types
    """Leaves ``Expect`` to this module: no early 100, and no 417 for words that nobody defines.

    Refuses what this server and a proxy before it might understand differently (`_check_framing`).
    """

    _policy_expect_continue = False
    _trust: ClassVar[dict[str, Any]] = {}  # what peers may set, by address

    def _peer_trusted_for_forwarded(self) -> Any:
        peer = self.peer_addr[0] if isinstance(self.peer_addr, tuple) else ""
        found = self._trust.get(peer)
        if found is None:
            if len(self._trust) >= _PEERS_REMEMBERED:
                self._trust.clear()
            found = self._trust[peer] = super()._peer_trusted_for_forwarded()
        return found

    def parse(self, unreader: Any) -> Any:
        self.max_buffer_headers = HEAD_MOST  # gunicorn would collect all fields at their largest: 3 MiB
        return super().parse(unreader)

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> Any:
        if len(data) > HEAD_MOST:
            raise LimitRequestHeaders(f"{len(data)} bytes, of at most {HEAD_MOST}")
        return super().parse_headers(data, from_trailer)

    def set_body_reader(self) -> None:
        self._check_framing()
        super().set_body_reader()

    def _check_framing(self) -> None:
        """Raise InvalidHeader, UnsupportedTransferCoding unless host and length are said in one way.

        RFC 9112, 3.2 and 6.1. ``Content_Length`` is none of them, but some proxies take it for one.
        """
        hosts = []
        for name, value in self.headers:
            if name == "HOST":
                hosts.append(value)
            elif name == "TRANSFER-ENCODING" and value.lower() != "chunked":
                raise UnsupportedTransferCoding(f"Transfer-Encoding: {value[:64]!r} is not chunked")
            elif name in ("TRANSFER_ENCODING", "CONTENT_LENGTH"):
                raise InvalidHeader(name, req=self)
        if len(hosts) > 1 or (not hosts and self.version >= (1, 1)) or not all(map(_HOST.fullmatch, hosts)):
            raise InvalidHeader("HOST", req=self)
        if not self.uri.startswith("/") and "://" in self.uri:
            authority = self.uri.partition("://")[2].partition("/")[0].partition("?")[0]
            if authority.lower() != "".join(hosts).lower():
                raise InvalidHeader("HOST differs from the request target's", req=self)


class Pace:
    """How fast a peer sends while somebody waits for it: of a peer that drips each byte would seem alive."""

    least: ClassVar[int] = 0  # bytes per second; set by gunicorn_conf, as is
    window_s: ClassVar[float] = 60.0  # the time that is looked at

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._bytes = 0

    def note(self, size: int, waited_s: float) -> None:
        """So many bytes came after so long a wait. Raises TimeoutError when that is too little."""
        self._waited_s += waited_s
        self._bytes += size
        if self._waited_s < self.window_s:
            return
        if self._bytes < self.least * self._waited_s:
            raise TimeoutError(f"the client sent {self._bytes} bytes in {self._waited_s:.0f} s")
        self._waited_s, self._bytes = 0.0, 0


class PacedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """What gunicorn reads through: chunked bodies, and everything on TLS."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._pace = Pace()

    def chunk(self, size_hint: int | None = None) -> bytes:
        begun_s = time.monotonic()
        data: bytes = super().chunk(size_hint)
        self._pace.note(len(data), time.monotonic() - begun_s)
        return data


class Body:
    """The body of a request as ``wsgi.input``; asks for itself where the client waits for that."""

    def __init__(self, req: Any, sock: socket.socket, crew: Crew) -> None:
        self._body = req.body
        self._sock = sock
        self._crew = crew
        self._pace: Pace | None = None  # of bodies that are waited for
        self.raw_headers = req.headers
        self.awaits_continue = req.version >= (1, 1) and any(
            name == "EXPECT" and value.lower() == "100-continue" for name, value in req.headers
        )
        reader = self._body.reader
        self.drops_rest = not isinstance(sock, ssl.SSLSocket)  # nobody else need read what nobody wants
        self._direct: Any = reader if isinstance(reader, LengthReader) and self.drops_rest else None

    def is_finished(self) -> bool:
        """Whether the next request can follow; what has arrived and was not read is dropped. Never waits.

        A body that was never asked for may come or not: nothing can follow it. On TLS gunicorn looks itself.
        """
        if self.awaits_continue or self.failed:
            return False
        if self._direct is None:
            return not self.drops_rest or getattr(self._body.reader, "parser", None) is None
        left: int = self._direct.length
        left -= len(self._buffered(left))
        with suppress(OSError):  # that nothing has arrived is one
            for _ in range(_LOOKS):
                left -= len(self._sock.recv(min(left, _AT_ONCE), socket.MSG_DONTWAIT)) if left else 0
        self._direct.length = left
        return left == 0

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all of them unless the body or the connection ends.

        Raises OSError, and SlowDown when as many requests as may are waiting for something already.
        """
        if self.awaits_continue:
            self.awaits_continue = False
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._direct is None:
            self._wait()
            data: bytes = self._body.read(None if size < 0 else size)
            return data
        left: int = self._direct.length
        wanted = left if size < 0 else min(size, left)
        if wanted == 0:
            return b""
        data = self._buffered(wanted)
        if len(data) < wanted:
            data = self._receive(data, wanted)
        self._direct.length = left - len(data)
        return data

    def _buffered(self, wanted: int) -> bytes:
        """What arrived together with the head."""
        unreader = self._direct.unreader
        if not unreader.buf.tell():
            return b""
        data: bytes = unreader.buf.getvalue()
        unreader.buf = io.BytesIO()
        unreader.buf.write(data[wanted:])
        return data[:wanted]

    def _receive(self, begun: bytes, wanted: int) -> bytes:
        """``begun`` and what follows it on the socket."""
        if self._crew.leads():
            with suppress(BlockingIOError):
                begun += self._sock.recv(wanted - len(begun), socket.MSG_DONTWAIT)
            if len(begun) == wanted:
                return begun
            self._wait()
        begun_s = time.monotonic()
        try:
            data = self._sock.recv(wanted - len(begun), socket.MSG_WAITALL)
        except BlockingIOError:
            raise TimeoutError("the client has sent nothing for too long") from None
        self._pace = self._pace or Pace()
        self._pace.note(len(data), time.monotonic() - begun_s)
        return begun + data if begun else data

    def _wait(self) -> None:
        if not self._crew.hand_over():
            raise S3Error(Code.SlowDown, headers={"Retry-After": "1"})

    @property
    def failed(self) -> bool:
        return bool(self._body.failed)
