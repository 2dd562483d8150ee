"""Sending callbacks: the one place that opens connections to applications.

Source: docs/callbacks.md: "The request", "What counts as success", "Where callbacks may go". One deadline
covers name resolution, connect, TLS, sending and the whole answer of a URL (`callback.sockets`). A
connection goes to an address that `EgressPolicy` has judged; SNI, certificate and Host use the name.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

from s3lite import __version__, waiting
from s3lite.callback import reply, sockets
from s3lite.callback.egress import ADDRESS_DENIED, EARLY_RESOLUTION_S, CallbackUrl, EgressPolicy, Resolver
from s3lite.callback.exchange import Exchange, Failure
from s3lite.callback.lanes import SUSPENDED, TOO_MANY, LaneClosedError, LaneKey, Lanes, LaneState
from s3lite.callback.pools import FAULTS, Pools
from s3lite.callback.render import BODY_INVALID, MAX_BODY, Event
from s3lite.callback.signing import CallbackKeys
from s3lite.callback.spec import CallbackSpec
from s3lite.ids import Ids
from s3lite.model import AccessKey
from s3lite.settings import CallbackSettings
from s3lite.times import Clock, http_date

CANNOT_CONNECT = "Error status : -1.s3lite can not connect to your callbackUrl, please check it."

log = logging.getLogger("s3lite.callback")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a callback ended. ``message`` is "" when ok, else why not, as the uploader reads it."""

    ok: bool
    callback_id: str
    status: int | None  # of the last answer; None without one
    body: bytes = b""
    content_type: str = "application/json"  # or application/xml; as answered when ``is_refused``
    message: str = ""
    is_refused: bool = False  # a gate's application says no
    retry_after_s: int = 0  # what the application asks for with a failure; 0: nothing

    @property
    def is_held_back(self) -> bool:
        """Nothing was sent, to protect this server."""
        return self.message in (TOO_MANY, SUSPENDED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One URL tried. All but ``sent`` and ``answer`` may be logged: no query, variables or secrets."""

    sent: Message
    url: str  # without its query
    at_ms: int
    status: int | None
    message: str  # "" when ok
    cause: str  # of a network error, for the operator; never shown to uploaders
    cost_ms: int
    answer: bytes
    is_reused: bool  # sent on a connection that an earlier callback had opened

    @property
    def callback_id(self) -> str:
        """The webhook-id."""
        return self.sent.callback_id

    @property
    def sent_bytes(self) -> int:
        """Bytes of the body."""
        return len(self.sent.body)

    @property
    def received_bytes(self) -> int:
        """Bytes of the answer's body that were read."""
        return len(self.answer)


@dataclass(slots=True)
class Sending:
    """An exchange that is being traced: headers to add, and how it ended."""

    headers: Mapping[str, str]
    status: int | None = None
    problem: str = ""


_UNTRACED = nullcontext(Sending({}))


# ---------------------------------------------------------------- the sender


class Message(NamedTuple):
    """What is posted: what all URLs get alike, and what the log tells of it."""

    urls: tuple[CallbackUrl, ...]
    host: str  # the ``Host`` header; "" is that of the URL
    body_type: str
    body: bytes
    reply: str  # what counts as success: passthrough | standard | gate
    callback_id: str  # the webhook-id
    bucket: str
    key: str
    request_id: str
    requester: AccessKey
    pub_key_url: str  # "": not signed as OSS does
    mode: str = "sync"
    number: int = 1  # of the attempt
    policy_bucket: int = 0  # `CallbackSpec.policy_bucket`
    destination: str = ""  # as the log shall show it; "": the URL


def message_of(
    spec: CallbackSpec,
    event: Event,
    *,
    requester: AccessKey,
    pub_key_url: str,
    reply: str,
    mode: str = "sync",
) -> Message:
    """A callback with its template filled in."""
    return Message(
        urls=spec.urls,
        host=spec.host,
        body_type=spec.body_type,
        body=spec.template.render(event, spec.variables),
        reply=reply,
        callback_id=event.callback_id,
        bucket=event.bucket,
        key=event.key,
        request_id=event.request_id,
        requester=requester,
        pub_key_url=pub_key_url,
        mode=reply if reply == "gate" else mode,
        policy_bucket=spec.policy_bucket,
    )


class CallbackSender:
    """Checks targets and delivers callbacks; one per application instance, safe for threads.

    ``on_log`` is called with every `Attempt`, ``on_lanes`` as `Lanes` says; ``trace`` is around each. ``own_listeners`` are (address, port) pairs that
    callbacks must not reach. ``threads`` are those of the server: waiting callbacks take half of them at
    most, unless the settings say otherwise. Raises SettingsError.
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
        on_lanes: Callable[[int, int], None] | None = None,
        trace: Callable[[Message, CallbackUrl], AbstractContextManager[Sending]] | None = None,
        threads: int = 32,
    ) -> None:
        self._settings = settings
        self._max_inflight = settings.max_inflight or max(threads // 2, 1)
        self._keys = keys
        self._clock = clock or Clock()
        self._ids = ids or Ids()
        self._egress = EgressPolicy(settings, own_listeners, resolver=resolver)
        self._pools = Pools(settings.ca_file, self._max_inflight)
        self._lanes = Lanes(
            max_inflight=settings.max_inflight_per_target or max(self._max_inflight * 3 // 4, 1),
            failures=settings.breaker_failures,
            pause_s=settings.breaker_pause_s,
            on_change=on_lanes,
        )
        self._on_log = on_log
        self._trace = trace or (lambda message, url: _UNTRACED)
        self._lock = threading.Lock()
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Callbacks that wait for an answer now."""
        return self._in_flight

    def lanes(self) -> list[LaneState]:
        """The destinations in use, or with failures lately, in this process."""
        return self._lanes.states()

    def close(self) -> None:
        """Close idle connections and stop resolving names; running callbacks end by themselves."""
        self._pools.close()
        self._egress.close()

    def check(self, spec: CallbackSpec) -> None:
        """The early check of all targets, within 1 s. Raises S3Error (InvalidArgument)."""
        deadline = time.monotonic() + EARLY_RESOLUTION_S
        for url in spec.urls:
            self._egress.check_early(url, deadline)

    def hindrance(self, spec: CallbackSpec, requester: AccessKey) -> str:
        """Why `deliver` would send nothing now, as its message; "" if it would. For refusing early."""
        if self._in_flight >= self._max_inflight:
            return TOO_MANY
        refusals = [self._lanes.refusal(_lane(requester, url)) for url in spec.urls]
        return refusals[-1] if all(refusals) else ""

    def deliver(
        self,
        spec: CallbackSpec,
        event: Event,
        *,
        requester: AccessKey,
        pub_key_url: str,
        reply: str,
        mode: str = "sync",
    ) -> Outcome:
        """Send a callback and judge the answer. Never raises for a callback's fault.

        ``event.callback_id`` is the webhook-id, a new one if empty; ``reply`` is passthrough, standard or
        gate: then a 4xx is an answer, too (`Outcome.is_refused`), and there is ``gate_timeout_s``.
        """
        event = event if event.callback_id else replace(event, callback_id=self._ids.message())
        return self.deliver_message(
            message_of(spec, event, requester=requester, pub_key_url=pub_key_url, reply=reply, mode=mode)
        )

    def deliver_message(self, message: Message) -> Outcome:
        """`deliver` of a message that is ready, while an uploader waits."""
        waiting.ahead()
        with self._lock:
            is_full = self._in_flight >= self._max_inflight
            if not is_full:
                self._in_flight += 1
        if is_full:
            log.warning("callback %s not sent: %d are in flight", message.callback_id, self._in_flight)
            return Outcome(False, message.callback_id, None, message=TOO_MANY)
        try:
            return self.send(message)
        finally:
            with self._lock:
                self._in_flight -= 1

    def send(self, message: Message) -> Outcome:
        """Send a message for which no uploader waits: its own sender bounds how many there are at once.

        Never raises for the message's or its target's fault.
        """
        if len(message.body) > MAX_BODY:  # a Content-Type beyond what `Template.bound` reckons with
            return Outcome(False, message.callback_id, None, message=BODY_INVALID)
        return self._try_urls(message)

    def preview(
        self, spec: CallbackSpec, event: Event, *, requester: AccessKey, pub_key_url: str
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body that `deliver` would send to the first URL now. Nothing is sent."""
        message = message_of(
            spec, event, requester=requester, pub_key_url=pub_key_url, reply=spec.reply or "passthrough"
        )
        return self._headers(message, spec.urls[0]), message.body

    def _try_urls(self, message: Message) -> Outcome:
        """Failover: the next URL after any failure, all within the total time; the last failure counts.

        What a gate refuses no other URL is asked about.
        """
        is_gate = message.reply == "gate"
        total = self._settings.gate_timeout_s if is_gate else self._settings.total_timeout_s
        end = time.monotonic() + total
        outcome = Outcome(False, message.callback_id, None, message=CANNOT_CONNECT)
        for behind, url in reversed(list(enumerate(reversed(message.urls), 1))):
            left = end - time.monotonic()
            if left <= 0 or outcome.ok or outcome.is_refused:
                break
            timeout = left / behind if is_gate else min(self._settings.timeout_s, left)
            outcome = self._in_lane(message, url, timeout)
        return outcome

    def _in_lane(self, message: Message, url: CallbackUrl, timeout: float) -> Outcome:
        """`_try_url`, unless the destination is busy or suspended."""
        callback_id = message.callback_id
        try:
            ticket = self._lanes.enter(_lane(message.requester, url))
        except LaneClosedError as closed:
            log.warning("callback %s not sent to %s: %s", callback_id, url, closed)
            return Outcome(False, callback_id, None, message=str(closed))
        answered: bool | None = None
        try:
            with self._trace(message, url) as traced:
                headers = {**self._headers(message, url), **traced.headers}
                exchange = Exchange(headers, message.body, message.reply, self._settings.max_reply_bytes)
                outcome, cause = self._try_url(message, url, exchange, timeout)
                traced.status, traced.problem = outcome.status, outcome.message
            answered = False if cause else True if exchange.is_connected else None
        except ValueError as error:  # an unusable webhook secret: the operator's fault, not the target's
            log.error("callback %s cannot be sent: %s", callback_id, error)
            return Outcome(False, callback_id, None, message=CANNOT_CONNECT)
        finally:
            self._lanes.leave(ticket, answered=answered)
        return outcome

    def _try_url(
        self, message: Message, url: CallbackUrl, exchange: Exchange, timeout: float
    ) -> tuple[Outcome, str]:
        """One exchange: how it ended, and what broke if it got no complete answer."""
        start, at_ms = time.monotonic(), self._clock.time_ms()
        text = cause = ""
        try:
            self._exchange(exchange, url, message.host or url.netloc, start + timeout)
        except Failure as failure:
            text = str(failure)
        except sockets.AnswerTooLongError:
            text = reply.TOO_LONG
        except FAULTS as error:
            text, cause = CANNOT_CONNECT, _cause(error)
            if isinstance(error, TimeoutError) and exchange.is_connected:
                cost = int((time.monotonic() - start) * 1000)
                text = f"Error status : -1.Reply timeout, cost:{cost}ms, timeout:{int(timeout * 1000)}ms."
        attempt = Attempt(
            sent=message,
            url=str(url),
            at_ms=at_ms,
            status=exchange.status,
            message=text,
            cause=cause,
            cost_ms=int((time.monotonic() - start) * 1000),
            answer=exchange.answer,
            is_reused=exchange.is_reused,
        )
        self._report(attempt)
        outcome = Outcome(
            not text,
            attempt.callback_id,
            attempt.status,
            message=text,
            is_refused=exchange.is_refused,
            retry_after_s=exchange.retry_after_s,
        )
        if not text or exchange.is_refused:
            answer = exchange.answer[: self._settings.max_reply_bytes]
            outcome = replace(outcome, body=answer, content_type=exchange.content_type)
        return outcome, cause

    def _exchange(self, exchange: Exchange, url: CallbackUrl, host: str, deadline: float) -> None:
        """Send to the first address that accepts a connection. Raises as `Exchange.run`."""
        addresses = self._egress.addresses(url, deadline)
        if not addresses:
            raise Failure(ADDRESS_DENIED)
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

    def _secrets(self, message: Message) -> list[str]:
        """The HMAC secrets: the bucket's for a policy, else those of the access key."""
        if message.policy_bucket:
            return self._keys.bucket_secrets(message.policy_bucket)
        return message.requester.webhook_secret.split()

    def _headers(self, message: Message, url: CallbackUrl) -> dict[str, str]:
        """All headers: nothing else is sent, nothing comes from the uploader but Host."""
        now = self._clock.time()
        digest = hashlib.md5(message.body, usedforsecurity=False).digest()
        headers = {
            "Host": message.host or url.netloc,
            "Connection": "keep-alive",
            "Content-Type": message.body_type,
            "Content-Length": str(len(message.body)),
            "Content-MD5": base64.b64encode(digest).decode(),
            "Date": http_date(now),
            "User-Agent": f"s3lite-callback/{__version__}",
            "Accept-Encoding": "identity",
            "webhook-id": message.callback_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": self._keys.webhook_signature(
                message.callback_id, int(now), message.body, self._secrets(message)
            ),
        }
        if self._settings.oss_signature and message.pub_key_url:
            key_url = base64.b64encode(message.pub_key_url.encode()).decode()
            headers |= {
                "Authorization": self._keys.oss_signature(url.path, url.query or "", message.body),
                "x-oss-pub-key-url": key_url,
                "x-oss-bucket": message.bucket,
                "x-oss-request-id": message.request_id,
                "x-oss-requester": message.requester.access_key,
                "x-oss-signature-version": "1.0",
                "x-oss-tag": "CALLBACK",
                "X-Callback-Pub-Key-Url": key_url,
            }
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable()):  # CR, LF, NUL
                raise ValueError(f"the header {name} cannot be sent")
        return headers

    def _report(self, attempt: Attempt) -> None:
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
            log.debug("callback %s: the answer begins %r", attempt.callback_id, attempt.answer[:64])
        if self._on_log is not None:
            self._on_log(attempt)


def _lane(requester: AccessKey, url: CallbackUrl) -> LaneKey:
    return LaneKey(requester.account.id, f"{url.scheme}://{url.netloc}")


def _cause(error: Exception) -> str:
    """What broke, in words that hold nothing of the application's answer."""
    detail = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or ""
    return f"{type(error).__name__}: {detail}".removesuffix(": ")
