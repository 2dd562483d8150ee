"""The server's own operations, called in process as the signed-in key: what the console is made of."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

from s3lite.context import IDENTITY
from s3lite.model import AccessKey, Identity
from s3lite.wire import xml

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An operation's answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status < 300

    @property
    def xml(self) -> xml.Element:
        """The document that it answered."""
        return xml.parse(self.body, None)

    @property
    def problem(self) -> str:
        """What went wrong, in the server's words; "" when nothing did."""
        if self.ok:
            return ""
        if not self.body:
            return f"Status {self.status}"
        document = self.xml
        message = xml.text(document, "Message") or xml.text(document, "Code")
        name, value = xml.text(document, "ArgumentName"), xml.text(document, "ArgumentValue")
        if not name or not value or value in message:
            return message
        return f"{message.rstrip('.:')}. {name}: {value}"


class S3:
    """Operations as one access key, on behalf of one browser request."""

    def __init__(self, wsgi: Wsgi, environ: Mapping[str, Any], key: AccessKey) -> None:
        self._wsgi = wsgi
        self._inherited = {
            name: environ[name]
            for name in ("REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "HTTP_HOST", "wsgi.url_scheme")
            if name in environ
        }
        self._identity = Identity("console", key)

    def call(
        self,
        method: str,
        bucket: str = "",
        key: str = "",
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """One operation. ``query`` values "" are sent as bare names."""
        path = "/" + quote(bucket, safe="") + ("/" + quote(key, safe="/") if key else "")
        text = urlencode(dict(query or {}), quote_via=quote)
        environ: dict[str, Any] = {
            "SERVER_NAME": "console",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            **self._inherited,
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": text,
            "RAW_URI": f"{path}?{text}" if text else path,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            IDENTITY: self._identity,
        }
        if body:  # DeleteObjects wants it, the others take it
            digest = hashlib.md5(body, usedforsecurity=False).digest()
            environ["HTTP_CONTENT_MD5"] = base64.b64encode(digest).decode("ascii")
        for name, value in (headers or {}).items():
            variable = name.upper().replace("-", "_")
            environ[variable if variable == "CONTENT_TYPE" else f"HTTP_{variable}"] = value
        answer: list[Any] = []
        pieces = self._wsgi(environ, lambda status, sent, *_: answer.extend((status, sent)))
        try:
            content = b"".join(pieces)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        status, sent = answer[0], answer[1]
        return Reply(int(status[:3]), {name.lower(): value for name, value in sent}, content)
