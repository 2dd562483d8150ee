"""One request to an application and its answer, judged."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from contextlib import suppress

from s3lite.callback import reply, sockets
from s3lite.callback.pools import Pool

_HEAD_BYTES = 128 << 10


class Failure(Exception):
    """The end of an attempt; the text is the message for the uploader."""


class Exchange:
    """One request and its answer, judged. The attributes tell how far it came."""

    def __init__(self, headers: Mapping[str, str], body: bytes, reply_mode: str, max_bytes: int) -> None:
        self._headers = headers
        self._body = body
        self._reply_mode = reply_mode
        self._max_bytes = max_bytes
        self.is_connected = False
        self.is_reused = False
        self.status: int | None = None
        self.answer = b""
        self.content_type = "application/json"
        self.is_refused = False  # by a gate's application
        self.retry_after_s = 0

    def run(
        self, pool: Pool, target: str, tunnel: tuple[str, int] | None, connect_by: float, deadline: float
    ) -> None:
        """Once on a pooled connection; again on a fresh one if that breaks before any byte came.

        Raises Failure, TimeoutError, OSError, HTTPException, HTTPError.
        """
        watch = _watch(connect_by, self._max_bytes)
        try:
            self._run(pool, target, tunnel, watch, deadline, fresh=False)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            if not self.is_reused or watch.received:
                raise
            pool.drop_idle(time.monotonic())  # its neighbours are likely as dead
            self._run(pool, target, tunnel, _watch(deadline, self._max_bytes), deadline, fresh=True)

    def _run(
        self,
        pool: Pool,
        target: str,
        tunnel: tuple[str, int] | None,
        watch: sockets.Watch,
        deadline: float,
        *,
        fresh: bool,
    ) -> None:
        self.is_connected = False
        with pool.lease(fresh=fresh) as connection:
            connection.arm(watch)
            self.is_reused = not connection.is_closed
            if connection.is_closed:
                if tunnel is not None:
                    connection.set_tunnel(*tunnel)
                connection.connect()
            self.is_connected = True
            watch.deadline = deadline
            connection.arm(watch)
            connection.request("POST", target, body=self._body, headers=self._headers)
            # Not urllib3's own, whose warnings would put the query of the URL into the log.
            answer = http.client.HTTPConnection.getresponse(connection)
            self._judge(answer)
            if not answer.isclosed():
                connection.close()  # there is more than is read; good enough for `standard`

    def _judge(self, answer: http.client.HTTPResponse) -> None:
        """Decide whether it counts as success. Raises Failure, TimeoutError."""
        self.status = answer.status
        self.retry_after_s = reply.retry_after(
            answer.headers.get("retry-after", ""), answer.headers.get("date", "")
        )
        if self._reply_mode == "gate" and reply.is_refusal(answer.status):
            self._take_refusal(answer)
        if not reply.is_success(answer.status, reply=self._reply_mode):
            raise Failure(f"Error status : {answer.status}.")
        lengths = answer.headers.get_all("content-length", [])
        if reply.framing_fault(lengths, answer.headers.get_all("transfer-encoding", [])):
            raise Failure(reply.BAD_LENGTH)
        is_strict = self._reply_mode == "passthrough"
        if is_strict and (answer.length or 0) > self._max_bytes:
            raise Failure(reply.TOO_LONG)
        self._read(answer)
        self.content_type = reply.media_type(answer.headers.get("content-type", ""))
        if is_strict and len(self.answer) > self._max_bytes:
            raise Failure(reply.TOO_LONG)
        if is_strict and not reply.is_well_formed(self.answer, self.content_type):
            raise Failure(reply.NOT_JSON)

    def _take_refusal(self, answer: http.client.HTTPResponse) -> None:
        """A gate's no, with its reason if that can be read: the status alone decides."""
        self.is_refused = True
        self.content_type = reply.essence(answer.headers.get("content-type", ""))
        with suppress(Failure, OSError):
            self._read(answer)

    def _read(self, answer: http.client.HTTPResponse) -> None:
        """Read the body, or one byte more than is allowed. Raises Failure, TimeoutError."""
        try:
            self.answer = answer.read(self._max_bytes + 1)
        except (TimeoutError, sockets.AnswerTooLongError):
            raise
        except (OSError, http.client.HTTPException) as error:
            raise Failure(reply.BAD_LENGTH) from error
        if answer.length and len(self.answer) <= self._max_bytes:  # closed before Content-Length
            raise Failure(reply.BAD_LENGTH)


def _watch(deadline: float, max_bytes: int) -> sockets.Watch:
    """Twice the body, for chunk sizes, and a head; the exact limit is counted after decoding."""
    return sockets.Watch(deadline, 2 * max_bytes + _HEAD_BYTES)
