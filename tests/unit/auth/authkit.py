"""Shared by the tests of the auth layer: keys, a clock that stands still, heads from URLs, botocore's signers."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from s3lite.auth.authenticate import Authenticator
from s3lite.model import AccessKey, Account, RequestHead, Target
from s3lite.times import Clock

NOW = 1_795_000_000.0
ALICE = AccessKey("yly", "yly-secret/+=", Account("alice", "Alice"))
GONE = AccessKey("gone", "s", Account("gone", "Gone"), enabled=False)
KEYS = {key.access_key: key for key in (ALICE, GONE)}


class Still(Clock):
    """A clock that stands at ``now``."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


def authenticator(*keys: AccessKey, now: float = NOW, **settings: Any) -> Authenticator:
    known = {key.access_key: key for key in keys} or KEYS
    settings = {"lookup": known.get, "clock": Still(now), "region": "us-east-1", **settings}
    return Authenticator(**settings)


def head(
    method: str, url: str, headers: dict[str, str] | None = None, *, bucket: str = "", mount: str = ""
) -> RequestHead:
    """The head of a request for ``url`` as sent; ``bucket`` when the host names it."""
    scheme, _, rest = url.partition("://")
    assert scheme in ("http", "https")
    host, slash, path_query = rest.partition("/")
    path, _, query = (slash + path_query).partition("?")
    lowered = {"host": host, **{name.lower(): value.strip(" ") for name, value in (headers or {}).items()}}
    inner = unquote(path[len(mount) :]).removeprefix("/")
    target = Target(bucket, inner, True) if bucket else Target(*(inner.partition("/")[::2]))
    items = []
    for piece in query.split("&"):
        if piece:
            name, _, value = piece.replace("+", " ").partition("=")
            items.append((unquote(name), unquote(value)))
    return RequestHead(method, path, query, lowered, target, tuple(items), mount)


def signed(
    signer: str,
    method: str,
    url: str,
    headers: dict[str, str] | None = None,
    *,
    data: bytes = b"",
    auth_path: str | None = None,
    key: AccessKey = ALICE,
    **options: Any,
) -> RequestHead:
    """A head as botocore's ``signer`` makes it (at the system's time: see `held`)."""
    request = AWSRequest(method, url, headers or {}, data, auth_path=auth_path)
    credentials = Credentials(key.access_key, key.secret_key)
    kind = getattr(botocore.auth, signer)
    if "V1" in signer:
        kind(credentials, **options).add_auth(request)
    else:
        kind(
            credentials, options.pop("service", "s3"), options.pop("region", "us-east-1"), **options
        ).add_auth(request)
    query_signed = "Query" in signer
    # What a signer moved into the URL is not sent again as a header, but for those that V4 names.
    sent = {} if query_signed and "V1" in signer else dict(request.headers.items())
    sent.setdefault("host", urlsplit(url).netloc)
    return head(method, request.url, sent)
