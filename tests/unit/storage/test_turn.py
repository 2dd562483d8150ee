"""Turns of processes: handed on in order, and not waited for for ever."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3lite.catalog.base import CatalogBusyError
from s3lite.catalog.turn import FileTurn


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock as another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def is_free(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.lock"


def test_taking_and_leaving(path: Path) -> None:
    turn = FileTurn(path, patience_s=1)
    for _ in range(3):
        turn.take()
        assert not is_free(path)
        turn.leave()
        assert is_free(path)
    turn.close()


def test_who_waits_gets_it_next(path: Path) -> None:
    turn = FileTurn(path, patience_s=10)
    for _ in range(3):
        with held(path):
            waiting = threading.Thread(target=turn.take)
            waiting.start()
            waiting.join(0.05)
            assert waiting.is_alive()
        waiting.join(5)
        assert not is_free(path)
        turn.leave()


def test_a_holder_that_stopped_makes_it_busy(path: Path) -> None:
    turn = FileTurn(path, patience_s=0.05)
    with held(path):
        for _ in range(2):
            with pytest.raises(CatalogBusyError, match=r"index\.lock"):
                turn.take()
    while not is_free(path):  # the thread that waited gives it back
        pass
    turn.take()
    assert not is_free(path)
    turn.leave()


def test_a_turn_that_comes_late_is_used_by_who_asks_then(path: Path) -> None:
    turn = FileTurn(path, patience_s=0.05)
    with held(path), pytest.raises(CatalogBusyError):
        turn.take()
    for _ in range(50):
        turn.take()
        assert not is_free(path)
        turn.leave()


def test_two_that_compete_exclude_each_other(path: Path) -> None:
    inside: list[int] = []

    def compete(number: int) -> None:
        turn = FileTurn(path, patience_s=10)
        for _ in range(100):
            turn.take()
            inside.append(number)
            assert inside == [number]
            inside.clear()
            turn.leave()

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert inside == []
    assert is_free(path)
