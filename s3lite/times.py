"""The four date formats of the protocol, and the clock that everything asks.

Only this module reads the system clock, so that tests can hold time still.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache


class Clock:
    """Wall and monotonic time. Tests pass a subclass that stands still."""

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def time_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.time() * 1000)


def http_date(epoch_s: float) -> str:
    """IMF-fixdate (RFC 9110, 5.6.7): ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    return _http_date(int(epoch_s))


@lru_cache(maxsize=4096)
def _http_date(epoch_s: int) -> str:
    return formatdate(epoch_s, usegmt=True)


def parse_http_date(text: str) -> float | None:
    """Seconds since the epoch of an HTTP or RFC 2822 date; None when it is not one."""
    try:
        parsed = parsedate_to_datetime(text)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return parsed.astimezone(UTC).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def iso8601(epoch_ms: int) -> str:
    """``2026-01-31T01:02:03.000Z``: the form of S3's XML, whole seconds as AWS writes them."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(epoch_ms // 1000))


def iso8601_ms(epoch_ms: int) -> str:
    """``2026-01-31T01:02:03.004Z``: as S3's event messages have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_ms // 1000)) + f".{epoch_ms % 1000:03}Z"


def rfc3339(epoch_s: float) -> str:
    """``2026-01-31T01:02:03Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch_s))


def amz_date(epoch_s: float) -> str:
    """``20260131T010203Z``: the basic format of signature version 4."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(epoch_s))


def parse_amz_date(text: str) -> float | None:
    """Seconds since the epoch of ``20260131T010203Z``; None when it is not of that form."""
    if len(text) != 16:
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def parse_iso8601(text: str) -> float | None:
    """Seconds since the epoch of an ISO 8601 time with zone (``Z`` or an offset); None otherwise.

    Also None for a time that is not within the years 1 to 9999 of UTC: no date could be written for it.
    """
    try:
        parsed = datetime.fromisoformat(text)
        return None if parsed.tzinfo is None else parsed.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None
