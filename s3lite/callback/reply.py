"""What counts as success: an application's answer, judged.

Source: docs/callbacks.md, "What counts as success".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from xml.parsers import expat

from s3lite.times import parse_http_date

TOO_LONG = "Error status : 400.User server return too long content-length value."
BAD_LENGTH = "Error status : 400.User server return invalid content-length value."
NOT_JSON = "Response body is not valid json format."
MAX_RETRY_AFTER_S = 3600
_ASK_LATER = frozenset((408, 425, 429))
_REASON_CHARACTERS = 512
_REASON_BYTES = 4 * _REASON_CHARACTERS


def is_success(status: int, *, reply: str) -> bool:
    """Exactly 200 for ``passthrough``; any 2xx for ``standard`` and ``gate``."""
    return status == 200 or (reply != "passthrough" and 200 <= status < 300)


def is_refusal(status: int) -> bool:
    """Whether a gate's answer means no, and not "ask me later" or "I am broken"."""
    return 400 <= status < 500 and status not in _ASK_LATER


def retry_after(text: str, date: str = "") -> int:
    """Seconds of a Retry-After header, bounded; 0 for none, and for anything else.

    A time is counted from the answer's own ``date``, whatever the clocks here and there say.
    """
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(int(text), MAX_RETRY_AFTER_S)
    until, now = parse_http_date(text), parse_http_date(date)
    return min(max(int(until - now), 0), MAX_RETRY_AFTER_S) if until and now else 0


def framing_fault(lengths: Sequence[str], encodings: Sequence[str]) -> bool:
    """True if Content-Length and Transfer-Encoding do not tell exactly one end of the body."""
    if encodings:
        return bool(lengths) or [value.lower() for value in encodings] != ["chunked"]
    return len(set(lengths)) > 1 or not all(value.isascii() and value.isdigit() for value in lengths)


def media_type(content_type: str) -> str:
    """The type under which the uploader gets the answer: XML only if the application says so."""
    return (
        "application/xml" if essence(content_type) in ("application/xml", "text/xml") else "application/json"
    )


def essence(content_type: str) -> str:
    """A media type without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def reason(body: bytes, kind: str) -> str:
    """Why a gate's application refuses, for the uploader: of ``{"message": …}`` in JSON, or plain text.

    At most 512 characters of one line, none of which is a control character; "" if it gives none.
    """
    text: object = body[:_REASON_BYTES].decode("utf-8", "replace")
    try:
        if kind == "application/json":
            document = json.loads(body.decode("utf-8"), parse_int=_nothing, parse_float=_nothing)
            text = document.get("message") if isinstance(document, dict) else ""
        elif kind != "text/plain":
            return ""
    except (ValueError, RecursionError):
        return ""
    if not isinstance(text, str):
        return ""
    line = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in line)[:_REASON_CHARACTERS]


def is_well_formed(body: bytes, kind: str) -> bool:
    """True for one JSON text, or for an XML document without DOCTYPE."""
    return _is_xml(body) if kind == "application/xml" else _is_json(body)


def _is_json(body: bytes) -> bool:
    """RFC 8259 in UTF-8: no BOM, no NaN or Infinity."""
    try:
        # Numbers are not converted: their value does not matter, and long ones are slow.
        json.loads(body.decode("utf-8"), parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _is_xml(body: bytes) -> bool:
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse  # so no entities but the five, and nothing external
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError):
        return False
    return True


def _refuse(*_: object) -> None:
    raise ValueError("refused")


def _nothing(_number: str) -> None:
    """What is not text does not matter, and long numbers are slow."""
