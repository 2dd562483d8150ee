"""The catalog on SQLite: WAL, one writing connection per process, a pool of reading ones.

Writes go through `GroupCommit`: one BEGIN IMMEDIATE … COMMIT for all calls that wait, each call in a
savepoint of its own. Processes take turns by a lock file, because SQLite's own waiting is a poll that
starves: with 4 processes of 8 threads the longest wait was 28 ms against 330–550 ms, at the same rate.
Memory maps stay off: they gained nothing measurable, and a disk error in one is a SIGBUS.
``:memory:`` as path gives an index that lives in one connection; reads then wait for writes.
"""

# ruff: noqa: S608  # only names of tables and columns of this package are put together

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Self, TypeVar

from s3lite.catalog import transfer
from s3lite.catalog.base import CatalogBusyError, Tx
from s3lite.catalog.group import GroupCommit, Job
from s3lite.catalog.questions import ReadTx
from s3lite.catalog.rows import Row
from s3lite.catalog.schema import MIGRATIONS, SchemaError
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql import SqlRead
from s3lite.catalog.sql_write import SqlTx
from s3lite.catalog.turn import FileTurn
from s3lite.model import ObjectVersion
from s3lite.times import Clock

T = TypeVar("T")

MEMORY = Path(":memory:")

_OLDEST = (3, 37, 0)  # RETURNING, UPDATE … FROM, and partial indexes that are found with NOT
_BUSY_MS = 5000
_TURN_S = 5.0  # for writers, then 503: a process that holds the lock so long has stopped
_CHECKPOINT_PAGES = 4000  # 16 MiB: a guard, the sweeper's checkpoints come first
_STATEMENTS = 256
_PAGE = 500

_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CORRUPT: errno.EIO,
    sqlite3.SQLITE_NOTADB: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EIO,
}

_instances: weakref.WeakSet[SqliteCatalog] = weakref.WeakSet()
_inherited: list[object] = []  # a parent's connections: a child must not even close them


def _after_fork() -> None:
    for catalog in list(_instances):
        catalog.forget_connections()


os.register_at_fork(after_in_child=_after_fork)


def interrupted() -> Exception:
    """For those whose batch was given up because the thread that led it was interrupted."""
    return CatalogBusyError("the transaction was interrupted")


def translated(error: sqlite3.Error) -> Exception:
    """SQLite's error as `Catalog` raises it; other kinds are mistakes of ours and stay as they are."""
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    code = extended & 0xFF
    if (
        extended == sqlite3.SQLITE_IOERR_SHMSIZE
    ):  # how SQLite says that a full disk has no room for its -shm file
        return OSError(errno.ENOSPC, f"index: {error}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CatalogBusyError(str(error))
    if code in _ERRNO:
        return OSError(_ERRNO[code], f"index: {error}")
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
        return CatalogBusyError(str(error))  # the only triggers are those of `transfer`
    if code == sqlite3.SQLITE_CONSTRAINT:
        return ValueError(f"index: {error}")
    return error


class SqliteSession:
    """One connection and one cursor. ``failure`` is set once the connection cannot be relied on."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.failure: Exception | None = None
        self._cursor = connection.cursor()

    def one(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        """See `sql.Session`."""
        try:
            row: Row | None = self._cursor.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error
        return row

    def all(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """See `sql.Session`."""
        try:
            return self._cursor.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """See `sql.Session`."""
        try:
            return self._cursor.execute(sql, values).rowcount
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def later(self, sql: str, values: Sequence[object] = ()) -> None:
        """See `sql.Session`; at once."""
        self.run(sql, values)

    def pages(self, sql: str, size: int) -> Iterator[Row]:
        """Every row of a long answer."""
        with closing(self.connection.cursor()) as cursor:
            try:
                cursor.execute(sql)
                while page := cursor.fetchmany(size):
                    yield from page
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def fill(self, sql: str, found: Iterable[Row]) -> None:
        """Run a change for each of many rows."""
        try:
            self._cursor.executemany(sql, found)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> Exception:
        """Translate; after a fatal error close, so that no statement runs outside the lost transaction."""
        if self.failure is not None:
            return self.failure
        problem = translated(error)
        if isinstance(problem, OSError):
            self.failure = problem
            self.close()
        return problem

    def close(self) -> None:
        """Roll back what is open and close."""
        with closing(self.connection):
            self._cursor.close()


class _LockedSession(SqliteSession):
    """A session on the connection that also writes (``:memory:``): statements wait for the transaction."""

    def __init__(self, connection: sqlite3.Connection, lock: AbstractContextManager[object]) -> None:
        super().__init__(connection)
        self._lock = lock

    def one(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        with self._lock:
            return super().one(sql, values)

    def all(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        with self._lock:
            return super().all(sql, values)

    def close(self) -> None:
        self._cursor.close()


class _Pool:
    """Reading connections that nobody uses now, the latest used on top."""

    def __init__(self) -> None:
        self.idle: list[_PooledRead] = []
        self.is_closed = False

    def close(self) -> None:
        """Close the idle ones; those on loan follow when they come back."""
        self.is_closed = True
        while self.idle:
            self.idle.pop().session.close()


class _PooledRead(SqlRead):
    """A reading connection on loan; leaving the block gives it back."""

    def __init__(self, session: SqliteSession, secrets: SecretBox, pool: _Pool) -> None:
        super().__init__(session, secrets)
        self.session = session
        self._pool = pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool.is_closed:
            self.session.close()
        elif self.session.failure is None:
            self._pool.idle.append(self)


class SqliteCatalog:
    """`Catalog` on one SQLite file, or in memory. ``connect`` is `sqlite3.connect` for tests to replace."""

    def __init__(
        self,
        path: Path,
        *,
        durability: str,
        clock: Clock,
        secrets: SecretBox,
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            needed = ".".join(map(str, _OLDEST))
            raise SchemaError(f"SQLite {needed} or newer is needed, this is {sqlite3.sqlite_version}")
        self.path = path
        self._in_memory = path == MEMORY
        self._synchronous = "FULL" if durability == "full" else "NORMAL"
        self._clock = clock
        self._secrets = secrets
        self._connect = connect
        self._writer: SqliteSession | None = None
        self._reset()
        _instances.add(self)

    def _reset(self) -> None:
        """Everything that threads of one process share."""
        self._pool = _Pool()
        self._group = GroupCommit(self._commit, interrupted)
        self._turn = threading.RLock()
        self._file_turn = FileTurn(self.path.with_name("index.lock"), patience_s=_TURN_S)

    def forget_connections(self) -> None:
        """In a forked child: begin anew, leaving the parent's connections alone."""
        _inherited.append(self._pool)
        if not self._in_memory:
            _inherited.append(self._writer)
            self._writer = None
        self._file_turn.forget()
        self._reset()

    # -- connections

    def _open(self) -> SqliteSession:
        """A new connection with its settings. Raises OSError."""
        try:
            connection = self._connect(
                self.path,
                timeout=_BUSY_MS / 1000,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_STATEMENTS,
            )
        except sqlite3.Error as error:
            raise translated(error) from error
        session = SqliteSession(connection)
        for pragma in (
            "foreign_keys = ON",
            f"synchronous = {self._synchronous}",
            "temp_store = MEMORY",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
        ):
            session.run(f"PRAGMA {pragma}")
        return session

    def _writing(self) -> SqliteSession:
        """The writing connection. The caller has the turn."""
        if self._writer is None:
            self._writer = self._open()
        return self._writer

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """The right to write, among the threads of this process and among processes."""
        with self._turn:
            if self._in_memory:
                yield
                return
            self._file_turn.take()
            try:
                yield
            finally:
                self._file_turn.leave()

    def _reading(self) -> _PooledRead:
        try:
            return self._pool.idle.pop()
        except IndexError:
            pass
        if self._in_memory:
            with self._turn:
                session: SqliteSession = _LockedSession(self._writing().connection, self._turn)
        else:
            session = self._open()
        return _PooledRead(session, self._secrets, self._pool)

    # -- transactions

    def _commit(self, batch: Sequence[Job]) -> None:
        """One transaction for all jobs of the batch, see `GroupCommit`."""
        with self._exclusive():
            session = self._writing()
            try:
                session.run("BEGIN IMMEDIATE")
                for job in batch:
                    self._attempt(session, job)
                session.run("COMMIT")
            except BaseException:
                self._recover(session)
                raise

    def _attempt(self, session: SqliteSession, job: Job) -> None:
        """Run one job; its exception undoes its own changes. Raises when the transaction is lost."""
        session.run("SAVEPOINT job")
        tx = SqlTx(session, self._secrets, self._clock.time_ms)
        try:
            job.result = job.work(tx)
            tx.settle()
        except Exception as error:  # noqa: BLE001  # raised again by `GroupCommit.run`
            job.error = error
        if session.failure is not None:
            raise session.failure
        if not session.connection.in_transaction:
            raise OSError(errno.EIO, "index: the transaction was lost") from job.error
        if job.error is not None:
            session.run("ROLLBACK TO job")
        session.run("RELEASE job")

    def _recover(self, session: SqliteSession) -> None:
        """After a failed batch: no transaction is open, and a broken connection is dropped."""
        if session.failure is None and session.connection.in_transaction:
            with suppress(OSError):  # it is closed then, which rolls back, too
                session.run("ROLLBACK")
        if session.failure is not None:
            self._writer = None

    # -- Catalog

    def read(self) -> AbstractContextManager[ReadTx]:
        """See `Catalog.read`; the connection used last is taken first."""
        return self._reading()

    def write(self, work: Callable[[Tx], T]) -> T:
        """See `Catalog.write`."""
        return self._group.run(work)

    def lease(self, name: str, *, holder: str, ttl_s: float) -> bool:
        """See `Catalog.lease`."""

        def take(tx: SqlTx) -> bool:
            return tx.take_lease(name, holder=holder, ttl_s=ttl_s)

        return self._group.run(take)

    def migrate(self) -> None:
        """See `Catalog.migrate`; makes the file (mode 0600) and its directory when missing."""
        if not self._in_memory:
            self._create_file()
        with self._exclusive():
            session = self._writing()
            session.one("PRAGMA journal_mode = WAL")
            try:
                session.run("BEGIN IMMEDIATE")
                version = session.all("PRAGMA user_version")[0][0]
                if version > len(MIGRATIONS):
                    raise SchemaError(
                        f"{self.path} has schema {version}, this program knows up to {len(MIGRATIONS)}: "
                        "it was written by a newer s3lite"
                    )
                for migration in MIGRATIONS[version:]:
                    for statement in migration:
                        session.run(statement)
                session.run(f"PRAGMA user_version = {len(MIGRATIONS)}")
                session.run("COMMIT")
            except BaseException:
                self._recover(session)
                raise

    def _create_file(self) -> None:
        directory = self.path.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def quick_check(self) -> list[str]:
        """See `Catalog.quick_check`; foreign keys included."""
        with self._reading() as tx:
            faults = [row[0] for row in tx.session.all("PRAGMA quick_check") if row[0] != "ok"]
            for table, row, parent, _ in tx.session.all("PRAGMA foreign_key_check"):
                faults.append(f"{table} row {row}: no row in {parent}")
        return faults

    def iter_versions(self) -> Iterator[ObjectVersion]:
        """See `Catalog.iter_versions`; in order of commit, a page at a time."""
        row = 0
        while True:
            with self._reading() as tx:
                page = tx.versions_after(row, _PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            row = page[-1].row

    def snapshot(self, target: Path) -> None:
        """See `Catalog.snapshot`: the engine's own backup, all pages in one step."""
        try:
            with self._reading() as tx, closing(sqlite3.connect(target)) as copy:
                tx.session.connection.backup(copy)
        except sqlite3.Error as error:
            raise translated(error) from error
        target.chmod(0o600)

    def checkpoint(self, *, truncate: bool = False) -> int:
        """Move the log into the index, as far as readers allow; how many pages of it remain.

        ``truncate`` waits for readers, holds writers up meanwhile, and empties the log's file.
        """
        if self._in_memory:
            return 0
        with self._exclusive() if truncate else nullcontext(), self._reading() as tx:
            statement = f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'PASSIVE'})"
            _, logged, moved = tx.session.all(statement)[0]
        return int(logged - moved)

    @contextmanager
    def _transaction(self) -> Iterator[SqliteSession]:
        """A transaction beside `write`, for all of the index."""
        with self._exclusive():
            session = self._writing()
            try:
                session.run("BEGIN IMMEDIATE")
                yield session
                session.run("COMMIT")
            except BaseException:
                self._recover(session)
                raise

    def freeze(self, *, on: bool) -> None:
        """See `Catalog.freeze`: triggers, which all connections of all processes meet."""
        with self._transaction() as session:
            for statement in transfer.freeze_sqlite() if on else transfer.thaw_sqlite():
                session.run(statement)

    def columns(self, table: str) -> tuple[str, ...]:
        """See `Catalog.columns`."""
        with self._reading() as tx:
            return tuple(row[1] for row in tx.session.all(f"PRAGMA table_info({table})"))

    def dump(self, table: str, columns: Sequence[str]) -> Iterator[Row]:
        """See `Catalog.dump`."""
        with self._reading() as tx:
            yield from tx.session.pages(f"SELECT {', '.join(columns)} FROM {table}", _PAGE)

    def load(self, tables: Iterable[tuple[str, Sequence[str], Iterable[Row]]]) -> dict[str, int]:
        """See `Catalog.load`."""
        counted = {}
        with self._transaction() as session:
            for table, columns, found in tables:
                places = ", ".join("?" * len(columns))
                session.fill(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", found)
                counted[table] = session.all(f"SELECT count(*) FROM {table}")[0][0]
        return counted

    def close(self) -> None:
        """See `Catalog.close`."""
        with self._turn:
            self._pool.close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._file_turn.close()
