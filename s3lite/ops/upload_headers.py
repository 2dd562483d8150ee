"""What the headers (or form fields) of an upload say of the object: shared by every way to upload."""

from __future__ import annotations

from collections.abc import Mapping

from s3lite.auth import acl as acls
from s3lite.callback import spec as callback_spec
from s3lite.context import Context
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import Acl, ObjectHead
from s3lite.wire.requests import parse_tagging_header

SYSTEM_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
DEFAULT_CONTENT_TYPE = "binary/octet-stream"
META_PREFIX = "x-amz-meta-"

# Source: API Reference, PutObject, x-amz-storage-class.
STORAGE_CLASSES = frozenset(
    (
        "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER",
        "DEEP_ARCHIVE", "OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE", "FSX_OPENZFS",
    )
)  # fmt: skip

# A header that asks for what is not offered is refused, never ignored: the uploader would believe
# that the object is encrypted, or locked.
_NOT_OFFERED = {
    "x-amz-server-side-encryption": "server-side encryption",
    "x-amz-server-side-encryption-customer-algorithm": "server-side encryption with customer keys",
    "x-amz-copy-source-server-side-encryption-customer-algorithm": "server-side encryption with customer keys",
    "x-amz-write-offset-bytes": "appending to objects",
}
_LOCK_HEADERS = (
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
)


def refuse_not_offered(headers: Mapping[str, str]) -> None:
    """Raise NotImplemented or InvalidRequest for headers that imply what s3lite does not do."""
    for name, feature in _NOT_OFFERED.items():
        if headers.get(name):
            raise S3Error(
                Code.NotImplemented,
                f"The header {name} implies functionality that is not implemented: {feature}.",
                Header=name,
            )
    if any(headers.get(name) for name in _LOCK_HEADERS):
        raise S3Error(Code.InvalidRequest, "Bucket is missing Object Lock Configuration")


def object_head(ctx: Context, headers: Mapping[str, str]) -> ObjectHead:
    """System headers, metadata, tags and storage class of an upload.

    Raises MetadataTooLarge, InvalidStorageClass, InvalidTag, InvalidArgument.
    """
    system = {name: headers[name] for name in SYSTEM_HEADERS if headers.get(name)}
    encoding = _without_aws_chunked(system.pop("content-encoding", ""))
    if encoding:
        system["content-encoding"] = encoding
    metadata = {
        name[len(META_PREFIX) :]: value
        for name, value in headers.items()
        if name.startswith(META_PREFIX) and not callback_spec.is_carrier(name)
    }
    size = sum(len(name) + len(value.encode("latin-1", "replace")) for name, value in metadata.items())
    limit = ctx.settings.limits.metadata_bytes
    if size > limit:
        raise S3Error(Code.MetadataTooLarge, Size=str(size), MaxSizeAllowed=str(limit))
    return ObjectHead(
        headers=system,
        metadata=metadata,
        tags=parse_tagging_header(headers.get("x-amz-tagging", "")),
        storage_class=storage_class(headers),
        website_redirect=headers.get("x-amz-website-redirect-location", ""),
    )


def storage_class(headers: Mapping[str, str]) -> str:
    """The storage class, a name only. Raises InvalidStorageClass."""
    name = headers.get("x-amz-storage-class", "") or "STANDARD"
    if name not in STORAGE_CLASSES:
        raise S3Error(Code.InvalidStorageClass, StorageClassRequested=name)
    return name


def _without_aws_chunked(encoding: str) -> str:
    """``aws-chunked`` is framing of the request, never a property of the object (notes: A.2)."""
    if "aws-chunked" not in encoding:
        return encoding
    return ", ".join(part.strip() for part in encoding.split(",") if part.strip() not in ("", "aws-chunked"))


def object_acl(ctx: Context, headers: Mapping[str, str], *, owner_id: str) -> Acl:
    """The ACL that an upload asks for, private by default. Raises InvalidArgument, InvalidRequest."""
    return _acl(ctx, headers, owner_id=owner_id, bucket_owner_id=ctx.bucket.owner_id)


def bucket_acl(ctx: Context, headers: Mapping[str, str], *, owner_id: str) -> Acl:
    """The ACL that CreateBucket asks for."""
    return _acl(ctx, headers, owner_id=owner_id, bucket_owner_id=owner_id)


def has_acl(headers: Mapping[str, str]) -> bool:
    """True if headers carry a canned ACL or grants."""
    return "x-amz-acl" in headers or any(name.startswith("x-amz-grant-") for name in headers)


def _acl(ctx: Context, headers: Mapping[str, str], *, owner_id: str, bucket_owner_id: str) -> Acl:
    granted = acls.grants_from_headers(
        headers,
        owner_id=owner_id,
        resolve_email=lambda email: resolve_email(ctx, email),
        account_exists=lambda account_id: account_exists(ctx, account_id),
    )
    if granted is not None:
        return granted
    canned = headers.get("x-amz-acl", "") or "private"
    return acls.canned_acl(canned, owner_id=owner_id, bucket_owner_id=bucket_owner_id)


def resolve_email(ctx: Context, email: str) -> str | None:
    """Account id of an email address."""
    with ctx.store.catalog.read() as tx:
        account = tx.account_by_email(email)
    return account.id if account else None


def account_exists(ctx: Context, account_id: str) -> bool:
    """True for a known account id."""
    with ctx.store.catalog.read() as tx:
        return tx.account(account_id) is not None


def writer_id(ctx: Context) -> str:
    """Who owns what this request stores: the caller, or the bucket's owner for anonymous uploads."""
    return ctx.caller.account_id or ctx.bucket.owner_id


def integer_param(ctx: Context, name: str, *, low: int, high: int, default: int | None = None) -> int:
    """A whole number from the query. Raises InvalidArgument naming its bounds."""
    text = ctx.params.get(name, "")
    if not text and default is not None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
        raise invalid_argument(
            name, text, f"{name} must be a whole number between {low} and {high}, inclusive."
        )
    return int(text)
