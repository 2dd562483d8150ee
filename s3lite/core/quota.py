"""Quotas of buckets and accounts: who may not grow, told as early as it can be known.

What decides is the transaction that would add to a bucket (`check`), where the counters are exact. Before the
body is read, and while it is, an upload is held against them as they are then (`guarded`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from s3lite.core.store import Store
from s3lite.errors import Code, S3Error
from s3lite.model import NULL_VERSION, QUOTA, Bucket, Quota
from s3lite.wire.body import Source

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([kmgt]?i?)b?", re.IGNORECASE)
_LARGEST = 1 << 60


def parse_bytes(text: str) -> int:
    """A number of bytes as people write it: 500MB, 10GiB. Raises ValueError."""
    match = _AMOUNT.fullmatch(text)
    unit = _UNITS.get(match[2].lower()) if match else None
    amount = int(float(match[1]) * unit) if match and unit else _LARGEST
    if amount >= _LARGEST:
        raise ValueError("a size is a number of bytes, or 500MB, or 10GiB")
    return amount


def parse_objects(text: str) -> int:
    """A number of objects. Raises ValueError."""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError("how many objects is a whole number")
    return int(text)


def check(quotas: Iterable[Quota]) -> None:
    """Raise QuotaExceeded where what was added goes beyond a bound.

    What takes away, or replaces something by no more, is never refused: deleting is the way out.
    """
    for quota in quotas:
        if quota.max_bytes is not None and quota.added_bytes > 0 and quota.bytes > quota.max_bytes:
            raise _exceeded(quota, f"{quota.max_bytes} bytes")
        if quota.max_objects is not None and quota.added_objects > 0 and quota.objects > quota.max_objects:
            raise _exceeded(quota, f"{quota.max_objects} objects")


def _exceeded(quota: Quota, bound: str) -> S3Error:
    whose = "this bucket" if quota.subject.startswith("bucket ") else "the account that owns this bucket"
    return S3Error(
        Code.QuotaExceeded,
        f"This would exceed the quota of {whose}: {bound}. Delete something, or ask the operator for more.",
    )


def check_object(store: Store, bucket: Bucket, key: str) -> None:
    """Refuse early what would add an object too many (CreateMultipartUpload)."""
    if QUOTA in bucket.configs:
        _expected(store, bucket, key, size=0)


def guarded(store: Store, bucket: Bucket, key: str, source: Source, *, size: int | None) -> Source:
    """The body of an upload to ``key``, which ends as soon as it cannot be stored.

    ``size`` None: unknown until it ends. Raises QuotaExceeded now where the announced size is too much.
    """
    if QUOTA not in bucket.configs:
        return source
    return _Guarded(source, _expected(store, bucket, key, size=size or 0))


def guarded_part(
    store: Store, bucket: Bucket, upload_row: int, number: int, source: Source, *, size: int | None
) -> Source:
    """The same for a part, which may replace an earlier one of its number."""
    if QUOTA not in bucket.configs:
        return source
    with store.catalog.read() as tx:
        quotas, replaced = tx.quotas_of(bucket), tx.part(upload_row, number)
    freed = replaced.size if replaced is not None else 0
    added = [_added(quota, (size or 0) - freed, 0) for quota in quotas]
    check(added)
    return _Guarded(source, [_added(quota, -freed, 0) for quota in quotas])


def _expected(store: Store, bucket: Bucket, key: str, *, size: int) -> list[Quota]:
    """The quotas as they would be but for the new bytes. Raises QuotaExceeded."""
    with store.catalog.read() as tx:
        quotas = tx.quotas_of(bucket)
        keeps = bucket.versioning == "Enabled"
        replaced = None if keeps else tx.version(bucket.id, key, NULL_VERSION)
    freed = replaced.size if replaced is not None else 0
    objects = 1 if replaced is None or replaced.is_delete_marker else 0
    check([_added(quota, size - freed, objects) for quota in quotas])
    return [_added(quota, -freed, objects) for quota in quotas]


def _added(quota: Quota, size: int, objects: int) -> Quota:
    return quota._replace(
        bytes=quota.bytes + size,
        objects=quota.objects + objects,
        added_bytes=size,
        added_objects=objects,
    )


class _Guarded:
    """A source that counts what passes."""

    def __init__(self, source: Source, quotas: list[Quota]) -> None:
        self._source = source
        self._quotas = quotas
        self._passed = 0

    def read(self, size: int) -> bytes:
        piece = self._source.read(size)
        self._passed += len(piece)
        check(
            quota._replace(bytes=quota.bytes + self._passed, added_bytes=quota.added_bytes + self._passed)
            for quota in self._quotas
        )
        return piece
