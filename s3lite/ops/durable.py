"""Callbacks that are kept until they are delivered: modes ``async`` and ``sync-retry``.

The row in the outbox joins the transaction that publishes the object (`Owed.tell`), so from the commit on
the message is owed, whatever happens to this process. With ``sync-retry`` the first attempt is made here,
under a lease that the row is born with; when it fails, or this process dies, the courier goes on.

A body that tells of an image is filled in again after the commit, when the image can be read. If the
process dies in between, the message goes out with these variables empty.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from s3lite.callback.send import Message, Outcome, message_of
from s3lite.catalog.base import CatalogBusyError, Tx
from s3lite.context import Context
from s3lite.core.carriers import callback_entry, result_of
from s3lite.core.outbox import judge
from s3lite.core.pending import Content
from s3lite.messages import OutboxEntry
from s3lite.model import Bucket, ObjectVersion
from s3lite.ops import finish
from s3lite.ops.finish import Prepared
from s3lite.responses import Headers, Response

log = logging.getLogger("s3lite")


@dataclass(slots=True)
class Owed:
    """A durable callback of an upload that is about to be published."""

    ctx: Context
    operation: str
    callback: Prepared
    callback_id: str
    content_md5: str = ""  # hex
    entry: OutboxEntry | None = None  # once the transaction has written it

    @property
    def is_async(self) -> bool:
        return self.callback.spec.mode == "async"

    def tell(self, tx: Tx, _bucket: Bucket, version: ObjectVersion) -> None:
        """Write the row. Part of the committing transaction, and as quick as that must be."""
        store = self.ctx.store
        entry = callback_entry(store, self._message(version, with_image=False), self.operation)
        if not self.is_async or self.callback.spec.template.needs_image:
            lease_ms = int(store.settings.outbox.lease_s * 1000)
            entry = replace(entry, holder=self.ctx.request_id, due_ms=entry.due_ms + lease_ms)
        if not self.is_async:
            entry = replace(entry, attempts=1)
        tx.add_outbox(entry)
        self.entry = entry

    def finish(
        self,
        version: ObjectVersion,
        answer: Response,
        extra: Headers,
        on_outcome: Callable[[Outcome], None] | None,
    ) -> Response:
        """After the commit: the first attempt, if it is this request's, and the answer."""
        message = self._complete_body(version)
        if self.is_async:
            outcome = Outcome(True, self.callback_id, None)
            return finish.answer_for(
                self.ctx, version, self.callback, outcome, answer, extra, status="queued"
            )
        outcome = self.ctx.services.callbacks.deliver_message(message)
        status = self._settle(outcome)
        if outcome.ok and on_outcome is not None:
            on_outcome(outcome)
        return finish.answer_for(self.ctx, version, self.callback, outcome, answer, extra, status=status)

    def _message(self, version: ObjectVersion, *, with_image: bool) -> Message:
        event = finish.event(
            self.ctx,
            self.operation,
            Content(version),
            self.callback,
            self.content_md5,
            self.callback_id,
            with_image=with_image,
        )
        return message_of(
            self.callback.spec,
            event,
            requester=self.callback.requester,
            pub_key_url=finish.public_url(self.ctx) + "/.s3lite/callback-key.pem",
            reply=self.callback.reply,
            mode=self.callback.spec.mode,
        )

    def _complete_body(self, version: ObjectVersion) -> Message:
        """The message as it is sent; a row that waits for its image gets it."""
        needs_image = self.callback.spec.template.needs_image
        message = self._message(version, with_image=needs_image)
        entry = self.entry
        assert entry is not None
        if needs_image:
            due_ms = self.ctx.store.clock.time_ms() if self.is_async else entry.due_ms
            body = message.body
            try:
                self.ctx.store.catalog.write(lambda tx: tx.rewrite_outbox(entry, body=body, due_ms=due_ms))
            except (CatalogBusyError, OSError) as error:
                log.warning("callback %s goes out without imageInfo: %s", self.callback_id, error)
            self.ctx.store.outbox.wake()
        return message

    def _settle(self, outcome: Outcome) -> str:
        """Hand the row on, or have it removed; what the answer says of it."""
        store = self.ctx.store
        entry = self.entry
        assert entry is not None
        settlement = judge(
            entry,
            result_of(outcome, urls=len(self.callback.spec.urls)),
            settings=store.settings.outbox,
            ids=store.ids,
            now_ms=store.clock.time_ms(),
        )
        store.outbox.settle(settlement)
        return {"ok": "ok", "dead": "failed"}.get(settlement.result, "queued")


def owed(
    ctx: Context, operation: str, callback: Prepared | None, *, callback_id: str = "", content_md5: str = ""
) -> Owed | None:
    """What an upload's transaction has to write of its callback; None if nothing."""
    if callback is None or not callback.spec.is_durable:
        return None
    return Owed(ctx, operation, callback, callback_id or ctx.store.ids.message(), content_md5)


def repeated(
    ctx: Context,
    version: ObjectVersion,
    callback: Prepared,
    callback_id: str,
    answer: Response,
    extra: Headers,
) -> Response:
    """The answer to a repeated Complete whose callback was left to the outbox: how far that has come."""
    with ctx.store.catalog.read() as tx:
        entry = tx.outbox_entry(callback_id)
    status = "ok" if entry is None else "failed" if entry.is_dead else "queued"
    outcome = Outcome(
        entry is None or not entry.message, callback_id, None, message=entry.message if entry else ""
    )
    standard = replace(callback, reply="standard")  # the application's answer, if there was one, is not kept
    return finish.answer_for(ctx, version, standard, outcome, answer, extra, status=status)
