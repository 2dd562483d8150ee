"""The questions of the catalog's protocol, and what some of them are put and answered with; see `base`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from s3lite.messages import Delivery, OutboxEntry
from s3lite.model import (
    AccessKey,
    Account,
    Annotation,
    BlobId,
    Bucket,
    Completion,
    ListedObject,
    ListedVersion,
    ObjectVersion,
    Part,
    Pending,
    Quota,
    Segment,
    Upload,
)


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


class Garbage(NamedTuple):
    """A blob that nothing needs any more."""

    blob: BlobId
    size: int
    is_inline: bool  # kept in the index


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

    def bucket_and_current(self, name: str, key: str) -> tuple[Bucket, ObjectVersion | None] | None:
        """A bucket and the latest version of a key in it, in one question; None: there is no such bucket."""

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

    def count_uploads(self, bucket_id: int, *, most: int) -> int:
        """How many are open; counted up to ``most``."""

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
    def due_garbage(self, *, before_ms: int, limit: int) -> list[Garbage]:
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
