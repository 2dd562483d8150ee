"""Sending callbacks: the one place that opens connections to applications.

Source: docs/callbacks.md: "The request", "What counts as success", "Where callbacks may go". One deadline
covers name resolution, connect, TLS, sending and the whole answer of a URL (`callback.sockets`). A
connection goes to an address that `EgressPolicy` has judged; SNI, certificate and Host use the name.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import Empty
from typing import Any, NamedTuple

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from s3lite import __version__
from s3lite.callback import reply, sockets
from s3lite.callback.egress import ADDRESS_DENIED, EARLY_RESOLUTION_S, CallbackUrl, EgressPolicy, Resolver
from s3lite.callback.render import BODY_INVALID, MAX_BODY, Event
from s3lite.callback.signing import CallbackKeys
from s3lite.callback.spec import CallbackSpec
from s3lite.ids import Ids
from s3lite.model import AccessKey
from s3lite.settings import CallbackSettings
from s3lite.times import Clock, http_date

IDLE_S = 30.0
"""Seconds that an unused connection is kept."""
CANNOT_CONNECT = "Error status : -1.s3lite can not connect to your callbackUrl, please check it."
TOO_MANY = "Too many callback requests."
_MAX_POOLS = 64
_HEAD_BYTES = 128 << 10

log = logging.getLogger("s3lite.callback")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a callback ended. ``message`` is "" when ok, else why not, as the uploader reads it."""

    ok: bool
    callback_id: str
    status: int | None  # of the last answer; None without one
    body: bytes = b""
    content_type: str = "application/json"  # or application/xml
    message: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One URL tried, as logged: no query, no variables, no bodies, no secrets."""

    callback_id: str
    url: str
    status: int | None
    message: str  # "" when ok
    cause: str  # of a network error, for the operator; never shown to uploaders
    cost_ms: int
    sent_bytes: int
    received_bytes: int
    is_reused: bool  # sent on a connection that an earlier callback had opened


class _Failure(Exception):
    """The end of an attempt; the text is the message for the uploader."""


# ---------------------------------------------------------------- connections


class _ToAddress:
    """What both kinds of connection share: they go to one address, whatever their host is called."""

    address: tuple[str, int]
    watch: sockets.Watch
    sock: Any
    idle_since = 0.0

    def _new_conn(self) -> sockets.PlainSocket:
        return sockets.connect(self.address, self.watch)

    def arm(self, watch: sockets.Watch) -> None:
        """Put the next exchange, or the connecting, under its limits."""
        self.watch = watch
        if self.sock is not None:
            self.sock.watch = watch


class _PlainConnection(_ToAddress, HTTPConnection):
    def __init__(self, *args: Any, address: tuple[str, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = address


class _TlsConnection(_ToAddress, HTTPSConnection):
    def __init__(self, *args: Any, address: tuple[str, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = address


_Connection = _PlainConnection | _TlsConnection


class _Leasing:
    """Lends connections of a urllib3 pool.

    `urlopen` is not used: it rewrites the request target (``%2f`` to ``%2F``), which must go out
    byte for byte and which the OSS signature covers.
    """

    pool: Any
    _get_conn: Callable[..., Any]
    _put_conn: Callable[[Any], None]

    @contextmanager
    def lease(self, *, fresh: bool) -> Iterator[_Connection]:
        """A connection, perhaps a used one; closed if anything goes wrong, else kept for the next."""
        connection: _Connection = self._get_conn()
        if fresh or time.monotonic() - connection.idle_since > IDLE_S:
            connection.close()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        finally:
            connection.idle_since = time.monotonic()
            self._put_conn(connection)

    def drop_idle(self, before: float) -> bool:
        """Close connections unused since ``before``; True if any stays open."""
        kept: list[_Connection | None] = []
        try:
            while True:
                kept.append(self.pool.get(block=False))
        except Empty:
            pass
        is_any_open = False
        for connection in reversed(kept):  # a stack: the last used goes back on top
            if connection is not None and connection.idle_since <= before:
                connection.close()
            is_any_open |= connection is not None and not connection.is_closed
            self._put_conn(connection)
        return is_any_open


class _PlainPool(_Leasing, urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(_Leasing, urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_Pool = _PlainPool | _TlsPool


class _Pools:
    """A pool per scheme, host, checked address and ``Host``; connections idle for 30 s are closed.

    A pool is never closed, only emptied and forgotten: a thread may be about to lease from it.
    """

    def __init__(self, ca_file: str, pool_size: int) -> None:
        self._pool_size = pool_size
        # Without private authorities only when first needed: reading the system's takes 20 ms.
        self._context = sockets.tls_context(ca_file) if ca_file else None
        self._pools: OrderedDict[tuple[str, str, tuple[str, int], str], _Pool] = OrderedDict()
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None

    def get(self, url: CallbackUrl, address: tuple[str, int], host: str) -> _Pool:
        key = (url.scheme, url.netloc, address, host)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._new(url, address)
            self._pools.move_to_end(key)
            if len(self._pools) > _MAX_POOLS:
                self._pools.popitem(last=False)[1].drop_idle(time.monotonic())
            if self._sweeper is None:
                self._start_sweeper()
        return pool

    def _new(self, url: CallbackUrl, address: tuple[str, int]) -> _Pool:
        if url.scheme == "http":
            return _PlainPool(url.host, url.port, maxsize=self._pool_size, address=address)
        if self._context is None:
            self._context = sockets.tls_context()
        return _TlsPool(
            url.host, url.port, maxsize=self._pool_size, address=address, ssl_context=self._context
        )

    def _start_sweeper(self) -> None:
        self._sweeper = threading.Timer(IDLE_S, self._sweep)
        self._sweeper.daemon = True
        self._sweeper.start()

    def _sweep(self) -> None:
        """Close what has idled, forget pools without connections, come back while there are any."""
        with self._lock:
            before = time.monotonic() - IDLE_S
            for key in [key for key, pool in self._pools.items() if not pool.drop_idle(before)]:
                del self._pools[key]
            self._sweeper = None
            if self._pools:
                self._start_sweeper()

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            for pool in self._pools.values():
                pool.drop_idle(time.monotonic())
            self._pools.clear()


# ---------------------------------------------------------------- one exchange


class _Exchange:
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

    def run(
        self, pool: _Pool, target: str, tunnel: tuple[str, int] | None, connect_by: float, deadline: float
    ) -> None:
        """Once on a pooled connection; again on a fresh one if that breaks before any byte came.

        Raises _Failure, TimeoutError, OSError, HTTPException, HTTPError.
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
        pool: _Pool,
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
        """Decide whether it counts as success. Raises _Failure, TimeoutError."""
        self.status = answer.status
        if not reply.is_success(answer.status, reply=self._reply_mode):
            raise _Failure(f"Error status : {answer.status}.")
        lengths = answer.headers.get_all("content-length", [])
        if reply.framing_fault(lengths, answer.headers.get_all("transfer-encoding", [])):
            raise _Failure(reply.BAD_LENGTH)
        is_strict = self._reply_mode != "standard"
        if is_strict and (answer.length or 0) > self._max_bytes:
            raise _Failure(reply.TOO_LONG)
        self._read(answer)
        self.content_type = reply.media_type(answer.headers.get("content-type", ""))
        if is_strict and len(self.answer) > self._max_bytes:
            raise _Failure(reply.TOO_LONG)
        if is_strict and not reply.is_well_formed(self.answer, self.content_type):
            raise _Failure(reply.NOT_JSON)

    def _read(self, answer: http.client.HTTPResponse) -> None:
        """Read the body, or one byte more than is allowed. Raises _Failure, TimeoutError."""
        try:
            self.answer = answer.read(self._max_bytes + 1)
        except (TimeoutError, sockets.AnswerTooLongError):
            raise
        except (OSError, http.client.HTTPException) as error:
            raise _Failure(reply.BAD_LENGTH) from error
        if answer.length and len(self.answer) <= self._max_bytes:  # closed before Content-Length
            raise _Failure(reply.BAD_LENGTH)


def _watch(deadline: float, max_bytes: int) -> sockets.Watch:
    """Twice the body, for chunk sizes, and a head; the exact limit is counted after decoding."""
    return sockets.Watch(deadline, 2 * max_bytes + _HEAD_BYTES)


# ---------------------------------------------------------------- the sender


class _Message(NamedTuple):
    """What all URLs of a callback get alike."""

    spec: CallbackSpec
    event: Event
    body: bytes
    reply: str
    requester: AccessKey
    pub_key_url: str


class CallbackSender:
    """Checks targets and delivers callbacks; one per application instance, safe for threads.

    ``on_log`` is called with every `Attempt`. ``own_listeners`` are (address, port) pairs that
    callbacks must not reach. Raises SettingsError.
    """

    def __init__(
        self,
        settings: CallbackSettings,
        *,
        keys: CallbackKeys,
        clock: Clock | None = None,
        ids: Ids | None = None,
        resolver: Resolver | None = None,
        own_listeners: Sequence[tuple[str, int]] = (),
        on_log: Callable[[Attempt], None] | None = None,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock or Clock()
        self._ids = ids or Ids()
        self._egress = EgressPolicy(settings, own_listeners, resolver=resolver)
        self._pools = _Pools(settings.ca_file, settings.max_inflight)
        self._on_log = on_log
        self._lock = threading.Lock()
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Callbacks that wait for an answer now."""
        return self._in_flight

    def close(self) -> None:
        """Close idle connections and stop resolving names; running callbacks end by themselves."""
        self._pools.close()
        self._egress.close()

    def check(self, spec: CallbackSpec) -> None:
        """The early check of all targets, within 1 s. Raises S3Error (InvalidArgument)."""
        deadline = time.monotonic() + EARLY_RESOLUTION_S
        for url in spec.urls:
            self._egress.check_early(url, deadline)

    def deliver(
        self, spec: CallbackSpec, event: Event, *, requester: AccessKey, pub_key_url: str, reply: str
    ) -> Outcome:
        """Send a callback and judge the answer. Never raises for a callback's fault.

        ``event.callback_id`` is the webhook-id, a new one if empty; ``reply`` is passthrough or
        standard.
        """
        event = event if event.callback_id else replace(event, callback_id=self._ids.message())
        with self._lock:
            is_full = self._in_flight >= self._settings.max_inflight
            if not is_full:
                self._in_flight += 1
        if is_full:
            log.warning("callback %s not sent: %d are in flight", event.callback_id, self._in_flight)
            return Outcome(False, event.callback_id, None, message=TOO_MANY)
        try:
            body = spec.template.render(event, spec.variables)
            if len(body) > MAX_BODY:  # a Content-Type beyond what `Template.bound` reckons with
                return Outcome(False, event.callback_id, None, message=BODY_INVALID)
            return self._try_urls(_Message(spec, event, body, reply, requester, pub_key_url))
        finally:
            with self._lock:
                self._in_flight -= 1

    def preview(
        self, spec: CallbackSpec, event: Event, *, requester: AccessKey, pub_key_url: str
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body that `deliver` would send to the first URL now. Nothing is sent."""
        body = spec.template.render(event, spec.variables)
        message = _Message(spec, event, body, spec.reply, requester, pub_key_url)
        return self._headers(message, spec.urls[0]), body

    def _try_urls(self, message: _Message) -> Outcome:
        """Failover: the next URL after any failure, all within the total time; the last failure counts."""
        end = time.monotonic() + self._settings.total_timeout_s
        outcome = Outcome(False, message.event.callback_id, None, message=CANNOT_CONNECT)
        for url in message.spec.urls:
            left = end - time.monotonic()
            if left <= 0 or outcome.ok:
                break
            outcome = self._try_url(message, url, min(self._settings.timeout_s, left))
        return outcome

    def _try_url(self, message: _Message, url: CallbackUrl, timeout: float) -> Outcome:
        start = time.monotonic()
        try:
            headers = self._headers(message, url)
        except ValueError as error:  # an unusable webhook secret: the operator's fault, not the target's
            log.error("callback %s cannot be sent: %s", message.event.callback_id, error)
            return Outcome(False, message.event.callback_id, None, message=CANNOT_CONNECT)
        exchange = _Exchange(headers, message.body, message.reply, self._settings.max_reply_bytes)
        text = cause = ""
        try:
            self._exchange(exchange, url, message.spec.host or url.netloc, start + timeout)
        except _Failure as failure:
            text = str(failure)
        except sockets.AnswerTooLongError:
            text = reply.TOO_LONG
        except (OSError, http.client.HTTPException, HTTPError) as error:
            text, cause = CANNOT_CONNECT, _cause(error)
            if isinstance(error, TimeoutError) and exchange.is_connected:
                cost = int((time.monotonic() - start) * 1000)
                text = f"Error status : -1.Reply timeout, cost:{cost}ms, timeout:{int(timeout * 1000)}ms."
        attempt = Attempt(
            callback_id=message.event.callback_id,
            url=str(url),
            status=exchange.status,
            message=text,
            cause=cause,
            cost_ms=int((time.monotonic() - start) * 1000),
            sent_bytes=len(message.body),
            received_bytes=len(exchange.answer),
            is_reused=exchange.is_reused,
        )
        self._report(attempt, exchange.answer)
        if text:
            return Outcome(False, attempt.callback_id, attempt.status, message=text)
        answer = exchange.answer[: self._settings.max_reply_bytes]
        return Outcome(True, attempt.callback_id, attempt.status, answer, exchange.content_type)

    def _exchange(self, exchange: _Exchange, url: CallbackUrl, host: str, deadline: float) -> None:
        """Send to the first address that accepts a connection. Raises as `_Exchange.run`."""
        addresses = self._egress.addresses(url, deadline)
        if not addresses:
            raise _Failure(ADDRESS_DENIED)
        target, tunnel = url.target, None
        if self._egress.proxy is not None and url.scheme == "https":
            tunnel = (url.host, url.port)
        elif self._egress.proxy is not None:
            target = f"http://{url.netloc}{target}"
        for behind, address in reversed(list(enumerate(reversed(addresses)))):
            now = time.monotonic()
            connect_by = now + (deadline - now) / (behind + 1)  # a dead address leaves time for the rest
            try:
                exchange.run(self._pools.get(url, address, host), target, tunnel, connect_by, deadline)
                return
            except OSError:
                if exchange.is_connected or not behind:
                    raise

    def _headers(self, message: _Message, url: CallbackUrl) -> dict[str, str]:
        """All headers: nothing else is sent, nothing comes from the uploader but Host."""
        event, now = message.event, self._clock.time()
        digest = hashlib.md5(message.body, usedforsecurity=False).digest()
        headers = {
            "Host": message.spec.host or url.netloc,
            "Connection": "keep-alive",
            "Content-Type": message.spec.body_type,
            "Content-Length": str(len(message.body)),
            "Content-MD5": base64.b64encode(digest).decode(),
            "Date": http_date(now),
            "User-Agent": f"s3lite-callback/{__version__}",
            "Accept-Encoding": "identity",
            "webhook-id": event.callback_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": self._keys.webhook_signature(
                event.callback_id, int(now), message.body, message.requester.webhook_secret.split()
            ),
        }
        if self._settings.oss_signature:
            key_url = base64.b64encode(message.pub_key_url.encode()).decode()
            headers |= {
                "Authorization": self._keys.oss_signature(url.path, url.query or "", message.body),
                "x-oss-pub-key-url": key_url,
                "x-oss-bucket": event.bucket,
                "x-oss-request-id": event.request_id,
                "x-oss-requester": message.requester.access_key,
                "x-oss-signature-version": "1.0",
                "x-oss-tag": "CALLBACK",
                "X-Callback-Pub-Key-Url": key_url,
            }
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable()):  # CR, LF, NUL
                raise ValueError(f"the header {name} cannot be sent")
        return headers

    def _report(self, attempt: Attempt, answer: bytes) -> None:
        log.log(
            logging.WARNING if attempt.message else logging.INFO,
            "callback %s to %s: %s%s in %d ms, status %s, %d bytes sent, %d received",
            attempt.callback_id,
            attempt.url,
            attempt.message or "ok",
            attempt.cause and f" ({attempt.cause})",
            attempt.cost_ms,
            attempt.status,
            attempt.sent_bytes,
            attempt.received_bytes,
        )
        if attempt.message == reply.NOT_JSON:
            log.debug("callback %s: the answer begins %r", attempt.callback_id, answer[:64])
        if self._on_log is not None:
            self._on_log(attempt)


def _cause(error: Exception) -> str:
    """What broke, in words that hold nothing of the application's answer."""
    detail = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or ""
    return f"{type(error).__name__}: {detail}".removesuffix(": ")
