"""A request in the OSS dialect as the S3 request that it means.

Header and query names map one to one, a few values have other words. What OSS offers and this server
does not is refused by name: to a table of S3's operations ``PUT /bucket?referer`` would else look like
CreateBucket.

Source: OSS API Reference; docs/oss.md lists what is offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import RequestHead

STORAGE_CLASSES = {
    "Standard": "STANDARD",
    "IA": "STANDARD_IA",
    "Archive": "GLACIER",
    "ColdArchive": "DEEP_ARCHIVE",
}

_LIST_KEYS = "100"  # OSS's default of max-keys

# Of the signature or without effect here; never handed on.
_DROPPED_HEADERS = frozenset(
    (
        "authorization", "ossaccesskeyid", "security-token", "signature", "x-oss-content-sha256",
        "x-oss-credential", "x-oss-date", "x-oss-forbid-overwrite",
        "x-oss-security-token", "x-oss-signature", "x-oss-signature-version", "x-oss-traffic-limit",
    )
)  # fmt: skip
_DROPPED_QUERY = frozenset(
    (
        "Expires", "OSSAccessKeyId", "Signature", "security-token", "x-oss-additional-headers",
        "x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-security-token", "x-oss-signature",
        "x-oss-signature-version", "x-oss-traffic-limit",
    )
)  # fmt: skip
_CARRIERS = frozenset(("x-oss-callback", "x-oss-callback-var"))  # read under their own names
_FORM_FIELDS = frozenset(
    (
        "x-oss-content-type", "x-oss-credential", "x-oss-date", "x-oss-forbid-overwrite", "x-oss-security-token",
        "x-oss-signature", "x-oss-signature-version",
    )
)  # fmt: skip
_RENAMED = {
    "x-oss-content-type": "content-type",
    "x-oss-object-acl": "x-amz-acl",
    "x-oss-server-side-encryption-key-id": "x-amz-server-side-encryption-aws-kms-key-id",
}
_KEPT_QUERY = frozenset(
    (
        "acl", "append", "bucketInfo", "callback", "callback-var", "continuation-token", "cors", "delete",
        "delimiter", "encoding-type", "fetch-owner", "key-marker", "lifecycle", "list-type", "location", "marker",
        "max-keys", "max-parts", "max-uploads", "objectMeta", "part-number-marker", "partNumber", "position",
        "prefix", "requestPayment", "response-cache-control", "response-content-disposition",
        "response-content-encoding", "response-content-language", "response-content-type", "response-expires",
        "start-after", "tagging", "upload-id-marker", "uploadId", "uploads", "version-id-marker", "versionId",
        "versioning", "versions", "website",
    )
)  # fmt: skip
_CONDITIONS = ("if-match", "if-none-match", "x-oss-copy-source-if-match", "x-oss-copy-source-if-none-match")


def translate(head: RequestHead) -> RequestHead:
    """The S3 request that an OSS request means, its signature left out. Raises NotImplemented, InvalidArgument."""
    return replace(head, headers=_headers(head), query_items=_query(head))


def translate_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of an OSS form (names in lower case) as those of an S3 form, its signature left out."""
    return _translated(fields)


def may_be_unlisted(name: str) -> bool:
    """Whether a form may hold a field (lower case) that its policy does not name.

    OSS never asks for conditions, and its users' policies have few. What decides about the object's access,
    class or encryption must be named here all the same.
    """
    return not name.startswith("x-oss-") or name in _FORM_FIELDS or name.startswith("x-oss-meta-")


def _headers(head: RequestHead) -> dict[str, str]:
    return _translated(head.headers)


def _translated(sent: Mapping[str, str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in sent.items():
        if name in _DROPPED_HEADERS:
            continue
        if name in _CONDITIONS:
            value = value.lower()  # ETags of this dialect are in upper case
        if name in _CARRIERS or not name.startswith("x-oss-"):
            headers[name] = value
        else:
            headers[_RENAMED.get(name, "x-amz-" + name[len("x-oss-") :])] = value
    if sent.get("x-oss-forbid-overwrite", "").lower() == "true":
        headers["if-none-match"] = "*"
    if headers.get("x-amz-acl") == "default":
        del headers["x-amz-acl"]
    if headers.get("x-amz-server-side-encryption") == "KMS":
        headers["x-amz-server-side-encryption"] = "aws:kms"
    wanted = headers.get("x-amz-storage-class")
    if wanted is not None:
        if wanted not in STORAGE_CLASSES:
            raise invalid_argument("x-oss-storage-class", wanted, "Unknown storage class.")
        headers["x-amz-storage-class"] = STORAGE_CLASSES[wanted]
    return headers


def _query(head: RequestHead) -> list[tuple[str, str]]:
    items = [(name, value) for name, value in head.query_items if name not in _DROPPED_QUERY]
    for name, _ in items:
        if name not in _KEPT_QUERY:
            raise S3Error(
                Code.NotImplemented, f"{name[:64]} is not offered by this server.", Operation=name[:64]
            )
    names = {name for name, _ in items}
    is_listing = head.method == "GET" and head.target.bucket and not head.target.key
    if is_listing and "max-keys" not in names:
        items.append(("max-keys", _LIST_KEYS))
    return items
