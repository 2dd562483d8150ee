"""GetBucketInfo, an operation of OSS that its SDKs and tools use."""

from __future__ import annotations

from urllib.parse import urlsplit

from s3lite.auth.acl import canned_acl, public_permissions, public_word
from s3lite.context import Context
from s3lite.ops.listing import owners_of
from s3lite.responses import Response, xml
from s3lite.wire import results


def get_bucket_info(ctx: Context) -> Response:
    """GetBucketInfo: creation date, owner, endpoint and the word for the ACL of a bucket.

    Source: OSS API Reference, GetBucketInfo. Not an operation of S3.
    """
    bucket = ctx.bucket
    acl = bucket.acl
    if ctx.rules.ignores_acls:
        acl = canned_acl("private", owner_id=bucket.owner_id, bucket_owner_id=bucket.owner_id)
    with ctx.store.catalog.read() as tx:
        owner = owners_of(tx, {bucket.owner_id})[bucket.owner_id]
    document = results.bucket_info(
        bucket=bucket,
        owner=owner,
        acl=public_word(public_permissions(acl)),
        endpoint=urlsplit(ctx.head.origin).netloc,
    )
    return xml(document)
