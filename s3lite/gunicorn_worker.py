"""gunicorn's threaded worker with four things that an object store needs.

- ``100 Continue`` is sent when the application first reads the body, not before it has seen the head:
  an upload that is refused is refused before its bytes are asked for (RFC 9110, 10.1.1).
- Bodies of known length are read straight off the socket: gunicorn's own reader copies each byte
  several times (measured: twice the rate for a PUT of 64 MiB without it).
- A connection that neither sends nor takes a byte for ``http.idle_timeout_s`` ends instead of holding
  its thread for ever. The kernel keeps that time: Python's own time-outs cost a poll per call.
- Header names are handed on as they were sent: metadata names may hold ``_``, which WSGI folds into
  ``-``, while signatures cover the true name.
"""

from __future__ import annotations

import io
import socket
import ssl
import struct
import sys
from contextlib import suppress
from typing import Any, ClassVar

from gunicorn.http import Request, RequestParser
from gunicorn.http.body import LengthReader
from gunicorn.workers.gthread import ThreadWorker

# Threads that wait for the GIL get it sooner than after the usual 5 ms (measured: 7 % more small PUTs).
_SWITCH_INTERVAL_S = 0.0005


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """``worker_class = "s3lite.gunicorn_worker.Worker"``."""

    idle_timeout_s: ClassVar[float] = 60.0  # set by conf/gunicorn.conf.py

    def init_process(self) -> None:
        RequestParser.mesg_class = _Request
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        super().init_process()

    def handle_request(self, req: Any, conn: Any) -> bool:
        body = req.body = _Body(req, conn.sock)
        announced_close = req.should_close
        # Of a body that was never asked for nobody knows whether it comes: no request can follow it.
        req.should_close = lambda: body.awaits_continue or announced_close()
        return bool(super().handle_request(req, conn)) and not body.awaits_continue


class _Request(Request):  # type: ignore[misc]  # gunicorn has no types
    """Leaves ``Expect`` to this module: no early 100, and no 417 for words that nobody defines."""

    _policy_expect_continue = False

    def __init__(self, cfg: Any, unreader: Any, peer_addr: Any, req_number: int = 1) -> None:
        if req_number == 1:
            _limit_idle_time(unreader.sock, Worker.idle_timeout_s)
        super().__init__(cfg, unreader, peer_addr, req_number)


def _limit_idle_time(sock: socket.socket, seconds: float) -> None:
    """Have the kernel end reads that wait this long, and connections whose peer takes nothing for so long."""
    interval = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
    with suppress(OSError, AttributeError):  # no TCP (a Unix socket), or not Linux
        # For sendfile, which waits by itself: a peer that keeps its window shut is as good as gone.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


class _Body:
    """The body of a request as ``wsgi.input``; asks for itself where the client waits for that."""

    def __init__(self, req: Any, sock: socket.socket) -> None:
        self._body = req.body
        self._sock = sock
        self.raw_headers = req.headers
        self.awaits_continue = req.version >= (1, 1) and any(
            name == "EXPECT" and value.lower() == "100-continue" for name, value in req.headers
        )
        reader = self._body.reader
        is_direct = isinstance(reader, LengthReader) and not isinstance(sock, ssl.SSLSocket)
        self._direct: Any = reader if is_direct else None

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all of them unless the body or the connection ends. Raises OSError."""
        if self.awaits_continue:
            self.awaits_continue = False
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._direct is None:
            data: bytes = self._body.read(None if size < 0 else size)
            return data
        left: int = self._direct.length
        wanted = left if size < 0 else min(size, left)
        if wanted == 0:
            return b""
        data = self._buffered(wanted) or self._receive(wanted)
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

    def _receive(self, wanted: int) -> bytes:
        try:
            return self._sock.recv(wanted, socket.MSG_WAITALL)
        except BlockingIOError:
            raise TimeoutError("the client has sent nothing for too long") from None

    @property
    def failed(self) -> bool:
        return bool(self._body.failed)
