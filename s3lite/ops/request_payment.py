"""Who pays for requests. s3lite charges nobody, but whoever is to pay must have said so, as in S3."""

from __future__ import annotations

from collections.abc import Mapping

from s3lite.context import Context
from s3lite.core import write
from s3lite.errors import Code, S3Error
from s3lite.model import Bucket
from s3lite.responses import Headers, Response, empty, xml
from s3lite.wire import results
from s3lite.wire.requests import parse_request_payment

_CONFIG = "requestPayment"
_HEADER = "x-amz-request-payer"


def get_bucket_request_payment(ctx: Context) -> Response:
    """GetBucketRequestPayment: BucketOwner until something else is put.

    Source: API Reference, GetBucketRequestPayment. Checked against AWS: never.
    """
    with ctx.store.catalog.read() as tx:
        stored = tx.bucket_config(ctx.bucket.id, _CONFIG)
    return xml(results.request_payment(stored.decode() if stored else "BucketOwner"))


def put_bucket_request_payment(ctx: Context) -> Response:
    """PutBucketRequestPayment: who pays for requests by others than the owner.

    Source: API Reference, PutBucketRequestPayment; User Guide, "Using Requester Pays buckets". Checked against
    AWS: never.
    Errors: MalformedXML.
    Differs: nobody is charged.
    """
    payer = parse_request_payment(ctx.document()).encode()
    write.commit(
        ctx.store,
        lambda tx: tx.put_bucket_config(write.live_bucket(tx, ctx.bucket).id, _CONFIG, payer),
    )
    return empty(200)


def check(ctx: Context, bucket: Bucket | None, fields: Mapping[str, str] | None = None) -> None:
    """Raise AccessDenied where the requester pays and has not said that they will; the owner need not.

    They say so by the header x-amz-request-payer, in the query of a presigned URL, or in a form's ``fields``.
    """
    if bucket is None or _CONFIG not in bucket.configs:
        return
    if ctx.caller.is_root or ctx.caller.account_id == bucket.owner_id:
        return
    with ctx.store.catalog.read() as tx:
        if tx.bucket_config(bucket.id, _CONFIG) != b"Requester":
            return
    if ctx.caller.account is None:
        raise S3Error(Code.AccessDenied, "Requests to a Requester Pays bucket must be signed.")
    in_query = {name.lower(): value for name, value in ctx.params.items()}
    said = ctx.headers.get(_HEADER) or in_query.get(_HEADER) or (fields or {}).get(_HEADER, "")
    if said.lower() != "requester":
        raise S3Error(
            Code.AccessDenied,
            f"This is a Requester Pays bucket: say that you pay, by {_HEADER}: requester.",
        )
    ctx.is_charged = True


def charged(ctx: Context, response: Response) -> Headers:
    """What tells a requester that they have paid."""
    return [("x-amz-request-charged", "requester")] if ctx.is_charged and response.status < 400 else []
