"""Annotations of versions, as SQL: the part of `sql` and `sql_write` that is theirs.

They change under the lock of their version's key, which whoever changes them asks for first; a version
counts its annotations, so that most look for none. Their references go with the version (`SqlTx.settle`).
"""
# ruff: noqa: S608  # only the constants of this package are put together; values are always bound

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from s3lite.catalog import rows
from s3lite.model import Annotation, BlobId, ObjectVersion, Stored

if TYPE_CHECKING:
    from s3lite.catalog.sql import Session

_ANNOTATIONS = f"SELECT {rows.ANNOTATION_COLUMNS} FROM annotations WHERE row = ?"
_COUNT = "UPDATE versions SET annotations = annotations + CAST(? AS INTEGER) WHERE row = ?"


class AnnotationQuestions:
    """Questions about them, on a session."""

    _session: Session

    def annotation(self, row: int, name: str) -> Annotation | None:
        found = self._session.one(_ANNOTATIONS + " AND name = ?", (row, name.encode()))
        return rows.annotation(found) if found else None

    def annotations(
        self, row: int, *, prefix: str = "", after: str = "", limit: int = 1 << 31
    ) -> list[Annotation]:
        lower = prefix.encode()
        found = self._session.all(
            _ANNOTATIONS + " AND name >= ? AND name < ? AND name > ? ORDER BY name LIMIT ?",
            (row, lower, lower + b"\xff", after.encode(), limit),
        )
        return [rows.annotation(each) for each in found]


class _Counting(Protocol):
    """What the changes need of `sql_write.SqlTx`."""

    _session: Session

    def _add(self, stored: Stored | None) -> None: ...
    def _hold(self, blob: BlobId | None) -> None: ...
    def _release(self, blob: BlobId | None) -> None: ...
    def _grow(self, bucket_id: int, size: int, objects: int) -> None: ...
    def annotation(self, row: int, name: str) -> Annotation | None: ...


class AnnotationChanges:
    """Changes of them, inside a transaction."""

    def put_annotation(
        self: _Counting, version: ObjectVersion, annotation: Annotation, *, stored: Stored | None
    ) -> None:
        """A blob or a version that is gone is a LookupError."""
        row = version.row
        if stored is None:
            self._hold(annotation.blob)
        else:
            self._add(stored)
        replaced = self.annotation(row, annotation.name)
        if replaced is None and not self._session.run(_COUNT, (1, row)):
            raise LookupError(f"version {row} is gone")
        self._session.run(
            f"INSERT INTO annotations (row, {rows.ANNOTATION_COLUMNS}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (row, name) DO UPDATE SET size = excluded.size, "
            "etag = excluded.etag, modified_ms = excluded.modified_ms, blob = excluded.blob, "
            "checksum_algorithm = excluded.checksum_algorithm, checksum_value = excluded.checksum_value, "
            "sealed_key = excluded.sealed_key",
            (
                row,
                annotation.name.encode(),
                annotation.size,
                annotation.etag,
                annotation.modified_ms,
                annotation.blob,
                annotation.checksum.algorithm,
                annotation.checksum.value,
                annotation.sealed_key,
            ),
        )
        self._grow(version.bucket_id, annotation.size - (replaced.size if replaced is not None else 0), 0)
        if replaced is not None:
            self._release(replaced.blob)

    def remove_annotation(self: _Counting, version: ObjectVersion, name: str) -> bool:
        removed = self._session.one(
            "DELETE FROM annotations WHERE row = ? AND name = ? RETURNING blob, size",
            (version.row, name.encode()),
        )
        if removed is None:
            return False
        self._release(removed[0])
        self._grow(version.bucket_id, -removed[1], 0)
        self._session.run(_COUNT, (-1, version.row))
        return True
