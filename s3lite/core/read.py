"""Reading: a version and a range become bytes, across however many blobs they lie in.

Nothing is locked. The version row names its blobs, and released blobs are kept for a grace period,
so a reader that has begun finishes.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import BinaryIO

from s3lite.core import sealing
from s3lite.core.store import Store
from s3lite.errors import Code, S3Error
from s3lite.model import BlobId, ObjectVersion, Segment
from s3lite.wire.encryption import CustomerKey


def open_file(store: Store, version: ObjectVersion) -> BinaryIO | None:
    """The one file that holds all of ``version`` as it is, for sendfile; None when there is no such file."""
    if (
        version.blob is None
        or version.encryption is not None
        or version.size <= store.settings.storage.inline_bytes
    ):
        return None
    try:
        return store.blobs.open(version.blob)
    except FileNotFoundError:
        # Kept inline under a larger limit than today's, or gone; `read` tells which.
        return None


def read(
    store: Store,
    version: ObjectVersion,
    *,
    offset: int,
    length: int,
    customer: CustomerKey | None = None,
    parts: Sequence[Segment] | None = None,
) -> Iterator[bytes]:
    """Yield exactly ``length`` bytes of ``version`` from ``offset``.

    ``parts`` are those of a version that is not published yet (`core.pending`).

    Raises InternalError when bytes are missing. Of an encrypted version the first piece has been opened on
    return: raises what `sealing.key_of_version` does, and InternalError for damage, also while it is read.
    """
    if version.encryption is not None:
        return _read_sealed(store, version, offset, length, customer, parts)
    if version.part_count == 0:
        return read_blob(store, version.blob, offset, length)
    return _read_segments(store, segments(store, version) if parts is None else parts, offset, length)


def small_bytes(store: Store, version: ObjectVersion) -> bytes | None:
    """All bytes of a version kept in the index as they are, in one piece; None when they are elsewhere."""
    if (
        version.part_count
        or version.encryption is not None
        or version.size > store.settings.storage.inline_bytes
    ):
        return None
    if version.blob is None:
        return b""
    with store.catalog.read() as tx:
        return tx.inline_data(version.blob)


def segments(store: Store, version: ObjectVersion) -> list[Segment]:
    """The parts of a multipart version, in order."""
    with store.catalog.read() as tx:
        return tx.segments(version.row)


def read_blob(store: Store, blob: BlobId | None, offset: int, length: int) -> Iterator[bytes]:
    """A range of a blob as it is kept. Raises InternalError when its bytes are missing."""
    if blob is None or length == 0:
        return iter(())
    with store.catalog.read() as tx:
        data = tx.inline_data(blob)
    if data is not None:
        return iter((data[offset : offset + length],))
    try:
        return store.blobs.read(blob, offset=offset, length=length)
    except FileNotFoundError:
        raise S3Error(
            Code.InternalError,
            "The bytes of this object are missing. Ask the operator to run `s3lite check`.",
        ) from None


def _read_segments(store: Store, parts: Sequence[Segment], offset: int, length: int) -> Iterator[bytes]:
    for part, skip, take in _touched(parts, offset, length):
        yield from read_blob(store, part.blob, skip, take)


def _read_sealed(
    store: Store,
    version: ObjectVersion,
    offset: int,
    length: int,
    customer: CustomerKey | None,
    parts: Sequence[Segment] | None,
) -> Iterator[bytes]:
    key = sealing.key_of_version(store, version, customer)
    if length == 0:
        return iter(())
    if version.part_count == 0:
        return open_blob(store, key, version.blob, version.size, offset, length)
    parts = segments(store, version) if parts is None else parts
    return sealing.primed(_open_parts(store, key, parts, offset, length))


def open_blob(
    store: Store, key: bytes, blob: BlobId | None, size: int, offset: int, length: int
) -> Iterator[bytes]:
    """A range of an encrypted blob whose plaintext has ``size`` bytes; its first piece opened on return."""

    def kept(start: int, count: int) -> Iterator[bytes]:
        return read_blob(store, blob, start, count)

    return sealing.opened(key, size=size, offset=offset, length=length, read=kept)


def _open_parts(
    store: Store, key: bytes, parts: Sequence[Segment], offset: int, length: int
) -> Iterator[bytes]:
    for part, skip, take in _touched(parts, offset, length):
        yield from open_blob(store, sealing.key_of_part(key, part), part.blob, part.size, skip, take)


def _touched(parts: Sequence[Segment], offset: int, length: int) -> Iterator[tuple[Segment, int, int]]:
    """The parts that hold a range, with offset and length in each."""
    ends = list(accumulate(part.size for part in parts))
    index = bisect.bisect_right(ends, offset)
    position = ends[index - 1] if index else 0
    while length > 0:
        part = parts[index]
        skip = offset - position
        take = min(part.size - skip, length)
        if take:
            yield part, skip, take
        position += part.size
        offset += take
        length -= take
        index += 1
