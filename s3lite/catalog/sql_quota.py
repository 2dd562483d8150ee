"""Quotas and their counters as SQL, for every engine; see `sql` for what statements keep to.

Only buckets that have a quota, or whose owner has one, are counted; ``quota`` among their `Bucket.configs`
says so. What a transaction adds and takes away is summed up and written once, when its work has ended: one
statement, which waits for others that count the same bucket, so that the sum it gives back is exact. A
transaction that has read its bucket anyhow asks nothing for buckets that are not counted.

Counted are the bytes of versions, of their annotations and of parts of open uploads, copies in full, and the number of versions
that are no delete markers.
"""
# ruff: noqa: S608  # only the constants of this package are put together; values are always bound

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from s3lite.catalog import rows
from s3lite.model import QUOTA, Bucket, Quota

if TYPE_CHECKING:
    from s3lite.catalog.sql import Session

_COLUMNS = "subject, max_bytes, max_objects, bytes, objects"
_COUNT = (
    f"UPDATE quotas SET bytes = bytes + ?, objects = objects + ? WHERE subject IN (?, ?) RETURNING {_COLUMNS}"
)
_HELD = """
SELECT id, owner_id,
       (SELECT coalesce(sum(size), 0) FROM versions WHERE bucket_id = buckets.id) +
       (SELECT coalesce(sum(parts.size), 0) FROM parts JOIN uploads ON uploads.row = upload_row
        WHERE bucket_id = buckets.id) +
       (SELECT coalesce(sum(annotations.size), 0) FROM annotations JOIN versions ON versions.row = annotations.row
        WHERE bucket_id = buckets.id) AS size,
       (SELECT count(*) FROM versions WHERE bucket_id = buckets.id AND NOT is_delete_marker) AS n
FROM buckets"""

FAULTS = f"""
SELECT 'quota of ' || subject || ': counts ' || bytes || ' bytes and ' || objects || ' objects, has '
    || coalesce(size, 0) || ' and ' || coalesce(n, 0)
FROM quotas LEFT JOIN (
    SELECT 'bucket ' || id AS holder, size, n FROM ({_HELD}) AS of_buckets
    UNION ALL
    SELECT 'account ' || owner_id, sum(size), sum(n) FROM ({_HELD}) AS of_accounts GROUP BY owner_id
) AS held ON holder = subject
WHERE bytes <> coalesce(size, 0) OR objects <> coalesce(n, 0)"""
"""For `ReadTx.reference_faults`."""


def of_bucket(bucket_id: int) -> str:
    """The subject of a bucket's quota."""
    return f"bucket {bucket_id}"


def of_account(account_id: str) -> str:
    """The subject of an account's quota."""
    return f"account {account_id}"


class _Reading(Protocol):
    _session: Session


class QuotaQuestions:
    """Questions about quotas."""

    def quotas(self: _Reading) -> list[Quota]:
        """All of them, by subject."""
        found = self._session.all(f"SELECT {_COLUMNS} FROM quotas ORDER BY subject")
        return [Quota(*row) for row in found]

    def quotas_of(self: _Reading, bucket: Bucket) -> list[Quota]:
        found = self._session.all(
            f"SELECT {_COLUMNS} FROM quotas WHERE subject IN (?, ?)",
            (of_bucket(bucket.id), of_account(bucket.owner_id)),
        )
        return [Quota(*row) for row in found]


class QuotaChanges:
    """Changes of quotas and their counters, inside a transaction."""

    _session: Session

    def _begin_counting(self) -> None:
        self._known: dict[int, Bucket] = {}  # buckets that this transaction has read
        self._uploads: dict[int, int] = {}  # uploads that it has read, and their buckets
        self._grown: dict[int, tuple[int, int]] = {}  # bytes and objects, by bucket

    def _grow(self, bucket_id: int, size: int, objects: int) -> None:
        known = self._grown.get(bucket_id, (0, 0))
        self._grown[bucket_id] = (known[0] + size, known[1] + objects)

    def _bucket(self, bucket_id: int) -> Bucket | None:
        known = self._known.get(bucket_id)
        if known is None:
            row = self._session.one(f"SELECT {rows.BUCKET_COLUMNS} FROM buckets WHERE id = ?", (bucket_id,))
            if row is None:
                return None
            known = self._known[bucket_id] = rows.bucket(row)
        return known

    def _is_counted(self, bucket_id: int) -> bool:
        bucket = self._bucket(bucket_id)
        return bucket is not None and QUOTA in bucket.configs

    def _bucket_of_upload(self, upload_row: int) -> int:
        known = self._uploads.get(upload_row)
        if known is None:
            row = self._session.one("SELECT bucket_id FROM uploads WHERE row = ?", (upload_row,))
            known = row[0] if row else 0
        return known

    def _grow_by_parts(self, bucket_id: int, upload_row: int) -> None:
        """The parts of an upload that are about to go."""
        if self._is_counted(bucket_id):
            row = self._session.one(
                "SELECT coalesce(sum(size), 0) FROM parts WHERE upload_row = ?", (upload_row,)
            )
            self._grow(bucket_id, -row[0] if row else 0, 0)

    def _grow_by_annotations(self, bucket_id: int, row: int) -> None:
        """The annotations of a version that has gone."""
        if self._is_counted(bucket_id):
            found = self._session.one("SELECT coalesce(sum(size), 0) FROM annotations WHERE row = ?", (row,))
            self._grow(bucket_id, -found[0] if found else 0, 0)

    def settle_quotas(self) -> list[Quota]:
        """Write what has been added and taken away since; the quotas concerned, as they are now."""
        if not self._grown:
            return []
        grown, self._grown = self._grown, {}
        found: list[Quota] = []
        for bucket_id, (size, objects) in grown.items():
            if (size or objects) and self._is_counted(bucket_id):
                owner_id = self._known[bucket_id].owner_id
                changed = self._session.all(
                    _COUNT, (size, objects, of_bucket(bucket_id), of_account(owner_id))
                )
                found += [Quota(*row)._replace(added_bytes=size, added_objects=objects) for row in changed]
        return found

    # -- setting them

    def put_bucket_quota(self, bucket: Bucket, *, max_bytes: int | None, max_objects: int | None) -> None:
        self._put_quota(of_bucket(bucket.id), [bucket], max_bytes, max_objects)

    def put_account_quota(self, account_id: str, *, max_bytes: int | None, max_objects: int | None) -> None:
        self._lock_account(account_id)
        self._put_quota(of_account(account_id), self._buckets_of(account_id), max_bytes, max_objects)

    def recount(self, subject: str) -> None:
        kind, _, name = subject.partition(" ")
        if kind == "account":
            self._lock_account(name)
        bucket = self._bucket(int(name)) if kind == "bucket" else None
        buckets = self._buckets_of(name) if kind == "account" else [bucket] if bucket else []
        for each in buckets:
            self._lock_bucket(each)
        self._measure(subject, buckets)

    def _put_quota(
        self, subject: str, buckets: list[Bucket], max_bytes: int | None, max_objects: int | None
    ) -> None:
        self.settle_quotas()
        for bucket in buckets:
            self._lock_bucket(bucket)
        if max_bytes is None and max_objects is None:
            self._session.run("DELETE FROM quotas WHERE subject = ?", (subject,))
        else:
            self._session.run(
                f"INSERT INTO quotas ({_COLUMNS}) VALUES (?, ?, ?, 0, 0) ON CONFLICT (subject) DO UPDATE "
                "SET max_bytes = excluded.max_bytes, max_objects = excluded.max_objects",
                (subject, max_bytes, max_objects),
            )
        for bucket in buckets:
            self._note_configs(bucket.id)
        self._measure(subject, buckets)

    def _measure(self, subject: str, buckets: list[Bucket]) -> None:
        """Count anew. The buckets are locked: whoever counts has ended, or sees the quota."""
        measured = [
            self._session.one(f"SELECT size, n FROM ({_HELD}) AS held WHERE id = ?", (bucket.id,)) or (0, 0)
            for bucket in buckets
        ]
        totals = (sum(row[0] for row in measured), sum(row[1] for row in measured))
        self._session.run("UPDATE quotas SET bytes = ?, objects = ? WHERE subject = ?", (*totals, subject))

    def _lock_bucket(self, bucket: Bucket) -> None:
        """On engines whose transactions run side by side: wait for those that have read the bucket."""
        self._session.run("UPDATE buckets SET versioning = versioning WHERE id = ?", (bucket.id,))
        self._known.pop(bucket.id, None)

    def _lock_account(self, account_id: str) -> None:
        """The same for the making of buckets (`_has_account_quota`)."""
        self._session.one("SELECT id FROM accounts WHERE id = ?", (account_id,))

    def _buckets_of(self, account_id: str) -> list[Bucket]:
        found = self._session.all(
            f"SELECT {rows.BUCKET_COLUMNS} FROM buckets WHERE owner_id = ? ORDER BY name", (account_id,)
        )
        return [rows.bucket(row) for row in found]

    def _has_account_quota(self, account_id: str) -> bool:
        self._lock_account(account_id)
        found = self._session.one("SELECT 1 FROM quotas WHERE subject = ?", (of_account(account_id),))
        return found is not None

    def _note_configs(self, bucket_id: int) -> None:
        """Keep the names of what a bucket has beside its row."""
        found = self._session.all("SELECT name FROM bucket_configs WHERE bucket_id = ?", (bucket_id,))
        names = [row[0] for row in found]
        bucket = self._bucket(bucket_id)
        if bucket is not None and self._session.one(
            "SELECT 1 FROM quotas WHERE subject IN (?, ?)",
            (of_bucket(bucket_id), of_account(bucket.owner_id)),
        ):
            names.append(QUOTA)
        self._session.run("UPDATE buckets SET configs = ? WHERE id = ?", (" ".join(names), bucket_id))
        self._known.pop(bucket_id, None)

    def _forget_quota(self, bucket_id: int) -> None:
        """Of a bucket that goes: its owner's is counted down first."""
        self.settle_quotas()
        if self._is_counted(bucket_id):
            self._session.run("DELETE FROM quotas WHERE subject = ?", (of_bucket(bucket_id),))
