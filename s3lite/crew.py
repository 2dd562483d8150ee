"""Threads of a server that take turns: one leads, the others wait for something or rest.

The leader takes ready connections one after the other and serves small requests itself. No thread is
woken for them and nobody contends for the interpreter lock; with 32 threads that did, both cost more
than such a request. Before a request waits for a client or another server its thread hands the lead over
(`Crew.hand_over`), and a watch does so for whatever takes long unannounced (`Crew.relieve`). The thread
that has lost the lead finishes its request alone.

Requests that want to commit are put aside (`Crew.gather`), each in a greenlet, until nothing else is
ready; then the first of them commits for all. That costs no thread switch either, and a batch is as
large as it can be.

This module knows neither HTTP nor gunicorn: ``lead`` is one round of the loop that leaders run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from greenlet import getcurrent, greenlet

log = logging.getLogger("s3lite")

_RESTING = 32  # threads kept for later; more end
_GATHERED = 64  # requests put aside at most
_LONG_S = 0.005  # a batch that waits longer for its disk is a slow one
_SLOW = 4  # slow batches in a row, and those that follow are committed without the lead,
_TRIED_AGAIN = 32  # but for one of so many, to see whether the disk is still slow


class Work(Protocol):
    """What a leader is at."""

    def detach(self) -> None:
        """Take it out of the next leader's sight; called with the crew's lock held."""


class _Member:
    """A thread of the crew."""

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.aside: deque[greenlet] = deque()
        self.idle: list[greenlet] = []  # made for requests that are done
        self.task: Callable[[], None] | None = None  # for the greenlet that is switched to next
        self.loop: greenlet | None = None  # where `lead` runs

    def serve(self) -> None:
        """The life of a greenlet: one task after the other. A new one for each costs a stack of its own."""
        assert self.loop is not None
        while True:
            task, self.task = self.task, None
            assert task is not None
            task()
            self.idle.append(getcurrent())
            self.loop.switch()


class Crew:
    """The threads of one process. ``most`` bounds those that exist at once."""

    def __init__(self, lead: Callable[[], None], *, most: int) -> None:
        self._lead = lead
        self._most = most
        self._mutex = threading.Lock()
        self._local = threading.local()
        self._resting: list[_Member] = []
        self._leader: _Member | None = None
        self._works: set[Work] = set()  # the leader's, begun and not finished
        self._turn = self._seen = 0
        self._slow = 0  # slow batches in a row, of those that kept the lead
        self._without_lead = 0  # batches since one kept it
        self._is_stopped = False
        self.size = 0

    # ------------------------------------------------------------ from outside

    def start(self) -> None:
        """Begin with one thread."""
        with self._mutex:
            self._appoint()

    def stop(self) -> None:
        """No thread leads any more; those that serve a request finish it."""
        with self._mutex:
            self._is_stopped = True
            self._leader = None
            while self._resting:
                self._resting.pop().wake.release()

    def relieve(self) -> bool:
        """Let another thread lead if the leader is still at what it was at on the last call.

        True while the leader is at something: then it is worth calling again soon.
        """
        with self._mutex:
            if self._works and self._turn == self._seen:
                self._relieve()
            self._seen = self._turn
            return bool(self._works)

    # ------------------------------------------------------------ by the leader's loop

    def serve(self, work: Work, serve: Callable[[], None]) -> bool:
        """Run ``serve`` for ``work`` until it ends or is put aside. False: this thread leads no longer."""
        member = self._me()
        with self._mutex:
            if self._leader is not member:
                return False
            self._works.add(work)
            self._turn += 1
        member.task = serve
        servant = member.idle.pop() if member.idle else greenlet(member.serve)
        servant.switch()
        return self._leader is member

    def finish(self, work: Work) -> None:
        """``work`` is done."""
        with self._mutex:
            self._works.discard(work)

    @property
    def has_enough(self) -> bool:
        """Whether so many are aside that they should not wait for more."""
        return len(self._me().aside) >= _GATHERED

    @property
    def has_gathered(self) -> bool:
        """Whether requests are aside, so that the loop must not pause."""
        return bool(self._me().aside)

    def go_on(self, *, alone: bool) -> None:
        """Nothing else is ready: go on with what is aside. ``alone``: nothing else can become ready."""
        member = self._me()
        if not alone and self._slow >= _SLOW and self._without_lead < _TRIED_AGAIN:
            self._without_lead += 1
            with self._mutex:
                if self._leader is member:
                    self._relieve()
            self._run_aside(member)
            return
        self._without_lead = 0
        begun_s, used_s = time.monotonic(), time.thread_time()
        self._run_aside(member)
        waited_s = (time.monotonic() - begun_s) - (time.thread_time() - used_s)
        self._slow = self._slow + 1 if waited_s > _LONG_S else 0

    @staticmethod
    def _run_aside(member: _Member) -> None:
        while member.aside:
            member.aside.popleft().switch()

    # ------------------------------------------------------------ by requests

    def leads(self) -> bool:
        """Whether the calling thread leads."""
        leader = self._leader
        return leader is not None and leader is getattr(self._local, "member", None)

    def hand_over(self) -> bool:
        """The calling request is about to wait: those aside in its thread finish, others get the lead.

        Of several in one thread that wait, all but the first wait for it, too: what is going to wait says so
        before it is put aside to commit, and then has a thread of its own.
        False: ``most`` threads exist already, and this one still leads.
        """
        member = getattr(self._local, "member", None)
        if member is None:
            return True
        if member.aside:
            self._put_aside(member)
        with self._mutex:
            if self._leader is not member:
                return True
            if not self._resting and self.size >= self._most:
                return False
            self._relieve()
            return True

    def gather(self) -> None:
        """The calling request is about to commit: let others that are ready come as far."""
        member = getattr(self._local, "member", None)
        if member is not None and (self._leader is member or member.aside):
            self._put_aside(member)

    def _put_aside(self, member: _Member) -> None:
        assert member.loop is not None
        member.aside.append(getcurrent())
        member.loop.switch()

    # ------------------------------------------------------------ inside

    def _me(self) -> _Member:
        member: _Member = self._local.member
        return member

    def _relieve(self) -> None:
        for work in self._works:
            work.detach()
        self._works.clear()
        self._appoint()

    def _appoint(self) -> None:
        """Give the lead to a resting thread, or to a new one."""
        if self._is_stopped:
            self._leader = None
        elif self._resting:
            self._leader = self._resting.pop()
            self._leader.wake.release()
        else:
            self._leader = member = _Member()
            self.size += 1
            threading.Thread(target=self._live, args=(member,), name="s3lite-serve", daemon=True).start()

    def _live(self, member: _Member) -> None:
        self._local.member = member
        member.loop = getcurrent()
        while True:
            while self._leader is member:
                try:
                    self._lead()
                except Exception:  # whatever one connection did, the others are served
                    log.exception("the server's loop failed and goes on")
            self._run_aside(member)  # of a lead that was taken while a request held the thread
            with self._mutex:
                if self._is_stopped or len(self._resting) >= _RESTING:
                    self.size -= 1
                    return
                self._resting.append(member)
            member.wake.acquire()
