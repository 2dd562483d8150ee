"""Callback policies of a bucket: an extension of s3lite, ``?callback`` of a bucket."""

from __future__ import annotations

import json

from s3lite.callback import policies
from s3lite.callback.policies import CONFIG, NOTHING, Configuration, Policy
from s3lite.callback.send import CallbackSender
from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import write
from s3lite.errors import Code, S3Error
from s3lite.responses import Response, empty


def of_bucket(ctx: Context) -> Configuration:
    """The bucket's policies; costs no statement where it has none."""
    if CONFIG not in ctx.bucket.configs:
        return NOTHING
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, CONFIG)
    return policies.stored(document) if document is not None else NOTHING


def get_bucket_callback(ctx: Context) -> Response:
    """GetBucketCallback: right and policies of a bucket, and the secrets that their callbacks are signed with.

    Not an operation of S3. Errors: NoSuchCallbackConfiguration.
    """
    if CONFIG not in ctx.bucket.configs:
        raise S3Error(Code.NoSuchCallbackConfiguration, BucketName=ctx.bucket.name)
    shown = policies.document(of_bucket(ctx))
    shown[policies.SECRETS] = ctx.services.callback_keys.bucket_secrets(ctx.bucket.id)
    body = json.dumps(shown, ensure_ascii=False, indent=1).encode()
    return Response(200, [("Content-Type", "application/json"), ("Cache-Control", "no-store")], body)


def put_bucket_callback(ctx: Context) -> Response:
    """PutBucketCallback: replace right and policies of a bucket.

    Not an operation of S3. Errors: MalformedPolicy, InvalidArgument (a callback's), AccessDenied (a key that
    may name no callback of its own may not configure one either).
    """
    if ctx.caller.key is None or ctx.caller.key.callback != "inline":
        raise S3Error(
            Code.AccessDenied, "This access key may not name callbacks, so it may not configure them either."
        )
    configuration = policies.parse(ctx.document(), max_policies=ctx.settings.callback.policies)
    for policy in configuration.policies:
        check_addresses(ctx.services.callbacks, policy)

    def work(tx: Tx) -> None:
        live = write.live_bucket(tx, ctx.bucket)
        tx.put_bucket_config(live.id, CONFIG, policies.encode(configuration))

    write.commit(ctx.store, work)
    return empty(204)


def delete_bucket_callback(ctx: Context) -> Response:
    """DeleteBucketCallback: no policies, and requests may bring callbacks as their keys allow.

    Not an operation of S3.
    """

    def work(tx: Tx) -> None:
        tx.delete_bucket_config(ctx.bucket.id, CONFIG)

    write.commit(ctx.store, work)
    return empty(204)


def check_addresses(sender: CallbackSender, policy: Policy) -> None:
    """Refuse a policy whose targets callbacks may not reach. Raises InvalidArgument."""
    try:
        sender.check(policy.spec)
    except S3Error as fault:
        fault.message = f"Policy {policy.name}: {fault.message}"
        raise
