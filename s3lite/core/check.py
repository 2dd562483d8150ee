"""The consistency check: the index against the bytes, and with `deep` the bytes against their digests.

It runs beside a server at work. What is only young, only on its way, or released and already removed
is no fault, so every suspicion is looked at again before it is reported:

* a row without a file counts once the file cannot be opened and the row is still held after that;
* a file without a row counts when it is older than ``sweep.orphan_age_s``, unknown to the index when
  asked after the scan, and still there after that (the sweeper removes files before rows);
* an object whose bytes do not match counts while its row is still the one that was read.

Memory does not grow with the store: names of files are sorted in runs on disk and merged with the
index, which is read by name. Parts of open uploads are checked like all bytes, but not re-read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from tempfile import TemporaryFile
from typing import TextIO

from s3lite.core import object_annotation, read, sealing
from s3lite.core.store import Store
from s3lite.core.write import commit
from s3lite.crypto.keyring import KeyringError
from s3lite.crypto.segments import sealed_size
from s3lite.errors import S3Error
from s3lite.model import NULL_VERSION, BlobId, ObjectVersion, Segment
from s3lite.wire import checksums
from s3lite.wire.encryption import CUSTOMER

Progress = Callable[[str, int, int], None]
"""Called with the stage (index, files, content), how much of it is done, and how much there is about."""

File = tuple[BlobId, int, float]  # name, size, time of commit in epoch seconds

_PAGE = 500
_RUN = 200_000  # files that are sorted in memory at once
_INDEX_FAULTS = 1000  # contradictions inside the index that are listed
_NAMES_SHOWN = 3
_QUOTA_OF = "quota of "


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that should not be.

    ``kind``: index (the engine's own check), reference (contradiction inside the index), missing,
    size, unreadable (bytes), orphan (a file that the index does not know), content (bytes do not
    match the ETag, or cannot be decrypted), checksum (… the stored checksum), quota (a counter is off), key (the keyring lacks the
    key of an encrypted object). ``subject`` is a blob, or ``bucket/key``.
    """

    kind: str
    subject: str
    message: str
    is_repaired: bool = False


@dataclass(slots=True)
class Checked:
    """How much a check has seen."""

    blobs: int = 0
    inline: int = 0
    files: int = 0
    file_bytes: int = 0
    versions: int = 0
    content_bytes: int = 0
    without_key: int = 0  # versions under customers' keys, compared with the checksum of their sealed bytes
    faults: int = 0
    repaired: int = 0


@dataclass(slots=True)
class Check:
    """One run. Iterate over `faults` to make it; ``checked`` is complete when that has ended.

    ``repair`` removes orphan files and counts quotas anew, and nothing else: that alone is safe without
    knowing more.
    """

    store: Store
    deep: bool = False
    repair: bool = False
    progress: Progress | None = None
    checked: Checked = field(default_factory=Checked)
    _damaged: dict[BlobId, Fault] = field(default_factory=dict)
    _bucket_names: dict[int, str] = field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        """Check everything. Raises OSError when the storage cannot be read at all."""
        self._advance("index", 0, 1)
        try:
            broken = [Fault("index", "index", text) for text in self.store.catalog.quick_check()]
            is_readable = True
        except OSError as error:
            broken, is_readable = [Fault("index", "index", str(error))], False
        steps: list[Iterable[Fault]] = [broken]
        if is_readable:
            steps += [self._references(), self._files(), self._damage()]
            steps += [self._contents()] if self.deep else []
        for fault in chain.from_iterable(steps):
            self.checked.faults += 1
            self.checked.repaired += fault.is_repaired
            yield fault

    def _advance(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, max(total, done))

    # ------------------------------------------------------------ rows against files

    def _references(self) -> Iterator[Fault]:
        with self.store.catalog.read() as tx:
            found = tx.reference_faults(limit=_INDEX_FAULTS)
        self._advance("index", 1, 1)
        for text in found:
            subject, _, message = text.partition(": ")
            if subject.startswith(_QUOTA_OF):
                yield self._quota(subject.removeprefix(_QUOTA_OF), message)
            else:
                yield Fault("reference", subject, message)

    def _quota(self, subject: str, message: str) -> Fault:
        """A counter that is off harms no bytes, and counting is safe at any time."""
        if self.repair:
            commit(self.store, lambda tx: tx.recount(subject))
        return Fault("quota", subject, message, self.repair)

    def _files(self) -> Iterator[Fault]:
        """Compare names and sizes. Damaged blobs are kept for `_damage`, which knows whose they are."""
        old_before_s = self.store.clock.time() - self.store.settings.sweep.orphan_age_s
        unknown: list[File] = []
        for blob, size, file in _joined(self._rows(), _by_name(self._scan())):
            if size is None:
                if file is not None and file[2] < old_before_s:
                    unknown.append(file)
                if len(unknown) == _PAGE:
                    yield from self._orphans(unknown)
                    unknown = []
            elif file is None:
                self._look_again(blob)
            elif file[1] != size:
                self._mark(blob, "size", f"has {file[1]} bytes, the index says {size}")
        yield from self._orphans(unknown)

    def _rows(self) -> Iterator[tuple[BlobId, int]]:
        """Name and size of every blob that is kept outside the index, by name."""
        after = ""
        while True:
            with self.store.catalog.read() as tx:
                page = tx.stored_blobs(after=after, limit=_PAGE)
            for blob, size, _refs, is_inline in page:
                self.checked.blobs += 1
                self.checked.inline += is_inline
                if not is_inline:
                    yield blob, size
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def _scan(self) -> Iterator[File]:
        with self.store.catalog.read() as tx:
            counts = tx.counts()
        expected = counts["blobs"] - counts["inline"]
        for file in self.store.blobs.scan():
            self.checked.files += 1
            self.checked.file_bytes += file[1]
            if self.checked.files % _PAGE == 0:
                self._advance("files", self.checked.files, expected)
            yield file
        self._advance("files", self.checked.files, self.checked.files)

    def _look_again(self, blob: BlobId) -> None:
        """A row that the scan saw no file for: committed since, or released, or truly without bytes."""
        try:
            for _ in self.store.blobs.read(blob, offset=0, length=1):
                pass
        except FileNotFoundError:
            self._mark(blob, "missing", "its bytes are gone")
        except OSError as error:
            self._mark(blob, "unreadable", str(error))

    def _mark(self, blob: BlobId, kind: str, message: str) -> None:
        """Remember damage, unless nothing holds the blob: its bytes may be gone, and it is never held again."""
        with self.store.catalog.read() as tx:
            if tx.is_referenced(blob):
                self._damaged[blob] = Fault(kind, blob, message)

    def _orphans(self, files: list[File]) -> Iterator[Fault]:
        with self.store.catalog.read() as tx:
            known = tx.known_blobs([file[0] for file in files]) if files else set()
        for blob, size, _ in files:
            if blob not in known and self._exists(blob):
                if self.repair:
                    self.store.blobs.delete(blob)
                yield Fault(
                    "orphan", blob, f"a file of {size} bytes that the index does not know", self.repair
                )

    def _exists(self, blob: BlobId) -> bool:
        try:
            for _ in self.store.blobs.read(blob, offset=0, length=0):
                pass
        except FileNotFoundError:
            return False
        return True

    def _damage(self) -> Iterator[Fault]:
        """The damaged blobs, each with the objects that need it."""
        holders: dict[BlobId, list[str]] = {blob: [] for blob in self._damaged}
        if holders:
            for version in self.store.catalog.iter_versions():
                for part in self._parts(version):
                    if part.blob is not None and part.blob in holders:
                        holders[part.blob].append(self._name(version))
        for blob, fault in self._damaged.items():
            needed_by = _listed(holders[blob]) or "a part of an open upload"
            yield replace(fault, message=f"{fault.message}; needed by {needed_by}")

    # ------------------------------------------------------------ bytes against digests

    def _contents(self) -> Iterator[Fault]:
        with self.store.catalog.read() as tx:
            total = tx.counts()["bytes"]
        for version in self.store.catalog.iter_versions():
            self.checked.versions += 1
            if not version.is_delete_marker:
                found = list(self._verify(version, total))
                if found and self._is_current(version):
                    yield from found
        self._advance("content", self.checked.content_bytes, self.checked.content_bytes)

    def _verify(self, version: ObjectVersion, total: int) -> Iterator[Fault]:
        """Each part against its ETag and checksum, then what a multipart object's own are made of."""
        name, parts = self._name(version), self._parts(version)
        if version.encryption is not None and version.encryption.mode == CUSTOMER:
            self.checked.without_key += 1
            yield from self._verify_sealed(version, parts)
            return
        if version.encryption is not None:
            try:
                self.store.keyring.secret(version.encryption.master)
            except KeyringError as error:
                yield Fault("key", name, f"it cannot be decrypted: {error}")
                return
        algorithm = version.checksum.algorithm if version.checksum else ""
        for part in parts:
            if part.blob in self._damaged:
                continue
            which = f"part {part.part_number}: " if version.part_count else ""
            try:
                digests = self._digests(version, part, algorithm if part.checksum else "", total)
            except FileNotFoundError:
                yield Fault("missing", name, f"{which}its bytes are gone")
                continue
            except S3Error as error:
                yield Fault("content", name, f"{which}it cannot be decrypted: {error.message}")
                continue
            except OSError as error:
                yield Fault("unreadable", name, f"{which}{error}")
                continue
            if digests.etag != part.etag:
                yield Fault("content", name, f"{which}MD5 of the bytes is {digests.etag}, ETag {part.etag}")
            if part.checksum and digests.value(algorithm) != part.checksum:
                value = digests.value(algorithm)
                yield Fault(
                    "checksum", name, f"{which}{algorithm} of the bytes is {value}, stored {part.checksum}"
                )
        if version.part_count:
            yield from _verify_composition(name, version, parts)
        if version.annotations:
            yield from self._verify_annotations(name, version)

    def _verify_annotations(self, name: str, version: ObjectVersion) -> Iterator[Fault]:
        """Each annotation against its ETag."""
        with self.store.catalog.read() as tx:
            found = tx.annotations(version.row)
        for annotation in found:
            if annotation.blob in self._damaged:
                continue
            which = f"annotation {annotation.name}: "
            digests = checksums.Digests(())
            try:
                for piece in object_annotation.content(self.store, version, annotation):
                    digests.update(piece)
            except (S3Error, OSError) as error:
                if self._is_current(version):
                    yield Fault("content", name, f"{which}it cannot be read: {error}")
                continue
            if digests.etag != annotation.etag:
                yield Fault(
                    "content", name, f"{which}MD5 of the bytes is {digests.etag}, ETag {annotation.etag}"
                )

    def _verify_sealed(self, version: ObjectVersion, parts: list[Segment]) -> Iterator[Fault]:
        """Without a customer's key: the bytes as they are kept against the checksum of these."""
        for part in parts:
            if part.blob is None or part.blob in self._damaged:
                continue
            with self.store.catalog.read() as tx:
                expected = tx.sealed_checksum(part.blob)
            found = checksums.new("CRC64NVME")
            try:
                for piece in self._read(part.blob, sealed_size(part.size)):
                    found.update(piece)
                    self.checked.content_bytes += len(piece)
            except OSError as error:
                kind = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
                yield Fault(kind, self._name(version), str(error))
                continue
            if found.value() != expected:
                yield Fault("content", self._name(version), "its encrypted bytes do not match their checksum")

    def _digests(
        self, version: ObjectVersion, part: Segment, algorithm: str, total: int
    ) -> checksums.Digests:
        """Read a part. Raises FileNotFoundError, OSError, and S3Error for what cannot be decrypted."""
        digests = checksums.Digests({algorithm} if algorithm else set(), sha256=False)
        for piece in self._plain(version, part):
            digests.update(piece)
            self.checked.content_bytes += len(piece)
            self._advance("content", self.checked.content_bytes, total)
        return digests

    def _plain(self, version: ObjectVersion, part: Segment) -> Iterator[bytes]:
        if version.encryption is None:
            return self._read(part.blob, part.size) if part.blob is not None else iter(())
        key = sealing.key_of_version(self.store, version, None)
        if part.blob is None:
            return iter(())
        if version.part_count:
            key = sealing.key_of_part(key, part)
        return read.open_blob(self.store, key, part.blob, part.size, 0, part.size)

    def _read(self, blob: BlobId, size: int) -> Iterator[bytes]:
        with self.store.catalog.read() as tx:
            data = tx.inline_data(blob)
        if data is not None:
            return iter((data,))
        return self.store.blobs.read(blob, offset=0, length=size)

    # ------------------------------------------------------------ versions

    def _parts(self, version: ObjectVersion) -> list[Segment]:
        """The segments of a version; one that stands for all of it when it is in one piece."""
        if version.part_count:
            with self.store.catalog.read() as tx:
                return tx.segments(version.row)
        checksum = version.checksum.value if version.checksum else ""
        is_appendable = checksums.is_appendable(version.etag)  # and has no bytes yet
        etag = checksums.md5_etag(b"") if is_appendable else version.etag
        return [Segment(1, version.size, version.blob, etag, checksum)]

    def _is_current(self, version: ObjectVersion) -> bool:
        with self.store.catalog.read() as tx:
            now = tx.version(version.bucket_id, version.key, version.version_id)
        return now is not None and (now.row, now.etag) == (version.row, version.etag)

    def _name(self, version: ObjectVersion) -> str:
        if version.bucket_id not in self._bucket_names:
            with self.store.catalog.read() as tx:
                self._bucket_names = {bucket.id: bucket.name for bucket in tx.buckets(owner_id=None)}
        bucket = self._bucket_names.setdefault(version.bucket_id, f"(bucket {version.bucket_id})")
        suffix = "" if version.version_id == NULL_VERSION else f"?versionId={version.version_id}"
        return f"{bucket}/{version.key}{suffix}"


def _verify_composition(name: str, version: ObjectVersion, parts: list[Segment]) -> Iterator[Fault]:
    """The ETag and checksum of a multipart object are functions of its parts'."""
    made_of = [part.etag for part in parts]
    is_appendable = checksums.is_appendable(version.etag)
    etag = checksums.appendable_etag(made_of) if is_appendable else checksums.multipart_etag(made_of)
    if etag != version.etag:
        yield Fault("content", name, f"the parts' ETags make {etag}, ETag {version.etag}")
    stored = version.checksum
    if stored is None or not all(part.checksum for part in parts):
        return
    if stored.type == "FULL_OBJECT":
        value = checksums.full_object(stored.algorithm, [(part.checksum, part.size) for part in parts])
    else:
        value = checksums.composite(stored.algorithm, [part.checksum for part in parts])
    if value != stored.value:
        yield Fault(
            "checksum", name, f"the parts' checksums make {stored.algorithm} {value}, stored {stored.value}"
        )


def _listed(names: Collection[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(list(names)[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- a sorted scan, merged with the index


def _by_name(files: Iterable[File]) -> Iterator[File]:
    """``files`` sorted, however many: all but the last run wait on disk."""
    with ExitStack() as stack:
        runs: list[Iterable[File]] = []
        run: list[File] = []
        for file in files:
            run.append(file)
            if len(run) == _RUN:
                spill = stack.enter_context(TemporaryFile("w+", encoding="ascii"))
                spill.writelines(f"{blob} {size} {time_s!r}\n" for blob, size, time_s in sorted(run))
                runs.append(_spilled(spill))
                run = []
        runs.append(sorted(run))
        yield from heapq.merge(*runs)


def _spilled(spill: TextIO) -> Iterator[File]:
    spill.seek(0)
    for line in spill:
        blob, size, time_s = line.split()
        yield BlobId(blob), int(size), float(time_s)


def _joined(
    rows: Iterator[tuple[BlobId, int]], files: Iterator[File]
) -> Iterator[tuple[BlobId, int | None, File | None]]:
    """Name, size by the index (None: no row), file (None: none); both sides come by name."""
    file = next(files, None)  # first: what the scan saw is then older than every row
    row = next(rows, None)
    while row is not None or file is not None:
        if file is None or (row is not None and row[0] < file[0]):
            assert row is not None
            yield row[0], row[1], None
            row = next(rows, None)
        elif row is None or file[0] < row[0]:
            yield file[0], None, file
            file = next(files, None)
        else:
            yield row[0], row[1], file
            row, file = next(rows, None), next(files, None)
