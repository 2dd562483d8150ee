"""Blobs in Ceph RADOS: striped over objects of one size, several writes or reads of each in flight.

A blob ``id`` is the object ``id`` with its first stripe and, as the attribute ``size``, its whole length,
then ``id.1``, ``id.2`` … The first stripe is written last, when all others are on their replicas: an id
without that object is no blob. While a blob of several stripes is being written, an object of its id
stands in the namespace ``….pending`` and is touched every minute, so that a sweep finds what a crash
left without reading through all names.

The size of a stripe is chosen when a namespace is first used and kept in its object ``layout``.

librados is Debian's python3-rados, imported when it is first needed.
"""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from types import ModuleType
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qsl, urlsplit

from s3lite import waiting
from s3lite.blobs.base import BlobsAwayError, Freed
from s3lite.ids import Ids
from s3lite.model import BlobId
from s3lite.settings import RadosSettings, SettingsError
from s3lite.times import Clock

_PIECE = 1 << 20
_STRIPES = 1 << 24  # of one blob: more than any limit of S3's at any size of a stripe
_BLOB_NAME = re.compile(r"[0-9a-f]{32}")
_LAYOUT = "layout"
_PENDING = ".pending"
_TOUCH_S = 60.0
_STALE_S = 1800.0  # no pending blob is given up before, and none committed after so long without a touch
_SCAN_THREADS = 8
_STATS_S = 30.0
_AWAY = frozenset(
    (
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
        errno.EAGAIN,
        errno.EBUSY,
    )
)
_DEBIAN = "/usr/lib/python3/dist-packages"

_instances: weakref.WeakSet[RadosBlobs] = weakref.WeakSet()
_inherited: list[object] = []  # a parent's handles: a child must not even close them


def _after_fork() -> None:
    for blobs in list(_instances):
        blobs.forget_connection()


os.register_at_fork(after_in_child=_after_fork)


def load_rados() -> ModuleType:
    """Debian's extension module, also from a virtual environment of the same Python. Raises SettingsError."""
    try:
        return importlib.import_module("rados")
    except ImportError:
        pass
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = f"{_DEBIAN}/rados{suffix}"
        spec = importlib.util.spec_from_file_location("rados", path) if os.path.exists(path) else None
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            sys.modules["rados"] = module
            spec.loader.exec_module(module)
            return module
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise SettingsError(
        f"blobs_url names RADOS, and its library is not there for Python {version}: apt install python3-rados, "
        "on a system whose python3 has this version"
    )


@dataclass(frozen=True, slots=True)
class Target:
    """What ``rados://POOL?conf=…&user=…&keyring=…&namespace=…`` says."""

    pool: str
    conf: str = "/etc/ceph/ceph.conf"
    user: str = "admin"
    keyring: str = ""
    namespace: str = "s3lite"

    @classmethod
    def parse(cls, url: str) -> Target:
        """Raises SettingsError."""
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(given) - {"conf", "user", "keyring", "namespace"})
        if not parts.netloc or parts.path.strip("/") or unknown or not given.get("namespace", "s3lite"):
            raise SettingsError(
                f"blobs_url = {url!r}: must be rados://POOL?conf=FILE&user=NAME&keyring=FILE&namespace=NAME, "
                "all but the pool with defaults"
            )
        return cls(parts.netloc, **given)


@dataclass(frozen=True, slots=True)
class Link:
    """A connection to the cluster: handles for the namespace and for its pending blobs."""

    cluster: Any
    io: Any
    pending: Any
    stripe: int


class RadosBlobs:
    """`BlobStore` in a namespace of a pool. Connects at first use, never before a fork."""

    def __init__(
        self, target: Target, settings: RadosSettings, *, ids: Ids | None = None, clock: Clock | None = None
    ) -> None:
        self.rados = load_rados()
        self.target = target
        self.settings = settings
        self._ids = ids or Ids()
        self._clock = clock or Clock()
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._free = (0.0, 0)  # when it was asked, bytes
        _instances.add(self)

    def forget_connection(self) -> None:
        """In a forked child: begin anew, leaving the parent's connection alone."""
        _inherited.append(self._link)
        self._link, self._lock = None, threading.Lock()

    # -- connection

    def link(self) -> Link:
        """The connection of this process, for an operation that is to wait. Raises BlobsAwayError, OSError."""
        waiting.ahead()
        link = self._link
        if link is None:
            with self._lock:
                if self._link is None:
                    self._link = self._connect()
                link = self._link
        return link

    def _connect(self) -> Link:
        target, timeout_s = self.target, max(1, round(self.settings.timeout_s))
        options = {
            "rados_osd_op_timeout": str(timeout_s),
            "rados_mon_op_timeout": str(timeout_s),
            "client_mount_timeout": str(timeout_s),
        }
        if target.keyring:
            options["keyring"] = target.keyring
        with self.told(f"pool {target.pool}"):
            cluster = self.rados.Rados(conffile=target.conf, rados_id=target.user, conf=options)
            try:
                cluster.connect(timeout=timeout_s)
                io, pending = (cluster.open_ioctx(target.pool) for _ in range(2))
                io.set_namespace(target.namespace)
                pending.set_namespace(target.namespace + _PENDING)
                for handle in (io, pending):
                    handle.set_osdmap_full_try()  # a full pool answers instead of making us wait
                return Link(cluster, io, pending, self._layout(io))
            except BaseException:
                cluster.shutdown()
                raise

    def _layout(self, io: Any) -> int:
        """The size of a stripe, decided by whoever comes first."""
        try:
            with self.rados.WriteOpCtx() as op:
                op.new(self.rados.LIBRADOS_CREATE_EXCLUSIVE)
                op.write_full(json.dumps({"format": 1, "object_bytes": self.settings.object_bytes}).encode())
                io.operate_write_op(op, _LAYOUT)
        except self.rados.ObjectExists:
            pass
        return int(json.loads(io.read(_LAYOUT))["object_bytes"])

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Errors of librados as OSError; those that pass by themselves as BlobsAwayError."""
        try:
            yield
        except self.rados.Error as error:
            raise failure(abs(getattr(error, "errno", None) or errno.EIO), f"{what}: {error}") from error

    def now_s(self) -> int:
        """The time that is written down for an object."""
        return int(self._clock.time())

    # -- BlobStore

    def create(self, *, size: int | None = None, blob: BlobId | None = None) -> _RadosWriter:
        """See `BlobStore.create`. Room is asked for, not reserved."""
        link = self.link()
        if size is not None and size > link.stripe * _STRIPES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if size is not None and size > link.stripe and size > self._room(link):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return _RadosWriter(self, link, blob or BlobId(self._ids.blob()))

    def _room(self, link: Link) -> int:
        """Bytes that the cluster says are free; asked now and then."""
        asked, free = self._free
        if not asked or monotonic() - asked > _STATS_S:
            with self.told("free space"):
                kib = link.cluster.get_cluster_stats()["kb_avail"]
            free = kib << 10 if kib else sys.maxsize  # none is said while no manager runs
            self._free = (monotonic(), free)
        return free

    def read(self, blob: BlobId, *, offset: int, length: int) -> Iterator[bytes]:
        """See `BlobStore.read`; the first pieces are asked for at once."""
        return _RadosReader(self, self.link(), blob, offset, length)

    def open(self, blob: BlobId) -> BinaryIO | None:
        """None: there are no files."""
        return None

    def delete(self, blob: BlobId) -> None:
        """See `BlobStore.delete`; the first stripe goes last, so that a blob half deleted is still known."""
        link = self.link()
        try:
            size = self._size(link, blob)
        except FileNotFoundError:
            return
        self.remove_stripes(link, blob, range(1, -(-size // link.stripe)))
        with self.told(f"blob {blob}"), suppress(self.rados.ObjectNotFound):
            link.io.remove_object(blob)

    def remove_stripes(self, link: Link, blob: BlobId, numbers: range) -> int:
        """Remove stripes but the first, several at once; how many there were."""
        there = 0
        flying: deque[Any] = deque()
        with self.told(f"blob {blob}"):
            for number in numbers:
                flying.append(link.io.aio_remove(f"{blob}.{number}"))
                if len(flying) >= 4 * self.settings.write_ahead:
                    there += self._removed(flying.popleft(), blob)
            while flying:
                there += self._removed(flying.popleft(), blob)
        return there

    def _removed(self, completion: Any, blob: BlobId) -> bool:
        code = done(completion)
        if code < 0 and code != -errno.ENOENT:
            raise failure(-code, f"blob {blob}: a stripe could not be removed")
        return code >= 0

    def _size(self, link: Link, blob: BlobId) -> int:
        with self.told(f"blob {blob}"):
            return int(link.io.get_xattr(blob, "size"))

    def scan(self) -> Iterator[tuple[BlobId, int, float]]:
        """See `BlobStore.scan`; the time is the cluster's, in whole seconds."""
        link = self.link()

        def describe(blob: BlobId) -> tuple[BlobId, int, float] | None:
            with suppress(FileNotFoundError), self.told(f"blob {blob}"):
                size = self._size(link, blob)
                return blob, size, time.mktime(link.io.stat(blob)[1])
            return None

        with self.told("names"):
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
        before_s = self._clock.time() - max(older_than_s, _STALE_S)
        removed = stripes = 0
        with self.told("pending blobs"):
            for name in [each.key for each in link.pending.list_objects()]:
                with suppress(self.rados.ObjectNotFound):
                    if time.mktime(link.pending.stat(name)[1]) < before_s:
                        given_up = self._give_up(link, BlobId(name))
                        removed += given_up is not None
                        stripes += given_up or 0
                        link.pending.remove_object(name)
        return Freed(removed, stripes * link.stripe)

    def _give_up(self, link: Link, blob: BlobId) -> int | None:
        """Remove the stripes of a blob that was never committed, and say how many; None when it was."""
        with suppress(FileNotFoundError):
            self._size(link, blob)
            return None
        removed, first, step = 0, 1, 4 * self.settings.write_ahead
        while found := self.remove_stripes(link, blob, range(first, first + step)):
            removed += found
            first += step  # no gap is wider than one window
        return removed

    def ready(self) -> None:
        """See `BlobStore.ready`: an object can be written and removed."""
        link = self.link()
        name = f"ready.{self._ids.blob()}"
        with self.told("probe"):
            link.io.write_full(name, b"\0")
            link.io.remove_object(name)

    def close(self) -> None:
        """See `BlobStore.close`."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.io.close()
            link.pending.close()
            link.cluster.shutdown()


def failure(code: int, message: str) -> OSError:
    """The error of a code of librados."""
    if code in _AWAY:
        return BlobsAwayError(code, message)
    return OSError(code, message)


def done(completion: Any) -> int:
    """Wait for an operation; its result, negative for an error."""
    completion.wait_for_complete()
    return int(completion.get_return_value())


class _RadosWriter:
    """`BlobWriter` with `RadosSettings.write_ahead` stripes in flight."""

    def __init__(self, store: RadosBlobs, link: Link, blob: BlobId) -> None:
        self._store = store
        self._link = link
        self._blob = blob
        self._pieces: list[bytes] = []
        self._have = 0
        self._first: bytes | None = None
        self._stripes = 0  # sent, without the first
        self._flying: deque[Any] = deque()
        self._size = 0
        self._touched = 0.0
        self._is_open = True

    def write(self, data: bytes | memoryview) -> None:
        """See `BlobWriter.write`. An error may be that of an earlier piece."""
        self._pieces.append(bytes(data))
        self._have += len(data)
        self._size += len(data)
        stripe = self._link.stripe
        while self._have > stripe or (self._have == stripe and self._first is not None):
            whole = b"".join(self._pieces)
            self._send(whole[:stripe])
            self._pieces = [whole[stripe:]]
            self._have -= stripe

    def _send(self, body: bytes) -> None:
        """Keep the first stripe, send any other on its way."""
        if self._first is None:
            self._first = body
            return
        self._touch()
        if len(self._flying) >= self._store.settings.write_ahead:
            self._land()
        self._stripes += 1
        with self._store.told(f"blob {self._blob}"):
            self._flying.append(self._link.io.aio_write_full(f"{self._blob}.{self._stripes}", body))

    def _land(self) -> None:
        code = done(self._flying.popleft())
        if code < 0:
            raise failure(-code, f"blob {self._blob}: a stripe could not be written")

    def _touch(self) -> None:
        """Say that this blob is being written."""
        if not self._touched or monotonic() - self._touched > _TOUCH_S:
            began = monotonic()
            with self._store.told(f"blob {self._blob}"):
                self._link.pending.write_full(self._blob, b"")
            self._touched = began

    def commit(self) -> BlobId:
        """See `BlobWriter.commit`. The writer is closed afterwards, however it ends."""
        try:
            rest = b"".join(self._pieces)
            if self._first is None:
                self._first = rest
            elif rest:
                self._send(rest)
            while self._flying:
                self._land()
            if self._touched and monotonic() - self._touched > _STALE_S / 2:
                raise OSError(
                    errno.EIO, f"blob {self._blob}: took too long, a sweep may have removed parts of it"
                )
            self._publish(self._first)
        finally:
            self.__exit__()
        return self._blob

    def _publish(self, first: bytes) -> None:
        """Write the first stripe, which makes it a blob."""
        rados = self._store.rados
        with self._store.told(f"blob {self._blob}"), rados.WriteOpCtx() as op:
            op.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
            op.write_full(first)
            op.set_xattr("size", str(self._size).encode())
            # Its own default is the epoch's beginning, whatever its documentation says: an orphan at once.
            self._link.io.operate_write_op(op, self._blob, mtime=self._store.now_s())
        self._is_open = False
        if self._touched:
            with suppress(rados.Error):  # a sweep finds the blob committed and removes the mark
                self._link.pending.remove_object(self._blob)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Remove what was sent. What cannot be removed now keeps its mark, for a sweep."""
        if not self._is_open:
            return
        self._is_open = False
        self._pieces, self._first = [], None
        if not self._touched:
            return
        is_clear = True
        while self._flying:
            is_clear &= done(self._flying.popleft()) >= 0  # what timed out may still come to pass
        with suppress(OSError):
            self._store.remove_stripes(self._link, self._blob, range(1, self._stripes + 1))
            if is_clear:
                with suppress(self._store.rados.Error):
                    self._link.pending.remove_object(self._blob)


class _RadosReader:
    """Pieces of a blob, `RadosSettings.read_ahead` of them on their way."""

    def __init__(self, store: RadosBlobs, link: Link, blob: BlobId, offset: int, length: int) -> None:
        self._store = store
        self._link = link
        self._blob = blob
        self._end = offset + length
        self._next = offset
        self._flying: deque[tuple[Any, list[bytes], int]] = deque()
        self._is_closed = False
        for _ in range(store.settings.read_ahead):
            self._ask()
        if self._flying:
            self._check(done(self._flying[0][0]))
        else:
            store._size(link, blob)  # nothing to read, of a blob that must be there

    def _ask(self) -> None:
        """Ask for the next piece, which never crosses the end of a stripe."""
        if self._next >= self._end:
            return
        stripe, start = divmod(self._next, self._link.stripe)
        length = min(_PIECE, self._end - self._next, self._link.stripe - start)
        name = f"{self._blob}.{stripe}" if stripe else self._blob
        box: list[bytes] = []

        def arrived(_completion: object, data: bytes | None) -> None:
            if data is not None:
                box.append(data)

        with self._store.told(f"blob {self._blob}"):
            self._flying.append((self._link.io.aio_read(name, length, start, arrived), box, length))
        self._next += length

    def _check(self, code: int) -> None:
        if code == -errno.ENOENT:
            raise FileNotFoundError(self._blob)
        if code < 0:
            raise failure(-code, f"blob {self._blob}: could not be read")

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._is_closed or not self._flying:
            self.close()
            raise StopIteration
        completion, box, length = self._flying.popleft()
        completion.wait_for_complete_and_cb()
        code = int(completion.get_return_value())
        if code < 0:
            self.close()
            self._check(code)
        if code != length:
            end = self._next - sum(piece[2] for piece in self._flying) - length + code
            self.close()
            raise OSError(errno.EIO, f"blob ends at {end}, {self._end} expected")
        self._ask()
        return box[0]

    def close(self) -> None:
        """Ask for nothing more; harmless when repeated."""
        self._is_closed = True
        self._flying.clear()
