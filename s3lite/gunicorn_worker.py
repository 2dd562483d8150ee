"""gunicorn's threaded worker with three things that an object store needs.

``100 Continue`` is sent when the application first reads the body, not before it has seen the head:
an upload that is refused is refused before its bytes are asked for (RFC 9110, 10.1.1). And a
connection that neither sends nor takes a byte for ``http.idle_timeout_s`` ends instead of holding its
thread for ever. And header names are handed on as they were sent: metadata names may hold ``_``, which
WSGI folds into ``-``, while signatures cover the true name.
"""

from __future__ import annotations

import socket
from typing import Any, ClassVar

from gunicorn.http import Request, RequestParser
from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """``worker_class = "s3lite.gunicorn_worker.Worker"``."""

    idle_timeout_s: ClassVar[float] = 60.0  # set by conf/gunicorn.conf.py

    def init_process(self) -> None:
        RequestParser.mesg_class = _Request
        super().init_process()

    def handle_request(self, req: Any, conn: Any) -> bool:
        req.body.raw_headers = req.headers
        if req.version < (1, 1) or ("EXPECT", "100-continue") not in (
            (name, value.lower()) for name, value in req.headers if name == "EXPECT"
        ):
            return bool(super().handle_request(req, conn))
        body = req.body = _BodyOnDemand(req.body, conn.sock)
        announced_close = req.should_close
        # Of a body that was never asked for nobody knows whether it comes: no request can follow it.
        req.should_close = lambda: not body.asked or announced_close()
        return bool(super().handle_request(req, conn)) and body.asked


class _Request(Request):  # type: ignore[misc]  # gunicorn has no types
    """Leaves ``Expect`` to this module: no early 100, and no 417 for words that nobody defines."""

    _policy_expect_continue = False

    def __init__(self, cfg: Any, unreader: Any, peer_addr: Any, req_number: int = 1) -> None:
        unreader.sock.settimeout(Worker.idle_timeout_s)  # while the head is read, too
        super().__init__(cfg, unreader, peer_addr, req_number)


class _BodyOnDemand:
    """A request body that asks for itself at the first read."""

    def __init__(self, body: Any, sock: socket.socket) -> None:
        self._body = body
        self._sock = sock
        self.raw_headers = body.raw_headers
        self.asked = False

    def read(self, size: int = -1) -> bytes:
        if not self.asked:
            self.asked = True
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        data: bytes = self._body.read(None if size < 0 else size)
        return data

    @property
    def failed(self) -> bool:
        return bool(getattr(self._body, "failed", False))
