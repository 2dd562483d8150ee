"""The catalog that the settings name."""

from __future__ import annotations

from pathlib import Path

from s3lite.catalog.base import Catalog
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import MEMORY, SqliteCatalog
from s3lite.settings import Settings, SettingsError
from s3lite.times import Clock

KEY_FILE = "secret.key"


def open_catalog(settings: Settings, clock: Clock) -> Catalog:
    """An index by ``settings.index_url``, not yet migrated. The key file is made when it is missing.

    ``sqlite:////abs/path``, ``sqlite:///rel/path`` or ``sqlite:///:memory:``. Raises SettingsError.
    """
    url = settings.index_url
    scheme, separator, path = url.partition(":///")
    if scheme != "sqlite" or not separator or not path:
        raise SettingsError(
            f"database_url = {url!r}: must be sqlite:///PATH (or sqlite:///:memory: for tests)"
        )
    secrets = SecretBox.load(Path(settings.data_dir) / KEY_FILE)
    index = MEMORY if path == str(MEMORY) else Path(path).absolute()
    return SqliteCatalog(index, durability=settings.durability, clock=clock, secrets=secrets)
