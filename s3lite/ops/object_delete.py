"""DeleteObject and DeleteObjects."""

from __future__ import annotations

from s3lite.auth.actions import versioned
from s3lite.auth.facts import About
from s3lite.catalog.base import Tx
from s3lite.context import Beside, Context
from s3lite.core import access_log, write
from s3lite.errors import Code, S3Error
from s3lite.names import MAX_KEY_BYTES
from s3lite.ops import events, upload_headers
from s3lite.responses import Headers, Response, empty, xml
from s3lite.wire import conditions, results
from s3lite.wire.access_log import DELETED
from s3lite.wire.requests import DeleteItem, parse_delete


def delete_object(ctx: Context) -> Response:
    """DeleteObject: delete a key, or one version of it; what is not there is deleted already.

    Source: API Reference, DeleteObject. Checked against AWS: never.
    Errors: PreconditionFailed, AccessDenied (also: the version is locked).
    """
    version_id = ctx.params.get("versionId") or None
    when = conditions.parse_delete_conditions(ctx.headers)
    bypass = upload_headers.bypasses_governance(ctx)
    told = events.events_of(ctx)
    deleted = write.delete(
        ctx.store,
        ctx.bucket,
        ctx.key,
        version_id,
        when,
        bypass=bypass,
        tell=told.removed if told else None,
    )
    headers: Headers = []
    if deleted.version_id:
        headers.append(("x-amz-version-id", deleted.version_id))
    if deleted.is_delete_marker:
        headers.append(("x-amz-delete-marker", "true"))
    return empty(204, headers)


def delete_objects(ctx: Context) -> Response:
    """DeleteObjects: up to 1,000 keys in one transaction, or some for huge objects, each with its own outcome.

    Source: API Reference, DeleteObjects. Checked against AWS: never.
    Errors: MalformedXML (no key, or more than allowed); InvalidRequest without Content-MD5 or checksum.
    """
    if not _has_integrity_header(ctx):
        raise S3Error(
            Code.InvalidRequest,
            "Missing required header for this request: Content-MD5 or a checksum (x-amz-checksum-*)",
        )
    request = parse_delete(ctx.document(), max_keys=ctx.settings.limits.delete_keys)

    bypass = upload_headers.bypasses_governance(ctx)
    told = events.events_of(ctx)
    tell = told.removed if told else None
    denied = {item for item in request.objects if not _may_delete(ctx, item)}

    outcomes: list[results.DeletedKey | results.DeleteFailure] = []

    def work(tx: Tx) -> list[results.DeletedKey | results.DeleteFailure]:
        found: list[results.DeletedKey | results.DeleteFailure] = []
        for item in request.objects[len(outcomes) :]:
            if item in denied:
                found.append(_failure(item, S3Error(Code.AccessDenied)))
            else:
                found.append(_delete_one(ctx, tx, item, bypass=bypass, tell=tell))
            if tx.parts_removed >= write.PARTS_AT_ONCE:
                break
        return found

    while len(outcomes) < len(request.objects):
        outcomes += write.commit(ctx.store, work, owes=told is not None, frees=True)
    if access_log.CONFIG in ctx.bucket.configs:
        ctx.beside = list(map(_logged, outcomes))
    return xml(results.delete_result(outcomes, quiet=request.quiet))


def _logged(outcome: results.DeletedKey | results.DeleteFailure) -> Beside:
    error = S3Error(Code[outcome.code]) if isinstance(outcome, results.DeleteFailure) else None
    return Beside(DELETED, outcome.key, outcome.version_id, error=error)


def _has_integrity_header(ctx: Context) -> bool:
    return (
        "content-md5" in ctx.headers
        or "x-amz-trailer" in ctx.headers
        or ctx.payload.kind == "sha256"
        or any(name.startswith("x-amz-checksum-") for name in ctx.headers)
    )


def _may_delete(ctx: Context, item: DeleteItem) -> bool:
    about = About(version_id=item.version_id or "")
    return ctx.may(versioned("s3:DeleteObject", item.version_id), key=item.key, about=about)


def _failure(item: DeleteItem, error: S3Error) -> results.DeleteFailure:
    return results.DeleteFailure(item.key, item.version_id or "", error.code.wire_name, error.message)


def _delete_one(
    ctx: Context, tx: Tx, item: DeleteItem, *, bypass: bool, tell: write.TellRemoved | None
) -> results.DeletedKey | results.DeleteFailure:
    try:
        if len(item.key.encode()) > MAX_KEY_BYTES:
            raise S3Error(Code.KeyTooLongError)
        when = conditions.delete_item_conditions(item)
        deleted = write.delete_in(
            ctx.store, tx, ctx.bucket, item.key, item.version_id, when, bypass=bypass, tell=tell
        )
    except S3Error as error:
        return _failure(item, error)
    return results.DeletedKey(
        key=item.key,
        version_id=item.version_id or "",
        is_delete_marker=deleted.is_delete_marker,
        delete_marker_version_id=deleted.version_id if deleted.is_delete_marker else "",
    )
