"""Lanes: what keeps a slow or dead application from harming anyone but those who call it.

A lane is one account's traffic to one destination. It bounds how many callbacks wait there at once, and
has a circuit breaker: after so many attempts in a row that got no complete answer it is suspended, and
callbacks to it fail at once. When that time is over one callback may try (half-open); if it is answered
the lane is open again, else the pause doubles. Accounts have lanes of their own, because an uploader
chooses the URL: what one of them does to a destination must not suspend it for another.

The state is that of this process. Each worker finds out by itself, at the price of a few callbacks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

TOO_MANY = "Too many callback requests."
SUSPENDED = (
    "Error status : -1.Callbacks to this callbackUrl are suspended for a moment, because it does not answer."
)
_MAX_LANES = 1024
_LONGEST_PAUSE = 12  # times the first one

log = logging.getLogger("s3lite.callback")


class LaneKey(NamedTuple):
    """Whose callbacks, and where to."""

    account_id: str
    destination: str  # scheme://host[:port]


class LaneClosedError(Exception):
    """No attempt may begin; the text is the message for the uploader."""


class Ticket(NamedTuple):
    """The right to make one attempt."""

    key: LaneKey
    is_probe: bool


class LaneState(NamedTuple):
    """A lane as an operator sees it. ``state``: open, suspended or probing."""

    key: LaneKey
    state: str
    in_flight: int
    failures: int  # in a row
    retry_in_s: float


@dataclass(slots=True)
class _Lane:
    in_flight: int = 0
    failures: int = 0
    pause_s: float = 0.0  # 0: open
    until: float = 0.0
    is_probing: bool = False


class Lanes:
    """The lanes of one sender; safe for threads. ``failures`` 0: no breaker.

    ``on_change`` is called with the numbers of callbacks in flight and of suspended lanes, under the lock.
    """

    def __init__(
        self,
        *,
        max_inflight: int,
        failures: int,
        pause_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        on_change: Callable[[int, int], None] | None = None,
    ) -> None:
        self._max_inflight = max_inflight
        self._failures = failures
        self._pause_s = pause_s
        self._monotonic = monotonic
        self._on_change = on_change
        self._in_flight = self._suspended = 0
        self._lock = threading.Lock()
        self._lanes: OrderedDict[LaneKey, _Lane] = OrderedDict()

    def enter(self, key: LaneKey) -> Ticket:
        """Begin an attempt, which `leave` must end. Raises LaneClosedError."""
        with self._lock:
            lane = self._lanes.get(key) or self._new(key)
            refusal = self._refusal(lane)
            if refusal:
                raise LaneClosedError(refusal)
            is_probe = lane.is_probing = lane.pause_s > 0
            lane.in_flight += 1
            self._changed(1)
            return Ticket(key, is_probe)

    def _changed(self, in_flight: int, suspended: int = 0) -> None:
        self._in_flight += in_flight
        self._suspended += suspended
        if self._on_change is not None:
            self._on_change(self._in_flight, self._suspended)

    def refusal(self, key: LaneKey) -> str:
        """Why `enter` would refuse now; "" if it would not."""
        with self._lock:
            lane = self._lanes.get(key)
            return self._refusal(lane) if lane is not None else ""

    def _refusal(self, lane: _Lane) -> str:
        if lane.pause_s and (lane.is_probing or self._monotonic() < lane.until):
            return SUSPENDED
        return TOO_MANY if lane.in_flight >= self._max_inflight else ""

    def leave(self, ticket: Ticket, *, answered: bool | None) -> None:
        """End an attempt. ``answered`` None: it was not sent, so it tells nothing."""
        key = ticket.key
        with self._lock:
            lane = self._lanes[key]
            was_suspended = lane.pause_s > 0
            lane.in_flight -= 1
            if ticket.is_probe:
                lane.is_probing = False
            if answered:
                if lane.pause_s:
                    log.warning("callbacks to %s go on: it answers again", key.destination)
                lane.failures, lane.pause_s = 0, 0.0
            elif answered is not None:
                lane.failures += 1
                if ticket.is_probe or not lane.pause_s:
                    self._suspend(key, lane)
            if not lane.in_flight and not lane.failures:
                del self._lanes[key]
            self._changed(-1, (lane.pause_s > 0) - was_suspended)

    def _suspend(self, key: LaneKey, lane: _Lane) -> None:
        if not self._failures or lane.failures < self._failures:
            return
        lane.pause_s = min(lane.pause_s * 2 or self._pause_s, self._pause_s * _LONGEST_PAUSE)
        lane.until = self._monotonic() + lane.pause_s
        log.warning(
            "callbacks of %s to %s are suspended for %g s: %d in a row had no answer",
            key.account_id or "anonymous uploads",
            key.destination,
            lane.pause_s,
            lane.failures,
        )

    def _new(self, key: LaneKey) -> _Lane:
        if len(self._lanes) >= _MAX_LANES:
            idle = next((other for other, lane in self._lanes.items() if not lane.in_flight), None)
            if idle is not None:
                gone = self._lanes.pop(idle)
                self._suspended -= gone.pause_s > 0
        lane = self._lanes[key] = _Lane()
        return lane

    def states(self) -> list[LaneState]:
        """Every lane that is in use or has failed lately."""
        with self._lock:
            now = self._monotonic()
            return [
                LaneState(
                    key,
                    "probing" if lane.is_probing else "suspended" if lane.pause_s else "open",
                    lane.in_flight,
                    lane.failures,
                    max(lane.until - now, 0.0) if lane.pause_s else 0.0,
                )
                for key, lane in self._lanes.items()
            ]
