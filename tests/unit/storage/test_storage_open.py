"""From settings to stores."""

import dataclasses
import sys

import pytest

from s3lite.blobs.local import LocalBlobs
from s3lite.blobs.memory import MemoryBlobs
from s3lite.blobs.open import open_blobs
from s3lite.catalog.open import open_catalog
from s3lite.settings import Settings, SettingsError
from s3lite.times import Clock


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=str(tmp_path / "data"))


def test_defaults_lie_in_the_data_directory(settings, tmp_path):
    catalog, blobs = open_catalog(settings, Clock()), open_blobs(settings)
    catalog.migrate()
    assert isinstance(blobs, LocalBlobs)
    blobs.ready()
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert {"secret.key", "index.db", "blobs", "tmp"} <= names
    catalog.close()
    blobs.close()


def test_memory(settings):
    settings = dataclasses.replace(settings, database_url="sqlite:///:memory:", blobs_url="memory://")
    catalog = open_catalog(settings, Clock())
    catalog.migrate()
    with catalog.read() as tx:
        assert tx.counts()["buckets"] == 0
    catalog.close()
    assert isinstance(open_blobs(settings), MemoryBlobs)


@pytest.mark.parametrize("url", ["mysql://x", "sqlite://x", "sqlite:///", "host=x"])
def test_other_indexes_are_refused(settings, url):
    with pytest.raises(SettingsError, match="sqlite:///"):
        open_catalog(dataclasses.replace(settings, database_url=url), Clock())


def test_postgres_without_its_driver_says_what_to_install(settings, monkeypatch):
    monkeypatch.delitem(sys.modules, "s3lite.catalog.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"pip install 's3lite\[postgres\]'"):
        open_catalog(dataclasses.replace(settings, database_url="postgresql://host/db"), Clock())


def test_a_malformed_postgres_url_is_refused(settings):
    with pytest.raises(SettingsError, match="database_url"):
        open_catalog(dataclasses.replace(settings, database_url="postgresql://host/db?nonsense=1"), Clock())


@pytest.mark.parametrize("url", ["s3://pool", "file://relative", "memory://x", "/x"])
def test_other_blob_stores_are_refused(settings, url):
    with pytest.raises(SettingsError, match="file:///"):
        open_blobs(dataclasses.replace(settings, blobs_url=url))
