"""Blobs in Ceph RADOS: striped over objects of one size, several writes or reads of each in flight.

A blob ``id`` is the object ``id`` with its first stripe and, as the attribute ``size``, its whole length,
then ``id.1``, ``id.2`` … The first stripe is written last, when all others are on their replicas: an id
without that object is no blob. While a blob of several stripes is being written, an object of its id
stands in the namespace ``….pending`` and is touched every minute, so that a sweep finds what a crash
left without reading through all names.

The size of a stripe is chosen when a namespace is first used and kept in its object ``layout``.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import BinaryIO

from s3lite.blobs.base import Freed
from s3lite.blobs.rados_link import Cluster, Link, Target
from s3lite.blobs.rados_streams import STALE_S, RadosReader, RadosWriter
from s3lite.ids import Ids
from s3lite.model import BlobId
from s3lite.settings import RadosSettings
from s3lite.times import Clock

_STRIPES = 1 << 24  # of one blob: more than any limit of S3's at any size of a stripe
_BLOB_NAME = re.compile(r"[0-9a-f]{32}")
_SCAN_THREADS = 8
_STATS_S = 30.0


class RadosBlobs:
    """`BlobStore` in a namespace of a pool. Connects at first use, never before a fork."""

    def __init__(
        self, target: Target, settings: RadosSettings, *, ids: Ids | None = None, clock: Clock | None = None
    ) -> None:
        self._cluster = Cluster(target, settings)
        self._settings = settings
        self._ids = ids or Ids()
        self._clock = clock or Clock()
        self._free = (0.0, 0)  # when it was asked, bytes

    def link(self) -> Link:
        """The connection of this process, for an operation that is to wait. Raises BlobsAwayError, OSError."""
        return self._cluster.link()

    def create(self, *, size: int | None = None, blob: BlobId | None = None) -> RadosWriter:
        """See `BlobStore.create`. Room is asked for, not reserved."""
        link = self.link()
        if size is not None and size > link.stripe * _STRIPES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if size is not None and size > link.stripe and size > self._room(link):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return RadosWriter(link, blob or BlobId(self._ids.blob()), self._clock)

    def _room(self, link: Link) -> int:
        """Bytes that the cluster says are free; asked now and then."""
        asked, free = self._free
        if not asked or monotonic() - asked > _STATS_S:
            with link.told("free space"):
                kib = link.cluster.get_cluster_stats()["kb_avail"]
            free = kib << 10 if kib else sys.maxsize  # none is said while no manager runs
            self._free = (monotonic(), free)
        return free

    def read(self, blob: BlobId, *, offset: int, length: int) -> Iterator[bytes]:
        """See `BlobStore.read`; the first pieces are asked for at once."""
        return RadosReader(self.link(), blob, offset=offset, length=length, ahead=self._settings.read_ahead)

    def open(self, blob: BlobId) -> BinaryIO | None:
        """None: there are no files."""
        return None

    def delete(self, blob: BlobId) -> None:
        """See `BlobStore.delete`; the first stripe goes last, so that a blob half deleted is still known."""
        link = self.link()
        try:
            size = link.size(blob)
        except FileNotFoundError:
            return
        link.remove_stripes(blob, range(1, -(-size // link.stripe)))
        with link.told(f"blob {blob}"), suppress(link.rados.ObjectNotFound):
            link.io.remove_object(blob)

    def scan(self) -> Iterator[tuple[BlobId, int, float]]:
        """See `BlobStore.scan`; the time is the cluster's, in whole seconds."""
        link = self.link()

        def describe(blob: BlobId) -> tuple[BlobId, int, float] | None:
            with suppress(FileNotFoundError), link.told(f"blob {blob}"):
                size = link.size(blob)
                return blob, size, time.mktime(link.io.stat(blob)[1])
            return None

        with link.told("names"):
            names = (each.key for each in link.io.list_objects())
            blobs = (BlobId(name) for name in names if _BLOB_NAME.fullmatch(name))
            with ThreadPoolExecutor(_SCAN_THREADS) as pool:
                while batch := list(islice(blobs, 1000)):
                    yield from (found for found in pool.map(describe, batch) if found is not None)

    def sweep_temporary(self, *, older_than_s: float) -> Freed:
        """See `BlobStore.sweep_temporary`: blobs that were begun and not touched for so long.

        Bytes are those of whole stripes: how full a blob's last one was is not asked.
        """
        link = self.link()
        before_s = self._clock.time() - max(older_than_s, STALE_S)
        removed = stripes = 0
        with link.told("pending blobs"):
            for name in [each.key for each in link.pending.list_objects()]:
                with suppress(link.rados.ObjectNotFound):
                    if time.mktime(link.pending.stat(name)[1]) < before_s:
                        given_up = self._give_up(link, BlobId(name))
                        removed += given_up is not None
                        stripes += given_up or 0
                        link.pending.remove_object(name)
        return Freed(removed, stripes * link.stripe)

    def _give_up(self, link: Link, blob: BlobId) -> int | None:
        """Remove the stripes of a blob that was never committed, and say how many; None when it was."""
        with suppress(FileNotFoundError):
            link.size(blob)
            return None
        removed, first, step = 0, 1, 4 * link.write_ahead
        while found := link.remove_stripes(blob, range(first, first + step)):
            removed += found
            first += step  # no gap is wider than one window
        return removed

    def ready(self) -> None:
        """See `BlobStore.ready`: an object can be written and removed."""
        link = self.link()
        name = f"ready.{self._ids.blob()}"
        with link.told("probe"):
            link.io.write_full(name, b"\0")
            link.io.remove_object(name)

    def close(self) -> None:
        """See `BlobStore.close`."""
        self._cluster.close()
