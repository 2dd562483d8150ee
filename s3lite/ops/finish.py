"""The shared end of every upload: commit is done, so report to the application, then answer.

Source: docs/callbacks.md. The object is readable before the callback is sent, no lock is held while
it runs, and its failure never undoes the upload.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from s3lite import waiting
from s3lite.callback import image, policies
from s3lite.callback.render import Event
from s3lite.callback.send import Outcome
from s3lite.callback.spec import NO_POLICY, Asked, CallbackSpec, RawCallback, build, decode
from s3lite.context import Context
from s3lite.core.pending import Content
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import NULL_VERSION, AccessKey, Account, ObjectVersion
from s3lite.ops import callback_policy, encryption, upload_headers
from s3lite.responses import Headers, Response
from s3lite.times import rfc3339
from s3lite.wire import checksums

if TYPE_CHECKING:
    from s3lite.ops.durable import Owed

_IMAGE_BYTES = 256 << 10
_MAX_REPLY_HEADER = 4096
_NO_TEXT = RawCallback("policy", "")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A callback that has passed every check which is possible before the body is read."""

    raw: RawCallback  # without text where a policy applies that the request does not name
    spec: CallbackSpec
    requester: AccessKey
    reply: str  # passthrough | standard


def prepare(
    ctx: Context, raw: RawCallback | None, operation: str, *, requester: AccessKey | None = None
) -> Prepared | None:
    """The callback of an upload: its request's own, one that it names, or the bucket's; None when it has none.

    Parsed and checked. Raises InvalidArgument and AccessDenied as docs/callbacks.md lists them.
    """
    configured = callback_policy.of_bucket(ctx)
    forced = configured.applied(ctx.key, operation, "always")
    if raw is None:
        policy = forced or configured.applied(ctx.key, operation, "default")
        return _by_policy(ctx, _NO_TEXT, policy.spec) if policy is not None else None
    asked = decode(raw)
    key = requester or ctx.caller.key
    assert key is not None  # `callback.spec` refuses anonymous carriers
    _require_right(policies.stricter(key.callback, configured.right), asked)
    if asked.policy:
        policy = configured.named(asked.policy)
        if policy is None or not policy.covers(ctx.key, operation):
            why = NO_POLICY if policy is None else f"This callbackPolicy is not for {operation} of this key."
            raise invalid_argument("callbackPolicy", asked.policy, why)
    if forced is not None and forced.name != asked.policy:
        raise S3Error(
            Code.AccessDenied,
            f"Uploads here report to the callback policy {forced.name}. Send no other callback.",
        )
    if asked.policy and policy is not None:
        return _by_policy(ctx, raw, policy.with_variables(asked.variables))
    spec = build(asked.document, asked.variables)
    ctx.services.callbacks.check(spec)
    is_standard = raw.place == "kept" or spec.mode == "async"
    default = "standard" if is_standard else ctx.settings.callback.default_reply
    return _prepared(raw, spec, key, spec.reply or default)


def _require_right(right: str, asked: Asked) -> None:
    if right == "inline" or (right == "policy-only" and asked.policy):
        return
    instead = " Name one of the bucket's policies." if right == "policy-only" else ""
    raise S3Error(
        Code.AccessDenied,
        f"Requests with this access key to this bucket may not bring a callback of their own.{instead}",
    )


def _by_policy(ctx: Context, raw: RawCallback, spec: CallbackSpec) -> Prepared:
    """Signed with the bucket's secrets: its application need not know those of all who may upload."""
    uploader = ctx.caller.key.access_key if ctx.caller.key else ""
    requester = AccessKey(uploader, "", Account(ctx.bucket.owner_id, ctx.bucket.owner_id))
    return _prepared(raw, replace(spec, policy_bucket=ctx.bucket.id), requester, spec.reply or "standard")


def _prepared(raw: RawCallback, spec: CallbackSpec, requester: AccessKey, reply: str) -> Prepared:
    """A callback that will be waited for is announced here: its upload then commits with nobody behind it."""
    if spec.mode != "async":
        waiting.ahead()
    return Prepared(raw, spec, requester, reply)


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
    return report(
        ctx,
        operation,
        version,
        callback,
        answer,
        outcome=outcome,
        content_md5=content_md5,
        callback_id=callback_id,
        on_outcome=on_outcome,
        extra=extra,
        owed=owed,
    )


def report(
    ctx: Context,
    operation: str,
    version: ObjectVersion,
    callback: Prepared,
    answer: Response,
    *,
    outcome: Outcome | None = None,
    content_md5: str = "",
    callback_id: str = "",
    on_outcome: Callable[[Outcome], None] | None = None,
    extra: Headers | None = None,
    owed: Owed | None = None,
) -> Response:
    """`finish` for what is no upload (CopyObject): without its event."""
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
    if with_image and callback.spec.template.needs_image and _is_readable(ctx, content):
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
        crc64=version.head.crc64ecma,
        image=probed,
    )


def _is_readable(ctx: Context, content: Content) -> bool:
    """Whether this request can read the bytes; of a copy it would need the key of another object."""
    if content.source is not None:
        return not encryption.needs_customer_key(content.source)
    return encryption.is_readable(ctx, content.version)


def public_url(ctx: Context) -> str:
    """Where applications reach this server: as configured, else as the uploader did."""
    configured = ctx.settings.callback.public_url
    if configured:
        return configured.rstrip("/")
    return f"{ctx.head.origin}{ctx.head.mount_prefix}"
