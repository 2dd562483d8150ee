"""The sealed form of bytes: any range opens to its slice, and nothing that was changed opens at all."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.crypto import segments
from s3lite.crypto.aead import TAG_BYTES, TamperedError, new_key
from s3lite.crypto.segments import SEALED_BYTES, SEGMENT_BYTES, Sealer, open_range, sealed_size

KEY = new_key()
BYTES = random.Random(1).randbytes(4 * SEGMENT_BYTES)
EDGES = [
    0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES, 3 * SEGMENT_BYTES + 7,
]  # fmt: skip

sizes = st.sampled_from(EDGES) | st.integers(0, len(BYTES))


def sealed(text: bytes, key: bytes = KEY, *, piece: int = 100_000) -> bytes:
    sealer = Sealer(key)
    pieces = [sealer.update(text[start : start + piece]) for start in range(0, len(text), piece)]
    return b"".join(pieces) + sealer.finish()


def opened(
    kept: bytes, size: int, offset: int, length: int, *, key: bytes = KEY, piece: int = 100_000
) -> bytes:
    def read(start: int, count: int) -> Iterator[bytes]:
        assert start + count <= len(kept)
        return (kept[at : min(at + piece, start + count)] for at in range(start, start + count, piece))

    return b"".join(open_range(key, size=size, offset=offset, length=length, read=read))


@given(sizes, st.integers(500, 300_000), st.integers(500, 300_000), st.data())
def test_any_range_of_any_size_is_the_slice_of_the_plaintext(size, piece_in, piece_out, data) -> None:
    text = BYTES[:size]
    kept = sealed(text, piece=piece_in)
    assert len(kept) == sealed_size(size)
    offset = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - offset))
    assert opened(kept, size, offset, length, piece=piece_out) == text[offset : offset + length]


def test_a_range_reads_no_more_than_the_segments_that_it_touches() -> None:
    kept = sealed(BYTES)
    asked = []

    def read(start: int, count: int) -> Iterator[bytes]:
        asked.append((start, count))
        return iter((kept[start : start + count],))

    list(open_range(KEY, size=len(BYTES), offset=SEGMENT_BYTES + 5, length=10, read=read))
    assert asked == [(SEALED_BYTES, SEALED_BYTES)]


def test_ciphertext_shows_nothing_and_differs_from_key_to_key() -> None:
    text = b"marker" * 20_000
    assert b"marker" not in sealed(text)
    assert sealed(text, new_key()) != sealed(text)


@given(st.integers(0, 3 * SEGMENT_BYTES + 3 * TAG_BYTES + 6), st.integers(0, 7))
def test_a_flipped_bit_is_found_by_whoever_reads_its_segment(position, bit) -> None:
    size = 3 * SEGMENT_BYTES + 7
    kept = bytearray(sealed(BYTES[:size]))
    kept[position] ^= 1 << bit
    number = position // SEALED_BYTES
    with pytest.raises(TamperedError):
        opened(bytes(kept), size, number * SEGMENT_BYTES, 1)
    if number:
        assert opened(bytes(kept), size, 0, 10) == BYTES[:10]


def test_what_came_before_the_damage_was_true_and_nothing_came_after() -> None:
    kept = bytearray(sealed(BYTES))
    kept[2 * SEALED_BYTES] ^= 1
    pieces = open_range(
        KEY, size=len(BYTES), offset=0, length=len(BYTES),
        read=lambda start, count: iter([bytes(kept[: 2 * SEALED_BYTES]), bytes(kept[2 * SEALED_BYTES :])]),
    )  # fmt: skip
    assert next(pieces) == BYTES[: 2 * SEGMENT_BYTES]
    with pytest.raises(TamperedError):
        next(pieces)


def test_segments_cannot_be_exchanged_repeated_or_cut_off() -> None:
    size = 3 * SEGMENT_BYTES
    kept = sealed(BYTES[:size])
    first, second, third = (kept[n * SEALED_BYTES : (n + 1) * SEALED_BYTES] for n in range(3))
    for changed in (second + first + third, first + first + third, first + third):
        with pytest.raises(TamperedError):
            opened(changed, len(changed) // SEALED_BYTES * SEGMENT_BYTES, 0, SEGMENT_BYTES + 1)
    with pytest.raises(TamperedError):  # a shorter size makes another segment the last
        opened(first + second, 2 * SEGMENT_BYTES, SEGMENT_BYTES, 1)


def test_bytes_that_are_missing_are_no_short_answer() -> None:
    kept = sealed(BYTES[:1000])
    for count in (0, 5, len(kept) - 1):
        with pytest.raises(TamperedError):
            list(open_range(KEY, size=1000, offset=0, length=9, read=lambda *_, n=count: iter((kept[:n],))))


def test_segments_of_another_key_are_nothing() -> None:
    with pytest.raises(TamperedError):
        opened(sealed(BYTES[:100]), 100, 0, 100, key=new_key())


@given(st.lists(st.integers(0, 200_000), max_size=6))
def test_sealing_does_not_depend_on_how_the_bytes_arrive(lengths) -> None:
    text, sealer, kept = BYTES[: min(sum(lengths), len(BYTES))], Sealer(KEY), b""
    position = 0
    for length in lengths:
        kept += sealer.update(text[position : position + length])
        position += length
    assert kept + sealer.finish() == sealed(text)


def test_no_two_segments_share_a_nonce() -> None:
    nonces = {segments._nonce(number, is_last=last) for number in range(300) for last in (False, True)}
    assert len(nonces) == 600
