"""RenameObject: another key for an object, at once and without moving a byte."""

from __future__ import annotations

from urllib.parse import unquote

from s3lite.auth.facts import About
from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import notify, write
from s3lite.core.notify import Events
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import NULL_VERSION
from s3lite.names import check_key
from s3lite.ops import events, finish
from s3lite.responses import Response, empty
from s3lite.wire import conditions

_SOURCE = "x-amz-rename-source"


def rename_object(ctx: Context) -> Response:
    """RenameObject: give an object of an unversioned bucket another key; what had that key is replaced.

    Readers see the object under the old key or the new one, never under both or none. Everything else
    about it stays: bytes, ETag, date, metadata, tags, owner, ACL.

    Source: API Reference, RenameObject. Checked against AWS: never.
    Errors: NoSuchKey, PreconditionFailed, InvalidArgument, InvalidRequest (onto itself), AccessDenied (the new key
    is behind a gate), InvalidBucketState (a bucket that is or was versioned: its versions would keep the old key).
    Differs: any unversioned bucket takes it, where S3 has it for directory buckets. x-amz-client-token is
    not remembered: a repeat finds no source.
    """
    check_key(ctx.key)
    source_key = _source_key(ctx)
    ctx.require("s3:DeleteObject", key=source_key)
    if source_key == ctx.key:
        raise S3Error(Code.InvalidRequest, "The source and the destination of a rename must differ.")
    if finish.is_gate(finish.prepare(ctx, None, "CopyObject")):
        raise S3Error(
            Code.AccessDenied,
            "An application decides about what gets this key. Copy the object, and delete it.",
        )
    absent = Code.NoSuchKey if ctx.may("s3:ListBucket", about=About(prefix=source_key)) else Code.AccessDenied
    told = events.events_of(ctx)
    write.commit(ctx.store, lambda tx: _rename(ctx, tx, source_key, absent, told), owes=told is not None)
    return empty(200)


def _rename(ctx: Context, tx: Tx, source_key: str, absent: Code, told: Events | None) -> None:
    live = write.live_bucket(tx, ctx.bucket)
    if live.versioning:
        raise S3Error(Code.InvalidBucketState, "RenameObject needs a bucket without versioning.")
    source = tx.version(live.id, source_key, NULL_VERSION)
    replaced = tx.version(live.id, ctx.key, NULL_VERSION)
    if source is None:
        raise S3Error(absent, Key=source_key)
    # Under its new key it may be readable to more, so that whoever moves it must be one who may read it.
    if not ctx.may("s3:GetObject", key=source_key, about=About(version=source)):
        raise S3Error(Code.AccessDenied, Key=source_key)
    conditions.rename_decision(ctx.headers, source=source, replaced=replaced)
    if replaced is not None:
        tx.remove_version(replaced)
    tx.remove_version(source)
    renamed = tx.insert_version(
        bucket_id=live.id,
        key=ctx.key,
        version_id=NULL_VERSION,
        size=source.size,
        etag=source.etag,
        modified_ms=source.modified_ms,
        owner_id=source.owner_id,
        head=source.head,
        acl=source.acl,
        checksum=source.checksum,
        copy_of=source,
    )
    if source.annotations:  # they go with it when this transaction ends
        for annotation in tx.annotations(source.row):
            tx.put_annotation(renamed, annotation, stored=None)
    if told is not None:
        told.created("Copy")(tx, live, renamed)
        told.removed(tx, live, notify.DELETE, source)


def _source_key(ctx: Context) -> str:
    """The key that the header names, URL-encoded: by itself, or as ``/bucket/key`` of this bucket."""
    text = ctx.headers.get(_SOURCE, "")
    try:
        name = unquote(text, errors="strict")
    except UnicodeDecodeError:
        name = ""
    key = name.removeprefix(f"/{ctx.bucket.name}/")
    if not key:
        raise invalid_argument(_SOURCE, text, f"{_SOURCE} must name a key of this bucket, URL-encoded.")
    return key
