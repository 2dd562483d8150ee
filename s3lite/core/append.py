"""Appending: new bytes become a further segment of an object; none that it has are touched.

The order is that of every write: bytes durable → one transaction that looks whether the object still is
as long as the client said, adds the segment and changes size, ETag and date → answer. Two appends at one
position have one winner, and a crash leaves the object as it was, or longer by all of the new bytes.

Source: API reference of Alibaba Cloud OSS, AppendObject.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from s3lite.catalog.base import Tx
from s3lite.core import lock, sealing
from s3lite.core.sealing import Envelope, PartEnvelope
from s3lite.core.store import Store
from s3lite.core.write import Tell, commit, discarding, live_bucket, make_room
from s3lite.errors import Code, S3Error
from s3lite.model import (
    UNLOCKED,
    Acl,
    Bucket,
    Checksum,
    ObjectHead,
    ObjectLock,
    ObjectVersion,
    Segment,
    Stored,
)
from s3lite.wire import checksums
from s3lite.wire.checksums import Digests
from s3lite.wire.conditions import WriteConditions

_CRC = "CRC64NVME"


@dataclass(frozen=True, slots=True)
class NewObject:
    """What a first append makes: an appendable object that has no bytes yet."""

    owner_id: str
    head: ObjectHead
    acl: Acl
    lock: ObjectLock = UNLOCKED
    envelope: Envelope | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be added to which object, and where it ends now. ``new``: None where there is one."""

    key: str
    position: int
    conditions: WriteConditions
    new: NewObject | None = None


def admitted(
    store: Store, key: str, position: int, conditions: WriteConditions, version: ObjectVersion | None
) -> ObjectVersion | None:
    """The object that ``version`` is, if it can be added to at ``position``; None where one is to be made.

    Raises PositionNotEqualToLength, ObjectNotAppendable, AccessDenied (retention or a legal hold),
    InvalidRequest (``limits.appends``), PreconditionFailed.
    """
    if conditions:
        conditions.check(version)
    found = None if version is None or version.is_delete_marker else version
    if found is not None and not checksums.is_appendable(found.etag):
        raise S3Error(Code.ObjectNotAppendable, Key=key)
    length = found.size if found is not None else 0
    if position != length:
        raise S3Error(
            Code.PositionNotEqualToLength,
            headers={"x-amz-next-append-position": str(length)},
            Key=key,
            Position=str(position),
            Length=str(length),
        )
    if found is not None:
        lock.check_removal(found.lock, store.clock.time_ms(), bypass=False)
        most = store.settings.limits.appends
        if found.part_count >= most:
            raise S3Error(
                Code.InvalidRequest,
                f"The object was appended to {most} times, which is the most (limits.appends). Begin another one.",
            )
    return found


def append(
    store: Store,
    bucket: Bucket,
    wish: Wish,
    stored: Stored,
    digests: Digests,
    *,
    seen: ObjectVersion | None,
    part: PartEnvelope | None = None,
    tell: Tell | None = None,
) -> ObjectVersion:
    """Add ``stored`` to the object, durable on return. ``seen`` is that which was there when ``part`` was made.

    Raises as `admitted`, EntityTooLarge, NoSuchBucket, OperationAborted (another object by now).
    """

    def work(tx: Tx) -> ObjectVersion:
        live = live_bucket(tx, bucket)
        current = tx.current_version(live.id, wish.key)
        version = admitted(store, wish.key, wish.position, wish.conditions, current)
        if (version and version.row) != (seen and seen.row):
            raise S3Error(Code.OperationAborted)
        if version is None:
            version = _made(store, tx, live, wish)
        if stored.size:
            version = _grown(store, tx, version, stored, digests, part)
        if tell is not None:
            tell(tx, live, version)
        return version

    with discarding(store, stored):
        return commit(store, work, owes=tell is not None)


def _made(store: Store, tx: Tx, bucket: Bucket, wish: Wish) -> ObjectVersion:
    new = wish.new
    assert new is not None
    modified_ms = store.clock.time_ms()
    return tx.insert_version(
        bucket_id=bucket.id,
        key=wish.key,
        version_id=make_room(store, tx, bucket, wish.key, WriteConditions()),
        size=0,
        etag=checksums.EMPTY_APPENDABLE,
        modified_ms=modified_ms,
        owner_id=new.owner_id,
        head=replace(new.head, crc64ecma="0"),
        acl=new.acl,
        checksum=Checksum(_CRC, checksums.new(_CRC).value()),
        lock=lock.at_publication(tx, bucket, new.lock, modified_ms),
        encryption=new.envelope.for_parts(0, 0) if new.envelope is not None else None,
    )


def _grown(
    store: Store,
    tx: Tx,
    version: ObjectVersion,
    stored: Stored,
    digests: Digests,
    part: PartEnvelope | None,
) -> ObjectVersion:
    size, number = version.size + stored.size, version.part_count + 1
    limit = store.settings.limits.object_bytes
    if size > limit:
        raise S3Error(Code.EntityTooLarge, ProposedSize=str(size), MaxSizeAllowed=str(limit))
    value = digests.value(_CRC)
    before = version.checksum.value if version.checksum is not None else ""
    whole = checksums.full_object(_CRC, [(before, version.size), (value, stored.size)])
    sealed_key = part.sealed(number, stored.size, stored.id) if part is not None else ""
    crc64ecma = checksums.joined_crc64ecma(version.head.crc64ecma, digests, stored.size)
    return tx.append_segment(
        version,
        Segment(number, stored.size, stored.id, digests.etag, value, sealed_key),
        stored=stored,
        etag=checksums.appended_etag(version.etag, digests.etag),
        modified_ms=store.clock.time_ms(),
        head=replace(version.head, crc64ecma=crc64ecma),
        checksum=Checksum(_CRC, whole),
        encryption=sealing.appended(store, version, size=size, part_count=number),
    )
