"""The outbox: messages that are owed to others, as rows written with what they tell of.

A row joins the transaction that commits an object, so there is neither an object without its message nor
a message without its object. Sending is another matter (`core.courier`): at least once, by whichever
process leases the row. This module has what both ends share: how an attempt is judged, and what a process
holds in memory until its courier writes it down.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from s3lite.ids import Ids
from s3lite.messages import Delivery, OutboxEntry, Settlement
from s3lite.settings import OutboxSettings

CALLBACK, NOTIFICATION = "callback", "notification"
HELD_BACK_MS = 2000
"""Until an entry is looked at again whose destination was busy or suspended."""
JITTER = 0.2
"""At most this part of a delay is added to it."""
_LOG_BUFFER = 10_000


class Result(NamedTuple):
    """How an attempt ended, whatever carried it."""

    ok: bool
    status: int = 0  # 0: no answer, or none of HTTP
    message: str = ""
    retry_after_s: int = 0  # bounded
    is_gone: bool = False  # the destination wants no more of them
    is_held_back: bool = False  # nothing was sent


def lifetime_ms(settings: OutboxSettings) -> int:
    """How long attempts go on, at the longest: the schedule, its jitter, and time in which all is held back."""
    return int((sum(settings.schedule_s) * (1 + JITTER) * 1.5 + 3600) * 1000)


def judge(
    entry: OutboxEntry, result: Result, *, settings: OutboxSettings, ids: Ids, now_ms: int
) -> Settlement:
    """What becomes of an entry after an attempt under its lease."""

    def settled(kind: str, due_ms: int = 0) -> Settlement:
        return Settlement(entry.id, entry.holder, entry.attempts, kind, due_ms, result.status, result.message)

    if result.ok:
        return settled("ok")
    if result.is_gone or now_ms >= entry.expires_ms:
        return settled("dead")
    if result.is_held_back:
        return settled("back", now_ms + HELD_BACK_MS)
    if entry.attempts >= len(settings.schedule_s):
        return settled("dead")
    delay_s = settings.schedule_s[entry.attempts] * (1 + JITTER * ids.bits(16) / (1 << 16))
    return settled("retry", now_ms + int(max(delay_s, result.retry_after_s) * 1000))


@dataclass(slots=True)
class Written:
    """What a process has to write down: ends of leases, and attempts for the log."""

    settlements: list[Settlement]
    deliveries: list[Delivery]


class Outbox:
    """One process's side of the outbox; safe for threads, and never waiting for the index.

    What is recorded here is written by the courier in batches. If the process is killed before, attempts
    are missing in the log, and leases run out: then the message is sent once more.
    """

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._settlements: list[Settlement] = []
        self._deliveries: deque[Delivery] = deque(maxlen=_LOG_BUFFER)

    def wake(self) -> None:
        """There is something to send or to write now."""
        self._wake.set()

    def wait(self, timeout_s: float) -> None:
        """Return when there is something to do, or after ``timeout_s``."""
        self._wake.wait(timeout_s)
        self._wake.clear()

    def settle(self, settlement: Settlement) -> None:
        """End a lease soon."""
        with self._lock:
            self._settlements.append(settlement)
        self._wake.set()

    def record(self, delivery: Delivery) -> None:
        """Log an attempt within a second; the oldest are dropped when nobody writes them."""
        self._deliveries.append(delivery)

    def drain(self, limit: int) -> Written:
        """What is to be written, at most ``limit`` of each."""
        with self._lock:
            settlements, self._settlements = self._settlements[:limit], self._settlements[limit:]
        deliveries = [self._deliveries.popleft() for _ in range(min(limit, len(self._deliveries)))]
        return Written(settlements, deliveries)

    def put_back(self, written: Written) -> None:
        """It could not be written; `drain` gives it again."""
        with self._lock:
            self._settlements[:0] = written.settlements
        self._deliveries.extendleft(reversed(written.deliveries))
