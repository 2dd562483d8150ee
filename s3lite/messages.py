"""Messages that are owed to others, and the log of their attempts (docs/callbacks.md).

Frozen values without behaviour, as those of `model`. Times are milliseconds since the epoch (``*_ms``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A message that is owed: a callback or a notification, as its row in the outbox.

    ``due_ms`` is when it may be taken next; while it is being sent, when its lease ends. ``attempts`` counts
    those that were begun, and with ``holder`` tells one lease from the next.
    """

    id: str  # the webhook-id, the same on every attempt
    kind: str  # callback | notification
    bucket: str
    key: str
    event: str  # the operation, or S3's event name
    destination: str  # as people may see it: URL without query, or ARN
    lane: str  # what is bounded together: whose messages, and where to
    request: str  # JSON: all that sending needs beside the body
    body: bytes
    created_ms: int
    expires_ms: int  # no attempt begins after this
    due_ms: int
    attempts: int = 0
    holder: str = ""
    is_dead: bool = False
    status: int = 0  # of the last attempt; 0: no answer
    message: str = ""  # of the last attempt


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of an attempt: ok (the entry goes), retry, dead, or back (nothing was sent)."""

    entry_id: str
    holder: str
    attempts: int
    result: str
    due_ms: int = 0
    status: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An attempt in the delivery log. ``body`` and ``answer`` are None unless the settings ask for them."""

    id: str
    kind: str  # callback | notification
    mode: str  # sync | async | sync-retry | gate | notification
    bucket: str
    key: str
    url: str  # without query, or the ARN
    attempt: int
    at_ms: int
    cost_ms: int
    status: int  # 0: no answer
    message: str  # "" when it succeeded
    cause: str
    sent_bytes: int
    received_bytes: int
    body: bytes | None = None
    answer: bytes | None = None
