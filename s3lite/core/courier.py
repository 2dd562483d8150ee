"""The courier: a thread per process that leases due rows of the outbox and has them delivered.

Several processes and nodes share one outbox. Each takes rows by a lease, sends them from a pool of
threads, and writes what became of them in batches. A process that dies loses its leases, and others send
those messages again; nothing is sent by two at once unless a lease has run out meanwhile.

Rows wait in lanes (whose messages, and where to). A lane may use a few threads only, one when its last
attempt had no answer, and all such lanes together half of the threads: dead destinations cost the others
nothing. Of each lane no more is taken than can be sent within the lease, so memory is bounded, too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from s3lite.catalog.base import CatalogBusyError, Tx
from s3lite.catalog.questions import ReadTx
from s3lite.core.outbox import HELD_BACK_MS, NOTIFICATION, Result, Written, judge
from s3lite.core.store import Store
from s3lite.messages import Delivery, OutboxEntry, Settlement

_DUE_AT_ONCE = 200
_LANES_AT_ONCE = 200
_LANES_TAKEN = 16  # of a backlog in one round, so that each gets as much as it may hold
_AHEAD = 16  # entries of a healthy lane that are taken before a thread is free for them
_BATCH = 256
_LANES_REMEMBERED = 1024
_REST_S = 60.0
_ROUND_S = 0.01  # rounds of a busy courier are no shorter: each then writes for several messages

log = logging.getLogger("s3lite.outbox")


class Carrier(Protocol):
    """Brings one message to where it belongs."""

    longest_s: float
    """Seconds that `carry` may take."""

    def carry(self, entry: OutboxEntry) -> Result:
        """Try once. Never raises for the message's or its destination's fault."""


@dataclass(slots=True)
class _Lane:
    queue: deque[OutboxEntry] = field(default_factory=deque)
    in_flight: int = 0
    is_silent: bool = False
    rest_until: float = 0.0  # the destination asked for a pause

    @property
    def is_idle(self) -> bool:
        return not self.queue and not self.in_flight


class Courier:
    """Delivers the outbox from this process. ``store.outbox`` wakes it; `step` is one round."""

    def __init__(self, store: Store, carrier: Carrier) -> None:
        self._store = store
        self._settings = store.settings.outbox
        self._carrier = carrier
        self._holder = store.ids.request()
        self._lock = threading.Lock()
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._after = ""  # the lane that the next look begins behind
        self._pool: ThreadPoolExecutor | None = None
        self._running = self._running_silent = 0
        self._stop = False
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ life cycle

    def start(self) -> None:
        """Start the thread; once per process, after any fork."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="s3lite-outbox", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take nothing more, wait for what is being sent, write it down, and give the rest back."""
        self._stop = True
        self._store.outbox.wake()
        if self._thread is not None:
            self._thread.join()
        if self._pool is not None:
            self._pool.shutdown()
        self._give_back()
        try:
            while self._write():
                pass
        except (CatalogBusyError, OSError) as error:
            log.warning("what the outbox did last is not written down, and is done once more: %s", error)

    @property
    def in_flight(self) -> int:
        """Messages that are being sent now."""
        return self._running

    def _run(self) -> None:
        while not self._stop:
            began = self._store.clock.monotonic()
            wait_s = self._settings.poll_s
            try:
                wait_s = self.step()
            except (CatalogBusyError, OSError) as error:
                log.warning("the outbox has to wait for the index: %s", error)
            except Exception:  # the courier must outlive whatever one round met
                log.exception("a round of the outbox failed; the next one tries again")
            self._store.outbox.wait(wait_s)
            rest_s = began + _ROUND_S - self._store.clock.monotonic()
            if rest_s > 0 and not self._stop:
                time.sleep(rest_s)

    def step(self) -> float:
        """Write down what has ended, take what is due, send it; seconds until the next round is needed."""
        self._hand_out()
        has_more = self._write()
        wait_s = self._settings.poll_s
        if self._settings.enabled:
            wait_s = min(wait_s, self._take())
            self._hand_out()
        return 0.0 if has_more else wait_s

    # ------------------------------------------------------------ taking

    def _take(self) -> float:
        """Lease due entries for lanes with room; seconds until more will be due."""
        now_ms = self._store.clock.time_ms()
        with self._store.catalog.read() as tx:
            lanes = self._due_lanes(tx, now_ms)
            next_ms = tx.outbox_next(now_ms=now_ms)
        wanted: dict[str, int] = {}
        left = _BATCH - self._queued()
        for lane in lanes:
            room = min(self._room(lane), left)
            if room > 0:
                wanted[lane] = room
                left -= room
        if wanted:
            self._enqueue(self._lease(wanted))
        return max((next_ms - now_ms) / 1000, 0.001) if next_ms is not None else self._settings.poll_s

    def _due_lanes(self, tx: ReadTx, now_ms: int) -> list[str]:
        """Lanes with due entries: all of them, or, in a backlog, some, and others next time."""
        due = tx.outbox_due(now_ms=now_ms, limit=_DUE_AT_ONCE)
        if len(due) < _DUE_AT_ONCE:
            return list(dict.fromkeys(due))
        # One lane may have most of what is due. So they are gone through by name, from where it ended.
        found = tx.outbox_lanes(after=self._after, limit=_LANES_AT_ONCE)
        if len(found) < _LANES_AT_ONCE:
            more = tx.outbox_lanes(after="", limit=_LANES_AT_ONCE - len(found))
            found += [each for each in more if each[0] <= self._after]
        lanes = [lane for lane, due_ms in found if due_ms <= now_ms]
        self._after = found[-1][0] if len(lanes) < _LANES_TAKEN or not lanes else lanes[_LANES_TAKEN - 1]
        return lanes[:_LANES_TAKEN]

    def _queued(self) -> int:
        with self._lock:
            return sum(len(lane.queue) for lane in self._lanes.values())

    def _lease(self, wanted: dict[str, int]) -> list[OutboxEntry]:
        now_ms = self._store.clock.time_ms()
        until_ms = now_ms + int(self._settings.lease_s * 1000)

        def work(tx: Tx) -> list[OutboxEntry]:
            return [
                entry
                for lane, room in wanted.items()
                for entry in tx.take_outbox(
                    lane, now_ms=now_ms, limit=room, holder=self._holder, until_ms=until_ms
                )
            ]

        return self._store.catalog.write(work)

    def _room(self, name: str) -> int:
        """How many more entries of a lane may be held."""
        with self._lock:
            lane = self._lanes.get(name)
            if lane is None:
                return _AHEAD
            if self._store.clock.monotonic() < lane.rest_until:
                return 0
            if lane.is_silent:
                return 1 if lane.is_idle else 0
            return max(_AHEAD - len(lane.queue), 0)

    def _enqueue(self, entries: list[OutboxEntry]) -> None:
        with self._lock:
            for entry in entries:
                self._lanes.setdefault(entry.lane, _Lane()).queue.append(entry)

    # ------------------------------------------------------------ sending

    def _hand_out(self) -> None:
        """Give queued entries to threads, lane by lane in turns."""
        with self._lock:
            for name in list(self._lanes):
                lane = self._lanes[name]
                if lane.queue and self._may_send(lane):
                    self._lanes.move_to_end(name)  # others come first next time
                while lane.queue and self._may_send(lane):
                    self._submit(name, lane, lane.queue.popleft())
            self._forget_lanes()

    def _may_send(self, lane: _Lane) -> bool:
        threads = self._settings.threads
        if self._running >= threads:
            return False
        if lane.is_silent:
            return not lane.in_flight and self._running_silent < max(threads // 2, 1)
        return lane.in_flight < self._settings.per_target

    def _submit(self, name: str, lane: _Lane, entry: OutboxEntry) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._settings.threads, thread_name_prefix="s3lite-outbox")
        lane.in_flight += 1
        self._running += 1
        self._running_silent += lane.is_silent
        self._pool.submit(self._attempt, name, entry, lane.is_silent)

    def _attempt(self, name: str, entry: OutboxEntry, counted_silent: bool) -> None:
        """In a thread of the pool: one attempt, unless the lease would not last for it."""
        now_ms = self._store.clock.time_ms()
        result = None
        if now_ms + self._carrier.longest_s * 1000 < entry.due_ms:
            try:
                result = self._carrier.carry(entry)
            except Exception:  # one message must not end the thread, nor be forgotten
                log.exception("message %s could not be sent", entry.id)
                result = Result(False, message="s3lite could not send this message; its log says why.")
        with self._lock:
            lane = self._lanes[name]
            lane.in_flight -= 1
            self._running -= 1
            self._running_silent -= counted_silent
            if result is not None:
                self._learn(lane, result)
        self._store.outbox.settle(self._settlement(entry, result))

    def _learn(self, lane: _Lane, result: Result) -> None:
        """What an attempt tells of the lane: whether it answers, and whether it wants a pause."""
        rest_s = HELD_BACK_MS / 1000 if result.is_held_back else min(result.retry_after_s, _REST_S)
        if rest_s:
            lane.rest_until = self._store.clock.monotonic() + rest_s
        if not result.is_held_back:
            lane.is_silent = not result.ok and not result.status

    def _settlement(self, entry: OutboxEntry, result: Result | None) -> Settlement:
        now_ms = self._store.clock.time_ms()
        if result is None:
            return Settlement(entry.id, entry.holder, entry.attempts, "back", now_ms)
        settlement = judge(entry, result, settings=self._settings, ids=self._store.ids, now_ms=now_ms)
        if settlement.result == "dead":
            log.warning(
                "message %s to %s is given up after %d attempts: %s",
                entry.id,
                entry.destination,
                entry.attempts,
                result.message,
            )
        return settlement

    def _forget_lanes(self) -> None:
        for name in [name for name, lane in self._lanes.items() if lane.is_idle][:-_LANES_REMEMBERED]:
            del self._lanes[name]

    def _give_back(self) -> None:
        now_ms = self._store.clock.time_ms()
        with self._lock:
            entries = [entry for lane in self._lanes.values() for entry in lane.queue]
            self._lanes.clear()
        for entry in entries:
            self._store.outbox.settle(Settlement(entry.id, entry.holder, entry.attempts, "back", now_ms))

    # ------------------------------------------------------------ writing

    def _write(self) -> bool:
        """Write a batch of what has ended; True if there may be more."""
        written = self._store.outbox.drain(_BATCH)
        if not written.settlements and not written.deliveries:
            return False

        def work(tx: Tx) -> None:
            tx.settle_outbox(written.settlements)
            if self._settings.log_rows:
                tx.add_deliveries(written.deliveries)
            tx.count(counted(written))

        try:
            self._store.catalog.write(work)
        except BaseException:
            self._store.outbox.put_back(written)
            raise
        return len(written.settlements) == _BATCH or len(written.deliveries) == _BATCH


def counted(written: Written) -> dict[str, int]:
    """What counters grow by."""
    found: Counter[str] = Counter()
    for settlement in written.settlements:
        found[f"outbox_{settlement.result}"] += 1
    for delivery in written.deliveries:
        found[_attempt_counter(delivery)] += 1
    return found


def _attempt_counter(delivery: Delivery) -> str:
    kind = NOTIFICATION if delivery.kind == NOTIFICATION else delivery.mode.replace("-", "_")
    return f"attempts_{kind}_{'failed' if delivery.message else 'ok'}"
