"""Listings: prefix, delimiter, markers and tokens over range scans in key order.

A page costs what it shows: a delimiter skips to the end of each common prefix by a new seek instead
of reading the keys below it, so cost does not grow with the bucket.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from s3lite.catalog.questions import ReadTx
from s3lite.errors import invalid_argument
from s3lite.model import ListedObject, ListedVersion, Upload


class Keyed(Protocol):
    """A row of a listing."""

    @property
    def key(self) -> str: ...


Row = TypeVar("Row", bound=Keyed)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page. ``next_marker`` is the last key or common prefix of a truncated page, else "".

    ``last_row`` is the last entry when the page ends in one; a common prefix has none.
    """

    entries: Sequence[Row]
    common_prefixes: Sequence[str]
    next_marker: str = ""
    last_row: Row | None = None

    @property
    def is_truncated(self) -> bool:
        """True when more follows."""
        return self.next_marker != ""


def successor(prefix: bytes) -> bytes | None:
    """The least byte string greater than all that begin with ``prefix``; None when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def list_objects(
    tx: ReadTx, bucket_id: int, *, prefix: str, delimiter: str, after: str, limit: int
) -> Page[ListedObject]:
    """ListObjects and ListObjectsV2: entries after ``after``, at most ``limit`` with common prefixes."""

    if limit == 0:
        return Page((), ())
    begin = prefix.encode()
    lower = max(_past(after, prefix, delimiter), begin) if after else begin
    upper = successor(begin) if prefix else None
    if delimiter:
        return _folded(tx, bucket_id, prefix, delimiter, lower, upper, limit)
    entries = tx.list_objects(bucket_id, lower=lower, upper=upper, limit=limit + 1)
    if len(entries) <= limit:
        return Page(entries, ())
    entries.pop()
    return Page(entries, (), entries[-1].key, entries[-1])


def _folded(
    tx: ReadTx, bucket_id: int, prefix: str, delimiter: str, lower: bytes, upper: bytes | None, limit: int
) -> Page[ListedObject]:
    """With a delimiter: seeks where prefix follows prefix, scans where key follows key."""
    entries: list[ListedObject] = []
    prefixes: list[str] = []
    last: ListedObject | str = ""
    count, fewer = 32, False
    while not fewer:
        count = min(count, limit + 1 - len(entries) - len(prefixes))
        stops: list[ListedObject | str]
        if isinstance(last, str) and last:
            marks = {"prefix": prefix.encode(), "delimiter": delimiter.encode()}
            stops = tx.walk_objects(bucket_id, **marks, lower=lower, upper=upper, limit=count)
            fewer = len(stops) < count
        else:
            found = tx.list_objects(bucket_id, lower=lower, upper=upper, limit=count)
            stops = _fold(found, prefix, delimiter)
            fewer = len(found) < count
        for stop in stops:
            if len(entries) + len(prefixes) == limit:
                return Page(entries, prefixes, *((last, None) if isinstance(last, str) else (last.key, last)))
            if isinstance(stop, str):
                prefixes.append(stop)
            else:
                entries.append(stop)
            last = stop
        if isinstance(last, str):
            behind = successor(last.encode())
            if behind is None:
                break
            lower = behind
        else:
            lower = last.key.encode() + b"\0"
        count *= 4
    return Page(entries, prefixes)


def _fold(found: Sequence[ListedObject], prefix: str, delimiter: str) -> list[ListedObject | str]:
    """Entries, those below a common prefix replaced by it."""
    stops: list[ListedObject | str] = []
    below = ""
    for row in found:
        if below and row.key.startswith(below):
            continue
        cut = row.key.find(delimiter, len(prefix))
        below = row.key[: cut + len(delimiter)] if cut >= 0 else ""
        stops.append(below or row)
    return stops


def list_versions(
    tx: ReadTx,
    bucket_id: int,
    *,
    prefix: str,
    delimiter: str,
    key_marker: str,
    version_id_marker: str,
    limit: int,
) -> Page[ListedVersion]:
    """ListObjectVersions. ``version_id_marker`` continues inside ``key_marker``'s versions."""

    def scan(lower: bytes, upper: bytes | None, row: int | None, count: int) -> list[ListedVersion]:
        return tx.list_versions(bucket_id, lower=lower, upper=upper, after_row=row, limit=count)

    after_row = None
    lower = b""
    if version_id_marker:
        version = tx.version(bucket_id, key_marker, version_id_marker)
        if version is None:
            raise invalid_argument(
                "version-id-marker", version_id_marker, "Invalid version id specified as marker."
            )
        lower, after_row = key_marker.encode(), version.row
    elif key_marker:
        lower = _past(key_marker, prefix, delimiter)
    return _page(scan, prefix, delimiter, lower, after_row, limit)


def list_uploads(
    tx: ReadTx,
    bucket_id: int,
    *,
    prefix: str,
    delimiter: str,
    key_marker: str,
    upload_id_marker: str,
    limit: int,
) -> Page[Upload]:
    """ListMultipartUploads. ``upload_id_marker`` without a key marker is ignored, as in S3."""

    def scan(lower: bytes, upper: bytes | None, row: int | None, count: int) -> list[Upload]:
        return tx.list_uploads(bucket_id, lower=lower, upper=upper, after_row=row, limit=count)

    after_row = None
    lower = b""
    if key_marker and upload_id_marker:
        upload = tx.upload(bucket_id, key_marker, upload_id_marker)
        if upload is not None:
            lower, after_row = key_marker.encode(), upload.row
        else:
            lower = _past(key_marker, prefix, delimiter)
    elif key_marker:
        lower = _past(key_marker, prefix, delimiter)
    return _page(scan, prefix, delimiter, lower, after_row, limit)


def _past(marker: str, prefix: str, delimiter: str) -> bytes:
    """Where to go on after ``marker``: behind the whole common prefix when that is what it is."""
    raw = marker.encode()
    if (
        delimiter
        and marker.startswith(prefix)
        and marker.find(delimiter, len(prefix)) == len(marker) - len(delimiter) >= 0
    ):
        return successor(raw) or raw + b"\0"
    return raw + b"\0"


def _page(
    scan: Callable[[bytes, bytes | None, int | None, int], list[Row]],
    prefix: str,
    delimiter: str,
    lower: bytes,
    after_row: int | None,
    limit: int,
) -> Page[Row]:
    if limit == 0:
        return Page((), ())
    prefix_bytes = prefix.encode()
    upper = successor(prefix_bytes) if prefix else None
    if lower < prefix_bytes:
        lower, after_row = prefix_bytes, None
    entries: list[Row] = []
    prefixes: list[str] = []
    marker, last = "", None
    batch = limit + 1 if not delimiter else min(limit + 1, 32)
    while True:
        rows = scan(lower, upper, after_row, batch)
        resume: bytes | None = None
        skipped = ""
        for row in rows:
            if skipped and row.key.startswith(skipped):
                continue
            if len(entries) + len(prefixes) == limit:
                return Page(entries, prefixes, marker, last)
            cut = row.key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                entries.append(row)
                marker, last, skipped = row.key, row, ""
            else:
                skipped = row.key[: cut + len(delimiter)]
                prefixes.append(skipped)
                marker, last = skipped, None
        if len(rows) < batch:
            return Page(entries, prefixes)
        if skipped:
            resume = successor(skipped.encode())
            if resume is None:
                return Page(entries, prefixes)
            lower, after_row, batch = resume, None, 4
        else:
            assert last is not None
            lower, after_row = _resume_after(rows[-1])
            batch = min(limit + 1 - len(entries) - len(prefixes) + 1, batch * 4)


def _resume_after(row: Keyed) -> tuple[bytes, int | None]:
    """Bounds that go on behind ``row``: inside its key where rows share keys (versions, uploads)."""
    number = getattr(row, "row", None)
    return (row.key.encode(), number) if number is not None else (row.key.encode() + b"\0", None)


# ---------------------------------------------------------------- continuation tokens


def encode_token(marker: str) -> str:
    """An opaque ContinuationToken."""
    return "1" + base64.urlsafe_b64encode(marker.encode()).decode().rstrip("=")


def decode_token(token: str) -> str:
    """The marker of a token. Raises InvalidArgument when it is none of ours."""
    try:
        if token[:1] != "1":
            raise ValueError(token)
        raw = token[1:].encode("ascii")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise invalid_argument(
            "continuation-token", token, "The continuation token provided is incorrect."
        ) from None
