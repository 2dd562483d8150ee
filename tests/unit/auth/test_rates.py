"""Token buckets of keys."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.auth.rates import Limiter
from s3lite.errors import S3Error
from s3lite.model import AccessKey, Account, Rate
from s3lite.testing.clock import StillClock


def key(rate: Rate | None = None, name: str = "key") -> AccessKey:
    return AccessKey(name, "secret", Account("a", "a"), rate=rate)


def admitted(limiter: Limiter, who: AccessKey, tries: int, *, is_shared: bool = False) -> int:
    count = 0
    for _ in range(tries):
        try:
            limiter.admit(who, is_shared=is_shared)
        except S3Error:
            continue
        count += 1
    return count


def test_a_burst_then_the_rate() -> None:
    clock = StillClock()
    limiter = Limiter(default=Rate(2, 5), workers=1, clock=clock)
    assert admitted(limiter, key(), 9) == 5
    clock.advance(1)
    assert admitted(limiter, key(), 9) == 2
    clock.advance(60)
    assert admitted(limiter, key(), 9) == 5
    assert admitted(limiter, key(name="another"), 9) == 5


def test_retry_after_is_when_the_next_one_comes() -> None:
    clock = StillClock()
    limiter = Limiter(default=Rate(0.1), workers=1, clock=clock)
    limiter.admit(key(), is_shared=False)
    with pytest.raises(S3Error, match="SlowDown") as caught:
        limiter.admit(key(), is_shared=False)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "10")
    clock.advance(10)
    limiter.admit(key(), is_shared=False)


def test_workers_share_a_rate_and_give_one_at_least() -> None:
    limiter = Limiter(default=Rate(8, 40), workers=4, clock=StillClock())
    assert admitted(limiter, key(), 99, is_shared=True) == 10
    assert admitted(limiter, key(Rate(1), "slow"), 9, is_shared=True) == 1


def test_a_rate_of_its_own_takes_the_place_of_the_default() -> None:
    limiter = Limiter(default=Rate(2), workers=1, clock=StillClock())
    assert admitted(limiter, key(Rate(7)), 9) == 7
    assert admitted(limiter, key(Rate(), "free"), 99) == 99
    unlimited = Limiter(default=Rate(), workers=1, clock=StillClock())
    assert admitted(unlimited, key(), 99) == 99


def test_bytes_are_paid_back_before_the_next_request() -> None:
    clock = StillClock()
    limiter = Limiter(default=Rate(bytes_per_s=100), workers=1, clock=clock)
    limiter.admit(key(), is_shared=False)
    limiter.charge(key(), 350, is_shared=False)
    with pytest.raises(S3Error) as caught:
        limiter.admit(key(), is_shared=False)
    assert caught.value.headers["Retry-After"] == "3"
    clock.advance(2.5)
    limiter.admit(key(), is_shared=False)


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 20), st.integers(0, 20))
def test_never_more_than_burst_and_rate(pauses: list[float], rate: float, burst: int) -> None:
    clock = StillClock()
    limiter = Limiter(default=Rate(rate, burst), workers=1, clock=clock)
    count = 0
    for pause in pauses:
        clock.advance(pause)
        count += admitted(limiter, key(), 3)
    assert count <= max(burst or rate, 1) + rate * sum(pauses) + 1e-6


def test_threads_take_no_token_twice() -> None:
    limiter = Limiter(default=Rate(1, 50), workers=1, clock=StillClock())
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(admitted(limiter, key(), 20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 50
