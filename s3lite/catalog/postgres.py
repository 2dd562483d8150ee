"""The catalog on PostgreSQL (psycopg 3), for any number of nodes.

Transactions are READ COMMITTED and run side by side; `dialect` says which locks stand in for SQLite's
single writer. A ``work`` is run again, from the start of a new transaction, when the engine says that
it lost against another one, or when its connection broke before the commit was sent.

A connection that breaks while a commit is under way leaves open whether it happened. Each committing
transaction therefore writes a number of its own into its connection's row in ``sessions``, and whoever
is in doubt asks for that row with a lock, which also waits for a server process that still works on
it. Transaction ids would not do: after a crash the server may give the same one again.
"""

# ruff: noqa: S608  # only names of tables and columns of this package are put together

from __future__ import annotations

import errno
import os
import random
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from time import monotonic
from typing import TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from s3lite import waiting
from s3lite.catalog import dialect, transfer
from s3lite.catalog.base import CatalogBusyError, CatalogDoubtError, Tx
from s3lite.catalog.pool import Pool, PoolEmptyError
from s3lite.catalog.postgres_session import (
    LOCK_TWO,
    SCHEMA,
    ConflictError,
    CrowdedError,
    LostError,
    PgConnection,
    ReadSession,
    UnknownError,
    UpgradeError,
    Values,
    WriteSession,
    connect,
)
from s3lite.catalog.questions import ReadTx
from s3lite.catalog.rows import Row
from s3lite.catalog.schema import MIGRATIONS, SchemaError
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql import SqlRead
from s3lite.catalog.sql_write import SqlTx
from s3lite.model import ObjectVersion
from s3lite.settings import DatabaseSettings, SettingsError
from s3lite.times import Clock

T = TypeVar("T")

_OLDEST = 14_00_00
_CONFLICTS = 20  # runs of one `work` that lost against others, before the caller is told to come again
_PAGE = 500
_SESSION_AGE_MS = 3_600_000

# What the migrations cannot say in words that both engines share.
_PREPARE = (
    "CREATE TABLE IF NOT EXISTS schema_version (only_row boolean PRIMARY KEY, version bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS sessions (id text PRIMARY KEY, mark bigint NOT NULL, used_ms bigint NOT NULL)"
    " WITH (fillfactor = 50)",
)
_FINISH = ("ALTER TABLE inline ALTER COLUMN data SET STORAGE EXTERNAL",)  # objects are seldom text
_ASK_MARK = "SELECT mark FROM sessions WHERE id = $1 FOR UPDATE"

_instances: weakref.WeakSet[PostgresCatalog] = weakref.WeakSet()
_inherited: list[object] = []  # a parent's connections: a child must not even close them


def _after_fork() -> None:
    for catalog in list(_instances):
        catalog.forget_connections()


os.register_at_fork(after_in_child=_after_fork)


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
        self._reader = SqlRead(ReadSession(self.ask), self._secrets)
        self._reading = nullcontext(self._reader)

    def forget_connections(self) -> None:
        """In a forked child: begin anew, leaving the parent's connections alone."""
        _inherited.append(self._pool)
        self._reset()

    # -- connections

    def _connect(self) -> PgConnection:
        return connect(self._url, self._given, durability=self._durability, limits=self._limits)

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
            except (ConflictError, CrowdedError) as error:
                raise CatalogBusyError(str(error)) from error

    def _wait_or_give_up(self, pause: _Pause, deadline: float, error: Exception) -> None:
        if monotonic() + pause.seconds >= deadline:
            raise CatalogBusyError(str(error)) from error
        pause()

    # -- transactions

    def _transact(self, work: Callable[[SqlTx], T], timeout_s: float, *, strong: bool, coarse: bool) -> T:
        """One run of ``work`` in a transaction of its own."""
        with self._borrowed(timeout_s) as connection:
            session = WriteSession(connection, strong=strong, coarse=coarse)
            tx = SqlTx(session, self._secrets, self._clock.time_ms)
            try:
                result = work(tx)
                tx.settle()
                session.commit(self._clock.time_ms())
            except UnknownError as error:
                doubtful = error
            except BaseException:
                session.roll_back()
                raise
            else:
                return result
        self._decide(connection.session, connection.mark, doubtful)
        return result

    def _decide(self, session: str, mark: int, doubt: Exception) -> None:
        """Return when the commit has happened. Raises LostError when it has not, CatalogDoubtError while nobody knows."""
        deadline = monotonic() + self._limits.statement_timeout_s
        pause = _Pause()
        while True:
            try:
                with self._borrowed(max(deadline - monotonic(), 0)) as connection:
                    row = connection.execute(_ASK_MARK, (session,)).fetchone()
            except (LostError, ConflictError) as error:
                if monotonic() >= deadline:
                    raise CatalogDoubtError(f"{doubt}; whether it was committed is not known") from error
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
            except UpgradeError:
                strong = True
            except CrowdedError as error:
                if coarse:
                    raise CatalogBusyError(str(error)) from error
                coarse = True
            except ConflictError as error:
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
            connection.execute(LOCK_TWO, (SCHEMA, 0))
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

    def snapshot(self, target: Path) -> None:
        """See `Catalog.snapshot`: pg_dump does that here."""
        raise OSError(errno.ENOTSUP, "the index is in PostgreSQL: back it up by pg_dump")

    def checkpoint(self, *, truncate: bool = False) -> int:
        """The engine has its own; this forgets the rows of connections that are long gone."""
        before_ms = self._clock.time_ms() - _SESSION_AGE_MS
        self.ask("DELETE FROM sessions WHERE used_ms < $1", (before_ms,), lambda cursor: cursor.rowcount)
        return 0

    @contextmanager
    def _transaction(self) -> Iterator[PgConnection]:
        """A transaction beside `write`, for all of the index and as long as it takes."""
        try:
            with self._borrowed(self._limits.wait_s) as connection:
                try:
                    connection.execute("BEGIN", ())
                    for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
                        connection.execute(f"SET LOCAL {limit} = 0", ())
                    yield connection
                    connection.execute("COMMIT", ())
                except BaseException:
                    with suppress(psycopg.Error):
                        connection.raw.execute("ROLLBACK")
                    raise
        except (LostError, ConflictError) as error:
            raise CatalogBusyError(str(error)) from error

    def freeze(self, *, on: bool) -> None:
        """See `Catalog.freeze`: triggers, which all nodes meet. Waits for transactions in progress."""
        with self._transaction() as connection:
            for sql in transfer.freeze_postgres() if on else transfer.thaw_postgres():
                connection.execute(sql, ())

    def columns(self, table: str) -> tuple[str, ...]:
        """See `Catalog.columns`."""
        found = self.ask(
            "SELECT column_name::text FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position",
            (table,),
            lambda cursor: cursor.fetchall(),
        )
        return tuple(row[0] for row in found)

    def dump(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        """See `Catalog.dump`; by a cursor of the server."""
        with self._transaction() as connection:
            connection.execute(f"DECLARE dump CURSOR FOR SELECT {', '.join(columns)} FROM {table}", ())
            while page := connection.execute(f"FETCH {_PAGE} FROM dump", ()).fetchall():
                yield from page

    def load(self, tables: Iterable[tuple[str, Sequence[str], Iterable[Row]]]) -> dict[str, int]:
        """See `Catalog.load`; by COPY. Afterwards new rows are numbered behind these."""
        counted = {}
        with self._transaction() as connection:
            for table, columns, found in tables:
                connection.fill(f"COPY {table} ({', '.join(columns)}) FROM STDIN", found)
                counted[table] = connection.execute(f"SELECT count(*) FROM {table}", ()).fetchall()[0][0]
            numbered = connection.execute(
                "SELECT table_name::text, column_name::text FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND is_identity = 'YES'",
                (),
            ).fetchall()
            for table, column in numbered:
                connection.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), "
                    f"(SELECT coalesce(max({column}), 0) + 1 FROM {table}), false)",
                    (),
                )
        self.ask("VACUUM (ANALYZE)", (), lambda cursor: cursor.statusmessage)
        return counted

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
