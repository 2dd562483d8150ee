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
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

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
    Delivery,
    Encryption,
    ListedObject,
    ListedVersion,
    ObjectHead,
    ObjectLock,
    ObjectVersion,
    OutboxEntry,
    Part,
    Pending,
    Quota,
    Segment,
    Settlement,
    Stored,
    Upload,
)

T = TypeVar("T")


class CatalogBusyError(Exception):
    """The index could not be had in time; the request may be repeated. Nothing was changed."""


class CatalogDoubtError(CatalogBusyError):
    """The index went away while it committed: whether anything was changed is not known yet."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which messages of the outbox or the delivery log are meant: those that fit all that is given."""

    bucket: str = ""
    destination: str = ""
    ids: tuple[str, ...] | None = None
    since_ms: int = 0
    before_ms: int = 0


class OutboxFigures(NamedTuple):
    """What waits. Times are None when nothing does."""

    waiting: int
    dead: int
    oldest_ms: int | None  # when the oldest that waits was written
    due_ms: int | None  # when the next attempt is due, or has been since


class WaitingLines(NamedTuple):
    """Lines of access logs for one destination (`wire.bucket_logging.Destination`, encoded)."""

    destination: str
    oldest_ms: int
    size: int


class ReadTx(Protocol):
    """Questions. Each call is one statement; a page is one call, so no read stays open long."""

    # -- accounts and keys
    def account(self, account_id: str) -> Account | None: ...
    def account_by_email(self, email: str) -> Account | None: ...
    def accounts(self) -> list[Account]: ...
    def access_key(self, access_key: str) -> AccessKey | None: ...
    def access_keys(self, account_id: str | None = None) -> list[AccessKey]: ...

    # -- buckets
    def bucket(self, name: str) -> Bucket | None: ...
    def buckets(
        self,
        *,
        owner_id: str | None,
        prefix: str = "",
        region: str | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> list[Bucket]:
        """By name; ``owner_id`` None is every owner's, ``region`` None every region's."""

    def bucket_is_empty(self, bucket_id: int) -> bool:
        """No version and no delete marker. Open uploads do not count."""

    def bucket_config(self, bucket_id: int, name: str) -> bytes | None:
        """A configuration document by subresource name ("cors", "tagging" …)."""

    # -- objects
    def current_version(self, bucket_id: int, key: str) -> ObjectVersion | None:
        """The latest version, delete markers included."""

    def version(self, bucket_id: int, key: str, version_id: str) -> ObjectVersion | None: ...

    def segments(self, row: int, *, after: int = 0, limit: int | None = None) -> list[Segment]:
        """Parts of a multipart version, by part number, those greater than ``after``."""

    def inline_data(self, blob: BlobId) -> bytes | None:
        """The bytes of a blob that is kept in the index; None when it is in the blob store (or empty)."""

    def sealed_checksum(self, blob: BlobId) -> str:
        """CRC64NVME of an encrypted blob's bytes as they are kept; "" of others."""

    def versions_under(self, master: str, *, after: int = 0, limit: int) -> list[ObjectVersion]:
        """Versions whose key is sealed under one generation of a key of the keyring, by row."""

    def uploads_under(self, master: str, *, after: int = 0, limit: int) -> list[Upload]:
        """Open uploads likewise."""

    def count_by_master(self) -> dict[str, int]:
        """How many versions and open uploads are sealed under each generation of each key."""

    def list_objects(
        self, bucket_id: int, *, lower: bytes, upper: bytes | None, limit: int
    ) -> list[ListedObject]:
        """Current versions that are no delete markers, by key. One covering range scan."""

    def walk_objects(
        self,
        bucket_id: int,
        *,
        prefix: bytes,
        delimiter: bytes,
        lower: bytes,
        upper: bytes | None,
        limit: int,
    ) -> list[ListedObject | str]:
        """As `list_objects`; keys that go on after ``prefix`` to a ``delimiter`` become one common prefix.

        Each step is a seek: dear for keys side by side, cheap over any number of keys below a prefix.
        """

    def list_versions(
        self,
        bucket_id: int,
        *,
        lower: bytes,
        upper: bytes | None,
        after_row: int | None = None,
        limit: int,
    ) -> list[ListedVersion]:
        """By key, newest first within a key. ``after_row``: of the key that equals ``lower``, only rows
        below this one."""

    def annotation(self, row: int, name: str) -> Annotation | None: ...
    def annotations(
        self, row: int, *, prefix: str = "", after: str = "", limit: int = ...
    ) -> list[Annotation]:
        """Of a version, by name in UTF-8 order, those after ``after``."""

    # -- multipart
    def upload(self, bucket_id: int, key: str, upload_id: str) -> Upload | None: ...
    def list_uploads(
        self,
        bucket_id: int,
        *,
        lower: bytes,
        upper: bytes | None,
        after_row: int | None = None,
        limit: int,
    ) -> list[Upload]:
        """By key, then oldest first. ``after_row``: of the key that equals ``lower``, only rows above this one."""

    def expired_uploads(self, *, before_ms: int, limit: int) -> list[Upload]: ...
    def part(self, upload_row: int, part_number: int) -> Part | None: ...
    def parts(self, upload_row: int, *, after: int = 0, limit: int | None = None) -> list[Part]:
        """By part number, those greater than ``after``."""

    def completion(self, bucket_id: int, key: str, upload_id: str) -> Completion | None: ...

    # -- the outbox and the delivery log
    def outbox_due(self, *, now_ms: int, limit: int) -> list[str]:
        """The lanes of entries that are due, earliest first; one for each entry."""

    def outbox_next(self, *, now_ms: int) -> int | None:
        """When the next entry is due that is not due yet."""

    def outbox_lanes(self, *, after: str, limit: int) -> list[tuple[str, int]]:
        """Lanes with waiting entries, by name, those greater than ``after``: each with its earliest time."""

    def outbox_entry(self, entry_id: str) -> OutboxEntry | None: ...
    def outbox_entries(self, chosen: Chosen, *, dead: bool, limit: int) -> list[OutboxEntry]:
        """Those that wait, or those that are given up, newest first."""

    def outbox_figures(self) -> OutboxFigures: ...
    def deliveries(self, entry_id: str, *, limit: int) -> list[Delivery]:
        """The latest attempts of one message, oldest first."""

    def settled_deliveries(self, chosen: Chosen, *, ok: bool, limit: int) -> list[Delivery]:
        """The last attempt of each message that is not in the outbox, newest first."""

    def counters(self) -> dict[str, int]:
        """What `Tx.count` has added up."""

    # -- uploads that a gate decides about
    def pending(self, row: int) -> Pending | None: ...
    def undecided_callback(self, fingerprint: str) -> str:
        """The webhook-id of an upload that is the same and not decided yet; "" without one."""

    def expired_pending(self, *, before_ms: int, limit: int) -> list[Pending]:
        """Those whose time was over before then, oldest first."""

    def version_at(self, row: int) -> ObjectVersion | None:
        """A version by its row."""

    # -- access logs
    def waiting_lines(self) -> list[WaitingLines]:
        """What waits to be delivered, by destination."""

    def log_lines(self, destination: str, *, limit: int) -> list[tuple[int, bytes]]:
        """Rows of lines for a destination, each with its number, the oldest first."""

    # -- upkeep
    def due_garbage(self, *, before_ms: int, limit: int) -> list[BlobId]:
        """Blobs without a reference since before then."""

    def is_referenced(self, blob: BlobId) -> bool:
        """True while some version, segment, part or pending upload holds the blob."""

    def known_blobs(self, blobs: Sequence[BlobId]) -> set[BlobId]:
        """Those of ``blobs`` that the index knows, garbage included."""

    def stored_blobs(self, *, after: str = "", limit: int) -> list[tuple[BlobId, int, int, bool]]:
        """Every blob row by id: id, size, references, kept inline. For `s3lite check`."""

    def reference_faults(self, *, limit: int) -> list[str]:
        """Human-readable contradictions inside the index (counts, missing rows); [] when it is sound."""

    def quotas(self) -> list[Quota]: ...
    def quotas_of(self, bucket: Bucket) -> list[Quota]:
        """A bucket's own and its owner's, those that there are. `Bucket.configs` says whether to ask."""

    def counts(self) -> dict[str, int]:
        """buckets, objects, versions, bytes, uploads, parts, pending, blobs, inline, garbage."""

    def setting(self, name: str) -> bytes | None:
        """A value of the installation itself (signing keys …)."""


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

    def put_annotation(self, row: int, annotation: Annotation, *, stored: Stored | None) -> None:
        """Add or replace a version's annotation; ``stored`` None: its blob is known and gets one more reference.

        Whoever changes annotations has asked for the version in the same transaction.
        """

    def remove_annotation(self, row: int, name: str) -> bool:
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
