"""Lifecycle: what the rules of a bucket say is due, and the walk that does it.

Deciding is pure (`expiry`, `is_due`); the walk pages through keys and acts in small transactions, each
of which asks again: the version is still there, still current or not, not locked, its tags still
match, and the configuration is still the one that was read. Of what a page told about newer versions
nothing needs asking again: they can only have been deleted since, and the walk then comes first.

A rule counts days from an object's creation, from a version's being superseded, or from an upload's
beginning, and waits for the next midnight UTC. A shortened day (settings.lifecycle.day_seconds) waits
for nothing.

Source: User Guide, "Managing the lifecycle of objects", "Expiring objects", "Lifecycle configuration elements".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx
from s3lite.core import lock, notify, write
from s3lite.core.listing import successor
from s3lite.core.store import Store
from s3lite.model import Bucket, ListedVersion, Upload
from s3lite.wire.conditions import WriteConditions
from s3lite.wire.lifecycle import Filter, Rule, stored_rules

CONFIG = "lifecycle"
"""The name of the bucket's configuration document."""
DAY_SECONDS = 86_400

T = TypeVar("T")
Tags = tuple[tuple[str, str], ...]
GoOn = Callable[[], bool]
"""Asked before each page: False ends the walk, which begins anew next time."""

_PAGE = 500
_BATCH = 100


# ---------------------------------------------------------------- rules against objects


@dataclass(frozen=True, slots=True)
class Subject:
    """A version as rules see it. ``tags`` None: not looked up yet, and taken to match."""

    key: str
    size: int
    tags: Tags | None
    modified_ms: int
    is_delete_marker: bool = False
    superseded_ms: int | None = None  # when a newer version came; None for the current one
    newer_noncurrent: int = 0  # noncurrent versions between it and the current one
    is_alone: bool = False  # the only version of its key


@dataclass(frozen=True, slots=True)
class Expiry:
    """When an object expires, and by which rule."""

    at_ms: int
    rule_id: str


def due_ms(from_ms: int, days: int, day_seconds: int) -> int:
    """``days`` after ``from_ms``, at the next midnight UTC when a day is a day."""
    at_ms = from_ms + days * day_seconds * 1000
    day_ms = DAY_SECONDS * 1000
    return -(-at_ms // day_ms) * day_ms if day_seconds == DAY_SECONDS else at_ms


def expiry(rules: Sequence[Rule], subject: Subject, *, day_seconds: int) -> Expiry | None:
    """When the current version ``subject`` expires by its age or a date: the earliest of all rules' times."""
    found: Expiry | None = None
    for rule in rules:
        if rule.expire_days is not None:
            at_ms = due_ms(subject.modified_ms, rule.expire_days, day_seconds)
        elif rule.expire_at_ms is not None:
            at_ms = rule.expire_at_ms
        else:
            continue
        if (found is None or at_ms < found.at_ms) and _matches(rule.filter, subject):
            found = Expiry(at_ms, rule.id)
    return found


def is_due(rules: Sequence[Rule], subject: Subject, *, now_ms: int, day_seconds: int) -> bool:
    """Whether a version is to go: a current object expires, any other is removed for good.

    A delete marker goes when it is all that is left of its key.
    """
    if subject.superseded_ms is not None:
        return any(
            rule.noncurrent_days is not None
            and subject.newer_noncurrent >= rule.noncurrent_kept
            and due_ms(subject.superseded_ms, rule.noncurrent_days, day_seconds) <= now_ms
            and _matches(rule.filter, subject)
            for rule in rules
        )
    if subject.is_delete_marker:
        if not subject.is_alone:
            return False
        if any(rule.expires_markers and _matches(rule.filter, subject) for rule in rules):
            return True
    found = expiry(rules, subject, day_seconds=day_seconds)
    return found is not None and found.at_ms <= now_ms


def abort_ms(rules: Sequence[Rule], key: str, initiated_ms: int, *, day_seconds: int) -> Expiry | None:
    """When an upload is aborted: the earliest of all rules' times."""
    times = [
        Expiry(due_ms(initiated_ms, rule.abort_days, day_seconds), rule.id)
        for rule in rules
        if rule.abort_days is not None and key.startswith(rule.filter.prefix)
    ]
    return min(times, key=lambda found: found.at_ms, default=None)


def _matches(wanted: Filter, subject: Subject) -> bool:
    if not subject.key.startswith(wanted.prefix):
        return False
    if subject.is_delete_marker:
        return not wanted.describes_objects
    if wanted.size_above is not None and subject.size <= wanted.size_above:
        return False
    if wanted.size_below is not None and subject.size >= wanted.size_below:
        return False
    return subject.tags is None or all(tag in subject.tags for tag in wanted.tags)


# ---------------------------------------------------------------- the walk


@dataclass(slots=True)
class Done:
    """What a walk did: objects expired, versions and markers removed, uploads aborted."""

    expired: int = 0
    removed: int = 0
    aborted: int = 0


def run(store: Store, *, go_on: GoOn = lambda: True) -> Done:
    """Apply the rules of every bucket, once."""
    done = Done()
    after = ""
    while True:
        with store.catalog.read() as tx:
            buckets = tx.buckets(owner_id=None, after=after, limit=_PAGE)
        for bucket in (each for each in buckets if CONFIG in each.configs):
            with store.catalog.read() as tx:
                document = tx.bucket_config(bucket.id, CONFIG)
            if document is not None:
                _Walk(store, bucket, document, done, go_on).run()
            if not go_on():
                return done
        if len(buckets) < _PAGE:
            return done
        after = buckets[-1].name


class _Walk:
    """One bucket under one configuration."""

    def __init__(self, store: Store, bucket: Bucket, document: bytes, done: Done, go_on: GoOn) -> None:
        self._store = store
        self._bucket = bucket
        self._document = document
        self._rules = stored_rules(document)
        self._done = done
        self._go_on = go_on
        self._now_ms = store.clock.time_ms()
        self._day_seconds = store.settings.lifecycle.day_seconds
        self._events = notify.lifecycle_events(store) if notify.CONFIG in bucket.configs else None

    def run(self) -> None:
        rules = self._rules
        about_versions = [rule.filter.prefix for rule in rules if _is_about_versions(rule)]
        about_uploads = [rule.filter.prefix for rule in rules if rule.abort_days is not None]
        for prefix in _outermost(about_versions):
            self._act(self._due_versions(prefix), self._end)
        for prefix in _outermost(about_uploads):
            self._act(self._due_uploads(prefix), self._abort)

    def _act(self, due: Iterator[T], act: Callable[[Tx, Bucket, T], None]) -> None:
        """Do what is due, a batch in a transaction or some, while bucket and configuration are what they were."""
        while batch := deque(islice(due, _BATCH)):

            def work(tx: Tx, batch: Sequence[T] = batch) -> int:
                live = tx.bucket(self._bucket.name)
                if live is None or live.id != self._bucket.id:
                    return 0
                if tx.bucket_config(live.id, CONFIG) != self._document:
                    return 0
                for done, item in enumerate(batch, 1):
                    act(tx, live, item)
                    if tx.parts_removed >= write.PARTS_AT_ONCE:
                        return done
                return len(batch)

            while batch:
                done = write.commit(self._store, work, owes=self._events is not None, frees=True)
                if not done:
                    return
                for _ in range(done):
                    batch.popleft()

    # ------------------------------------------------------------ versions

    def _due_versions(self, prefix: str) -> Iterator[_Candidate]:
        """What is due as far as listings tell, in order of keys; tags and locks are not looked at."""
        newer: ListedVersion | None = None  # the row before this one, when it is of the same key
        noncurrent = 0
        pending: ListedVersion | None = (
            None  # a current delete marker, until the next row tells if it is alone
        )
        for entry in self._versions(prefix):
            same_key = newer is not None and newer.key == entry.key
            if pending is not None and not same_key:
                yield from self._if_due(pending, is_alone=True)
            pending = None
            if not same_key:
                noncurrent = 0
                if entry.is_delete_marker:
                    pending = entry
                else:
                    yield from self._if_due(entry)
            elif newer is not None:
                yield from self._if_due(entry, superseded_ms=newer.modified_ms, newer_noncurrent=noncurrent)
                noncurrent += 1
            newer = entry
        if pending is not None:
            yield from self._if_due(pending, is_alone=True)

    def _if_due(
        self,
        entry: ListedVersion,
        *,
        superseded_ms: int | None = None,
        newer_noncurrent: int = 0,
        is_alone: bool = False,
    ) -> Iterator[_Candidate]:
        subject = Subject(
            key=entry.key,
            size=entry.size,
            tags=None,
            modified_ms=entry.modified_ms,
            is_delete_marker=entry.is_delete_marker,
            superseded_ms=superseded_ms,
            newer_noncurrent=newer_noncurrent,
            is_alone=is_alone,
        )
        if not self._is_due(subject):
            return
        candidate = _Candidate(entry.row, entry.version_id, subject)
        # Asked here already, so that objects which only their tags or locks save cost no transaction.
        with self._store.catalog.read() as tx:
            if self._confirmed(tx, self._bucket.id, candidate):
                yield candidate

    def _is_due(self, subject: Subject) -> bool:
        return is_due(self._rules, subject, now_ms=self._now_ms, day_seconds=self._day_seconds)

    def _versions(self, prefix: str) -> Iterator[ListedVersion]:
        lower, row = prefix.encode(), None
        upper = successor(lower)
        while self._go_on():
            with self._store.catalog.read() as tx:
                page = tx.list_versions(self._bucket.id, lower=lower, upper=upper, after_row=row, limit=_PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            lower, row = page[-1].key.encode(), page[-1].row

    def _confirmed(self, tx: ReadTx, bucket_id: int, candidate: _Candidate) -> bool:
        """Whether the version is as it was listed, matches with its tags, and may go."""
        subject = candidate.subject
        version = tx.version(bucket_id, subject.key, candidate.version_id)
        if version is None or version.row != candidate.row or version.modified_ms != subject.modified_ms:
            return False
        if version.is_latest != (subject.superseded_ms is None):
            return False
        if not self._is_due(replace(subject, tags=version.head.tags)):
            return False
        if subject.is_alone:
            key = subject.key.encode()
            return len(tx.list_versions(bucket_id, lower=key, upper=key + b"\0", limit=2)) == 1
        return not candidate.is_removal or not lock.is_locked(version.lock, self._now_ms)

    def _end(self, tx: Tx, bucket: Bucket, candidate: _Candidate) -> None:
        """Expire a current object, remove any other version."""
        if not self._confirmed(tx, bucket.id, candidate):
            return
        subject = candidate.subject
        if candidate.is_removal:
            version = tx.version(bucket.id, subject.key, candidate.version_id)
            assert version is not None
            tx.remove_version(version)
            if self._events is not None:
                self._events.removed(tx, bucket, notify.DELETE, version)
            self._done.removed += 1
        else:
            tell = self._events.removed if self._events is not None else None
            write.delete_in(self._store, tx, bucket, subject.key, None, WriteConditions(), tell=tell)
            self._done.expired += 1

    # ------------------------------------------------------------ uploads

    def _due_uploads(self, prefix: str) -> Iterator[Upload]:
        lower, row = prefix.encode(), None
        upper = successor(lower)
        while self._go_on():
            with self._store.catalog.read() as tx:
                page = tx.list_uploads(self._bucket.id, lower=lower, upper=upper, after_row=row, limit=_PAGE)
            for upload in page:
                found = abort_ms(self._rules, upload.key, upload.initiated_ms, day_seconds=self._day_seconds)
                if found is not None and found.at_ms <= self._now_ms:
                    yield upload
            if len(page) < _PAGE:
                return
            lower, row = page[-1].key.encode(), page[-1].row

    def _abort(self, tx: Tx, bucket: Bucket, upload: Upload) -> None:
        live = tx.upload(bucket.id, upload.key, upload.upload_id)
        if live is not None:
            tx.remove_upload(live)
            self._done.aborted += 1


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A version that seems due."""

    row: int
    version_id: str
    subject: Subject

    @property
    def is_removal(self) -> bool:
        """True if the version goes for good; a current object in a versioned bucket gets a marker."""
        return self.subject.superseded_ms is not None or self.subject.is_delete_marker


def _is_about_versions(rule: Rule) -> bool:
    times = (rule.expire_days, rule.expire_at_ms, rule.noncurrent_days)
    return rule.expires_markers or any(time is not None for time in times)


def _outermost(prefixes: Sequence[str]) -> list[str]:
    """The prefixes that no other one covers, so that each key is walked over once."""
    found: list[str] = []
    for prefix in sorted(prefixes):
        if not found or not prefix.startswith(found[-1]):
            found.append(prefix)
    return found
