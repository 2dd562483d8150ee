"""The public access block of a bucket. `auth.authorize` and whoever sets ACLs or policies obey it."""

from __future__ import annotations

from s3lite.context import Context
from s3lite.core import access, write
from s3lite.errors import Code, S3Error
from s3lite.responses import Response, empty, xml
from s3lite.wire.access import parse_public_access_block, public_access_block


def get_public_access_block(ctx: Context) -> Response:
    """GetPublicAccessBlock: the four settings.

    Source: API Reference, GetPublicAccessBlock. Checked against AWS: never.
    Errors: NoSuchPublicAccessBlockConfiguration.
    """
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, access.PUBLIC_ACCESS_BLOCK)
    if document is None:
        raise S3Error(Code.NoSuchPublicAccessBlockConfiguration, BucketName=ctx.bucket.name)
    return xml(document)


def put_public_access_block(ctx: Context) -> Response:
    """PutPublicAccessBlock: replace the four settings; ACLs and policies that are there stay, and are obeyed less.

    Source: API Reference, PutPublicAccessBlock. Checked against AWS: never.
    Errors: MalformedXML.
    Differs: new buckets have none, where those of S3 begin with everything blocked; accounts have none.
    """
    document = public_access_block(parse_public_access_block(ctx.document()))
    write.commit(
        ctx.store,
        lambda tx: tx.put_bucket_config(
            write.live_bucket(tx, ctx.bucket).id, access.PUBLIC_ACCESS_BLOCK, document
        ),
    )
    return empty(200)


def delete_public_access_block(ctx: Context) -> Response:
    """DeletePublicAccessBlock. Source: API Reference, DeletePublicAccessBlock. Checked against AWS: never."""
    write.commit(ctx.store, lambda tx: tx.delete_bucket_config(ctx.bucket.id, access.PUBLIC_ACCESS_BLOCK))
    return empty(204)
