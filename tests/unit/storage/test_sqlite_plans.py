"""Every statement the catalog runs finds its rows by an index, and a page of a listing by that alone."""

import re

import pytest
from contract.storage_kit import QUESTIONS, StillClock, Writer, one_of_each_change

from s3lite.catalog.schema import MIGRATIONS
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql import SqlRead
from s3lite.catalog.sql_write import SqlTx
from s3lite.catalog.sqlite import MEMORY, SqliteCatalog

WHOLE_TABLE = re.compile(r"SCAN (?!each|json_each|same_key|later_keys|held|open_ones|CONSTANT)")


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

    def later(self, sql, values=()):
        self.run(sql, values)


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


def test_walk_objects_seeks_in_the_covering_index(explained):
    read(explained).walk_objects(1, prefix=b"a", delimiter=b"/", lower=b"a", upper=b"b", limit=9)
    steps = [plan for plan in explained.plans if "versions" in plan]
    assert len(steps) == 3
    assert all(plan.startswith("SEARCH versions USING COVERING INDEX versions_listed") for plan in steps)
    assert not [plan for plan in explained.plans if "TEMP B-TREE" in plan]


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_search_and_do_not_sort(explained, question):
    question(read(explained))
    assert explained.plans
    assert not [plan for plan in explained.plans if WHOLE_TABLE.search(plan) or "TEMP B-TREE" in plan]


def test_changes_search(catalog, explained):
    change = one_of_each_change(Writer(catalog))
    explained.session.run("BEGIN")
    change(SqlTx(explained, SecretBox(b"k" * 32), StillClock().time_ms))
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


def test_lanes_are_found_by_seeks_however_long_they_are(explained):
    read(explained).outbox_lanes(after="a", limit=9)
    steps = [plan for plan in explained.plans if "outbox" in plan]
    assert len(steps) == 3
    assert all(plan.startswith("SEARCH outbox USING COVERING INDEX outbox_waiting (lane") for plan in steps)
