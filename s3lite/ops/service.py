"""Operations on the service itself."""

from __future__ import annotations

from s3lite.context import Context
from s3lite.core.listing import decode_token, encode_token
from s3lite.ops.upload_headers import integer_param
from s3lite.responses import Response, xml
from s3lite.wire import results

_PAGING = frozenset(("max-buckets", "continuation-token", "prefix", "bucket-region"))
"""Parameters whose answer comes in pages of 10,000 at most."""


def list_buckets(ctx: Context) -> Response:
    """ListBuckets: the caller's buckets by name; the operator's root account sees everyone's.

    Source: API Reference, ListBuckets. Checked against AWS: never.
    Errors: InvalidArgument (max-buckets outside 1..10000, a foreign continuation token).
    Differs: another bucket-region than this server's is a list without buckets, as none is there.
    """
    account = ctx.caller.account
    assert account is not None  # the row's permission is never given to anonymous callers
    paged = not _PAGING.isdisjoint(ctx.params)
    limit = integer_param(ctx, "max-buckets", low=1, high=10_000, default=10_000)
    token = ctx.params.get("continuation-token", "")
    with ctx.store.catalog.read() as tx:
        buckets = tx.buckets(
            owner_id=None if account.is_root else account.id,
            prefix=ctx.params.get("prefix", ""),
            region=ctx.params.get("bucket-region") or None,
            after=decode_token(token) if token else "",
            limit=limit + 1 if paged else None,
        )
    page = buckets[:limit] if paged else buckets
    document = results.list_buckets(
        owner=account,
        buckets=page,
        prefix=ctx.params.get("prefix", ""),
        continuation_token=encode_token(page[-1].name) if len(buckets) > len(page) else "",
    )
    return xml(document)
