"""Connections that threads borrow for one statement or one transaction.

psycopg has a pool of its own. This one connects in the thread that needs a connection, so that what
is wrong with the server reaches the request and the readiness probe as the server said it; a waiter of
that pool learns of a time-out. It tries again after tens of milliseconds instead of after one, two and
four seconds, and it has no threads that a fork would lose.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    """What the pool needs to know of a connection."""

    born: float

    @property
    def is_usable(self) -> bool: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=Connection)

_MAX_AGE_S = 1800.0  # so that memory of long-lived backends goes back, and load moves after a fail-over


class PoolEmptyError(Exception):
    """Every connection is in use, and none came back in time."""


class Pool(Generic[C]):
    """At most ``limit`` connections at once; the one used last is taken first."""

    def __init__(self, connect: Callable[[], C], limit: int) -> None:
        self._connect = connect
        self._limit = limit
        self._room = threading.BoundedSemaphore(limit)
        self._idle: list[C] = []
        self._is_closed = False

    def take(self, timeout_s: float) -> C:
        """An idle connection or a new one. Raises PoolEmptyError, and what connecting raises."""
        if not self._room.acquire(timeout=timeout_s):
            raise PoolEmptyError(f"all {self._limit} connections are in use")
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return self._connect()
        except BaseException:
            self._room.release()
            raise

    def give(self, connection: C) -> None:
        """Hand back what `take` gave. A broken one takes the idle ones along: they are as old or older."""
        if not connection.is_usable:
            self.drop_idle()
        if connection.is_usable and not self._is_closed and monotonic() - connection.born < _MAX_AGE_S:
            self._idle.append(connection)
        else:
            connection.close()
        self._room.release()

    def drop_idle(self) -> None:
        """Close the idle ones."""
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close the idle ones; those on loan follow when they come back."""
        self._is_closed = True
        self.drop_idle()
