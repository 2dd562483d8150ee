"""What an embedding program may say and hear, in process: who asks, whether they may, what was stored.

Hooks take away and add nothing: `authorize` can refuse what the server's own rules allow, never the
reverse. What a hook raises beside `Refused` fails the request (500), but for `on_event`, which runs when
everything is done: what that raises is logged.

Source: docs/embedding.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from s3lite.errors import Code, S3Error
from s3lite.model import AccessKey, Account, Identity

log = logging.getLogger("s3lite")

Event = Mapping[str, Any]

UPLOADS = frozenset(
    {
        "PutObject",
        "PostObject",
        "CopyObject",
        "CreateMultipartUpload",
        "CompleteMultipartUpload",
        "AppendObject",
    }
)
"""Operations that `Hooks.before_upload` is asked about."""


class Refused(Exception):  # what a hook says, not what went wrong in it
    """Raised by a hook to refuse a request: an S3 code and the words that the client is told.

    Raises ValueError when there is no such code.
    """

    def __init__(self, message: str, *, code: str = "AccessDenied") -> None:
        super().__init__(message)
        if code not in Code.__members__:
            raise ValueError(f"{code} is no code of s3lite.errors.Code")
        self.error = S3Error(Code[code], message)


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision about to be made. ``key`` is "" where a bucket is meant, ``size`` None where unknown.

    ``action`` is the permission (s3:PutObject …), ``operation`` the request's name in the API Reference:
    DeleteObjects asks for s3:DeleteObject once for each key.
    """

    operation: str
    action: str
    bucket: str
    key: str
    account_id: str  # "" for anonymous
    access_key: str
    client_ip: str
    size: int | None
    headers: Mapping[str, str]  # lower-case names
    environ: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one application; None is absent.

    - ``identify(environ)``: the id of the account that the host has authenticated already; None leaves
      it to the request's signature.
    - ``authorize(asked)``: False refuses; asked only about what the server's own rules allow.
    - ``before_upload(asked)``: asked before a body is read; raises `Refused` to refuse it.
    - ``on_event(event)``: told of each upload that is stored, before its uploader is answered.
    """

    identify: Callable[[Mapping[str, Any]], str | None] | None = None
    authorize: Callable[[Asked], bool] | None = None
    before_upload: Callable[[Asked], None] | None = None
    on_event: Callable[[Event], None] | None = None

    def allows(self, asked: Asked) -> bool:
        """What `authorize` says. Raises S3Error."""
        if self.authorize is None:
            return True
        try:
            return self.authorize(asked)
        except Refused as refused:
            raise refused.error from None

    def check_upload(self, asked: Asked) -> None:
        """Let `before_upload` refuse an upload. Raises S3Error."""
        if self.before_upload is not None and asked.operation in UPLOADS:
            try:
                self.before_upload(asked)
            except Refused as refused:
                raise refused.error from None

    def tell(self, event: Event) -> None:
        """Tell of an upload; what the hook raises changes nothing."""
        if self.on_event is None:
            return
        try:
            self.on_event(event)
        except Exception:  # the hook is foreign code, and the object is stored
            log.exception("on_event failed for request %s", event.get("request_id"))

    def identity(
        self, environ: Mapping[str, Any], account: Callable[[str], Account | None]
    ) -> Identity | None:
        """Whom the host has authenticated, if anyone. Raises AccessDenied for an account that is not there.

        A host's own session is sent along by browsers whatever page they are on, so requests that another
        site's page caused are refused.
        """
        account_id = self.identify(environ) if self.identify is not None else None
        if account_id is None:
            return None
        if environ.get("HTTP_SEC_FETCH_SITE") == "cross-site":
            raise S3Error(Code.AccessDenied, "Requests of other sites' pages must be signed.")
        found = account(account_id)
        if found is None:
            raise S3Error(Code.AccessDenied, f"There is no account {account_id[:128]}.")
        return Identity("host", AccessKey("", "", found))
