"""Many threads on one catalog: conditions have one winner, nothing is lost, errors stay apart."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest


class Taken(Exception):
    """The key exists."""


def test_a_condition_has_exactly_one_winner(catalog, writer, bucket):
    barrier = threading.Barrier(16)

    def create(number, key):
        def work(tx):
            if tx.current_version(bucket.id, key) is not None:
                raise Taken
            writer.insert(tx, bucket, key, stored=writer.stored(b"%d" % number, inline=True))

        barrier.wait()
        try:
            catalog.write(work)
        except Taken:
            return 0
        return 1

    with ThreadPoolExecutor(16) as pool:
        for attempt in range(20):
            wins = list(pool.map(lambda number, key=f"k{attempt}": create(number, key), range(16)))
            assert sum(wins) == 1
    assert len(writer.refs()) == 20


def test_failures_among_concurrent_writes_lose_nothing(catalog, writer, bucket):
    def write(number):
        def work(tx):
            writer.insert(tx, bucket, f"k{number:03d}", stored=writer.stored(inline=True))
            if number % 3 == 0:
                raise Taken
            return number

        if number % 3 == 0:
            with pytest.raises(Taken):
                catalog.write(work)
            return None
        result = catalog.write(work)
        with catalog.read() as tx:
            assert tx.current_version(bucket.id, f"k{number:03d}") is not None
        return result

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(write, range(300)))
    expected = [number for number in range(300) if number % 3]
    assert [result for result in results if result is not None] == expected
    with catalog.read() as tx:
        listed = tx.list_objects(bucket.id, lower=b"", upper=None, limit=999)
    assert [entry.key for entry in listed] == [f"k{number:03d}" for number in expected]


def test_readers_never_see_half_a_write(catalog, writer, bucket):
    stop = threading.Event()

    def swap():
        while not stop.is_set():

            def work(tx):
                current = tx.current_version(bucket.id, "k")
                if current is not None:
                    tx.remove_version(current)
                writer.insert(tx, bucket, "k")

            catalog.write(work)

    writer.version(bucket, "k")
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(500):
            with catalog.read() as tx:
                assert tx.current_version(bucket.id, "k") is not None
                assert len(tx.list_objects(bucket.id, lower=b"", upper=None, limit=9)) == 1
    finally:
        stop.set()
        thread.join()
