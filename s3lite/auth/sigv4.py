"""Signature version 4 as S3 applies it: pure functions from request parts to strings and bytes.

`authenticate` decides which parts a request claims to sign, and compares. Text here is "wire text":
a str whose characters stand for bytes (ISO 8859-1), as WSGI hands headers over, so that what is hashed
is what was sent.

Source: API Reference, "Authenticating Requests (AWS Signature Version 4)". What S3 does unlike other
services: the path is encoded once and never normalised (``//`` and ``..`` are part of keys).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3"
TERMINATOR = "aws4_request"

_PLAIN = re.compile(r"[A-Za-z0-9\-_.~]*")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9\-_.~/]+")
_FOLD = re.compile(r"[ \t\r\n\f\v]+")
_DATE = re.compile(r"[0-9]{8}")
# What AWS's own names look like is narrower; git-annex puts a host name where the region stands.
_SCOPE_WORD = re.compile(r"[!-~]*")


class Credential(NamedTuple):
    """``ACCESS_KEY/DATE/REGION/SERVICE/aws4_request``, taken apart."""

    access_key: str
    date: str
    region: str
    service: str

    @property
    def scope(self) -> str:
        """What the string to sign names as its scope."""
        return f"{self.date}/{self.region}/{self.service}/{TERMINATOR}"


def parse_credential(text: str) -> Credential | None:
    """A credential as the header, query or form has it; None when it is not of that form."""
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != TERMINATOR or not parts[0]:
        return None
    if not _DATE.fullmatch(parts[1]) or not _SCOPE_WORD.fullmatch(text):
        return None
    return Credential(*parts[:4])


def octets(text: str) -> bytes:
    """The bytes that wire text stands for; text from elsewhere as UTF-8, so that nothing raises."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def same(first: str, second: str) -> bool:
    """Whether two signatures are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(octets(first), octets(second))


def canonical_uri(raw_path: str) -> str:
    """The path decoded once and encoded again, every byte outside ``A-Za-z0-9-_.~/`` as ``%XX``."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path
    return quote_from_bytes(unquote_to_bytes(octets(raw_path)), safe="/") or "/"


def canonical_query(raw_query: str, *, drop: Sequence[str] = ("X-Amz-Signature",)) -> str:
    """Pairs encoded uniformly and sorted; ``+`` means a space, a name without ``=`` has value ""."""
    pairs = []
    for piece in raw_query.split("&"):
        name, _, value = piece.partition("=")
        name = _component(name)
        if piece and name not in drop:
            pairs.append((name, _component(value)))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def _component(raw: str) -> str:
    if _PLAIN.fullmatch(raw):
        return raw
    return quote_from_bytes(unquote_to_bytes(octets(raw.replace("+", " "))), safe="")


def canonical_headers(
    headers: Mapping[str, str], signed_headers: Iterable[str], *, host: str | None = None
) -> str:
    """One ``name:value`` line for each of ``signed_headers``, in their order, white space folded.

    ``host`` replaces the Host header. A name that the request lacks has an empty value; WSGI turns
    ``_`` in names into ``-``, so such names are looked up both ways.
    """
    lines = []
    for name in signed_headers:
        if host is not None and name == "host":
            value = host
        else:
            value = headers.get(name) or headers.get(name.replace("_", "-"), "")
        if "  " in value or not value.isprintable():
            value = _FOLD.sub(" ", value)
        lines.append(f"{name}:{value.strip(' ')}\n")
    return "".join(lines)


def canonical_request(
    method: str, uri: str, query: str, headers: str, signed_headers: str, payload_hash: str
) -> str:
    """The request that is signed. ``headers`` is from `canonical_headers`, the names joined by ``;``."""
    return f"{method}\n{uri}\n{query}\n{headers}\n{signed_headers}\n{payload_hash}"


def string_to_sign(timestamp: str, scope: str, request: str) -> str:
    """``timestamp`` is ``20260131T010203Z``, ``request`` from `canonical_request`."""
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(octets(request)).hexdigest()}"


@lru_cache(maxsize=512)
def signing_key(secret_key: str, date: str, region: str, service: str = SERVICE) -> bytes:
    """The key of a day, a region and a service; cached, as clients sign thousands of requests with one."""
    key = ("AWS4" + secret_key).encode("utf-8", "surrogatepass")
    for word in (date, region, service, TERMINATOR):
        key = hmac.digest(key, octets(word), "sha256")
    return key


def signature(key: bytes, text: str) -> str:
    """Hex HMAC-SHA256 of a string to sign (or of a form's policy)."""
    return hmac.digest(key, octets(text), "sha256").hex()
