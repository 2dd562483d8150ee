"""The object store without HTTP: an index, a blob store, time and names."""

from __future__ import annotations

from dataclasses import dataclass, field

from s3lite.blobs.base import BlobStore
from s3lite.blobs.reserve import Reserve
from s3lite.catalog.base import Catalog
from s3lite.core.outbox import Outbox
from s3lite.crypto.keyring import Keyring
from s3lite.ids import Ids
from s3lite.settings import Settings
from s3lite.times import Clock


@dataclass(frozen=True, slots=True)
class Store:
    """What the functions of `s3lite.core` work on."""

    catalog: Catalog
    blobs: BlobStore
    clock: Clock
    ids: Ids
    settings: Settings
    keyring: Keyring
    outbox: Outbox = field(default_factory=Outbox)
    reserve: Reserve = field(default_factory=Reserve)
