"""Moving an index between engines: every table, row by row, and the freeze that keeps it still meanwhile.

Rows are copied as they are: values sealed under the key file stay sealed. Leases, and what belongs to an
engine alone, stay behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from s3lite.catalog import dialect
from s3lite.catalog.schema import MIGRATIONS

FROZEN = "the index is frozen: it is being moved (s3lite migrate)"

_STAYS = frozenset({"leases"})
_MADE = re.compile(r"\s*CREATE TABLE ([a-z_]+)")


def tables() -> list[str]:
    """What is copied, in an order in which every row finds the rows it refers to."""
    made = (_MADE.match(sql) for migration in MIGRATIONS for sql in migration)
    return [match[1] for match in made if match and match[1] not in _STAYS]


def freeze_sqlite() -> Iterator[str]:
    """Triggers that refuse every change."""
    for table in sorted(dialect.tables()):
        for change in ("INSERT", "UPDATE", "DELETE"):
            yield (
                f"CREATE TRIGGER IF NOT EXISTS frozen_{table}_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{FROZEN}'); END"
            )


def thaw_sqlite() -> Iterator[str]:
    """Take them away."""
    for table in sorted(dialect.tables()):
        for change in ("insert", "update", "delete"):
            yield f"DROP TRIGGER IF EXISTS frozen_{table}_{change}"


POSTGRES_STATE = "S3F01"
"""The SQLSTATE of a frozen index, of a class that nobody else uses."""


def freeze_postgres() -> Iterator[str]:
    """One trigger a table, before every statement that changes it."""
    yield (
        "CREATE OR REPLACE FUNCTION s3lite_frozen() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{FROZEN}' USING ERRCODE = '{POSTGRES_STATE}'; END $$"
    )
    yield from thaw_postgres()
    for table in sorted(dialect.tables()):
        yield (
            f"CREATE TRIGGER frozen BEFORE INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION s3lite_frozen()"
        )


def thaw_postgres() -> Iterator[str]:
    """Take them away."""
    for table in sorted(dialect.tables()):
        yield f"DROP TRIGGER IF EXISTS frozen ON {table}"
