"""Uploads that a gate decides about, as SQL: the part of `sql` and `sql_write` that is theirs.

Every statement is right by itself beside others at work (`dialect.BY_ROW`).
"""
# ruff: noqa: S608  # only the constants of this package are put together; values are always bound

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from s3lite.catalog import rows
from s3lite.model import BlobId, ObjectVersion, Pending, Stored

if TYPE_CHECKING:
    from s3lite.catalog.sql import Session

_PENDING = f"SELECT {rows.PENDING_COLUMNS} FROM pending"


class PendingQuestions:
    """Questions about them, on a session."""

    _session: Session

    def pending(self, row: int) -> Pending | None:
        found = self._session.one(_PENDING + " WHERE row = ?", (row,))
        return rows.pending(found) if found else None

    def undecided_callback(self, fingerprint: str) -> str:
        found = self._session.one(
            "SELECT callback_id FROM pending WHERE fingerprint = ? ORDER BY row DESC LIMIT 1", (fingerprint,)
        )
        return found[0] if found else ""

    def expired_pending(self, *, before_ms: int, limit: int) -> list[Pending]:
        found = self._session.all(
            _PENDING + " WHERE expires_ms < ? ORDER BY expires_ms LIMIT ?", (before_ms, limit)
        )
        return [rows.pending(each) for each in found]

    def version_at(self, row: int) -> ObjectVersion | None:
        found = self._session.one(f"SELECT {rows.VERSION_COLUMNS} FROM versions WHERE row = ?", (row,))
        return rows.object_version(found) if found else None


class _Counting(Protocol):
    """What the changes need of `sql_write.SqlTx`."""

    _session: Session

    def _add(self, stored: Stored | None) -> None: ...
    def _release(self, blob: BlobId | None) -> None: ...


class PendingChanges:
    """Changes of them, inside a transaction."""

    def put_pending(
        self: _Counting, pending: Pending, *, stored: Stored | None, now_ms: int
    ) -> Pending | None:
        if pending.fingerprint:
            self._session.run(
                "DELETE FROM pending WHERE fingerprint = ? AND token_hash = ''", (pending.fingerprint,)
            )
        if pending.upload_id:
            self._session.run(
                "DELETE FROM pending WHERE upload_id = ? AND expires_ms < ?", (pending.upload_id, now_ms)
            )
        found = self._session.one(
            "INSERT INTO pending (callback_id, fingerprint, bucket_id, key, size, etag, expires_ms, "
            f"token_hash, blob, upload_id, part_numbers, source_row, {rows.ENCRYPTION_COLUMNS}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (upload_id) DO NOTHING RETURNING row",
            (
                pending.callback_id,
                pending.fingerprint,
                pending.bucket_id,
                pending.key.encode(),
                pending.size,
                pending.etag,
                pending.expires_ms,
                pending.token_hash,
                stored.id if stored else None,
                pending.upload_id or None,
                rows.encode_list(pending.part_numbers),
                pending.source_row,
                *rows.encode_encryption(pending.encryption),
            ),
        )
        if found is None:
            return None
        self._add(stored)
        return dataclasses.replace(pending, row=found[0], blob=stored.id if stored else None)

    def remove_pending(self: _Counting, row: int) -> bool:
        removed = self._session.one("DELETE FROM pending WHERE row = ? RETURNING blob", (row,))
        if removed is None:
            return False
        self._release(removed[0])
        return True

    def take_pending(self: _Counting, row: int) -> BlobId | None:
        """Remove the row and keep its reference, for a version that takes over. Raises LookupError."""
        removed = self._session.one("DELETE FROM pending WHERE row = ? RETURNING blob", (row,))
        if removed is None:
            raise LookupError(f"the pending upload {row} is gone")
        return BlobId(removed[0]) if removed[0] else None

    def leave_undecided(self: _Counting, row: int, *, expires_ms: int) -> None:
        pending = self._session.one("SELECT blob FROM pending WHERE row = ? AND token_hash <> ''", (row,))
        if pending is not None and self._session.run(
            "UPDATE pending SET blob = NULL, upload_id = NULL, token_hash = '', expires_ms = ? "
            "WHERE row = ? AND token_hash <> ''",
            (expires_ms, row),
        ):
            self._release(pending[0])
