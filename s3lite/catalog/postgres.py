"""The catalog on PostgreSQL (psycopg 3), for any number of nodes.

Transactions are READ COMMITTED and run side by side; `dialect` says which locks stand in for SQLite's
single writer. A ``work`` is run again, from the start of a new transaction, when the engine says that
it lost against another one, or when its connection broke before the commit was sent.

A connection that breaks while a commit is under way leaves open whether it happened. Each committing
transaction therefore writes a number of its own into its connection's row in ``sessions``, and whoever
is in doubt asks for that row with a lock, which also waits for a server process that still works on
it. Transaction ids would not do: after a crash the server may give the same one again.
"""

from __future__ import annotations

import errno
import os
import random
import secrets as entropy
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache
from hashlib import blake2b
from time import monotonic
from typing import Any, TypeVar
from zlib import crc32

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrBinaryDumper

from s3lite import waiting
from s3lite.catalog import dialect
from s3lite.catalog.base import CatalogBusyError, ReadTx, Tx
from s3lite.catalog.dialect import Lock
from s3lite.catalog.pool import Pool, PoolEmptyError
from s3lite.catalog.rows import Row
from s3lite.catalog.schema import MIGRATIONS, SchemaError
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql import SqlRead
from s3lite.catalog.sql_write import SqlTx
from s3lite.model import ObjectVersion
from s3lite.settings import DatabaseSettings, SettingsError
from s3lite.times import Clock

T = TypeVar("T")
Values = Sequence[object]

_OLDEST = 14_00_00
_CONFLICTS = 20  # runs of one `work` that lost against others, before the caller is told to come again
_PAGE = 500
_SESSION_AGE_MS = 3_600_000

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
# What the migrations cannot say in words that both engines share.
_PREPARE = (
    "CREATE TABLE IF NOT EXISTS schema_version (only_row boolean PRIMARY KEY, version bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS sessions (id text PRIMARY KEY, mark bigint NOT NULL, used_ms bigint NOT NULL)"
    " WITH (fillfactor = 50)",
)
_FINISH = ("ALTER TABLE inline ALTER COLUMN data SET STORAGE EXTERNAL",)  # objects are seldom text
_MARK = (
    "INSERT INTO sessions (id, mark, used_ms) VALUES ($1, $2, $3) "
    "ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, used_ms = excluded.used_ms"
)
_ASK_MARK = "SELECT mark FROM sessions WHERE id = $1 FOR UPDATE"

# Classes of advisory locks with two numbers; keys are locked by one number.
_BUCKET, _UPLOAD, _TABLE, _SCHEMA = 1, 2, 3, 4
_INT4 = (1 << 31) - 1
_LOCK_KEY = "SELECT pg_advisory_xact_lock($1)"
_LOCK_TWO = "SELECT pg_advisory_xact_lock(CAST($1 AS int), CAST($2 AS int))"
_SHARE_TWO = _LOCK_TWO.replace("_lock(", "_lock_shared(")
_LOCK_BUCKET = (
    f"SELECT id, pg_advisory_xact_lock({_BUCKET}, CAST(id % {_INT4} AS int)) FROM buckets WHERE name = $1"  # noqa: S608
)
_SHARE_BUCKET = _LOCK_BUCKET.replace("_lock(", "_lock_shared(")

# PostgreSQL documentation, appendix A. Classes are the first two characters.
_AGAIN = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock not to be had
_AWAY = frozenset({"57P01", "57P02", "57P03", "57P05", "25006", "53300"})  # stopping, starting, standby, full
_ERRNO = {"53100": errno.ENOSPC, "58030": errno.EIO, "XX001": errno.EIO, "XX002": errno.EIO}
_OUT_OF_LOCKS = "53200"
_BUSY = frozenset({"57014"})  # statement_timeout

_instances: weakref.WeakSet[PostgresCatalog] = weakref.WeakSet()
_inherited: list[object] = []  # a parent's connections: a child must not even close them


def _after_fork() -> None:
    for catalog in list(_instances):
        catalog.forget_connections()


os.register_at_fork(after_in_child=_after_fork)


class LostError(Exception):
    """The server went away, or is not there, and nothing of the transaction has happened."""


class _UnknownError(Exception):
    """The server went away while it was to commit."""


class _ConflictError(Exception):
    """Another transaction was in the way; a new run may succeed."""


class _UpgradeError(Exception):
    """The work changes a bucket that it has begun to share."""


class _CrowdedError(Exception):
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
        return _ConflictError(message)
    if state == _OUT_OF_LOCKS:
        return _CrowdedError(message)
    if state in _BUSY:
        return CatalogBusyError(message)
    if state in _ERRNO:
        return OSError(_ERRNO[state], message)
    if state.startswith("23"):
        return ValueError(message)
    return error


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
def _planned(sql: str) -> tuple[str, tuple[Lock, ...]]:
    return dialect.statement(sql), dialect.locks_of(sql)


class _ReadSession:
    """`sql.Session` whose statements stand alone, each on whatever connection is free."""

    def __init__(self, catalog: PostgresCatalog) -> None:
        self._catalog = catalog

    def one(self, sql: str, values: Values = ()) -> Row | None:
        """See `sql.Session`."""
        return self._catalog.ask(_planned(sql)[0], values, lambda cursor: cursor.fetchone())

    def all(self, sql: str, values: Values = ()) -> list[Row]:
        """See `sql.Session`."""
        return self._catalog.ask(_planned(sql)[0], values, lambda cursor: cursor.fetchall())

    def run(self, sql: str, values: Values = ()) -> int:
        """See `sql.Session`. Readers change nothing, and a change is not to be repeated."""
        raise NotImplementedError


class _WriteSession:
    """`sql.Session` inside a transaction; takes the locks of `dialect` on the way.

    BEGIN and locks travel together with the first statement that needs them, in one round trip.
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

    def _execute(self, sql: str, values: Values) -> psycopg.Cursor[Row]:
        text, locks = _planned(sql)
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
            raise _UpgradeError
        if self._strong or not is_shared:
            self._lock(_BUCKET, bucket)
        elif bucket not in self._shared and (_BUCKET, bucket) not in self._held:
            self._shared.add(bucket)
            self._waiting.append((_SHARE_TWO, (_BUCKET, bucket % _INT4)))

    def _lock(self, kind: int, number: int) -> None:
        if (kind, number) not in self._held:
            self._held.add((kind, number))
            if kind:
                self._waiting.append((_LOCK_TWO, (kind, number % _INT4)))
            else:
                self._waiting.append((_LOCK_KEY, (number,)))

    def commit(self, now_ms: int) -> None:
        """Commit. Raises _UnknownError when the connection broke meanwhile."""
        connection = self._connection
        if self._waiting and self._waiting[0][0] == "BEGIN":
            return  # nothing was asked
        try:
            if not self.has_changed:
                connection.aside.execute("COMMIT")
                return
            connection.mark += 1
            with connection.raw.pipeline():
                connection.aside.execute(_MARK, (connection.session, connection.mark, now_ms))
                connection.aside.execute("COMMIT")
        except psycopg.Error as error:
            problem = connection.failed(error)
            if isinstance(problem, LostError) and self.has_changed:
                raise _UnknownError(str(problem)) from error
            raise problem from error

    def roll_back(self) -> None:
        """Undo everything. A connection on which that fails is in no state to be used again."""
        if not (self._waiting and self._waiting[0][0] == "BEGIN"):
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


class PostgresCatalog:
    """`Catalog` on a PostgreSQL database. ``url`` is libpq's, with several hosts if wanted."""

    def __init__(
        self, url: str, *, durability: str, clock: Clock, secrets: SecretBox, settings: DatabaseSettings
    ) -> None:
        try:
            self._given = conninfo_to_dict(url)
        except psycopg.Error as error:
            raise SettingsError(f"database_url: {error}".strip()) from error
        self._url = url
        self._durability = durability
        self._clock = clock
        self._secrets = secrets
        self._limits = settings
        self._reset()
        _instances.add(self)

    def _reset(self) -> None:
        self._pool: Pool[PgConnection] = Pool(self._connect, self._limits.connections)
        self._reader = SqlRead(_ReadSession(self), self._secrets)
        self._reading = nullcontext(self._reader)

    def forget_connections(self) -> None:
        """In a forked child: begin anew, leaving the parent's connections alone."""
        _inherited.append(self._pool)
        self._reset()

    # -- connections

    def _connect(self) -> PgConnection:
        limits = self._limits
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
                self._url,
                autocommit=True,
                cursor_factory=psycopg.RawCursor,
                prepare_threshold=2 if limits.prepare else None,
                **{name: value for name, value in defaults.items() if name not in self._given},
            )
        except psycopg.Error as error:
            raise LostError(f"index: {error}".strip()) from error
        raw.prepared_max = 300
        raw.adapters.register_dumper(int, Int8BinaryDumper)  # one type, so one prepared statement
        raw.adapters.register_dumper(str, _Text)
        connection = PgConnection(raw)
        synchronous = "on" if self._durability == "full" else "off"
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

    @contextmanager
    def _borrowed(self, timeout_s: float) -> Iterator[PgConnection]:
        """A connection for the block. Raises LostError, CatalogBusyError."""
        try:
            connection = self._pool.take(timeout_s)
        except PoolEmptyError as error:
            raise CatalogBusyError(f"index: {error}") from None
        try:
            yield connection
        finally:
            self._pool.give(connection)

    def ask(self, sql: str, values: Values, take: Callable[[psycopg.Cursor[Row]], T]) -> T:
        """Run a question; again on another connection when one breaks, for as long as requests wait."""
        deadline = monotonic() + self._limits.wait_s
        pause = _Pause()
        while True:
            try:
                with self._borrowed(deadline - monotonic()) as connection:
                    return take(connection.execute(sql, values))
            except LostError as error:
                self._wait_or_give_up(pause, deadline, error)
            except (_ConflictError, _CrowdedError) as error:
                raise CatalogBusyError(str(error)) from error

    def _wait_or_give_up(self, pause: _Pause, deadline: float, error: Exception) -> None:
        if monotonic() + pause.seconds >= deadline:
            raise CatalogBusyError(str(error)) from error
        pause()

    # -- transactions

    def _transact(self, work: Callable[[SqlTx], T], timeout_s: float, *, strong: bool, coarse: bool) -> T:
        """One run of ``work`` in a transaction of its own."""
        with self._borrowed(timeout_s) as connection:
            session = _WriteSession(connection, strong=strong, coarse=coarse)
            tx = SqlTx(session, self._secrets, self._clock.time_ms)
            try:
                result = work(tx)
                tx.settle()
                session.commit(self._clock.time_ms())
            except _UnknownError as error:
                doubtful = error
            except BaseException:
                session.roll_back()
                raise
            else:
                return result
        self._decide(connection.session, connection.mark, doubtful)
        return result

    def _decide(self, session: str, mark: int, doubt: Exception) -> None:
        """Return when the commit has happened. Raises LostError when it has not, CatalogBusyError in doubt."""
        deadline = monotonic() + self._limits.statement_timeout_s
        pause = _Pause()
        while True:
            try:
                with self._borrowed(max(deadline - monotonic(), 0)) as connection:
                    row = connection.execute(_ASK_MARK, (session,)).fetchone()
            except (LostError, _ConflictError) as error:
                if monotonic() >= deadline:
                    raise CatalogBusyError(f"{doubt}; whether it was committed is not known") from error
                pause()
                continue
            if row is not None and row[0] >= mark:
                return
            raise LostError(str(doubt))

    # -- Catalog

    def read(self) -> AbstractContextManager[ReadTx]:
        """See `Catalog.read`; a connection is held for each statement only."""
        waiting.ahead()
        return self._reading

    def write(self, work: Callable[[Tx], T]) -> T:
        """See `Catalog.write`; concurrent calls are transactions of their own."""
        waiting.ahead()
        return self._write(work)

    def _write(self, work: Callable[[SqlTx], T]) -> T:
        deadline = monotonic() + self._limits.wait_s
        pause = _Pause()
        strong = coarse = excused = False
        conflicts = 0
        while True:
            try:
                return self._transact(work, max(deadline - monotonic(), 0), strong=strong, coarse=coarse)
            except _UpgradeError:
                strong = True
            except _CrowdedError as error:
                if coarse:
                    raise CatalogBusyError(str(error)) from error
                coarse = True
            except _ConflictError as error:
                conflicts += 1
                if conflicts >= _CONFLICTS:
                    raise CatalogBusyError(str(error)) from error
                pause()
            except LostError as error:
                self._wait_or_give_up(pause, deadline, error)
            except (LookupError, ValueError):
                # A constraint or a blob that is gone: perhaps by what committed after the work had looked.
                if excused:
                    raise
                excused = True

    def lease(self, name: str, *, holder: str, ttl_s: float) -> bool:
        """See `Catalog.lease`."""
        return self._write(lambda tx: tx.take_lease(name, holder=holder, ttl_s=ttl_s))

    def migrate(self) -> None:
        """See `Catalog.migrate`; nodes that start at once take turns. A server that starts is waited for."""
        deadline = monotonic() + self._limits.wait_s
        pause = _Pause()
        while True:
            try:
                with self._borrowed(self._limits.wait_s) as connection:
                    self._migrate_on(connection)
                return
            except LostError as error:
                self._wait_or_give_up(pause, deadline, error)

    def _migrate_on(self, connection: PgConnection) -> None:
        self._check_server(connection.raw)
        try:
            connection.execute("BEGIN", ())
            connection.execute(_LOCK_TWO, (_SCHEMA, 0))
            self._bring_up_to_date(connection)
            connection.execute("COMMIT", ())
        except BaseException:
            with suppress(LostError):
                connection.execute("ROLLBACK", ())
            raise

    def _check_server(self, raw: psycopg.Connection[Row]) -> None:
        if raw.info.server_version < _OLDEST:
            raise SchemaError(
                f"PostgreSQL 14 or newer is needed, this is {raw.info.server_version // 10_000}"
            )
        encoding = raw.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise SchemaError(
                f"the database has the encoding {encoding}; make one with CREATE DATABASE … ENCODING 'UTF8'"
            )

    def _bring_up_to_date(self, connection: PgConnection) -> None:
        for sql in _PREPARE:
            connection.execute(sql, ())
        row = connection.execute("SELECT version FROM schema_version", ()).fetchone()
        version = row[0] if row else 0
        if version > len(MIGRATIONS):
            raise SchemaError(
                f"the database has schema {version}, this program knows up to {len(MIGRATIONS)}: "
                "it was written by a newer s3lite"
            )
        if version == len(MIGRATIONS):
            return
        for migration in MIGRATIONS[version:]:
            for sql in migration:
                connection.execute(dialect.definition(sql), ())
        for sql in _FINISH:
            connection.execute(sql, ())
        connection.execute(
            "INSERT INTO schema_version VALUES (true, $1) "
            "ON CONFLICT (only_row) DO UPDATE SET version = excluded.version",
            (len(MIGRATIONS),),
        )

    def quick_check(self) -> list[str]:
        """See `Catalog.quick_check`: indexes and constraints that PostgreSQL itself calls invalid."""
        found = self.ask(
            "SELECT 'index ' || CAST(indexrelid AS regclass) || ' is not valid' FROM pg_index "
            "WHERE NOT indisvalid AND indrelid IN "
            "(SELECT oid FROM pg_class WHERE relnamespace = CAST(current_schema() AS regnamespace)) "
            "UNION ALL SELECT 'constraint ' || conname || ' is not validated' FROM pg_constraint "
            "WHERE NOT convalidated AND connamespace = CAST(current_schema() AS regnamespace)",
            (),
            lambda cursor: cursor.fetchall(),
        )
        return [row[0] for row in found]

    def iter_versions(self) -> Iterator[ObjectVersion]:
        """See `Catalog.iter_versions`; a page at a time."""
        row = 0
        while True:
            page = self._reader.versions_after(row, _PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            row = page[-1].row

    def checkpoint(self, *, truncate: bool = False) -> int:
        """The engine has its own; this forgets the rows of connections that are long gone."""
        before_ms = self._clock.time_ms() - _SESSION_AGE_MS
        self.ask("DELETE FROM sessions WHERE used_ms < $1", (before_ms,), lambda cursor: cursor.rowcount)
        return 0

    def close(self) -> None:
        """See `Catalog.close`."""
        self._pool.close()


class _Pause:
    """Sleeps between attempts, longer each time and never quite as long as others do."""

    def __init__(self) -> None:
        self.seconds = 0.01

    def __call__(self) -> None:
        time.sleep(self.seconds * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
        self.seconds = min(self.seconds * 2, 0.5)
