"""Gates: the application decides before an upload becomes visible.

The bytes are durable and held by a row (`core.pending`) while it is asked; reads and listings see what was
there before. 2xx publishes, conditions and locks being decided in that transaction; 4xx discards; anything
else, or no answer, leaves it undecided: the uploader may try again, and nothing is stored.

Source: docs/callbacks.md, "Gates".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from urllib.parse import parse_qs

from s3lite.callback import reply
from s3lite.callback.send import Outcome
from s3lite.context import Context, Services
from s3lite.core import multipart, pending, write
from s3lite.core.pending import Content
from s3lite.errors import Code, S3Error
from s3lite.model import NULL_VERSION, ObjectVersion, Pending, RequestHead, Stored
from s3lite.ops import encryption, finish
from s3lite.ops.finish import Prepared
from s3lite.responses import Headers, Response, stream
from s3lite.wire import ranges
from s3lite.wire.conditions import WriteConditions

_RETRY_AFTER_S = 5


def require_open(ctx: Context, callback: Prepared | None) -> None:
    """Refuse a gated upload before its bytes are asked for, if its application would not be asked anyway.

    Raises SlowDown.
    """
    if callback is not None and callback.spec.is_gate:
        hindrance = ctx.services.callbacks.hindrance(callback.spec, callback.requester)
        if hindrance:
            raise _undecided(hindrance, Code.SlowDown, _RETRY_AFTER_S, {})


@dataclass(frozen=True, slots=True)
class Published:
    """What came of an upload: ``outcome`` is None where no gate was asked."""

    version: ObjectVersion
    callback: Prepared | None
    outcome: Outcome | None = None


def publish(
    ctx: Context,
    operation: str,
    callback: Prepared | None,
    new: write.NewVersion,
    when: WriteConditions,
    *,
    content: str,
    content_md5: str = "",
    tell: write.Tell | None = None,
) -> Published:
    """`write.publish`, once the gate that ``callback`` may be has said yes.

    ``content`` is what tells a repeat: equal for equal bytes, and for no others. Raises CallbackRejected,
    ServiceUnavailable and SlowDown (undecided), and as `write.publish`.
    """
    if callback is None or not callback.spec.is_gate:
        return Published(write.publish(ctx.store, ctx.bucket, new, when, tell=tell), callback)
    wanted = replace(
        _wanted(ctx, new.size, new.etag),
        callback_id=ctx.store.ids.message(),
        fingerprint=_fingerprint(ctx, operation, callback, new, content),
        encryption=new.encryption if new.stored else None,
        source_row=new.copy_of.row if new.copy_of else 0,
    )
    token = ctx.store.ids.upload()
    with _held(ctx, wanted, new.stored, token) as row:
        subject = Content(_preview(ctx, new), source=new.copy_of)
        outcome = _ask(ctx, operation, callback, subject, row, token, content_md5=content_md5)
        version = write.publish(ctx.store, ctx.bucket, new, when, pending=row, tell=tell)
    return Published(version, answered_as(callback, outcome), outcome)


def complete(
    ctx: Context, callback: Prepared, wish: multipart.Wish, *, tell: write.Tell | None = None
) -> tuple[multipart.Completed, Prepared, Outcome | None]:
    """`multipart.complete` behind a gate; a refused upload stays open with its parts. Raises as `publish`."""
    found = multipart.candidate(ctx.store, ctx.bucket, wish)
    if found is None:
        return multipart.complete(ctx.store, ctx.bucket, wish, None), callback, None
    blobs = [(part.part_number, part.blob) for part in found.parts]
    wanted = replace(
        _wanted(ctx, found.size, found.etag),
        # Nothing has to be remembered: the parts' blobs, which are never two times the same, say which it is.
        callback_id=ctx.store.ids.message_of(wish.upload_id, blobs, callback.raw),
        upload_id=wish.upload_id,
        part_numbers=tuple(part.part_number for part in found.parts),
    )
    token = ctx.store.ids.upload()
    with _held(ctx, wanted, None, token) as row:
        content = Content(_future(ctx, found), pending.segments_of(list(found.parts)))
        outcome = _ask(ctx, "CompleteMultipartUpload", callback, content, row, token)
        kept = multipart.KeptCallback(
            row.callback_id,
            callback.raw.callback,
            callback.raw.callback_var,
            callback.requester.access_key,
            state="ok",
            reply=outcome.body,
            reply_type=outcome.content_type,
        )
        done = multipart.complete(
            ctx.store, ctx.bucket, wish, kept, admitted=found.parts, pending=row, tell=tell
        )
    return done, answered_as(callback, outcome), outcome


def answered_as(callback: Prepared, outcome: Outcome) -> Prepared:
    """The callback with the reply that its outcome allows: a yes need not be JSON, and then S3's answer is given."""
    can_pass = reply.is_well_formed(outcome.body, outcome.content_type)
    return callback if callback.reply == "standard" or can_pass else replace(callback, reply="standard")


# ---------------------------------------------------------------- asking


@contextmanager
def _held(ctx: Context, wanted: Pending, stored: Stored | None, token: str) -> Iterator[Pending]:
    """The row of a pending upload; however the block fails, no bytes stay held.

    A refusal ends it for good. After what may be tried again the row remembers the webhook-id.
    """
    row = pending.hold(ctx.store, ctx.bucket, replace(wanted, token_hash=pending.hash_of(token)), stored)
    try:
        yield row
    except BaseException as problem:
        is_final = isinstance(problem, S3Error) and problem.status < 500
        with suppress(Exception):  # the sweeper does it, at the end of the row's time
            (pending.drop if is_final else pending.leave_undecided)(ctx.store, row)
        raise


def _ask(
    ctx: Context,
    operation: str,
    callback: Prepared,
    content: Content,
    row: Pending,
    token: str,
    *,
    content_md5: str = "",
) -> Outcome:
    """The application's yes. Raises CallbackRejected, ServiceUnavailable, SlowDown."""
    url = ""
    if not encryption.needs_customer_key(content.held_by):  # which the application does not have
        url = f"{finish.public_url(ctx)}/.s3lite/pending/{row.row}?token={token}"
    event = finish.event(ctx, operation, content, callback, content_md5, row.callback_id)
    outcome = ctx.services.callbacks.deliver(
        callback.spec,
        replace(event, version_id="", pending_url=url),
        requester=callback.requester,
        pub_key_url=finish.public_url(ctx) + "/.s3lite/callback-key.pem",
        reply="gate",
    )
    if outcome.ok:
        return outcome
    if outcome.is_refused:
        why = reply.reason(outcome.body, outcome.content_type)
        raise S3Error(Code.CallbackRejected, why or None, headers=_report(outcome, "rejected"))
    code = Code.SlowDown if outcome.is_held_back else Code.ServiceUnavailable
    wait_s = outcome.retry_after_s or _RETRY_AFTER_S
    raise _undecided(outcome.message, code, wait_s, _report(outcome, "undecided"))


def _undecided(why: str, code: Code, retry_after_s: int, headers: Mapping[str, str]) -> S3Error:
    return S3Error(
        code,
        f"The application has not decided about this upload, so nothing was stored. Try again. ({why})",
        headers={**headers, "Retry-After": str(retry_after_s)},
    )


def _report(outcome: Outcome, status: str) -> dict[str, str]:
    return {
        "x-s3lite-callback-id": outcome.callback_id,
        "x-s3lite-callback-status": status,
        "X-Content-Type-Options": "nosniff",
    }


# ---------------------------------------------------------------- what it is asked about


def _wanted(ctx: Context, size: int, etag: str) -> Pending:
    return Pending(
        row=0,
        callback_id="",
        fingerprint="",
        bucket_id=ctx.bucket.id,
        key=ctx.key,
        size=size,
        etag=etag,
        expires_ms=0,
    )


def _fingerprint(
    ctx: Context, operation: str, callback: Prepared, new: write.NewVersion, content: str
) -> str:
    """Equal for uploads that an application would decide alike.

    ``content`` is a SHA-256, or the row of a copy's source. An ETag does not do: it is an MD5, and whoever
    makes two bodies with one of those would have one of them looked at and publish the other under the answer
    that the application remembers.
    """
    who = callback.requester.access_key
    what = (ctx.bucket.id, new.key, operation, who, callback.raw, new.size, content, new.head, new.acl)
    return hashlib.sha256(repr(what).encode("utf-8", "replace")).hexdigest()


def _preview(ctx: Context, new: write.NewVersion) -> ObjectVersion:
    """The version that a single upload would become."""
    return ObjectVersion(
        row=0,
        bucket_id=ctx.bucket.id,
        key=new.key,
        version_id=NULL_VERSION,
        size=new.size,
        etag=new.etag,
        modified_ms=ctx.store.clock.time_ms(),
        owner_id=new.owner_id,
        head=new.head,
        acl=new.acl,
        blob=new.stored.id if new.stored else None,
        encryption=new.encryption,
    )


def _future(ctx: Context, found: multipart.Candidate) -> ObjectVersion:
    """The version that an open upload would become."""
    return ObjectVersion(
        row=0,
        bucket_id=ctx.bucket.id,
        key=ctx.key,
        version_id=NULL_VERSION,
        size=found.size,
        etag=found.etag,
        modified_ms=ctx.store.clock.time_ms(),
        owner_id=found.upload.owner_id,
        head=found.upload.head,
        acl=found.upload.acl,
        part_count=len(found.parts),
        encryption=found.encryption,
    )


# ---------------------------------------------------------------- the bytes, for the application


def pending_content(head: RequestHead, services: Services) -> Response:
    """``/.s3lite/pending/ROW?token=…``: bytes of an upload, for the application that is being asked.

    Whoever has the URL may read, until the decision; one range at a time. Raises NoSuchKey, InvalidRange.
    """
    number = head.target.key.partition("/")[2]
    token = parse_qs(head.query).get("token", [""])[0]
    found = None
    if number.isascii() and number.isdigit() and len(number) < 19 and token:
        found = pending.find(services.store, int(number), token)
    content = pending.content(services.store, found) if found else None
    if found is None or content is None:
        raise S3Error(Code.NoSuchKey, "No decision about these bytes is awaited, or the URL is not whole.")
    headers: Headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Disposition", "attachment"),
        ("ETag", f'"{found.etag}"'),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    offset, length, status = 0, found.size, 200
    wanted = head.headers.get("range")
    chosen = ranges.parse_range(wanted, found.size) if wanted else None
    if chosen is not None:
        (offset, length), status = chosen, 206
        headers.append(("Content-Range", ranges.content_range(offset, length, found.size)))
    body = () if head.method == "HEAD" else content.read(services.store, offset, length)
    return stream(body, length, status=status, headers=headers)
