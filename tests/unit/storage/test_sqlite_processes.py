"""Several processes on one index, and processes that end without warning."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from contract.storage_kit import StillClock, Writer

from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import SqliteCatalog

HERE = Path(__file__).resolve()
PATHS = os.pathsep.join([str(HERE.parents[3]), str(HERE.parents[2])])

OPEN = """
import sys
from pathlib import Path
from contract.storage_kit import StillClock, Writer
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import SqliteCatalog
catalog = SqliteCatalog(
    Path(sys.argv[1]), durability="full", clock=StillClock(), secrets=SecretBox(b"k" * 32))
catalog.migrate()
writer = Writer(catalog)
with catalog.read() as tx:
    bucket = tx.bucket("bucket")
print("ready", flush=True)
sys.stdin.readline()
"""

RACE = """
wins = 0
for number in range(40):
    def work(tx):
        if tx.current_version(bucket.id, f"k{number}") is not None:
            return 0
        writer.insert(tx, bucket, f"k{number}", stored=writer.stored(inline=True))
        return 1
    wins += catalog.write(work)
print(wins, flush=True)
"""

LOOP = """
import itertools, threading
def loop(name):
    for number in itertools.count():
        key = f"{name}-{number}"
        version = writer.version(bucket, key, stored=writer.stored(key.encode() * 500, inline=True))
        sys.stdout.write(key + "\\n")
        sys.stdout.flush()
for name in "abcd":
    threading.Thread(target=loop, args=(name,)).start()
"""


def open_catalog(tmp_path):
    catalog = SqliteCatalog(
        tmp_path / "index.db", durability="full", clock=StillClock(), secrets=SecretBox(b"k" * 32)
    )
    catalog.migrate()
    return catalog


@pytest.fixture
def bucket(tmp_path):
    catalog = open_catalog(tmp_path)
    bucket = Writer(catalog).bucket()
    catalog.close()
    return bucket


def start(script, tmp_path):
    return subprocess.Popen(
        [sys.executable, "-c", OPEN + script, str(tmp_path / "index.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PATHS},
    )


def test_a_condition_has_one_winner_among_processes(tmp_path, bucket):
    processes = [start(RACE, tmp_path) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    wins = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(wins) == 40
    catalog = open_catalog(tmp_path)
    with catalog.read() as tx:
        assert tx.counts()["objects"] == 40
        assert tx.reference_faults(limit=9) == []
    catalog.close()


def test_what_was_acknowledged_outlives_kill_9(tmp_path, bucket):
    acknowledged = []
    for _ in range(3):
        process = start(LOOP, tmp_path)
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        for _ in range(50):
            acknowledged.append(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        rest = process.communicate(timeout=30)[0]
        acknowledged += rest.rpartition("\n")[0].split("\n") if "\n" in rest else []
        catalog = open_catalog(tmp_path)
        with catalog.read() as tx:
            for key in acknowledged:
                version = tx.current_version(bucket.id, key)
                assert tx.inline_data(version.blob) == key.encode() * 500
            listed = tx.list_objects(bucket.id, lower=b"", upper=None, limit=100_000)
            assert len(listed) <= len(acknowledged) + 4
            assert tx.reference_faults(limit=9) == []
        assert catalog.quick_check() == []

        def clear(tx, catalog=catalog):
            for version in list(catalog.iter_versions()):
                tx.remove_version(version)

        catalog.write(clear)
        catalog.close()
        acknowledged = []


def test_a_forked_child_opens_its_own_connections(tmp_path, bucket):
    catalog = open_catalog(tmp_path)
    writer = Writer(catalog)
    writer.version(bucket, "parent")
    with catalog.read() as tx:
        inherited = tx.session
        child = os.fork()
        if not child:
            good = False
            try:
                with catalog.read() as own:
                    good = own.session is not inherited and own.bucket("bucket") == bucket
                writer.version(bucket, "child")
            finally:
                os._exit(0 if good else 1)
    writer.version(bucket, "parent too")
    assert os.waitpid(child, 0)[1] == 0
    with catalog.read() as tx:
        assert tx.counts()["objects"] == 3
    catalog.close()
