"""The one source of random names: request, version, upload, blob and message ids.

Tests pass a subclass with a fixed seed where an id must be known in advance.
"""

from __future__ import annotations

import hashlib
import secrets
import time

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _encode(number: int, alphabet: str, length: int) -> str:
    base = len(alphabet)
    digits = []
    for _ in range(length):
        number, digit = divmod(number, base)
        digits.append(alphabet[digit])
    return "".join(reversed(digits))


class Ids:
    """Random ids from the operating system's generator."""

    def bits(self, count: int) -> int:
        """``count`` random bits."""
        return secrets.randbits(count)

    def request(self) -> str:
        """16 characters, as S3's ``x-amz-request-id``."""
        return _encode(self.bits(80), _BASE32, 16)

    def version(self) -> str:
        """32 characters that nobody can guess; the order of versions is kept by the catalog."""
        return _encode(self.bits(160), _BASE32, 32)

    def upload(self) -> str:
        """40 characters that nobody can guess."""
        return _encode(self.bits(200), _BASE32, 40)

    def blob(self) -> str:
        """32 hex digits: 48 bits of milliseconds, so that index inserts stay local, then 80 random bits.

        Directories are chosen by the random tail.
        """
        return f"{int(time.time() * 1000) & (1 << 48) - 1:012x}{self.bits(80):020x}"

    def message(self) -> str:
        """``msg_`` and 27 base-62 characters: a webhook-id."""
        return "msg_" + _encode(self.bits(160), _BASE62, 27)

    def message_of(self, *what: object) -> str:
        """The webhook-id that belongs to ``what``: always the same one."""
        digest = hashlib.sha256(repr(what).encode()).digest()
        return "msg_" + _encode(int.from_bytes(digest[:20]), _BASE62, 27)

    def access_key(self) -> str:
        """20 characters, as AWS access key ids."""
        return "S3L" + _encode(self.bits(85), _BASE32, 17)

    def temporary_access_key(self, prefix: str) -> str:
        """20 characters."""
        return prefix + _encode(self.bits(85), _BASE32, 20 - len(prefix))

    def secret_key(self) -> str:
        """40 characters."""
        return _encode(self.bits(238), _BASE62, 40)
