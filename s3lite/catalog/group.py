"""Group commit: calls that arrive while one commits share the next commit.

There is no thread for it. Whoever finds nobody committing leads: it takes what is queued, commits it
as one batch, wakes those it served and hands the lead to the first call that came meanwhile. A call
that is alone pays a lock and no thread switch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from s3lite import waiting

T = TypeVar("T")

_BATCH = 64


class Job:
    """One call's work, and what became of it."""

    __slots__ = ("error", "is_done", "leads", "result", "wake", "work")

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work
        self.result: Any = None  # as `GroupCommit.run` hands it out, typed there
        self.error: BaseException | None = None
        self.is_done = False
        self.leads = False
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit:
    """Runs jobs in batches by ``commit``, which sets each job's result or error.

    When ``commit`` itself raises, none of the batch has happened and every job gets its error.
    """

    def __init__(self, commit: Callable[[Sequence[Job]], None], interrupted: Callable[[], Exception]) -> None:
        self._commit = commit
        self._interrupted = interrupted
        self._mutex = threading.Lock()
        self._queue: deque[Job] = deque()
        self._has_leader = False

    def run(self, work: Callable[[Any], T]) -> T:
        """Have ``work`` done in some batch; its result, or its error raised."""
        job = Job(work)
        with self._mutex:
            self._queue.append(job)
            is_first = job.leads = not self._has_leader
            self._has_leader = True
        try:
            waiting.gather()
            if not is_first:
                job.wake.acquire()
            if not job.is_done:
                self._lead(job)
        except BaseException:
            self._leave(job)
            raise
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _lead(self, own: Job) -> None:
        """Commit one batch, the own job in it, and hand over."""
        with self._mutex:
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        try:
            self._commit(batch)
        except Exception as error:  # noqa: BLE001  # it is raised again, by each call of the batch
            for job in batch:
                job.error = error
        except BaseException:
            for job in batch:
                job.error = self._interrupted()
            raise
        finally:
            for job in batch:
                job.is_done = True
            own.leads = False
            self._hand_over()
            for job in batch:
                job.wake.release()

    def _hand_over(self) -> None:
        with self._mutex:
            self._has_leader = bool(self._queue)
            if self._queue:
                heir = self._queue[0]
                heir.leads = True
                heir.wake.release()

    def _leave(self, job: Job) -> None:
        """An interrupted caller goes away: out of the queue, and never with the lead."""
        with self._mutex:
            if job in self._queue:
                self._queue.remove(job)
        if job.leads and not job.is_done:
            self._hand_over()
