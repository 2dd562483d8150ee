"""What the tests of encryption share: keys, headers, and a look at what is on disk."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

KEY_A, KEY_B = b"a" * 32, b"b" * 32
S3_HEADERS = {"x-amz-server-side-encryption": "AES256"}
MARKER = b"the quick brown marker "


def kms_headers(key_id: str = "payroll", **more: str) -> dict[str, str]:
    headers = {"x-amz-server-side-encryption": "aws:kms"}
    if key_id:
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = key_id
    return headers | {f"x-amz-server-side-encryption-{name.replace('_', '-')}": more[name] for name in more}


def customer_headers(key: bytes = KEY_A, *, source: bool = False) -> dict[str, str]:
    prefix = ("x-amz-copy-source-" if source else "x-amz-") + "server-side-encryption-customer-"
    return {
        f"{prefix}algorithm": "AES256",
        f"{prefix}key": base64.b64encode(key).decode(),
        f"{prefix}key-md5": base64.b64encode(hashlib.md5(key).digest()).decode(),
    }


def text(size: int) -> bytes:
    """So many bytes, full of markers and nowhere alike."""
    lines = b"".join(b"%s%d\n" % (MARKER, number) for number in range(size // len(MARKER) + 1))
    return lines[:size]


def files_with(data_dir: Path | str, needle: bytes = MARKER) -> list[str]:
    """The files below a directory that hold the needle; the index's log included."""
    files = [path for path in Path(data_dir).rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if needle in path.read_bytes()]
