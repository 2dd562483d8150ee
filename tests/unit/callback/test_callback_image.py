from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.callback.callback_kit import RELAXED

from s3lite.callback.image import ImageInfo, probe

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 257, 197) + b"\x08\x06\x00\x00\x00"
SOF = b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 197, 257) + b"\x03"
EXIF = b"\xff\xe1" + struct.pack(">H", 2 + 9000) + b"\xff\xc0" * 4500
JPEG = b"\xff\xd8" + EXIF + b"\xff\xff\xff\xdb\x00\x04ab" + SOF
GIF = b"GIF89a" + struct.pack("<HH", 257, 197)
BMP = b"BM" + bytes(12) + struct.pack("<Iii", 40, 257, -197)
OS2 = b"BM" + bytes(12) + struct.pack("<IHH", 12, 257, 197)
RIFF = b"RIFF\x00\x00\x00\x00WEBP"
VP8 = RIFF + b"VP8 \x00\x00\x00\x00\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 257 | 0x4000, 197)
VP8L = RIFF + b"VP8L\x00\x00\x00\x00\x2f" + struct.pack("<I", 256 | 196 << 14)
VP8X = (
    RIFF + b"VP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + (256).to_bytes(3, "little") + (196).to_bytes(3, "little")
)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (PNG, "png"), (JPEG, "jpg"), (b"\xff\xd8" + SOF, "jpg"), (GIF, "gif"), (BMP, "bmp"), (OS2, "bmp"),
        (VP8, "webp"), (VP8L, "webp"), (VP8X, "webp"),
    ],
)  # fmt: skip
def test_headers(data: bytes, name: str) -> None:
    assert probe(data) == ImageInfo(257, 197, name)
    assert probe(data + b"after the header") == ImageInfo(257, 197, name)


@pytest.mark.parametrize("data", [PNG, JPEG, GIF, BMP, OS2, VP8, VP8L, VP8X])
def test_no_prefix_raises_or_gives_another_size(data: bytes) -> None:
    cuts = range(len(data)) if len(data) < 100 else [*range(64), *range(len(data) - 32, len(data))]
    assert {probe(data[:length]) for length in cuts} <= {None, probe(data)}


def test_jpeg_size_behind_the_probed_bytes_is_no_image() -> None:
    segment = b"\xff\xe2\xff\xff" + bytes(65533)
    assert probe(b"\xff\xd8" + segment * 5 + SOF) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"this is content", b"<svg width='1'/>", PNG[:16] + bytes(8), GIF[:6] + bytes(4),
        b"\xff\xd8\xff\xda\x00\x02" + SOF, b"\xff\xd8\xff\xe0\x00\x00" + SOF, b"RIFF\x00\x00\x00\x00WAVEfmt ",
        PNG[:16] + b"\xff" * 8, b"BM" + bytes(12) + struct.pack("<Iii", 7, 1, 1), RIFF + b"VP8 " + bytes(20),
    ],
)  # fmt: skip
def test_what_is_not_an_image(data: bytes) -> None:
    assert probe(data) is None


@RELAXED
@given(st.sampled_from([PNG, JPEG[:40], GIF, BMP, RIFF, VP8]), st.integers(2, 30), st.binary(max_size=60))
def test_any_bytes_give_a_size_or_none(start: bytes, keep: int, rest: bytes) -> None:
    info = probe(start[:keep] + rest)
    assert info is None or (info.width > 0 and info.height > 0)
