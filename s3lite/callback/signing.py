"""The keys and signatures of callbacks: OSS-compatible RSA-MD5, and Standard Webhooks.

Source: docs/callbacks.md, "Signatures"; the Standard Webhooks specification. The first is compatibility,
not security; applications should verify the second (`callback.verify`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

_SECRET_BYTES = 24


def new_webhook_secret() -> str:
    """``whsec_…``: the HMAC secret of one access key."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


@dataclass(frozen=True, slots=True)
class CallbackKeys:
    """The server's own keys. The first of ``ed25519`` is current; later ones are being phased out."""

    rsa: RSAPrivateKey
    ed25519: tuple[Ed25519PrivateKey, ...]

    @classmethod
    def generate(cls) -> Self:
        """New keys; takes about 100 ms, so only at the first start."""
        return cls(generate_private_key(65537, 2048), (Ed25519PrivateKey.generate(),))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` gave. Raises ValueError."""
        document = json.loads(data)
        rsa = serialization.load_pem_private_key(
            document["rsa"].encode(),
            None,
            unsafe_skip_rsa_key_validation=True,  # our own, sealed in the catalog; checking costs 40 ms a start
        )
        if not isinstance(rsa, RSAPrivateKey):
            raise ValueError("callback keys: no RSA key")
        seeds = (base64.b64decode(text, validate=True) for text in document["ed25519"])
        return cls(rsa, tuple(map(Ed25519PrivateKey.from_private_bytes, seeds)))

    def to_bytes(self) -> bytes:
        """All private keys as JSON, to be kept secret."""
        pem = self.rsa.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        seeds = [base64.b64encode(key.private_bytes_raw()).decode() for key in self.ed25519]
        return json.dumps({"rsa": pem.decode(), "ed25519": seeds}).encode()

    def rotated(self) -> Self:
        """A new Ed25519 key in front of the current one; older ones are dropped."""
        return type(self)(self.rsa, (Ed25519PrivateKey.generate(), self.ed25519[0]))

    def bucket_secrets(self, bucket_id: int) -> list[str]:
        """``whsec_…`` for callbacks by policies of one bucket, which its application holds whoever uploads.

        Derived from the server's keys, so nothing is kept, and a rotation of these rotates it: two secrets
        sign for a time. A bucket's number is never used again.
        """
        about = f"s3lite callback policies of bucket {bucket_id}".encode()
        digests = (hmac.digest(key.private_bytes_raw(), about, hashlib.sha256) for key in self.ed25519)
        return ["whsec_" + base64.b64encode(digest[:_SECRET_BYTES]).decode() for digest in digests]

    def public_pem(self) -> bytes:
        """The RSA public key, served at ``/.s3lite/callback-key.pem``."""
        return self.rsa.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def public_keys(self) -> list[str]:
        """``whpk_…`` of every Ed25519 key, the current one first."""
        raw = (key.public_key().public_bytes_raw() for key in self.ed25519)
        return ["whpk_" + base64.b64encode(data).decode() for data in raw]

    def public_keys_json(self) -> bytes:
        """The document at ``/.s3lite/callback-keys.json``: ``{"keys": ["whpk_…"]}``."""
        return json.dumps({"keys": self.public_keys()}).encode()

    def oss_signature(self, path: str, raw_query: str, body: bytes) -> str:
        """The ``Authorization`` header of OSS; ``path`` and ``raw_query`` as they stand in the URL."""
        signed = oss_signed_bytes(path, raw_query, body)
        # MD5 is what OSS's verifiers compute; the webhook signature is the one to rely on.
        return base64.b64encode(self.rsa.sign(signed, PKCS1v15(), hashes.MD5())).decode()  # noqa: S303

    def webhook_signature(self, webhook_id: str, timestamp: int, body: bytes, whsecs: Iterable[str]) -> str:
        """The ``webhook-signature`` header: an entry for every secret and every Ed25519 key."""
        signed = f"{webhook_id}.{timestamp}.".encode() + body
        entries = [
            "v1," + base64.b64encode(hmac.digest(secret_bytes(secret), signed, hashlib.sha256)).decode()
            for secret in whsecs
        ]
        entries += ["v1a," + base64.b64encode(key.sign(signed)).decode() for key in self.ed25519]
        return " ".join(entries)


def oss_signed_bytes(path: str, raw_query: str, body: bytes) -> bytes:
    """What the OSS signature is made over: decoded path, raw query, line feed, body."""
    query = f"?{raw_query}" if raw_query else ""
    return unquote_to_bytes(path) + query.encode() + b"\n" + body


def secret_bytes(whsec: str) -> bytes:
    """The key inside ``whsec_…``. Raises ValueError."""
    try:
        return base64.b64decode(whsec.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is whsec_ and Base64") from None
