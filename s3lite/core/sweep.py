"""Upkeep: what crashes, deletes and forgotten uploads leave behind goes away here.

Every step works in bounded slices beside the requests, and every step is safe to repeat. The sweep
never removes a blob that a row names (I5): garbage is chosen by the catalog, and an orphan must be
older than any commit in flight and unknown to the index.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

from s3lite.catalog.base import CatalogBusyError, Tx
from s3lite.catalog.questions import Chosen
from s3lite.core import access_log, lifecycle, pending
from s3lite.core.store import Store
from s3lite.core.write import commit
from s3lite.model import BlobId

_SLICE = 500
_LEASE = "sweep"
COLLECTING = "collect"
"""The lease of whoever removes released bytes, and of backups, during which nobody may."""
_COLLECT_S = 60.0
_ORPHAN_SCAN_EVERY_S = 3600.0
_RULES_PER_DAY = 24  # rules count in days, so walks beside every run would find nothing new
_RENEW_EVERY_S = 20.0
_SHORT_GRACE_S = 60.0
_REST_MOST_S = 0.1

log = logging.getLogger("s3lite.sweep")


@dataclass(slots=True)
class Swept:
    """What one run removed, and what it delivered."""

    uploads: int = 0
    blobs: int = 0
    orphans: int = 0
    temporaries: int = 0
    completions: int = 0
    undecided: int = 0  # uploads whose gate nobody waits for any more
    messages: int = 0  # dead ones whose time is over
    deliveries: int = 0  # attempts in the delivery log
    expired: int = 0  # current objects, by lifecycle rules
    logs: int = 0  # objects made of access logs
    removed: int = 0  # noncurrent versions and delete markers, by lifecycle rules
    freed_files: int = 0  # of released blobs, orphans and temporaries; those in the index have none
    freed_bytes: int = 0  # of all of these

    def free(self, *, files: int, size: int) -> None:
        """Count bytes that are gone."""
        self.freed_files += files
        self.freed_bytes += size


def sweep(
    store: Store, *, orphans: bool = True, rules: bool = True, go_on: Callable[[], bool] = lambda: True
) -> Swept:
    """Run upkeep once.

    ``orphans``: also compare the blob store with the index, which reads all names. ``rules``: also apply
    lifecycle rules, which walks over the keys they name. ``go_on`` is asked now and then; False ends that walk.
    """
    swept = Swept()
    settings = store.settings
    now_ms = store.clock.time_ms()
    if settings.sweep.upload_expiry_s:
        swept.uploads = _expire_uploads(store, now_ms - int(settings.sweep.upload_expiry_s * 1000))
    # Garbage of this very millisecond is due, too, where there is no grace.
    swept.blobs = _collect_garbage(store, swept, now_ms + 1 - int(_grace_s(store) * 1000))
    before_ms = now_ms - int(settings.sweep.completion_ttl_s * 1000)
    swept.completions = commit(store, lambda tx: tx.forget_completions(before_ms=before_ms), frees=True)
    swept.undecided = pending.sweep(store, limit=_SLICE)
    swept.messages, swept.deliveries = _forget_messages(store, now_ms), _forget_deliveries(store, now_ms)
    swept.logs = access_log.deliver(store).objects
    left = store.blobs.sweep_temporary(older_than_s=settings.sweep.orphan_age_s)
    swept.temporaries = left.blobs
    swept.free(files=left.blobs, size=left.bytes)
    if orphans:
        swept.orphans = _remove_orphans(store, swept)
    if rules:
        done = lifecycle.run(store, go_on=go_on)
        swept.expired, swept.removed = done.expired, done.removed
        swept.uploads += done.aborted
    return swept


def _grace_s(store: Store) -> float:
    """How long released bytes are kept. On a full disk only for a moment: whoever reads them may be cut off."""
    grace_s = store.settings.storage.garbage_grace_s
    try:
        store.reserve.ensure()
    except OSError:
        return min(grace_s, _SHORT_GRACE_S)
    return grace_s


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

            commit(store, remove, frees=True)
            count += 1
        if len(expired) < _SLICE:
            return count


def _collect_garbage(store: Store, swept: Swept, before_ms: int) -> int:
    count, holder = 0, store.ids.request()
    while True:
        with store.catalog.read() as tx:
            due = tx.due_garbage(before_ms=before_ms, limit=_SLICE)
        if not due:
            break
        if not store.catalog.lease(COLLECTING, holder=holder, ttl_s=_COLLECT_S):
            return count  # a backup needs them; another run comes
        files = [each.blob for each in due if not each.is_inline]
        for blob in files:
            store.blobs.delete(blob)
        gone = [each.blob for each in due]
        commit(store, lambda tx, gone=gone: tx.forget_garbage(gone), frees=True)  # type: ignore[misc]  # bound now
        count += len(due)
        swept.free(files=len(files), size=sum(each.size for each in due))
    if count:
        store.catalog.lease(COLLECTING, holder=holder, ttl_s=0)
    return count


def _forget_messages(store: Store, now_ms: int) -> int:
    """Dead messages that nobody has looked after."""
    days = store.settings.outbox.dead_days
    chosen = Chosen(before_ms=now_ms - int(days * 86_400_000))
    return _in_slices(store, lambda tx: tx.purge_outbox(chosen, limit=_SLICE)) if days else 0


def _forget_deliveries(store: Store, now_ms: int) -> int:
    outbox = store.settings.outbox
    before_ms = now_ms - int(outbox.log_days * 86_400_000)
    keep = outbox.log_rows
    return _in_slices(store, lambda tx: tx.forget_deliveries(before_ms=before_ms, keep=keep, limit=_SLICE))


def _in_slices(store: Store, forget: Callable[[Tx], int]) -> int:
    """Repeat what forgets a slice until less than one is left."""
    count = 0
    while True:
        gone = commit(store, forget, frees=True)
        count += gone
        if gone < _SLICE:
            return count


def _remove_orphans(store: Store, swept: Swept) -> int:
    before_s = store.clock.time() - store.settings.sweep.orphan_age_s
    count = 0
    batch: dict[BlobId, int] = {}

    def flush() -> int:
        with store.catalog.read() as tx:
            known = tx.known_blobs(list(batch))
        orphans = {blob: size for blob, size in batch.items() if blob not in known}
        for blob in orphans:
            store.blobs.delete(blob)
        swept.free(files=len(orphans), size=sum(orphans.values()))
        batch.clear()
        return len(orphans)

    for blob, size, committed_s in store.blobs.scan():
        if committed_s < before_s:
            batch[blob] = size
            if len(batch) == _SLICE:
                count += flush()
    return count + (flush() if batch else 0)


class Sweeper:
    """Runs `sweep` in a thread of one process at a time, chosen by a lease in the catalog."""

    def __init__(self, store: Store, *, on_swept: Callable[[Swept], None] | None = None) -> None:
        self._store = store
        self._on_swept = on_swept
        self._holder = store.ids.request()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_orphan_scan = 0.0
        self._next_rules = 0.0
        self._renewed = 0.0
        self._rested = 0.0
        self._holds_lease = False

    def start(self) -> None:
        """Start the thread; once per process, after any fork."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="s3lite-sweep", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, wait for the slice it is in, and leave the lease to others."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._holds_lease:
            self._holds_lease = False
            with suppress(OSError, CatalogBusyError):  # it runs out by itself
                self._store.catalog.lease(_LEASE, holder=self._holder, ttl_s=0)

    def _run(self) -> None:
        while not self._stop.wait(self._store.settings.sweep.interval_s):
            try:
                if self._lease():
                    self._once()
            except Exception:  # upkeep must outlive whatever one run met
                log.exception("sweep failed; the next run tries again")

    def _lease(self) -> bool:
        """Take or renew the right to sweep."""
        self._renewed = self._store.clock.monotonic()
        ttl_s = self._store.settings.sweep.interval_s * 3 + 60
        self._holds_lease = self._store.catalog.lease(_LEASE, holder=self._holder, ttl_s=ttl_s)
        return self._holds_lease

    def _goes_on(self) -> bool:
        """Whether a long walk may continue: nobody wants this thread to end, and the lease is ours.

        Rests for as long as the walk has just worked, so that requests have the other half of a core.
        """
        worked_s = self._store.clock.monotonic() - self._rested
        stopped = self._stop.wait(min(max(worked_s, 0), _REST_MOST_S))
        self._rested = self._store.clock.monotonic()
        if stopped:
            return False
        return self._store.clock.monotonic() < self._renewed + _RENEW_EVERY_S or self._lease()

    def _once(self) -> None:
        now = self._store.clock.monotonic()
        orphans = now >= self._next_orphan_scan
        rules = now >= self._next_rules
        swept = sweep(self._store, orphans=orphans, rules=rules, go_on=self._goes_on)
        if orphans:
            self._next_orphan_scan = now + _ORPHAN_SCAN_EVERY_S
        if rules:
            self._next_rules = now + self._store.settings.lifecycle.day_seconds / _RULES_PER_DAY
        self._store.catalog.checkpoint()
        if self._on_swept is not None:
            self._on_swept(swept)
        done = {name: count for name, count in asdict(swept).items() if count}
        if done:
            log.info("swept %s", done)
