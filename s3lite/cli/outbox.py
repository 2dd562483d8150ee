"""``s3lite callback list | show | retry | purge``: what is owed to applications, and what became of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from s3lite.catalog.questions import Chosen
from s3lite.cli.base import Refused, app, note, printable, shared_options, when
from s3lite.cli.callbacks import callback
from s3lite.times import Clock, parse_iso8601

if TYPE_CHECKING:
    from s3lite.catalog.base import Tx
    from s3lite.catalog.questions import ReadTx
    from s3lite.messages import Delivery, OutboxEntry

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES = ("queued", "dead", "delivered", "failed")
_COLUMNS = {
    "id": "id",
    "status": "status",
    "time": "time",
    "bucket": "bucket",
    "key": "key",
    "destination": "destination",
    "attempts": "attempts",
    "last_status": "HTTP",
    "message": "message",
}
_SLICE = 500
_SPAN = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Moment(click.ParamType[int]):
    """A time: ISO 8601, or a span before now such as 30m."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds since the epoch."""
        if isinstance(value, int):
            return value
        if span := _SPAN.fullmatch(value):
            return Clock().time_ms() - int(span[1]) * _SECONDS[span[2]] * 1000
        seconds = parse_iso8601(value)
        if seconds is None:
            self.fail(
                f"{value!r} is neither a time such as 2026-01-31T01:02:03Z nor a span such as 30m, 12h, 7d"
            )
        return int(seconds * 1000)


def _filters(function: F) -> F:
    for option in (
        click.option(
            "--since", type=_Moment(), default=0, help="Not older: 2026-01-31T01:02:03Z, 30m, 12h, 7d."
        ),
        click.option("--destination", default="", metavar="URL_OR_ARN", help="As the list shows it."),
        click.option("--bucket", default="", help="Of this bucket only."),
    ):
        function = option(function)
    return function


# ---------------------------------------------------------------- list and show


@callback.command("list")
@_filters
@click.option("--status", type=click.Choice(_STATUSES), help="With this status only.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@shared_options
def list_messages(bucket: str, destination: str, since: int, status: str | None, limit: int) -> None:
    """Show callbacks and notifications, newest first.

    \b
    queued      in the outbox: it waits for its first or its next attempt
    dead        in the outbox, given up; `s3lite callback retry` sends it again
    delivered   the log's last attempt succeeded
    failed      the log's last attempt failed, and nothing was kept to send again (mode sync)

    \b
    s3lite callback list --status dead --since 2d
    s3lite callback list --bucket photos --json | jq .[].id

    The log is kept for outbox.log_days and outbox.log_rows.
    """
    chosen = Chosen(bucket=bucket, destination=destination, since_ms=since)
    rows: list[dict[str, object]] = []
    with app().storage(create=False) as storage, storage.catalog.read() as tx:
        for name in (status,) if status else _STATUSES:
            rows += _of_status(tx, name, chosen, limit)
    rows.sort(key=lambda row: str(row["time"]), reverse=True)
    app().emit_table(rows[:limit], _COLUMNS)


def _of_status(tx: ReadTx, status: str, chosen: Chosen, limit: int) -> list[dict[str, object]]:
    if status in ("queued", "dead"):
        entries = tx.outbox_entries(chosen, dead=status == "dead", limit=limit)
        return [_entry_row(entry) for entry in entries]
    found = tx.settled_deliveries(chosen, ok=status == "delivered", limit=limit)
    return [_delivery_row(delivery) for delivery in found]


def _entry_row(entry: OutboxEntry) -> dict[str, object]:
    return {
        "id": entry.id,
        "status": "dead" if entry.is_dead else "queued",
        "time": when(entry.created_ms),
        "kind": entry.kind,
        "event": entry.event,
        "bucket": entry.bucket,
        "key": entry.key,
        "destination": entry.destination,
        "attempts": entry.attempts,
        "next": "" if entry.is_dead else when(entry.due_ms),
        "last_status": entry.status or "",
        "message": entry.message,
    }


def _delivery_row(delivery: Delivery) -> dict[str, object]:
    return {
        "id": delivery.id,
        "status": "failed" if delivery.message else "delivered",
        "time": when(delivery.at_ms),
        "kind": delivery.kind,
        "mode": delivery.mode,
        "bucket": delivery.bucket,
        "key": delivery.key,
        "destination": delivery.url,
        "attempts": delivery.attempt,
        "next": "",
        "last_status": delivery.status or "",
        "message": delivery.message,
    }


@callback.command()
@click.argument("message_id", metavar="ID")
@click.option(
    "--body", "with_body", is_flag=True, help="Also what is to be sent, and bodies that were logged."
)
@shared_options
def show(message_id: str, with_body: bool) -> None:
    """Show one callback or notification with its attempts.

    ID is the webhook-id, which answers carry in x-s3lite-callback-id. What was sent and answered is in
    the log only if outbox.log_body_bytes says so.
    """
    with app().storage(create=False) as storage, storage.catalog.read() as tx:
        entry = tx.outbox_entry(message_id)
        attempts = tx.deliveries(message_id, limit=_SLICE)
    if entry is None and not attempts:
        raise Refused(
            f"Neither the outbox nor the log has {message_id}. `s3lite callback list` shows what there is."
        )
    document = _entry_row(entry) if entry else _delivery_row(attempts[-1])
    if with_body and entry:
        document["body"] = _text(entry.body)
    document["log"] = [_attempt(attempt, with_body=with_body) for attempt in attempts]
    lines = [f"{name:<12} {_shown(value)}" for name, value in document.items() if name != "log"]
    for attempt in document["log"] if isinstance(document["log"], list) else []:
        lines += ["", *(f"  {name:<15} {_shown(value)}" for name, value in attempt.items())]
    app().emit(document, "\n".join(lines))


def _attempt(delivery: Delivery, *, with_body: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "attempt": delivery.attempt,
        "time": when(delivery.at_ms),
        "url": delivery.url,
        "status": delivery.status or "",
        "duration_ms": delivery.cost_ms,
        "message": delivery.message,
        "cause": delivery.cause,
        "sent_bytes": delivery.sent_bytes,
        "received_bytes": delivery.received_bytes,
    }
    if with_body:
        found |= {"sent": _text(delivery.body), "answer": _text(delivery.answer)}
    return found


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")


def _shown(value: object) -> str:
    return "-" if value in (None, "") else printable(str(value))


# ---------------------------------------------------------------- retry and purge


@callback.command()
@click.argument("message_ids", metavar="[ID]...", nargs=-1)
@click.option("--all-dead", is_flag=True, help="Every dead one that the other options choose.")
@_filters
@shared_options
def retry(message_ids: tuple[str, ...], all_dead: bool, bucket: str, destination: str, since: int) -> None:
    """Send again, under the same webhook-id.

    Dead callbacks and notifications get their whole schedule anew; queued ones do not wait any longer.

    \b
    s3lite callback retry msg_2KWPBgLlAfxdpx2AI54pPJ85f4W
    s3lite callback retry --all-dead --destination https://app.example/hook

    The server sends them within outbox.poll_s; this command only says so.
    """
    from s3lite.core.outbox import lifetime_ms

    _require_choice(message_ids, all_dead)
    now_ms = Clock().time_ms()
    expires_ms = now_ms + lifetime_ms(app().settings.outbox)
    chosen = Chosen(bucket, destination, message_ids or None, since)
    with app().storage(create=False) as storage:
        if message_ids:
            _require_known(storage.catalog.read, message_ids)

        def work(tx: Tx) -> int:
            return tx.revive_outbox(chosen, dead_only=all_dead, now_ms=now_ms, expires_ms=expires_ms)

        count = storage.catalog.write(work)
    app().emit({"retried": count}, f"{count} will be sent again.")
    if count < len(message_ids):
        note("The others are being sent at this moment.")


@callback.command()
@click.argument("message_ids", metavar="[ID]...", nargs=-1)
@click.option("--all-dead", is_flag=True, help="Every dead one that the other options choose.")
@click.option("--log", "with_log", is_flag=True, help="Empty the delivery log instead.")
@_filters
@shared_options
def purge(
    message_ids: tuple[str, ...],
    all_dead: bool,
    with_log: bool,
    bucket: str,
    destination: str,
    since: int,
) -> None:
    """Forget dead callbacks and notifications, or the delivery log.

    What is queued stays: it is owed. Dead ones are forgotten after outbox.dead_days anyway.
    """
    if with_log:
        if message_ids or all_dead or bucket or destination or since:
            raise click.UsageError("--log empties the whole log and takes no other option.")
        with app().storage(create=False) as storage:
            count = _in_slices(
                storage.catalog.write,
                lambda tx: tx.forget_deliveries(before_ms=1 << 60, keep=1 << 60, limit=_SLICE),
            )
        app().emit({"attempts": count}, f"{count} attempts forgotten.")
        return
    _require_choice(message_ids, all_dead)
    chosen = Chosen(bucket, destination, message_ids or None, since)
    with app().storage(create=False) as storage:
        count = _in_slices(storage.catalog.write, lambda tx: tx.purge_outbox(chosen, limit=_SLICE))
    app().emit({"purged": count}, f"{count} forgotten.")
    if count < len(message_ids):
        raise Refused("Only dead ones are purged; `s3lite callback list` shows which those are.")


def _require_choice(message_ids: tuple[str, ...], all_dead: bool) -> None:
    if bool(message_ids) == all_dead:
        raise click.UsageError("Give ids, or --all-dead.")


def _require_known(read: Callable[[], Any], message_ids: tuple[str, ...]) -> None:
    with read() as tx:
        for message_id in message_ids:
            if tx.outbox_entry(message_id) is not None:
                continue
            if tx.deliveries(message_id, limit=1):
                raise Refused(
                    f"{message_id} is not in the outbox: it was delivered, or sent with mode sync, "
                    "of which nothing is kept to send again."
                )
            raise Refused(f"There is no {message_id}. `s3lite callback list` shows what there is.")


def _in_slices(write: Callable[[Callable[[Tx], int]], int], forget: Callable[[Tx], int]) -> int:
    count = 0
    while True:
        gone = write(forget)
        count += gone
        if gone < _SLICE:
            return count
