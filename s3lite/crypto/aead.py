"""AES-256-GCM of the library `cryptography`, the one cipher that seals objects and their keys."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
TAG_BYTES = 16
NONCE_BYTES = 12


class TamperedError(Exception):
    """Sealed bytes are not those that were sealed, or not with this key."""


class Cipher:
    """One key. A nonce must never be used for two texts; callers see to it."""

    __slots__ = ("_aes",)

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)

    def seal(self, nonce: bytes, text: bytes | memoryview, about: bytes) -> bytes:
        """Ciphertext and tag; ``about`` is authenticated with them."""
        return self._aes.encrypt(nonce, text, about)

    def open(self, nonce: bytes, sealed: bytes | memoryview, about: bytes) -> bytes:
        """The text. Raises TamperedError."""
        try:
            return self._aes.decrypt(nonce, sealed, about)
        except InvalidTag:
            raise TamperedError("sealed bytes are damaged, or belong elsewhere") from None


def new_key() -> bytes:
    """A fresh random key."""
    return secrets.token_bytes(KEY_BYTES)
