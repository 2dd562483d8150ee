"""What happens to the PostgreSQL catalog when connections break, servers restart and others are in the way."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from contract.storage_kit import StillClock, Writer, open_postgres
from engines.cutter import Cutter
from engines.servers import Postgres, scratch_directory

from s3lite.blobs.memory import MemoryBlobs
from s3lite.catalog.base import CatalogBusyError, CatalogDoubtError
from s3lite.core.write import discarding
from s3lite.model import Stored


@pytest.fixture
def catalog(postgres_url):
    catalog = open_postgres(postgres_url, StillClock())
    yield catalog
    with catalog.read() as tx:
        assert tx.reference_faults(limit=9) == []
    catalog.close()


@pytest.fixture
def writer(catalog):
    return Writer(catalog)


@pytest.fixture
def cutter(postgres_url):
    parts = urlsplit(postgres_url)
    cutter = Cutter((parts.hostname, parts.port))
    yield cutter
    cutter.close()


@pytest.fixture
def through(postgres_url, cutter):
    """A catalog whose connections the cutter can cut."""
    url = postgres_url.replace(f":{urlsplit(postgres_url).port}/", f":{cutter.port}/")
    catalog = open_postgres(url, StillClock(), statement_timeout_s=2, wait_s=2)
    yield catalog
    catalog.close()


def keys(catalog, bucket):
    with catalog.read() as tx:
        return [entry.key for entry in tx.list_versions(bucket.id, lower=b"", upper=None, limit=999)]


def terminate_all(server):
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 's3lite'")


def test_killed_connections_are_replaced(postgres_server, catalog, writer):
    bucket = writer.bucket()
    with ThreadPoolExecutor(5) as pool:  # several connections, all to be killed
        list(pool.map(lambda number: writer.version(bucket, f"k{number}"), range(20)))
    terminate_all(postgres_server)
    assert len(keys(catalog, bucket)) == 20
    terminate_all(postgres_server)
    writer.version(bucket, "another")
    assert len(keys(catalog, bucket)) == 21


def test_a_server_that_restarts_costs_time_only(postgres_server, postgres_url):
    catalog = open_postgres(postgres_url, StillClock(), wait_s=60)
    writer = Writer(catalog)
    bucket = writer.bucket()
    stop = threading.Event()
    written = []

    def write(name):
        number = 0
        while not stop.is_set():
            key = f"{name}-{number}"
            writer.version(bucket, key, writer.ids.version(), stored=writer.stored(inline=True))
            written.append(key)
            number += 1

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(write, name) for name in "abcd"]
        time.sleep(0.3)
        postgres_server.stop("immediate")
        postgres_server.start()
        time.sleep(0.5)
        stop.set()
        for each in running:
            each.result()
    assert sorted(version.key for version in catalog.iter_versions()) == sorted(written)
    catalog.close()


def test_a_server_that_stays_away_is_busy_and_comes_back(writer, cutter, through):
    bucket = writer.bucket()
    cutter.cut("before", b"SELECT", goes_down=True)
    with pytest.raises(CatalogBusyError):
        keys(through, bucket)
    with pytest.raises(CatalogBusyError):
        Writer(through).version(bucket, "k")
    cutter.is_down = False
    Writer(through).version(bucket, "k")
    assert keys(through, bucket) == ["k"]


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_commit_that_is_cut_happens_once(catalog, writer, cutter, through, how):
    bucket = writer.bucket()
    runs = []

    def work(tx):
        runs.append(writer.insert(tx, bucket, "k", f"v{len(runs)}", stored=writer.stored()))
        return runs[-1]

    cutter.cut(how, b"COMMIT")
    made = through.write(work)
    assert cutter.cuts == 1
    assert len(runs) == (2 if how == "before" else 1)
    with catalog.read() as tx:
        (found,) = tx.list_versions(bucket.id, lower=b"", upper=None, limit=9)
    assert found.version_id == made.version_id


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_commit_in_doubt_keeps_the_bytes_that_it_may_need(catalog, writer, cutter, through, how):
    bucket = writer.bucket()
    blobs = MemoryBlobs()
    with blobs.create() as bytes_writer:
        stored = Stored(bytes_writer.commit(), 0)
    cutter.cut(how, b"COMMIT", goes_down=True)
    with (
        pytest.raises(CatalogDoubtError, match="not known"),
        discarding(SimpleNamespace(blobs=blobs), stored),
    ):
        through.write(lambda tx: writer.insert(tx, bucket, "k", stored=stored))
    assert len(list(blobs.scan())) == 1
    assert keys(catalog, bucket) == (["k"] if how == "after" else [])


def test_a_question_that_is_cut_is_asked_again(catalog, writer, cutter, through):
    bucket = writer.bucket()
    writer.version(bucket, "k")
    cutter.cut("before", b"SELECT")
    assert keys(through, bucket) == ["k"]
    assert cutter.cuts == 1


def test_deadlocks_are_run_again(catalog, writer):
    bucket = writer.bucket()
    met = threading.Barrier(2)
    runs = []

    def copy(source, target):
        def work(tx):
            runs.append(source)
            tx.current_version(bucket.id, source)
            if len(runs) <= 2:
                met.wait(5)
            writer.insert(tx, bucket, target, writer.ids.version())

        catalog.write(work)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(copy, "ab", "ba"))
    assert len(runs) == 3
    assert keys(catalog, bucket) == ["a", "b"]


def test_two_that_change_one_bucket_do_not_deadlock(catalog, writer):
    writer.bucket()
    met = threading.Barrier(2)
    runs = []

    def configure(name):
        def work(tx):
            runs.append(name)
            live = tx.bucket("bucket")
            if len(runs) <= 2:
                met.wait(5)
            tx.put_bucket_config(live.id, name, b"x")

        catalog.write(work)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(configure, ("cors", "tagging")))
    assert len(runs) == 4
    with catalog.read() as tx:
        assert tx.bucket("bucket").configs == {"cors", "tagging"}


def test_a_bucket_is_deleted_or_filled_and_never_both(catalog, writer):
    outcomes = []
    for attempt in range(30):
        bucket = writer.bucket(f"b{attempt}")

        def delete(tx, bucket=bucket):
            if not tx.bucket_is_empty(bucket.id):
                return False
            tx.delete_bucket(bucket.id)
            return True

        def fill(tx, bucket=bucket):
            if tx.bucket(bucket.name) is None:
                return False
            writer.insert(tx, bucket, "k")
            return True

        with ThreadPoolExecutor(2) as pool:
            outcome = tuple(pool.map(catalog.write, (delete, fill)))
        assert sorted(outcome) == [False, True]
        outcomes.append(outcome)


def test_a_transaction_of_many_keys_locks_the_bucket_instead(writer):
    directory = scratch_directory("small")
    server = Postgres(directory, "fsync=off", "max_connections=10", "max_locks_per_transaction=10")
    try:
        catalog = open_postgres(server.url, StillClock(), connections=2)
        writer = Writer(catalog)
        bucket = writer.bucket()
        catalog.write(lambda tx: [writer.insert(tx, bucket, f"k{number}") for number in range(900)])
        assert len(keys(catalog, bucket)) == 900
        catalog.close()
    finally:
        server.remove()


def test_a_statement_that_takes_too_long_is_busy(postgres_server, postgres_url, writer):
    bucket = writer.bucket()
    impatient = open_postgres(postgres_url, StillClock(), statement_timeout_s=0.3)
    holds, done = threading.Event(), threading.Event()

    def hold(tx):
        tx.current_version(bucket.id, "k")
        holds.set()
        done.wait(10)

    thread = threading.Thread(target=writer.catalog.write, args=(hold,))
    thread.start()
    holds.wait(5)
    with pytest.raises(CatalogBusyError):
        impatient.write(lambda tx: writer.insert(tx, bucket, "k"))
    done.set()
    thread.join()
    impatient.close()


def test_more_threads_than_connections_wait(postgres_url, writer):
    bucket = writer.bucket()
    narrow = open_postgres(postgres_url, StillClock(), connections=2)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: narrow.write(lambda tx: writer.insert(tx, bucket, f"k{n:03d}")), range(200)))
    assert len(keys(narrow, bucket)) == 200
    narrow.close()


def test_names_that_postgres_cannot_hold_match_nothing(catalog, writer):
    bucket = writer.bucket()
    with catalog.read() as tx:
        assert tx.version(bucket.id, "k", "\0") is None
        assert tx.bucket("buck\0et") is None
        assert tx.buckets(owner_id=None, after="\0") == [bucket]


def test_rows_of_connections_long_gone_are_forgotten(catalog, writer):
    writer.bucket()
    count = "SELECT count(*) FROM sessions"
    assert catalog.ask(count, (), lambda cursor: cursor.fetchone()) == (1,)
    catalog.checkpoint()
    assert catalog.ask(count, (), lambda cursor: cursor.fetchone()) == (1,)
    catalog._clock.now += 7200
    catalog.checkpoint()
    assert catalog.ask(count, (), lambda cursor: cursor.fetchone()) == (0,)
    writer.bucket("b2")
    assert catalog.ask(count, (), lambda cursor: cursor.fetchone()) == (1,)
