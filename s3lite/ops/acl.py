"""Access control lists of buckets and objects."""

from __future__ import annotations

from s3lite.auth.acl import GROUPS, canned_acl
from s3lite.context import Context
from s3lite.core import write
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import Acl, Grant
from s3lite.ops import events, upload_headers
from s3lite.ops.listing import owners_of
from s3lite.ops.object_read import found
from s3lite.responses import Headers, Response, empty, xml
from s3lite.wire import results
from s3lite.wire.requests import GrantItem, parse_acl


def get_bucket_acl(ctx: Context) -> Response:
    """GetBucketAcl. Source: API Reference, GetBucketAcl. Checked against AWS: never."""
    return _show(ctx, ctx.bucket.acl)


def put_bucket_acl(ctx: Context) -> Response:
    """PutBucketAcl: a canned ACL, grant headers, or an AccessControlPolicy document.

    Source: API Reference, PutBucketAcl. Checked against AWS: never.
    Errors: MalformedACLError, InvalidArgument, InvalidRequest, UnresolvableGrantByEmailAddress,
    AccessControlListNotSupported (object ownership), AccessDenied (public, and the bucket blocks that).
    """
    acl = _requested(ctx, owner_id=ctx.bucket.owner_id)
    write.commit(ctx.store, lambda tx: tx.set_bucket_acl(write.live_bucket(tx, ctx.bucket).id, acl))
    return empty(200)


def get_object_acl(ctx: Context) -> Response:
    """GetObjectAcl. Source: API Reference, GetObjectAcl. Checked against AWS: never."""
    return _show(ctx, found(ctx).acl)


def put_object_acl(ctx: Context) -> Response:
    """PutObjectAcl: as PutBucketAcl, for one version of an object.

    Source: API Reference, PutObjectAcl. Checked against AWS: never.
    Errors: NoSuchKey, and as PutBucketAcl.
    """
    version = found(ctx)
    acl = _requested(ctx, owner_id=version.owner_id)
    events.change_version(ctx, "ObjectAcl:Put", version, acl=acl)
    headers: Headers = [("x-amz-version-id", version.version_id)] if ctx.bucket.versioning else []
    return empty(200, headers)


def _show(ctx: Context, acl: Acl) -> Response:
    if ctx.rules.ignores_acls:
        owner_id = ctx.bucket.owner_id
        acl = canned_acl("private", owner_id=owner_id, bucket_owner_id=owner_id)
    with ctx.store.catalog.read() as tx:
        accounts = owners_of(tx, {acl.owner_id, *(g.grantee for g in acl.grants if not g.is_group)})
    return xml(results.access_control_policy(acl, accounts=accounts))


def _requested(ctx: Context, *, owner_id: str) -> Acl:
    if ctx.rules.ignores_acls:
        raise S3Error(Code.AccessControlListNotSupported)
    body = ctx.document()
    if upload_headers.has_acl(ctx.headers):
        if body:
            raise S3Error(Code.UnexpectedContent, "Give the ACL in headers or in the body, not in both.")
        return upload_headers.requested_acl(ctx, ctx.headers, owner_id=owner_id)
    if not body:
        raise S3Error(
            Code.MissingSecurityHeader,
            "Your request is missing a required header: x-amz-acl, x-amz-grant-* or an AccessControlPolicy body.",
        )
    document = parse_acl(body)
    if document.owner_id and document.owner_id != owner_id:
        raise S3Error(Code.AccessDenied, "The owner of an ACL cannot be changed.")
    grants = [grant_of(ctx, item) for item in document.grants]
    grants.sort(key=lambda grant: not grant.is_group)  # groups first, as in canned ACLs
    acl = Acl(owner_id, tuple(grants))
    upload_headers.check_public(ctx, acl)
    return acl


def grant_of(ctx: Context, item: GrantItem) -> Grant:
    """A grant as sent, its grantee looked up. Raises InvalidArgument, UnresolvableGrantByEmailAddress."""
    if item.type == "Group":
        if item.value not in GROUPS:
            raise invalid_argument("URI", item.value, "Invalid group uri")
        return Grant(item.value, item.permission, is_group=True)
    if item.type == "AmazonCustomerByEmail":
        account_id = upload_headers.resolve_email(ctx, item.value)
        if account_id is None:
            raise S3Error(Code.UnresolvableGrantByEmailAddress)
        return Grant(account_id, item.permission)
    if not upload_headers.account_exists(ctx, item.value):
        raise invalid_argument("CanonicalUser/ID", item.value, "Invalid id")
    return Grant(item.value, item.permission)
