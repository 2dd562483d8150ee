"""Conditions of requests: If-* on reads, on copy sources, and on writes and deletes.

Entity tags here are without quotes. Write conditions are values, because they are decided inside the
committing transaction.

Sources: RFC 9110, 13; API Reference, GetObject, CopyObject, PutObject, DeleteObject.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import ObjectVersion
from s3lite.times import Clock, http_date, parse_http_date, parse_iso8601

if TYPE_CHECKING:
    from s3lite.wire.requests import DeleteItem

_TAG = re.compile(r'(W/)?"([^"]*)"|([^\s,"]+)')


def _matches(header: str, etag: str, *, weak: bool = False) -> bool:
    """Whether a list of entity tags, or ``*``, names ``etag``. Tags without quotes are taken as they are.

    ``weak`` is RFC 9110's weak comparison, for If-None-Match: ``W/"x"`` equals ``"x"``.
    """
    if header.strip() == "*":
        return True
    for prefix, quoted, bare in _TAG.findall(header):
        if (quoted or bare) == etag and (weak or not prefix):
            return True
    return False


# ---------------------------------------------------------------- reads


def read_decision(
    headers: Mapping[str, str], *, etag: str, modified_ms: int, now_s: float | None = None
) -> None:
    """Return when a read may go on. Raises PreconditionFailed and NotModified (RFC 9110, 13.2.2).

    ``now_s`` is the time, for dates that lie in the future; None asks the system's clock.
    """
    failed = _failed_condition(headers, "", etag, modified_ms, now_s)
    if failed is None:
        return
    if failed in ("if-none-match", "if-modified-since"):
        raise S3Error(
            Code.NotModified,
            headers={"ETag": f'"{etag}"', "Last-Modified": http_date(modified_ms // 1000)},
        )
    raise _precondition_failed(failed)


def copy_source_decision(
    headers: Mapping[str, str], *, etag: str, modified_ms: int, now_s: float | None = None
) -> None:
    """Return when a copy may go on. Raises PreconditionFailed: there is no 304 for copies."""
    failed = _failed_condition(headers, "x-amz-copy-source-", etag, modified_ms, now_s)
    if failed is not None:
        raise _precondition_failed(failed)


def _failed_condition(
    headers: Mapping[str, str], prefix: str, etag: str, modified_ms: int, now_s: float | None
) -> str | None:
    """Name of the header whose condition is false, in order of precedence: tags overrule dates."""
    modified_s = modified_ms // 1000  # dates on the wire are whole seconds
    if_match = headers.get(f"{prefix}if-match")
    if if_match:
        if not _matches(if_match, etag):
            return f"{prefix}if-match"
    elif (since := _date(headers, f"{prefix}if-unmodified-since")) is not None and modified_s > since:
        return f"{prefix}if-unmodified-since"
    if_none_match = headers.get(f"{prefix}if-none-match")
    if if_none_match:
        return f"{prefix}if-none-match" if _matches(if_none_match, etag, weak=True) else None
    since = _date(headers, f"{prefix}if-modified-since")
    if since is None or modified_s > since:
        return None
    # "a date later than the server's current time is invalid" (RFC 2616, 14.25), and S3 ignores it.
    is_future = since > (Clock().time() if now_s is None else now_s)
    return None if is_future else f"{prefix}if-modified-since"


def _date(headers: Mapping[str, str], name: str) -> float | None:
    """A date; "a recipient MUST ignore [it] if the received field value is not a valid HTTP-date"."""
    text = headers.get(name)
    return parse_http_date(text) if text else None


_WIRE_NAMES = {
    "if-match": "If-Match",
    "if-none-match": "If-None-Match",
    "if-unmodified-since": "If-Unmodified-Since",
}


def _precondition_failed(name: str) -> S3Error:
    return S3Error(Code.PreconditionFailed, Condition=_WIRE_NAMES.get(name, name))


# ---------------------------------------------------------------- writes


@dataclass(frozen=True, slots=True)
class WriteConditions:
    """Conditions of PutObject, CopyObject, CompleteMultipartUpload; false when there are none.

    Values are as sent: ``*``, or entity tags with or without quotes.
    """

    if_match: str | None = None
    if_none_match: str | None = None

    def __bool__(self) -> bool:
        return self.if_match is not None or self.if_none_match is not None

    def check(self, current: ObjectVersion | None) -> None:
        """Decide against the current version; a delete marker counts as none.

        Raises NoSuchKey (If-Match, and nothing is there) and PreconditionFailed.
        """
        live = None if current is None or current.is_delete_marker else current
        if self.if_match is not None:
            if live is None:
                raise S3Error(Code.NoSuchKey)
            if not _matches(self.if_match, live.etag):
                raise _precondition_failed("if-match")
        if (
            self.if_none_match is not None
            and live is not None
            and _matches(self.if_none_match, live.etag, weak=True)
        ):
            raise _precondition_failed("if-none-match")


@dataclass(frozen=True, slots=True)
class DeleteConditions(WriteConditions):
    """Conditions of DeleteObject, or of one item of DeleteObjects.

    A delete of what is not there succeeds whatever its conditions, as without them. A delete marker is
    there: it has a size of 0, a time, and no entity tag.
    """

    size: int | None = None
    modified_s: int | None = None

    def __bool__(self) -> bool:
        return self.if_match is not None or self.size is not None or self.modified_s is not None

    def check(self, current: ObjectVersion | None) -> None:
        """Raise PreconditionFailed unless ``current`` is as the client believes."""
        if current is None:
            return
        if self.if_match is not None and not _matches(self.if_match, current.etag):
            raise _precondition_failed("if-match")
        if self.size is not None and self.size != current.size:
            raise _precondition_failed("x-amz-if-match-size")
        if self.modified_s is not None and self.modified_s != current.modified_ms // 1000:
            raise _precondition_failed("x-amz-if-match-last-modified-time")


def rename_decision(
    headers: Mapping[str, str], *, source: ObjectVersion, replaced: ObjectVersion | None
) -> None:
    """Return when a rename may go on: the source's conditions, then those of what has the new key.

    Raises PreconditionFailed, and NoSuchKey (If-Match, and nothing has the key).
    """
    failed = _failed_condition(headers, "x-amz-rename-source-", source.etag, source.modified_ms, None)
    if failed is None and replaced is None:
        parse_write_conditions(headers).check(None)
    elif failed is None and replaced is not None:
        failed = _failed_condition(headers, "", replaced.etag, replaced.modified_ms, None)
    if failed is not None:
        raise _precondition_failed(failed)


def parse_write_conditions(headers: Mapping[str, str]) -> WriteConditions:
    """If-Match and If-None-Match of a write."""
    return WriteConditions(headers.get("if-match") or None, headers.get("if-none-match") or None)


def parse_delete_conditions(headers: Mapping[str, str]) -> DeleteConditions:
    """If-Match, x-amz-if-match-size and -last-modified-time of a delete. Raises InvalidArgument."""
    size = headers.get("x-amz-if-match-size") or None
    if size is not None and not (size.isascii() and size.isdigit() and len(size) <= 20):
        raise invalid_argument("x-amz-if-match-size", size, "x-amz-if-match-size must be a whole number.")
    time_text = headers.get("x-amz-if-match-last-modified-time") or None
    modified_s = None
    if time_text is not None:
        modified_s = parse_date(time_text)
        if modified_s is None:
            raise invalid_argument(
                "x-amz-if-match-last-modified-time",
                time_text,
                "x-amz-if-match-last-modified-time must be a date like Sun, 06 Nov 1994 08:49:37 GMT.",
            )
    return DeleteConditions(
        if_match=headers.get("if-match") or None,
        size=int(size) if size is not None else None,
        modified_s=int(modified_s) if modified_s is not None else None,
    )


def parse_date(text: str) -> float | None:
    """Seconds since the epoch of an HTTP or ISO 8601 date: SDKs differ in how they write one for deletes."""
    parsed = parse_http_date(text)
    return parse_iso8601(text) if parsed is None else parsed


def delete_item_conditions(item: DeleteItem) -> DeleteConditions:
    """The conditions of one item of DeleteObjects."""
    modified_s = item.last_modified_s
    return DeleteConditions(
        if_match=item.etag, size=item.size, modified_s=int(modified_s) if modified_s is not None else None
    )
