"""Multipart uploads: Create, UploadPart, UploadPartCopy, Complete, Abort, ListParts, ListMultipartUploads."""

from __future__ import annotations

from s3lite.callback import spec as callback_spec
from s3lite.callback.send import Outcome
from s3lite.callback.spec import RawCallback
from s3lite.context import Context
from s3lite.core import listing, multipart, quota, sealing, write
from s3lite.core.sealing import PartEnvelope
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import NULL_VERSION, AccessKey, Completion, ObjectVersion, Part, Stored, Upload
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
    upload_headers,
)
from s3lite.ops.listing import encoding_type, owners_of
from s3lite.responses import Headers, Response, empty, xml
from s3lite.wire import checksums, conditions, listings, ranges, results
from s3lite.wire.checksums import ChecksumRequest
from s3lite.wire.encryption import CustomerKey
from s3lite.wire.requests import parse_complete


def create_multipart_upload(ctx: Context) -> Response:
    """CreateMultipartUpload: open an upload; a callback given here is used by its Complete.

    Source: API Reference, CreateMultipartUpload. Checked against AWS: never.
    Errors: KeyTooLongError, MetadataTooLarge, InvalidRequest (checksum type; too many open uploads),
    KMS.NotFoundException, and the callback's.
    """
    check_key(ctx.key)
    upload_headers.refuse_not_offered(ctx.headers)
    algorithm = ctx.headers.get("x-amz-checksum-algorithm", "").upper()
    checksum_type = ctx.headers.get("x-amz-checksum-type", "").upper()
    if algorithm:
        checksums.check_algorithm(algorithm)
        checksum_type = checksum_type or checksums.default_type(algorithm)
        checksums.check_type(algorithm, checksum_type)
    elif checksum_type:
        raise S3Error(
            Code.InvalidRequest,
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
        )
    raw = callback_spec.from_request(ctx.head, ctx.caller)
    if raw is not None:
        finish.prepare(ctx, raw, "CompleteMultipartUpload")
    head = upload_headers.object_head(ctx, ctx.headers)
    owner_id, acl = upload_headers.owner_and_acl(ctx, ctx.headers)
    lock = upload_headers.object_lock(ctx, ctx.headers)
    envelope = sealing.prepare(ctx.store, encryption.wanted(ctx, ctx.headers))
    sealed = envelope.for_upload() if envelope else None
    quota.check_object(ctx.store, ctx.bucket, ctx.key)
    multipart.check_open(ctx.store, ctx.bucket)
    upload_id = ctx.store.ids.upload()
    now_ms = ctx.store.clock.time_ms()
    upload = write.commit(
        ctx.store,
        lambda tx: tx.create_upload(
            upload_id=upload_id,
            bucket_id=write.live_bucket(tx, ctx.bucket).id,
            key=ctx.key,
            owner_id=owner_id,
            initiator_id=upload_headers.writer_id(ctx),
            initiated_ms=now_ms,
            head=head,
            acl=acl,
            checksum_algorithm=algorithm,
            checksum_type=checksum_type,
            callback=raw.callback if raw else "",
            callback_var=raw.callback_var if raw else "",
            callback_access_key=ctx.caller.key.access_key if raw and ctx.caller.key else "",
            lock=lock,
            encryption=sealed,
        ),
    )
    headers = lifecycle.abort_headers(ctx, upload) + encryption.headers_of(sealed, context=True)
    if algorithm:
        headers += [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", checksum_type)]
    document = results.initiate_multipart_upload(bucket=ctx.bucket.name, key=ctx.key, upload_id=upload_id)
    return xml(document, headers=headers)


def upload_part(ctx: Context) -> Response:
    """UploadPart: store one part of an open upload; a repeated number replaces the earlier part.

    Source: API Reference, UploadPart. Checked against AWS: never.
    Errors: NoSuchUpload, InvalidArgument (number outside 1..10000), EntityTooLarge, BadDigest,
    InvalidRequest (a checksum of another algorithm than the upload's; SSE-C without its key, or with another).
    """
    number = _part_number(ctx)
    upload = _open_upload(ctx)
    request = _part_checksum_request(upload, checksums.parse_checksum_headers(ctx.headers))
    customer = encryption.check_part(ctx, upload.encryption)
    envelope = sealing.prepare_part(ctx.store, upload, customer)
    size = ctx.payload_length()
    body = ctx.body(max_bytes=ctx.settings.limits.put_bytes)
    source = quota.guarded_part(ctx.store, ctx.bucket, upload.row, number, body, size=size)
    stored, digests = object_write.take(
        ctx, source, size=size, request=request, key=envelope.key if envelope else None
    )
    algorithm = upload.checksum_algorithm or request.trailer or request.algorithm
    value = digests.value(algorithm) if algorithm else ""
    kept = value if upload.checksum_algorithm else ""
    part = _part(ctx, number, stored, digests.etag, kept, envelope)
    multipart.put_part(ctx.store, ctx.bucket, upload, part, stored)
    headers: Headers = [("ETag", f'"{part.etag}"'), *_encryption_headers(upload, customer)]
    if value:
        headers.append((checksums.header_name(algorithm), value))
    return empty(200, headers)


def _encryption_headers(upload: Upload, customer: CustomerKey | None) -> Headers:
    return encryption.headers_of(upload.encryption, customer.md5 if customer else "")


def _part(
    ctx: Context, number: int, stored: Stored, etag: str, checksum: str, envelope: PartEnvelope | None
) -> Part:
    sealed_key = envelope.sealed(number, stored.size, stored.id) if envelope else ""
    return Part(number, stored.size, etag, ctx.store.clock.time_ms(), stored.id, checksum, sealed_key)


def _part_number(ctx: Context) -> int:
    if "partNumber" not in ctx.params:
        raise invalid_argument("partNumber", "", "This operation needs a partNumber in the query.")
    return upload_headers.integer_param(ctx, "partNumber", low=1, high=ctx.settings.limits.parts)


def _open_upload(ctx: Context) -> Upload:
    return multipart.find_upload(ctx.store, ctx.bucket, ctx.key, ctx.params["uploadId"])


def _part_checksum_request(upload: Upload, request: ChecksumRequest) -> ChecksumRequest:
    """A part's checksum must be of the upload's algorithm; it is computed when the client sends none."""
    given = request.trailer or (request.algorithm if request.value is not None else "")
    wanted = upload.checksum_algorithm
    if wanted and given and given != wanted:
        raise S3Error(
            Code.InvalidRequest,
            f"Checksum Type mismatch occurred, expected checksum Type: {wanted.lower()}, "
            f"actual checksum Type: {given.lower()}",
        )
    return request if given or not wanted else checksums.with_algorithm(request, wanted)


def upload_part_copy(ctx: Context) -> Response:
    """UploadPartCopy: a part out of another object; by reference when it is a whole blob.

    Source: API Reference, UploadPartCopy. Checked against AWS: never.
    Errors: NoSuchUpload, NoSuchKey, InvalidArgument and InvalidRange (x-amz-copy-source-range),
    PreconditionFailed, EntityTooLarge, InvalidRequest (SSE-C without its key, or with another).
    """
    number = _part_number(ctx)
    upload = _open_upload(ctx)
    customer = encryption.check_part(ctx, upload.encryption)
    for attempt in range(1, object_write.COPY_ATTEMPTS + 1):
        source_bucket, source = object_write.copy_source(ctx)
        conditions.copy_source_decision(ctx.headers, etag=source.etag, modified_ms=source.modified_ms)
        try:
            part = _copied_part(ctx, upload, number, source, customer)
            break
        except S3Error as error:
            if error.code is not Code.OperationAborted or attempt == object_write.COPY_ATTEMPTS:
                raise
    headers = _encryption_headers(upload, customer)
    if source_bucket.versioning:
        headers.append(("x-amz-copy-source-version-id", source.version_id))
    document = results.copy_part_result(
        etag=part.etag,
        modified_ms=part.modified_ms,
        algorithm=upload.checksum_algorithm,
        checksum=part.checksum,
    )
    return xml(document, headers=headers)


def _copied_part(
    ctx: Context, upload: Upload, number: int, source: ObjectVersion, customer: CustomerKey | None
) -> Part:
    """Store a part out of ``source``. Raises OperationAborted when that went before it could be referred to."""
    source_key = encryption.copy_source_key(ctx, source)
    wanted = ctx.headers.get("x-amz-copy-source-range")
    offset, length = ranges.parse_copy_range(wanted, source.size) if wanted else (0, source.size)
    limit = ctx.settings.limits.put_bytes
    if length > limit:
        raise S3Error(Code.EntityTooLarge, ProposedSize=str(length), MaxSizeAllowed=str(limit))
    if length == source.size and _is_a_part(source, upload):
        return _share_blob(ctx, upload, number, source)
    algorithm = upload.checksum_algorithm
    envelope = sealing.prepare_part(ctx.store, upload, customer)
    stored, digests = object_write.copy_bytes(
        ctx,
        source,
        source_key,
        offset,
        length,
        algorithm=algorithm,
        key=envelope.key if envelope else None,
    )
    value = digests.value(algorithm) if algorithm else ""
    part = _part(ctx, number, stored, digests.etag, value, envelope)
    multipart.put_part(ctx.store, ctx.bucket, upload, part, stored)
    return part


def _share_blob(ctx: Context, upload: Upload, number: int, source: ObjectVersion) -> Part:
    """A part that is the one blob of another object."""
    value = source.checksum.value if upload.checksum_algorithm and source.checksum else ""
    sealed_key = ""
    if source.encryption is not None:
        key = sealing.key_of_version(ctx.store, source, None)
        envelope = sealing.prepare_part(ctx.store, upload, None, key=key)
        assert envelope is not None
        sealed_key = envelope.sealed(number, source.size, source.blob)
    now_ms = ctx.store.clock.time_ms()
    part = Part(number, source.size, source.etag, now_ms, source.blob, value, sealed_key)
    multipart.put_part(ctx.store, ctx.bucket, upload, part, None, copied=True)
    return part


def _is_a_part(source: ObjectVersion, upload: Upload) -> bool:
    """Whether the source is one blob, and its checksum and its encryption serve a part of the upload."""
    algorithm = upload.checksum_algorithm
    if source.part_count or "-" in source.etag:
        return False
    if not sealing.shares_bytes(source.encryption, upload.encryption):
        return False
    return not algorithm or (
        source.checksum is not None
        and source.checksum.algorithm == algorithm
        and source.checksum.type == "FULL_OBJECT"
    )


# ---------------------------------------------------------------- the end of an upload


def complete_multipart_upload(ctx: Context) -> Response:
    """CompleteMultipartUpload: the named parts become the object; no byte is moved.

    Source: API Reference, CompleteMultipartUpload. Checked against AWS: never.
    Errors: NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall, BadDigest, PreconditionFailed,
    MalformedXML, InvalidRequest (SSE-C with another key, or without one where the upload has a checksum
    algorithm), and the callback's. A repeat within 24 hours gets the first answer again.
    """
    upload_id = ctx.params["uploadId"]
    raw, requester = callback_spec.from_request(ctx.head, ctx.caller), None
    if raw is None:
        raw, requester = _kept_callback(ctx, upload_id)
    callback = finish.prepare(ctx, raw, "CompleteMultipartUpload", requester=requester)
    when = conditions.parse_write_conditions(ctx.headers)
    customer = ctx.customer_key = encryption.customer_key(ctx, ctx.headers)
    parts = parse_complete(ctx.document(has_checksum=False), max_parts=ctx.settings.limits.parts)
    wish = multipart.Wish(
        key=ctx.key,
        upload_id=upload_id,
        parts=parts,
        conditions=when,
        expected=checksums.values_in_headers(ctx.headers),
        expected_type=ctx.headers.get("x-amz-checksum-type", "").upper(),
        object_size=_object_size(ctx),
        customer=customer,
    )
    outcome = owed = None
    if callback is not None and callback.spec.is_gate:
        done, callback, outcome = gate.complete(
            ctx, callback, wish, tell=events.telling(ctx, "CompleteMultipartUpload")
        )
    else:
        record = _record(ctx, callback)
        owed = durable.owed(
            ctx, "CompleteMultipartUpload", callback, callback_id=record.callback_id if record else ""
        )
        tell = events.telling(ctx, "CompleteMultipartUpload", owed)
        done = multipart.complete(ctx.store, ctx.bucket, wish, record, tell=tell)
    document = results.complete_multipart_upload(
        bucket=ctx.bucket.name,
        key=ctx.key,
        etag=done.completion.etag,
        location=object_read.location(ctx),
        checksum=done.completion.checksum,
    )
    headers: Headers = []
    if done.completion.version_id != NULL_VERSION:
        headers.append(("x-amz-version-id", done.completion.version_id))
    if done.version is not None:
        headers += lifecycle.expiration_headers(ctx, done.version)
        headers += encryption.read_headers(ctx, done.version)
    return _report(ctx, done, callback, outcome, xml(document, headers=headers), owed)


def _object_size(ctx: Context) -> int | None:
    text = ctx.headers.get("x-amz-mp-object-size")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise invalid_argument("x-amz-mp-object-size", text, "x-amz-mp-object-size must be a whole number.")
    return int(text)


def _record(ctx: Context, callback: finish.Prepared | None) -> multipart.KeptCallback | None:
    if callback is None:
        return None
    return multipart.KeptCallback(
        ctx.store.ids.message(),
        callback.raw.callback,
        callback.raw.callback_var,
        callback.requester.access_key,
        "queued" if callback.spec.is_durable else "pending",
    )


def _kept_callback(ctx: Context, upload_id: str) -> tuple[RawCallback | None, AccessKey | None]:
    """The callback given at CreateMultipartUpload, or with the Complete that this one repeats; and by whom."""
    with ctx.store.catalog.read() as tx:
        kept = tx.upload(ctx.bucket.id, ctx.key, upload_id) or tx.completion(
            ctx.bucket.id, ctx.key, upload_id
        )
        if kept is None or not kept.callback:
            return None, None
        requester = tx.access_key(kept.callback_access_key)
    if requester is None:
        raise S3Error(Code.AccessDenied, "The access key that asked for this upload's callback is gone.")
    return RawCallback("kept", kept.callback, kept.callback_var), requester


def _report(
    ctx: Context,
    done: multipart.Completed,
    callback: finish.Prepared | None,
    outcome: Outcome | None,
    answer: Response,
    owed: durable.Owed | None,
) -> Response:
    """Send the callback, or, for a repeat whose callback has succeeded, answer as it did.

    ``outcome`` is that of a gate, which has been asked.
    """
    completion = done.completion
    if done.version is None or (done.is_repeat and not completion.callback_id):
        return answer
    extra: Headers = [("Location", object_read.location(ctx))]
    if done.is_repeat and callback is not None and completion.callback_state == "ok":
        outcome = Outcome(
            ok=True,
            callback_id=completion.callback_id,
            status=200,
            body=completion.callback_reply,
            content_type=completion.callback_reply_type,
            message="",
        )
        if callback.spec.is_gate:
            callback = gate.answered_as(callback, outcome)
        return finish.answer_for(ctx, done.version, callback, outcome, answer, extra)
    if done.is_repeat and callback is not None and completion.callback_state == "queued":
        return durable.repeated(ctx, done.version, callback, completion.callback_id, answer, extra)
    return finish.finish(
        ctx,
        "CompleteMultipartUpload",
        done.version,
        callback,
        answer,
        outcome=outcome,
        callback_id=completion.callback_id,
        on_outcome=lambda outcome: _remember(ctx, completion, outcome),
        extra=extra,
        owed=None if done.is_repeat else owed,
    )


def _remember(ctx: Context, completion: Completion, outcome: Outcome) -> None:
    write.commit(
        ctx.store,
        lambda tx: tx.set_completion_callback(
            completion.upload_id,
            state="ok" if outcome.ok else "failed",
            reply=outcome.body,
            reply_type=outcome.content_type,
        ),
    )


def abort_multipart_upload(ctx: Context) -> Response:
    """AbortMultipartUpload: drop an open upload and its parts. A completed one is gone already: 404.

    Source: API Reference, AbortMultipartUpload. Checked against AWS: never.
    Errors: NoSuchUpload.
    """
    multipart.abort(ctx.store, ctx.bucket, ctx.key, ctx.params["uploadId"])
    return empty(204)


# ---------------------------------------------------------------- listings


def list_parts(ctx: Context) -> Response:
    """ListParts: the parts of an open upload, by number, in pages.

    Source: API Reference, ListParts. Checked against AWS: never.
    Errors: NoSuchUpload, InvalidArgument.
    """
    upload = _open_upload(ctx)
    limit = ctx.settings.limits.list_keys
    max_parts = min(
        upload_headers.integer_param(ctx, "max-parts", low=0, high=2**31 - 1, default=limit), limit
    )
    marker = upload_headers.integer_param(ctx, "part-number-marker", low=0, high=2**31 - 1, default=0)
    with ctx.store.catalog.read() as tx:
        parts = tx.parts(upload.row, after=marker, limit=max_parts + 1)
        accounts = owners_of(tx, {upload.owner_id, upload.initiator_id})
    page = listings.PartsPage(
        bucket=ctx.bucket.name,
        key=ctx.key,
        upload=upload,
        marker=marker,
        max_parts=max_parts,
        is_truncated=len(parts) > max_parts,
        parts=parts[:max_parts],
        encoding_type=encoding_type(ctx),
        owner=accounts[upload.owner_id],
        initiator=accounts[upload.initiator_id],
    )
    return xml(listings.list_parts(page), headers=lifecycle.abort_headers(ctx, upload))


def list_multipart_uploads(ctx: Context) -> Response:
    """ListMultipartUploads: open uploads by key, then age, in pages.

    Source: API Reference, ListMultipartUploads. Checked against AWS: never.
    Errors: InvalidArgument.
    """
    params = ctx.params
    limit = ctx.settings.limits.list_keys
    max_uploads = min(
        upload_headers.integer_param(ctx, "max-uploads", low=0, high=2**31 - 1, default=limit), limit
    )
    with ctx.store.catalog.read() as tx:
        found = listing.list_uploads(
            tx,
            ctx.bucket.id,
            prefix=params.get("prefix", ""),
            delimiter=params.get("delimiter", ""),
            key_marker=params.get("key-marker", ""),
            upload_id_marker=params.get("upload-id-marker", ""),
            limit=max_uploads,
        )
        names = {upload.owner_id for upload in found.entries} | {
            upload.initiator_id for upload in found.entries
        }
        accounts = owners_of(tx, names)
    page = listings.UploadsPage(
        bucket=ctx.bucket.name,
        prefix=params.get("prefix", ""),
        delimiter=params.get("delimiter", ""),
        key_marker=params.get("key-marker", ""),
        upload_id_marker=params.get("upload-id-marker", ""),
        next_key_marker=found.next_marker,
        next_upload_id_marker=found.last_row.upload_id if found.last_row and found.is_truncated else "",
        max_uploads=max_uploads,
        is_truncated=found.is_truncated,
        encoding_type=encoding_type(ctx),
        uploads=found.entries,
        common_prefixes=found.common_prefixes,
        owners=accounts,
    )
    return xml(listings.list_uploads(page))
