"""What a server has done and what waits, for Prometheus; served at ``/.s3lite/metrics``.

Counters and histograms are added to by each request and kept by prometheus_client: in memory, or, where
``PROMETHEUS_MULTIPROC_DIR`` is set (s3lite/gunicorn_conf.py does it), in files that all workers of a server
share. What the index knows (the outbox, its lag, the delivery counters) and what the disk says is looked up
when somebody asks, so that it costs nothing else and is right for any number of nodes.

Requests are noted by one append each and counted some at a time: adding to shared files costs more than a
small request's lookup. So a worker's figures may be half a second old when another one is asked for them.

Names follow Prometheus' rules: a unit at the end, ``_total`` for counters. docs/observability.md lists them,
and the dashboard and alerts beside it are checked against this module.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from s3lite import __version__
from s3lite.core.store import Store
from s3lite.core.sweep import Swept

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

_COUNTED_AT_ONCE = 64  # requests that are noted before they are counted
_COUNTED_AFTER_S = 0.5

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


_Answered = tuple[str, int, float, int, int]
"""Operation, status, seconds, bytes received, bytes sent."""


class Metrics:
    """The meters of one application instance."""

    def __init__(self) -> None:
        self._shared = os.environ.get(_DIRECTORY, "")
        self._registry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": None if self._shared else self._registry}
        self._requests = Counter(
            "s3lite_requests", "Requests, by operation and status.", ("operation", "status"), **kept
        )
        self._seconds = Histogram(
            "s3lite_request_seconds",
            "Time until an answer was ready to be sent, by operation.",
            ("operation",),
            buckets=_SECONDS,
            **kept,
        )
        self._received = Counter(
            "s3lite_received_bytes", "Bytes of bodies taken, by operation.", ("operation",), **kept
        )
        self._sent = Counter(
            "s3lite_sent_bytes", "Bytes of bodies answered, by operation.", ("operation",), **kept
        )
        self._in_progress = Gauge(
            "s3lite_requests_in_progress",
            "Requests that are being answered now.",
            multiprocess_mode="livesum",
            **kept,
        )
        self._callbacks = Counter(
            "s3lite_callback_attempts",
            "Callbacks that an upload waited for, by outcome.",
            ("outcome",),
            **kept,
        )
        self._callback_seconds = Histogram(
            "s3lite_callback_seconds", "Time that these callbacks took.", buckets=_SECONDS, **kept
        )
        self._in_flight = Gauge(
            "s3lite_callbacks_in_flight",
            "Callbacks and messages that wait for an application now.",
            multiprocess_mode="livesum",
            **kept,
        )
        self._suspended = Gauge(
            "s3lite_callback_targets_suspended",
            "Targets that are left alone for a while because they do not answer, counted by each worker.",
            multiprocess_mode="livesum",
            **kept,
        )
        self._swept = Counter("s3lite_swept", "What upkeep removed, by kind.", ("kind",), **kept)
        self._freed_files = Counter("s3lite_swept_files", "Files that upkeep removed.", **kept)
        self._freed_bytes = Counter("s3lite_swept_bytes", "Bytes that upkeep gave back.", **kept)
        self._sweeps = Counter("s3lite_sweeps", "Runs of upkeep.", **kept)
        # Looking a child up by labels costs more than adding to it.
        self._children: dict[tuple[str, int], tuple[Any, Any, Any, Any]] = {}
        self._answered: deque[_Answered] = deque()
        self._begun, self._begun_before = itertools.count(), 0
        self._counting = threading.Lock()
        self._is_over = threading.Event()

    def begun(self) -> None:
        """A request has arrived."""
        next(self._begun)

    def answered(
        self, operation: str, status: int, *, seconds: float, received: int, sent: int | None
    ) -> None:
        """A request has its answer; ``sent`` None where the size is not known."""
        self._answered.append((operation, status, seconds, received, sent or 0))
        if len(self._answered) >= _COUNTED_AT_ONCE:
            self.count()

    def count(self) -> None:
        """Add what has been noted to the figures."""
        with self._counting:
            answered = [self._answered.popleft() for _ in range(len(self._answered))]
            for operation, status, seconds, received, sent in answered:
                children = self._children.get((operation, status))
                if children is None:
                    children = self._children[operation, status] = (
                        self._requests.labels(operation, str(status)),
                        self._seconds.labels(operation),
                        self._received.labels(operation),
                        self._sent.labels(operation),
                    )
                children[0].inc()
                children[1].observe(seconds)
                if received:
                    children[2].inc(received)
                if sent:
                    children[3].inc(sent)
            begun = next(self._begun)  # one too many each time: `_begun_before` has what is true
            self._in_progress.inc(begun - self._begun_before - len(answered))
            self._begun_before = begun + 1

    def keep_counting(self) -> None:
        """Have a thread of this process count what is noted, so that figures of a quiet worker are no older."""

        def run() -> None:
            while not self._is_over.wait(_COUNTED_AFTER_S):
                self.count()

        threading.Thread(target=run, name="s3lite-metrics", daemon=True).start()

    def close(self) -> None:
        """Count what is left."""
        self._is_over.set()
        self.count()

    def called_back(self, *, ok: bool, seconds: float) -> None:
        """A callback that an upload waited for has ended."""
        self._callbacks.labels("ok" if ok else "failed").inc()
        self._callback_seconds.observe(seconds)

    def lanes(self, in_flight: int, suspended: int) -> None:
        """What `callback.lanes` tells."""
        self._in_flight.set(in_flight)
        self._suspended.set(suspended)

    def swept(self, done: Swept) -> None:
        """A run of upkeep has ended."""
        self._sweeps.inc()
        self._freed_files.inc(done.freed_files)
        self._freed_bytes.inc(done.freed_bytes)
        for kind, count in asdict(done).items():
            if count and not kind.startswith("freed_"):
                self._swept.labels(kind).inc(count)

    def totals(self) -> dict[str, float]:
        """Sums over all labels, by name: for the console's plots.

        ``s3lite_requests_failed`` beside them are the requests that were answered 5xx.
        """
        self.count()
        sums: dict[str, float] = {}
        failed = 0.0
        for family in self._counted().collect():
            for sample in family.samples:
                if not sample.name.endswith("_bucket"):
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
                if sample.name == "s3lite_requests_total" and sample.labels["status"] >= "500":
                    failed += sample.value
        sums["s3lite_requests_failed"] = failed
        return sums

    def _counted(self) -> CollectorRegistry:
        if not self._shared:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._shared)  # type: ignore[no-untyped-call]  # theirs
        return registry

    def exposition(self, store: Store) -> bytes:
        """All figures in Prometheus' text format. Raises CatalogBusyError, OSError."""
        self.count()
        asked = CollectorRegistry()
        asked.register(_Looked(store))
        return bytes(generate_latest(self._counted()) + generate_latest(asked))


class _Looked:
    """What is looked up when somebody asks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        yield _gauge("s3lite_info", "The version that answers.", 1, version=__version__)
        yield from self._outbox()
        yield from self._storage()

    def _outbox(self) -> Iterator[Metric]:
        with self._store.catalog.read() as tx:
            figures, counters = tx.outbox_figures(), tx.counters()
        now_ms = self._store.clock.time_ms()
        entries = GaugeMetricFamily("s3lite_outbox_entries", "Messages in the outbox.", labels=("state",))
        entries.add_metric(("waiting",), figures.waiting)
        entries.add_metric(("dead",), figures.dead)
        yield entries
        late_ms = max(now_ms - figures.due_ms, 0) if figures.due_ms is not None else 0
        oldest_ms = max(now_ms - figures.oldest_ms, 0) if figures.oldest_ms is not None else 0
        yield _gauge("s3lite_outbox_lag_seconds", "How long the next attempt has been due.", late_ms / 1000)
        yield _gauge("s3lite_outbox_oldest_seconds", "Age of the oldest waiting message.", oldest_ms / 1000)
        attempts = CounterMetricFamily(
            "s3lite_outbox_events", "What became of messages, over all workers and nodes.", labels=("event",)
        )
        lost = counters.pop("access_log_lines_lost", 0)
        for name, value in counters.items():
            attempts.add_metric((name,), value)
        yield attempts
        yield CounterMetricFamily(
            "s3lite_access_log_lines_lost", "Lines of access logs that were dropped.", lost
        )

    def _storage(self) -> Iterator[Metric]:
        settings = self._store.settings
        directory = Path(settings.data_dir)
        wal = directory / "index.db-wal"
        yield _gauge(
            "s3lite_index_log_bytes",
            "Size of the index's write-ahead log.",
            wal.stat().st_size if wal.exists() else 0,
        )
        usage = shutil.disk_usage(directory)
        yield _gauge("s3lite_disk_free_bytes", "Room on the data directory's file system.", usage.free)
        yield _gauge("s3lite_disk_bytes", "Size of the data directory's file system.", usage.total)


def _gauge(name: str, help_text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family


def forget_worker(pid: int) -> None:
    """A worker is gone: its gauges no longer count, its counters do."""
    if os.environ.get(_DIRECTORY):
        mark_process_dead(pid)  # type: ignore[no-untyped-call]  # theirs
