"""On PostgreSQL, too, every statement finds its rows by an index, and a page of a listing by that alone."""

import json

import psycopg
import pytest
from contract.storage_kit import QUESTIONS, StillClock, Writer, one_of_each_change, open_postgres
from psycopg import sql as compose

from s3lite.catalog.dialect import statement
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql import SqlRead
from s3lite.catalog.sql_write import SqlTx

ROWS = 20_000
SMALL = {"same_key", "later_keys", "held", "each"}


class Explained:
    """A session on a connection set up as the catalog's, that keeps a generic plan of each statement."""

    def __init__(self, raw):
        self.raw = raw
        self.plans = []
        self.options = "FORMAT JSON"

    def execute(self, sql, values):
        text = statement(sql)
        self.raw.execute(f"PREPARE it AS {text}", prepare=False)
        literals = compose.SQL(", ").join(compose.Literal(value) for value in values)
        call = compose.SQL("({})").format(literals) if values else compose.SQL("")
        explain = compose.SQL(f"EXPLAIN ({self.options}) EXECUTE it") + call
        self.plans.append(self.raw.execute(explain, prepare=False).fetchone()[0][0]["Plan"])
        self.raw.execute("DEALLOCATE it")
        return self.raw.execute(text, values)

    def one(self, sql, values=()):
        return self.execute(sql, values).fetchone()

    def all(self, sql, values=()):
        return self.execute(sql, values).fetchall()

    def run(self, sql, values=()):
        return self.execute(sql, values).rowcount

    def later(self, sql, values=()):
        self.execute(sql, values)

    def nodes(self):
        """Every step of every plan."""
        waiting = list(self.plans)
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", [])
            yield node


@pytest.fixture(scope="module")
def filled(postgres_server):
    """A bucket with many keys, and statistics that know of them."""
    url = postgres_server.database()
    catalog = open_postgres(url, StillClock())
    writer = Writer(catalog)
    bucket = writer.bucket("filled")
    version = writer.version(bucket, "k", stored=writer.stored())
    columns = [
        row[0]
        for row in fetch(
            url,
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = 'versions'",
        )
    ]
    others = ", ".join(name for name in columns if name not in ("row", "key", "blob"))
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute(
            f"INSERT INTO versions (key, {others}) SELECT convert_to('k' || lpad(n::text, 8, '0'), 'UTF8'), {others} "
            f"FROM versions, generate_series(1, {ROWS}) AS n WHERE row = {version.row}"
        )
        raw.execute(
            f"INSERT INTO blobs (id, size, refs) SELECT lpad(n::text, 32, '0'), 1, 1 FROM generate_series(1, {ROWS}) AS n"
        )
        raw.execute("VACUUM ANALYZE")
    yield catalog, bucket
    catalog.close()
    postgres_server.drop(url)


def fetch(url, sql):
    with psycopg.connect(url) as raw:
        return raw.execute(sql).fetchall()


@pytest.fixture
def explained(filled):
    catalog, _ = filled
    connection = catalog._connect()
    yield Explained(connection.raw)
    connection.close()


def whole_tables(explained):
    return [
        node
        for node in explained.nodes()
        if node["Node Type"] == "Seq Scan" and node.get("Alias") not in SMALL
    ]


def test_a_page_of_a_listing_is_an_index_only_scan(filled, explained):
    _, bucket = filled
    SqlRead(explained, SecretBox(b"k" * 32)).list_objects(bucket.id, lower=b"k", upper=b"l", limit=1000)
    (limit,) = explained.plans
    (scan,) = limit["Plans"]
    assert (limit["Node Type"], scan["Node Type"]) == ("Limit", "Index Only Scan")
    assert scan["Index Name"] == "versions_listed"


@pytest.mark.parametrize("lower", [b"", b"k00010000", b"k00019990"])
def test_a_step_of_a_delimiter_reads_a_few_pages_wherever_it_is(filled, explained, lower):
    _, bucket = filled
    explained.options = "ANALYZE, BUFFERS, FORMAT JSON"
    SqlRead(explained, SecretBox(b"k" * 32)).list_objects(bucket.id, lower=lower, upper=None, limit=1)
    (plan,) = explained.plans
    (scan,) = plan["Plans"]
    assert (scan["Node Type"], scan["Heap Fetches"]) == ("Index Only Scan", 0)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= 8, json.dumps(plan)


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_search_and_do_not_sort(explained, question):
    question(SqlRead(explained, SecretBox(b"k" * 32)))
    assert explained.plans
    assert whole_tables(explained) == []
    assert [node for node in explained.nodes() if "Sort" in node["Node Type"]] == []


def test_changes_search(filled, explained):
    catalog, _ = filled
    change = one_of_each_change(Writer(catalog))
    explained.raw.execute("BEGIN")
    change(SqlTx(explained, SecretBox(b"k" * 32), StillClock().time_ms))
    explained.raw.execute("COMMIT")
    assert whole_tables(explained) == []
    read_in_order = [node for node in explained.nodes() if node.get("Plan Rows", 0) > ROWS / 4]
    assert read_in_order == []
