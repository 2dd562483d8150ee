"""The queue of `s3lite.catalog.group` by itself: batches, hand-over, interruption."""

import os
import signal
import threading
import time

import pytest

from s3lite.catalog.group import GroupCommit, Job


class Given(Exception):
    """What the batch that was given up raises."""


class Batches:
    """Runs jobs, holding the first batch until told."""

    def __init__(self):
        self.sizes = []
        self.threads = []
        self.entered = threading.Event()
        self.go = threading.Event()

    def commit(self, batch):
        self.sizes.append(len(batch))
        self.threads.append(threading.get_ident())
        self.entered.set()
        assert self.go.wait(10)
        for job in batch:
            job.result = job.work(None)


def start(group, work, results, errors):
    def call():
        try:
            results.append(group.run(work))
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def wait_for_queue(group, length):
    for _ in range(2000):
        if len(group._queue) == length:
            return
        time.sleep(0.001)
    raise AssertionError(len(group._queue))


def test_a_call_that_is_alone_runs_in_its_own_thread():
    batches = Batches()
    batches.go.set()
    group = GroupCommit(batches.commit, Given)
    assert group.run(lambda _: 5) == 5
    assert batches.threads == [threading.get_ident()]


def test_calls_that_wait_share_bounded_batches():
    batches, results, errors = Batches(), [], []
    group = GroupCommit(batches.commit, Given)
    threads = [start(group, lambda _: 0, results, errors)]
    assert batches.entered.wait(10)
    for number in range(1, 101):
        threads.append(start(group, lambda _, number=number: number, results, errors))
    wait_for_queue(group, 100)
    batches.go.set()
    for thread in threads:
        thread.join(10)
    assert batches.sizes == [1, 64, 36]
    assert sorted(results) == list(range(101))
    assert errors == []


def test_a_batch_that_fails_fails_for_all_and_the_next_one_runs():
    gate = threading.Event()
    calls = []

    def commit(batch):
        calls.append(len(batch))
        assert gate.wait(10)
        if len(calls) == 2:
            raise OSError("disk")
        for job in batch:
            job.result = job.work(None)

    group = GroupCommit(commit, Given)
    results, errors = [], []
    threads = [start(group, lambda _: 1, results, errors)]
    wait_for_queue(group, 0)
    threads += [start(group, lambda _: 2, results, errors) for _ in range(3)]
    wait_for_queue(group, 3)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert results == [1]
    assert [type(error) for error in errors] == [OSError] * 3
    assert group.run(lambda _: 4) == 4


def test_an_interrupted_leader_does_not_wedge_the_queue():
    gate = threading.Event()
    calls = []

    def commit(batch):
        calls.append(len(batch))
        assert gate.wait(10)
        if len(calls) == 2:
            raise KeyboardInterrupt
        for job in batch:
            job.result = job.work(None)

    group = GroupCommit(commit, Given)
    results, errors = [], []
    threads = [start(group, lambda _: 1, results, errors)]
    wait_for_queue(group, 0)
    threads += [start(group, lambda _: 2, results, errors) for _ in range(2)]
    wait_for_queue(group, 2)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert sorted(type(error).__name__ for error in errors) == ["Given", "KeyboardInterrupt"]
    assert group.run(lambda _: 4) == 4


@pytest.mark.parametrize("waiting", [0, 1])
def test_an_interrupted_follower_leaves_the_queue(waiting):
    batches, results, errors = Batches(), [], []
    group = GroupCommit(batches.commit, Given)
    threads = [start(group, lambda _: 1, results, errors)]
    assert batches.entered.wait(10)

    def interrupt():
        wait_for_queue(group, 1)
        threads.extend(start(group, lambda _: 3, results, errors) for _ in range(waiting))
        wait_for_queue(group, 1 + waiting)
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        group.run(lambda _: 2)
    helper.join(10)
    batches.go.set()
    for thread in threads:
        thread.join(10)
    assert results == [1] + [3] * waiting
    assert group.run(lambda _: 4) == 4


def test_an_heir_that_goes_away_passes_the_lead_on():
    batches = Batches()
    batches.go.set()
    group = GroupCommit(batches.commit, Given)
    heir, behind = Job(lambda _: 1), Job(lambda _: 2)
    group._has_leader = True
    group._queue.extend([heir, behind])
    group._hand_over()
    assert (heir.leads, behind.leads) == (True, False)
    group._leave(heir)
    assert behind.leads
    group._leave(behind)
    assert group.run(lambda _: 4) == 4
