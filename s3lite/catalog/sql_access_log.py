"""Lines of access logs that wait for their delivery, as SQL; see `sql` for what statements keep to.

Rows are added, and taken away whole by whoever delivers them: every statement is right by itself beside
others (`dialect.BY_ROW`), and the count of what was taken away tells whether somebody else was first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from s3lite.catalog import rows
from s3lite.catalog.questions import WaitingLines

if TYPE_CHECKING:
    from s3lite.catalog.sql import Session


class AccessLogQuestions:
    """The questions."""

    _session: Session

    def waiting_lines(self) -> list[WaitingLines]:
        found = self._session.all(
            "SELECT destination, min(at_ms), sum(size) FROM access_log GROUP BY destination ORDER BY destination"
        )
        return [WaitingLines(*row) for row in found]

    def log_lines(self, destination: str, *, limit: int) -> list[tuple[int, bytes]]:
        found = self._session.all(
            "SELECT row, lines FROM access_log WHERE destination = ? ORDER BY row LIMIT ?",
            (destination, limit),
        )
        return [(row, bytes(lines)) for row, lines in found]


class AccessLogChanges:
    """The changes."""

    _session: Session

    def add_log_lines(self, destination: str, lines: bytes, *, at_ms: int) -> None:
        self._session.run(
            "INSERT INTO access_log (destination, at_ms, size, lines) VALUES (?, ?, ?, ?)",
            (destination, at_ms, len(lines), lines),
        )

    def remove_log_lines(self, numbers: Sequence[int]) -> int:
        return self._session.run(
            "DELETE FROM access_log WHERE row IN (SELECT CAST(value AS INTEGER) FROM json_each(?))",
            (rows.encode_list(numbers),),
        )

    def forget_log_lines(self, *, before_ms: int, limit: int) -> int:
        return self._session.run(
            "DELETE FROM access_log WHERE row IN (SELECT row FROM access_log WHERE at_ms < ? LIMIT ?)",
            (before_ms, limit),
        )
