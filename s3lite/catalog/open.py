"""The catalog that the settings name."""

from __future__ import annotations

from pathlib import Path

from s3lite.catalog.base import Catalog
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import MEMORY, SqliteCatalog
from s3lite.settings import POSTGRES, Settings, SettingsError
from s3lite.times import Clock


def open_catalog(settings: Settings, clock: Clock) -> Catalog:
    """An index by ``settings.index_url``, not yet migrated. The key file is made when it is missing.

    ``sqlite:////abs/path``, ``sqlite:///rel/path``, ``sqlite:///:memory:``, or libpq's
    ``postgresql://…``. Raises SettingsError.
    """
    url = settings.index_url
    if url.startswith(POSTGRES):
        return _open_postgres(url, settings, clock)
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise SettingsError(
            f"database_url = {url!r}: must be sqlite:///PATH (or sqlite:///:memory: for tests) or postgresql://…"
        )
    secrets = SecretBox.load(settings.secrets_file)
    index = MEMORY if path == str(MEMORY) else Path(path).absolute()
    return SqliteCatalog(index, durability=settings.durability, clock=clock, secrets=secrets)


def _open_postgres(url: str, settings: Settings, clock: Clock) -> Catalog:
    """psycopg is an extra, so it is looked for when it is wanted."""
    try:
        from s3lite.catalog.postgres import PostgresCatalog
    except ImportError as error:
        raise SettingsError(
            f"database_url names PostgreSQL, and its driver is not there ({error}): "
            "pip install 's3lite[postgres]'"
        ) from error
    return PostgresCatalog(
        url,
        durability=settings.durability,
        clock=clock,
        secrets=SecretBox.load(settings.secrets_file),
        settings=settings.database,
    )
