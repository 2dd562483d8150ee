"""How the body of a request is protected and framed, as its head says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.wire.aws_chunked import ChunkSigner

UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_HEADER = "x-amz-content-sha256"
_WORDS = frozenset((UNSIGNED, SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER))
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Payload:
    """``kind`` is "unsigned", "sha256" (then ``sha256`` is lower-case hex) or "chunked" (aws-chunked framing).

    Chunked bodies may have signed chunks (``signer``) and a trailer, itself signed or not.
    """

    kind: str
    sha256: str = ""
    signer: ChunkSigner | None = None
    signed_trailer: bool = False
    has_trailer: bool = False


def claim(headers: Mapping[str, str], in_query: str = "") -> str:
    """The value of x-amz-content-sha256, "" when absent; ``in_query`` is what a presigned URL gives.

    Raises InvalidArgument for anything but a known word or 64 hex digits, and for two that differ.
    """
    value = headers.get(_HEADER, "")
    if value and in_query and value != in_query:
        raise invalid_argument(_HEADER, value, f"The header {_HEADER} differs from the one in the URL.")
    value = value or in_query
    if not value or value in _WORDS or _SHA256.fullmatch(value):
        return value
    if value.startswith("STREAMING-AWS4-ECDSA-"):
        raise S3Error(
            Code.NotImplemented, "Signature version 4A is not supported; sign with AWS4-HMAC-SHA256."
        )
    raise invalid_argument(
        _HEADER,
        value,
        f"{_HEADER} must be {UNSIGNED}, a STREAMING-… word that S3 knows, or a SHA-256 in hex.",
    )


def describe(
    headers: Mapping[str, str], claimed: str, signer: Callable[[], ChunkSigner] | None = None
) -> Payload:
    """The payload that ``claimed`` (from `claim`) announces.

    ``signer`` makes the start of the chunks' chain and is None where no V4 signature is: such a request
    cannot have signed chunks (InvalidRequest). Clients that do not sign by V4 announce aws-chunked
    framing by other headers alone (botocore with V2).
    """
    if claimed in (SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER):
        if signer is None:
            raise S3Error(Code.InvalidRequest, f"{claimed} needs a request signed with AWS4-HMAC-SHA256.")
        trailer = claimed == SIGNED_CHUNKS_TRAILER
        return Payload("chunked", signer=signer(), signed_trailer=trailer, has_trailer=trailer)
    if claimed == UNSIGNED_CHUNKS_TRAILER:
        return Payload("chunked", has_trailer=True)
    if claimed and claimed != UNSIGNED:
        return Payload("sha256", sha256=claimed.lower())
    if _is_aws_chunked(headers):
        return Payload("chunked", has_trailer="x-amz-trailer" in headers)
    return Payload("unsigned")


def _is_aws_chunked(headers: Mapping[str, str]) -> bool:
    """True for ``Content-Encoding: aws-chunked`` with a sign that it is framing, not a stored property."""
    encoding = headers.get("content-encoding", "")
    return (
        "aws-chunked" in encoding
        and "aws-chunked" in [part.strip() for part in encoding.split(",")]
        and ("x-amz-decoded-content-length" in headers or "x-amz-trailer" in headers)
    )
