"""Upkeep: what crashes, deletes and forgotten uploads leave behind goes away here.

Every step works in bounded slices beside the requests, and every step is safe to repeat. The sweep
never removes a blob that a row names (I5): garbage is chosen by the catalog, and an orphan must be
older than any commit in flight and unknown to the index.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass

from s3lite.catalog.base import Tx
from s3lite.core.store import Store
from s3lite.core.write import commit
from s3lite.model import BlobId

_SLICE = 500
_LEASE = "sweep"
_ORPHAN_SCAN_EVERY_S = 3600.0

log = logging.getLogger("s3lite.sweep")


@dataclass(slots=True)
class Swept:
    """What one run removed."""

    uploads: int = 0
    blobs: int = 0
    orphans: int = 0
    temporaries: int = 0
    completions: int = 0


def sweep(store: Store, *, orphans: bool = True) -> Swept:
    """Run upkeep once. ``orphans``: also compare the blob store with the index, which reads all names."""
    swept = Swept()
    settings = store.settings
    now_ms = store.clock.time_ms()
    if settings.sweep.upload_expiry_s:
        swept.uploads = _expire_uploads(store, now_ms - int(settings.sweep.upload_expiry_s * 1000))
    swept.blobs = _collect_garbage(store, now_ms - int(settings.storage.garbage_grace_s * 1000))
    before_ms = now_ms - int(settings.sweep.completion_ttl_s * 1000)
    swept.completions = commit(store, lambda tx: tx.forget_completions(before_ms=before_ms))
    swept.temporaries = store.blobs.sweep_temporary(older_than_s=settings.sweep.orphan_age_s)
    if orphans:
        swept.orphans = _remove_orphans(store)
    return swept


def _expire_uploads(store: Store, before_ms: int) -> int:
    count = 0
    while True:
        with store.catalog.read() as tx:
            expired = tx.expired_uploads(before_ms=before_ms, limit=_SLICE)
        for upload in expired:

            def remove(
                tx: Tx,
                upload_id: str = upload.upload_id,
                bucket: int = upload.bucket_id,
                key: str = upload.key,
            ) -> None:
                live = tx.upload(bucket, key, upload_id)
                if live is not None:
                    tx.remove_upload(live)

            commit(store, remove)
            count += 1
        if len(expired) < _SLICE:
            return count


def _collect_garbage(store: Store, before_ms: int) -> int:
    count = 0
    while True:
        with store.catalog.read() as tx:
            due = tx.due_garbage(before_ms=before_ms, limit=_SLICE)
        if not due:
            return count
        for blob in due:
            store.blobs.delete(blob)
        commit(store, lambda tx, gone=due: tx.forget_garbage(gone))  # type: ignore[misc]  # bound now
        count += len(due)


def _remove_orphans(store: Store) -> int:
    before_s = store.clock.time() - store.settings.sweep.orphan_age_s
    count = 0
    batch: list[BlobId] = []

    def flush() -> int:
        with store.catalog.read() as tx:
            known = tx.known_blobs(batch)
        removed = 0
        for blob in batch:
            if blob not in known:
                store.blobs.delete(blob)
                removed += 1
        batch.clear()
        return removed

    for blob, _size, committed_s in store.blobs.scan():
        if committed_s < before_s:
            batch.append(blob)
            if len(batch) == _SLICE:
                count += flush()
    return count + (flush() if batch else 0)


class Sweeper:
    """Runs `sweep` in a thread of one process at a time, chosen by a lease in the catalog."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._holder = store.ids.request()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_orphan_scan = 0.0

    def start(self) -> None:
        """Start the thread; once per process, after any fork."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="s3lite-sweep", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for the slice it is in."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        interval = self._store.settings.sweep.interval_s
        while not self._stop.wait(interval):
            try:
                if self._store.catalog.lease(_LEASE, holder=self._holder, ttl_s=interval * 3 + 60):
                    self._once()
            except Exception:  # upkeep must outlive whatever one run met
                log.exception("sweep failed; the next run tries again")

    def _once(self) -> None:
        now = self._store.clock.monotonic()
        orphans = now >= self._next_orphan_scan
        swept = sweep(self._store, orphans=orphans)
        if orphans:
            self._next_orphan_scan = now + _ORPHAN_SCAN_EVERY_S
        self._store.catalog.checkpoint()
        if any(asdict(swept).values()):
            log.info("swept %s", asdict(swept))
