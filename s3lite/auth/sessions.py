"""Temporary credentials: an access key, a secret and a token that carries everything the server must know.

The token is sealed (AES-256-GCM) under a key that all processes of an installation share. It names the key
that it was made by, when it ends, and its policy, and it opens only beside its own access key. The secret is
derived from the token by HMAC, so it is stored nowhere, and a token in the place of another one has another
secret, whether the signature covers it or not.

Nothing is written for a session, so making one costs no commit, every worker and node knows it at once, and
none has to be swept. What cannot be had without a row is to end a single one early. Its key is looked up
for each request: disabled or removed, it takes its sessions with it, and a policy that it gets binds them.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import zlib
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from s3lite.crypto.aead import NONCE_BYTES, Cipher, TamperedError
from s3lite.model import AccessKey, Session

PREFIX = "S3T"
"""What temporary access keys begin with."""

SESSION_SEAL_KEY = "session-seal-key"
"""The installation's key under which tokens are sealed."""

MAX_TOKEN_CHARACTERS = 8192  # twice what the longest policy can make of it, by default

_VERSION = b"s3lite session 1 "


class Opened(NamedTuple):
    """What a token says. ``key`` is the access key that it was made by, ``key_created_ms`` tells it from
    a later one of that name."""

    key: str
    key_created_ms: int
    session: Session
    secret_key: str


class SessionTokens:
    """Makes and opens tokens under the installation's ``seal_key`` (32 bytes). Safe to share between threads."""

    def __init__(self, seal_key: bytes) -> None:
        self._cipher = Cipher(hmac.digest(seal_key, b"seal", "sha256"))
        self._secret_key = hmac.digest(seal_key, b"secret", "sha256")
        self.open = lru_cache(maxsize=1024)(self._open)  # a session's requests are many

    def issue(self, key: AccessKey, session: Session) -> tuple[str, str]:
        """The secret and the token of a session that ``key`` makes."""
        described = [
            key.access_key,
            key.created_ms,
            session.role,
            session.name,
            session.issued_s,
            session.expires_s,
            session.policy,
        ]
        nonce = os.urandom(NONCE_BYTES)
        text = zlib.compress(json.dumps(described, separators=(",", ":")).encode(), 9)
        sealed = nonce + self._cipher.seal(nonce, text, _VERSION + session.access_key.encode())
        token = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        return self._secret(session.access_key, token), token

    def _open(self, access_key: str, token: str) -> Opened | None:
        """What a token says beside this access key; None if it was not made here for it. It may have expired."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            nonce, body = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            text = zlib.decompress(self._cipher.open(nonce, body, _VERSION + access_key.encode()))
        except (TamperedError, ValueError):
            return None
        key, created_ms, role, name, issued_s, expires_s, policy = json.loads(text)
        session = Session(access_key, role, name, issued_s, expires_s, policy)
        return Opened(key, created_ms, session, self._secret(access_key, token))

    def _secret(self, access_key: str, token: str) -> str:
        digest = hmac.digest(self._secret_key, f"{access_key}\n{token}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:30]).decode()


def temporary(key: AccessKey, opened: Opened) -> AccessKey:
    """The credential of a session: its key with another secret, and narrowed."""
    return replace(key, secret_key=opened.secret_key, session=opened.session)
