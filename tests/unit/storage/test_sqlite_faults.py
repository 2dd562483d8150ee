"""Disks that fail under the index: an OSError for everyone concerned, nothing visible, and on it goes."""

import errno
import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract.storage_kit import StillClock, Writer

from s3lite.catalog.base import CatalogBusyError
from s3lite.catalog.schema import MIGRATIONS, SchemaError
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import SqliteCatalog


class Faults:
    """Which statement fails, how; -1 is none. Statements of all connections are counted."""

    left = -1
    code = sqlite3.SQLITE_IOERR
    only = ""

    def hit(self, sql):
        if self.left < 0 or not sql.startswith(self.only):
            return
        self.left -= 1
        if self.left < 0:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self.code
            raise error


class FaultyCursor(sqlite3.Cursor):
    """A cursor that asks first."""

    faults = Faults()

    def execute(self, sql, *values):
        self.faults.hit(sql)
        return super().execute(sql, *values)


class FaultyConnection(sqlite3.Connection):
    """A connection of such cursors."""

    faults = Faults()

    def cursor(self):
        made = super().cursor(FaultyCursor)
        made.faults = self.faults
        return made


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def catalog(tmp_path, faults):
    def connect(path, **options):
        connection = sqlite3.connect(path, factory=FaultyConnection, **options)
        connection.faults = faults
        return connection

    catalog = SqliteCatalog(
        tmp_path / "index.db",
        durability="full",
        clock=StillClock(),
        secrets=SecretBox(b"k" * 32),
        connect=connect,
    )
    catalog.migrate()
    yield catalog
    with catalog.read() as tx:
        assert tx.reference_faults(limit=9) == []
    assert catalog.quick_check() == []
    catalog.close()


def is_empty(catalog, bucket):
    with catalog.read() as tx:
        return tx.bucket_is_empty(bucket.id)


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (sqlite3.SQLITE_IOERR | 4 << 8, errno.EIO),
        (sqlite3.SQLITE_FULL, errno.ENOSPC),
        (sqlite3.SQLITE_READONLY, errno.EROFS),
    ],
)
def test_every_statement_can_fail(catalog, faults, code, number):
    writer = Writer(catalog)
    bucket = writer.bucket()
    is_empty(catalog, bucket)
    faults.code = code
    statements = 0
    while True:
        faults.left = statements
        try:
            writer.version(bucket, "k", stored=writer.stored(inline=True))
        except OSError as error:
            caught = error
        else:
            break
        faults.left = -1
        assert (caught.errno, is_empty(catalog, bucket)) == (number, True)
        statements += 1
    faults.left = -1
    assert statements >= 6
    assert not is_empty(catalog, bucket)


@pytest.mark.parametrize(
    ("code", "kind"), [(sqlite3.SQLITE_IOERR, OSError), (sqlite3.SQLITE_BUSY, CatalogBusyError)]
)
def test_a_failed_commit_fails_for_the_whole_batch(catalog, faults, code, kind):
    writer = Writer(catalog)
    bucket = writer.bucket()
    started, go = threading.Event(), threading.Event()

    def hold(tx):
        started.set()
        assert go.wait(10)

    def insert(number):
        with pytest.raises(kind):
            writer.version(bucket, f"k{number}", stored=writer.stored())
        return True

    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(catalog.write, hold)
        assert started.wait(10)
        others = [pool.submit(insert, number) for number in range(4)]
        while len(catalog._group._queue) < 4:
            time.sleep(0.001)
        faults.code, faults.only, faults.left = code, "COMMIT", 1
        go.set()
        first.result()
        assert all(other.result() for other in others)
    assert is_empty(catalog, bucket)
    writer.version(bucket, "k")
    assert not is_empty(catalog, bucket)


def test_a_work_that_hides_a_lost_transaction_changes_nothing(catalog, faults):
    writer = Writer(catalog)
    bucket = writer.bucket()

    def work(tx):
        faults.left = 0
        with pytest.raises(OSError, match="injected"):
            tx.current_version(bucket.id, "k")
        with pytest.raises(OSError, match="injected"):
            writer.insert(tx, bucket, "k")

    with pytest.raises(OSError, match="injected"):
        catalog.write(work)
    assert is_empty(catalog, bucket)


def test_a_full_disk_is_enospc_and_reads_go_on(catalog):
    writer = Writer(catalog)
    bucket = writer.bucket()
    pages = catalog._writer.all("PRAGMA page_count")[0][0]
    catalog._writer.all(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(OSError, match="full") as caught:
        writer.version(bucket, "k", stored=writer.stored(os.urandom(100_000), inline=True))
    assert caught.value.errno == errno.ENOSPC
    assert is_empty(catalog, bucket)
    writer.version(bucket, "k", stored=writer.stored(os.urandom(100_000), inline=True))


def test_an_interrupt_in_work_leaves_the_catalog_usable(catalog):
    writer = Writer(catalog)
    bucket = writer.bucket()

    def work(tx):
        writer.insert(tx, bucket, "k")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.write(work)
    assert is_empty(catalog, bucket)
    writer.version(bucket, "k")


def test_a_failed_read_is_an_oserror_and_its_connection_is_not_used_again(catalog, faults):
    with catalog.read() as tx:
        faults.left = 0
        with pytest.raises(OSError, match="injected"):
            tx.bucket("b")
        with pytest.raises(OSError, match="injected"):
            tx.bucket("b")
    with catalog.read() as tx:
        assert tx.bucket("b") is None


def test_an_index_locked_from_outside_is_busy(catalog, tmp_path):
    other = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    catalog._writer.all("PRAGMA busy_timeout = 50")
    with pytest.raises(CatalogBusyError):
        Writer(catalog).bucket()
    other.execute("ROLLBACK")
    other.close()
    assert Writer(catalog).bucket() is not None


def test_a_newer_schema_is_refused(catalog, tmp_path):
    catalog._writer.run("PRAGMA user_version = 999")
    with pytest.raises(SchemaError, match="newer"):
        catalog.migrate()
    catalog._writer.run(f"PRAGMA user_version = {len(MIGRATIONS)}")
    catalog.migrate()


def test_a_file_that_is_no_index_is_an_oserror(tmp_path):
    (tmp_path / "index.db").write_bytes(b"something else" * 1000)
    catalog = SqliteCatalog(
        tmp_path / "index.db", durability="full", clock=StillClock(), secrets=SecretBox(b"k" * 32)
    )
    with pytest.raises(OSError, match="not a database"):
        catalog.migrate()
    catalog.close()


def test_checkpoint_empties_the_log(catalog, tmp_path):
    Writer(catalog).bucket()
    log = tmp_path / "index.db-wal"
    assert log.stat().st_size > 0
    assert catalog.checkpoint() == 0
    assert catalog.checkpoint(truncate=True) == 0
    assert log.stat().st_size == 0


def test_files_are_private(catalog, tmp_path):
    Writer(catalog).bucket()
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
