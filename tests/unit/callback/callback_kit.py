"""What the callback tests share: events, specs, and servers that misbehave."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from s3lite.callback.image import ImageInfo
from s3lite.callback.render import Event
from s3lite.callback.spec import CallbackSpec, RawCallback, parse
from s3lite.model import AccessKey, Account

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # shared, slow cores
VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "callback"
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
REQUESTER = AccessKey("AKEXAMPLE", "secret", Account("alice", "Alice"), webhook_secret=SECRET)
WEBHOOK_ID = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def b64(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def event(image: list[Any] | None = None, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "bucket": "bkt", "key": "dir/k", "etag": "e" * 32, "size": 15, "mime_type": "text/plain",
        "operation": "PutObject", "client_ip": "192.0.2.7", "request_id": "REQ1", "callback_id": WEBHOOK_ID,
        "event_time": "2026-01-31T01:02:03Z", "image": ImageInfo(*image) if image else None,
    }  # fmt: skip
    return Event(**{**values, **changes})


def spec(*urls: str, variables: dict[str, str] | None = None, **fields: Any) -> CallbackSpec:
    document = {"callbackUrl": ";".join(urls), "callbackBody": "size=${size}", **fields}
    return parse(RawCallback("s3-header", b64(document), b64(variables) if variables else ""))


class RawServer:
    """Runs ``talk(connection, number)`` for each connection, in threads; closes it afterwards."""

    def __init__(self, talk: Callable[[socket.socket, int], None]) -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.heads: list[bytes] = []
        self._open: list[socket.socket] = []

    def url(self, target: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{target}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            self._talk(connection, number)
        except OSError:
            pass
        finally:
            connection.close()

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()


def read_request(connection: socket.socket) -> bytes:
    """Head and body of one request; b"" when the peer closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(answer: bytes, *, keep: bool = False) -> Callable[[socket.socket, int], None]:
    def talk(connection: socket.socket, _: int) -> None:
        while read_request(connection):
            connection.sendall(answer)
            if not keep:
                return

    return talk
