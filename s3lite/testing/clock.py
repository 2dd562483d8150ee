"""A clock that tests move by hand."""

from __future__ import annotations

from s3lite.times import Clock


class StillClock(Clock):
    """Stands at the moment it was made until `advance` moves it; `monotonic` moves along."""

    def __init__(self, epoch_s: float | None = None) -> None:
        self._epoch_s = Clock().time() if epoch_s is None else epoch_s
        self._elapsed_s = 0.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._epoch_s + self._elapsed_s

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_s

    def advance(self, seconds: float = 0.0, *, hours: float = 0.0, days: float = 0.0) -> None:
        """Move forward. Raises ValueError backwards: no clock of a server does that."""
        step_s = seconds + hours * 3600 + days * 86_400
        if step_s < 0:
            raise ValueError("a clock goes forward only")
        self._elapsed_s += step_s
