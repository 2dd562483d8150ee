"""The blob store in memory: the reference, and the store of tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import BinaryIO, Self

from s3lite.blobs.base import Freed
from s3lite.ids import Ids
from s3lite.model import BlobId
from s3lite.times import Clock

_PIECE = 1 << 20


class MemoryBlobs:
    """`BlobStore` in a dictionary."""

    def __init__(self, *, ids: Ids | None = None, clock: Clock | None = None) -> None:
        self._ids = ids or Ids()
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._blobs: dict[BlobId, tuple[bytes, float]] = {}

    def create(self, *, size: int | None = None, blob: BlobId | None = None) -> _MemoryWriter:
        """See `BlobStore.create`; room is not reserved."""
        return _MemoryWriter(self, blob or BlobId(self._ids.blob()))

    def keep(self, blob: BlobId, data: bytes) -> BlobId:
        """Enter a finished blob."""
        with self._lock:
            self._blobs[blob] = (data, self._clock.time())
        return blob

    def read(self, blob: BlobId, *, offset: int, length: int) -> Iterator[bytes]:
        """See `BlobStore.read`."""
        try:
            data, _ = self._blobs[blob]
        except KeyError:
            raise FileNotFoundError(blob) from None
        return _pieces(data, offset, length)

    def open(self, blob: BlobId) -> BinaryIO | None:
        """None: there are no files."""
        return None

    def delete(self, blob: BlobId) -> None:
        """See `BlobStore.delete`."""
        with self._lock:
            self._blobs.pop(blob, None)

    def scan(self) -> Iterator[tuple[BlobId, int, float]]:
        """See `BlobStore.scan`."""
        with self._lock:
            found = [(blob, len(data), committed_s) for blob, (data, committed_s) in self._blobs.items()]
        return iter(found)

    def sweep_temporary(self, *, older_than_s: float) -> Freed:
        """Nothing outlives a writer here."""
        return Freed()

    def ready(self) -> None:
        """Always."""

    def close(self) -> None:
        """Nothing to release."""


class _MemoryWriter:
    """`BlobWriter` into a buffer."""

    def __init__(self, store: MemoryBlobs, blob: BlobId) -> None:
        self._store = store
        self._blob = blob
        self._buffer = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        """See `BlobWriter.write`."""
        self._buffer += data

    def commit(self) -> BlobId:
        """See `BlobWriter.commit`."""
        return self._store.keep(self._blob, bytes(self._buffer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._buffer = bytearray()


def _pieces(data: bytes, offset: int, length: int) -> Iterator[bytes]:
    if offset + length > len(data):
        raise OSError(f"range ends at {offset + length}, blob at {len(data)}")
    for start in range(offset, offset + length, _PIECE):
        yield data[start : min(start + _PIECE, offset + length)]
