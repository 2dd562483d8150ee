"""Notification configuration of a bucket. What it leads to is written by `core.notify`."""

from __future__ import annotations

from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import notify, write
from s3lite.errors import Code, S3Error
from s3lite.ops import events
from s3lite.responses import Response, empty, xml
from s3lite.wire import notification as documents

_SKIP = "x-amz-skip-destination-validation"
_CANNOT = "Unable to validate the following destination configurations"


def get_bucket_notification_configuration(ctx: Context) -> Response:
    """GetBucketNotificationConfiguration: empty where nothing was put.

    Source: API Reference, GetBucketNotificationConfiguration. Checked against AWS: never.
    """
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, notify.CONFIG)
    return xml(document or documents.document(documents.Configuration()))


def put_bucket_notification_configuration(ctx: Context) -> Response:
    """PutBucketNotificationConfiguration: replace a bucket's configuration; an empty one ends notifications.

    Each destination gets S3's test message first, unless x-amz-skip-destination-validation is true; if one
    does not take it, nothing is changed.

    Source: API Reference, PutBucketNotificationConfiguration. Checked against AWS: never.
    Errors: MalformedXML, InvalidArgument (event, filter, overlap, destination).
    Differs: destinations are targets of the server's settings; the last part of an ARN names one. It is in
    force at once.
    """
    limit = ctx.settings.limits.notification_rules
    configuration = documents.parse(ctx.document(), new_id=ctx.store.ids.request, max_rules=limit)
    _check_destinations(ctx, configuration)
    document = documents.document(configuration)

    def work(tx: Tx) -> None:
        live = write.live_bucket(tx, ctx.bucket)
        if configuration.is_empty:
            tx.delete_bucket_config(live.id, notify.CONFIG)
        else:
            tx.put_bucket_config(live.id, notify.CONFIG, document)

    write.commit(ctx.store, work)
    return empty(200)


def _check_destinations(ctx: Context, configuration: documents.Configuration) -> None:
    """Raises InvalidArgument for one that is not known, or does not take the test message."""
    arns = list(dict.fromkeys(rule.arn for rule in configuration.rules))
    for arn in arns:
        if ctx.services.targets.meant(arn) is None:
            raise _refused(arn, "The destination is not among this server's notifications.targets")
    bridge = ctx.settings.notifications.eventbridge
    if configuration.event_bridge:
        if not bridge:
            raise _refused("EventBridge", "This server has no target in notifications.eventbridge")
        arns.append(notify.event_bridge_arn(bridge))
    if ctx.headers.get(_SKIP, "").lower() == "true":
        return
    body = notify.test_message(ctx.store, ctx.bucket.name, events.origin_of(ctx))
    for arn in arns:
        entry = notify.notification_entry(
            ctx.store, arn=arn, bucket=ctx.bucket.name, key="", event="s3:TestEvent", body=body
        )
        result = ctx.services.carriers.carry(entry)
        if not result.ok:
            raise _refused(arn, f"The destination did not take the test message: {result.message}")


def _refused(arn: str, why: str) -> S3Error:
    return S3Error(Code.InvalidArgument, _CANNOT, ArgumentName=arn[:512], ArgumentValue=why[:512])
