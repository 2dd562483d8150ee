"""How fast a key's requests may come: a token bucket for each, in the memory of one worker process.

A rate is what all workers of a node give together, so each of N workers gives an N-th of it, and never less
than one request at once. Workers do not speak to each other: a client on a single kept connection meets one
worker, and so gets that worker's share only. Nodes do not either; each of them gives the whole rate.

A session counts for the key that it was made by. Bytes are charged once a request has ended, and whoever is
in debt waits before the next one: a single large transfer is not slowed down.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from s3lite.errors import Code, S3Error
from s3lite.model import AccessKey, Rate
from s3lite.times import Clock

_KEYS_REMEMBERED = 10_000
_MAX_RETRY_S = 300


@dataclass(slots=True)
class _Level:
    """What a key has left, as of a time."""

    at: float
    requests: float
    bytes: float


class Limiter:
    """Admits requests by their keys. ``default`` is for keys without a rate of their own. Safe between threads."""

    def __init__(self, *, default: Rate, workers: int, clock: Clock) -> None:
        self._default = default if default.requests_per_s or default.bytes_per_s else None
        self._workers = max(workers, 1)
        self._clock = clock
        self._levels: dict[str, _Level] = {}
        self._mutex = threading.Lock()

    def rate_of(self, key: AccessKey) -> Rate | None:
        """The rate in force; None where there is none."""
        return self._default if key.rate is None else key.rate

    def admit(self, key: AccessKey, *, is_shared: bool) -> None:
        """Take one request. ``is_shared``: other processes serve beside this one.

        Raises SlowDown with Retry-After, in seconds.
        """
        rate = self.rate_of(key)
        if rate is None:
            return
        share = 1 / self._workers if is_shared else 1.0
        with self._mutex:
            level = self._level(key.access_key, rate, share)
            wait_s = 0.0
            if rate.requests_per_s and level.requests < 1:
                wait_s = (1 - level.requests) / (rate.requests_per_s * share)
            if rate.bytes_per_s and level.bytes < 0:
                wait_s = max(wait_s, -level.bytes / (rate.bytes_per_s * share))
            if not wait_s:
                level.requests -= 1
                return
        retry_s = min(max(math.ceil(wait_s), 1), _MAX_RETRY_S)
        raise S3Error(
            Code.SlowDown,
            "This access key has sent more than its rate allows. Please reduce your request rate.",
            headers={"Retry-After": str(retry_s)},
        )

    def charge(self, key: AccessKey, count: int, *, is_shared: bool) -> None:
        """Count the bytes of a request that has ended."""
        rate = self.rate_of(key)
        if rate is None or not rate.bytes_per_s:
            return
        with self._mutex:
            level = self._level(key.access_key, rate, 1 / self._workers if is_shared else 1.0)
            level.bytes -= count

    def _level(self, name: str, rate: Rate, share: float) -> _Level:
        """What the key has now: at most its burst, and one second's bytes."""
        most = max((rate.burst or rate.requests_per_s) * share, 1.0)
        most_bytes = rate.bytes_per_s * share
        now = self._clock.monotonic()
        level = self._levels.get(name)
        if level is None:
            if len(self._levels) >= _KEYS_REMEMBERED:
                self._levels.clear()  # at worst, some get their burst again
            level = self._levels[name] = _Level(now, most, most_bytes)
            return level
        elapsed = max(now - level.at, 0.0)
        level.at = now
        level.requests = min(level.requests + elapsed * rate.requests_per_s * share, most)
        level.bytes = min(level.bytes + elapsed * most_bytes, most_bytes)
        return level
