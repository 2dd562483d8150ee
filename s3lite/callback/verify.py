"""Verify s3lite's upload callbacks. Copy this file into your application: it imports nothing of s3lite.

    webhook_id = verify(headers, raw_body, secrets=["whsec_…"])      # standard library only
    webhook_id = verify(headers, raw_body, public_keys=["whpk_…"])   # needs the package cryptography

Always pass the body as it was received, never parsed and serialised again. The same id comes again
when a delivery is repeated: remember ids (`RecentIds`), and answer a repeat as you answered the first.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes


class VerificationError(Exception):
    """Not a callback of the expected sender; the text says why."""


def verify(
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Sequence[str] = (),
    public_keys: Sequence[str] = (),
    tolerance_s: float = 300,
    now: float | None = None,
) -> str:
    """The webhook-id if a signature of Standard Webhooks fits. Raises VerificationError."""
    values = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp = values.get("webhook-id", ""), values.get("webhook-timestamp", "")
    if not webhook_id or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise VerificationError("webhook-id or webhook-timestamp is missing or malformed")
    if abs((datetime.now(UTC).timestamp() if now is None else now) - int(timestamp)) > tolerance_s:
        raise VerificationError("the timestamp is too old or too new")
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    for entry in values.get("webhook-signature", "").split():
        version, _, signature = entry.partition(",")
        if version == "v1" and any(_hmac_fits(secret, signed, signature) for secret in secrets):
            return webhook_id
        if version == "v1a" and any(_ed25519_fits(key, signed, signature) for key in public_keys):
            return webhook_id
    raise VerificationError("no signature fits")


def _hmac_fits(secret: str, signed: bytes, signature: str) -> bool:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    return hmac.compare_digest(expected, signature.encode())


def _ed25519_fits(public_key: str, signed: bytes, signature: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    try:
        key.verify(base64.b64decode(signature), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def oss_signature_fits(target: str, body: bytes, authorization: str, public_pem: bytes) -> bool:
    """The OSS signature; ``target`` is path and query as in the request line. Compatibility, not security."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = serialization.load_pem_public_key(public_pem)
    if not isinstance(key, rsa.RSAPublicKey):
        raise VerificationError("not an RSA key")
    path, mark, query = target.partition("?")
    signed = unquote_to_bytes(path) + (mark + query if query else "").encode() + b"\n" + body
    try:
        key.verify(base64.b64decode(authorization), signed, padding.PKCS1v15(), hashes.MD5())  # noqa: S303
    except (InvalidSignature, ValueError):
        return False
    return True


class RecentIds:
    """Webhook ids of the last while, in memory; safe for threads.

    Good for one process. With several, keep the ids where they all look: a table with a unique column.
    """

    def __init__(self, *, keep_s: float = 86400, most: int = 100_000) -> None:
        self._keep_s, self._most = keep_s, most
        self._times: dict[str, float] = {}  # in the order of arrival
        self._lock = threading.Lock()

    def is_new(self, webhook_id: str) -> bool:
        """True the first time; then the id is remembered."""
        now = time.monotonic()
        with self._lock:
            while self._times and next(iter(self._times.values())) < now - self._keep_s:
                del self._times[next(iter(self._times))]
            if webhook_id in self._times:
                return False
            if len(self._times) >= self._most:
                del self._times[next(iter(self._times))]
            self._times[webhook_id] = now
            return True


class CallbackGuard:
    """WSGI middleware around an application that gets callbacks and nothing else.

    403 for what does not verify; ``environ["s3lite.callback_id"]`` for what does.
    """

    def __init__(self, app: Callable[..., Any], *, max_bytes: int = 1 << 16, **how: Any) -> None:
        self._app, self._max_bytes, self._how = app, max_bytes, how

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        headers = {name: environ.get("HTTP_" + name.upper().replace("-", "_"), "") for name in names}
        try:
            size = int(environ.get("CONTENT_LENGTH") or 0)
            if not 0 <= size <= self._max_bytes:
                raise VerificationError("the body is too long")
            body = environ["wsgi.input"].read(size)
            environ["s3lite.callback_id"] = verify(headers, body, **self._how)
        except (VerificationError, ValueError) as error:
            start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{error}\n".encode()]
        environ["wsgi.input"] = io.BytesIO(body)
        return self._app(environ, start_response)
