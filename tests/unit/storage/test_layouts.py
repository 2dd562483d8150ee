"""Installations of earlier releases open with the program as it is; those of later ones are refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from client import S3

from s3lite.app import create_app
from s3lite.catalog.schema import MIGRATIONS
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import SqliteCatalog
from s3lite.cli.main import cli
from s3lite.core.check import Check
from s3lite.core.sweep import sweep
from s3lite.times import Clock

LAYOUTS = Path(__file__).resolve().parents[2] / "vectors/layouts"
RELEASED = sorted(path for path in LAYOUTS.iterdir() if path.is_dir() and path.name[0].isdigit())

# SHA-256 of each migration as it was released: an index that has made it will never see an edit.
NEVER_EDITED = json.loads((LAYOUTS / "migrations.json").read_text())


def maker():
    spec = importlib.util.spec_from_file_location("make", LAYOUTS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install(released: Path, data: Path) -> sqlite3.Connection:
    """The fixture as a data directory; its index, open."""
    shutil.copytree(released, data, ignore=shutil.ignore_patterns("*.sql", "*.json", "*.pyc"))
    shutil.copy(released / "keyring.json", data)
    index = sqlite3.connect(data / "index.db")
    index.executescript((released / "index.sql").read_text(encoding="utf-8"))
    index.commit()
    return index


def schema(path: Path) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(
        "SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY 1, 2"
    ).fetchall()
    columns = [
        (name, *column[1:4], column[5])
        for kind, name, _ in found
        if kind == "table"
        for column in connection.execute(f"PRAGMA table_info({name})")
    ]
    connection.close()
    return found + sorted(columns)


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.name)
def test_an_installation_of_each_release_opens(released: Path, tmp_path: Path) -> None:
    made = maker()
    data = tmp_path / "data"
    install(released, data).close()
    app = create_app(made.settings_of(data))
    s3 = S3(app, "alice-key", "alice-secret")
    assert made.tell(s3) == json.loads((released / "expected.json").read_text(encoding="utf-8"))
    assert list(Check(app.services.store, deep=True).faults()) == []
    assert s3.put("/plain/new", b"written by this program").status == 200
    settings = app.services.settings
    no_grace = replace(settings, storage=replace(settings.storage, garbage_grace_s=0))
    assert sweep(replace(app.services.store, settings=no_grace)).blobs == 1  # what was replaced there
    app.close()
    fresh = SqliteCatalog(
        tmp_path / "fresh.db", durability="relaxed", clock=Clock(), secrets=SecretBox(b"k" * 32)
    )
    fresh.migrate()
    fresh.close()
    assert schema(data / "index.db") == schema(tmp_path / "fresh.db")


def test_the_latest_layout_has_a_fixture() -> None:
    """For a release with a new migration: `tests/vectors/layouts/make.py`."""
    versions = [
        int((path / "index.sql").read_text(encoding="utf-8").rsplit("=", 1)[1].strip(" ;\n"))
        for path in RELEASED
    ]
    assert versions[-1] == len(MIGRATIONS)


def test_a_newer_layout_is_refused_and_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    index = install(RELEASED[-1], data)
    index.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = list(index.iterdump())
    monkeypatch.setenv("S3LITE_DATA_DIR", str(data))
    for command in (["check"], ["sweep"], ["user", "list"], ["backup", str(tmp_path / "backup")]):
        refused = CliRunner().invoke(cli, command)
        assert refused.exit_code == 2, command
        assert "newer" in refused.stderr
    assert list(index.iterdump()) == before
    index.close()


def test_released_migrations_are_never_edited() -> None:
    found = [hashlib.sha256("\0".join(statements).encode()).hexdigest() for statements in MIGRATIONS]
    assert found == NEVER_EDITED
