"""Bodies as pull streams: the protocol that every stage speaks, and its two ends.

A body flows socket → `LengthSource` → (aws-chunked decoder or form reader) → digests → blob writer,
each stage asking the one before it for a buffer at a time, so that a request holds one buffer's
worth of memory whatever the size of its body.
"""

from __future__ import annotations

from typing import Protocol

from s3lite.errors import Code, S3Error

_PIECE = 256 << 10  # bytes asked for at once where nobody else chooses


class Source(Protocol):
    """A stage of a body."""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, fewer only when that is cheaper; b"" at the end and ever after.

        Raises S3Error on any fault of the stream.
        """


class RawInput(Protocol):
    """What a WSGI server puts into ``wsgi.input``."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; b"" at the end of the input."""


class LengthSource:
    """A body as the connection delivers it: exactly ``length`` bytes, or, with None, up to the end.

    None is for chunked transfer on servers that end the input themselves (``wsgi.input_terminated``);
    ``max_bytes`` then bounds it. ``consumed`` counts the bytes that were read.
    """

    def __init__(self, raw: RawInput, length: int | None, *, max_bytes: int | None = None) -> None:
        self.consumed = 0
        self._raw = raw
        self._left = length
        self._max_bytes = max_bytes
        self._ended = length == 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes.

        Raises IncompleteBody (ended early, or the connection broke), RequestTimeout, EntityTooLarge.
        """
        if self._ended or size <= 0:
            return b""
        left = self._left
        data = self._pull(size if left is None else min(size, left))
        self.consumed += len(data)
        if left is not None:
            if not data:
                raise S3Error(Code.IncompleteBody)
            self._left = left - len(data)
            self._ended = self._left == 0
        elif not data:
            self._ended = True
        elif self._max_bytes is not None and self.consumed > self._max_bytes:
            raise S3Error(
                Code.EntityTooLarge,
                f"Your proposed upload exceeds the maximum allowed size of {self._max_bytes} bytes.",
                MaxSizeAllowed=str(self._max_bytes),
            )
        return data

    def _pull(self, size: int) -> bytes:
        """One read. Servers raise whatever they like when a client goes away: gunicorn five kinds."""
        try:
            return self._raw.read(size)
        except S3Error:
            raise
        except TimeoutError as error:
            raise S3Error(Code.RequestTimeout) from error
        except Exception as error:
            raise S3Error(
                Code.IncompleteBody, "The connection broke, or its framing did, before the body was complete."
            ) from error

    def drain(self, limit: int) -> bool:
        """Read and drop up to ``limit`` bytes; True when the body has ended. Raises as `read`."""
        left = limit
        while left > 0 and not self._ended:
            left -= len(self.read(min(left, _PIECE)))
        return self._ended


def read_all(source: Source, *, limit: int) -> bytes:
    """The whole of a small body. Raises MaxMessageLengthExceeded beyond ``limit`` bytes."""
    pieces = []
    left = limit + 1
    while left > 0 and (piece := source.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    if left <= 0:
        raise S3Error(
            Code.MaxMessageLengthExceeded,
            f"Your request was too large: its body may have {limit} bytes.",
            MaxMessageLengthBytes=str(limit),
        )
    return b"".join(pieces)
