"""Requests as text files: a request line without version, headers, an empty line, the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead
from s3lite.target import request_head

DOMAINS = ("s3.test",)
NOW = 1_795_000_000.0
"""When the signed requests of the corpus were sent: 18 November 2026."""


class Request(NamedTuple):
    """What a peer sends, as a web server would hand it on: no line ends inside lines."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def lowered(self) -> dict[str, str]:
        """Headers by name in lower case, the last of repeated ones."""
        return {name.lower(): value for name, value in self.headers}


def parse(data: bytes) -> Request:
    """Any bytes are a request of some kind."""
    head, _, body = data.partition(b"\n\n")
    lines = head.decode("latin-1").replace("\r", "").replace("\0", "").split("\n")
    method, _, target = lines[0].partition(" ")
    headers = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name:
            headers.append((name, value.strip(" \t")))
    return Request(method or "GET", target.replace(" ", "") or "/", headers, body)


class Input:
    """A body, and the headers as they were sent: what `s3lite.gunicorn_worker` gives."""

    def __init__(self, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.raw_headers = headers
        self._body = body

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes."""
        if size < 0:
            size = len(self._body)
        piece, self._body = self._body[:size], self._body[size:]
        return piece


def environ(request: Request) -> dict[str, Any]:
    """The WSGI environment of a request."""
    path, _, query = request.target.partition("?")
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    values = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.target,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "s3.test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": Input(request.body, request.headers),
        "wsgi.input_terminated": True,
    }
    for name, value in request.headers:
        values["HTTP_" + name.upper().replace("-", "_")] = value
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if f"HTTP_{name}" in values:
            values[name] = values.pop(f"HTTP_{name}")
    return values


def head(request: Request) -> RequestHead:
    """What the server makes of a request's head. Raises S3Error."""
    return request_head(environ(request), DOMAINS)


def refusal(call: Callable[[], object]) -> Code | None:
    """The code with which something is refused; None when it is not."""
    try:
        call()
    except S3Error as problem:
        return problem.code
    return None
