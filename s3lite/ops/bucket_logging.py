"""Server access logging: its configuration. What becomes of the lines is `core.access_log`'s."""

from __future__ import annotations

from s3lite.context import Context
from s3lite.core import access_log, write
from s3lite.errors import Code, S3Error
from s3lite.ops.acl import grant_of
from s3lite.ops.listing import owners_of
from s3lite.responses import Response, empty, xml
from s3lite.wire import bucket_logging as wire


def get_bucket_logging(ctx: Context) -> Response:
    """GetBucketLogging: where the bucket's access log goes; an empty status when it keeps none.

    Source: API Reference, GetBucketLogging. Checked against AWS: never.
    """
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, access_log.CONFIG)
        logging = wire.decode(document) if document is not None else None
        grantees = {grant.grantee for grant in logging.grants if not grant.is_group} if logging else set()
        accounts = owners_of(tx, grantees)
    return xml(wire.logging_status(logging, accounts))


def put_bucket_logging(ctx: Context) -> Response:
    """PutBucketLogging: begin, change or end the log of a bucket, for its owner.

    Source: API Reference, PutBucketLogging; User Guide, "Enabling Amazon S3 server access logging".
    Checked against AWS: never.
    Errors: MalformedXML, AccessDenied (not the owner), InvalidTargetBucketForLogging (no such bucket, another
    owner, default retention, Requester Pays, or the logging service may not write there), InvalidArgument
    and UnresolvableGrantByEmailAddress (grantees).
    Differs: lines tell neither ciphers nor TLS versions nor whether an ACL was needed, and total times end
    where the answer begins; lifecycle actions and deliveries leave no lines.
    """
    if not (ctx.caller.is_root or ctx.caller.account_id == ctx.bucket.owner_id):
        raise S3Error(Code.AccessDenied, "Only the owner of a bucket may change its logging.")
    asked = wire.parse_logging_status(ctx.document())
    if asked is None:
        write.commit(ctx.store, lambda tx: tx.delete_bucket_config(ctx.bucket.id, access_log.CONFIG))
        return empty(200)
    logging = wire.Logging(
        asked.target, asked.prefix, asked.key_format, tuple(grant_of(ctx, item) for item in asked.grants)
    )
    access_log.check_target(ctx.store, ctx.bucket, logging)
    document = wire.encode(logging)
    write.commit(
        ctx.store,
        lambda tx: tx.put_bucket_config(write.live_bucket(tx, ctx.bucket).id, access_log.CONFIG, document),
    )
    return empty(200)
