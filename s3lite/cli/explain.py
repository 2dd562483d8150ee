"""``s3lite explain-signature``: why a request's signature fits, or does not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TextIO
from urllib.parse import unquote_to_bytes

import click

from s3lite.cli.base import Refused, app, shared_options
from s3lite.errors import Code, S3Error
from s3lite.model import AccessKey, Account, RequestHead
from s3lite.times import Clock, parse_amz_date, parse_http_date

_SHOWN = ("StringToSign", "CanonicalRequest")


@click.command("explain-signature")
@click.argument("request_file", type=click.File("r", encoding="latin-1"), default="-")
@click.option("--secret-key", help="Check against this secret instead of the one that is stored.")
@shared_options
def explain_signature(request_file: TextIO, secret_key: str | None) -> None:
    """Say why the signature of a request fits or not.

    Reads a request as it goes over the wire: the request line and the headers. `curl -v` prints it (lines
    that begin with "> " are taken as they are), and so does a proxy's debug log. The body is not needed.
    The request's age does not matter: it is looked at as if it had just been sent.

    \b
    curl -v … 2>&1 | s3lite explain-signature
    s3lite explain-signature request.txt --secret-key "$SECRET"
    """
    head = read_head(request_file.read())
    with app().storage(create=False) as storage, storage.catalog.read() as tx:

        def lookup(name: str) -> AccessKey | None:
            found = tx.access_key(name)
            if secret_key is None:
                return found
            account = found.account if found else Account("somebody", "")
            return replace(found or AccessKey(name, "", account), secret_key=secret_key, enabled=True)

        problem, scheme, signed = _verdict(head, lookup)
        hints = list(_hints(head, lookup)) if problem is not None else []
    if problem is None:
        app().emit(
            {"fits": True, "scheme": scheme, "signed_headers": signed}, f"The signature fits ({scheme})."
        )
        return
    document = {
        "fits": False,
        "code": problem.code.name,
        "message": problem.message,
        **{name: problem.details[name] for name in _SHOWN if name in problem.details},
        "hints": hints,
    }
    lines = [f"{problem.code.name}: {problem.message}"]
    for name in _SHOWN:
        if name in problem.details:
            text = "\n".join(f"  | {line}" for line in problem.details[name].split("\n"))
            lines += ["", f"The server's {name}; compare it line by line with your client's:", text]
    lines += ["", *(f"→ {hint}" for hint in hints)]
    app().emit(document, "\n".join(lines))
    raise Refused("The signature does not fit.")


def read_head(text: str) -> RequestHead:
    """The head of a request in text, perhaps with the marks of ``curl -v``. Raises Refused."""
    from s3lite.target import request_head

    lines = [line.rstrip("\r") for line in text.splitlines()]
    if any(line.startswith("> ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith(">")]
    lines = lines[next((at for at, line in enumerate(lines) if line.strip()), 0) :]
    words = lines[0].split() if lines else []
    if len(words) < 2 or not words[1].startswith(("/", "http")):
        raise Refused("The text must begin with a request line such as: GET /bucket/key HTTP/1.1")
    headers = []
    for line in lines[1:]:
        if not line.strip():
            break
        name, colon, value = line.partition(":")
        if not colon:
            raise Refused(f"This is no header: {line[:80]}")
        headers.append((name.strip(), value.strip()))
    path = words[1].partition("?")[0]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": words[0],
        "RAW_URI": words[1],
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": words[1].partition("?")[2],
        "wsgi.input": _Headers(headers),
    }
    try:
        return request_head(environ, app().settings.domains)
    except S3Error as error:
        raise Refused(error.message) from None


class _Headers(io.BytesIO):
    """Headers as the server's own worker hands them on."""

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        super().__init__()
        self.raw_headers = headers


class _Then(Clock):
    """The moment at which the request says that it was signed."""

    def __init__(self, head: RequestHead) -> None:
        query = {name.lower(): value for name, value in head.query_items}
        for text in (
            head.headers.get("x-amz-date") or head.headers.get("x-oss-date") or "",
            query.get("x-amz-date") or query.get("x-oss-date") or "",
            head.headers.get("date", ""),
        ):
            seconds = parse_amz_date(text) or (parse_http_date(text) if text else None)
            if seconds:
                self._now = seconds
                return
        self._now = 0.0 if "expires" in query else super().time()

    def time(self) -> float:
        return self._now


def _verdict(head: RequestHead, lookup: Any) -> tuple[S3Error | None, str, list[str]]:
    """What the server would say; None and how it was signed when it fits."""
    from s3lite.auth.authenticate import Authenticator
    from s3lite.auth.oss import OssAuthenticator, recognise

    settings = app().settings
    kind = OssAuthenticator if recognise(head) else Authenticator
    authenticator = kind(
        lookup=lookup,
        clock=_Then(head),
        region=settings.region,
        strict_region=settings.http.strict_region,
        clock_skew_s=settings.http.clock_skew_s,
        endpoint_aliases=settings.http.endpoint_aliases,
    )
    try:
        found = authenticator.request(head)
    except S3Error as error:
        return error, "", []
    if found.identity.key is None:
        return S3Error(Code.AccessDenied, "The request is not signed at all."), "", []
    return None, found.identity.scheme, sorted(found.identity.signed_headers)


def _hints(head: RequestHead, lookup: Any) -> Iterator[str]:
    """Changes under which the signature would fit: what usually goes wrong between client and server."""

    def fits(changed: RequestHead, look: Any = lookup) -> bool:
        return _verdict(changed, look)[0] is None

    def with_secret(change: Any) -> Any:
        def look(name: str) -> AccessKey | None:
            key = lookup(name)
            return replace(key, secret_key=change(key.secret_key)) if key is not None else None

        return look

    def with_header(name: str, value: str) -> RequestHead:
        return replace(head, headers={**head.headers, name: value})

    if fits(head, with_secret(str.strip)):
        yield "The stored secret has blanks around it."
    for suffix in ("\n", "\r\n", " "):
        if fits(head, with_secret(lambda secret, end=suffix: secret + end)):
            yield f"The client's secret ends in {suffix!r}: read its file without the line end."
    host = head.headers.get("host", "")
    for name in ("x-forwarded-host", "x-original-host"):
        if head.headers.get(name) and fits(with_header("host", head.headers[name])):
            yield f"It fits for the host in {name}: name the proxy in http.trusted_proxies."
    for other in (*app().settings.domains, "localhost", "127.0.0.1", app().settings.bind):
        if other != host and fits(with_header("host", other)):
            yield f"It was signed for the host {other}, and {host} arrived: set it in http.endpoint_aliases."
    if not host:
        yield "There is no Host header."
    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        if method != head.method and fits(replace(head, method=method)):
            yield f"It was signed for {method}, and {head.method} was sent."
    if "%2F" in head.path.upper() and fits(
        replace(head, path=head.path.replace("%2F", "/").replace("%2f", "/"))
    ):
        yield "The slashes of the key were escaped after signing."
