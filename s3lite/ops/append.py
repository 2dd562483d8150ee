"""AppendObject, of Alibaba Cloud OSS: an object that grows at its end."""

from __future__ import annotations

from s3lite.callback import spec as callback_spec
from s3lite.context import Context
from s3lite.core import append, quota, sealing
from s3lite.core.append import NewObject, Wish
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import ObjectVersion
from s3lite.names import check_key
from s3lite.ops import durable, encryption, events, finish, object_read, object_write, upload_headers
from s3lite.responses import Headers, Response, empty
from s3lite.wire import checksums, conditions
from s3lite.wire.checksums import CRC64ECMA
from s3lite.wire.encryption import CUSTOMER

_OPERATION = "AppendObject"


def append_object(ctx: Context) -> Response:
    """AppendObject: add the body to the end of an object, which its first append makes.

    Headers that describe the object count at the first append and are ignored later. The bucket's callback
    policies for PutObject apply to each append.

    Source: API reference of Alibaba Cloud OSS, AppendObject. Checked against OSS: never.
    Errors: PositionNotEqualToLength (with the right one in x-oss-next-append-position), ObjectNotAppendable,
    InvalidArgument (position, callback), InvalidRequest (`limits.appends`), AccessDenied (a locked object; a key behind
    a gate), EntityTooLarge, and PutObject's of a body.
    Differs: the size is bounded by `limits.object_bytes`, where OSS has 5 GB; copies are allowed, and Normal objects.
    """
    check_key(ctx.key)
    upload_headers.refuse_not_offered(ctx.headers)
    callback_spec.refuse(ctx.head)
    position = _position(ctx)
    callback = finish.prepare(ctx, None, "PutObject")
    if finish.is_gate(callback):
        raise S3Error(
            Code.AccessDenied,
            "An application decides about what gets this key, and is asked about whole objects only.",
        )
    when = conditions.parse_write_conditions(ctx.headers)
    request = checksums.parse_checksum_headers(ctx.headers)
    with ctx.store.catalog.read() as tx:
        current = tx.current_version(ctx.bucket.id, ctx.key)
    seen = append.admitted(ctx.store, ctx.key, position, when, current)
    new = _new_object(ctx) if seen is None else None
    part = sealing.prepare_append(_object_key(ctx, seen, new))
    size = ctx.payload_length()
    body = ctx.body(max_bytes=ctx.settings.limits.put_bytes)
    stored, digests = object_write.take(
        ctx,
        quota.guarded(ctx.store, ctx.bucket, ctx.key, body, size=size),
        size=size,
        request=request,
        key=part.key if part is not None else None,
        also={"CRC64NVME", CRC64ECMA},
    )
    owed = durable.owed(ctx, _OPERATION, callback)
    version = append.append(
        ctx.store,
        ctx.bucket,
        Wish(ctx.key, position, when, new),
        stored,
        digests,
        seen=seen,
        part=part,
        tell=events.telling(ctx, "Put", owed),
    )
    where: Headers = object_read.oss_headers(ctx, version)
    answer = empty(200, finish.version_headers(version) + where)
    return finish.finish(ctx, _OPERATION, version, callback, answer, extra=where, owed=owed)


def _position(ctx: Context) -> int:
    text = ctx.params.get("position", "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise invalid_argument(
            "position", text, "AppendObject needs position=N, the length of the object as it is: 0 at first."
        )
    return int(text)


def _new_object(ctx: Context) -> NewObject:
    head = upload_headers.object_head(ctx, ctx.headers)
    owner_id, acl = upload_headers.owner_and_acl(ctx, ctx.headers)
    wanted = encryption.wanted(ctx, ctx.headers)
    if wanted is not None and wanted.mode == CUSTOMER:
        raise S3Error(Code.InvalidRequest, "Appendable objects cannot be encrypted with a customer's key.")
    return NewObject(
        owner_id,
        head,
        acl,
        upload_headers.object_lock(ctx, ctx.headers),
        sealing.prepare(ctx.store, wanted),
    )


def _object_key(ctx: Context, seen: ObjectVersion | None, new: NewObject | None) -> bytes | None:
    """What the keys of the object's parts are sealed under; None for a plain object."""
    if seen is not None:
        return sealing.key_of_version(ctx.store, seen, None) if seen.encryption is not None else None
    return new.envelope.key if new is not None and new.envelope is not None else None
