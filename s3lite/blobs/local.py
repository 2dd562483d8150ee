"""Blobs as files: ``blobs/<last two digits of the id>/<id>``, written once and never changed.

Order of a commit: data synced, name linked, directory synced. The bytes are written to an unnamed
file (O_TMPFILE), so that a crash leaves nothing; where the file system has none, to a random name in
``tmp/`` that is renamed. A failed sync is final for its blob: Linux marks the pages clean and a second
try would succeed without them (docs/durability.md).
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from s3lite.blobs.base import Freed
from s3lite.ids import Ids
from s3lite.model import BlobId
from s3lite.settings import SettingsError
from s3lite.times import Clock

_PIECE = 1 << 20
_RESERVE_FROM = 1 << 20  # smaller blobs ask for free space only: allocating costs more than it tells
_WRITE_BACK = 8 << 20
_SHARD_NAME = re.compile(r"[0-9a-f]{2}")
_BLOB_NAME = re.compile(r"[0-9a-f]{32}")
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)
_NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "fuseblk", "fuse"}
)
_SHARED_TYPES = frozenset({"ceph", "nfs4"})  # an fsync there is the server's, and names are one for all
_FALLOC_FL_KEEP_SIZE = 1
_SYNC_FILE_RANGE_WRITE = 2


def _native(name: str, *types: type[ctypes._SimpleCData[int]]) -> Callable[..., int] | None:
    """A function of the C library that the standard library does not offer; None where it is missing."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.argtypes = types
    return function


_fallocate = _native("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_sync_file_range = _native("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class System:
    """The system calls of a commit; tests pass one that fails."""

    open = staticmethod(os.open)
    write = staticmethod(os.write)
    fdatasync = staticmethod(os.fdatasync)
    link = staticmethod(os.link)
    rename = staticmethod(os.rename)
    fsync = staticmethod(os.fsync)
    truncate = staticmethod(os.ftruncate)
    unlink = staticmethod(os.unlink)
    mkdir = staticmethod(os.mkdir)

    def reserve(self, fd: int, size: int) -> bool:
        """Allocate without changing the file's length; False when the file system cannot. Raises OSError."""
        if _fallocate is None:
            return False
        while _fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, size):
            code = ctypes.get_errno()
            if code in _UNSUPPORTED:
                return False
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        return True

    def start_write_back(self, fd: int, offset: int, length: int) -> None:
        """Begin to write dirty pages, so that the last sync finds little; failures show there."""
        if _sync_file_range is not None:
            _sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


class _Directory:
    """A directory that is synced once for all links made before that sync began."""

    def __init__(self, path: Path, system: System) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._system = system
        self._lock = threading.Lock()
        self._begun = 0
        self._done = 0
        self._failed = 0

    def sync(self) -> None:
        """Make names entered by the caller durable. Raises OSError, also for a sync it shared."""
        needed = self._begun + 1  # a sync that runs already may have missed the caller's name
        with self._lock:
            if self._failed >= needed:
                raise OSError(errno.EIO, "the directory could not be synced")
            if self._done >= needed:
                return
            self._begun += 1
            try:
                self._system.fsync(self.fd)
            except OSError:
                self._failed = self._begun
                raise
            self._done = self._begun


class LocalBlobs:
    """`BlobStore` in a directory of a local file system."""

    def __init__(
        self,
        root: Path,
        *,
        durability: str,
        allow_network_fs: bool = False,
        shared: bool = False,
        ids: Ids | None = None,
        clock: Clock | None = None,
        system: System | None = None,
    ) -> None:
        self.root = root
        self.is_durable = durability == "full"
        self.system = system or System()
        self.temporary = root / "tmp"
        self._blobs = root / "blobs"
        self._ids = ids or Ids()
        self._clock = clock or Clock()
        self._directories: dict[str, _Directory] = {}
        self._lock = threading.Lock()
        self.has_unnamed = hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = network_file_system(root)
        if kind and not allow_network_fs and not (shared and kind in _SHARED_TYPES):
            raise SettingsError(
                f"{root} is on {kind}: locks and syncs of network file systems cannot be relied on. CephFS and "
                "NFSv4 hold bytes where the index is on PostgreSQL (docs/scaling.md); "
                "storage.allow_network_fs = true accepts others at your own risk"
            )
        self._make_directories()

    def _make_directories(self) -> None:
        """The fixed directories, made and synced at every start; those of blobs come with the first of each."""
        for path in (self.temporary, self._blobs):
            path.mkdir(mode=0o700, exist_ok=True)
        if self.is_durable:
            for path in (self._blobs, self.root, self.root.parent):
                _sync_directory(path, self.system)

    def directory(self, blob: BlobId) -> _Directory:
        """The open directory of a blob."""
        shard = blob[-2:]
        found = self._directories.get(shard)
        if found is None:
            with self._lock:
                found = self._directories.get(shard)
                if found is None:
                    path = self._blobs / shard
                    self._make_shard(path)
                    found = self._directories[shard] = _Directory(path, self.system)
        return found

    def _make_shard(self, path: Path) -> None:
        """Make a directory of blobs, durable on return. Raises OSError."""
        with suppress(FileExistsError):
            self.system.mkdir(path, 0o700)
        if self.is_durable:
            try:
                # Also when it is there: whoever made it may not have come to this line.
                _sync_directory(self._blobs, self.system)
            except OSError:
                # A second sync would succeed without the name, so that it must be entered anew.
                with suppress(OSError):
                    os.rmdir(path)
                raise

    def path(self, blob: BlobId) -> str:
        """Where a blob lies."""
        return f"{self._blobs}/{blob[-2:]}/{blob}"

    def create(self, *, size: int | None = None, blob: BlobId | None = None) -> _LocalWriter:
        """See `BlobStore.create`."""
        return _LocalWriter(self, blob or BlobId(self._ids.blob()), size)

    def read(self, blob: BlobId, *, offset: int, length: int) -> Iterator[bytes]:
        """See `BlobStore.read`. A file that ends early is an OSError (EIO)."""
        return _LocalReader(os.open(self.path(blob), os.O_RDONLY | os.O_CLOEXEC), offset, length)

    def open(self, blob: BlobId) -> BinaryIO | None:
        """See `BlobStore.open`."""
        return io.FileIO(self.path(blob))

    def delete(self, blob: BlobId) -> None:
        """See `BlobStore.delete`. Not synced: a blob that a crash brings back is an orphan."""
        with suppress(FileNotFoundError):
            self.system.unlink(self.path(blob))

    def scan(self) -> Iterator[tuple[BlobId, int, float]]:
        """See `BlobStore.scan`; by directory, the time is that of linking (ctime)."""
        for shard in sorted(os.listdir(self._blobs)):
            if not _SHARD_NAME.fullmatch(shard):
                continue
            with os.scandir(self._blobs / shard) as entries:
                for entry in entries:
                    if not _BLOB_NAME.fullmatch(entry.name):
                        continue
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        yield BlobId(entry.name), status.st_size, status.st_ctime

    def sweep_temporary(self, *, older_than_s: float) -> Freed:
        """See `BlobStore.sweep_temporary`; a file that is still written to is young."""
        removed = size = 0
        before_s = self._clock.time() - older_than_s
        with os.scandir(self.temporary) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_mtime < before_s:
                        os.unlink(entry.path)
                        removed += 1
                        size += status.st_size
        return Freed(removed, size)

    def ready(self) -> None:
        """See `BlobStore.ready`: a file can be made and holds a byte."""
        with _LocalWriter(self, BlobId(self._ids.blob()), 1) as writer:
            writer.write(b"\0")

    def close(self) -> None:
        """See `BlobStore.close`."""
        with self._lock:
            while self._directories:
                os.close(self._directories.popitem()[1].fd)


def _sync_directory(path: Path, system: System) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        system.fsync(fd)
    finally:
        os.close(fd)


class _LocalWriter:
    """`BlobWriter` to an unnamed file, or to a named temporary."""

    def __init__(self, store: LocalBlobs, blob: BlobId, size: int | None) -> None:
        self._store = store
        self._system = store.system
        self._blob = blob
        self._name: str | None = None  # of the temporary, while it has one
        self._written = 0
        self._flushed = 0
        self._reserved = 0
        self._fd = self._open()
        try:
            if size:
                self._reserve(size)
        except BaseException:
            self._discard()
            raise

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CLOEXEC
        if self._store.has_unnamed:
            try:
                return self._system.open(self._store.temporary, flags | os.O_TMPFILE, 0o600)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._store.has_unnamed = False
        name = f"{self._store.temporary}/{secrets.token_hex(16)}"
        fd = self._system.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600)
        self._name = name
        return fd

    def _reserve(self, size: int) -> None:
        """Fail now rather than half way. The length stays 0, so that a short blob is never padded."""
        if size >= _RESERVE_FROM and self._system.reserve(self._fd, size):
            self._reserved = size
            return
        free = os.fstatvfs(self._fd)
        if size > free.f_bavail * free.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, data: bytes | memoryview) -> None:
        """See `BlobWriter.write`."""
        written = self._system.write(self._fd, data)
        self._written += written
        if written < len(data):
            rest = memoryview(data)[written:]
            while rest:
                written = self._system.write(self._fd, rest)
                self._written += written
                rest = rest[written:]
        if self._written - self._flushed >= _WRITE_BACK and self._store.is_durable:
            self._system.start_write_back(self._fd, self._flushed, self._written - self._flushed)
            self._flushed = self._written

    def commit(self) -> BlobId:
        """See `BlobWriter.commit`. The writer is closed afterwards, however it ends."""
        try:
            if self._reserved > self._written:
                self._system.truncate(self._fd, self._written)  # gives back what was reserved beyond the end
            if self._store.is_durable:
                self._system.fdatasync(self._fd)
            self._publish(self._store.directory(self._blob))
        finally:
            self._discard()
        return self._blob

    def _publish(self, directory: _Directory) -> None:
        """Enter the name, durably or not at all."""
        if self._name is None:
            # Only with a directory descriptor does os.link follow the /proc link (linkat, AT_SYMLINK_FOLLOW).
            self._system.link(
                f"/proc/self/fd/{self._fd}", self._blob, src_dir_fd=directory.fd, dst_dir_fd=directory.fd
            )
        else:
            self._system.rename(self._name, self._blob, dst_dir_fd=directory.fd)  # a new random name
            self._name = None
        if self._store.is_durable:
            try:
                directory.sync()
            except BaseException:
                self._store.delete(self._blob)
                raise

    def _discard(self) -> None:
        if self._name is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._name)
            self._name = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._discard()


class _LocalReader:
    """Pieces of an open file."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self._fd = fd
        self._offset = offset
        self._end = offset + length

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._offset >= self._end or self._fd < 0:
            self.close()
            raise StopIteration
        piece = os.pread(self._fd, min(_PIECE, self._end - self._offset), self._offset)
        if not piece:
            self.close()
            raise OSError(errno.EIO, f"blob ends at {self._offset}, {self._end} expected")
        self._offset += len(piece)
        return piece

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


def network_file_system(path: Path, mounts: str = "/proc/self/mountinfo") -> str | None:
    """The type of the network or user-space file system that holds ``path``; None on a local one.

    ``statfs`` would need the layout of each C library; the mount table is text.
    """
    wanted = os.path.realpath(path)
    best, kind = "", ""
    try:
        text = Path(mounts).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind if kind in _NETWORK_TYPES or kind.startswith("fuse.") else None
