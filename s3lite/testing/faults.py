"""Faults on purpose: a WSGI middleware that lets chosen requests be slow, fail, or break off.

A test says which requests by operation (as in the API Reference), bucket and key, and how many of them:

    faults.fail(503, "SlowDown", operation="PutObject", times=2)
    faults.slow(0.5, key="reports/*")
    faults.tear(100, operation="GetObject")
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from s3lite.dispatch import Dispatcher
from s3lite.errors import S3Error
from s3lite.model import RequestHead
from s3lite.routes import ROUTES
from s3lite.target import request_head
from s3lite.wire import results

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_DISPATCHER = Dispatcher(ROUTES)


class TornConnectionError(ConnectionError):
    """Ends an answer in its middle; the server closes the connection, which is what the client sees."""


@dataclass(slots=True)
class _Fault:
    kind: str
    value: float
    code: str
    operation: str
    bucket: str
    key: str
    left: int  # how many requests it still meets; -1: all

    def meets(self, operation: str, head: RequestHead) -> bool:
        return (
            self.left != 0
            and self.operation in ("", operation)
            and fnmatchcase(head.target.bucket, self.bucket)
            and fnmatchcase(head.target.key, self.key)
        )


class Faults:
    """What is to go wrong. Empty, it changes nothing."""

    def __init__(self) -> None:
        self._faults: list[_Fault] = []
        self._mutex = threading.Lock()

    def slow(self, seconds: float, **which: Any) -> None:
        """Wait before each chosen request is handled. ``which``: operation, bucket, key (patterns), times."""
        self._add("slow", seconds, "", **which)

    def fail(self, status: int = 503, code: str = "SlowDown", **which: Any) -> None:
        """Answer chosen requests with an S3 error instead of handling them; nothing is stored."""
        self._add("fail", status, code, **which)

    def lose_answer(self, **which: Any) -> None:
        """Handle chosen requests, then close the connection without an answer: was it done or not?"""
        self._add("lose", 0, "", **which)

    def tear(self, after_bytes: int, **which: Any) -> None:
        """Close the connection after so many bytes of the answer's body."""
        self._add("tear", after_bytes, "", **which)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._mutex:
            self._faults.clear()

    def _add(
        self,
        kind: str,
        value: float,
        code: str,
        *,
        operation: str = "",
        bucket: str = "*",
        key: str = "*",
        times: int = -1,
    ) -> None:
        known = {route.operation for route in ROUTES}
        if operation and operation not in known:
            raise ValueError(f"there is no operation {operation!r}; names are as in the API Reference")
        with self._mutex:
            self._faults.append(_Fault(kind, value, code, operation, bucket, key, times))

    def wrap(self, app: Wsgi) -> Wsgi:
        """``app`` behind these faults."""

        def faulty(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            fault = self._take(environ) if self._faults else None
            if fault is None:
                return app(environ, start_response)
            if fault.kind == "slow":
                time.sleep(fault.value)
                return app(environ, start_response)
            if fault.kind == "fail":
                return _refusal(int(fault.value), fault.code, start_response)
            if fault.kind == "lose":
                _drop(app(environ, lambda *_: None))
                raise TornConnectionError("the answer is lost on purpose")
            return _torn(app(environ, start_response), int(fault.value))

        return faulty

    def _take(self, environ: dict[str, Any]) -> _Fault | None:
        """The first fault that meets a request, counted."""
        with suppress(S3Error):
            head = request_head(environ)
            operation = _DISPATCHER.match(head, dict(reversed(head.query_items))).operation
            with self._mutex:
                for fault in self._faults:
                    if fault.meets(operation, head):
                        fault.left -= fault.left > 0
                        return fault
        return None


def _refusal(status: int, code: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
    document = results.error(
        code=code,
        message="A fault on purpose.",
        resource="",
        request_id="FAULT",
        host_id="s3lite.testing",
        details={},
    )
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(document)))]
    start_response(f"{status} Fault", [*headers, ("Connection", "close")])
    return (document,)


def _drop(body: Iterable[bytes]) -> None:
    for _ in body:
        pass
    close = getattr(body, "close", None)
    if close is not None:
        close()


def _torn(body: Iterable[bytes], left: int) -> Iterator[bytes]:
    try:
        for piece in body:
            if len(piece) > left:
                yield piece[:left]
                raise TornConnectionError("the answer is torn on purpose")
            left -= len(piece)
            yield piece
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
