"""The shared end of every upload: commit is done, so report to the application, then answer.

Source: docs/callbacks.md. The object is readable before the callback is sent, no lock is held while
it runs, and its failure never undoes the upload.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lite.callback import image
from s3lite.callback.render import Event
from s3lite.callback.send import Outcome
from s3lite.callback.spec import CallbackSpec, RawCallback, parse
from s3lite.context import Context
from s3lite.core.pending import Content
from s3lite.errors import Code, S3Error
from s3lite.model import NULL_VERSION, AccessKey, ObjectVersion
from s3lite.ops import encryption, upload_headers
from s3lite.responses import Headers, Response
from s3lite.times import rfc3339
from s3lite.wire import checksums

if TYPE_CHECKING:
    from s3lite.ops.durable import Owed

_IMAGE_BYTES = 256 << 10
_MAX_REPLY_HEADER = 4096


@dataclass(frozen=True, slots=True)
class Prepared:
    """A callback that has passed every check which is possible before the body is read."""

    raw: RawCallback
    spec: CallbackSpec
    requester: AccessKey
    reply: str  # passthrough | standard


def prepare(ctx: Context, raw: RawCallback | None, *, requester: AccessKey | None = None) -> Prepared | None:
    """Parse and check the callback of an upload; None when it has none.

    Raises InvalidArgument and AccessDenied as docs/callbacks.md lists them.
    """
    if raw is None:
        return None
    spec = parse(raw)
    key = requester or ctx.caller.key
    assert key is not None  # `callback.spec` refuses anonymous carriers
    if key.callback != "inline":
        raise S3Error(Code.AccessDenied, "This access key may not name a callback in its requests.")
    ctx.services.callbacks.check(spec)
    is_standard = raw.place == "kept" or spec.mode == "async"
    default = "standard" if is_standard else ctx.settings.callback.default_reply
    return Prepared(raw, spec, key, spec.reply or default)


def is_gate(callback: Prepared | None) -> bool:
    """Whether an application decides about the upload."""
    return callback is not None and callback.spec.is_gate


def version_headers(version: ObjectVersion) -> Headers:
    """ETag, version id, checksum and encryption of what an upload made.

    The null version of a suspended bucket is not named, as Ceph's conformance tests have it.
    """
    headers: Headers = [("ETag", f'"{version.etag}"')]
    if version.version_id != NULL_VERSION:
        headers.append(("x-amz-version-id", version.version_id))
    if version.checksum is not None:
        headers.append((checksums.header_name(version.checksum.algorithm), version.checksum.value))
        headers.append(("x-amz-checksum-type", version.checksum.type))
    return headers + encryption.headers_of(version.encryption, context=True)


def finish(
    ctx: Context,
    operation: str,
    version: ObjectVersion,
    callback: Prepared | None,
    answer: Response,
    *,
    outcome: Outcome | None = None,
    content_md5: str = "",
    callback_id: str = "",
    on_outcome: Callable[[Outcome], None] | None = None,
    extra: Headers | None = None,
    owed: Owed | None = None,
) -> Response:
    """Report an upload and return what its uploader gets.

    ``answer`` is S3's usual one; ``outcome`` that of a gate, which was asked before; ``content_md5`` the hex
    MD5 of a single upload; ``extra`` headers are added to an answer that replaces the usual one (Location).
    ``owed`` is the callback where the outbox has it. Raises CallbackFailed (203 or 424).
    """
    ctx.services.publish_event(ctx, operation, version)
    if callback is None:
        return answer
    if owed is not None:
        return owed.finish(version, answer, extra or [], on_outcome)
    if outcome is None:
        callback_id = callback_id or ctx.store.ids.message()
        outcome = ctx.services.callbacks.deliver(
            callback.spec,
            event(ctx, operation, Content(version), callback, content_md5, callback_id),
            requester=callback.requester,
            pub_key_url=public_url(ctx) + "/.s3lite/callback-key.pem",
            reply=callback.reply,
        )
        if on_outcome is not None:
            on_outcome(outcome)
    return answer_for(ctx, version, callback, outcome, answer, extra or [])


def answer_for(
    ctx: Context,
    version: ObjectVersion,
    callback: Prepared,
    outcome: Outcome,
    answer: Response,
    extra: Headers,
    *,
    status: str = "",
) -> Response:
    """The uploader's answer for a callback's outcome (docs/callbacks.md, "What the uploader gets").

    ``status``: queued, when the outbox goes on with it.
    """
    report: Headers = [
        ("x-s3lite-callback-id", outcome.callback_id),
        ("x-s3lite-callback-status", status or ("ok" if outcome.ok else "failed")),
        ("X-Content-Type-Options", "nosniff"),
    ]
    if callback.reply == "standard":
        if not outcome.ok:
            report.append(("x-s3lite-callback-message", outcome.message))
        if outcome.body and len(outcome.body) <= _MAX_REPLY_HEADER:
            report.append(("x-s3lite-callback-body", base64.b64encode(outcome.body).decode()))
        if outcome.ok or callback.spec.on_failure != "error":
            answer.headers += report
            return answer
        headers = version_headers(version) + report
        raise S3Error(Code.CallbackFailed, outcome.message, status=424, headers=dict(headers))
    headers = version_headers(version) + report + extra
    if outcome.ok:
        return Response(200, [("Content-Type", outcome.content_type), *headers], outcome.body)
    raise S3Error(Code.CallbackFailed, outcome.message, headers=dict(headers))


def event(
    ctx: Context,
    operation: str,
    content: Content,
    callback: Prepared,
    content_md5: str,
    callback_id: str,
    *,
    with_image: bool = True,
) -> Event:
    """What there is to tell of an upload."""
    version, probed = content.version, None
    if with_image and callback.spec.template.needs_image and encryption.is_readable(ctx, version):
        length = min(version.size, _IMAGE_BYTES)
        probed = image.probe(b"".join(content.read(ctx.store, 0, length, customer=ctx.customer_key)))
    return Event(
        bucket=ctx.bucket.name,
        key=version.key,
        etag=version.etag,
        size=version.size,
        mime_type=version.head.headers.get("content-type", upload_headers.DEFAULT_CONTENT_TYPE),
        content_md5=base64.b64encode(bytes.fromhex(content_md5)).decode(),
        operation=operation,
        client_ip=ctx.client_ip,
        request_id=ctx.request_id,
        version_id=version.version_id if ctx.bucket.versioning else "",
        event_time=rfc3339(version.modified_ms / 1000),
        callback_id=callback_id,
        image=probed,
    )


def public_url(ctx: Context) -> str:
    """Where applications reach this server: as configured, else as the uploader did."""
    configured = ctx.settings.callback.public_url
    if configured:
        return configured.rstrip("/")
    return f"{ctx.head.origin}{ctx.head.mount_prefix}"
