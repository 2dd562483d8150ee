"""What a request claims of its own signature: its parts as sent, and the refusals that name them.

Pure functions of a request's head or a form's fields; `authenticate` compares what they give.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from s3lite.auth import sigv4
from s3lite.errors import Code, S3Error
from s3lite.model import AccessKey, RequestHead

_HEADER_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:;[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")


class Claim(NamedTuple):
    """What a V4 request says of its own signature."""

    scheme: str
    credential: sigv4.Credential
    signed_headers: str  # names joined by ";", as sent
    signature: str
    timestamp: str  # 20260131T010203Z
    claimed: str  # x-amz-content-sha256, "" when absent


def malformed(message: str) -> S3Error:
    return S3Error(Code.AuthorizationHeaderMalformed, f"The authorization header is malformed; {message}")


def bad_query(message: str, *, status: int | None = None) -> S3Error:
    return S3Error(Code.AuthorizationQueryParametersError, message, status=status)


def mismatch(key: AccessKey, text: str, given: str) -> S3Error:
    return S3Error(
        Code.SignatureDoesNotMatch,
        AWSAccessKeyId=key.shown,
        StringToSign=shown(text),
        SignatureProvided=given[:256],
    )


def shown(text: str) -> str:
    return sigv4.octets(text).decode("utf-8", "replace")


def parameters(head: RequestHead, names: Sequence[str]) -> list[str] | None:
    """The values of query parameters; None unless each occurs exactly once."""
    found: dict[str, str] = {}
    for name, value in head.query_items:
        if name in names:
            if name in found:
                return None
            found[name] = value
    return [found[name] for name in names] if len(found) == len(names) else None


def require_fields(fields: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    for name, shown in wanted.items():
        if not fields.get(name):
            raise S3Error(
                Code.InvalidArgument,
                f"Bucket POST must contain a field named '{shown}'.  If it is specified, please check the "
                "order of the fields.",
                ArgumentName=shown,
                ArgumentValue="",
            )


def security_token(head: RequestHead) -> str | None:
    token = head.headers.get("x-amz-security-token")
    if token or not head.query_items:
        return token
    return next((value for name, value in head.query_items if name.lower() == "x-amz-security-token"), None)


@lru_cache(maxsize=256)
def _split_names(names: str) -> tuple[tuple[str, ...], frozenset[str]] | None:
    """SignedHeaders in lower case, as listed and as a set; cached, as a client's requests are alike."""
    if not _HEADER_NAMES.fullmatch(names):
        return None
    listed = tuple(names.lower().split(";"))
    return listed, frozenset(listed)


def signed_names(claim: Claim) -> tuple[tuple[str, ...], frozenset[str]]:
    """What the claim says is signed. Raises when it is not a list of header names (line ends would forge)."""
    found = _split_names(claim.signed_headers)
    if found is None:
        refused = malformed if claim.scheme == "v4-header" else bad_query
        raise refused("SignedHeaders must be header names joined by semicolons.")
    return found


def check_signed_names(headers: Mapping[str, str], signed: frozenset[str]) -> None:
    """Raise AccessDenied unless Host and every x-amz-* header is among the signed.

    x-amz-content-sha256 need not be: the canonical request ends with its value.
    """
    missing = [name for name in headers if name.startswith("x-amz-") and name not in signed]
    if "host" not in signed:
        missing.append("host")
    if missing:
        # WSGI has turned "_" in header names into "-".
        folded = {"x-amz-content-sha256", *(name.replace("_", "-") for name in signed)}
        missing = [name for name in missing if name not in folded]
    if missing:
        raise S3Error(
            Code.AccessDenied,
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(missing),
        )
