"""The sealed form of an object's bytes: segments that each stand for themselves, in an order that holds.

Plaintext is cut into segments of 64 KiB; each is sealed by AES-256-GCM and grows by its tag of 16
bytes. The nonce is the segment's number and whether it is the last one, as in the STREAM construction
(Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", 2015), so that segments cannot be exchanged, repeated, or cut off at the end. Every
blob has a key of its own, so that nonces never meet and segments of one blob are nothing in another.

A range is read by opening the segments that it touches. Nothing leaves before its tag has been verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from s3lite.crypto.aead import NONCE_BYTES, TAG_BYTES, Cipher, TamperedError

SEGMENT_BYTES = 64 << 10
SEALED_BYTES = SEGMENT_BYTES + TAG_BYTES

_ABOUT = b"s3lite segment 1"

Reader = Callable[[int, int], Iterator[bytes]]
"""Sealed bytes by offset and length."""


def sealed_size(size: int) -> int:
    """Bytes that ``size`` bytes of plaintext become."""
    return size + TAG_BYTES * -(-size // SEGMENT_BYTES)


def _nonce(number: int, *, is_last: bool) -> bytes:
    return (number << 8 | is_last).to_bytes(NONCE_BYTES, "big")


class Sealer:
    """Seals a stream. One segment is kept back until it is known whether it is the last."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(key)
        self._rest = bytearray()
        self._number = 0

    def update(self, data: bytes) -> bytes:
        """The segments that ``data`` completes, sealed."""
        rest = self._rest
        rest += data
        if len(rest) <= SEGMENT_BYTES:
            return b""
        full = (len(rest) - 1) // SEGMENT_BYTES * SEGMENT_BYTES
        with memoryview(rest) as view:
            sealed = b"".join(
                self._seal(view[start : start + SEGMENT_BYTES], is_last=False)
                for start in range(0, full, SEGMENT_BYTES)
            )
        del rest[:full]
        return sealed

    def finish(self) -> bytes:
        """The last segment; nothing when there were no bytes at all."""
        return self._seal(bytes(self._rest), is_last=True) if self._rest else b""

    def _seal(self, text: bytes | memoryview, *, is_last: bool) -> bytes:
        sealed = self._cipher.seal(_nonce(self._number, is_last=is_last), text, _ABOUT)
        self._number += 1
        return sealed


def open_range(key: bytes, *, size: int, offset: int, length: int, read: Reader) -> Iterator[bytes]:
    """Yield ``length`` bytes of plaintext from ``offset``; ``size`` is that of the whole plaintext.

    ``read`` is called once, for the segments that hold the range, in whatever pieces it likes. Raises
    TamperedError, before anything of the segment concerned is given out, and what ``read`` raises.
    """
    if length == 0:
        return
    cipher = Cipher(key)
    number, last = offset // SEGMENT_BYTES, (size - 1) // SEGMENT_BYTES
    until = (offset + length - 1) // SEGMENT_BYTES
    begin = number * SEALED_BYTES
    end = min((until + 1) * SEALED_BYTES, sealed_size(size))
    skip, left = offset - number * SEGMENT_BYTES, length
    rest = b""
    for piece in read(begin, end - begin):
        sealed = rest + piece if rest else piece
        begin += len(piece)
        view, position, texts = memoryview(sealed), 0, []
        while len(sealed) - position >= SEALED_BYTES or (begin == end and position < len(sealed)):
            segment = view[position : position + SEALED_BYTES]
            texts.append(cipher.open(_nonce(number, is_last=number == last), segment, _ABOUT))
            position += len(segment)
            number += 1
        rest = bytes(view[position:])
        if texts:
            text = b"".join(texts)[skip : skip + left]
            skip = 0
            left -= len(text)
            yield text
    if left:
        raise TamperedError("sealed bytes are missing")
