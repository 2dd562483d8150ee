"""The engines for tests, and the option that puts whole suites on them."""

from __future__ import annotations

import pytest
from engines.servers import ENGINES


def pytest_addoption(parser):
    parser.addoption(
        "--storage",
        default="sqlite+files",
        choices=["sqlite+files", "sqlite+rados", "postgres+files", "postgres+rados"],
        help="what the servers and applications under test keep their index and bytes in",
    )


def pytest_configure(config):
    ENGINES.pair = config.getoption("--storage")


def pytest_unconfigure(config):
    ENGINES.remove()


@pytest.fixture(scope="session")
def postgres_server():
    return ENGINES.postgres


@pytest.fixture
def embedded():
    """For tests that look into the data directory, where other storage keeps nothing."""
    if ENGINES.pair != "sqlite+files":
        pytest.skip("looks at the files of the embedded storage")


@pytest.fixture
def postgres_url(postgres_server):
    """The URL of an empty database."""
    url = postgres_server.database()
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session")
def ceph_cluster():
    return ENGINES.ceph


@pytest.fixture
def rados_url(ceph_cluster):
    """The URL of an empty namespace of a pool."""
    return ceph_cluster.namespace()
