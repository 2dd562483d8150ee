"""Moving to other storage while the server goes on.

Bytes are copied first, under the ids that they have, beside readers and writers. Then the index is
frozen: reads go on, changes are answered 503. What came meanwhile is copied, then every row in one
transaction, and the source stays frozen, so that nothing is written to the side that was left.

A file beside the key file remembers which blobs have been copied, in the order of their ids, so that a
run that was interrupted goes on where it was. Each copy is read back and compared by MD5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from s3lite.blobs.base import BlobStore
from s3lite.catalog.base import Catalog
from s3lite.catalog.transfer import tables
from s3lite.core.store import Store
from s3lite.model import BlobId

_SLICE = 200
_THREADS = 4

Progress = Callable[[str, int, int], None]
"""Called with the stage ("bytes", "index"), what of it is done, and how much there is."""


class MigrationError(Exception):
    """The move cannot be made or went wrong; the message says what to do."""


@dataclass(slots=True)
class Moved:
    """What a run did. Blobs that an earlier run had copied are not counted."""

    blobs: int = 0
    bytes: int = 0
    rows: int = 0


class Migration:
    """One run. ``catalog`` or ``blobs`` None: that part stays where it is."""

    def __init__(
        self,
        source: Store,
        *,
        catalog: Catalog | None,
        blobs: BlobStore | None,
        record: Path,
        title: str,
        progress: Progress | None = None,
    ) -> None:
        self._source = source
        self._catalog = catalog
        self._blobs = blobs
        self._record = record
        self._title = hashlib.sha256(title.encode()).hexdigest()
        self._progress = progress or (lambda *_: None)
        self.moved = Moved()

    def run(self) -> Moved:
        """Move everything. Raises MigrationError, OSError, CatalogBusyError; the source is then as it was."""
        if self._catalog is not None:
            self._check_empty(self._catalog)
        if self._blobs is not None:
            self._copy_blobs(self._blobs)
        self._source.catalog.freeze(on=True)
        try:
            if self._blobs is not None:
                self._copy_blobs(self._blobs)
            if self._catalog is not None:
                self._copy_index(self._catalog)
        except BaseException:
            self._source.catalog.freeze(on=False)
            raise
        self._record.unlink(missing_ok=True)
        return self.moved

    # -- bytes

    def _copy_blobs(self, target: BlobStore) -> None:
        """Copy every blob that the record does not name."""
        total = self._count()
        done = 0
        known = _Record(self._record, self._title)
        with ThreadPoolExecutor(_THREADS) as pool, known:
            for page in self._pages():
                wanted = [(blob, size) for blob, size in page if blob not in known]
                for size in pool.map(lambda each: self._copy(target, *each), wanted):
                    if size is not None:
                        self.moved.blobs += 1
                        self.moved.bytes += size
                known.add(blob for blob, _ in page)
                done += len(page)
                self._progress("bytes", done, max(total, done))

    def _count(self) -> int:
        with self._source.catalog.read() as tx:
            counts = tx.counts()
        return counts["blobs"] - counts["inline"]

    def _pages(self) -> Iterator[list[tuple[BlobId, int]]]:
        """Blobs of the store and their sizes, by id."""
        after = ""
        while True:
            with self._source.catalog.read() as tx:
                page = tx.stored_blobs(after=after, limit=_SLICE)
            yield [(blob, size) for blob, size, _, is_inline in page if not is_inline]
            if len(page) < _SLICE:
                return
            after = page[-1][0]

    def _copy(self, target: BlobStore, blob: BlobId, size: int) -> int | None:
        """Copy one and compare; its size, or None when it is not needed any more."""
        try:
            try:
                digest = self._send(target, blob, size)
            except FileExistsError:  # of a run that ended before it could write that down
                target.delete(blob)
                digest = self._send(target, blob, size)
        except FileNotFoundError:
            with self._source.catalog.read() as tx:
                if not tx.is_referenced(blob):
                    return None
            raise MigrationError(f"blob {blob} is missing: run `s3lite check`, then migrate again") from None
        if digest != _digest(target, blob, size):
            target.delete(blob)
            raise MigrationError(f"blob {blob} came back with another MD5; its copy was removed")
        return size

    def _send(self, target: BlobStore, blob: BlobId, size: int) -> bytes:
        """Copy the bytes; the MD5 of what was read."""
        md5 = hashlib.md5(usedforsecurity=False)
        with target.create(size=size, blob=blob) as writer:
            for piece in self._source.blobs.read(blob, offset=0, length=size):
                md5.update(piece)
                writer.write(piece)
            writer.commit()
        return md5.digest()

    def _is_garbage(self, blob: BlobId) -> bool:
        with self._source.catalog.read() as tx:
            return not tx.is_referenced(blob)

    # -- rows

    def _check_empty(self, catalog: Catalog) -> None:
        with catalog.read() as tx:
            if any(tx.counts().values()) or tx.accounts():
                raise MigrationError("the index to move to is in use: name an empty database")

    def _copy_index(self, catalog: Catalog) -> None:
        source = self._source.catalog
        names = tables()

        def filled() -> Iterator[tuple[str, tuple[str, ...], Iterator[tuple[object, ...]]]]:
            for number, table in enumerate(names):
                self._progress("index", number, len(names))
                columns = source.columns(table)
                yield table, columns, self._counted(source.dump(table, columns))

        before = self.moved.rows
        loaded = catalog.load(filled())
        self._progress("index", len(names), len(names))
        if sum(loaded.values()) != self.moved.rows - before:
            raise MigrationError("the copied index has another number of rows: empty it and migrate again")
        with catalog.read() as tx:
            faults = tx.reference_faults(limit=3)
        if faults:
            raise MigrationError(f"the copied index contradicts itself: {'; '.join(faults)}")

    def _counted(self, rows: Iterator[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
        for row in rows:
            self.moved.rows += 1
            yield row


class _Record:
    """Ids that are copied already, ascending. Asked and added to in that order, it is read and written once.

    A new file is written beside the old one, and takes its place in the end. One that was cut off holds
    what is known up to some id, the old one the rest.
    """

    def __init__(self, path: Path, title: str) -> None:
        self._path = path
        self._fresh = path.with_suffix(".new")
        self._title = title
        self._known: Iterator[str] = iter(())
        self._next = ""
        self._new: TextIO | None = None

    def __enter__(self) -> Self:
        if self._fresh.exists():
            last = ""
            merged = self._path.with_suffix(".merged")
            with merged.open("w", encoding="ascii") as file:
                file.write(self._title + "\n")
                for blob in self._ids(self._fresh):
                    file.write(blob + "\n")
                    last = blob
                file.writelines(blob + "\n" for blob in self._ids(self._path) if blob > last)
            merged.replace(self._path)
            self._fresh.unlink()
        self._known = self._ids(self._path)
        self._next = next(self._known, "")
        self._new = self._fresh.open("w", encoding="ascii")
        self._new.write(self._title + "\n")
        return self

    def _ids(self, path: Path) -> Iterator[str]:
        """Whole lines of a file of this move."""
        if not path.exists():
            return
        with path.open(encoding="ascii") as file:
            if file.readline() == self._title + "\n":
                yield from (line[:-1] for line in file if line.endswith("\n"))

    def __contains__(self, blob: BlobId) -> bool:
        while self._next and self._next < blob:
            self._next = next(self._known, "")
        return self._next == blob

    def add(self, blobs: Iterable[BlobId]) -> None:
        """Write down, before anything follows."""
        assert self._new is not None
        self._new.writelines(f"{blob}\n" for blob in blobs)
        self._new.flush()

    def __exit__(self, kind: object, *exc: object) -> None:
        assert self._new is not None
        self._new.close()
        if kind is None:
            self._fresh.replace(self._path)


def _digest(store: BlobStore, blob: BlobId, size: int) -> bytes:
    md5 = hashlib.md5(usedforsecurity=False)
    reader = store.read(blob, offset=0, length=size)
    with closing(reader):  # type: ignore[type-var]  # `BlobStore.read` promises close()
        for piece in reader:
            md5.update(piece)
    return md5.digest()
