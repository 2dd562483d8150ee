"""Ownership controls of a bucket, and what they make of the owner and the ACL of an upload."""

from __future__ import annotations

from collections.abc import Mapping

from s3lite.auth import acl as acls
from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import access, write
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import BUCKET_OWNER_ENFORCED, Acl
from s3lite.responses import Response, empty, xml
from s3lite.wire.access import OWNERSHIPS, ownership_controls, parse_ownership_controls

_HEADER = "x-amz-object-ownership"


def get_bucket_ownership_controls(ctx: Context) -> Response:
    """GetBucketOwnershipControls: who owns what is written to the bucket.

    Source: API Reference, GetBucketOwnershipControls. Checked against AWS: never.
    Errors: OwnershipControlsNotFoundError.
    """
    if not ctx.rules.ownership:
        raise S3Error(Code.OwnershipControlsNotFoundError, BucketName=ctx.bucket.name)
    return xml(ownership_controls(ctx.rules.ownership))


def put_bucket_ownership_controls(ctx: Context) -> Response:
    """PutBucketOwnershipControls: BucketOwnerEnforced (no ACLs), BucketOwnerPreferred or ObjectWriter.

    Source: API Reference, PutBucketOwnershipControls; User Guide, "Controlling ownership of objects". Checked
    against AWS: never.
    Errors: MalformedXML, InvalidBucketAclWithObjectOwnership (enforced, while the ACL grants others something).
    Differs: new buckets have none, which works as ObjectWriter, where S3 begins with BucketOwnerEnforced. Under
    BucketOwnerEnforced listings go on naming who wrote an object before.
    """
    ownership = parse_ownership_controls(ctx.document())

    def work(tx: Tx) -> None:
        live = write.live_bucket(tx, ctx.bucket)
        check_bucket_acl(ownership, live.acl)
        tx.put_bucket_config(live.id, access.OWNERSHIP, ownership.encode())

    write.commit(ctx.store, work)
    return empty(200)


def delete_bucket_ownership_controls(ctx: Context) -> Response:
    """DeleteBucketOwnershipControls: ACLs count again.

    Source: API Reference, DeleteBucketOwnershipControls. Checked against AWS: never.
    """
    write.commit(ctx.store, lambda tx: tx.delete_bucket_config(ctx.bucket.id, access.OWNERSHIP))
    return empty(204)


def of_new_bucket(headers: Mapping[str, str], acl: Acl) -> str:
    """What CreateBucket asks for, "" for nothing. Raises InvalidArgument, InvalidBucketAclWithObjectOwnership."""
    wanted = headers.get(_HEADER, "")
    if wanted and wanted not in OWNERSHIPS:
        raise invalid_argument(_HEADER, wanted, f"{_HEADER} must be {', '.join(OWNERSHIPS)}.")
    check_bucket_acl(wanted, acl)
    return wanted


def check_bucket_acl(ownership: str, acl: Acl) -> None:
    """Raise InvalidBucketAclWithObjectOwnership if an ACL would lose its meaning."""
    if ownership == BUCKET_OWNER_ENFORCED and not acls.is_private(acl):
        raise S3Error(Code.InvalidBucketAclWithObjectOwnership)
