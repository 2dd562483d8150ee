"""Cross-origin resource sharing: a bucket's rules, preflights, and the headers of actual answers."""

from __future__ import annotations

import logging

from s3lite.catalog.base import Catalog
from s3lite.context import Context
from s3lite.core import write
from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead
from s3lite.responses import Headers, Response, empty, xml
from s3lite.wire import cors

log = logging.getLogger("s3lite")

_CONFIG = "cors"
_VARY = ("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
_NOT_ALLOWED = (
    "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, "
    "request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted "
    "by the resource's CORS spec."
)


def get_bucket_cors(ctx: Context) -> Response:
    """GetBucketCors. Source: API Reference, GetBucketCors. Errors: NoSuchCORSConfiguration."""
    with ctx.store.catalog.read() as tx:
        stored = tx.bucket_config(ctx.bucket.id, _CONFIG)
    if stored is None:
        raise S3Error(Code.NoSuchCORSConfiguration, BucketName=ctx.bucket.name)
    return xml(cors.document(cors.loads(stored)))


def put_bucket_cors(ctx: Context) -> Response:
    """PutBucketCors: replace a bucket's rules; they hold from the next request on.

    Source: API Reference, PutBucketCors. Checked against AWS: never.
    Errors: MalformedXML, InvalidRequest (more than 100 rules, an unknown method, a second wildcard).
    Differs: Content-MD5 or a checksum is not demanded, only compared.
    """
    document = cors.dumps(cors.parse(ctx.document()))
    write.commit(
        ctx.store,
        lambda tx: tx.put_bucket_config(write.live_bucket(tx, ctx.bucket).id, _CONFIG, document),
    )
    return empty(200)


def delete_bucket_cors(ctx: Context) -> Response:
    """DeleteBucketCors. Source: API Reference, DeleteBucketCors. Checked against AWS: never."""
    write.commit(ctx.store, lambda tx: tx.delete_bucket_config(ctx.bucket.id, _CONFIG))
    return empty(204)


def preflight(ctx: Context) -> Response:
    """PreflightRequest: OPTIONS, by which a browser asks whether a page may send the request it names.

    Source: API Reference, "OPTIONS object"; Fetch Standard, 4.8. Checked against AWS: never.
    Errors: BadRequest (no Origin, or no method that S3 knows), AccessForbidden (no rule allows it).
    Not signed, and says nothing of the object: a missing one answers like any other.
    """
    origin = ctx.headers.get("origin")
    method = ctx.headers.get("access-control-request-method", "")
    if not origin:
        raise S3Error(Code.BadRequest, "Insufficient information. Origin request header needed.")
    if method not in cors.METHODS:
        raise S3Error(Code.BadRequest, f"Invalid Access-Control-Request-Method: {method[:64] or 'null'}")
    with ctx.store.catalog.read() as tx:
        stored = tx.bucket_config(ctx.bucket.id, _CONFIG)
    if stored is None:
        raise _forbidden(ctx, method, "CORSResponse: CORS is not enabled for this bucket.")
    names = cors.requested_headers(ctx.headers.get("access-control-request-headers", ""))
    found = None
    if names is not None:
        found = cors.match(cors.loads(stored), origin=origin, method=method, headers=names)
    if found is None:
        raise _forbidden(ctx, method, _NOT_ALLOWED)
    headers = _headers(found)
    if names:
        headers.append(("Access-Control-Allow-Headers", ", ".join(name.lower() for name in names)))
    return empty(200, [*headers, _VARY])


def _forbidden(ctx: Context, method: str, message: str) -> S3Error:
    return S3Error(
        Code.AccessForbidden,
        message,
        headers=dict([_VARY]),
        Method=method,
        ResourceType="OBJECT" if ctx.key else "BUCKET",
    )


def actual_headers(head: RequestHead, catalog: Catalog) -> Headers:
    """What the answer to a request with Origin carries, whatever it says otherwise; nothing for a preflight.

    Asked for by name before anything is decided, so that errors have them, too: a page cannot read the
    status of an answer without them. A bucket with rules answers by Origin, so caches must know even where
    none fits. Never raises: the answer matters more.
    """
    if head.method == "OPTIONS" or not head.target.bucket:
        return []
    try:
        with catalog.read() as tx:
            bucket = tx.bucket(head.target.bucket)
            stored = tx.bucket_config(bucket.id, _CONFIG) if bucket is not None else None
        if stored is None:
            return []
        # Ceph's conformance tests have the header win. Browsers send it with preflights only.
        method = head.headers.get("access-control-request-method", head.method)
        found = cors.match(cors.loads(stored), origin=head.headers["origin"], method=method)
    except Exception:  # the request is none the worse for it
        log.exception("the CORS rules of bucket %s could not be read", head.target.bucket)
        return []
    return [*_headers(found), _VARY] if found is not None else [_VARY]


def _headers(found: cors.Match) -> Headers:
    """What preflights and actual answers have in common."""
    rule = found.rule
    headers: Headers = [
        ("Access-Control-Allow-Origin", found.allow_origin),
        ("Access-Control-Allow-Methods", ", ".join(rule.methods)),
    ]
    if found.allow_origin != "*":
        headers.append(("Access-Control-Allow-Credentials", "true"))
    if rule.exposed:
        headers.append(("Access-Control-Expose-Headers", ", ".join(rule.exposed)))
    if rule.max_age_s is not None:
        headers.append(("Access-Control-Max-Age", str(rule.max_age_s)))
    return headers
