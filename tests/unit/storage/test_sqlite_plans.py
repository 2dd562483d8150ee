"""Every statement the catalog runs finds its rows by an index, and a page of a listing by that alone."""

import re

import pytest
from contract.storage_kit import ACL, HEAD, StillClock, Writer

from s3lite.catalog.schema import MIGRATIONS
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql import SqlRead
from s3lite.catalog.sql_write import SqlTx
from s3lite.catalog.sqlite import MEMORY, SqliteCatalog
from s3lite.model import Completion, Part

WHOLE_TABLE = re.compile(r"SCAN (?!each|json_each|same_key|later_keys|held|CONSTANT)")


class Explained:
    """A session that keeps the plan of each statement it passes on."""

    def __init__(self, session):
        self.session = session
        self.plans = []

    def _explain(self, sql, values):
        if not sql.startswith(("SAVEPOINT", "RELEASE")):
            self.plans += [row[3] for row in self.session.all("EXPLAIN QUERY PLAN " + sql, values)]

    def one(self, sql, values=()):
        self._explain(sql, values)
        return self.session.one(sql, values)

    def all(self, sql, values=()):
        self._explain(sql, values)
        return self.session.all(sql, values)

    def run(self, sql, values=()):
        self._explain(sql, values)
        return self.session.run(sql, values)


@pytest.fixture
def catalog():
    catalog = SqliteCatalog(MEMORY, durability="relaxed", clock=StillClock(), secrets=SecretBox(b"k" * 32))
    catalog.migrate()
    yield catalog
    catalog.close()


@pytest.fixture
def explained(catalog):
    with catalog.read() as tx:
        return Explained(tx.session)


def read(explained):
    return SqlRead(explained, SecretBox(b"k" * 32))


def test_list_objects_reads_the_covering_index_only(explained):
    read(explained).list_objects(1, lower=b"a", upper=b"b", limit=9)
    (plan,) = explained.plans
    assert plan == ("SEARCH versions USING COVERING INDEX versions_listed (bucket_id=? AND key>? AND key<?)")


@pytest.mark.parametrize(
    "question",
    [
        lambda tx: tx.account("a"),
        lambda tx: tx.account_by_email("a"),
        lambda tx: tx.access_key("a"),
        lambda tx: tx.access_keys("a"),
        lambda tx: tx.bucket("a"),
        lambda tx: tx.buckets(owner_id="a", prefix="b"),
        lambda tx: tx.bucket_is_empty(1),
        lambda tx: tx.bucket_config(1, "cors"),
        lambda tx: tx.current_version(1, "a"),
        lambda tx: tx.version(1, "a", "v"),
        lambda tx: tx.versions_after(1, 9),
        lambda tx: tx.segments(1),
        lambda tx: tx.inline_data("a"),
        lambda tx: tx.list_versions(1, lower=b"a", upper=None, after_row=9, limit=9),
        lambda tx: tx.upload(1, "a", "u"),
        lambda tx: tx.list_uploads(1, lower=b"a", upper=b"b", after_row=1, limit=9),
        lambda tx: tx.expired_uploads(before_ms=1, limit=9),
        lambda tx: tx.part(1, 1),
        lambda tx: tx.parts(1),
        lambda tx: tx.completion(1, "a", "u"),
        lambda tx: tx.due_garbage(before_ms=1, limit=9),
        lambda tx: tx.is_referenced("a"),
        lambda tx: tx.known_blobs(["a"]),
        lambda tx: tx.stored_blobs(limit=9),
        lambda tx: tx.setting("a"),
    ],
)
def test_questions_search_and_do_not_sort(explained, question):
    question(read(explained))
    assert explained.plans
    assert not [plan for plan in explained.plans if WHOLE_TABLE.search(plan) or "TEMP B-TREE" in plan]


def test_changes_search(catalog, explained):
    writer = Writer(catalog)
    bucket = writer.bucket()
    upload, other = writer.upload(bucket), writer.upload(bucket)
    for number in (1, 2):
        writer.part(upload, number)
    explained.session.run("BEGIN")
    tx = SqlTx(explained, SecretBox(b"k" * 32), StillClock().time_ms)
    blob = writer.ids.blob()
    version = writer.insert(tx, bucket, "k", stored=writer.stored(inline=True))
    tx.put_part(upload.row, Part(3, version.size, "e", 1, version.blob), stored=None)
    done = tx.complete_upload(
        upload, part_numbers=[1], version_id="v", etag="e", modified_ms=1, checksum=None
    )
    writer.insert(tx, bucket, "copy", copy_of=done, head=HEAD, acl=ACL)
    tx.remove_version(version)
    tx.remove_version(done)
    tx.settle()
    tx.remove_upload(other)
    tx.forget_garbage([blob])
    tx.put_completion(Completion("u", bucket.id, "k", "f", "e", "v", 1, 1))
    tx.set_completion_callback("u", state="ok")
    tx.forget_completions(before_ms=9)
    tx.take_lease("a", holder="b", ttl_s=1)
    tx.delete_bucket(99)
    explained.session.run("COMMIT")
    assert not [plan for plan in explained.plans if WHOLE_TABLE.search(plan)]


def test_every_foreign_key_has_an_index_for_its_checks(explained):
    tables = {
        re.match(r"CREATE TABLE (\w+)", text)[1] for m in MIGRATIONS for text in m if "CREATE TABLE" in text
    }
    for table in tables:
        for key in explained.session.all(f"PRAGMA foreign_key_list({table})"):
            column = key[3]
            plan = explained.session.all(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = 1")
            assert "SEARCH" in plan[0][3], (table, column)
