"""Width, height and format of an image, read from its first bytes. Nothing is ever decoded.

For the variable ``imageInfo`` (docs/callbacks.md, "Variables"). The bytes are an uploader's, so every field is
checked before it is used, and whatever does not fit is "not an image".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

PROBE_BYTES = 256 << 10
"""As many of an object's first bytes as are looked at."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """``format`` is png, jpg, gif, webp or bmp."""

    width: int
    height: int
    format: str


def probe(first_bytes: bytes) -> ImageInfo | None:
    """What the header of an image says; None for anything else, damaged images included."""
    data = first_bytes[:PROBE_BYTES]
    for magic, name, measure in _FORMATS:
        if data.startswith(magic):
            try:
                size = measure(data)
            except (struct.error, IndexError):  # the header goes on behind the last byte
                return None
            return ImageInfo(*size, name) if size is not None and min(size) > 0 else None
    return None


def _png(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return (width, height) if max(width, height) < 1 << 31 else None


def _gif(data: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int] | None:
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:  # BITMAPCOREHEADER
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    if not 40 <= header_size <= 256:
        return None
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)  # negative: rows run from the top


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[8:12] != b"WEBP":
        return None
    chunk = data[12:16]
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk the segments up to the first start of frame (ITU-T T.81, B.1.1.4 and B.2.2)."""
    position = 2
    while True:
        if data[position] != 0xFF:
            return None
        while data[position] == 0xFF:  # any number of fill bytes
            position += 1
        marker = data[position]
        position += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # stand-alone
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 3)
            return width, height
        (length,) = struct.unpack_from(">H", data, position)
        if length < 2 or marker in (0x00, 0xD8, 0xD9, 0xDA):  # image data before any frame
            return None
        position += length


_Measure = Callable[[bytes], tuple[int, int] | None]
_FORMATS: tuple[tuple[bytes, str, _Measure], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png", _png),
    (b"\xff\xd8\xff", "jpg", _jpeg),
    (b"GIF87a", "gif", _gif),
    (b"GIF89a", "gif", _gif),
    (b"RIFF", "webp", _webp),
    (b"BM", "bmp", _bmp),
)
