"""A blob on its way to or from RADOS, several stripes or pieces at once; `rados` says how it lies there."""

from __future__ import annotations

import errno
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Any, Self

from s3lite.blobs.rados_link import Link, done, failure
from s3lite.model import BlobId
from s3lite.times import Clock

STALE_S = 1800.0  # no pending blob is given up before, and none committed after so long without a touch
_PIECE = 1 << 20
_TOUCH_S = 60.0


class RadosWriter:
    """`BlobWriter` with `RadosSettings.write_ahead` stripes in flight."""

    def __init__(self, link: Link, blob: BlobId, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._blob = blob
        self._pieces: list[bytes] = []
        self._have = 0
        self._first: bytes | None = None
        self._stripes = 0  # sent, without the first
        self._flying: deque[Any] = deque()
        self._size = 0
        self._touched = 0.0
        self._is_open = True

    def write(self, data: bytes | memoryview) -> None:
        """See `BlobWriter.write`. An error may be that of an earlier piece."""
        self._pieces.append(bytes(data))
        self._have += len(data)
        self._size += len(data)
        stripe = self._link.stripe
        while self._have > stripe or (self._have == stripe and self._first is not None):
            whole = b"".join(self._pieces)
            self._send(whole[:stripe])
            self._pieces = [whole[stripe:]]
            self._have -= stripe

    def _send(self, body: bytes) -> None:
        """Keep the first stripe, send any other on its way."""
        if self._first is None:
            self._first = body
            return
        self._touch()
        if len(self._flying) >= self._link.write_ahead:
            self._land()
        self._stripes += 1
        with self._link.told(f"blob {self._blob}"):
            self._flying.append(self._link.io.aio_write_full(f"{self._blob}.{self._stripes}", body))

    def _land(self) -> None:
        code = done(self._flying.popleft())
        if code < 0:
            raise failure(-code, f"blob {self._blob}: a stripe could not be written")

    def _touch(self) -> None:
        """Say that this blob is being written."""
        if not self._touched or monotonic() - self._touched > _TOUCH_S:
            began = monotonic()
            with self._link.told(f"blob {self._blob}"):
                self._link.pending.write_full(self._blob, b"")
            self._touched = began

    def commit(self) -> BlobId:
        """See `BlobWriter.commit`. The writer is closed afterwards, however it ends."""
        try:
            rest = b"".join(self._pieces)
            if self._first is None:
                self._first = rest
            elif rest:
                self._send(rest)
            while self._flying:
                self._land()
            if self._touched and monotonic() - self._touched > STALE_S / 2:
                raise OSError(
                    errno.EIO, f"blob {self._blob}: took too long, a sweep may have removed parts of it"
                )
            self._publish(self._first)
        finally:
            self.__exit__()
        return self._blob

    def _publish(self, first: bytes) -> None:
        """Write the first stripe, which makes it a blob."""
        rados = self._link.rados
        with self._link.told(f"blob {self._blob}"), rados.WriteOpCtx() as op:
            op.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
            op.write_full(first)
            op.set_xattr("size", str(self._size).encode())
            # Its own default is the epoch's beginning, whatever its documentation says: an orphan at once.
            self._link.io.operate_write_op(op, self._blob, mtime=int(self._clock.time()))
        self._is_open = False
        if self._touched:
            with suppress(rados.Error):  # a sweep finds the blob committed and removes the mark
                self._link.pending.remove_object(self._blob)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Remove what was sent. What cannot be removed now keeps its mark, for a sweep."""
        if not self._is_open:
            return
        self._is_open = False
        self._pieces, self._first = [], None
        if not self._touched:
            return
        is_clear = True
        while self._flying:
            is_clear &= done(self._flying.popleft()) >= 0  # what timed out may still come to pass
        with suppress(OSError):
            self._link.remove_stripes(self._blob, range(1, self._stripes + 1))
            if is_clear:
                with suppress(self._link.rados.Error):
                    self._link.pending.remove_object(self._blob)


class RadosReader:
    """Pieces of a blob, ``ahead`` of them on their way."""

    def __init__(self, link: Link, blob: BlobId, *, offset: int, length: int, ahead: int) -> None:
        self._link = link
        self._blob = blob
        self._end = offset + length
        self._next = offset
        self._flying: deque[tuple[Any, list[bytes], int]] = deque()
        self._is_closed = False
        for _ in range(ahead):
            self._ask()
        if self._flying:
            self._check(done(self._flying[0][0]))
        else:
            link.size(blob)  # nothing to read, of a blob that must be there

    def _ask(self) -> None:
        """Ask for the next piece, which never crosses the end of a stripe."""
        if self._next >= self._end:
            return
        stripe, start = divmod(self._next, self._link.stripe)
        length = min(_PIECE, self._end - self._next, self._link.stripe - start)
        name = f"{self._blob}.{stripe}" if stripe else self._blob
        box: list[bytes] = []

        def arrived(_completion: object, data: bytes | None) -> None:
            if data is not None:
                box.append(data)

        with self._link.told(f"blob {self._blob}"):
            self._flying.append((self._link.io.aio_read(name, length, start, arrived), box, length))
        self._next += length

    def _check(self, code: int) -> None:
        if code == -errno.ENOENT:
            raise FileNotFoundError(self._blob)
        if code < 0:
            raise failure(-code, f"blob {self._blob}: could not be read")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._is_closed or not self._flying:
            self.close()
            raise StopIteration
        completion, box, length = self._flying.popleft()
        completion.wait_for_complete_and_cb()
        code = int(completion.get_return_value())
        if code < 0:
            self.close()
            self._check(code)
        if code != length:
            end = self._next - sum(piece[2] for piece in self._flying) - length + code
            self.close()
            raise OSError(errno.EIO, f"blob ends at {end}, {self._end} expected")
        self._ask()
        return box[0]

    def close(self) -> None:
        """Ask for nothing more; harmless when repeated."""
        self._is_closed = True
        self._flying.clear()
