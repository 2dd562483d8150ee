"""Object lock: the configuration of a bucket, retention and legal hold of object versions."""

from __future__ import annotations

from dataclasses import replace

from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx
from s3lite.context import Context
from s3lite.core import lock, write
from s3lite.errors import Code, S3Error
from s3lite.model import ObjectVersion
from s3lite.ops import events, upload_headers
from s3lite.ops.object_read import existing
from s3lite.responses import Response, empty, xml
from s3lite.wire import object_lock


def get_object_lock_configuration(ctx: Context) -> Response:
    """GetObjectLockConfiguration: whether the bucket has object lock, and its default retention.

    Source: API Reference, GetObjectLockConfiguration. Checked against AWS: never.
    Errors: ObjectLockConfigurationNotFoundError.
    """
    if not ctx.bucket.object_lock:
        raise S3Error(Code.ObjectLockConfigurationNotFoundError, BucketName=ctx.bucket.name)
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, lock.CONFIG)
    return xml(document or object_lock.configuration(None))


def put_object_lock_configuration(ctx: Context) -> Response:
    """PutObjectLockConfiguration: enable object lock, for good, and set the default retention.

    Source: API Reference, PutObjectLockConfiguration. Checked against AWS: never.
    Errors: MalformedXML, InvalidRetentionPeriod, InvalidBucketState (versioning is not Enabled).
    """
    document = object_lock.configuration(object_lock.parse_configuration(ctx.document()))

    def work(tx: Tx) -> None:
        live = write.live_bucket(tx, ctx.bucket)
        if live.versioning != "Enabled":
            raise S3Error(
                Code.InvalidBucketState,
                "Versioning must be 'Enabled' on the bucket to apply an Object Lock configuration",
            )
        tx.enable_object_lock(live.id)
        tx.put_bucket_config(live.id, lock.CONFIG, document)

    write.commit(ctx.store, work)
    return empty(200)


def get_object_retention(ctx: Context) -> Response:
    """GetObjectRetention: mode and date, also of a retention that has run out.

    Source: API Reference, GetObjectRetention. Checked against AWS: never.
    Errors: InvalidRequest (a bucket without object lock), NoSuchObjectLockConfiguration, NoSuchKey,
    NoSuchVersion, MethodNotAllowed (a delete marker).
    """
    version = _read(ctx)
    if not version.lock.mode:
        raise S3Error(Code.NoSuchObjectLockConfiguration, Key=ctx.key)
    return xml(object_lock.retention(version.lock))


def put_object_retention(ctx: Context) -> Response:
    """PutObjectRetention: set or extend a retention; weakening one takes the bypass of GOVERNANCE.

    Source: API Reference, PutObjectRetention. Checked against AWS: never.
    Errors: MalformedXML, InvalidArgument (a date that has passed), AccessDenied, and as the read.
    """
    _check_bucket(ctx)
    wanted = object_lock.parse_retention(ctx.document(), now_ms=ctx.store.clock.time_ms())
    bypass = upload_headers.bypasses_governance(ctx)
    told = events.events_of(ctx)

    def work(tx: Tx) -> None:
        version = _named(ctx, tx)
        now_ms = ctx.store.clock.time_ms()
        changed = lock.with_retention(version.lock, wanted, now_ms, bypass=bypass)
        tx.update_version(version.row, lock=changed)
        if told is not None:
            told.tell(tx, ctx.bucket, "ObjectRetention:Put", version)

    write.commit(ctx.store, work, owes=told is not None)
    return empty(200)


def get_object_legal_hold(ctx: Context) -> Response:
    """GetObjectLegalHold: ON or OFF, once it has been set.

    Source: API Reference, GetObjectLegalHold. Checked against AWS: never.
    Errors: as GetObjectRetention.
    """
    version = _read(ctx)
    if not version.lock.legal_hold:
        raise S3Error(Code.NoSuchObjectLockConfiguration, Key=ctx.key)
    return xml(object_lock.legal_hold(version.lock.legal_hold))


def put_object_legal_hold(ctx: Context) -> Response:
    """PutObjectLegalHold: keep a version, or let it go, whatever its retention.

    Source: API Reference, PutObjectLegalHold. Checked against AWS: never.
    Errors: MalformedXML, and as the read.
    """
    _check_bucket(ctx)
    status = object_lock.parse_legal_hold(ctx.document())

    def work(tx: Tx) -> None:
        version = _named(ctx, tx)
        tx.update_version(version.row, lock=replace(version.lock, legal_hold=status))

    write.commit(ctx.store, work)
    return empty(200)


def _check_bucket(ctx: Context) -> None:
    if not ctx.bucket.object_lock:
        raise S3Error(Code.InvalidRequest, upload_headers.NO_OBJECT_LOCK)


def _read(ctx: Context) -> ObjectVersion:
    _check_bucket(ctx)
    with ctx.store.catalog.read() as tx:
        return _named(ctx, tx)


def _named(ctx: Context, tx: ReadTx) -> ObjectVersion:
    """The version that the request names, as it is now."""
    version_id = ctx.params.get("versionId")
    if version_id:
        return existing(ctx, tx.version(ctx.bucket.id, ctx.key, version_id))
    return existing(ctx, tx.current_version(ctx.bucket.id, ctx.key))
