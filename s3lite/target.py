"""The request line and headers of a WSGI environ, as signatures and the dispatcher need them.

Signatures are made over the bytes on the wire, and WSGI decodes the path, so the raw request line is
taken from ``RAW_URI`` (gunicorn, werkzeug) or ``REQUEST_URI`` (uWSGI, mod_wsgi) where the server has
it and a middleware has not rewritten the path since; else it is rebuilt from PATH_INFO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead, Target

Environ = dict[str, Any]

_BLANKS = " \t"

# What werkzeug, WebTest and RFC 3986 leave unescaped in a path.
_PATH_SAFE = "/-_.~!$&'()*+,;=:@"


def request_head(
    environ: Environ, domains: Sequence[str] = (), *, behind_proxy: bool = False, has_tenants: bool = False
) -> RequestHead:
    """Read the head of a request.

    ``behind_proxy``: the peer is a trusted proxy, whose X-Forwarded-Host and -Proto say how the client
    addressed the server. ``has_tenants``: a path may begin with TENANT:BUCKET. Raises InvalidURI when the path or query is not percent-encoded UTF-8.
    """
    path, query = _raw_uri(environ)
    prefix = environ.get("SCRIPT_NAME", "")
    mount = _mount_prefix(path, prefix) if prefix else ""
    headers = _headers(environ)
    scheme, host = _addressed(environ, headers, behind_proxy=behind_proxy)
    return RequestHead(
        method=environ["REQUEST_METHOD"],
        path=path,
        query=query,
        headers=headers,
        target=_target(path[len(mount) :], host, domains, has_tenants=has_tenants),
        query_items=parse_query(query) if query else (),
        mount_prefix=mount,
        origin=f"{scheme}://{host}",
    )


def _addressed(environ: Environ, headers: dict[str, str], *, behind_proxy: bool) -> tuple[str, str]:
    """Scheme and host[:port] as the client had them."""
    scheme: str = environ.get("wsgi.url_scheme", "http")
    host = headers.get("host") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    if behind_proxy:
        scheme = headers.get("x-forwarded-proto", scheme).partition(",")[0].strip()
        host = headers.get("x-forwarded-host", host).partition(",")[0].strip()
    return scheme, host


def _raw_uri(environ: Environ) -> tuple[str, str]:
    """Path and query of the request line, percent-encoding kept."""
    decoded = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if raw:
        if not raw.startswith("/"):  # absolute form (RFC 9112, 3.2.2)
            raw = "/" + raw.partition("://")[2].partition("/")[2]
        path, _, query = raw.partition("?")
        if unquote_to_bytes(path) == decoded.encode("latin-1"):
            return path, query
    return quote(decoded.encode("latin-1"), safe=_PATH_SAFE), environ.get("QUERY_STRING", "")


def _mount_prefix(path: str, script_name: str) -> str:
    """The part of the raw ``path`` that stands for SCRIPT_NAME, which WSGI has decoded."""
    wanted = script_name.encode("latin-1")
    end = -1
    while True:
        end = path.find("/", end + 1)
        candidate = path if end < 0 else path[:end]
        if unquote_to_bytes(candidate) == wanted:
            return candidate
        if end < 0:
            return ""


def _headers(environ: Environ) -> dict[str, str]:
    """Names in lower case, as sent where the server tells (`s3lite.gunicorn_worker`): WSGI folds ``_`` and ``-``.

    A repeated header is joined with a comma. Only space and tab surround a value (RFC 9110, 5.5): `strip`
    alone would take bytes of UTF-8 text for white space.
    """
    raw = getattr(environ["wsgi.input"], "raw_headers", None)
    if raw is not None:
        headers: dict[str, str] = {}
        for name, value in raw:
            name = name.lower()
            headers[name] = (
                f"{headers[name]},{value.strip(_BLANKS)}" if name in headers else value.strip(_BLANKS)
            )
        return headers
    headers = {
        name[5:].replace("_", "-").lower(): value.strip(_BLANKS)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    for variable in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(variable):
            headers[variable.replace("_", "-").lower()] = environ[variable]
    return headers


def _target(path: str, host: str, domains: Sequence[str], *, has_tenants: bool) -> Target:
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise S3Error(
            Code.InvalidURI, "Couldn't parse the specified URI: the path must be percent-encoded UTF-8."
        ) from None
    decoded = decoded[1:] if decoded.startswith("/") else decoded
    bucket = _virtual_host_bucket(host, domains) if domains else ""
    if bucket:
        return Target(bucket, decoded, virtual_host=True)
    bucket, _, key = decoded.partition("/")
    tenant, colon, name = bucket.partition(":")
    if has_tenants and colon and name:
        return Target(name, key, tenant=tenant)
    return Target(bucket, key)


def _virtual_host_bucket(host: str, domains: Sequence[str]) -> str:
    """The bucket that ``Host`` names, or "" (then the path does, which ali-oss relies on)."""
    name = host.lower()
    if not name.startswith("[") and name.rpartition(":")[2].isdigit():
        name = name.rpartition(":")[0]
    for domain in domains:
        if name.endswith("." + domain):
            return name[: -len(domain) - 1]
    return ""


def parse_query(query: str) -> list[tuple[str, str]]:
    """Decoded pairs in order; ``+`` is a space; a name without ``=`` has value ""."""
    pairs = []
    try:
        for piece in query.split("&"):
            if piece:
                name, _, value = piece.replace("+", " ").partition("=")
                if "%" in name:
                    name = unquote_to_bytes(name).decode()
                if "%" in value:
                    value = unquote_to_bytes(value).decode()
                pairs.append((name, value))
    except UnicodeDecodeError:
        raise S3Error(
            Code.InvalidURI, "Couldn't parse the specified URI: the query must be percent-encoded UTF-8."
        ) from None
    return pairs
