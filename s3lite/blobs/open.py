"""The blob store that the settings name."""

from __future__ import annotations

from pathlib import Path

from s3lite.blobs.base import BlobStore
from s3lite.blobs.local import LocalBlobs
from s3lite.blobs.memory import MemoryBlobs
from s3lite.settings import POSTGRES, Settings, SettingsError


def open_blobs(settings: Settings) -> BlobStore:
    """A store by ``settings.bytes_url``: ``file:///abs/path``, ``rados://pool?…`` or ``memory://``. Raises SettingsError."""
    url = settings.bytes_url
    scheme, _, path = url.partition("://")
    if scheme == "memory" and not path:
        return MemoryBlobs()
    if scheme == "rados":
        from s3lite.blobs.rados import RadosBlobs
        from s3lite.blobs.rados_link import Target

        return RadosBlobs(Target.parse(url), settings.rados)
    if scheme == "file" and path.startswith("/"):
        return LocalBlobs(
            Path(path),
            durability=settings.durability,
            allow_network_fs=settings.storage.allow_network_fs,
            shared=settings.index_url.startswith(POSTGRES),
        )
    raise SettingsError(
        f"blobs_url = {url!r}: must be file:///ABSOLUTE/PATH, rados://POOL?… (or memory:// for tests)"
    )
