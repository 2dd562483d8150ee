"""A whole request to a whole server: whatever is asked, no answer is the server's own fault."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from lxml import etree
from torture.driver import settings
from torture.operations import ROOT_KEY, ROOT_SECRET
from torture.parsers import text

from s3lite.app import Application, create_app
from s3lite.auth import sigv4
from s3lite.settings import CallbackSettings
from s3lite.times import Clock, amz_date

_LENGTHS = frozenset(("content-length", "transfer-encoding"))


@cache
def server() -> Application:
    """One for the process, with two buckets. Its callbacks end at a port of loopback where nobody listens."""
    directory = tempfile.TemporaryDirectory()
    app = create_app(
        replace(
            settings(Path(directory.name), durability="relaxed"),
            domains=text.DOMAINS,
            website_domains=("web.test",),
            callback=CallbackSettings(proxy="http://127.0.0.1:9"),
        )
    )
    atexit.register(directory.cleanup)
    atexit.register(app.close)
    versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    for line, body in (
        ("PUT /bucket", b""),
        ("PUT /versioned", b""),
        ("PUT /versioned?versioning", versioning),
        ("PUT /bucket/key", b"content"),
    ):
        status, _, answer = send(app, text.parse(f"{line}\nhost: h\nsign: root\n\n".encode() + body))
        assert status == 200, answer
    return app


def request(data: bytes) -> None:
    """A request, signed by the operator if it has a line ``sign``."""
    status, headers, answer = send(server(), text.parse(data))
    assert status != 500, answer
    for name, value in headers:
        assert not set("\r\n\0") & set(name + value), (name, value)
    kinds = [value for name, value in headers if name.lower() == "content-type"]
    if answer and status >= 400 and kinds == ["application/xml"]:
        etree.fromstring(answer)


def send(app: Application, asked: text.Request) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of the answer."""
    if "sign" in asked.lowered:
        asked = _signed(asked)
    asked.headers[:] = [(name, value) for name, value in asked.headers if name.lower() not in _LENGTHS]
    asked.headers.append(("content-length", str(len(asked.body))))
    answers: list[tuple[str, list[tuple[str, str]]]] = []
    body = app(text.environ(asked), lambda status, headers, *_: answers.append((status, headers)))
    try:
        answer = b"".join(body)
    finally:
        getattr(body, "close", lambda: None)()
    ((status, headers),) = answers
    return int(status[:3]), headers, answer


def _signed(asked: text.Request) -> text.Request:
    """The request with a V4 signature over everything."""
    headers = [
        (name, value) for name, value in asked.headers if name.lower() not in ("sign", "authorization")
    ]
    now = amz_date(Clock().time())
    for name, value in (("host", "h"), ("x-amz-date", now), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")):
        if name not in dict(headers) or name == "x-amz-date":
            headers = [*(pair for pair in headers if pair[0] != name), (name, value)]
    sent = asked._replace(headers=headers)
    head = text.head(sent)
    names = sorted(name for name in head.headers if name == "host" or name.startswith(("x-amz-", "callback")))
    canonical = sigv4.canonical_request(
        head.method,
        sigv4.canonical_uri(head.path),
        sigv4.canonical_query(head.query),
        sigv4.canonical_headers(head.headers, names),
        ";".join(names),
        head.headers["x-amz-content-sha256"],
    )
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    key = sigv4.signing_key(ROOT_SECRET, now[:8], "us-east-1")
    signature = sigv4.signature(key, sigv4.string_to_sign(now, scope, canonical))
    credential = f"Credential={ROOT_KEY}/{scope},SignedHeaders={';'.join(names)},Signature={signature}"
    return sent._replace(headers=[*headers, ("authorization", f"{sigv4.ALGORITHM} {credential}")])


PARSERS: dict[str, Callable[[bytes], object]] = {"request": request}
