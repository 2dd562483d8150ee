"""What a handler hands back: a small WSGI response.

werkzeug's Response costs ten times as much per answer as a small object's whole lookup, and nothing
of it is needed here: handlers know their exact headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from s3lite.errors import S3Error
from s3lite.wire import results

Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
NO_BODY_STATUSES = frozenset((204, 304))


class Response:
    """Status, headers and body of an answer; ``error`` is the code's name, for the log."""

    __slots__ = ("body", "error", "headers", "size", "status")

    def __init__(
        self,
        status: int = 200,
        headers: Headers | None = None,
        body: bytes | Iterable[bytes] = b"",
        *,
        size: int | None = None,
        error: str = "",
    ) -> None:
        self.status = status
        self.headers: Headers = headers if headers is not None else []
        self.body = body
        self.size = size if size is not None else len(body) if isinstance(body, bytes) else None
        self.error = error

    def start(self, method: str, start_response: StartResponse) -> Iterable[bytes]:
        """Send status and headers; return the body for WSGI, empty where HTTP has none."""
        headers = self.headers
        if self.size is not None and self.status not in NO_BODY_STATUSES:
            headers = [*headers, ("Content-Length", str(self.size))]
        start_response(STATUS_LINES[self.status], headers)
        if method == "HEAD" or self.status in NO_BODY_STATUSES:
            self.close()
            return ()
        return (self.body,) if isinstance(self.body, bytes) else self.body

    def close(self) -> None:
        """Release a body that will not be sent."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()


def xml(document: bytes, *, status: int = 200, headers: Headers | None = None) -> Response:
    """An XML document."""
    return Response(status, [("Content-Type", "application/xml"), *(headers or [])], document)


def empty(status: int = 200, headers: Headers | None = None) -> Response:
    """No body."""
    return Response(status, headers)


def stream(body: Iterable[bytes], size: int, *, status: int = 200, headers: Headers) -> Response:
    """A body of exactly ``size`` bytes."""
    return Response(status, headers, body, size=size)


def error(problem: S3Error, *, resource: str, request_id: str, host_id: str) -> Response:
    """The Error document of ``problem``."""
    headers: Headers = list(problem.headers.items())
    if problem.status in NO_BODY_STATUSES:
        return Response(problem.status, headers, error=problem.code.wire_name)
    document = results.error(
        code=problem.code.wire_name,
        message=problem.message,
        resource=resource,
        request_id=request_id,
        host_id=host_id,
        details=problem.details,
    )
    response = xml(document, status=problem.status, headers=headers)
    response.error = problem.code.wire_name
    return response


class Pieces:
    """An iterator of body pieces with the ``close`` that WSGI calls."""

    __slots__ = ("_close", "_pieces")

    def __init__(self, pieces: Iterator[bytes], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """Release what the pieces hold open."""
        self._close()
