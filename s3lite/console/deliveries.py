"""Callbacks and notifications: what waits, what was delivered, what failed and why; and trying again.

The operator sees all of them, others those of the buckets that they own.
"""

from __future__ import annotations

from typing import Any

from s3lite.catalog.questions import Chosen, ReadTx
from s3lite.console.visit import Visit
from s3lite.core.outbox import lifetime_ms
from s3lite.core.write import commit
from s3lite.messages import Delivery, OutboxEntry
from s3lite.responses import Response
from s3lite.times import iso8601

STATUSES = ("queued", "dead", "delivered", "failed")
_SHOWN = 100
_CHARTED = 500
_BODY_SHOWN = 16 << 10
_COLUMNS = 60  # of the chart over time
# Upper ends of the bars of the chart, in milliseconds; the last one is open.
_BARS_MS = (10, 25, 50, 100, 250, 500, 1000, 5000, 1 << 40)


def deliveries(visit: Visit) -> Response:
    """The latest messages, by status, with charts of how attempts have gone."""
    status = visit.query.get("status", "")
    bucket = visit.query.get("bucket", "")
    if not _may_see(visit, bucket):
        return visit.page(
            "deliveries.html",
            title="Callbacks",
            rows=[],
            status_shown=status,
            bucket=bucket,
            statuses=STATUSES,
            chart=None,
            fault="" if not bucket else "This bucket is not yours.",
        )
    chosen = Chosen(bucket=bucket)
    with visit.services.store.catalog.read() as tx:
        rows = [
            row for name in ((status,) if status in STATUSES else STATUSES) for row in _rows(tx, name, chosen)
        ]
        settled = [
            each for ok in (True, False) for each in tx.settled_deliveries(chosen, ok=ok, limit=_CHARTED)
        ]
    rows.sort(key=lambda row: str(row["time"]), reverse=True)
    return visit.page(
        "deliveries.html",
        title="Callbacks",
        rows=rows[:_SHOWN],
        status_shown=status,
        bucket=bucket,
        statuses=STATUSES,
        chart=_chart(settled),
    )


def delivery(visit: Visit) -> Response:
    """One message with all its attempts."""
    message_id = visit.rest
    with visit.services.store.catalog.read() as tx:
        entry = tx.outbox_entry(message_id)
        attempts = tx.deliveries(message_id, limit=_SHOWN)
    bucket = entry.bucket if entry else attempts[-1].bucket if attempts else ""
    if not bucket or not _may_see(visit, bucket):
        return visit.page("missing.html", title="Not found", status=404)
    return visit.page(
        "delivery.html",
        title=message_id,
        row=_entry(entry) if entry else _settled(attempts[-1]),
        body=_text(entry.body) if entry else None,
        attempts=[_attempt(each) for each in attempts],
        can_retry=entry is not None,
    )


def retry(visit: Visit) -> Response:
    """Send one message again, under the same id."""
    message_id = visit.form.get("id", "")
    with visit.services.store.catalog.read() as tx:
        entry = tx.outbox_entry(message_id)
    if entry is None or not _may_see(visit, entry.bucket):
        return visit.back("deliveries", fault="Nothing is kept of this message to send again.")
    store = visit.services.store
    now_ms = store.clock.time_ms()
    expires_ms = now_ms + lifetime_ms(store.settings.outbox)
    chosen = Chosen(ids=(message_id,))
    commit(store, lambda tx: tx.revive_outbox(chosen, dead_only=False, now_ms=now_ms, expires_ms=expires_ms))
    store.outbox.wake()
    return visit.back(f"delivery/{message_id}", notice="It is being sent again.")


def _may_see(visit: Visit, bucket: str) -> bool:
    key = visit.session.key
    if visit.is_operator:
        return True
    with visit.services.store.catalog.read() as tx:
        found = tx.bucket(bucket) if bucket else None
    return found is not None and found.owner_id == key.account.id and not key.policy


def _rows(tx: ReadTx, status: str, chosen: Chosen) -> list[dict[str, Any]]:
    if status in ("queued", "dead"):
        return [_entry(each) for each in tx.outbox_entries(chosen, dead=status == "dead", limit=_SHOWN)]
    return [_settled(each) for each in tx.settled_deliveries(chosen, ok=status == "delivered", limit=_SHOWN)]


def _entry(entry: OutboxEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "status": "dead" if entry.is_dead else "queued",
        "time": iso8601(entry.created_ms),
        "what": entry.event,
        "bucket": entry.bucket,
        "key": entry.key,
        "destination": entry.destination,
        "attempts": entry.attempts,
        "message": entry.message,
        "next": "" if entry.is_dead else iso8601(entry.due_ms),
    }


def _settled(last: Delivery) -> dict[str, Any]:
    return {
        "id": last.id,
        "status": "failed" if last.message else "delivered",
        "time": iso8601(last.at_ms),
        "what": last.mode,
        "bucket": last.bucket,
        "key": last.key,
        "destination": last.url,
        "attempts": last.attempt,
        "message": last.message,
        "next": "",
    }


def _attempt(each: Delivery) -> dict[str, Any]:
    return {
        "number": each.attempt,
        "time": iso8601(each.at_ms),
        "url": each.url,
        "status": each.status or "–",
        "cost_ms": each.cost_ms,
        "message": each.message or "delivered",
        "cause": each.cause,
        "sent_bytes": each.sent_bytes,
        "received_bytes": each.received_bytes,
        "body": _text(each.body),
        "answer": _text(each.answer),
    }


def _text(data: bytes | None) -> str | None:
    return None if data is None else data[:_BODY_SHOWN].decode("utf-8", "replace")


def _chart(settled: list[Delivery]) -> dict[str, Any] | None:
    """How long the last attempts took, as bars, failures apart; None when there were none."""
    if not settled:
        return None
    bars = [{"up_to_ms": end, "ok": 0, "failed": 0} for end in _BARS_MS]
    for each in settled:
        bar = next(bar for bar in bars if each.cost_ms <= bar["up_to_ms"])
        bar["failed" if each.message else "ok"] += 1
    highest = max(bar["ok"] + bar["failed"] for bar in bars)
    costs = sorted(each.cost_ms for each in settled)
    failed = sum(1 for each in settled if each.message)
    return {
        "bars": [
            {
                "label": "more" if bar["up_to_ms"] == _BARS_MS[-1] else f"≤ {bar['up_to_ms']}",
                "ok": round(100 * bar["ok"] / highest),
                "failed": round(100 * bar["failed"] / highest),
                "count": bar["ok"] + bar["failed"],
            }
            for bar in bars
        ],
        "timeline": _timeline(settled),
        "count": len(settled),
        "failed": failed,
        "median_ms": costs[len(costs) // 2],
        "p99_ms": costs[min(len(costs) - 1, len(costs) * 99 // 100)],
    }


def _timeline(settled: list[Delivery]) -> dict[str, Any]:
    """How many were delivered and how many failed, from the oldest to the newest of them."""
    first, last = min(each.at_ms for each in settled), max(each.at_ms for each in settled)
    width_ms = (last - first) / _COLUMNS or 1
    columns = [{"ok": 0, "failed": 0} for _ in range(_COLUMNS)]
    for each in settled:
        column = columns[min(int((each.at_ms - first) / width_ms), _COLUMNS - 1)]
        column["failed" if each.message else "ok"] += 1
    highest = max(column["ok"] + column["failed"] for column in columns)
    return {
        "from": iso8601(first),
        "to": iso8601(last),
        "columns": [{name: 36 * count / highest for name, count in column.items()} for column in columns],
    }
