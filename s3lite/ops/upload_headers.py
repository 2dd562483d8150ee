"""What the headers (or form fields) of an upload say of the object: shared by every way to upload."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from s3lite.auth import acl as acls
from s3lite.auth.facts import About
from s3lite.callback import spec as callback_spec
from s3lite.context import Context
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import (
    BUCKET_OWNER_ENFORCED,
    BUCKET_OWNER_PREFERRED,
    UNLOCKED,
    Acl,
    ObjectHead,
    ObjectLock,
)
from s3lite.wire import object_lock as locks
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

_REDIRECT = "x-amz-website-redirect-location"
_MAX_REDIRECT = 2048
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# Source: API Reference, PutObject, x-amz-storage-class.
STORAGE_CLASSES = frozenset(
    (
        "STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER",
        "DEEP_ARCHIVE", "OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE", "FSX_OPENZFS",
    )
)  # fmt: skip

# A header that asks for what is not offered is refused, never ignored.
_NOT_OFFERED = {
    "x-amz-write-offset-bytes": "appending to objects",
}
NO_OBJECT_LOCK = "Bucket is missing Object Lock Configuration"
_TO_BUCKET_OWNER = "bucket-owner-full-control"


def refuse_not_offered(headers: Mapping[str, str]) -> None:
    """Raise NotImplemented for headers that imply what s3lite does not do."""
    for name, feature in _NOT_OFFERED.items():
        if headers.get(name):
            raise S3Error(
                Code.NotImplemented,
                f"The header {name} implies functionality that is not implemented: {feature}.",
                Header=name,
            )


def object_head(ctx: Context, headers: Mapping[str, str]) -> ObjectHead:
    """System headers, metadata, tags and storage class of an upload.

    Raises MetadataTooLarge, InvalidStorageClass, InvalidTag, InvalidArgument, AccessDenied.
    """
    returned = {
        name: value
        for name, value in headers.items()
        if name.startswith(META_PREFIX) or (value and (name in SYSTEM_HEADERS or name == _REDIRECT))
    }
    _refuse_what_no_header_can_hold(returned)
    system = {name: returned[name] for name in SYSTEM_HEADERS if name in returned}
    encoding = _without_aws_chunked(system.pop("content-encoding", ""))
    if encoding:
        system["content-encoding"] = encoding
    metadata = {
        name[len(META_PREFIX) :]: value
        for name, value in returned.items()
        if name.startswith(META_PREFIX) and not callback_spec.is_carrier(name)
    }
    size = sum(len(name) + len(value.encode("latin-1", "replace")) for name, value in metadata.items())
    limit = ctx.settings.limits.metadata_bytes
    if size > limit:
        raise S3Error(Code.MetadataTooLarge, Size=str(size), MaxSizeAllowed=str(limit))
    tags = parse_tagging_header(headers.get("x-amz-tagging", ""))
    check_tags(ctx, headers, tags)
    return ObjectHead(
        headers=system,
        metadata=metadata,
        tags=tags,
        storage_class=storage_class(headers),
        website_redirect=_redirect_location(returned.get(_REDIRECT, "")),
    )


def _redirect_location(value: str) -> str:
    """Where an object of a website redirects to. Source: User Guide, "Configuring a webpage redirect"."""
    if value and not value.startswith(("/", "http://", "https://")):
        raise S3Error(
            Code.InvalidRedirectLocation,
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        )
    if len(value) > _MAX_REDIRECT:
        raise S3Error(
            Code.InvalidRedirectLocation,
            f"The length of website redirect location cannot exceed {_MAX_REDIRECT:,} characters.",
        )
    return value


def _refuse_what_no_header_can_hold(headers: Mapping[str, str]) -> None:
    """Fields of a form come back as headers of a GET: a line break in one would begin another header.

    Raises InvalidArgument (RFC 9110, 5.1 and 5.5).
    """
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise invalid_argument("name", name, "The name of a metadata entry must be a header name.")
        if _CONTROL.search(value):
            raise invalid_argument(name, value, f"{name} must not contain control characters.")


def check_tags(ctx: Context, headers: Mapping[str, str], tags: Sequence[tuple[str, str]]) -> None:
    """Raise AccessDenied for tags that the bucket's policy denies: an upload is no way around it."""
    if tags and ctx.is_denied("s3:PutObjectTagging", about=About(fields=headers, tags=tags)):
        raise S3Error(Code.AccessDenied)


def storage_class(headers: Mapping[str, str]) -> str:
    """The storage class, a name only. Raises InvalidStorageClass."""
    name = headers.get("x-amz-storage-class", "") or "STANDARD"
    if name not in STORAGE_CLASSES:
        raise S3Error(Code.InvalidStorageClass, StorageClassRequested=name)
    return name


def _without_aws_chunked(encoding: str) -> str:
    """``aws-chunked`` is framing of the request, never a property of the object."""
    if "aws-chunked" not in encoding:
        return encoding
    return ", ".join(part.strip() for part in encoding.split(",") if part.strip() not in ("", "aws-chunked"))


def owner_and_acl(ctx: Context, headers: Mapping[str, str]) -> tuple[str, Acl]:
    """Who will own what an upload stores, and the ACL that it asks for.

    Raises AccessControlListNotSupported, and AccessDenied for an ACL that the bucket's policy denies or its
    public access block refuses; InvalidArgument, InvalidRequest.
    """
    ownership, canned = ctx.rules.ownership, headers.get("x-amz-acl", "")
    is_enforced = ownership == BUCKET_OWNER_ENFORCED
    owner_id = writer_id(ctx)
    if is_enforced or (ownership == BUCKET_OWNER_PREFERRED and canned == _TO_BUCKET_OWNER):
        owner_id = ctx.bucket.owner_id
    acl = requested_acl(ctx, headers, owner_id=owner_id)
    if not has_acl(headers):
        return owner_id, acl
    if is_enforced and (canned not in ("", _TO_BUCKET_OWNER) or not acls.is_private(acl)):
        raise S3Error(Code.AccessControlListNotSupported)
    if ctx.is_denied("s3:PutObjectAcl", about=About(fields=headers)):
        raise S3Error(Code.AccessDenied)
    return owner_id, acl


def requested_acl(ctx: Context, headers: Mapping[str, str], *, owner_id: str) -> Acl:
    """The ACL that headers ask for, private by default. Raises InvalidArgument, InvalidRequest, AccessDenied."""
    acl = _acl(ctx, headers, owner_id=owner_id, bucket_owner_id=ctx.bucket.owner_id)
    check_public(ctx, acl)
    return acl


def check_public(ctx: Context, acl: Acl) -> None:
    """Raise AccessDenied for an ACL that the bucket's public access block refuses."""
    if acls.is_public(acl) and ctx.rules.block.block_public_acls:
        raise S3Error(
            Code.AccessDenied, "The ACL is public, and the bucket's public access block refuses such ACLs."
        )


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


def object_lock(ctx: Context, headers: Mapping[str, str]) -> ObjectLock:
    """The lock that an upload asks for. Raises InvalidArgument, InvalidRequest, AccessDenied."""
    asked = locks.parse_headers(headers, now_ms=ctx.store.clock.time_ms())
    if asked == UNLOCKED:
        return asked
    if not ctx.bucket.object_lock:
        raise S3Error(Code.InvalidRequest, NO_OBJECT_LOCK)
    if asked.mode:
        ctx.require("s3:PutObjectRetention")
    if asked.legal_hold:
        ctx.require("s3:PutObjectLegalHold")
    return asked


def bypasses_governance(ctx: Context) -> bool:
    """Whether the caller asks to pass over GOVERNANCE retention, and may."""
    asks = ctx.headers.get("x-amz-bypass-governance-retention", "").lower() == "true"
    return asks and ctx.may("s3:BypassGovernanceRetention")


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
