"""Writing: a stream becomes a durable blob, then a committed version.

The order is what makes an acknowledged upload survive: bytes durable → one transaction that decides
the conditions, inserts the version and releases what it replaces → answer. A crash between leaves
bytes that the index does not know, which the sweeper removes; never a row without bytes.
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from s3lite.blobs.base import BlobsAwayError
from s3lite.catalog.base import CatalogBusyError, CatalogDoubtError, Tx
from s3lite.core import lock, notify, quota
from s3lite.core.store import Store
from s3lite.crypto.segments import Sealer, sealed_size
from s3lite.errors import Code, S3Error
from s3lite.model import (
    NULL_VERSION,
    UNLOCKED,
    Acl,
    Annotation,
    BlobId,
    Bucket,
    Checksum,
    Encryption,
    ObjectHead,
    ObjectLock,
    ObjectVersion,
    Pending,
    Stored,
)
from s3lite.wire.body import Source
from s3lite.wire.checksums import Digests, new
from s3lite.wire.conditions import WriteConditions

T = TypeVar("T")

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
PARTS_AT_ONCE = 10_000
"""Parts of removed objects in one transaction, as many as one object may have: nobody else writes meanwhile."""
_PIPELINE_FROM = 1 << 20  # below this, starting a thread costs more than it hides
_PIPELINE_DEPTH = 3  # buffers between the reader and the hasher

# Small requests get a core before hashes do: beside four large uploads on two cores their 99th percentile
# was 20 ms without this, 11 with 5, 8 with 10 (1.8 beside nothing).
_HASHING_NICE = 10

# With every core busy hashing, a second thread per upload only adds switches (measured: four
# uploads on two cores are as fast without), so only this many uploads hash beside their writes.
_pipelines = threading.BoundedSemaphore(os.cpu_count() or 1)


def storage_error(error: OSError) -> S3Error:
    """What the client is told when the storage refuses: nothing was stored, and whether to free space."""
    if isinstance(error, BlobsAwayError):
        return S3Error(Code.SlowDown, headers={"Retry-After": "1"})
    if error.errno in _NO_ROOM:
        return S3Error(Code.InsufficientStorage, headers={"Retry-After": "30"})
    return S3Error(Code.InternalError, "The storage failed; nothing was stored. Please try again.")


class OutcomeUnknownError(S3Error):
    """A commit failed, and may yet turn out to have happened.

    When the sync of the index's log fails, what was written stands there all the same: recovery after a
    crash takes it for committed. So does a database whose answer to COMMIT is lost.
    """

    def __init__(self) -> None:
        super().__init__(
            Code.InternalError,
            "The storage failed while this was stored. Please look whether it was, or repeat it.",
        )


# ---------------------------------------------------------------- bytes


def receive(
    store: Store,
    source: Source,
    *,
    size: int | None,
    digests: Digests,
    verify: Callable[[int], None],
    key: bytes | None = None,
) -> Stored:
    """Take all of ``source`` to durable storage and return where it is; sealed with ``key``, if there is one.

    ``verify(received_bytes)`` is called when everything has arrived and before anything is committed;
    what it raises leaves nothing behind. Objects up to ``storage.inline_bytes`` come back as `Stored.data`, to be kept in the index.

    Raises InsufficientStorage, InternalError, and whatever ``source`` and ``verify`` raise.
    """
    try:
        store.reserve.admit(size)
    except OSError as error:
        raise storage_error(error) from error
    inline = store.settings.storage.inline_bytes
    buffer = store.settings.storage.buffer_bytes
    # Full buffers from the start, where the size is known, keep the writes of a file on page borders.
    head = source.read(buffer) if size is not None and size > inline else _read_up_to(source, inline + 1)
    if len(head) <= inline and size is not None and size > inline:
        head += _read_up_to(source, inline + 1 - len(head))
    if len(head) <= inline:
        digests.update(head)
        verify(len(head))
        return _inline(store, head, key)
    seal = _Sealing(key) if key is not None else None
    try:
        with store.blobs.create(size=sealed_size(size) if seal and size is not None else size) as writer:
            received = 0
            with _Hasher(digests, pipelined=size is None or size >= _PIPELINE_FROM) as hasher:
                piece = head
                del head
                while piece:
                    hasher.update(piece)
                    writer.write(seal.update(piece) if seal else piece)
                    received += len(piece)
                    piece = b""  # a slow client's next one is not waited for with this one in hand
                    piece = source.read(buffer)
            verify(received)
            if seal is None:
                return Stored(writer.commit(), received)
            writer.write(seal.finish())
            return Stored(writer.commit(), received, None, seal.size, seal.checksum())
    except OSError as error:
        raise storage_error(error) from error


def _inline(store: Store, data: bytes, key: bytes | None) -> Stored:
    """Bytes to be kept in the index."""
    if not data:
        return Stored(None, 0)
    blob = BlobId(store.ids.blob())
    if key is None:
        return Stored(blob, len(data), data)
    seal = _Sealing(key)
    sealed = seal.update(data) + seal.finish()
    return Stored(blob, len(data), sealed, seal.size, seal.checksum())


class _Sealing:
    """Encrypts bytes on their way to the writer, and sums up what they become."""

    def __init__(self, key: bytes) -> None:
        self._sealer = Sealer(key)
        self._checksum = new("CRC64NVME")
        self.size = 0

    def update(self, piece: bytes) -> bytes:
        """What ``piece`` completes."""
        return self._counted(self._sealer.update(piece))

    def finish(self) -> bytes:
        """The rest."""
        return self._counted(self._sealer.finish())

    def _counted(self, sealed: bytes) -> bytes:
        self.size += len(sealed)
        self._checksum.update(sealed)
        return sealed

    def checksum(self) -> str:
        """Of all that was given out."""
        return self._checksum.value()


@contextmanager
def discarding(store: Store, *stored: Stored | None) -> Iterator[None]:
    """A commit that is to name ``stored``: when it has surely failed, the bytes go.

    When nobody knows, they stay: if a row names them after a crash they are needed, if not they are swept.
    """
    try:
        yield
    except (OutcomeUnknownError, CatalogDoubtError):
        raise
    except (S3Error, CatalogBusyError):
        for each in stored:
            discard(store, each)
        raise


def discard(store: Store, stored: Stored | None) -> None:
    """Remove bytes that no row will name; the sweeper would, later."""
    if stored is not None and stored.id is not None and stored.data is None:
        with suppress(OSError):
            store.blobs.delete(stored.id)


def _read_up_to(source: Source, limit: int) -> bytes:
    """Read until ``limit`` bytes or the end."""
    first = source.read(limit)
    if not first or len(first) == limit:
        return first
    pieces, have = [first], len(first)
    while have < limit:
        piece = source.read(limit - have)
        if not piece:
            break
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)


class _Hasher:
    """Updates digests, in a thread beside the writes when that pays."""

    def __init__(self, digests: Digests, *, pipelined: bool) -> None:
        self._digests = digests
        self._thread: threading.Thread | None = None
        self._fault: Exception | None = None
        if pipelined and _pipelines.acquire(blocking=False):
            self._pieces: queue.Queue[bytes | None] = queue.Queue(_PIPELINE_DEPTH)
            self._thread = threading.Thread(target=self._run, name="s3lite-hash", daemon=True)
            self._thread.start()

    def update(self, piece: bytes) -> None:
        if self._thread is None:
            self._digests.update(piece)
        else:
            self._pieces.put(piece)

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere this would be about the whole process
            thread = threading.get_native_id()
            usual = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, max(usual, _HASHING_NICE))  # less is not allowed
        while (piece := self._pieces.get()) is not None:
            if self._fault is None:
                try:
                    self._digests.update(piece)
                except Exception as error:  # noqa: BLE001  # raised again where the upload ends
                    self._fault = error

    def __enter__(self) -> _Hasher:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            _pipelines.release()
            if self._fault is not None and exc[0] is None:
                raise self._fault


# ---------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class NewAnnotation:
    """An annotation about to be written. Its bytes are ``stored``, or those of another's blob."""

    annotation: Annotation
    stored: Stored | None = None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """An object about to be published. Its bytes are ``stored`` or those of ``copy_of``.

    ``lock`` is what was asked for; the bucket's default retention joins it in the transaction.
    ``annotations`` are all that ``annotations_of`` has.
    """

    key: str
    owner_id: str
    head: ObjectHead
    acl: Acl
    size: int
    etag: str
    checksum: Checksum | None = None
    stored: Stored | None = None
    copy_of: ObjectVersion | None = None
    lock: ObjectLock = UNLOCKED
    encryption: Encryption | None = None
    annotations_of: ObjectVersion | None = None
    annotations: tuple[NewAnnotation, ...] = ()


Tell = Callable[[Tx, Bucket, ObjectVersion], None]
"""Writes what others are owed for a version into the outbox, in the transaction that makes it."""
TellRemoved = Callable[[Tx, Bucket, str, ObjectVersion], None]
"""The same for one that goes: `notify.DELETE`, or `notify.MARKER` with the delete marker that was made."""


def publish(
    store: Store,
    bucket: Bucket,
    new: NewVersion,
    conditions: WriteConditions,
    *,
    pending: Pending | None = None,
    tell: Tell | None = None,
) -> ObjectVersion:
    """Make an object current, conditions decided in the committing transaction. Durable on return.

    ``pending`` is the row that holds the new bytes since a gate was asked; it goes, unless this fails.

    Raises PreconditionFailed, NoSuchKey (If-Match on nothing), NoSuchBucket (deleted meanwhile),
    OperationAborted (the source of a copy changed meanwhile); new bytes that no row holds are then removed.
    """
    modified_ms = store.clock.time_ms()

    def work(tx: Tx) -> ObjectVersion:
        live = live_bucket(tx, bucket)
        if new.copy_of is not None:
            source = tx.version(new.copy_of.bucket_id, new.copy_of.key, new.copy_of.version_id)
            if source is None or source.row != new.copy_of.row:
                raise S3Error(Code.OperationAborted)
        if pending is not None and new.copy_of is not None:
            tx.remove_pending(pending.row)
        version_id = make_room(store, tx, live, new.key, conditions)
        version = tx.insert_version(
            bucket_id=live.id,
            key=new.key,
            version_id=version_id,
            size=new.size,
            etag=new.etag,
            modified_ms=modified_ms,
            owner_id=new.owner_id,
            head=new.head,
            acl=new.acl,
            checksum=new.checksum,
            stored=new.stored,
            copy_of=new.copy_of,
            encryption=new.encryption,
            pending=pending if new.copy_of is None else None,
            lock=lock.at_publication(tx, live, new.lock, modified_ms),
        )
        if new.annotations_of is not None:
            attach(tx, version, new.annotations_of.row, new.annotations)
        if tell is not None:
            tell(tx, live, version)
        return version

    copied = [each.stored for each in new.annotations]
    try:
        with discarding(store, new.stored if pending is None else None, *copied):
            return commit(store, work, owes=tell is not None)
    except LookupError as gone:  # the pending row at the end of its time, or the source of the copy
        if new.copy_of is not None:
            raise S3Error(Code.OperationAborted) from gone
        raise S3Error(
            Code.ServiceUnavailable,
            "The decision about this upload came too late; nothing was stored. Try again.",
            headers={"Retry-After": "2"},
        ) from gone


def attach(tx: Tx, version: ObjectVersion, source_row: int, wanted: Sequence[NewAnnotation]) -> None:
    """Write the annotations of a copy. Raises OperationAborted when its source has others by now."""
    now = [(annotation.name, annotation.etag) for annotation in tx.annotations(source_row)]
    if now != [(each.annotation.name, each.annotation.etag) for each in wanted]:
        raise S3Error(Code.OperationAborted)
    for each in wanted:
        tx.put_annotation(version, each.annotation, stored=each.stored)


def commit(store: Store, work: Callable[[Tx], T], *, owes: bool = False, frees: bool = False) -> T:
    """`Catalog.write` whose storage faults are S3 errors. ``owes``: it may write to the outbox.

    ``frees``: it makes room, and may use the reserve for that when the disk is full.

    Raises OutcomeUnknownError, InsufficientStorage, QuotaExceeded.
    """

    def within_quotas(tx: Tx) -> T:
        result = work(tx)
        quota.check(tx.settle_quotas())
        return result

    try:
        result = store.catalog.write(within_quotas)
    except OSError as error:
        if frees and error.errno in _NO_ROOM and store.reserve.release():
            return commit(store, work, owes=owes)
        known = error.errno in _NO_ROOM or isinstance(error, BlobsAwayError)
        raise storage_error(error) if known else OutcomeUnknownError() from error
    if owes:
        store.outbox.wake()
    return result


def live_bucket(tx: Tx, bucket: Bucket) -> Bucket:
    """The bucket as it is now. Raises NoSuchBucket when it is gone or another has its name."""
    live = tx.bucket(bucket.name)
    if live is None or live.id != bucket.id:
        raise S3Error(Code.NoSuchBucket, BucketName=bucket.name)
    return live


def make_room(store: Store, tx: Tx, bucket: Bucket, key: str, conditions: WriteConditions) -> str:
    """Decide the conditions, remove what the new version replaces, and return the id that it gets."""
    if conditions:
        conditions.check(tx.current_version(bucket.id, key))
    if bucket.versioning == "Enabled":
        return store.ids.version()
    _remove(store, tx, tx.version(bucket.id, key, NULL_VERSION))
    return NULL_VERSION


def _remove(store: Store, tx: Tx, version: ObjectVersion | None, *, bypass: bool = False) -> None:
    """The one way that a request removes a version. Raises AccessDenied when it is locked."""
    if version is not None:
        lock.check_removal(version.lock, store.clock.time_ms(), bypass=bypass)
        tx.remove_version(version)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did: the version that is gone or the marker that was made ("" in plain buckets)."""

    version_id: str = ""
    is_delete_marker: bool = False


def delete(
    store: Store,
    bucket: Bucket,
    key: str,
    version_id: str | None,
    conditions: WriteConditions,
    *,
    bypass: bool = False,
    tell: TellRemoved | None = None,
) -> Deleted:
    """Delete a key, or one version of it. Absence is success, as in S3.

    ``bypass`` lifts GOVERNANCE retention. Raises AccessDenied (a locked version), PreconditionFailed.
    """
    return commit(
        store,
        lambda tx: delete_in(store, tx, bucket, key, version_id, conditions, bypass=bypass, tell=tell),
        owes=tell is not None,
        frees=True,
    )


def delete_in(
    store: Store,
    tx: Tx,
    bucket: Bucket,
    key: str,
    version_id: str | None,
    conditions: WriteConditions,
    *,
    bypass: bool = False,
    tell: TellRemoved | None = None,
) -> Deleted:
    """`delete` inside a transaction."""
    if version_id is not None:
        version = tx.version(bucket.id, key, version_id)
        if conditions:
            conditions.check(version)
        _remove(store, tx, version, bypass=bypass)
        if tell is not None and version is not None:
            tell(tx, bucket, notify.DELETE, version)
        return Deleted(version_id, version is not None and version.is_delete_marker)
    if conditions:
        conditions.check(tx.current_version(bucket.id, key))
    live = live_bucket(tx, bucket)
    if live.versioning != "Enabled":
        removed = tx.version(live.id, key, NULL_VERSION)
        _remove(store, tx, removed)
        if tell is not None and removed is not None and not live.versioning:
            tell(tx, live, notify.DELETE, removed)
    if not live.versioning:
        return Deleted()
    marker = tx.insert_version(
        bucket_id=live.id,
        key=key,
        version_id=store.ids.version() if live.versioning == "Enabled" else NULL_VERSION,
        size=0,
        etag="",
        modified_ms=store.clock.time_ms(),
        owner_id=live.owner_id,
        head=ObjectHead(),
        acl=Acl(live.owner_id),
        is_delete_marker=True,
    )
    if tell is not None:
        tell(tx, live, notify.MARKER, marker)
    return Deleted(marker.version_id, True)
