"""What an operation tells others in its transaction: its bucket's notifications, and a callback that is owed."""

from __future__ import annotations

from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import notify, write
from s3lite.core.notify import Events, Origin
from s3lite.model import Acl, Bucket, ObjectVersion
from s3lite.ops.durable import Owed


def origin_of(ctx: Context) -> Origin:
    """Who asked, and by which request."""
    principal = ctx.caller.account_id or "anonymous"
    return Origin(principal, ctx.client_ip, ctx.request_id, ctx.services.host_id)


def events_of(ctx: Context) -> Events | None:
    """The events of a request; None where the bucket tells nobody, and then nothing is looked up."""
    return Events(ctx.store, origin_of(ctx)) if notify.CONFIG in ctx.bucket.configs else None


def telling(ctx: Context, how: str, owed: Owed | None = None) -> write.Tell | None:
    """What is told of a new version that was made by Put, Post, Copy or CompleteMultipartUpload."""
    events = events_of(ctx)
    if events is None:
        return owed.tell if owed is not None else None
    created = events.created(how)
    if owed is None:
        return created

    def both(tx: Tx, bucket: Bucket, version: ObjectVersion) -> None:
        owed.tell(tx, bucket, version)
        created(tx, bucket, version)

    return both


def change_version(
    ctx: Context,
    event: str,
    version: ObjectVersion,
    *,
    acl: Acl | None = None,
    tags: tuple[tuple[str, str], ...] | None = None,
) -> None:
    """Change a version's ACL or tags, and tell of it. ``event`` is without ``s3:``."""
    events = events_of(ctx)

    def work(tx: Tx) -> None:
        tx.update_version(version.row, acl=acl, tags=tags)
        if events is not None:
            events.tell(tx, ctx.bucket, event, version)

    write.commit(ctx.store, work, owes=events is not None)
