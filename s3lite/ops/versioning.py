"""The versioning state of a bucket."""

from __future__ import annotations

from s3lite.context import Context
from s3lite.core import write
from s3lite.responses import Response, empty, xml
from s3lite.wire import results
from s3lite.wire.requests import parse_versioning


def get_bucket_versioning(ctx: Context) -> Response:
    """GetBucketVersioning. Source: API Reference, GetBucketVersioning. Checked against AWS: never."""
    return xml(results.versioning_configuration(ctx.bucket.versioning))


def put_bucket_versioning(ctx: Context) -> Response:
    """PutBucketVersioning: Enabled or Suspended; a bucket never becomes unversioned again.

    Source: API Reference, PutBucketVersioning. Checked against AWS: never.
    Errors: MalformedXML. Differs: MFA delete is refused with NotImplemented.
    """
    status = parse_versioning(ctx.document())
    write.commit(ctx.store, lambda tx: tx.set_versioning(write.live_bucket(tx, ctx.bucket).id, status))
    return empty(200)
