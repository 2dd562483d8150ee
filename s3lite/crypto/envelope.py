"""Keys under keys: how the key of an object's bytes is kept beside them without being there.

A key is sealed by AES-256-GCM under a key made from a root (a key of the keyring, or the one that a
customer sends) and a random salt, by HMAC-SHA-256. So no two sealings share a key, however many there
are, and there is no nonce to run out of. What the key belongs to is authenticated with it.

Of a customer's key nothing is kept but a salted HMAC, which tells it from another one.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets

from s3lite.crypto.aead import NONCE_BYTES, Cipher, TamperedError

_SALT_BYTES = 16
_NONCE = bytes(NONCE_BYTES)  # a key made from a fresh salt seals once

About = tuple[str | int, ...]
"""What a sealed key belongs to."""


def seal(root: bytes, key: bytes, *, about: About) -> str:
    """Seal ``key`` under ``root``; Base64."""
    salt = secrets.token_bytes(_SALT_BYTES)
    sealed = _cipher(root, salt).seal(_NONCE, key, _encoded(about))
    return base64.b64encode(salt + sealed).decode()


def open_sealed(root: bytes, sealed: str, *, about: About) -> bytes:
    """What `seal` sealed. Raises TamperedError: another root, another purpose, or damage."""
    raw = _decoded(sealed)
    return _cipher(root, raw[:_SALT_BYTES]).open(_NONCE, raw[_SALT_BYTES:], _encoded(about))


def _cipher(root: bytes, salt: bytes) -> Cipher:
    return Cipher(_derived(root, b"s3lite sealing key 1", salt))


def _derived(root: bytes, purpose: bytes, salt: bytes) -> bytes:
    return hmac.digest(root, purpose + b"\0" + salt, "sha256")


def _encoded(about: About) -> bytes:
    return json.dumps(about, separators=(",", ":")).encode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise TamperedError("a sealed key is not Base64") from None


def verifier(customer_key: bytes) -> str:
    """What tells a customer's key from others, and says nothing else about it; Base64."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return base64.b64encode(salt + _derived(customer_key, b"s3lite customer key 1", salt)).decode()


def is_verified(customer_key: bytes, expected: str) -> bool:
    """Whether `verifier` made ``expected`` for this key. Raises TamperedError."""
    raw = _decoded(expected)
    derived = _derived(customer_key, b"s3lite customer key 1", raw[:_SALT_BYTES])
    return hmac.compare_digest(derived, raw[_SALT_BYTES:])
