"""The catalog's changes as SQL, for every engine; see `sql` for what statements keep to.

Counting: what a version or part holds is counted in ``blobs.refs``, for many rows by one statement. A
version that is removed gives its references back when its ``work`` ends (`SqlTx.settle`), so that it
can be copied over itself: remove it, then insert a copy of it. A blob that has reached ``garbage``
is never referenced again, because the sweeper may be removing its bytes: such a copy is a LookupError.
"""
# ruff: noqa: S608  # only the constants of this package are put together; values are always bound

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from s3lite.catalog import rows
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql import Session, SqlRead
from s3lite.catalog.sql_access_log import AccessLogChanges
from s3lite.catalog.sql_accounts import AccountChanges
from s3lite.catalog.sql_annotations import AnnotationChanges
from s3lite.catalog.sql_completions import CompletionChanges
from s3lite.catalog.sql_outbox import OutboxSql
from s3lite.catalog.sql_pending import PendingChanges
from s3lite.model import (
    UNLOCKED,
    Acl,
    BlobId,
    Bucket,
    Checksum,
    Encryption,
    ObjectHead,
    ObjectLock,
    ObjectVersion,
    Part,
    Pending,
    Segment,
    Stored,
    Upload,
)

_LATEST_ROW = "(SELECT row FROM versions WHERE bucket_id = ? AND key = ? ORDER BY row DESC LIMIT 1)"
_DEMOTE = f"UPDATE versions SET is_latest = FALSE WHERE row = {_LATEST_ROW}"
_PROMOTE = f"UPDATE versions SET is_latest = TRUE WHERE row = {_LATEST_ROW}"

_INSERT_VERSION = f"""
INSERT INTO versions (
    bucket_id, key, version_id, is_latest, is_delete_marker, size, etag, modified_ms, owner_id, blob,
    part_count, checksum_algorithm, checksum_value, checksum_type, storage_class, head, tags, acl,
    {rows.LOCK_COLUMNS}, {rows.ENCRYPTION_COLUMNS})
VALUES (?, ?, ?, TRUE, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING row"""

_HOLD_SEGMENTS = """
UPDATE blobs SET refs = refs + held.n
FROM (SELECT blob, count(*) AS n FROM segments WHERE row = ? AND blob IS NOT NULL GROUP BY blob) AS held
WHERE blobs.id = held.blob"""
_RELEASE_SEGMENTS = _HOLD_SEGMENTS.replace("refs + held.n", "refs - held.n")
_DISCARD = """
INSERT INTO garbage (blob, since_ms) SELECT id, CAST(? AS INTEGER) FROM blobs WHERE id = ? AND refs = 0"""
_DISCARD_SEGMENTS = """
INSERT INTO garbage (blob, since_ms)
SELECT DISTINCT blob, CAST(? AS INTEGER) FROM segments JOIN blobs ON blobs.id = blob
WHERE row = ? AND refs = 0"""
_RELEASE_ANNOTATIONS = _RELEASE_SEGMENTS.replace("FROM segments", "FROM annotations")
_DISCARD_ANNOTATIONS = _DISCARD_SEGMENTS.replace("FROM segments", "FROM annotations")
_RELEASE_PARTS = _RELEASE_SEGMENTS.replace("segments WHERE row", "parts WHERE upload_row")
_DISCARD_PARTS = _DISCARD_SEGMENTS.replace("segments JOIN", "parts JOIN").replace("row = ?", "upload_row = ?")

_CHOSEN_PARTS = "upload_row = ? AND part_number IN (SELECT CAST(value AS INTEGER) FROM json_each(?))"
_MEASURE_PARTS = f"SELECT count(*), coalesce(sum(size), 0) FROM parts WHERE {_CHOSEN_PARTS}"
_PARTS_TO_SEGMENTS = f"""
INSERT INTO segments (row, {rows.SEGMENT_COLUMNS})
SELECT CAST(? AS INTEGER), {rows.SEGMENT_COLUMNS} FROM parts WHERE {_CHOSEN_PARTS}"""
_FORGET_PARTS = f"DELETE FROM parts WHERE {_CHOSEN_PARTS}"
_COPY_SEGMENTS = f"""
INSERT INTO segments (row, {rows.SEGMENT_COLUMNS})
SELECT CAST(? AS INTEGER), {rows.SEGMENT_COLUMNS} FROM segments WHERE row = ?"""


class SqlTx(
    SqlRead, AccountChanges, OutboxSql, PendingChanges, AccessLogChanges, AnnotationChanges, CompletionChanges
):
    """`Tx` on a session inside a transaction. The engine calls `settle` when ``work`` has returned."""

    def __init__(self, session: Session, secrets: SecretBox, time_ms: Callable[[], int]) -> None:
        super().__init__(session, secrets)
        self._time_ms = time_ms
        self._removed: list[tuple[int, BlobId | None, int, int]] = []  # row, blob, parts, annotations
        self._begin_counting()

    def settle(self) -> None:
        """Give back the references of removed versions, and bring counters up to date."""
        self.settle_quotas()
        for row, blob, part_count, annotated in self._removed:
            self._release(blob)
            if annotated:
                self._session.later(_RELEASE_ANNOTATIONS, (row,))
                self._session.later(_DISCARD_ANNOTATIONS, (self._time_ms(), row))
                self._session.later("DELETE FROM annotations WHERE row = ?", (row,))
            if part_count:
                self._session.later(_RELEASE_SEGMENTS, (row,))
                self._session.later(_DISCARD_SEGMENTS, (self._time_ms(), row))
                self._session.later("DELETE FROM segments WHERE row = ?", (row,))

    # -- references

    def _add(self, stored: Stored | None) -> None:
        """Enter new bytes, held once."""
        if stored is None or stored.id is None:
            return
        if stored.data is not None:
            self._session.later("INSERT INTO inline (data) VALUES (?)", (stored.data,))
        inline_row = "NULL" if stored.data is None else "last_insert_rowid()"
        self._session.later(
            f"INSERT INTO blobs (id, size, refs, inline_row, sealed_checksum) VALUES (?, ?, 1, {inline_row}, ?)",
            (stored.id, stored.kept_size, stored.sealed_checksum),
        )

    def _hold(self, blob: BlobId | None) -> None:
        """Count one reference more."""
        if blob is not None and not self._session.run(
            "UPDATE blobs SET refs = refs + 1 WHERE id = ? AND refs > 0", (blob,)
        ):
            raise LookupError(f"blob {blob} is gone")

    def _release(self, blob: BlobId | None) -> None:
        """Count one reference less."""
        if blob is None:
            return
        self._session.later("UPDATE blobs SET refs = refs - 1 WHERE id = ?", (blob,))
        self._session.later(_DISCARD, (self._time_ms(), blob))

    # -- buckets

    def bucket(self, name: str) -> Bucket | None:
        found = super().bucket(name)
        if found is not None:
            self._known[found.id] = found
        return found

    def delete_bucket(self, bucket_id: int) -> None:
        """It must hold no version (ValueError)."""
        for (row,) in self._session.all("SELECT row FROM uploads WHERE bucket_id = ?", (bucket_id,)):
            self._drop_upload(bucket_id, row)
        for (row,) in self._session.all("SELECT row FROM pending WHERE bucket_id = ?", (bucket_id,)):
            self.remove_pending(row)
        self._forget_quota(bucket_id)
        self._session.run("DELETE FROM buckets WHERE id = ?", (bucket_id,))

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
        """A repeated version id is a ValueError, a source that is gone a LookupError."""
        blob, part_count = stored.id if stored else None, 0
        if copy_of is not None:
            blob, part_count = copy_of.blob, copy_of.part_count
            encryption = encryption or copy_of.encryption
            self._check_segments(copy_of)
            self._hold(blob)
        elif pending is not None:
            blob = self.take_pending(pending.row)
        else:
            self._add(stored)
        version = ObjectVersion(
            row=0,
            bucket_id=bucket_id,
            key=key,
            version_id=version_id,
            size=size,
            etag=etag,
            modified_ms=modified_ms,
            owner_id=owner_id,
            head=head,
            acl=acl,
            is_delete_marker=is_delete_marker,
            blob=blob,
            part_count=part_count,
            checksum=checksum,
            lock=lock,
            encryption=encryption,
        )
        version = self._enter(version)
        if copy_of is not None and part_count:
            self._session.later(_COPY_SEGMENTS, (version.row, copy_of.row))
            self._session.later(_HOLD_SEGMENTS, (version.row,))
        return version

    def _check_segments(self, version: ObjectVersion) -> None:
        if version.part_count:
            found = self._session.one("SELECT count(*) FROM segments WHERE row = ?", (version.row,))
            if found != (version.part_count,):
                raise LookupError(f"the segments of version {version.row} are gone")

    def _enter(self, version: ObjectVersion) -> ObjectVersion:
        """Write the row as the latest of its key; the version with its row number."""
        key = version.key.encode()
        self._session.later(_DEMOTE, (version.bucket_id, key))
        row = self._session.one(
            _INSERT_VERSION,
            (
                version.bucket_id,
                key,
                version.version_id,
                version.is_delete_marker,
                version.size,
                version.etag,
                version.modified_ms,
                version.owner_id,
                version.blob,
                version.part_count,
                *rows.encode_checksum(version.checksum),
                version.head.storage_class,
                rows.encode_head(version.head),
                rows.encode_tags(version.head.tags),
                rows.encode_acl(version.acl),
                *rows.encode_lock(version.lock),
                *rows.encode_encryption(version.encryption),
            ),
        )
        assert row is not None
        self._grow(version.bucket_id, version.size, 0 if version.is_delete_marker else 1)
        return dataclasses.replace(version, row=row[0])

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
        self._add(stored)
        self._session.run(
            f"INSERT INTO segments (row, {rows.SEGMENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (version.row, *dataclasses.astuple(segment)),
        )
        grown = dataclasses.replace(
            version,
            size=version.size + segment.size,
            etag=etag,
            modified_ms=modified_ms,
            head=head,
            part_count=segment.part_number,
            checksum=checksum,
            encryption=encryption,
        )
        self._session.run(
            "UPDATE versions SET size = ?, etag = ?, modified_ms = ?, head = ?, part_count = ?, "
            "checksum_algorithm = ?, checksum_value = ?, checksum_type = ?, master = ?, encryption = ? "
            "WHERE row = ?",
            (
                grown.size,
                etag,
                modified_ms,
                rows.encode_head(head),
                grown.part_count,
                *rows.encode_checksum(checksum),
                *rows.encode_encryption(encryption),
                version.row,
            ),
        )
        self._grow(version.bucket_id, segment.size, 0)
        return grown

    @property
    def parts_removed(self) -> int:
        return sum(part_count for _, _, part_count, _ in self._removed)

    def remove_version(self, version: ObjectVersion) -> None:
        """One that is gone already is left at that."""
        removed = self._session.one(
            "DELETE FROM versions WHERE row = ? "
            "RETURNING blob, part_count, is_latest, size, is_delete_marker, annotations",
            (version.row,),
        )
        if removed is None:
            return
        blob, part_count, was_latest, size, was_marker, annotated = removed
        if annotated:
            self._grow_by_annotations(version.bucket_id, version.row)
        self._grow(version.bucket_id, -size, 0 if was_marker else -1)
        if was_latest:
            self._session.later(_PROMOTE, (version.bucket_id, version.key.encode()))
        self._removed.append((version.row, blob, part_count, annotated))

    def update_version(
        self,
        row: int,
        *,
        acl: Acl | None = None,
        tags: tuple[tuple[str, str], ...] | None = None,
        lock: ObjectLock | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        if acl is not None:
            self._session.run("UPDATE versions SET acl = ? WHERE row = ?", (rows.encode_acl(acl), row))
        if tags is not None:
            self._session.run("UPDATE versions SET tags = ? WHERE row = ?", (rows.encode_tags(tags), row))
        if lock is not None:
            self._session.run(
                "UPDATE versions SET lock_mode = ?, retain_until_ms = ?, legal_hold = ? WHERE row = ?",
                (*rows.encode_lock(lock), row),
            )
        if encryption is not None:
            self._session.run(
                "UPDATE versions SET master = ?, encryption = ? WHERE row = ?",
                (*rows.encode_encryption(encryption), row),
            )

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
    ) -> Upload:
        row = self._session.one(
            "INSERT INTO uploads (upload_id, bucket_id, key, owner_id, initiator_id, initiated_ms, "
            "checksum_algorithm, checksum_type, callback, callback_var, callback_access_key, storage_class, "
            f"head, tags, acl, {rows.LOCK_COLUMNS}, {rows.ENCRYPTION_COLUMNS}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            f"RETURNING {rows.UPLOAD_COLUMNS}",
            (
                upload_id,
                bucket_id,
                key.encode(),
                owner_id,
                initiator_id,
                initiated_ms,
                checksum_algorithm,
                checksum_type,
                callback,
                callback_var,
                callback_access_key,
                head.storage_class,
                rows.encode_head(head),
                rows.encode_tags(head.tags),
                rows.encode_acl(acl),
                *rows.encode_lock(lock),
                *rows.encode_encryption(encryption),
            ),
        )
        assert row is not None
        return rows.upload(row)

    def update_upload(self, row: int, *, encryption: Encryption) -> None:
        self._session.run(
            "UPDATE uploads SET master = ?, encryption = ? WHERE row = ?",
            (*rows.encode_encryption(encryption), row),
        )

    def put_part(self, upload_row: int, part: Part, *, stored: Stored | None) -> None:
        """An upload that is gone is a ValueError, a blob that is gone a LookupError."""
        if stored is None:
            self._hold(part.blob)
        else:
            self._add(stored)
        replaced = self.part(upload_row, part.part_number)
        self._session.later(
            f"INSERT INTO parts (upload_row, {rows.PART_COLUMNS}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (upload_row, part_number) DO UPDATE SET "
            "size = excluded.size, etag = excluded.etag, modified_ms = excluded.modified_ms, "
            "blob = excluded.blob, checksum = excluded.checksum, sealed_key = excluded.sealed_key",
            (
                upload_row,
                part.part_number,
                part.size,
                part.etag,
                part.modified_ms,
                part.blob,
                part.checksum,
                part.sealed_key,
            ),
        )
        self._grow(
            self._bucket_of_upload(upload_row), part.size - (replaced.size if replaced is not None else 0), 0
        )
        if replaced is not None:
            self._release(replaced.blob)

    def upload(self, bucket_id: int, key: str, upload_id: str) -> Upload | None:
        found = super().upload(bucket_id, key, upload_id)
        if found is not None:
            self._uploads[found.row] = bucket_id
        return found

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
        """A named part that is missing is a LookupError."""
        chosen = (upload.row, rows.encode_list(list(part_numbers)))
        measured = self._session.one(_MEASURE_PARTS, chosen)
        assert measured is not None
        count, size = measured
        if count != len(part_numbers):
            raise LookupError(f"upload {upload.upload_id} has {count} of the {len(part_numbers)} parts named")
        version = self._enter(
            ObjectVersion(
                row=0,
                bucket_id=upload.bucket_id,
                key=upload.key,
                version_id=version_id,
                size=size,
                etag=etag,
                modified_ms=modified_ms,
                owner_id=upload.owner_id,
                head=upload.head,
                acl=upload.acl,
                part_count=count,
                checksum=checksum,
                lock=lock,
                encryption=encryption or upload.encryption,
            )
        )
        self._grow(upload.bucket_id, -size, 0)  # parts until now
        self._session.later(_PARTS_TO_SEGMENTS, (version.row, *chosen))
        self._session.later(_FORGET_PARTS, chosen)
        self._drop_upload(upload.bucket_id, upload.row)
        return version

    def remove_upload(self, upload: Upload) -> None:
        self._drop_upload(upload.bucket_id, upload.row)

    def _drop_upload(self, bucket_id: int, row: int) -> None:
        """Release what parts there are, then delete them and the upload."""
        self._grow_by_parts(bucket_id, row)
        self._session.later(_RELEASE_PARTS, (row,))
        self._session.later(_DISCARD_PARTS, (self._time_ms(), row))
        self._session.later("DELETE FROM uploads WHERE row = ?", (row,))

    # -- upkeep

    def forget_garbage(self, blobs: Sequence[BlobId]) -> None:
        names = (rows.encode_list(list(blobs)),)
        self._session.run(
            "DELETE FROM inline WHERE row IN (SELECT inline_row FROM blobs "
            "WHERE id IN (SELECT value FROM json_each(?)) AND refs = 0)",
            names,
        )
        self._session.run(
            "DELETE FROM blobs WHERE id IN (SELECT value FROM json_each(?)) AND refs = 0", names
        )

    def take_lease(self, name: str, *, holder: str, ttl_s: float) -> bool:
        """`Catalog.lease` inside a transaction."""
        now_ms = self._time_ms()
        row = self._session.one(
            "INSERT INTO leases (name, holder, expires_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
            "SET holder = excluded.holder, expires_ms = excluded.expires_ms "
            "WHERE leases.holder = excluded.holder OR leases.expires_ms <= ? RETURNING name",
            (name, holder, now_ms + int(ttl_s * 1000), now_ms),
        )
        return row is not None
