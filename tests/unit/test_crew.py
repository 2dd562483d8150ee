"""The crew: one thread leads, requests that wait get out of its way, commits are gathered."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from s3lite.crew import Crew

Request = Callable[[], None]


class Desk:
    """A loop as a server's: requests are handed in, the leader serves them."""

    def __init__(self, most: int = 8, *, alone: bool = True) -> None:
        self._alone = alone
        self.crew = Crew(self._lead, most=most)
        self.waiting: deque[tuple[Request, threading.Event]] = deque()
        self.detached = 0
        self.served_by: dict[str, int] = {}

    def _lead(self) -> None:
        if not self.waiting:
            if self.crew.has_gathered:
                self.crew.go_on(alone=self._alone)
            time.sleep(0.001)
            return
        request, done = self.waiting.popleft()

        def serve() -> None:
            request()
            self.crew.finish(self)
            done.set()

        self.crew.serve(self, serve)

    def detach(self) -> None:
        self.detached += 1

    def hand_in(self, *requests: Request) -> list[threading.Event]:
        """Let the leader find all of them at once."""
        found = [(request, threading.Event()) for request in requests]
        self.waiting.extend(found)
        return [done for _, done in found]


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    made.crew.start()
    yield made
    made.crew.stop()


def test_small_requests_share_a_thread(desk: Desk) -> None:
    threads: list[int] = []
    for done in desk.hand_in(*[lambda: threads.append(threading.get_ident())] * 5):
        assert done.wait(5)
    assert len(set(threads)) == 1
    assert desk.crew.size == 1


def test_a_request_that_waits_lets_others_run(desk: Desk) -> None:
    release = threading.Event()

    def slow() -> None:
        assert desk.crew.hand_over()
        assert not desk.crew.leads()
        release.wait(5)

    slow_done, quick_done = desk.hand_in(slow, lambda: None)
    assert quick_done.wait(5)
    assert not slow_done.is_set()
    release.set()
    assert slow_done.wait(5)
    assert desk.detached == 1


def test_the_watch_relieves_a_leader_that_is_stuck(desk: Desk) -> None:
    release = threading.Event()
    stuck_done, quick_done = desk.hand_in(lambda: release.wait(5) and None, lambda: None)
    while not quick_done.wait(0.01):
        desk.crew.relieve()
    assert not stuck_done.is_set()
    release.set()
    assert stuck_done.wait(5)


def test_the_watch_leaves_a_leader_that_gets_on(desk: Desk) -> None:
    for _ in range(20):
        desk.hand_in(lambda: None)[0].wait(5)
        desk.crew.relieve()
    assert desk.crew.size == 1


def test_no_more_threads_than_allowed() -> None:
    desk = Desk(most=2)
    desk.crew.start()
    release = threading.Event()
    answers: list[bool] = []

    def slow() -> None:
        answers.append(desk.crew.hand_over())
        if answers[-1]:
            release.wait(5)

    first, second = desk.hand_in(slow, slow)
    assert second.wait(5)
    assert answers == [True, False]
    release.set()
    assert first.wait(5)
    desk.crew.stop()


def test_what_is_ready_is_gathered_before_any_goes_on(desk: Desk) -> None:
    steps: list[str] = []

    def request(name: str) -> Request:
        def run() -> None:
            steps.append(f"{name} comes")
            desk.crew.gather()
            steps.append(f"{name} goes on")

        return run

    for done in desk.hand_in(request("a"), request("b"), request("c")):
        assert done.wait(5)
    assert steps == ["a comes", "b comes", "c comes", "a goes on", "b goes on", "c goes on"]


def test_gathered_requests_do_not_wait_behind_one_that_waits(desk: Desk) -> None:
    release = threading.Event()

    def calls_back() -> None:
        desk.crew.gather()
        assert desk.crew.hand_over()
        release.wait(5)

    slow_done, quick_done, later_done = desk.hand_in(calls_back, desk.crew.gather, lambda: None)
    assert quick_done.wait(5)
    assert later_done.wait(5)
    assert not slow_done.is_set()
    release.set()
    assert slow_done.wait(5)


def test_a_second_commit_waits_for_nobody(desk: Desk) -> None:
    def twice() -> None:
        desk.crew.gather()
        desk.crew.gather()

    for done in desk.hand_in(twice, twice):
        assert done.wait(5)


def test_gathered_requests_finish_when_the_lead_is_taken(desk: Desk) -> None:
    release = threading.Event()
    gathered, stuck, other = desk.hand_in(desk.crew.gather, lambda: release.wait(5) and None, lambda: None)
    while not other.wait(0.01):
        desk.crew.relieve()
    release.set()
    assert gathered.wait(5)
    assert stuck.wait(5)


def test_a_loop_that_fails_goes_on(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("broken")

    desk.hand_in(fails)
    assert desk.hand_in(lambda: None)[0].wait(5)
    assert "goes on" in caplog.text


def test_threads_that_do_not_belong_to_it_are_left_alone(desk: Desk) -> None:
    desk.crew.gather()
    assert desk.crew.hand_over()
    assert not desk.crew.leads()


def test_commits_keep_the_lead_unless_the_disk_is_slow_time_after_time() -> None:
    desk = Desk(alone=False)
    desk.crew.start()

    def commits(takes_s: float, times: int) -> None:
        def run() -> None:
            desk.crew.gather()
            time.sleep(takes_s)

        for _ in range(times):
            assert desk.hand_in(run)[0].wait(5)

    commits(0.03, 1)
    commits(0.0, 1)
    commits(0.03, 4)
    assert desk.detached == 0
    commits(0.0, 32)  # nobody knows yet that they are quick again
    assert desk.detached == 32
    commits(0.0, 50)
    assert desk.detached == 32
    desk.crew.stop()
