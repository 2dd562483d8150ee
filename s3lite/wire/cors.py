"""Cross-origin rules of a bucket: the document, its stored form, and which rule answers a request.

A browser asks before it sends what a form could not (preflight), and hands an answer to the page only if
that carries the page's origin. Rules are tried in order and the first that fits decides.

Sources: API Reference, PutBucketCors; User Guide, "Elements of a CORS configuration"; Fetch Standard, 3.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache

from s3lite.errors import Code, S3Error
from s3lite.wire import xml

METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")

MAX_BYTES = 64 << 10  # the User Guide's limit of a configuration
_MAX_RULES = 100
_MAX_ID = 255
_MAX_AGE_DIGITS = 10

# A field name (RFC 9110, 5.6.2). Names go out in headers, so nothing else may.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class CorsRule:
    """One rule. Header names as they were sent; ``max_age_s`` None leaves it to the browser."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_s: int | None = None
    id: str = ""


# ---------------------------------------------------------------- the document


def parse(data: bytes) -> tuple[CorsRule, ...]:
    """The rules of a CORSConfiguration.

    Raises MalformedXML, InvalidRequest (too many rules, an unknown method, a second wildcard, one in
    ExposeHeader) and MaxMessageLengthExceeded.
    """
    if len(data) > MAX_BYTES:
        raise S3Error(
            Code.MaxMessageLengthExceeded,
            f"Your request was too large: a CORS configuration may have {MAX_BYTES} bytes.",
            MaxMessageLengthBytes=str(MAX_BYTES),
        )
    rows = xml.children(xml.parse(data, "CORSConfiguration"), "CORSRule")
    if not rows:
        raise xml.malformed("name at least one CORSRule")
    if len(rows) > _MAX_RULES:
        raise _invalid(f"The number of CORS rules should not exceed allowed limit of {_MAX_RULES} rules.")
    return tuple(map(_rule, rows))


def _rule(row: xml.Element) -> CorsRule:
    rule = CorsRule(
        origins=_texts(row, "AllowedOrigin"),
        methods=_texts(row, "AllowedMethod"),
        headers=_texts(row, "AllowedHeader"),
        exposed=_texts(row, "ExposeHeader"),
        max_age_s=_max_age(xml.text(row, "MaxAgeSeconds").strip()),
        id=xml.text(row, "ID").strip(),
    )
    if not rule.origins or not rule.methods:
        raise xml.malformed("each CORSRule needs an AllowedOrigin and an AllowedMethod")
    if len(rule.id) > _MAX_ID:
        raise _invalid(f"ID length should not exceed allowed limit of {_MAX_ID}.")
    for method in rule.methods:
        if method not in METHODS:
            raise _invalid(
                f"Found unsupported HTTP method in CORS config. Unsupported method is {method[:64]}"
            )
    _check_patterns("AllowedOrigin", rule.origins)
    _check_patterns("AllowedHeader", rule.headers)
    for name in rule.exposed:
        if "*" in name:
            raise _invalid(
                f'ExposeHeader "{name[:256]}" contains wildcard. '
                "We currently do not support wildcard for ExposeHeader."
            )
        if not _TOKEN.fullmatch(name):
            raise _invalid(f'ExposeHeader "{name[:256]}" is not a header name.')
    return rule


def _texts(row: xml.Element, name: str) -> tuple[str, ...]:
    """Texts of the children named ``name``. Raises MalformedXML for an empty one."""
    texts = tuple(xml.text_of(item).strip() for item in xml.children(row, name))
    if not all(texts):
        raise xml.malformed(f"{name} must not be empty")
    return texts


def _max_age(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_AGE_DIGITS):
        raise xml.malformed("MaxAgeSeconds must be a whole number")
    return int(text)


def _check_patterns(element: str, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        if pattern.count("*") > 1:
            raise _invalid(f'{element} "{pattern[:256]}" can not have more than one wildcard.')


def _invalid(message: str) -> S3Error:
    return S3Error(Code.InvalidRequest, message)


def document(rules: Sequence[CorsRule]) -> bytes:
    """The CORSConfiguration that GetBucketCors answers."""
    return xml.document("CORSConfiguration", "".join(map(_rule_element, rules)))


def _rule_element(rule: CorsRule) -> str:
    pieces = [xml.element("ID", rule.id)] if rule.id else []
    for name, values in (
        ("AllowedHeader", rule.headers),
        ("AllowedMethod", rule.methods),
        ("AllowedOrigin", rule.origins),
        ("ExposeHeader", rule.exposed),
    ):
        pieces += [xml.element(name, value) for value in values]
    if rule.max_age_s is not None:
        pieces.append(xml.element("MaxAgeSeconds", str(rule.max_age_s)))
    return f"<CORSRule>{''.join(pieces)}</CORSRule>"


# ---------------------------------------------------------------- the stored form


def dumps(rules: Sequence[CorsRule]) -> bytes:
    """Rules as the catalog keeps them."""
    return json.dumps([astuple(rule) for rule in rules], separators=(",", ":")).encode()


@lru_cache(maxsize=256)
def loads(data: bytes) -> tuple[CorsRule, ...]:
    """Rules as `dumps` wrote them; the most recent documents are kept parsed."""
    return tuple(
        CorsRule(tuple(origins), tuple(methods), tuple(headers), tuple(exposed), max_age_s, rule_id)
        for origins, methods, headers, exposed, max_age_s, rule_id in json.loads(data)
    )


# ---------------------------------------------------------------- matching


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that fits, and the value of Access-Control-Allow-Origin: ``*`` only for an origin of just that."""

    rule: CorsRule
    allow_origin: str


def match(
    rules: Sequence[CorsRule], *, origin: str, method: str, headers: Sequence[str] = ()
) -> Match | None:
    """The first rule that allows ``origin``, ``method`` and every one of ``headers``."""
    if not (origin.isascii() and origin.isprintable()):
        return None  # it is repeated in the answer
    for rule in rules:
        if method not in rule.methods:
            continue
        pattern = next((pattern for pattern in rule.origins if _fits(pattern, origin)), None)
        if pattern is not None and _allows(rule, headers):
            return Match(rule, "*" if pattern == "*" else origin)
    return None


def _allows(rule: CorsRule, headers: Sequence[str]) -> bool:
    """Header names are compared without regard to case."""
    patterns = [pattern.lower() for pattern in rule.headers]
    return all(any(_fits(pattern, name.lower()) for pattern in patterns) for name in headers)


def _fits(pattern: str, value: str) -> bool:
    """``*`` stands for any characters, none included."""
    start, wildcard, end = pattern.partition("*")
    if not wildcard:
        return value == pattern
    return len(value) >= len(start) + len(end) and value.startswith(start) and value.endswith(end)


def requested_headers(text: str) -> tuple[str, ...] | None:
    """The names of Access-Control-Request-Headers; None when one of them is no header name."""
    names = tuple(name for piece in text.split(",") if (name := piece.strip(" \t")))
    return names if all(map(_TOKEN.fullmatch, names)) else None
