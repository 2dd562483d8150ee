"""Multipart uploads: parts are blobs, and completing one moves rows, never bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx
from s3lite.core import lock, sealing
from s3lite.core.store import Store
from s3lite.core.write import Tell, commit, discarding, live_bucket, make_room
from s3lite.errors import Code, S3Error
from s3lite.model import (
    Bucket,
    Checksum,
    Completion,
    Encryption,
    ObjectVersion,
    Part,
    Pending,
    Stored,
    Upload,
)
from s3lite.wire import checksums
from s3lite.wire.conditions import WriteConditions
from s3lite.wire.encryption import CustomerKey
from s3lite.wire.requests import CompletedPart


def find_upload(store: Store, bucket: Bucket, key: str, upload_id: str) -> Upload:
    """The open upload of this id, bucket and key. Raises NoSuchUpload."""
    with store.catalog.read() as tx:
        upload = tx.upload(bucket.id, key, upload_id)
    if upload is None:
        raise S3Error(Code.NoSuchUpload, UploadId=upload_id)
    return upload


def check_open(store: Store, bucket: Bucket) -> None:
    """Raise InvalidRequest while a bucket has as many open uploads as it may have; those at once may go beyond."""
    most = store.settings.limits.uploads
    if not most:
        return
    with store.catalog.read() as tx:
        count = tx.count_uploads(bucket.id, most=most)
    if count >= most:
        raise S3Error(
            Code.InvalidRequest,
            f"This bucket has {most} open multipart uploads, and no more are allowed: complete or abort some.",
        )


def put_part(
    store: Store, bucket: Bucket, upload: Upload, part: Part, stored: Stored | None, *, copied: bool = False
) -> None:
    """Store or replace a part. Raises NoSuchUpload when the upload has ended meanwhile.

    ``copied``: the part is ``part.blob``, which another object holds, and which must still be there.
    """

    def work(tx: Tx) -> None:
        live = tx.upload(bucket.id, upload.key, upload.upload_id)
        if live is None or live.row != upload.row:
            raise S3Error(Code.NoSuchUpload, UploadId=upload.upload_id)
        if copied and part.blob is not None and not tx.is_referenced(part.blob):
            raise S3Error(Code.OperationAborted)
        tx.put_part(upload.row, part, stored=stored)

    with discarding(store, stored):
        commit(store, work)


def abort(store: Store, bucket: Bucket, key: str, upload_id: str) -> None:
    """Abort an upload; its parts are released. Raises NoSuchUpload."""

    def work(tx: Tx) -> None:
        upload = tx.upload(bucket.id, key, upload_id)
        if upload is None:
            raise S3Error(Code.NoSuchUpload, UploadId=upload_id)
        tx.remove_upload(upload)

    commit(store, work, frees=True)


@dataclass(frozen=True, slots=True)
class KeptCallback:
    """The callback of a Complete, recorded with it so that a repeat reports the same way.

    ``state`` is "pending", "queued" when the outbox has it, or "ok" when a gate's application has answered ``reply`` before.
    """

    callback_id: str
    callback: str
    callback_var: str
    access_key: str
    state: str = "pending"
    reply: bytes = b""
    reply_type: str = ""


@dataclass(frozen=True, slots=True)
class Completed:
    """The outcome of CompleteMultipartUpload. ``version`` is None for a repeat whose object has gone."""

    completion: Completion
    version: ObjectVersion | None
    is_repeat: bool


def fingerprint(parts: Sequence[CompletedPart]) -> str:
    """Identifies a part list, so that a repeated Complete is known."""
    text = "\n".join(f"{part.part_number}:{part.etag}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Wish:
    """What a CompleteMultipartUpload asks for. ``expected`` are checksums of the whole object that the
    client sent, by algorithm."""

    key: str
    upload_id: str
    parts: Sequence[CompletedPart]
    conditions: WriteConditions
    expected: Mapping[str, str]
    expected_type: str
    object_size: int | None
    customer: CustomerKey | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """The object that an open upload would become."""

    upload: Upload
    parts: tuple[Part, ...]
    size: int
    etag: str
    checksum: Checksum | None
    encryption: Encryption | None


def candidate(store: Store, bucket: Bucket, wish: Wish) -> Candidate | None:
    """What `complete` would publish now, everything checked; None for a repeat. Raises as `complete`."""
    with store.catalog.read() as tx:
        upload = tx.upload(bucket.id, wish.key, wish.upload_id)
        if upload is None:
            _repeat(tx, bucket, wish)
            return None
        if wish.conditions:
            wish.conditions.check(tx.current_version(bucket.id, wish.key))
        return _candidate(store, tx, upload, wish)


def complete(
    store: Store,
    bucket: Bucket,
    wish: Wish,
    callback: KeptCallback | None,
    *,
    admitted: Sequence[Part] | None = None,
    pending: Pending | None = None,
    tell: Tell | None = None,
) -> Completed:
    """Make the object out of the named parts, all in one transaction; durable on return.

    The same id with the same parts again, within a day, is answered as the first time. ``admitted`` are
    the parts that a gate was asked about, and ``pending`` the row that says so, which goes.

    Raises NoSuchUpload, InvalidPart, EntityTooSmall, EntityTooLarge, BadDigest, InvalidRequest,
    PreconditionFailed, OperationAborted (the parts are no longer those that were admitted).
    """

    def work(tx: Tx) -> Completed:
        live = live_bucket(tx, bucket)
        upload = tx.upload(live.id, wish.key, wish.upload_id)
        if upload is None:
            return _repeat(tx, live, wish)
        found = _candidate(store, tx, upload, wish)
        # Equal ETags do not do: whoever makes two parts with one MD5 would have one of them looked at and
        # publish the other.
        if admitted is not None and [part.blob for part in found.parts] != [part.blob for part in admitted]:
            raise S3Error(
                Code.OperationAborted,
                "A part was replaced while the application was asked about the upload. Try again.",
            )
        if pending is not None:
            tx.remove_pending(pending.row)
        version_id = make_room(store, tx, live, wish.key, wish.conditions)
        modified_ms = store.clock.time_ms()
        version = tx.complete_upload(
            upload,
            part_numbers=[part.part_number for part in found.parts],
            version_id=version_id,
            etag=found.etag,
            modified_ms=modified_ms,
            checksum=found.checksum,
            lock=lock.at_publication(tx, live, upload.lock, modified_ms),
            encryption=found.encryption,
        )
        completion = _completion(wish.upload_id, version, fingerprint(wish.parts), callback)
        tx.put_completion(completion)
        if tell is not None:
            tell(tx, live, version)
        return Completed(completion, version, is_repeat=False)

    return commit(store, work, owes=tell is not None)


def _candidate(store: Store, tx: ReadTx, upload: Upload, wish: Wish) -> Candidate:
    chosen = _choose(store, tx, upload, wish.parts)
    size = sum(part.size for part in chosen)
    _check_size(store, size, wish.object_size)
    checksum = _checksum(upload, chosen, wish.expected, wish.expected_type)
    etag = checksums.multipart_etag([part.etag for part in chosen])
    sealed = sealing.completed(store, upload, size=size, part_count=len(chosen), customer=wish.customer)
    return Candidate(upload, tuple(chosen), size, etag, checksum, sealed)


def _completion(
    upload_id: str, version: ObjectVersion, named: str, callback: KeptCallback | None
) -> Completion:
    """What is remembered of a Complete."""
    completion = Completion(
        upload_id=upload_id,
        bucket_id=version.bucket_id,
        key=version.key,
        fingerprint=named,
        etag=version.etag,
        version_id=version.version_id,
        size=version.size,
        completed_ms=version.modified_ms,
        checksum=version.checksum,
    )
    if callback is None:
        return completion
    return replace(
        completion,
        callback=callback.callback,
        callback_var=callback.callback_var,
        callback_access_key=callback.access_key,
        callback_id=callback.callback_id,
        callback_state=callback.state,
        callback_reply=callback.reply,
        callback_reply_type=callback.reply_type,
    )


def _repeat(tx: ReadTx, bucket: Bucket, wish: Wish) -> Completed:
    completion = tx.completion(bucket.id, wish.key, wish.upload_id)
    if completion is None or completion.fingerprint != fingerprint(wish.parts):
        raise S3Error(Code.NoSuchUpload, UploadId=wish.upload_id)
    version = tx.version(bucket.id, wish.key, completion.version_id)
    if version is not None and version.etag != completion.etag:
        version = None
    return Completed(completion, version, is_repeat=True)


def _choose(store: Store, tx: ReadTx, upload: Upload, parts: Sequence[CompletedPart]) -> list[Part]:
    """The stored parts that the client named. Raises InvalidPart, EntityTooSmall."""
    stored = {part.part_number: part for part in tx.parts(upload.row)}
    minimum = store.settings.limits.part_min_bytes
    chosen = []
    for position, named in enumerate(parts):
        part = stored.get(named.part_number)
        given = named.checksums.get(upload.checksum_algorithm)
        if (
            part is None
            or part.etag != named.etag
            or (given is not None and part.checksum and given != part.checksum)
        ):
            raise S3Error(
                Code.InvalidPart,
                UploadId=upload.upload_id,
                PartNumber=str(named.part_number),
                ETag=named.etag,
            )
        if part.size < minimum and position < len(parts) - 1:
            raise S3Error(
                Code.EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed object size.",
                ETag=part.etag,
                MinSizeAllowed=str(minimum),
                PartNumber=str(part.part_number),
                ProposedSize=str(part.size),
            )
        chosen.append(part)
    return chosen


def _check_size(store: Store, size: int, object_size: int | None) -> None:
    limit = store.settings.limits.object_bytes
    if size > limit:
        raise S3Error(Code.EntityTooLarge, ProposedSize=str(size), MaxSizeAllowed=str(limit))
    if object_size is not None and object_size != size:
        raise S3Error(
            Code.InvalidRequest,
            f"The provided 'x-amz-mp-object-size' header value {object_size} does not match what was "
            f"computed: {size}",
        )


def _checksum(
    upload: Upload, parts: Sequence[Part], expected: Mapping[str, str], expected_type: str
) -> Checksum | None:
    """The object's checksum out of its parts', compared with what the client expects."""
    algorithm = upload.checksum_algorithm
    if not algorithm or any(not part.checksum for part in parts):
        return None
    if expected_type and expected_type != upload.checksum_type:
        raise S3Error(
            Code.InvalidRequest,
            f"The upload was created using the {upload.checksum_type} checksum mode. "
            "The complete request must use the same checksum mode.",
        )
    if upload.checksum_type == "FULL_OBJECT":
        value = checksums.full_object(algorithm, [(part.checksum, part.size) for part in parts])
    else:
        value = checksums.composite(algorithm, [part.checksum for part in parts])
    given = expected.get(algorithm)
    if given is not None and given != value and not value.startswith(given + "-"):
        raise S3Error(
            Code.BadDigest,
            f"The {algorithm} you specified did not match the calculated checksum of the object.",
        )
    return Checksum(algorithm, value, upload.checksum_type)
