"""The implementations that every contract test runs on."""

from __future__ import annotations

import pytest
from contract.storage_kit import StillClock, Writer, open_postgres, open_sqlite

from s3lite.blobs.local import LocalBlobs
from s3lite.blobs.memory import MemoryBlobs
from s3lite.blobs.rados import RadosBlobs
from s3lite.blobs.rados_link import Target
from s3lite.catalog.sqlite import MEMORY
from s3lite.settings import RadosSettings


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture(params=["file", "memory", "postgres"])
def catalog(request, tmp_path, clock):
    if request.param == "postgres":
        catalog = open_postgres(request.getfixturevalue("postgres_url"), clock)
    else:
        catalog = open_sqlite(MEMORY if request.param == "memory" else tmp_path / "index.db", clock)
    yield catalog
    with catalog.read() as tx:
        assert tx.reference_faults(limit=10) == []
    assert catalog.quick_check() == []
    catalog.close()


@pytest.fixture
def writer(catalog):
    return Writer(catalog)


@pytest.fixture
def bucket(writer):
    return writer.bucket()


@pytest.fixture(params=["local", "named", "relaxed", "memory", "rados"])
def blobs(request, tmp_path, clock):
    if request.param == "memory":
        store = MemoryBlobs(clock=clock)
    elif request.param == "rados":
        store = RadosBlobs(
            Target.parse(request.getfixturevalue("rados_url")), RadosSettings(object_bytes=1 << 20)
        )
    else:
        durability = "relaxed" if request.param == "relaxed" else "full"
        store = LocalBlobs(tmp_path, durability=durability)
        store.has_unnamed = request.param != "named"
    yield store
    store.close()
