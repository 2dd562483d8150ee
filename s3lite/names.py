"""Rules for bucket names, object keys and ids of users.

Sources: API User Guide, "Bucket naming rules" and "Creating object key names".
"""

from __future__ import annotations

import re

from s3lite.errors import Code, S3Error

MAX_KEY_BYTES = 1024

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_USER_ID = re.compile(r"(?:[A-Za-z0-9._@+=~:-]+\$)?[A-Za-z0-9._@+=~:-]+")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")


def is_valid_user_id(name: str) -> bool:
    """True for what may be an account's id: it stands unquoted in ACL headers and credentials."""
    return len(name) <= 128 and _USER_ID.fullmatch(name) is not None


def tenant_of(user_id: str) -> str:
    """What stands before the ``$`` of an account's id; "" for an account without a tenant."""
    tenant, dollar, _ = user_id.partition("$")
    return tenant if dollar else ""


def is_valid_bucket_name(name: str) -> bool:
    """True if ``name`` may be created: 3–63 of ``a-z 0-9 . -``, no ``..``, ``.-``, ``-.``, no IPv4 address."""
    return (
        _BUCKET.fullmatch(name) is not None
        and ".." not in name
        and ".-" not in name
        and "-." not in name
        and _IPV4.fullmatch(name) is None
        and not name.startswith(("xn--", "sthree-"))
        and not name.endswith(("-s3alias", "--ol-s3"))
    )


def check_bucket_name(name: str) -> None:
    """Raise InvalidBucketName unless `is_valid_bucket_name`."""
    if not is_valid_bucket_name(name):
        raise S3Error(
            Code.InvalidBucketName,
            "The specified bucket is not valid: a name has 3 to 63 lower-case letters, digits, dots and "
            "hyphens, begins and ends with a letter or digit, and is not an IP address.",
            BucketName=name,
        )


def check_key(key: str) -> None:
    """Raise KeyTooLongError for keys of more than 1024 bytes of UTF-8."""
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise S3Error(
            Code.KeyTooLongError,
            f"Your key is too long: {size} bytes of UTF-8, and {MAX_KEY_BYTES} are allowed.",
            Size=str(size),
            MaxSizeAllowed=str(MAX_KEY_BYTES),
        )
