"""The versioning state of a bucket."""

from __future__ import annotations

from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import write
from s3lite.errors import Code, S3Error
from s3lite.responses import Response, empty, xml
from s3lite.wire import results
from s3lite.wire.requests import parse_versioning


def get_bucket_versioning(ctx: Context) -> Response:
    """GetBucketVersioning. Source: API Reference, GetBucketVersioning. Checked against AWS: never."""
    return xml(results.versioning_configuration(ctx.bucket.versioning))


def put_bucket_versioning(ctx: Context) -> Response:
    """PutBucketVersioning: Enabled or Suspended; a bucket never becomes unversioned again.

    Source: API Reference, PutBucketVersioning. Checked against AWS: never.
    Errors: MalformedXML, InvalidBucketState (suspending a bucket with object lock).
    Differs: MFA delete is refused with NotImplemented.
    """
    status = parse_versioning(ctx.document())

    def work(tx: Tx) -> None:
        live = write.live_bucket(tx, ctx.bucket)
        if live.object_lock and status != "Enabled":
            raise S3Error(
                Code.InvalidBucketState,
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be "
                "changed.",
            )
        tx.set_versioning(live.id, status)

    write.commit(ctx.store, work)
    return empty(200)
