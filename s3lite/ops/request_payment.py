"""Who pays for requests: kept and shown, for tools that set it. s3lite charges nobody."""

from __future__ import annotations

from s3lite.context import Context
from s3lite.core import write
from s3lite.responses import Response, empty, xml
from s3lite.wire import results
from s3lite.wire.requests import parse_request_payment

_CONFIG = "requestPayment"


def get_bucket_request_payment(ctx: Context) -> Response:
    """GetBucketRequestPayment: BucketOwner until something else is put.

    Source: API Reference, GetBucketRequestPayment. Checked against AWS: never.
    """
    with ctx.store.catalog.read() as tx:
        stored = tx.bucket_config(ctx.bucket.id, _CONFIG)
    return xml(results.request_payment(stored.decode() if stored else "BucketOwner"))


def put_bucket_request_payment(ctx: Context) -> Response:
    """PutBucketRequestPayment: keep the name of the payer.

    Source: API Reference, PutBucketRequestPayment. Checked against AWS: never.
    Errors: MalformedXML.
    Differs: nothing follows from it: requests without x-amz-request-payer are answered all the same.
    """
    payer = parse_request_payment(ctx.document()).encode()
    write.commit(
        ctx.store,
        lambda tx: tx.put_bucket_config(write.live_bucket(tx, ctx.bucket).id, _CONFIG, payer),
    )
    return empty(200)
