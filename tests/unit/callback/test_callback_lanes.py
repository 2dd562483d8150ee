"""The limits that keep one destination from harming others."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from unit.callback.callback_kit import OK, REQUESTER, RawServer, answering, event, spec

from s3lite.callback.lanes import SUSPENDED, TOO_MANY, LaneClosedError, LaneKey, Lanes
from s3lite.callback.listen import Answer, Receiver
from s3lite.callback.send import CallbackSender, Outcome
from s3lite.model import AccessKey, Account

MakeSender = Callable[..., CallbackSender]
HERE, THERE = LaneKey("alice", "http://a"), LaneKey("alice", "http://b")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lanes(time: Time | None = None, **limits: float) -> Lanes:
    values = {"max_inflight": 3, "failures": 2, "pause_s": 10.0} | limits
    return Lanes(**values, monotonic=time or Time())  # type: ignore[arg-type]


def attempt(some: Lanes, key: LaneKey = HERE, *, answered: bool | None) -> str:
    try:
        ticket = some.enter(key)
    except LaneClosedError as closed:
        return str(closed)
    some.leave(ticket, answered=answered)
    return ""


def test_a_lane_takes_its_number_and_no_more() -> None:
    some = lanes()
    tickets = [some.enter(HERE) for _ in range(3)]
    assert attempt(some, answered=True) == TOO_MANY
    assert attempt(some, THERE, answered=True) == ""
    some.leave(tickets[0], answered=True)
    assert attempt(some, answered=True) == ""


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    some = lanes()
    for answered in (False, True, False):
        assert attempt(some, answered=answered) == ""
    assert attempt(some, answered=False) == ""
    assert attempt(some, answered=True) == SUSPENDED
    assert some.refusal(HERE) == SUSPENDED
    assert attempt(some, THERE, answered=True) == ""


def test_after_the_pause_one_may_try_and_its_answer_opens_the_lane() -> None:
    time = Time()
    some = lanes(time)
    attempt(some, answered=False)
    attempt(some, answered=False)
    time.now += 10
    probe = some.enter(HERE)
    assert [state.state for state in some.states()] == ["probing"]
    assert attempt(some, answered=True) == SUSPENDED
    some.leave(probe, answered=True)
    assert attempt(some, answered=True) == ""
    assert some.states() == []


def test_a_failed_probe_doubles_the_pause_up_to_a_bound() -> None:
    time = Time()
    some = lanes(time)
    attempt(some, answered=False)
    attempt(some, answered=False)
    pauses = []
    for _ in range(6):
        (state,) = some.states()
        pauses.append(state.retry_in_s)
        time.now += state.retry_in_s
        assert attempt(some, answered=False) == ""
    assert pauses == [10, 20, 40, 80, 120, 120]


def test_a_probe_that_was_not_sent_leaves_the_lane_suspended_until_the_next() -> None:
    time = Time()
    some = lanes(time)
    attempt(some, answered=False)
    attempt(some, answered=False)
    time.now += 10
    assert attempt(some, answered=None) == ""
    assert attempt(some, answered=True) == ""
    assert some.states() == []


def test_a_slow_attempt_from_before_does_not_end_the_probe() -> None:
    time = Time()
    some = lanes(time)
    slow = some.enter(HERE)
    attempt(some, answered=False)
    attempt(some, answered=False)
    time.now += 10
    some.enter(HERE)
    some.leave(slow, answered=False)
    assert attempt(some, answered=True) == SUSPENDED


def test_changes_are_told() -> None:
    time, told = Time(), []
    some = Lanes(
        max_inflight=3, failures=1, pause_s=5, monotonic=time, on_change=lambda *now: told.append(now)
    )
    held = some.enter(THERE)
    attempt(some, answered=False)
    time.now += 5
    attempt(some, answered=True)
    some.leave(held, answered=True)
    assert told == [(1, 0), (2, 0), (1, 1), (2, 1), (1, 0), (0, 0)]


def test_what_is_forgotten_is_not_counted() -> None:
    told: list[tuple[int, int]] = []
    some = Lanes(max_inflight=3, failures=1, pause_s=5, on_change=lambda *now: told.append(now))
    for number in range(1100):
        attempt(some, LaneKey("alice", str(number)), answered=False)
    assert told[-1] == (0, 1024)


def test_without_a_number_there_is_no_breaker() -> None:
    some = lanes(failures=0)
    assert {attempt(some, answered=False) for _ in range(50)} == {""}


def test_what_is_remembered_is_bounded() -> None:
    some = lanes()
    held = some.enter(HERE)
    for number in range(3000):
        attempt(some, LaneKey("alice", str(number)), answered=False)
    assert len(some.states()) <= 1024
    some.leave(held, answered=True)


# ---------------------------------------------------------------- in the sender


def send(sender: CallbackSender, *urls: str, requester: AccessKey = REQUESTER) -> Outcome:
    return sender.deliver(spec(*urls), event(), requester=requester, pub_key_url="", reply="passthrough")


def silent(connection, _number) -> None:
    threading.Event().wait(3)


def test_a_receiver_without_answers_is_suspended_and_the_next_url_serves(make_sender: MakeSender) -> None:
    sender = make_sender(breaker_failures=2, timeout_s=0.1)
    with RawServer(silent) as dead, Receiver() as alive:
        for _ in range(2):
            assert "Reply timeout" in send(sender, dead.url()).message
        assert sender.hindrance(spec(dead.url()), REQUESTER) == SUSPENDED
        assert send(sender, dead.url()).message == SUSPENDED
        assert send(sender, dead.url(), alive.url()).ok
        assert sender.hindrance(spec(dead.url(), alive.url()), REQUESTER) == ""
        assert dead.connections == 2


def test_what_one_account_meets_suspends_no_other(make_sender: MakeSender) -> None:
    sender = make_sender(breaker_failures=1, timeout_s=0.1)
    other = AccessKey("AKOTHER", "secret", Account("bob", "Bob"), webhook_secret=REQUESTER.webhook_secret)
    with RawServer(silent) as dead:
        send(sender, dead.url())
        assert send(sender, dead.url()).message == SUSPENDED
        assert "Reply timeout" in send(sender, dead.url(), requester=other).message


def test_bad_answers_suspend_nothing(make_sender: MakeSender) -> None:
    sender = make_sender(breaker_failures=1)
    with Receiver(default=Answer(b"", status=500)) as receiver:
        assert {send(sender, receiver.url()).message for _ in range(5)} == {"Error status : 500."}


def test_one_target_leaves_room_for_others(make_sender: MakeSender) -> None:
    sender = make_sender(max_inflight=4)
    release = threading.Event()
    with (
        RawServer(lambda connection, _: release.wait(5) and None) as slow,
        RawServer(answering(OK)) as quick,
    ):
        waiting = [threading.Thread(target=send, args=(sender, slow.url())) for _ in range(3)]
        for thread in waiting:
            thread.start()
        while sender.in_flight < 3:
            release.wait(0.01)
        assert send(sender, slow.url()).message == TOO_MANY
        assert send(sender, quick.url()).ok
        release.set()
        for thread in waiting:
            thread.join()


@pytest.mark.parametrize(("threads", "most"), [(32, 16), (1, 1)])
def test_half_of_the_threads_may_wait(keys, threads: int, most: int) -> None:
    from s3lite.settings import CallbackSettings

    sender = CallbackSender(CallbackSettings(), keys=keys, threads=threads)
    sender._in_flight = most - 1
    assert sender.hindrance(spec("http://a.example"), REQUESTER) == ""
    sender._in_flight = most
    assert sender.hindrance(spec("http://a.example"), REQUESTER) == TOO_MANY
    sender.close()
