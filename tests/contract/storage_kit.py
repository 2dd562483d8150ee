"""Short ways to fill a catalog, for the tests of the storage layer."""

from __future__ import annotations

from s3lite.catalog.questions import Chosen
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import SqliteCatalog
from s3lite.ids import Ids
from s3lite.messages import OutboxEntry, Settlement
from s3lite.model import Acl, Bucket, Completion, Grant, ObjectHead, Part, Stored
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


def open_postgres(url, clock, durability="full", **settings):
    """An index in a database of PostgreSQL."""
    from s3lite.catalog.postgres import PostgresCatalog

    catalog = PostgresCatalog(
        url,
        durability=durability,
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
            return {each.blob for each in tx.due_garbage(before_ms=1 << 60, limit=100_000)}


QUESTIONS = (
    lambda tx: tx.account("a"),
    lambda tx: tx.account_by_email("a"),
    lambda tx: tx.access_key("a"),
    lambda tx: tx.access_keys("a"),
    lambda tx: tx.bucket("a"),
    lambda tx: tx.buckets(owner_id="a", prefix="b"),
    lambda tx: tx.bucket_is_empty(1),
    lambda tx: tx.bucket_config(1, "cors"),
    lambda tx: tx.current_version(1, "a"),
    lambda tx: tx.bucket_and_current("a", "a"),
    lambda tx: tx.version(1, "a", "v"),
    lambda tx: tx.versions_after(1, 9),
    lambda tx: tx.segments(1),
    lambda tx: tx.inline_data("a"),
    lambda tx: tx.list_versions(1, lower=b"a", upper=None, after_row=9, limit=9),
    lambda tx: tx.upload(1, "a", "u"),
    lambda tx: tx.list_uploads(1, lower=b"a", upper=b"b", after_row=1, limit=9),
    lambda tx: tx.expired_uploads(before_ms=1, limit=9),
    lambda tx: tx.count_uploads(1, most=9),
    lambda tx: tx.part(1, 1),
    lambda tx: tx.parts(1),
    lambda tx: tx.completion(1, "a", "u"),
    lambda tx: tx.due_garbage(before_ms=1, limit=9),
    lambda tx: tx.is_referenced("a"),
    lambda tx: tx.known_blobs(["a"]),
    lambda tx: tx.stored_blobs(limit=9),
    lambda tx: tx.sealed_checksum("a"),
    lambda tx: tx.versions_under("k#1", limit=9),
    lambda tx: tx.uploads_under("k#1", limit=9),
    lambda tx: tx.setting("a"),
    lambda tx: tx.outbox_entry("a"),
    lambda tx: tx.outbox_due(now_ms=1, limit=9),
    lambda tx: tx.outbox_next(now_ms=1),
    lambda tx: tx.outbox_entries(Chosen(), dead=True, limit=9),
    lambda tx: tx.deliveries("a", limit=9),
    lambda tx: tx.quotas_of(Bucket(1, "a", "b", 1, "", ACL)),
)
"""One of each kind that a request or the upkeep asks: none may read a whole table."""


def one_of_each_change(writer):
    """Prepare what they work on; the changes, as a function of a transaction."""
    bucket = writer.bucket()
    writer.catalog.write(lambda tx: tx.put_bucket_quota(bucket, max_bytes=1 << 40, max_objects=None))
    upload, other = writer.upload(bucket), writer.upload(bucket)
    for number in (1, 2):
        writer.part(upload, number)

    def change(tx):
        blob = writer.ids.blob()
        version = writer.insert(tx, bucket, "k", stored=writer.stored(inline=True))
        tx.put_part(upload.row, Part(3, version.size, "e", 1, version.blob), stored=None)
        done = tx.complete_upload(
            upload, part_numbers=[1], version_id="v", etag="e", modified_ms=1, checksum=None
        )
        writer.insert(tx, bucket, "copy", copy_of=done)
        tx.remove_version(version)
        tx.remove_version(done)
        tx.settle()
        tx.remove_upload(other)
        tx.forget_garbage([blob])
        tx.put_completion(Completion("u", bucket.id, "k", "f", "e", "v", 1, 1))
        tx.set_completion_callback("u", state="ok")
        tx.forget_completions(before_ms=9)
        tx.take_lease("a", holder="b", ttl_s=1)
        tx.settle_quotas()
        tx.delete_bucket(99)
        _change_the_outbox(tx)

    return change


def _change_the_outbox(tx):
    entry = OutboxEntry(
        id="m", kind="callback", bucket="b", key="k", event="PutObject", destination="d", lane="l", request="{}",
        body=b"", created_ms=1, expires_ms=1, due_ms=1,
    )  # fmt: skip
    tx.add_outbox(entry)
    (taken,) = tx.take_outbox("l", now_ms=1, limit=9, holder="h", until_ms=2)
    tx.rewrite_outbox(taken, body=b"", due_ms=2)
    tx.settle_outbox([Settlement("m", "h", 1, "retry", 3), Settlement("n", "h", 1, "ok")])
    tx.purge_outbox(Chosen(before_ms=9), limit=9)
    tx.forget_deliveries(before_ms=1, keep=9, limit=9)
    tx.count({"a": 1})
