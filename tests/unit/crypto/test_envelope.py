"""Sealed keys: opened by their root for their purpose, and by nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.crypto import envelope
from s3lite.crypto.aead import TamperedError, new_key

ROOT, KEY = new_key(), new_key()


def test_a_sealed_key_opens_for_what_it_belongs_to() -> None:
    sealed = envelope.seal(ROOT, KEY, about=("object", 5, "blob"))
    assert envelope.open_sealed(ROOT, sealed, about=("object", 5, "blob")) == KEY
    assert KEY not in base64.b64decode(sealed)


@pytest.mark.parametrize("about", [("object", 6, "blob"), ("object", 5), ("object", "5", "blob"), ()])
def test_it_opens_for_nothing_else(about) -> None:
    sealed = envelope.seal(ROOT, KEY, about=("object", 5, "blob"))
    with pytest.raises(TamperedError):
        envelope.open_sealed(ROOT, sealed, about=about)


def test_another_root_opens_nothing() -> None:
    with pytest.raises(TamperedError):
        envelope.open_sealed(new_key(), envelope.seal(ROOT, KEY, about=()), about=())


def test_no_two_sealings_are_alike() -> None:
    assert len({envelope.seal(ROOT, KEY, about=()) for _ in range(50)}) == 50


@given(st.integers(0, 63), st.integers(0, 7))
def test_a_flipped_bit_is_found(position, bit) -> None:
    raw = bytearray(base64.b64decode(envelope.seal(ROOT, KEY, about=())))
    assert len(raw) == 64
    raw[position] ^= 1 << bit
    with pytest.raises(TamperedError):
        envelope.open_sealed(ROOT, base64.b64encode(raw).decode(), about=())


@given(st.text(max_size=100))
def test_any_text_is_a_key_or_tampered(text) -> None:
    with pytest.raises(TamperedError):
        envelope.open_sealed(ROOT, text, about=())


def test_a_verifier_knows_its_key_and_does_not_hold_it() -> None:
    made = envelope.verifier(KEY)
    assert envelope.is_verified(KEY, made)
    assert not envelope.is_verified(new_key(), made)
    assert envelope.verifier(KEY) != made
    assert KEY not in base64.b64decode(made)
