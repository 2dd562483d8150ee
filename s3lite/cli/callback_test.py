"""``s3lite callback test``: send a sample, and say what comes of it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from s3lite.cli.base import Refused, app, fault_text, note, printable, shared_options
from s3lite.ids import Ids
from s3lite.times import Clock, rfc3339

if TYPE_CHECKING:
    from s3lite.callback.send import Attempt, Outcome
    from s3lite.callback.spec import CallbackSpec
    from s3lite.model import AccessKey

_BODY = "bucket=${bucket}&key=${object}&size=${size}&etag=${etag}&id=${callbackId}"
_SAMPLE = b"a sample"
_SHOWN = 300  # bytes of an answer


@click.command("test")
@click.argument("url", metavar="URL[;URL…]")
@click.option("--body", default=_BODY, show_default=True, help="The template.")
@click.option("--body-type", help="application/x-www-form-urlencoded (default) or application/json.")
@click.option(
    "--reply", type=click.Choice(("passthrough", "standard")), default="passthrough", show_default=True
)
@click.option("--mode", type=click.Choice(("sync", "gate")), default="sync", show_default=True)
@click.option(
    "--bucket",
    default="sample-bucket",
    show_default=True,
    help="${bucket}; its policies' secrets sign, if it exists.",
)
@click.option("--key", default="sample/key.txt", show_default=True, help="${object}")
@click.option("--access-key", help="Sign as for an upload with this key instead of root's.")
@click.option("--as-policy", is_flag=True, help="Sign with the secrets of --bucket, as its policies do.")
@shared_options
def callback_test(
    url: str,
    body: str,
    body_type: str | None,
    reply: str,
    mode: str,
    bucket: str,
    key: str,
    access_key: str | None,
    as_policy: bool,
) -> None:
    """Send a signed sample to an application and explain its answer.

    The sample tells of an object that does not exist. It goes through the same checks as callbacks of
    uploads; what the server would log is printed. Exit code 1 if an uploader would see a failure.

    \b
    s3lite callback test https://app.example/hook
    s3lite callback test http://127.0.0.1:9000/scan --mode gate --body 'look=${pendingUrl}'
    """
    from s3lite.callback.send import CallbackSender
    from s3lite.errors import S3Error

    fields = {"callbackUrl": url, "callbackBody": body, "callbackMode": mode, "callbackReply": reply}
    attempts: list[Attempt] = []
    with app().storage(create=False) as storage, storage.catalog.read() as tx:
        requester = tx.access_key(access_key) if access_key else storage.root
        if requester is None:
            raise Refused(f"There is no access key {printable(access_key or '')}.")
        known = tx.bucket(bucket) if as_policy else None
        if as_policy and known is None:
            raise Refused(f"There is no bucket {printable(bucket)} whose policies could sign.")
    sender = CallbackSender(app().settings.callback, keys=storage.callback_keys, on_log=attempts.append)
    with _logged():
        try:
            spec = replace(_spec(fields, body_type), policy_bucket=known.id if known else 0)
            sender.check(spec)
            outcome = _send(sender, spec, requester, bucket=bucket, key=key, reply=reply)
        except S3Error as fault:
            raise Refused(f"An upload with this callback is refused: {fault_text(fault)}") from fault
        finally:
            sender.close()
    _explain(attempts, outcome, mode=mode, reply=reply, access_key=requester.access_key)


def _spec(fields: dict[str, Any], body_type: str | None) -> CallbackSpec:
    from s3lite.callback.spec import build

    return build(fields | ({"callbackBodyType": body_type} if body_type else {}), {})


def _send(
    sender: Any, spec: CallbackSpec, requester: AccessKey, *, bucket: str, key: str, reply: str
) -> Outcome:
    from s3lite.callback.render import Event

    settings = app().settings
    base = settings.callback.public_url.rstrip("/") or f"http://{settings.bind}"
    event = Event(
        bucket=bucket,
        key=key,
        etag=hashlib.md5(_SAMPLE, usedforsecurity=False).hexdigest(),
        size=len(_SAMPLE),
        mime_type="text/plain",
        operation="PutObject",
        client_ip="127.0.0.1",
        request_id=Ids().request(),
        callback_id=Ids().message(),
        event_time=rfc3339(Clock().time()),
        pending_url=f"{base}/.s3lite/pending/0?token=sample" if spec.is_gate else "",
    )
    key_url = f"{base}/.s3lite/callback-key.pem"
    how = "gate" if spec.is_gate else reply
    outcome: Outcome = sender.deliver(spec, event, requester=requester, pub_key_url=key_url, reply=how)
    return outcome


@contextmanager
def _logged() -> Iterator[None]:
    """Print what the server would log: refusals name the setting that lifts them."""
    logger, handler = logging.getLogger("s3lite.callback"), _Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


# ---------------------------------------------------------------- the verdict


def _explain(attempts: list[Attempt], outcome: Outcome, *, mode: str, reply: str, access_key: str) -> None:
    seen = _as_seen(outcome, mode=mode, reply=reply)
    advice = _advice(outcome, attempts, mode=mode, access_key=access_key)
    is_good = outcome.ok
    document = {
        "ok": is_good,
        "webhook_id": outcome.callback_id,
        "attempts": [
            {
                "url": each.url,
                "status": each.status,
                "cost_ms": each.cost_ms,
                "message": each.message,
                "cause": each.cause,
            }
            for each in attempts
        ],
        "answer": outcome.body[:_SHOWN].decode("utf-8", "replace"),
        "uploader_sees": seen,
        "advice": advice,
    }
    lines = [
        f"{each.url}: {each.message or 'ok'}{each.cause and f' ({each.cause})'}, "
        f"status {each.status}, {each.cost_ms} ms"
        for each in attempts
    ]
    lines.append(f"An uploader would see: {seen}")
    app().emit(document, "\n".join(map(printable, [*lines, *advice])))
    if not is_good:
        click.get_current_context().exit(1)


def _as_seen(outcome: Outcome, *, mode: str, reply: str) -> str:
    """What the uploader gets, in a line."""
    from s3lite.callback import reply as replies

    if outcome.is_refused:
        why = replies.reason(outcome.body, outcome.content_type)
        return f"403 CallbackRejected{why and f': {why}'}"
    if mode == "gate" and not outcome.ok:
        return f"503 ServiceUnavailable, nothing stored: {outcome.message}"
    if not outcome.ok:
        shown = (
            "S3's usual answer, or 424 with callbackOnFailure error"
            if reply == "standard"
            else "203 CallbackFailed"
        )
        return f"{shown}: {outcome.message}"
    if reply == "standard" or not replies.is_well_formed(outcome.body, outcome.content_type):
        return "S3's usual answer"
    return f"200 {outcome.content_type} {outcome.body[:_SHOWN].decode('utf-8', 'replace')}"


def _advice(outcome: Outcome, attempts: list[Attempt], *, mode: str, access_key: str) -> list[str]:
    """What to look at, from the likeliest on."""
    from s3lite.callback.reply import NOT_JSON

    if outcome.ok:
        return []
    status, cause = outcome.status, attempts[-1].cause if attempts else ""
    if status in (401, 403):
        return [
            "If the application refuses the signature: it needs the secret that "
            f"`s3lite key webhook-secret {access_key}` prints (of policies: `s3lite callback policy show`), "
            "the body as it was received, and a clock that is right to five minutes. "
            "`s3lite callback listen` shows that the signature fits when it leaves."
        ]
    if status is not None and 300 <= status < 400:
        return ["Redirects are not followed: use the URL that it redirects to."]
    if status in (404, 405):
        return ["The application has nothing for POST at this path."]
    if outcome.message == NOT_JSON:
        return ['Answer JSON ("OK" with the quotes is JSON, OK is not), or set callbackReply to standard.']
    if mode == "sync" and status is not None and 200 < status < 300:
        return ["Under passthrough exactly 200 is success; any 2xx is under standard."]
    if "Certificate" in cause or "certificate" in cause:
        return ["The certificate does not verify. For a private authority set callback.ca_file."]
    if "Timeout" in cause or "timeout" in outcome.message:
        return [
            "Answer first and work later, or raise callback.timeout_s (callback.gate_timeout_s of gates)."
        ]
    if "refused" in cause:
        return ["Nothing listens there, as seen from this machine."]
    return []
