"""A catalog against a dictionary: whatever is done in whatever order, counts and latest stay right."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from contract.storage_kit import StillClock, Writer, open_postgres, open_sqlite
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from s3lite.catalog.sqlite import MEMORY

KEYS = st.sampled_from(["a", "a/b", "é", "b\0"])


class CatalogMachine(RuleBasedStateMachine):
    """The model: versions in order of commit with the blobs each holds, and open uploads with theirs."""

    versions = Bundle("versions")
    uploads = Bundle("uploads")

    def open(self):
        """The catalog, and what takes it away."""
        return open_sqlite(MEMORY, StillClock()), lambda: None

    @initialize()
    def start(self):
        self.catalog, self.remove_catalog = self.open()
        self.writer = Writer(self.catalog)
        self.bucket = self.writer.bucket()
        self.held = {}  # row -> blobs
        self.made = {}  # row -> version
        self.parts = {}  # upload -> {number: blob}
        self.forgotten = set()
        self.known = set()

    def teardown(self):
        if hasattr(self, "catalog"):
            self.catalog.close()
            self.remove_catalog()

    def new_id(self):
        return self.writer.ids.version()

    def hold(self, version, blobs):
        self.made[version.row] = version
        self.held[version.row] = blobs
        return version

    @rule(target=versions, key=KEYS, inline=st.booleans())
    def put(self, key, inline):
        stored = self.writer.stored(inline=inline)
        version = self.writer.version(self.bucket, key, self.new_id(), stored=stored)
        self.known.add(stored.id)
        return self.hold(version, [stored.id])

    @rule(target=versions, key=KEYS)
    def mark_deleted(self, key):
        version = self.writer.version(self.bucket, key, self.new_id(), is_delete_marker=True)
        return self.hold(version, [])

    @rule(target=versions, source=versions, key=KEYS)
    def copy(self, source, key):
        if source.row not in self.held:
            if source.part_count or (source.blob and not self.writer.refs().get(source.blob)):
                with pytest.raises(LookupError):
                    self.writer.version(self.bucket, key, self.new_id(), copy_of=source)
            return source
        version = self.writer.version(self.bucket, key, self.new_id(), copy_of=source)
        return self.hold(version, list(self.held[source.row]))

    @rule(target=versions, source=versions)
    def copy_over_itself(self, source):
        if source.row not in self.held:
            return source

        def work(tx):
            tx.remove_version(source)
            return self.writer.insert(tx, self.bucket, source.key, source.version_id, copy_of=source)

        version = self.catalog.write(work)
        return self.hold(version, self.held.pop(source.row))

    @rule(version=versions)
    def remove(self, version):
        self.catalog.write(lambda tx: tx.remove_version(version))
        self.held.pop(version.row, None)

    @rule(target=uploads, key=KEYS)
    def begin(self, key):
        upload = self.writer.upload(self.bucket, key)
        self.parts[upload.row] = {}
        return upload

    @rule(upload=uploads, number=st.integers(1, 4))
    def put_part(self, upload, number):
        blob = self.writer.part(upload, number).blob
        self.known.add(blob)
        self.parts[upload.row][number] = blob

    @rule(upload=uploads, number=st.integers(1, 4), source=versions)
    def copy_part(self, upload, number, source):
        if source.row in self.held and source.blob:
            self.writer.part(upload, number, size=source.size, copied=source.blob)
            self.parts[upload.row][number] = source.blob

    @rule(target=versions, upload=consumes(uploads), chosen=st.sets(st.integers(1, 4)))
    def complete(self, upload, chosen):
        parts = self.parts.pop(upload.row)
        numbers = sorted(chosen & set(parts)) or sorted(parts)
        if not numbers:
            self.catalog.write(lambda tx: tx.remove_upload(upload))
            return self.mark_deleted(upload.key)
        version = self.writer.complete(upload, numbers, self.new_id())
        return self.hold(version, [parts[number] for number in numbers])

    @rule(upload=consumes(uploads))
    def abort(self, upload):
        self.catalog.write(lambda tx: tx.remove_upload(upload))
        del self.parts[upload.row]

    @rule(of_account=st.booleans(), bound=st.sampled_from([None, 0, 1 << 40]))
    def set_quota(self, of_account, bound):
        """Counters begin whenever a quota does; the catalog itself refuses nothing."""

        def work(tx):
            if of_account:
                tx.put_account_quota("alice", max_bytes=bound, max_objects=None)
            else:
                tx.put_bucket_quota(self.bucket, max_bytes=bound, max_objects=None)

        self.catalog.write(work)

    @rule(limit=st.integers(1, 3))
    def sweep(self, limit):
        with self.catalog.read() as tx:
            due = [each.blob for each in tx.due_garbage(before_ms=1 << 60, limit=limit)]
        self.catalog.write(lambda tx: tx.forget_garbage(due))
        self.forgotten.update(due)

    @invariant()
    def counts_are_right(self):
        if not hasattr(self, "catalog"):
            return
        expected = Counter(dict.fromkeys(self.known - self.forgotten, 0))
        for blobs in (*self.held.values(), *(parts.values() for parts in self.parts.values())):
            expected.update(blobs)
        assert self.writer.refs() == dict(expected)
        assert self.writer.garbage() == {blob for blob, count in expected.items() if not count}
        with self.catalog.read() as tx:
            assert tx.reference_faults(limit=5) == []

    @invariant()
    def quotas_are_counted(self):
        if not hasattr(self, "catalog"):
            return
        with self.catalog.read() as tx:
            sizes = {blob: size for blob, size, _, _ in tx.stored_blobs(limit=100_000)}
            quotas = tx.quotas()
            is_counted = "quota" in tx.bucket(self.bucket.name).configs
        held = [*self.held.values(), *(parts.values() for parts in self.parts.values())]
        size = sum(sizes[blob] for blobs in held for blob in blobs)
        objects = sum(not self.made[row].is_delete_marker for row in self.held)
        assert {(quota.bytes, quota.objects) for quota in quotas} <= {(size, objects)}
        assert is_counted == bool(quotas)

    @invariant()
    def listings_are_right(self):
        if not hasattr(self, "catalog"):
            return
        order = sorted(
            (self.made[row] for row in self.held), key=lambda version: (version.key.encode(), -version.row)
        )
        with self.catalog.read() as tx:
            listed = tx.list_versions(self.bucket.id, lower=b"", upper=None, limit=9999)
            objects = tx.list_objects(self.bucket.id, lower=b"", upper=None, limit=9999)
        assert [entry.row for entry in listed] == [version.row for version in order]
        latest = {version.key: version for version in reversed(order)}
        assert {entry.key: entry.row for entry in listed if entry.is_latest} == {
            key: version.row for key, version in latest.items()
        }
        assert [entry.key for entry in objects] == [
            key for key in sorted(latest, key=str.encode) if not latest[key].is_delete_marker
        ]


class FileMachine(CatalogMachine):
    def open(self):
        directory = tempfile.TemporaryDirectory()
        return open_sqlite(Path(directory.name) / "index.db", StillClock()), directory.cleanup


def test_catalog_in_memory_agrees_with_a_dictionary():
    agrees(CatalogMachine, 40)


def test_catalog_in_a_file_agrees_with_a_dictionary():
    agrees(FileMachine, 10)


def test_catalog_on_postgres_agrees_with_a_dictionary(postgres_server):
    class PostgresMachine(CatalogMachine):
        def open(self):
            url = postgres_server.database()
            return open_postgres(url, StillClock()), lambda: postgres_server.drop(url)

    agrees(PostgresMachine, 10)


def agrees(machine, examples):
    run_machine(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
