"""Reading: a version and a range become bytes, across however many blobs they lie in.

Nothing is locked. The version row names its blobs, and released blobs are kept for a grace period,
so a reader that has begun finishes. The names of a multipart version's blobs go with its row: they are read
before the first byte is answered.
"""

from __future__ import annotations

import bisect
import hashlib
import logging
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import BinaryIO

from s3lite.core import sealing
from s3lite.core.store import Store
from s3lite.errors import Code, S3Error
from s3lite.model import BlobId, ObjectVersion, Segment
from s3lite.wire.encryption import CustomerKey

log = logging.getLogger("s3lite")


class VersionGoneError(S3Error):
    """A version was removed after its row was read, and before its parts were: look the object up again."""


def open_file(store: Store, version: ObjectVersion) -> BinaryIO | None:
    """The one file that holds all of ``version`` as it is, for sendfile; None when there is no such file."""
    if (
        version.blob is None
        or version.encryption is not None
        or version.size <= store.settings.storage.inline_bytes
        or store.settings.storage.verify_reads
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

    Raises VersionGoneError at once, and InternalError when bytes are missing. Of an encrypted version, and of any under
    ``storage.verify_reads``, the first piece has been opened or verified on return: raises InternalError for
    damage, also while it is read, and what `sealing.key_of_version` does.
    """
    if version.encryption is not None:
        return _read_sealed(store, version, offset, length, customer, parts)
    if version.part_count == 0:
        return read_plain(store, version.blob, version.size, version.etag, offset, length)
    parts = segments(store, version) if parts is None else parts
    pieces = _read_segments(store, parts, offset, length)
    return sealing.primed(pieces) if store.settings.storage.verify_reads else pieces


def small_bytes(store: Store, version: ObjectVersion) -> bytes | None:
    """All bytes of a version kept in the index as they are, in one piece; None when they are elsewhere.

    Raises InternalError for damage, under ``storage.verify_reads``.
    """
    if (
        version.part_count
        or version.encryption is not None
        or version.size > store.settings.storage.inline_bytes
    ):
        return None
    if version.blob is None:
        return b""
    with store.catalog.read() as tx:
        data = tx.inline_data(version.blob)
    if data is not None and store.settings.storage.verify_reads and _md5(data).hexdigest() != version.etag:
        raise _damaged(version.blob)
    return data


def segments(store: Store, version: ObjectVersion) -> list[Segment]:
    """The parts of a version, in order, without what was appended since. Raises VersionGoneError: they go with its row."""
    with store.catalog.read() as tx:
        found = tx.segments(version.row)
    if len(found) < version.part_count:
        raise VersionGoneError(Code.OperationAborted)
    return found[: version.part_count]


def read_plain(
    store: Store, blob: BlobId | None, size: int, md5: str, offset: int, length: int
) -> Iterator[bytes]:
    """A range of a blob of ``size`` bytes that is not encrypted; ``md5``, in hex, is that of all of them.

    Under ``storage.verify_reads`` all of the blob is read, whatever the range, and the last piece of the range
    is held back until the MD5 has turned out right. So the range is complete only if the blob is sound, and one
    of a single piece (of a megabyte, or less) is refused before anything has left. Raises InternalError.
    """
    if blob is None or length == 0 or not store.settings.storage.verify_reads:
        return read_blob(store, blob, offset, length)
    return sealing.primed(_verified(store, blob, size, md5, offset, length))


def _verified(store: Store, blob: BlobId, size: int, md5: str, offset: int, length: int) -> Iterator[bytes]:
    found, position, held = _md5(), 0, b""
    for piece in read_blob(store, blob, 0, size):
        found.update(piece)
        wanted = piece[max(offset - position, 0) : max(offset + length - position, 0)]
        position += len(piece)
        if wanted:
            if held:
                yield held
            held = wanted
    if found.hexdigest() != md5:
        raise _damaged(blob)
    yield held


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)


def _damaged(blob: BlobId) -> S3Error:
    log.error("blob %s is damaged: its MD5 is another; `s3lite check --deep` names its objects", blob)
    return S3Error(Code.InternalError, sealing.DAMAGED)


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
        yield from read_plain(store, part.blob, part.size, part.etag, skip, take)


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
