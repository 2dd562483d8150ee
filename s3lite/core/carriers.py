"""What the courier hands messages to: callbacks and webhooks by HTTP, and messages to brokers.

A row keeps all that was decided when the object was stored: URLs, the filled-in body, who asked. What
may have changed since is looked up when it is sent: the signing secret of the access key, so that a
rotated one is used. When the key has been removed, the server's own Ed25519 signature remains.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from s3lite.callback.broker import BrokerError, Brokers
from s3lite.callback.egress import CallbackUrl, parse_url
from s3lite.callback.render import JSON
from s3lite.callback.send import Attempt, CallbackSender, Message, Outcome
from s3lite.core.outbox import CALLBACK, NOTIFICATION, Result, lifetime_ms
from s3lite.core.store import Store
from s3lite.core.targets import Target, Targets
from s3lite.messages import Delivery, OutboxEntry
from s3lite.model import AccessKey, Account

_GONE = 410
_NOT_TAKEN = "The broker did not take the message."

log = logging.getLogger("s3lite.outbox")


def callback_entry(store: Store, message: Message, event: str) -> OutboxEntry:
    """A callback as its row; due at once."""
    now_ms = store.clock.time_ms()
    url = message.urls[0]
    request = {
        "urls": [f"{each.scheme}://{each.netloc}{each.target}" for each in message.urls],
        "host": message.host,
        "type": message.body_type,
        "request_id": message.request_id,
        "access_key": message.requester.access_key,
        "account": message.requester.account.id,
        "key_url": message.pub_key_url,
        "mode": message.mode,
        "policy_bucket": message.policy_bucket,
    }
    return OutboxEntry(
        id=message.callback_id,
        kind=CALLBACK,
        bucket=message.bucket,
        key=message.key,
        event=event,
        destination=str(url),
        lane=f"{message.requester.account.id} {url.scheme}://{url.netloc}",
        request=json.dumps(request, separators=(",", ":")),
        body=message.body,
        created_ms=now_ms,
        expires_ms=now_ms + lifetime_ms(store.settings.outbox),
        due_ms=now_ms,
    )


def result_of(outcome: Outcome, *, urls: int) -> Result:
    """``urls``: one that is gone says nothing of the others."""
    return Result(
        ok=outcome.ok,
        status=outcome.status or 0,
        message=outcome.message,
        retry_after_s=outcome.retry_after_s,
        is_gone=outcome.status == _GONE and urls == 1,
        is_held_back=outcome.is_held_back,
    )


def delivery_of(attempt: Attempt, *, body_bytes: int) -> Delivery:
    """An attempt for the log, with at most ``body_bytes`` of both bodies; 0: without them."""
    sent = attempt.sent
    return Delivery(
        id=sent.callback_id,
        kind=NOTIFICATION if sent.mode == NOTIFICATION else CALLBACK,
        mode=sent.mode,
        bucket=sent.bucket,
        key=sent.key,
        url=sent.destination or attempt.url,
        attempt=sent.number,
        at_ms=attempt.at_ms,
        cost_ms=attempt.cost_ms,
        status=attempt.status or 0,
        message=attempt.message,
        cause=attempt.cause,
        sent_bytes=attempt.sent_bytes,
        received_bytes=attempt.received_bytes,
        body=sent.body[:body_bytes] if body_bytes else None,
        answer=attempt.answer[:body_bytes] if body_bytes else None,
    )


class Carriers:
    """Sends each kind of message its way. `close` it when done with it."""

    def __init__(self, store: Store, sender: CallbackSender, targets: Targets) -> None:
        self._store = store
        self._sender = sender
        self._targets = targets
        self._brokers = Brokers()
        self.longest_s = store.settings.callback.total_timeout_s

    def carry(self, entry: OutboxEntry) -> Result:
        """See `courier.Carrier`."""
        request = json.loads(entry.request)
        if entry.kind == CALLBACK:
            return self._post(self._callback(entry, request))
        target = self._targets.named(request["target"])
        if target is None:
            return Result(False, message=f"There is no target {request['target']} in notifications.targets.")
        if target.webhook is not None:
            return self._post(_webhook(entry, target.webhook, target))
        return self._publish(entry, target)

    def close(self) -> None:
        """Close connections to brokers."""
        self._brokers.close()

    def _post(self, message: Message) -> Result:
        return result_of(self._sender.send(message), urls=len(message.urls))

    def _callback(self, entry: OutboxEntry, request: dict[str, Any]) -> Message:
        requester = None
        if not request["policy_bucket"]:
            with self._store.catalog.read() as tx:
                requester = tx.access_key(request["access_key"])
        if requester is None:
            account = Account(request["account"], request["account"])
            requester = AccessKey(request["access_key"], "", account)
        return Message(
            urls=tuple(map(parse_url, request["urls"])),
            host=request["host"],
            body_type=request["type"],
            body=entry.body,
            reply="standard",  # nobody reads the answer: any 2xx will do
            callback_id=entry.id,
            bucket=entry.bucket,
            key=entry.key,
            request_id=request["request_id"],
            requester=requester,
            pub_key_url=request["key_url"],
            mode=request["mode"],
            number=entry.attempts,
            policy_bucket=request["policy_bucket"],
        )

    def _publish(self, entry: OutboxEntry, target: Target) -> Result:
        """To a broker, whose attempts are logged here."""
        clock = self._store.clock
        at_ms, start = clock.time_ms(), clock.monotonic()
        cause = ""
        try:
            self._brokers.publish(
                target.broker, target.route, entry.body, message_id=entry.id, timeout_s=self.longest_s
            )
        except BrokerError as error:
            cause = str(error)
            log.warning("notification %s to %s: %s", entry.id, target.name, cause)
        body_bytes = self._store.settings.outbox.log_body_bytes
        delivery = Delivery(
            id=entry.id,
            kind=NOTIFICATION,
            mode=NOTIFICATION,
            bucket=entry.bucket,
            key=entry.key,
            url=entry.destination,
            attempt=entry.attempts,
            at_ms=at_ms,
            cost_ms=int((clock.monotonic() - start) * 1000),
            status=0,
            message=_NOT_TAKEN if cause else "",
            cause=cause,
            sent_bytes=len(entry.body),
            received_bytes=0,
            body=entry.body[:body_bytes] if body_bytes else None,
        )
        self._store.outbox.record(delivery)
        return Result(not cause, message=delivery.message)


def _webhook(entry: OutboxEntry, url: CallbackUrl, target: Target) -> Message:
    """Signed with the target's secret and the server's own key, and not as OSS does."""
    return Message(
        urls=(url,),
        host="",
        body_type=JSON,
        body=entry.body,
        reply="standard",
        callback_id=entry.id,
        bucket=entry.bucket,
        key=entry.key,
        request_id="",
        requester=AccessKey("", "", Account(entry.lane, entry.lane), webhook_secret=target.secret),
        pub_key_url="",
        mode=NOTIFICATION,
        number=entry.attempts,
        destination=entry.destination,
    )
