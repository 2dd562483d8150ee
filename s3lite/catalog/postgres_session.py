"""Connections and sessions of the PostgreSQL catalog: what a statement meets on its way to the server.

A session of a writing transaction takes the locks that `dialect` names before each statement, and sends
them together with it.
"""

from __future__ import annotations

import errno
import secrets as entropy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from time import monotonic
from typing import Any, Protocol, TypeVar
from zlib import crc32

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrBinaryDumper

from s3lite.catalog import dialect, transfer
from s3lite.catalog.base import CatalogBusyError
from s3lite.catalog.dialect import Lock
from s3lite.catalog.rows import Row
from s3lite.settings import DatabaseSettings

T = TypeVar("T")
Values = Sequence[object]

_SETTINGS = (
    "SET client_min_messages = error",
    "SET default_transaction_isolation = 'read committed'",
    # Every statement of a request has its index, whatever its values: one plan does for all of them. The
    # others keep a table that has just filled up, and whose statistics still say that it is empty, from
    # being read whole.
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_seqscan = off",
    "SET enable_bitmapscan = off",
    "SET jit = off",
)
_MARK = (
    "INSERT INTO sessions (id, mark, used_ms) VALUES ($1, $2, $3) "
    "ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, used_ms = excluded.used_ms"
)
# Classes of advisory locks with two numbers; keys are locked by one number.
_BUCKET, _UPLOAD, _TABLE, SCHEMA = 1, 2, 3, 4
_INT4 = (1 << 31) - 1
_LOCK_KEY = "SELECT pg_advisory_xact_lock($1)"
LOCK_TWO = "SELECT pg_advisory_xact_lock(CAST($1 AS int), CAST($2 AS int))"
_SHARE_TWO = LOCK_TWO.replace("_lock(", "_lock_shared(")
_LOCK_BUCKET = (
    f"SELECT id, pg_advisory_xact_lock({_BUCKET}, CAST(id % {_INT4} AS int)) FROM buckets WHERE name = $1"  # noqa: S608
)
_SHARE_BUCKET = _LOCK_BUCKET.replace("_lock(", "_lock_shared(")

# PostgreSQL documentation, appendix A. Classes are the first two characters.
_AGAIN = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock not to be had
_AWAY = frozenset({"57P01", "57P02", "57P03", "57P05", "25006", "53300"})  # stopping, starting, standby, full
_ERRNO = {"53100": errno.ENOSPC, "58030": errno.EIO, "XX001": errno.EIO, "XX002": errno.EIO}
_OUT_OF_LOCKS = "53200"
_BUSY = frozenset({"57014", transfer.POSTGRES_STATE})  # statement_timeout


class LostError(Exception):
    """The server went away, or is not there, and nothing of the transaction has happened."""


class UnknownError(Exception):
    """The server went away while it was to commit."""


class ConflictError(Exception):
    """Another transaction was in the way; a new run may succeed."""


class UpgradeError(Exception):
    """The work changes a bucket that it has begun to share."""


class CrowdedError(Exception):
    """The server has no room for as many locks."""


class _Text(StrBinaryDumper):
    """Text, which holds no NUL in PostgreSQL: its neighbour in the order stands in for it.

    Nothing that is stored has one; what clients ask for may, and then matches nothing.
    """

    def dump(self, obj: str) -> bytes:
        return obj.replace("\0", "\x01").encode()


def translated(error: psycopg.Error) -> Exception:
    """PostgreSQL's error as the parts of this module, and `Catalog`, raise it."""
    state = error.sqlstate or ""
    message = f"index: {error}".strip()
    if (
        state in _AWAY
        or state.startswith("08")
        or (not state and isinstance(error, psycopg.OperationalError))
    ):
        return LostError(message)
    if state in _AGAIN:
        return ConflictError(message)
    if state == _OUT_OF_LOCKS:
        return CrowdedError(message)
    if state in _BUSY:
        return CatalogBusyError(message)
    if state in _ERRNO:
        return OSError(_ERRNO[state], message)
    if state.startswith("23"):
        return ValueError(message)
    return error


def _copied(value: object) -> object:
    return value.replace("\0", "\x01") if isinstance(value, str) else value


class PgConnection:
    """One connection, its cursors, and the number of its last commit."""

    def __init__(self, raw: psycopg.Connection[Row]) -> None:
        self.raw = raw
        self.born = monotonic()
        self.session = entropy.token_hex(16)
        self.mark = 0
        self.cursor = raw.cursor(binary=True)
        self.aside = raw.cursor(binary=True)
        self._is_lost = False

    @property
    def is_usable(self) -> bool:
        """False once it broke, or when a thread was interrupted inside a transaction or answer."""
        return not self._is_lost and self.raw.info.transaction_status == TransactionStatus.IDLE

    def execute(self, sql: str, values: Values) -> psycopg.Cursor[Row]:
        """Run one statement. Raises what `translated` makes of errors."""
        try:
            return self.cursor.execute(sql, values)
        except psycopg.Error as error:
            raise self.failed(error) from error

    def fill(self, sql: str, found: Iterable[Row]) -> None:
        """Send many rows by COPY."""
        try:
            with self.aside.copy(sql) as copy:
                for row in found:
                    copy.write_row([_copied(value) for value in row])
        except psycopg.Error as error:
            raise self.failed(error) from error

    def failed(self, error: psycopg.Error) -> Exception:
        """The error translated; a connection that broke is not used again."""
        problem = LostError(f"index: {error}") if self.raw.closed else translated(error)
        if isinstance(problem, LostError):
            self._is_lost = True
        return problem

    def close(self) -> None:
        """Close, which rolls back what is open."""
        with suppress(psycopg.Error):
            self.raw.close()


@lru_cache(maxsize=1024)
def planned(sql: str) -> tuple[str, tuple[Lock, ...]]:
    return dialect.statement(sql), dialect.locks_of(sql)


class Asks(Protocol):
    """`PostgresCatalog.ask`."""

    def __call__(self, sql: str, values: Values, take: Callable[[psycopg.Cursor[Row]], T]) -> T: ...


class ReadSession:
    """`sql.Session` whose statements stand alone, each on whatever connection is free."""

    def __init__(self, ask: Asks) -> None:
        self._ask = ask

    def one(self, sql: str, values: Values = ()) -> Row | None:
        """See `sql.Session`."""
        return self._ask(planned(sql)[0], values, lambda cursor: cursor.fetchone())

    def all(self, sql: str, values: Values = ()) -> list[Row]:
        """See `sql.Session`."""
        return self._ask(planned(sql)[0], values, lambda cursor: cursor.fetchall())

    def run(self, sql: str, values: Values = ()) -> int:
        """See `sql.Session`. Readers change nothing, and a change is not to be repeated."""
        raise NotImplementedError

    def later(self, sql: str, values: Values = ()) -> None:
        """See `run`."""
        raise NotImplementedError


class WriteSession:
    """`sql.Session` inside a transaction; takes the locks of `dialect` on the way.

    BEGIN, locks and changes whose outcome nobody waits for travel together with the next statement that
    has an answer, or with the commit: one round trip.
    ``strong``: buckets are locked exclusively from the start. ``coarse``: whole buckets in place of keys,
    for transactions with more keys than the server has room for.
    """

    def __init__(self, connection: PgConnection, *, strong: bool, coarse: bool) -> None:
        self._connection = connection
        self._strong = strong or coarse
        self._coarse = coarse
        self._held: set[tuple[int, int]] = set()
        self._shared: set[int] = set()
        self._waiting: list[tuple[str, Values]] = [("BEGIN", ())]
        self.has_changed = False

    def one(self, sql: str, values: Values = ()) -> Row | None:
        """See `sql.Session`."""
        return self._execute(sql, values).fetchone()

    def all(self, sql: str, values: Values = ()) -> list[Row]:
        """See `sql.Session`."""
        return self._execute(sql, values).fetchall()

    def run(self, sql: str, values: Values = ()) -> int:
        """See `sql.Session`."""
        return self._execute(sql, values).rowcount

    def later(self, sql: str, values: Values = ()) -> None:
        """See `sql.Session`."""
        text, locks = planned(sql)
        for lock in locks:
            self._need(lock, values)
        self.has_changed = True
        self._waiting.append((text, values))

    def _execute(self, sql: str, values: Values) -> psycopg.Cursor[Row]:
        text, locks = planned(sql)
        by_name = None
        for lock in locks:
            if lock.kind == "bucket_name":
                by_name = values[lock.places[0]]
            else:
                self._need(lock, values)
        self.has_changed = self.has_changed or not text.lstrip().startswith("SELECT")
        if by_name is not None:
            return self._execute_on_bucket(text, values, by_name)
        if not self._waiting:
            return self._connection.execute(text, values)
        return self._pipelined(text, values)

    @property
    def _has_begun(self) -> bool:
        """Whether the server has heard of this transaction."""
        return not (self._waiting and self._waiting[0][0] == "BEGIN")

    def _pipelined(self, text: str, values: Values) -> psycopg.Cursor[Row]:
        """What waits and the statement, in one round trip."""
        connection = self._connection
        waiting, self._waiting = self._waiting, []
        try:
            with connection.raw.pipeline():
                for each, its_values in waiting:
                    connection.aside.execute(each, its_values)
                connection.cursor.execute(text, values)
        except psycopg.Error as error:
            raise connection.failed(error) from error
        return connection.cursor

    def _execute_on_bucket(self, text: str, values: Values, name: object) -> psycopg.Cursor[Row]:
        """Lock the bucket of this name and ask about it, until both were the same bucket."""
        while True:
            self._waiting.append((_LOCK_BUCKET if self._strong else _SHARE_BUCKET, (name,)))
            cursor = self._pipelined(text, values)
            locked = self._connection.aside.fetchone()
            found = cursor.fetchone()
            if locked is not None:
                if self._strong:
                    self._held.add((_BUCKET, locked[0]))
                else:
                    self._shared.add(locked[0])
            if found is None or (locked is not None and found[0] == locked[0]):
                if found is not None:
                    cursor.scroll(0, mode="absolute")
                return cursor

    def _need(self, lock: Lock, values: Values) -> None:
        """Have a lock taken before the next statement, unless the transaction holds it."""
        named = [values[place] for place in lock.places]
        if lock.kind == "table":
            self._lock(_TABLE, crc32(lock.table.encode()) & _INT4)
        elif lock.kind == "upload":
            self._lock(_UPLOAD, _number(named[0]))
        elif lock.kind == "bucket" or self._coarse:
            self._need_bucket(_number(named[0]), is_shared=lock.is_shared)
        else:
            self._lock(0, _key_number(_number(named[0]), named[1]))

    def _need_bucket(self, bucket: int, *, is_shared: bool) -> None:
        if not is_shared and bucket in self._shared:
            # Two that share a lock and both want it for themselves would wait for one another.
            raise UpgradeError
        if self._strong or not is_shared:
            self._lock(_BUCKET, bucket)
        elif bucket not in self._shared and (_BUCKET, bucket) not in self._held:
            self._shared.add(bucket)
            self._waiting.append((_SHARE_TWO, (_BUCKET, bucket % _INT4)))

    def _lock(self, kind: int, number: int) -> None:
        if (kind, number) not in self._held:
            self._held.add((kind, number))
            if kind:
                self._waiting.append((LOCK_TWO, (kind, number % _INT4)))
            else:
                self._waiting.append((_LOCK_KEY, (number,)))

    def commit(self, now_ms: int) -> None:
        """Commit. Raises UnknownError when the connection broke meanwhile."""
        connection = self._connection
        if not self.has_changed:
            if self._has_begun:
                connection.execute("COMMIT", ())
            return
        connection.mark += 1
        self._waiting.append((_MARK, (connection.session, connection.mark, now_ms)))
        try:
            self._pipelined("COMMIT", ())
        except LostError as error:
            raise UnknownError(str(error)) from error

    def roll_back(self) -> None:
        """Undo everything. A connection on which that fails is in no state to be used again."""
        if self._has_begun:
            with suppress(psycopg.Error):
                self._connection.aside.execute("ROLLBACK")


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _key_number(bucket_id: int, key: object) -> int:
    """The number under which a key is locked. Two keys may share one, and then wait for each other."""
    assert isinstance(key, bytes)
    digest = blake2b(bucket_id.to_bytes(8, "big") + key, digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def connect(
    url: str, given: Mapping[str, object], *, durability: str, limits: DatabaseSettings
) -> PgConnection:
    """A new connection, set up. ``given`` is what the URL decides itself. Raises LostError."""
    defaults: dict[str, Any] = {
        "application_name": "s3lite",
        "connect_timeout": max(2, round(limits.connect_timeout_s)),  # libpq knows no less than two
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(limits.statement_timeout_s * 1000) + 5000,
    }
    try:
        raw = psycopg.connect(
            url,
            autocommit=True,
            cursor_factory=psycopg.RawCursor,
            prepare_threshold=2,
            **{name: value for name, value in defaults.items() if name not in given},
        )
    except psycopg.Error as error:
        raise LostError(f"index: {error}".strip()) from error
    raw.prepared_max = 300
    raw.adapters.register_dumper(int, Int8BinaryDumper)  # one type, so one prepared statement
    raw.adapters.register_dumper(str, _Text)
    connection = PgConnection(raw)
    synchronous = "on" if durability == "full" else "off"
    timeout_ms = round(limits.statement_timeout_s * 1000)
    try:
        raw.execute(
            "; ".join(
                (
                    *_SETTINGS,
                    f"SET synchronous_commit = {synchronous}",
                    f"SET statement_timeout = {timeout_ms}",
                    f"SET idle_in_transaction_session_timeout = {2 * timeout_ms}",
                )
            )
        )
    except psycopg.Error as error:
        connection.close()
        raise connection.failed(error) from error
    return connection
