"""Backups: a snapshot of the index and every blob that it names, while the server goes on writing.

Removing released bytes is paused meanwhile by a lease, so that whatever the snapshot names is there to be
copied. Blobs are written once and never changed: what the backup has already is not copied again, and an
earlier backup on the same file system can lend its files. The new index takes its place last, after all
that it needs is durable; a backup that was interrupted is still the one before.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from s3lite.blobs.base import BlobStore
from s3lite.catalog.base import Catalog
from s3lite.core.store import Store
from s3lite.core.sweep import COLLECTING
from s3lite.model import BlobId

INDEX = "index.db"
_PAGE = 500
_LEASE_S = 120.0
_RENEW_EVERY_S = 30.0
_WAIT_S = 60.0

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes there are."""


class BackupError(Exception):
    """It cannot be made, or is not one; the message says what to do."""


@dataclass(slots=True)
class Copied:
    """What a run did."""

    blobs: int = 0  # that the index names
    copied: int = 0  # of these, copied now
    linked: int = 0  # … taken from the earlier backup
    bytes: int = 0  # copied now
    removed: int = 0  # blobs that no index needs any more


class _Lease:
    """The right to remove released bytes, held so that nobody does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._holder = store.ids.request()
        self._renewed = float("-inf")

    def renew(self) -> None:
        """Call now and then. Raises BackupError when it was lost."""
        now = self._store.clock.monotonic()
        if now < self._renewed + _RENEW_EVERY_S:
            return
        if not self._take(_LEASE_S):
            raise BackupError(
                "The sweep went on meanwhile: this run took too long between two files. Repeat it."
            )
        self._renewed = now

    def wait(self) -> None:
        """Take it as soon as a sweep at work has ended."""
        give_up = self._store.clock.monotonic() + _WAIT_S
        while not self._take(_LEASE_S):
            if self._store.clock.monotonic() > give_up:
                raise BackupError("Another backup, or a long sweep, is at work. Try again later.")
            time.sleep(0.2)
        self._renewed = self._store.clock.monotonic()

    def release(self) -> None:
        """Let others sweep."""
        self._take(0)

    def _take(self, ttl_s: float) -> bool:
        return self._store.catalog.lease(COLLECTING, holder=self._holder, ttl_s=ttl_s)


@contextmanager
def _nothing_removed(store: Store) -> Iterator[_Lease]:
    lease = _Lease(store)
    lease.wait()
    try:
        yield lease
    finally:
        lease.release()


def make(
    store: Store,
    target: Path,
    *,
    open_index: Callable[[Path], Catalog],
    keys: tuple[Path, ...],
    base: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Copied:
    """Make or renew the backup in ``target``. ``keys`` are files to keep beside the index.

    ``base`` is an earlier backup whose files are linked instead of copied. Raises BackupError, OSError.
    """
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(target.iterdir()) and not (target / INDEX).exists() and not (target / "blobs").is_dir():
        raise BackupError(f"{target} holds something else. Name an empty directory, or an earlier backup.")
    fresh = target / f"{INDEX}.new"
    fresh.unlink(missing_ok=True)
    with _nothing_removed(store) as lease:
        store.catalog.snapshot(fresh)
        snapshot = open_index(fresh)
        try:
            done, wanted = _copy_blobs(store.blobs, snapshot, target, base, progress, lease.renew)
        finally:
            snapshot.close()
    for key in keys:
        _copy_key(key, target / key.name)
    _sync(fresh)
    fresh.replace(target / INDEX)
    _sync(target)
    done.removed = _prune(target / "blobs", wanted)
    return done


def restore(source: Path, data_dir: Path, *, progress: Progress = lambda done, total: None) -> Copied:
    """Copy a backup to an empty data directory. Raises BackupError, OSError."""
    if not (source / INDEX).is_file():
        raise BackupError(f"{source} is no backup: it has no {INDEX}.")
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    left = sorted(path.name for path in data_dir.iterdir() if path.name != "lost+found")
    if left:
        raise BackupError(
            f"{data_dir} is not empty ({', '.join(left[:3])}). Move it away, or name another S3LITE_DATA_DIR."
        )
    files = [path for path in sorted(source.glob("blobs/??/*")) if path.is_file()]
    total, done = sum(path.stat().st_size for path in files), Copied()
    for path in files:
        _place(path, data_dir / path.relative_to(source))
        done.blobs += 1
        done.copied += 1
        done.bytes += path.stat().st_size
        progress(done.bytes, total)
    _sync_tree(data_dir)
    # The index last, and its key before it: a server that starts too early finds nothing rather than half.
    others = [path for path in sorted(source.iterdir()) if path.is_file() and not path.name.startswith(INDEX)]
    for path in [*others, source / INDEX]:
        _place(path, data_dir / path.name)
    _sync(data_dir)
    return done


def _copy_blobs(
    blobs: BlobStore,
    snapshot: Catalog,
    target: Path,
    base: Path | None,
    progress: Progress,
    renew: Callable[[], None],
) -> tuple[Copied, set[str]]:
    """Everything that the snapshot names, durable on return; also the names."""
    done, wanted, seen = Copied(), set[str](), 0
    with snapshot.read() as tx:
        total = tx.counts()["bytes"]
    for blob, size in _named(snapshot):
        renew()
        done.blobs += 1
        wanted.add(blob)
        where = target / "blobs" / blob[-2:] / blob
        if not (where.is_file() and where.stat().st_size == size):
            where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if base is not None and _link(base / "blobs" / blob[-2:] / blob, where, size):
                done.linked += 1
            else:
                _copy_blob(blobs, blob, size, where, renew)
                done.copied += 1
                done.bytes += size
        seen += size
        progress(seen, max(seen, total))
    (target / "blobs").mkdir(mode=0o700, exist_ok=True)
    _sync_tree(target)
    return done, wanted


def _named(snapshot: Catalog) -> Iterator[tuple[BlobId, int]]:
    """Blobs outside the index that something holds."""
    after = ""
    while True:
        with snapshot.read() as tx:
            page = tx.stored_blobs(after=after, limit=_PAGE)
        yield from ((blob, size) for blob, size, refs, is_inline in page if refs and not is_inline)
        if len(page) < _PAGE:
            return
        after = page[-1][0]


def _link(path: Path, where: Path, size: int) -> bool:
    """Lend a file of the earlier backup; False when it has none, or is on another file system."""
    try:
        if path.stat().st_size != size:
            return False
        where.unlink(missing_ok=True)
        os.link(path, where)
    except OSError:
        return False
    return True


def _copy_blob(blobs: BlobStore, blob: BlobId, size: int, where: Path, renew: Callable[[], None]) -> None:
    temporary = where.with_name(f".{where.name}")
    with open(temporary, "wb", opener=_private) as file:
        try:
            pieces = blobs.read(blob, offset=0, length=size)
        except FileNotFoundError:
            raise BackupError(
                f"The bytes of {blob} are missing: `s3lite check` names what needs them."
            ) from None
        for piece in pieces:
            file.write(piece)
            renew()
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(where)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _copy_key(path: Path, where: Path) -> None:
    """A key file, which its owner alone may read."""
    if path.is_file():
        _place(path, where)


def _place(path: Path, where: Path) -> None:
    """A durable copy under its own name at last, mode 0600."""
    where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = where.with_name(f".{where.name}")
    with path.open("rb") as source, open(temporary, "wb", opener=_private) as file:
        shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(where)


def _prune(directory: Path, wanted: set[str]) -> int:
    """Remove what the new index does not name."""
    removed = 0
    for path in directory.glob("??/*"):
        if path.name not in wanted:
            with suppress(FileNotFoundError):
                path.unlink()
                removed += 1
    return removed


def _sync_tree(root: Path) -> None:
    """Make names durable: of blobs, of their directories."""
    for directory in [*(root / "blobs").glob("??"), root / "blobs", root, root.parent]:
        if directory.is_dir():
            _sync(directory)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
