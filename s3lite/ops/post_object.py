"""PostObject: uploads from browser forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, urlsplit

from s3lite import oss
from s3lite.auth import oss as oss_signatures
from s3lite.auth.facts import About
from s3lite.auth.post_policy import PostPolicy
from s3lite.callback import spec as callback_spec
from s3lite.context import Context
from s3lite.core import quota, sealing, write
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import ObjectHead, ObjectVersion
from s3lite.names import check_key
from s3lite.ops import (
    durable,
    encryption,
    events,
    finish,
    gate,
    lifecycle,
    object_read,
    object_write,
    request_payment,
    upload_headers,
)
from s3lite.responses import Headers, Response, empty, xml
from s3lite.wire import checksums, conditions, results
from s3lite.wire.body import Source
from s3lite.wire.form import FormReader
from s3lite.wire.requests import parse_tagging


def post_object(ctx: Context) -> Response:
    """PostObject: store the file part of a multipart/form-data body under the policy's rules.

    Source: API Reference, "POST Object" and "Creating an HTML form". Checked against AWS: never.
    Errors: MalformedPOSTRequest, InvalidArgument, AccessDenied (the failing condition is named),
    EntityTooSmall, EntityTooLarge, InvalidPolicyDocument, SignatureDoesNotMatch, and the callback's.
    Differs: fields after the file are ignored, as in S3, whatever their name.
    """
    callback_spec.refuse(ctx.head)
    limits = ctx.settings.limits
    ceiling = limits.put_bytes + limits.form_fields_bytes + (1 << 20)
    reader = FormReader(
        ctx.body(max_bytes=ceiling),
        ctx.headers.get("content-type", ""),
        content_length=ctx.content_length(),
        limits=limits,
    )
    sent = reader.fields()
    fields = {name.lower(): value for name, value in sent.items()}
    if "key" not in fields:
        raise invalid_argument(
            "key",
            "",
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
        )
    fields["key"] = fields["key"].replace("${filename}", reader.filename)
    key = fields["key"]
    if not key:
        raise invalid_argument("key", "", "User key must have a length greater than 0.")
    check_key(key)
    ctx.head = replace(ctx.head, target=replace(ctx.target, key=key))

    is_oss = oss_signatures.is_form(fields)
    signatures = ctx.services.oss_authenticator if is_oss else ctx.services.authenticator
    ctx.caller, policy = signatures.form(fields)
    ctx.admit()
    if policy is not None:
        _check_policy(ctx, fields, policy, is_oss=is_oss)
    if is_oss:
        fields = oss.translate_fields(fields)
    ctx.require(ctx.route.permission, about=About(fields=_as_headers(fields), tags=_tags(fields)))
    request_payment.check(ctx, ctx.bucket, fields)
    ctx.check_upload()
    raw = callback_spec.from_form(
        sent,
        covers=policy.covers if policy is not None else None,
        unlisted=ctx.settings.callback.form_unlisted,
    )
    callback = finish.prepare(ctx, raw, "PostObject")
    gate.require_open(ctx, callback)
    done, md5, owed = _store(ctx, reader, fields, policy, callback)
    return finish.finish(
        ctx,
        "PostObject",
        done.version,
        done.callback,
        _answer(ctx, done.version, fields),
        outcome=done.outcome,
        content_md5=md5,
        extra=[("Location", object_read.location(ctx))],
        owed=owed,
    )


def _check_policy(ctx: Context, fields: Mapping[str, str], policy: PostPolicy, *, is_oss: bool) -> None:
    """Hold the fields against the policy's conditions. Nothing of the file has been read."""
    accept = ctx.settings.callback.form_unlisted == "accept"

    def unlisted_ok(name: str) -> bool:
        if name == "callback" or name.startswith("x:"):
            return accept
        return is_oss and oss.may_be_unlisted(name)

    policy.check(fields, bucket=ctx.bucket.name, unlisted_ok=unlisted_ok)


def _store(
    ctx: Context,
    reader: FormReader,
    fields: Mapping[str, str],
    policy: PostPolicy | None,
    callback: finish.Prepared | None,
) -> tuple[gate.Published, str, durable.Owed | None]:
    headers = _as_headers(fields)
    upload_headers.refuse_not_offered(headers)
    head = _object_head(ctx, headers, reader.file_content_type)
    owner_id, acl = upload_headers.owner_and_acl(ctx, headers)
    lock = upload_headers.object_lock(ctx, headers)
    envelope = sealing.prepare(ctx.store, encryption.wanted(ctx, headers))
    request = checksums.parse_checksum_headers(headers)
    low, high = (policy.content_length_range if policy else None) or (0, ctx.settings.limits.put_bytes)
    high = min(high, ctx.settings.limits.put_bytes)
    stored, digests = object_write.take(
        ctx,
        quota.guarded(ctx.store, ctx.bucket, ctx.key, _Bounded(reader, high), size=None),
        size=None,
        request=request,
        limits=(low, high),
        key=envelope.key if envelope else None,
        sha256=finish.is_gate(callback),
    )
    new = write.NewVersion(
        key=ctx.key,
        owner_id=owner_id,
        head=head,
        acl=acl,
        size=stored.size,
        etag=digests.etag,
        checksum=object_write.stored_checksum(request, digests),
        stored=stored,
        lock=lock,
        encryption=envelope.for_object(stored) if envelope else None,
    )
    when = conditions.parse_write_conditions(headers)
    owed = durable.owed(ctx, "PostObject", callback, content_md5=digests.etag)
    done = gate.publish(
        ctx,
        "PostObject",
        callback,
        new,
        when,
        content=digests.sha256_hex if finish.is_gate(callback) else "",
        content_md5=digests.etag,
        tell=events.telling(ctx, "Post", owed),
    )
    return done, digests.etag, owed


def _object_head(ctx: Context, headers: Mapping[str, str], file_type: str | None) -> ObjectHead:
    """Fields as upload headers; the file part's own Content-Type serves when no field gives one."""
    merged = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    merged.pop("x-amz-tagging", None)
    if not merged.get("content-type") and file_type:
        merged["content-type"] = file_type
    head = upload_headers.object_head(ctx, merged)
    tags = _tags(headers)
    upload_headers.check_tags(ctx, headers, tags)
    return replace(head, tags=tags)


def _as_headers(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields under the names that the same things have as headers of PutObject."""
    headers = dict(fields)
    headers.pop("content-length", None)
    if fields.get("acl"):
        headers["x-amz-acl"] = fields["acl"]
    return headers


def _tags(fields: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    tagging = fields.get("tagging", "")
    return parse_tagging(tagging.encode(), max_tags=10) if tagging else ()


class _Bounded:
    """Ends an upload as soon as it exceeds what the policy allows, instead of storing it first."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._left = limit
        self._limit = limit

    def read(self, size: int) -> bytes:
        piece = self._source.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise S3Error(
                Code.EntityTooLarge,
                f"Your proposed upload exceeds the maximum allowed size of {self._limit} bytes.",
                MaxSizeAllowed=str(self._limit),
            )
        return piece


def _answer(ctx: Context, version: ObjectVersion, fields: Mapping[str, str]) -> Response:
    """S3's usual answer: a redirect, or 204, 200 or 201 as success_action_status says."""
    headers: Headers = finish.version_headers(version) + lifecycle.expiration_headers(ctx, version)
    location = object_read.location(ctx)
    target = fields.get("success_action_redirect") or fields.get("redirect") or ""
    if target and urlsplit(target).scheme in ("http", "https") and target.isprintable():
        query = f"bucket={quote(ctx.bucket.name, safe='')}&key={quote(version.key, safe='')}&etag=%22{version.etag}%22"
        joined = target + ("&" if urlsplit(target).query else "?") + query
        return empty(303, [*headers, ("Location", quote(joined, safe="%/:?#[]@!$&'()*+,;=-_.~"))])
    headers.append(("Location", location))
    status = fields.get("success_action_status", "")
    if status == "201":
        document = results.post_response(
            location=location, bucket=ctx.bucket.name, key=version.key, etag=version.etag
        )
        return xml(document, status=201, headers=headers)
    return empty(200 if status == "200" else 204, headers)
