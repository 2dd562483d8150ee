"""The outbox, the delivery log and their counters as SQL; see `sql` for what statements keep to.

Every statement is right by itself beside others of its kind, so no engine needs a lock for it: an entry is
taken by whoever finds it due in the very statement that makes it not due, and what became of an attempt
is written only over the lease under which it was made.
"""
# ruff: noqa: S608  # only the constants of this package are put together; values are always bound

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

from s3lite.catalog import rows
from s3lite.catalog.questions import Chosen, OutboxFigures
from s3lite.messages import Delivery, OutboxEntry, Settlement

if TYPE_CHECKING:
    from s3lite.catalog.sql import Session

_ENTRY = (
    "id, kind, bucket, key, event, destination, lane, request, body, created_ms, expires_ms, due_ms, attempts, "
    "holder, is_dead, status, message"
)
_DELIVERY = (
    "id, kind, mode, bucket, key, url, attempt, at_ms, cost_ms, status, message, cause, sent_bytes, "
    "received_bytes, body, answer"
)

# A seek per lane, and one more for its earliest entry: waiting entries of one lane cost the others nothing.
_LANES = """
WITH RECURSIVE lanes (lane) AS (
    SELECT (SELECT min(lane) FROM outbox WHERE NOT is_dead AND lane > ?)
    UNION ALL
    SELECT (SELECT min(lane) FROM outbox WHERE NOT is_dead AND lane > lanes.lane) FROM lanes
    WHERE lane IS NOT NULL)
SELECT lane, (SELECT min(due_ms) FROM outbox WHERE NOT is_dead AND outbox.lane = lanes.lane) AS due_ms
FROM lanes WHERE lane IS NOT NULL LIMIT ?"""

_TAKE = f"""
UPDATE outbox SET holder = ?, due_ms = ?, attempts = attempts + 1
WHERE row IN (SELECT row FROM outbox WHERE lane = ? AND NOT is_dead AND due_ms <= ? ORDER BY due_ms LIMIT ?)
AND NOT is_dead AND due_ms <= ?
RETURNING {_ENTRY}"""

_SETTLE = """
UPDATE outbox SET due_ms = ?, attempts = attempts - ?, is_dead = ?, holder = '', status = ?, message = ?
WHERE id = ? AND holder = ? AND attempts = ?"""

_FIGURES = """
SELECT (SELECT count(*) FROM outbox WHERE is_dead = FALSE),
       (SELECT count(*) FROM outbox WHERE is_dead = TRUE),
       (SELECT min(created_ms) FROM outbox WHERE is_dead = FALSE),
       (SELECT min(due_ms) FROM outbox WHERE NOT is_dead)"""

# The last attempt of each message that is settled.
_SETTLED = f"""
SELECT {_DELIVERY} FROM deliveries AS d
WHERE row = (SELECT max(row) FROM deliveries WHERE id = d.id)
AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = d.id)"""


def _entry(row: rows.Row) -> OutboxEntry:
    values = list(row)
    values[3], values[14] = str(row[3], "utf-8"), bool(row[14])
    return OutboxEntry(*values)


def _delivery(row: rows.Row) -> Delivery:
    values = list(row)
    values[4] = str(row[4], "utf-8")
    return Delivery(*values)


def _conditions(chosen: Chosen, *, time: str, destination: str) -> tuple[str, list[object]]:
    """The WHERE that `Chosen` stands for, beginning with AND."""
    text, values = "", list[object]()
    for column, value in (("bucket", chosen.bucket), (destination, chosen.destination)):
        if value:
            text += f" AND {column} = ?"
            values.append(value)
    if chosen.ids is not None:
        text += " AND id IN (SELECT value FROM json_each(?))"
        values.append(rows.encode_list(list(chosen.ids)))
    if chosen.since_ms:
        text += f" AND {time} >= ?"
        values.append(chosen.since_ms)
    if chosen.before_ms:
        text += f" AND {time} < ?"
        values.append(chosen.before_ms)
    return text, values


class OutboxReadSql:
    """The questions."""

    _session: Session

    def outbox_due(self, *, now_ms: int, limit: int) -> list[str]:
        found = self._session.all(
            "SELECT lane FROM outbox WHERE NOT is_dead AND due_ms <= ? ORDER BY due_ms LIMIT ?",
            (now_ms, limit),
        )
        return [row[0] for row in found]

    def outbox_next(self, *, now_ms: int) -> int | None:
        row = self._session.one(
            "SELECT due_ms FROM outbox WHERE NOT is_dead AND due_ms > ? ORDER BY due_ms LIMIT 1", (now_ms,)
        )
        return row[0] if row else None

    def outbox_lanes(self, *, after: str, limit: int) -> list[tuple[str, int]]:
        found = self._session.all(_LANES, (after, limit))
        return [(lane, due_ms) for lane, due_ms in found if due_ms is not None]

    def outbox_entry(self, entry_id: str) -> OutboxEntry | None:
        row = self._session.one(f"SELECT {_ENTRY} FROM outbox WHERE id = ?", (entry_id,))
        return _entry(row) if row else None

    def outbox_entries(self, chosen: Chosen, *, dead: bool, limit: int) -> list[OutboxEntry]:
        """Newest first."""
        text, values = _conditions(chosen, time="created_ms", destination="destination")
        found = self._session.all(
            f"SELECT {_ENTRY} FROM outbox WHERE is_dead = ?{text} ORDER BY created_ms DESC, row DESC LIMIT ?",
            (dead, *values, limit),
        )
        return [_entry(row) for row in found]

    def outbox_figures(self) -> OutboxFigures:
        return OutboxFigures(*self._session.all(_FIGURES)[0])

    def deliveries(self, entry_id: str, *, limit: int) -> list[Delivery]:
        """The latest ``limit`` attempts, oldest first."""
        found = self._session.all(
            f"SELECT {_DELIVERY} FROM deliveries WHERE id = ? ORDER BY row DESC LIMIT ?", (entry_id, limit)
        )
        return [_delivery(row) for row in reversed(found)]

    def settled_deliveries(self, chosen: Chosen, *, ok: bool, limit: int) -> list[Delivery]:
        """Newest first."""
        text, values = _conditions(chosen, time="at_ms", destination="url")
        verdict = "message = ''" if ok else "message <> ''"
        found = self._session.all(
            f"{_SETTLED} AND {verdict}{text} ORDER BY row DESC LIMIT ?", (*values, limit)
        )
        return [_delivery(row) for row in found]

    def counters(self) -> dict[str, int]:
        return dict(self._session.all("SELECT name, value FROM counters ORDER BY name"))


class OutboxSql(OutboxReadSql):
    """The changes."""

    def add_outbox(self, entry: OutboxEntry) -> None:
        values = list(astuple(entry))
        values[3] = entry.key.encode()
        self._session.run(
            f"INSERT INTO outbox ({_ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )

    def rewrite_outbox(self, entry: OutboxEntry, *, body: bytes, due_ms: int) -> None:
        self._session.run(
            "UPDATE outbox SET body = ?, due_ms = ? WHERE id = ? AND holder = ? AND attempts = ?",
            (body, due_ms, entry.id, entry.holder, entry.attempts),
        )

    def take_outbox(
        self, lane: str, *, now_ms: int, limit: int, holder: str, until_ms: int
    ) -> list[OutboxEntry]:
        found = self._session.all(_TAKE, (holder, until_ms, lane, now_ms, limit, now_ms))
        return [_entry(row) for row in found]

    def settle_outbox(self, settlements: Sequence[Settlement]) -> None:
        delivered = [each.entry_id for each in settlements if each.result == "ok"]
        if delivered:
            self._session.run(
                "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))",
                (rows.encode_list(delivered),),
            )
        for each in settlements:
            if each.result != "ok":
                self._session.run(
                    _SETTLE,
                    (
                        each.due_ms,
                        int(each.result == "back"),
                        each.result == "dead",
                        each.status,
                        each.message,
                        each.entry_id,
                        each.holder,
                        each.attempts,
                    ),
                )

    def revive_outbox(self, chosen: Chosen, *, dead_only: bool, now_ms: int, expires_ms: int) -> int:
        text, values = _conditions(chosen, time="created_ms", destination="destination")
        which = "is_dead" if dead_only else "(is_dead OR holder = '')"
        return self._session.run(
            "UPDATE outbox SET attempts = CASE WHEN is_dead THEN 0 ELSE attempts END, is_dead = FALSE, "
            f"due_ms = ?, expires_ms = ? WHERE {which}{text}",
            (now_ms, expires_ms, *values),
        )

    def purge_outbox(self, chosen: Chosen, *, limit: int) -> int:
        text, values = _conditions(chosen, time="created_ms", destination="destination")
        return self._session.run(
            f"DELETE FROM outbox WHERE row IN (SELECT row FROM outbox WHERE is_dead = TRUE{text} LIMIT ?)",
            (*values, limit),
        )

    def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        for each in deliveries:
            values = list(astuple(each))
            values[4] = each.key.encode()
            self._session.run(
                f"INSERT INTO deliveries ({_DELIVERY}) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def forget_deliveries(self, *, before_ms: int, keep: int, limit: int) -> int:
        """Rows are numbered in order of age, but for a moment and a few gaps."""
        aged = self._session.run(
            "DELETE FROM deliveries WHERE row IN "
            "(SELECT row FROM deliveries WHERE at_ms < ? ORDER BY at_ms LIMIT ?)",
            (before_ms, limit),
        )
        return aged + self._session.run(
            "DELETE FROM deliveries WHERE row IN (SELECT row FROM deliveries WHERE row <= "
            "(SELECT max(row) FROM deliveries) - ? ORDER BY row LIMIT ?)",
            (keep, limit),
        )

    def count(self, counted: Mapping[str, int]) -> None:
        for name in sorted(counted):  # in one order everywhere, so that no two wait for each other
            self._session.run(
                "INSERT INTO counters (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value",
                (name, counted[name]),
            )
