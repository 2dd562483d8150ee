"""What CompleteMultipartUpload has answered, as SQL: the part of `sql_write` that remembers it."""
# ruff: noqa: S608  # only the constants of this package are put together; values are always bound

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lite.catalog import rows
from s3lite.model import Completion

if TYPE_CHECKING:
    from s3lite.catalog.sql import Session


class CompletionChanges:
    """Changes of it, inside a transaction."""

    _session: Session

    def put_completion(self, completion: Completion) -> None:
        self._session.later("DELETE FROM completions WHERE upload_id = ?", (completion.upload_id,))
        self._session.later(
            f"INSERT INTO completions ({rows.COMPLETION_COLUMNS}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                completion.upload_id,
                completion.bucket_id,
                completion.key.encode(),
                completion.fingerprint,
                completion.etag,
                completion.version_id,
                completion.size,
                completion.completed_ms,
                *rows.encode_checksum(completion.checksum),
                completion.callback,
                completion.callback_var,
                completion.callback_access_key,
                completion.callback_id,
                completion.callback_state,
                completion.callback_reply,
                completion.callback_reply_type,
            ),
        )

    def set_completion_callback(
        self, upload_id: str, *, state: str, reply: bytes = b"", reply_type: str = ""
    ) -> None:
        self._session.run(
            "UPDATE completions SET callback_state = ?, callback_reply = ?, callback_reply_type = ? "
            "WHERE upload_id = ?",
            (state, reply, reply_type, upload_id),
        )

    def forget_completions(self, *, before_ms: int) -> int:
        return self._session.run("DELETE FROM completions WHERE completed_ms < ?", (before_ms,))
