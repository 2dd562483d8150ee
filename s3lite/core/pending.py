"""Uploads that wait for a decision: their bytes are durable and held by a row, and nothing is published.

A row ends in one of three ways. Published: a version takes its bytes over, in the publishing transaction.
Refused: the bytes are released. Undecided (no answer, or this process died): the bytes are released, and
the row remembers its webhook-id for a while, so that the application knows a repeat for what it is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, replace

from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx
from s3lite.core import read, sealing
from s3lite.core.store import Store
from s3lite.core.write import commit, discarding, live_bucket
from s3lite.errors import Code, S3Error
from s3lite.model import (
    NULL_VERSION,
    UNLOCKED,
    Acl,
    Bucket,
    ObjectHead,
    ObjectVersion,
    Part,
    Pending,
    Segment,
    Stored,
)
from s3lite.wire.encryption import CustomerKey

_SLACK_MS = 5000  # between the end of a decision's time and that of its row


def hash_of(token: str) -> str:
    """What a row keeps of the token that opens its bytes."""
    return hashlib.sha256(token.encode()).hexdigest()


def hold(store: Store, bucket: Bucket, wanted: Pending, stored: Stored | None) -> Pending:
    """Enter a row that holds ``stored``, until the time for its decision is over. Durable on return.

    The webhook-id is that of the same upload, if one is undecided. Raises NoSuchBucket (deleted meanwhile),
    ServiceUnavailable (the multipart upload's other Complete is being decided); the bytes are then removed.
    """
    now_ms = store.clock.time_ms()
    expires_ms = now_ms + int(store.settings.callback.gate_timeout_s * 1000) + _SLACK_MS

    def work(tx: Tx) -> Pending | None:
        live_bucket(tx, bucket)
        known = tx.undecided_callback(wanted.fingerprint) if wanted.fingerprint else ""
        pending = replace(wanted, callback_id=known or wanted.callback_id, expires_ms=expires_ms)
        return tx.put_pending(pending, stored=stored, now_ms=now_ms)

    with discarding(store, stored):
        pending = commit(store, work)
    if pending is None:
        raise S3Error(
            Code.ServiceUnavailable,
            "Another CompleteMultipartUpload of this upload waits for the application's decision. Try again.",
            headers={"Retry-After": "2"},
        )
    return pending


def drop(store: Store, pending: Pending) -> None:
    """Refused: release the bytes."""
    commit(store, lambda tx: tx.remove_pending(pending.row), frees=True)


def leave_undecided(store: Store, pending: Pending) -> None:
    """Release the bytes and remember the webhook-id."""
    expires_ms = store.clock.time_ms() + int(store.settings.callback.gate_memory_s * 1000)
    commit(store, lambda tx: tx.leave_undecided(pending.row, expires_ms=expires_ms), frees=True)


def sweep(store: Store, *, limit: int) -> int:
    """End rows whose time is over; how many uploads lost their bytes. What nobody waits for is undecided."""
    count = 0
    while True:
        with store.catalog.read() as tx:
            expired = tx.expired_pending(before_ms=store.clock.time_ms(), limit=limit)
        for pending in expired:
            if pending.token_hash:
                leave_undecided(store, pending)
                count += 1
            else:
                drop(store, pending)
        if len(expired) < limit:
            return count


# ---------------------------------------------------------------- its bytes, for the application


@dataclass(frozen=True, slots=True)
class Content:
    """A pending upload: a version that is none yet, and where its bytes are.

    ``parts`` are those of a multipart upload; of a copy the bytes are those of ``source``.
    """

    version: ObjectVersion
    parts: tuple[Segment, ...] | None = None
    source: ObjectVersion | None = None

    @property
    def held_by(self) -> ObjectVersion:
        """The version that has the bytes, or will have them."""
        return self.source or self.version

    def read(
        self, store: Store, offset: int, length: int, *, customer: CustomerKey | None = None
    ) -> Iterator[bytes]:
        """A range of them. Raises as `read.read`."""
        return read.read(
            store, self.held_by, offset=offset, length=length, customer=customer, parts=self.parts
        )


def find(store: Store, row: int, token: str) -> Pending | None:
    """The pending upload that a token opens, while its decision is awaited."""
    with store.catalog.read() as tx:
        pending = tx.pending(row)
    fits = hmac.compare_digest(pending.token_hash if pending else "", hash_of(token))
    return pending if fits and pending and store.clock.time_ms() < pending.expires_ms else None


def content(store: Store, pending: Pending) -> Content | None:
    """Its bytes; None once they have gone."""
    with store.catalog.read() as tx:
        if pending.source_row:
            source = tx.version_at(pending.source_row)
            return Content(source) if source is not None else None
        if pending.upload_id:
            return _of_upload(store, tx, pending)
    return Content(replace(_shape(pending), blob=pending.blob, encryption=pending.encryption))


def _of_upload(store: Store, tx: ReadTx, pending: Pending) -> Content | None:
    upload = tx.upload(pending.bucket_id, pending.key, pending.upload_id)
    if upload is None:
        return None
    wanted = set(pending.part_numbers)
    parts = segments_of([part for part in tx.parts(upload.row) if part.part_number in wanted])
    if len(parts) != len(wanted) or sum(part.size for part in parts) != pending.size:
        return None
    sealed = sealing.completed(store, upload, size=pending.size, part_count=len(parts), customer=None)
    return Content(replace(_shape(pending), part_count=len(parts), encryption=sealed), parts)


def segments_of(parts: list[Part]) -> tuple[Segment, ...]:
    """Parts as the segments that they become."""
    return tuple(
        Segment(part.part_number, part.size, part.blob, part.etag, part.checksum, part.sealed_key)
        for part in parts
    )


def _shape(pending: Pending) -> ObjectVersion:
    return ObjectVersion(
        row=0,
        bucket_id=pending.bucket_id,
        key=pending.key,
        version_id=NULL_VERSION,
        size=pending.size,
        etag=pending.etag,
        modified_ms=0,
        owner_id="",
        head=ObjectHead(),
        acl=Acl(""),
        lock=UNLOCKED,
    )
