"""After a key was rotated: the keys of objects are sealed anew under its newest generation.

Not a byte of an object is touched, and readers go on: the earlier generations stay in the keyring, and a
row read before opens as it did. The work is done in small transactions, each of which looks again. What
was sealed while it went on may still be under the generation before; a further run finds it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

from s3lite.catalog.base import Tx
from s3lite.core import sealing
from s3lite.core.store import Store
from s3lite.core.write import commit
from s3lite.crypto.keyring import reference
from s3lite.errors import S3Error
from s3lite.model import Encryption

_BATCH = 200

Progress = Callable[[int, int], None]
"""Called with how many rows are done, and how many there were."""


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What was done: rows sealed anew, and those that could not be opened (damaged)."""

    sealed: int = 0
    failed: tuple[str, ...] = ()


class _Batch(NamedTuple):
    last: int | None  # row; None after the last batch
    sealed: int
    failed: tuple[str, ...]


def rekey(store: Store, name: str, *, progress: Progress | None = None) -> Rekeyed:
    """Seal everything that is under earlier generations of a key under its newest one; safe to repeat.

    Raises KeyringError (no such key, another installation's keyring), OSError.
    """
    sealing.check_installation(store)
    earlier = [reference(name, each) for each in store.keyring.key(name).generations[:-1]]
    with store.catalog.read() as tx:
        counted = tx.count_by_master()
    total, done = sum(counted.get(ref, 0) for ref in earlier), Rekeyed()
    for ref, step in product(earlier, (_uploads, _versions)):
        after: int | None = 0
        while after is not None:
            batch = commit(store, partial(step, store, ref, after))
            done = Rekeyed(done.sealed + batch.sealed, done.failed + batch.failed)
            after = batch.last
            if progress is not None:
                progress(done.sealed + len(done.failed), total)
    return done


def _versions(store: Store, ref: str, after: int, tx: Tx) -> _Batch:
    found = tx.versions_under(ref, after=after, limit=_BATCH)
    sealed, failed = 0, []
    for listed in found:
        version = tx.version(listed.bucket_id, listed.key, listed.version_id)
        if version is None or not _is_under(version.encryption, ref):
            continue  # changed since it was listed
        try:
            tx.update_version(version.row, encryption=sealing.resealed(store, version))
            sealed += 1
        except S3Error:
            failed.append(f"version {version.row}: {version.key}")
    return _Batch(found[-1].row if len(found) == _BATCH else None, sealed, tuple(failed))


def _uploads(store: Store, ref: str, after: int, tx: Tx) -> _Batch:
    found = tx.uploads_under(ref, after=after, limit=_BATCH)
    sealed, failed = 0, []
    for listed in found:
        upload = tx.upload(listed.bucket_id, listed.key, listed.upload_id)
        if upload is None or not _is_under(upload.encryption, ref):
            continue
        try:
            tx.update_upload(upload.row, encryption=sealing.resealed_upload(store, upload))
            sealed += 1
        except S3Error:
            failed.append(f"upload {upload.upload_id}: {upload.key}")
    return _Batch(found[-1].row if len(found) == _BATCH else None, sealed, tuple(failed))


def _is_under(encryption: Encryption | None, ref: str) -> bool:
    return encryption is not None and encryption.master == ref
