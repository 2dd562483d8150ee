"""Short ways to fill a catalog, for the tests of the storage layer."""

from __future__ import annotations

from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import SqliteCatalog
from s3lite.ids import Ids
from s3lite.model import Acl, Grant, ObjectHead, Part, Stored
from s3lite.settings import DatabaseSettings
from s3lite.times import Clock

ACL = Acl("alice", (Grant("alice", "FULL_CONTROL"),))
HEAD = ObjectHead({"content-type": "text/plain"}, {"a": "b"}, (("t", "1"),), "STANDARD", "/elsewhere")


class StillClock(Clock):
    """A clock that moves when told."""

    now = 1_000_000.0

    def time(self):
        return self.now


def open_sqlite(path, clock):
    """An index in a file, or in memory."""
    catalog = SqliteCatalog(path, durability="relaxed", clock=clock, secrets=SecretBox(b"k" * 32))
    catalog.migrate()
    return catalog


def open_postgres(url, clock, **settings):
    """An index in a database of PostgreSQL."""
    from s3lite.catalog.postgres import PostgresCatalog

    catalog = PostgresCatalog(
        url,
        durability="relaxed",
        clock=clock,
        secrets=SecretBox(b"k" * 32),
        settings=DatabaseSettings(**settings),
    )
    catalog.migrate()
    return catalog


class Writer:
    """Fills a catalog with as few words as a test needs."""

    def __init__(self, catalog):
        self.catalog = catalog
        self.ids = Ids()

    def bucket(self, name="bucket", owner_id="alice"):
        return self.catalog.write(
            lambda tx: tx.create_bucket(
                name=name, owner_id=owner_id, region="r", acl=ACL, created_ms=5, object_lock=True
            )
        )

    def stored(self, data=b"data", *, inline=False):
        return Stored(self.ids.blob(), len(data), data if inline else None)

    def insert(self, tx, bucket, key, version_id="null", *, stored=None, copy_of=None, **more):
        size = copy_of.size if copy_of else stored.size if stored else 0
        values = {"etag": "e", "modified_ms": 7, "owner_id": "alice", "head": HEAD, "acl": ACL} | more
        return tx.insert_version(
            bucket_id=bucket.id,
            key=key,
            version_id=version_id,
            size=size,
            stored=stored,
            copy_of=copy_of,
            **values,
        )

    def version(self, bucket, key, version_id="null", **values):
        return self.catalog.write(lambda tx: self.insert(tx, bucket, key, version_id, **values))

    def upload(self, bucket, key="big", upload_id=None, initiated_ms=1, **values):
        return self.catalog.write(
            lambda tx: tx.create_upload(
                upload_id=upload_id or self.ids.upload(),
                bucket_id=bucket.id,
                key=key,
                owner_id="alice",
                initiator_id="bob",
                initiated_ms=initiated_ms,
                head=HEAD,
                acl=ACL,
                **values,
            )
        )

    def part(self, upload, number, *, size=5, modified_ms=1, copied=None):
        stored = None if copied else self.stored(b"x" * size)
        blob = copied or stored.id
        part = Part(number, size, f"etag{number}", modified_ms, blob, f"sum{number}")
        self.catalog.write(lambda tx: tx.put_part(upload.row, part, stored=stored))
        return part

    def complete(self, upload, numbers, version_id="null"):
        return self.catalog.write(
            lambda tx: tx.complete_upload(
                upload, part_numbers=numbers, version_id=version_id, etag="m-1", modified_ms=9, checksum=None
            )
        )

    def refs(self):
        with self.catalog.read() as tx:
            return {blob: refs for blob, _, refs, _ in tx.stored_blobs(limit=100_000)}

    def garbage(self):
        with self.catalog.read() as tx:
            return set(tx.due_garbage(before_ms=1 << 60, limit=100_000))
