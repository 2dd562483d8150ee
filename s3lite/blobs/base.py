"""The blob store's protocol: write-once bytes under random ids.

Each promise stands beside its method, and `tests/contract/test_blobs.py` runs on every
implementation. Stores speak in ``OSError`` and ``FileNotFoundError``; core says what that means.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol, Self

from s3lite.model import BlobId


class BlobsAwayError(OSError):
    """The store does not answer now: nothing was stored, and the request may be repeated."""


class Freed(NamedTuple):
    """What was removed: how many blobs, and how many bytes they had."""

    blobs: int = 0
    bytes: int = 0


class BlobWriter(Protocol):
    """One blob being written. Leaving the ``with`` block without `commit` leaves nothing behind."""

    def write(self, data: bytes | memoryview) -> None:
        """Append all of ``data``. Raises OSError (ENOSPC, EIO …)."""

    def commit(self) -> BlobId:
        """Make the bytes durable under a new id, directory entry included, and return the id.

        A failed sync is final for this blob: it is not retried, nothing remains.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class BlobStore(Protocol):
    """Immutable bytes. Safe to use from many threads, and from many processes on one store."""

    def create(self, *, size: int | None = None, blob: BlobId | None = None) -> BlobWriter:
        """Begin a blob, under a new id or, for a copy from another store, under ``blob``: where there is one
        of that id already, `BlobWriter.commit` replaces it or raises FileExistsError.

        With ``size`` known, room for it is reserved first: OSError ENOSPC when there is none."""

    def read(self, blob: BlobId, *, offset: int, length: int) -> Iterator[bytes]:
        """Yield exactly ``length`` bytes from ``offset``, in pieces of up to 1 MiB.

        Opens the blob at once (FileNotFoundError), so that a later delete does not disturb the reader.
        The iterator has ``close()`` and must be closed or exhausted.
        """

    def open(self, blob: BlobId) -> BinaryIO | None:
        """An unbuffered file positioned at 0, for sendfile; None when the store has no files."""

    def delete(self, blob: BlobId) -> None:
        """Remove. Already gone is success."""

    def scan(self) -> Iterator[tuple[BlobId, int, float]]:
        """Every committed blob: id, size, time of commit in epoch seconds. For the sweep and the check."""

    def sweep_temporary(self, *, older_than_s: float) -> Freed:
        """Remove the named temporaries that a crash left, older than this."""

    def ready(self) -> None:
        """Raise OSError when the store cannot take or give bytes."""

    def close(self) -> None:
        """Release descriptors. No call follows."""
