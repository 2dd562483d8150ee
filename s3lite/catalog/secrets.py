"""Secrets at rest: AES-256-GCM under a key file that lies beside the index and not in it.

A stolen copy of the index alone gives no credential away. The context (which row and column a secret
belongs to) is authenticated, so that sealed values cannot be exchanged between rows.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = b"\x01"
_CACHE_ENTRIES = 4096


class SecretsError(Exception):
    """A sealed value cannot be opened, or the key file cannot be used."""


class SecretBox:
    """Seals and opens short values under one key. Safe to use from many threads."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._opened: dict[tuple[bytes, str], bytes] = {}

    @classmethod
    def load(cls, path: Path) -> SecretBox:
        """The box of a key file, which is made (mode 0600, durable) when it is missing."""
        try:
            text = path.read_text(encoding="ascii")
        except FileNotFoundError:
            _create_key_file(path)
            text = path.read_text(encoding="ascii")
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise SecretsError(f"{path}: not a key file of s3lite ({2 * _KEY_BYTES} hex digits)")
        return cls(key)

    def seal(self, value: bytes, *, context: str) -> bytes:
        """Encrypt. The same value gives other bytes each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, value, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Decrypt; remembered, because every signed request needs it. Raises SecretsError."""
        known = self._opened.get((sealed, context))
        if known is not None:
            return known
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if sealed[:1] != _FORMAT:
                raise InvalidTag
            value = self._cipher.decrypt(nonce, body, context.encode())
        except (InvalidTag, ValueError):
            raise SecretsError(f"{context}: sealed with another key file, or damaged") from None
        if len(self._opened) >= _CACHE_ENTRIES:
            self._opened.clear()
        self._opened[sealed, context] = value
        return value


def _create_key_file(path: Path) -> None:
    """Write a new key under a name of its own, then link it: nobody ever reads half a key."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES).hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return  # another process was faster: its key holds
    finally:
        os.unlink(temporary)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
