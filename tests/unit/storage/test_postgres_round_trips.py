"""How often a request waits for PostgreSQL: the distance to the database counts that many times."""

from urllib.parse import urlsplit

import pytest
from client import S3
from engines.cutter import Cutter

from s3lite.app import create_app
from s3lite.settings import HttpSettings, Settings, SweepSettings


@pytest.fixture
def counted(postgres_url, tmp_path):
    """A client of an application whose only connection to the index goes through a proxy, and the proxy."""
    parts = urlsplit(postgres_url)
    proxy = Cutter((parts.hostname, parts.port))
    app = create_app(
        Settings(
            database_url=postgres_url.replace(f":{parts.port}/", f":{proxy.port}/"),
            blobs_url="memory://",
            data_dir=str(tmp_path),
            access_key="key",
            secret_key="secret",
            sweep=SweepSettings(enabled=False),
            http=HttpSettings(key_cache_s=3600),
        )
    )
    yield S3(app, "key", "secret"), proxy
    app.close()
    proxy.close()


def test_small_requests_wait_for_few_answers(counted):
    client, proxy = counted
    client.put("/bucket")
    for number in range(24):  # until every statement is prepared and every cache is warm
        client.put(f"/bucket/warm{number % 2}", b"x")
        client.get(f"/bucket/warm{number % 2}")
        client.delete(f"/bucket/warm{number % 2}") if number % 3 == 0 else None

    def trips(request, *arguments):
        before = proxy.round_trips
        request(*arguments)
        return proxy.round_trips - before

    assert {
        "new": trips(client.put, "/bucket/key", b"x" * 4096),
        "overwrite": trips(client.put, "/bucket/key", b"y" * 4096),
        "read": trips(client.get, "/bucket/key"),
        "delete": trips(client.delete, "/bucket/key"),
    } == {"new": 5, "overwrite": 6, "read": 2, "delete": 5}
