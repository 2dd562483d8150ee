"""Lifecycle configuration of a bucket, and what answers tell of it. The sweeper runs it (`core.lifecycle`)."""

from __future__ import annotations

from urllib.parse import quote

from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import lifecycle, write
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import ObjectVersion, Upload
from s3lite.responses import Headers, Response, empty, xml
from s3lite.times import http_date
from s3lite.wire import lifecycle as documents

_MINIMUM_SIZE = "x-amz-transition-default-minimum-object-size"
_MINIMUM_SIZES = ("all_storage_classes_128K", "varies_by_storage_class")  # the first is the default
_MINIMUM_CONFIG = "lifecycle-minimum-size"


def get_bucket_lifecycle_configuration(ctx: Context) -> Response:
    """GetBucketLifecycleConfiguration: the rules as they were put, each with its ID.

    Source: API Reference, GetBucketLifecycleConfiguration. Checked against AWS: never.
    Errors: NoSuchLifecycleConfiguration.
    """
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, lifecycle.CONFIG)
        minimum = tx.bucket_config(ctx.bucket.id, _MINIMUM_CONFIG)
    if document is None:
        raise S3Error(Code.NoSuchLifecycleConfiguration, BucketName=ctx.bucket.name)
    return xml(document, headers=[(_MINIMUM_SIZE, minimum.decode() if minimum else _MINIMUM_SIZES[0])])


def put_bucket_lifecycle_configuration(ctx: Context) -> Response:
    """PutBucketLifecycleConfiguration: replace a bucket's rules.

    Source: API Reference, PutBucketLifecycleConfiguration. Checked against AWS: never.
    Errors: MalformedXML, InvalidRequest, InvalidArgument, InvalidTag.
    Differs: transitions are kept and shown, and not run, for storage classes are names only.
    """
    minimum = ctx.headers.get(_MINIMUM_SIZE, "") or _MINIMUM_SIZES[0]
    if minimum not in _MINIMUM_SIZES:
        raise invalid_argument(_MINIMUM_SIZE, minimum, f"Use {' or '.join(_MINIMUM_SIZES)}.")
    data = ctx.document()
    documents.parse(data)
    document = documents.document(data, new_id=ctx.store.ids.request)

    def work(tx: Tx) -> None:
        live = write.live_bucket(tx, ctx.bucket)
        tx.put_bucket_config(live.id, lifecycle.CONFIG, document)
        tx.put_bucket_config(live.id, _MINIMUM_CONFIG, minimum.encode())

    write.commit(ctx.store, work)
    return empty(200, [(_MINIMUM_SIZE, minimum)])


def delete_bucket_lifecycle(ctx: Context) -> Response:
    """DeleteBucketLifecycle: nothing expires any more; a walk at work ends with its batch.

    Source: API Reference, DeleteBucketLifecycle. Checked against AWS: never.
    """

    def work(tx: Tx) -> None:
        tx.delete_bucket_config(ctx.bucket.id, lifecycle.CONFIG)
        tx.delete_bucket_config(ctx.bucket.id, _MINIMUM_CONFIG)

    write.commit(ctx.store, work)
    return empty(204)


# ---------------------------------------------------------------- what other answers tell


def expiration_headers(ctx: Context, version: ObjectVersion) -> Headers:
    """x-amz-expiration of a current object that a rule will expire.

    The date is by the calendar: a shortened day (settings.lifecycle.day_seconds) is for tests alone.
    """
    if not version.is_latest:
        return []
    subject = lifecycle.Subject(version.key, version.size, version.head.tags, version.modified_ms)
    rules = _rules(ctx)
    found = lifecycle.expiry(rules, subject, day_seconds=lifecycle.DAY_SECONDS) if rules else None
    if found is None:
        return []
    date, rule_id = _described(found)
    return [("x-amz-expiration", f'expiry-date="{date}", rule-id="{rule_id}"')]


def abort_headers(ctx: Context, upload: Upload) -> Headers:
    """x-amz-abort-date and x-amz-abort-rule-id of an upload that a rule will abort."""
    days = lifecycle.DAY_SECONDS
    found = lifecycle.abort_ms(_rules(ctx), upload.key, upload.initiated_ms, day_seconds=days)
    if found is None:
        return []
    date, rule_id = _described(found)
    return [("x-amz-abort-date", date), ("x-amz-abort-rule-id", rule_id)]


def _rules(ctx: Context) -> tuple[documents.Rule, ...]:
    if lifecycle.CONFIG not in ctx.bucket.configs:
        return ()
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, lifecycle.CONFIG)
    return documents.stored_rules(document) if document else ()


def _described(found: lifecycle.Expiry) -> tuple[str, str]:
    return http_date(found.at_ms // 1000), quote(found.rule_id, safe="/-_.~")
