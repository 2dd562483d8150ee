"""Turns of processes that write to one index: a lock on a file, waited for a while.

flock hands the lock on at once and in order, but knows no time-out. So whoever finds it taken lets a
thread wait for it: a process that stopped while it held the lock makes others say "busy", not hang.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from s3lite.catalog.base import CatalogBusyError


class FileTurn:
    """The lock as one process sees it. One thread at a time may use it."""

    def __init__(self, path: Path, *, patience_s: float) -> None:
        self._path = path
        self._patience_s = patience_s
        self._fd = -1
        self._waiter: threading.Thread | None = None
        self._asked, self._granted = threading.Semaphore(0), threading.Semaphore(0)
        self._mutex = threading.Lock()
        self._is_pending = False  # the waiter has been asked and has not got the lock
        self._is_wanted = False

    def take(self) -> None:
        """Wait for the turn. Raises CatalogBusyError, OSError."""
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with self._mutex:
            if not self._is_pending:
                try:
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._ask()
                else:
                    return
            self._is_wanted = True
        if self._granted.acquire(timeout=self._patience_s):
            return
        with self._mutex:
            self._is_wanted = False
        if self._granted.acquire(blocking=False):
            return
        raise CatalogBusyError(f"another process has held {self._path.name} for {self._patience_s:g} s")

    def leave(self) -> None:
        """Let the next one have it."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file. A thread that still waits for the lock ends with the process."""
        if not self._is_pending:
            self.forget()

    def forget(self) -> None:
        """Close the file in a child, which has its parent's lock but none of its threads."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _ask(self) -> None:
        self._is_pending = True
        if self._waiter is None:
            self._waiter = threading.Thread(target=self._wait, name="s3lite-turn", daemon=True)
            self._waiter.start()
        self._asked.release()

    def _wait(self) -> None:
        while True:
            self._asked.acquire()
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            with self._mutex:
                self._is_pending = False
                if self._is_wanted:
                    self._is_wanted = False
                    self._granted.release()
                else:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
