"""PutObject and CopyObject."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace

from s3lite.auth.actions import versioned
from s3lite.auth.facts import About, source_path
from s3lite.callback import spec as callback_spec
from s3lite.context import Beside, Context, algorithms_of
from s3lite.core import access_log, quota, read, sealing, write
from s3lite.core.object_annotation import refuse_customer_key
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import Bucket, Checksum, ObjectVersion, Stored
from s3lite.names import check_key
from s3lite.ops import (
    durable,
    encryption,
    events,
    finish,
    gate,
    lifecycle,
    object_annotation,
    object_read,
    request_payment,
    upload_headers,
)
from s3lite.responses import Response, empty, xml
from s3lite.wire import checksums, conditions, results
from s3lite.wire.access_log import COPIED, COPIED_PART
from s3lite.wire.body import Source
from s3lite.wire.checksums import CRC64ECMA, ChecksumRequest, Digests
from s3lite.wire.encryption import CUSTOMER_HEADER, MODE_HEADER, CustomerKey

_ASKED_CHECKSUM = "x-amz-checksum-algorithm"


def put_object(ctx: Context) -> Response:
    """PutObject: store an object from the body of the request.

    Source: API Reference, PutObject. Checked against AWS: never.
    Errors: MissingContentLength, EntityTooLarge, IncompleteBody, BadDigest, InvalidDigest,
    XAmzContentSHA256Mismatch, PreconditionFailed, KeyTooLongError, MetadataTooLarge, KMS.NotFoundException,
    InvalidEncryptionAlgorithmError and the callback's.
    Differs: storage classes are names only.
    """
    check_key(ctx.key)
    upload_headers.refuse_not_offered(ctx.headers)
    head = upload_headers.object_head(ctx, ctx.headers)
    owner_id, acl = upload_headers.owner_and_acl(ctx, ctx.headers)
    lock = upload_headers.object_lock(ctx, ctx.headers)
    envelope = sealing.prepare(ctx.store, encryption.wanted(ctx, ctx.headers))
    when = conditions.parse_write_conditions(ctx.headers)
    check_conditions(ctx, when)
    request = checksums.parse_checksum_headers(ctx.headers)
    callback = finish.prepare(ctx, callback_spec.from_request(ctx.head, ctx.caller), "PutObject")
    gate.require_open(ctx, callback)
    size = ctx.payload_length()
    body = ctx.body(max_bytes=ctx.settings.limits.put_bytes)
    source = quota.guarded(ctx.store, ctx.bucket, ctx.key, body, size=size)

    stored, digests = take(
        ctx,
        source,
        size=size,
        request=request,
        key=envelope.key if envelope else None,
        sha256=finish.is_gate(callback),
        also={CRC64ECMA} if ctx.speaks_oss else frozenset(),
    )
    if ctx.speaks_oss:
        head = replace(head, crc64ecma=checksums.joined_crc64ecma("", digests, stored.size))
    new = write.NewVersion(
        key=ctx.key,
        owner_id=owner_id,
        head=head,
        acl=acl,
        size=stored.size,
        etag=digests.etag,
        checksum=stored_checksum(request, digests),
        stored=stored,
        lock=lock,
        encryption=envelope.for_object(stored) if envelope else None,
    )
    owed = durable.owed(ctx, "PutObject", callback, content_md5=digests.etag)
    done = gate.publish(
        ctx,
        "PutObject",
        callback,
        new,
        when,
        content=digests.sha256_hex if finish.is_gate(callback) else "",
        content_md5=digests.etag,
        tell=events.telling(ctx, "Put", owed),
    )
    version = done.version
    headers = finish.version_headers(version) + object_read.oss_headers(ctx, version)
    answer = empty(200, headers + lifecycle.expiration_headers(ctx, version))
    return finish.finish(
        ctx,
        "PutObject",
        version,
        done.callback,
        answer,
        outcome=done.outcome,
        content_md5=digests.etag,
        owed=owed,
    )


def take(
    ctx: Context,
    source: Source,
    *,
    size: int | None,
    request: ChecksumRequest,
    limits: tuple[int, int] | None = None,
    key: bytes | None = None,
    sha256: bool = False,
    also: AbstractSet[str] = frozenset(),
) -> tuple[Stored, Digests]:
    """Receive a payload to durable storage with every hash checked; nothing is published yet.

    ``limits`` is a form policy's content-length-range; with a ``key`` the bytes are sealed; ``sha256`` asks for
    that digest, ``also`` for those of further algorithms.
    """
    algorithms = (algorithms_of(request) or {"CRC64NVME"}) | also
    digests = Digests(algorithms, sha256=sha256 or ctx.payload.kind == "sha256")

    def verify(received: int) -> None:
        ctx.received = received
        if limits is not None:
            _check_length_range(received, limits)
        ctx.verify(request, digests)

    stored = write.receive(ctx.store, source, size=size, digests=digests, verify=verify, key=key)
    return stored, digests


def _check_length_range(received: int, limits: tuple[int, int]) -> None:
    low, high = limits
    if received < low:
        raise S3Error(Code.EntityTooSmall, ProposedSize=str(received), MinSizeAllowed=str(low))
    if received > high:
        raise S3Error(Code.EntityTooLarge, ProposedSize=str(received), MaxSizeAllowed=str(high))


def stored_checksum(request: ChecksumRequest, digests: Digests) -> Checksum:
    """What is kept: the checksum that the client chose, else CRC64NVME as S3 does."""
    algorithm = request.trailer or request.algorithm or "CRC64NVME"
    return Checksum(algorithm, digests.value(algorithm))


def check_conditions(ctx: Context, when: conditions.WriteConditions) -> None:
    """Refuse early, before the body is asked for, what the commit would refuse."""
    if when:
        with ctx.store.catalog.read() as tx:
            when.check(tx.current_version(ctx.bucket.id, ctx.key))


# ---------------------------------------------------------------- copy


COPY_ATTEMPTS = 10
"""How often a copy looks for its source when that is replaced before the copy refers to it: cheap, as no bytes
are copied by those that fail, and three were not enough for eight clients that wrote the same few keys."""


def copy_object(ctx: Context) -> Response:
    """CopyObject: a new object with the bytes of another, by reference; no byte is moved.

    Bytes are read and written where they must be encrypted, decrypted, or brought under another customer's key,
    and read where x-amz-checksum-algorithm asks for a checksum that the source does not have.

    Source: API Reference, CopyObject. Checked against AWS: never.
    Errors: NoSuchKey, NoSuchBucket, InvalidRequest (onto itself unchanged; the source's customer key),
    EntityTooLarge (bytes to be read and written), KMS.NotFoundException, PreconditionFailed.
    Differs: the copy of a multipart object by reference keeps its ``-N`` ETag, where S3 makes a plain one.
    """
    check_key(ctx.key)
    upload_headers.refuse_not_offered(ctx.headers)
    callback_spec.refuse(ctx.head)
    when = conditions.parse_write_conditions(ctx.headers)
    metadata_directive = _directive(ctx, "x-amz-metadata-directive")
    wants_annotations = object_annotation.are_wanted(ctx)
    tagging_directive = _directive(ctx, "x-amz-tagging-directive")
    callback = _callback_of_copy(ctx)
    gate.require_open(ctx, callback)
    # What a gate has seen is copied, and nothing else.
    attempts = 1 if finish.is_gate(callback) else COPY_ATTEMPTS
    for attempt in range(1, attempts + 1):
        source_bucket, source = copy_source(ctx)
        _check_asked_checksum(ctx)
        conditions.copy_source_decision(ctx.headers, etag=source.etag, modified_ms=source.modified_ms)
        source_key = encryption.copy_source_key(ctx, source)
        new = _copied(ctx, source_bucket, source, metadata_directive, tagging_directive)
        if wants_annotations and source.annotations:
            object_annotation.check_copy(ctx, source_bucket, source, new)
            new = replace(new, annotations_of=source)
        try:
            new = _with_bytes(ctx, new, source, source_key)
            owed = durable.owed(ctx, "CopyObject", callback)
            tell = events.telling(ctx, "Copy", owed)
            what = f"copy of {source.row}"
            done = gate.publish(ctx, "CopyObject", callback, new, when, content=what, tell=tell)
            break
        except S3Error as error:
            if error.code is not Code.OperationAborted or attempt == attempts:
                raise
    version = done.version
    headers = finish.version_headers(version) + lifecycle.expiration_headers(ctx, version)
    if source_bucket.versioning:
        headers.append(("x-amz-copy-source-version-id", source.version_id))
    document = results.copy_object_result(
        etag=version.etag, modified_ms=version.modified_ms, checksum=version.checksum
    )
    answer = xml(document, headers=headers)
    if done.callback is None:
        return answer
    return finish.report(ctx, "CopyObject", version, done.callback, answer, outcome=done.outcome, owed=owed)


def _callback_of_copy(ctx: Context) -> finish.Prepared | None:
    """That of the bucket's policies, if one covers copies. Its answer never replaces the CopyObjectResult."""
    callback = finish.prepare(ctx, None, "CopyObject")
    return replace(callback, reply="standard") if callback is not None else None


def _directive(ctx: Context, name: str) -> str:
    value = ctx.headers.get(name, "COPY").upper()
    if value not in ("COPY", "REPLACE"):
        raise invalid_argument(name, value, f"Unknown {name}: use COPY or REPLACE.")
    return value


def _copied(
    ctx: Context,
    source_bucket: Bucket,
    source: ObjectVersion,
    metadata_directive: str,
    tagging_directive: str,
) -> write.NewVersion:
    """The version that a copy makes."""
    head = source.head
    if metadata_directive == "REPLACE":
        head = replace(upload_headers.object_head(ctx, ctx.headers), tags=source.head.tags)
    elif "x-amz-storage-class" in ctx.headers:
        head = replace(head, storage_class=upload_headers.storage_class(ctx.headers))
    if tagging_directive == "REPLACE":
        head = replace(head, tags=upload_headers.object_head(ctx, ctx.headers).tags)
    onto_itself = (
        source_bucket.id == ctx.bucket.id
        and source.key == ctx.key
        and source.is_latest
        and "versionId" not in ctx.headers["x-amz-copy-source"]
    )
    is_unchanged = metadata_directive == "COPY" and head == source.head and MODE_HEADER not in ctx.headers
    if onto_itself and is_unchanged and not ctx.bucket.versioning and CUSTOMER_HEADER not in ctx.headers:
        raise S3Error(
            Code.InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing "
            "the object's metadata, storage class, website redirect location or encryption attributes.",
        )
    owner_id, acl = upload_headers.owner_and_acl(ctx, ctx.headers)
    return write.NewVersion(
        key=ctx.key,
        owner_id=owner_id,
        head=head,
        acl=acl,
        size=source.size,
        etag=source.etag,
        checksum=source.checksum,
        lock=upload_headers.object_lock(ctx, ctx.headers),
    )


def _with_bytes(
    ctx: Context, new: write.NewVersion, source: ObjectVersion, source_key: CustomerKey | None
) -> write.NewVersion:
    """A copy with its bytes: those of its source, under a key of its own, or written anew."""
    wanted = encryption.wanted_of_copy(ctx, source)
    asked = ctx.headers.get(_ASKED_CHECKSUM, "").upper()
    if sealing.shares_bytes(source.encryption, wanted):
        sealed = sealing.resealed(ctx.store, source, wanted) if wanted is not None else None
        if checksums.is_appendable(source.etag):  # the copy is not
            parts = [part.etag for part in read.segments(ctx.store, source)]
            new = replace(new, etag=checksums.multipart_etag(parts) if parts else checksums.md5_etag(b""))
        if asked and not _has_checksum(source, asked):
            new = replace(new, checksum=_checksum_of(ctx, source, source_key, asked))
        return replace(
            new, copy_of=source, encryption=sealed, annotations=object_annotation.copies(ctx, new, key=None)
        )
    algorithm = asked or (source.checksum.algorithm if source.checksum else "CRC64NVME")
    if new.annotations_of is not None and wanted is not None:
        refuse_customer_key(wanted.mode)
    envelope = sealing.prepare(ctx.store, wanted)
    key = envelope.key if envelope else None
    stored, digests = copy_bytes(ctx, source, source_key, 0, source.size, algorithm=algorithm, key=key)
    return replace(
        new,
        annotations=object_annotation.copies(ctx, new, key=key),
        etag=digests.etag,
        checksum=Checksum(algorithm, digests.value(algorithm)),
        stored=stored,
        encryption=envelope.for_object(stored) if envelope else None,
    )


def _check_asked_checksum(ctx: Context) -> None:
    """Raise InvalidRequest for an algorithm that nobody knows."""
    asked = ctx.headers.get(_ASKED_CHECKSUM, "")
    if asked:
        checksums.check_algorithm(asked.upper())


def _has_checksum(source: ObjectVersion, algorithm: str) -> bool:
    """Whether the object's own checksum is what a copy is to have: of all its bytes, by that algorithm."""
    own = source.checksum
    return own is not None and own.algorithm == algorithm and own.type == checksums.FULL_OBJECT


def _checksum_of(
    ctx: Context, source: ObjectVersion, source_key: CustomerKey | None, algorithm: str
) -> Checksum:
    """A checksum of an object's bytes, which are read for it. Raises EntityTooLarge."""
    limit = ctx.settings.limits.put_bytes
    if source.size > limit:
        raise S3Error(Code.EntityTooLarge, ProposedSize=str(source.size), MaxSizeAllowed=str(limit))
    digests = Digests({algorithm})
    for piece in read.read(ctx.store, source, offset=0, length=source.size, customer=source_key):
        digests.update(piece)
    return Checksum(algorithm, digests.value(algorithm))


def copy_bytes(
    ctx: Context,
    source: ObjectVersion,
    source_key: CustomerKey | None,
    offset: int,
    length: int,
    *,
    algorithm: str,
    key: bytes | None,
) -> tuple[Stored, Digests]:
    """Read a range of an object and store it under another key, in constant memory. Raises EntityTooLarge."""
    limit = ctx.settings.limits.put_bytes
    if length > limit:
        raise S3Error(Code.EntityTooLarge, ProposedSize=str(length), MaxSizeAllowed=str(limit))
    pieces = read.read(ctx.store, source, offset=offset, length=length, customer=source_key)
    digests = Digests({algorithm} if algorithm else set(), sha256=False)
    stored = write.receive(
        ctx.store,
        _PieceSource(pieces),
        size=length,
        digests=digests,
        verify=lambda received: None,
        key=key,
    )
    return stored, digests


class _PieceSource:
    """A `Source` out of an iterator of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        piece = self._rest or next(self._pieces, b"")
        self._rest = piece[size:]
        return piece[:size]


def copy_source(ctx: Context) -> tuple[Bucket, ObjectVersion]:
    """The object that x-amz-copy-source names, once the caller may read it.

    With or without a leading slash. Raises InvalidArgument, NoSuchBucket, NoSuchKey, NoSuchVersion, AccessDenied.
    """
    text = ctx.headers["x-amz-copy-source"]
    query = text.partition("?")[2]
    version_id = query[len("versionId=") :] if query.startswith("versionId=") else None
    bucket_name, _, key = source_path(text).partition("/")
    if not bucket_name or not key or any("\ud800" <= c <= "\udfff" for c in key):
        raise invalid_argument(
            "x-amz-copy-source",
            text,
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        )
    with ctx.store.catalog.read() as tx:
        bucket = tx.bucket(bucket_name)
        if bucket is None:
            raise S3Error(Code.NoSuchBucket, BucketName=bucket_name)
        version = (
            tx.current_version(bucket.id, key)
            if version_id is None
            else tx.version(bucket.id, key, version_id)
        )
    if version is None or version.is_delete_marker:
        ctx.require("s3:ListBucket", bucket=bucket, about=About(prefix=key))
        if version is not None and version_id is not None:
            raise S3Error(
                Code.InvalidRequest,
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            )
        if version_id is not None:
            raise S3Error(Code.NoSuchVersion, Key=key, VersionId=version_id)
        raise S3Error(Code.NoSuchKey, Key=key)
    about = About(version=version, version_id=version_id or "")
    ctx.require(versioned("s3:GetObject", version_id), bucket=bucket, key=key, about=about)
    request_payment.check(ctx, bucket)
    if access_log.CONFIG in bucket.configs:
        name = COPIED_PART if "uploadId" in ctx.params else COPIED
        ctx.beside = [Beside(name, key, version_id or "", bucket, version.size)]
    return bucket, version
