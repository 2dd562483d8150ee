"""Browser upload forms: policies signed with the standard library, bodies built by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

REGION = "us-east-1"
BOUNDARY = "----s3lite-test-boundary"


def expiration(seconds: float = 300) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def policy_text(conditions: list[Any], **changes: Any) -> str:
    document = {"expiration": expiration(), "conditions": conditions} | changes
    return base64.b64encode(json.dumps(document).encode()).decode()


def v2_fields(access_key: str, secret_key: str, conditions: list[Any], **changes: Any) -> dict[str, str]:
    policy = policy_text(conditions, **changes)
    digest = hmac.new(secret_key.encode(), policy.encode(), hashlib.sha1).digest()
    return {"AWSAccessKeyId": access_key, "policy": policy, "signature": base64.b64encode(digest).decode()}


def v4_fields(access_key: str, secret_key: str, conditions: list[Any], **changes: Any) -> dict[str, str]:
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    credential = f"{access_key}/{date[:8]}/{REGION}/s3/aws4_request"
    fields = {"x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": credential, "x-amz-date": date}
    policy = policy_text([*conditions, *({name: value} for name, value in fields.items())], **changes)
    key = b"AWS4" + secret_key.encode()
    for part in (date[:8], REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, policy.encode(), hashlib.sha256).hexdigest()
    return fields | {"policy": policy, "x-amz-signature": signature}


def body(
    fields: list[tuple[str, str]],
    file: bytes | None = b"file content",
    *,
    filename: str | None = "photo.jpg",
    file_type: str | None = "image/jpeg",
    after: list[tuple[str, str]] | None = None,
) -> bytes:
    """A multipart/form-data body with the file part named ``file``."""
    pieces = []
    for name, value in fields:
        pieces.append(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        )
    if file is not None:
        named = f'; filename="{filename}"' if filename is not None else ""
        kind = f"Content-Type: {file_type}\r\n" if file_type else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"{named}\r\n{kind}\r\n'
        pieces.append(head.encode() + file + b"\r\n")
    for name, value in after or []:
        pieces.append(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        )
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()


CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
