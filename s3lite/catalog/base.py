"""The catalog's protocol: the index of everything, in transactions.

`tests/contract/test_catalog.py` runs on every implementation. ``None`` is absence; nothing here
raises `S3Error`. Keys are ``str`` at this border and UTF-8 bytes in the index, so that listing order
is byte order. Bounds of range scans are bytes: ``lower`` inclusive, ``upper`` exclusive or None.

Blobs are counted: a version, segment or part that names a blob holds one reference. Whatever drops
the last reference puts the blob into ``garbage`` in the same transaction; the sweeper removes the
bytes after a grace period (`due_garbage`, `forget_garbage`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from s3lite.catalog.questions import Chosen, ReadTx
from s3lite.messages import Delivery, OutboxEntry, Settlement
from s3lite.model import (
    UNLOCKED,
    AccessKey,
    Account,
    Acl,
    Annotation,
    BlobId,
    Bucket,
    Checksum,
    Completion,
    Encryption,
    ObjectHead,
    ObjectLock,
    ObjectVersion,
    Part,
    Pending,
    Quota,
    Segment,
    Stored,
    Upload,
)

T = TypeVar("T")


class CatalogBusyError(Exception):
    """The index could not be had in time; the request may be repeated. Nothing was changed."""


class CatalogDoubtError(CatalogBusyError):
    """The index went away while it committed: whether anything was changed is not known yet."""


class Tx(ReadTx, Protocol):
    """Changes, inside `Catalog.write`. All of one ``write`` become visible and durable together.

    A source, part or blob to be referenced that is gone, or garbage already, is a LookupError; what the
    index's constraints forbid (a repeated version id, a part of no upload) is a ValueError.
    """

    # -- accounts and keys
    def put_account(self, account: Account) -> None: ...
    def remove_account(self, account_id: str) -> bool:
        """Also its keys. False when absent. The caller has made sure that it owns no bucket."""

    def put_access_key(self, key: AccessKey) -> None: ...
    def remove_access_key(self, access_key: str) -> bool: ...

    # -- buckets
    def create_bucket(
        self, *, name: str, owner_id: str, region: str, acl: Acl, created_ms: int, object_lock: bool = False
    ) -> Bucket | None:
        """None when the name is taken."""

    def delete_bucket(self, bucket_id: int) -> None:
        """Also its configurations, completions, open uploads with their parts, and pending uploads."""

    def set_versioning(self, bucket_id: int, status: str) -> None: ...
    def enable_object_lock(self, bucket_id: int) -> None:
        """For good: nothing takes it away again."""

    def set_bucket_acl(self, bucket_id: int, acl: Acl) -> None: ...
    def put_bucket_config(self, bucket_id: int, name: str, document: bytes) -> None:
        """``name`` is one word; it joins `Bucket.configs`."""

    def delete_bucket_config(self, bucket_id: int, name: str) -> bool: ...

    # -- objects
    def insert_version(
        self,
        *,
        bucket_id: int,
        key: str,
        version_id: str,
        size: int,
        etag: str,
        modified_ms: int,
        owner_id: str,
        head: ObjectHead,
        acl: Acl,
        is_delete_marker: bool = False,
        checksum: Checksum | None = None,
        stored: Stored | None = None,
        copy_of: ObjectVersion | None = None,
        pending: Pending | None = None,
        lock: ObjectLock = UNLOCKED,
        encryption: Encryption | None = None,
    ) -> ObjectVersion:
        """Add a version and make it the latest of its key.

        Its bytes are either new (``stored``: the blob gets its row and one reference) or those of
        another version (``copy_of``: same blob or segments, references counted up, and its encryption
        unless another is given), or those of a pending upload, whose row goes (``pending``: a LookupError when
        it has gone already), or none.
        An existing version with the same id is not replaced: remove it first, in the same transaction.
        """

    def append_segment(
        self,
        version: ObjectVersion,
        segment: Segment,
        *,
        stored: Stored,
        etag: str,
        modified_ms: int,
        head: ObjectHead,
        checksum: Checksum | None,
        encryption: Encryption | None,
    ) -> ObjectVersion:
        """Add new bytes to the end of a version, in its row: one segment more than the segments it has.

        It has been asked for in the same transaction. Readers that have it as it was read on undisturbed.
        """

    @property
    def parts_removed(self) -> int:
        """Parts of the versions that this transaction removes; their references go at its end."""

    def remove_version(self, version: ObjectVersion) -> None:
        """Remove the row, drop its references; the newest remaining row of the key becomes the latest."""

    def update_version(
        self,
        row: int,
        *,
        acl: Acl | None = None,
        tags: tuple[tuple[str, str], ...] | None = None,
        lock: ObjectLock | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        """Replace what is given. Whether a lock may be replaced is the caller's to decide."""

    def put_annotation(
        self, version: ObjectVersion, annotation: Annotation, *, stored: Stored | None
    ) -> None:
        """Add or replace a version's annotation; ``stored`` None: its blob is known and gets one more reference.

        Whoever changes annotations has asked for the version in the same transaction.
        """

    def remove_annotation(self, version: ObjectVersion, name: str) -> bool:
        """False when it is not there."""

    # -- multipart
    def create_upload(
        self,
        *,
        upload_id: str,
        bucket_id: int,
        key: str,
        owner_id: str,
        initiator_id: str,
        initiated_ms: int,
        head: ObjectHead,
        acl: Acl,
        checksum_algorithm: str = "",
        checksum_type: str = "",
        callback: str = "",
        callback_var: str = "",
        callback_access_key: str = "",
        lock: ObjectLock = UNLOCKED,
        encryption: Encryption | None = None,
    ) -> Upload: ...

    def update_upload(self, row: int, *, encryption: Encryption) -> None: ...

    def put_part(self, upload_row: int, part: Part, *, stored: Stored | None) -> None:
        """Store a part; one with that number is replaced and its blob released.

        ``stored`` None: ``part.blob`` is already known and gets one more reference (copy by reference).
        """

    def complete_upload(
        self,
        upload: Upload,
        *,
        part_numbers: Sequence[int],
        version_id: str,
        etag: str,
        modified_ms: int,
        checksum: Checksum | None,
        lock: ObjectLock = UNLOCKED,
        encryption: Encryption | None = None,
    ) -> ObjectVersion:
        """Turn the named parts (all present, ascending) into a version that is the latest of its key.

        ``lock`` is the version's, whatever the upload's row says; ``encryption`` stands in the place of the
        upload's when it is given.

        Their references pass to its segments, the other parts are released, the upload is gone. Bytes
        are not touched, and the cost per part is one row.
        """

    def remove_upload(self, upload: Upload) -> None:
        """Abort: the upload and its parts, blobs released."""

    def put_completion(self, completion: Completion) -> None: ...
    def set_completion_callback(
        self, upload_id: str, *, state: str, reply: bytes = b"", reply_type: str = ""
    ) -> None: ...
    def forget_completions(self, *, before_ms: int) -> int: ...

    # -- the outbox and the delivery log
    def add_outbox(self, entry: OutboxEntry) -> None: ...
    def rewrite_outbox(self, entry: OutboxEntry, *, body: bytes, due_ms: int) -> None:
        """Another body, and another end of the lease, for as long as the entry is held as it says."""

    def take_outbox(
        self, lane: str, *, now_ms: int, limit: int, holder: str, until_ms: int
    ) -> list[OutboxEntry]:
        """Lease due entries of a lane, each one attempt further; nobody else gets them until then."""

    def settle_outbox(self, settlements: Sequence[Settlement]) -> None:
        """End leases. What was delivered goes, whoever holds it now; else only the lease's holder counts."""

    def revive_outbox(self, chosen: Chosen, *, dead_only: bool, now_ms: int, expires_ms: int) -> int:
        """Make entries due now, dead ones with all their attempts again; how many."""

    def purge_outbox(self, chosen: Chosen, *, limit: int) -> int:
        """Forget dead entries; how many."""

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None: ...
    def forget_deliveries(self, *, before_ms: int, keep: int, limit: int) -> int:
        """Attempts before then, and those beyond the ``keep`` latest; how many, at most twice ``limit``."""

    # -- access logs
    def add_log_lines(self, destination: str, lines: bytes, *, at_ms: int) -> None: ...
    def remove_log_lines(self, numbers: Sequence[int]) -> int:
        """Take rows away; fewer than asked for means that somebody else did."""

    def forget_log_lines(self, *, before_ms: int, limit: int) -> int:
        """Rows written before then, at most so many; how many."""

    def count(self, counted: Mapping[str, int]) -> None:
        """Add to counters, which `ReadTx.counters` shows."""

    # -- uploads that a gate decides about
    def put_pending(self, pending: Pending, *, stored: Stored | None, now_ms: int) -> Pending | None:
        """Enter one, with its row number; ``stored`` gets one reference. It stands in the place of what was
        remembered of its ``fingerprint``.

        None while another one is pending for the same multipart upload, unless its time was over at ``now_ms``.
        """

    def remove_pending(self, row: int) -> bool:
        """Decided: forget it, drop its reference. False when it has gone already."""

    def leave_undecided(self, row: int, *, expires_ms: int) -> None:
        """Drop its reference and remember its webhook-id until then."""

    # -- quotas
    def put_bucket_quota(self, bucket: Bucket, *, max_bytes: int | None, max_objects: int | None) -> None:
        """Bound a bucket, counting what it holds. None is no bound, and two of them take the quota away."""

    def put_account_quota(self, account_id: str, *, max_bytes: int | None, max_objects: int | None) -> None:
        """Bound what an account's buckets hold together."""

    def settle_quotas(self) -> list[Quota]:
        """The quotas that this transaction has added to or taken from since it last asked, as they are now.

        What is counted: the bytes of versions and of the parts of open uploads, copies in full, and the
        versions that are no delete markers. Nobody else adds to them before the transaction ends.
        """

    def recount(self, subject: str) -> None:
        """Count anew what a quota speaks of."""

    # -- upkeep
    def forget_garbage(self, blobs: Sequence[BlobId]) -> None:
        """Their bytes are gone: drop the rows. Blobs that are referenced again are left alone."""

    def put_setting(self, name: str, value: bytes) -> None: ...


class Catalog(Protocol):
    """An index. One object per process and data directory; safe to use from many threads.

    Connections are opened at first use, never before a fork.
    """

    def read(self) -> AbstractContextManager[ReadTx]:
        """Answer questions on a pooled connection, each statement by itself. Not a snapshot."""

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in one transaction, durable on return (settings.durability).

        Concurrent calls share a commit where the engine allows; ``work`` may therefore run on another
        thread, must be quick, must not block or touch anything but ``tx``. An exception from it rolls
        back its own changes only and is raised here. Raises CatalogBusyError when the index is locked
        for too long, CatalogDoubtError when it went away while it committed, OSError when it cannot be written.
        ``work`` may be run again, in a new transaction, so it keeps nothing from one run to the next.
        """

    def lease(self, name: str, *, holder: str, ttl_s: float) -> bool:
        """Take or renew a named lease; True while this holder has it. For the sweeper."""

    def migrate(self) -> None:
        """Bring the schema up to date, refusing one that is newer than this program."""

    def snapshot(self, target: Path) -> None:
        """Copy the index as of one moment into a new SQLite file, durable or not, beside writers.

        Raises OSError, also where the engine has its own ways of backing up.
        """

    def checkpoint(self, *, truncate: bool = False) -> int:
        """Fold the engine's log into its tables, beside requests; how many log pages remain.

        ``truncate`` also empties the log, holding writers up meanwhile: for idle moments.
        """

    def quick_check(self) -> list[str]:
        """The engine's own integrity check; [] when sound."""

    def iter_versions(self) -> Iterator[ObjectVersion]:
        """Every version, for `s3lite check --deep`; memory is constant."""

    def freeze(self, *, on: bool) -> None:
        """Refuse every change, of every process and node, with CatalogBusyError, until it is off again."""

    def columns(self, table: str) -> tuple[str, ...]:
        """The names of a table's columns."""

    def dump(self, table: str, columns: Sequence[str]) -> Iterator[tuple[object, ...]]:
        """Every row of a table, as the engine keeps it; memory is constant. For a frozen index."""

    def load(
        self, tables: Iterable[tuple[str, Sequence[str], Iterable[tuple[object, ...]]]]
    ) -> dict[str, int]:
        """Fill empty tables (name, columns, rows), all in one transaction; how many rows each has then."""

    def close(self) -> None: ...
