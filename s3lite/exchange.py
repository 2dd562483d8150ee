"""What is known of a request so far, and what the logs say of it once it is answered."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace

from s3lite.context import Beside, Context, Route
from s3lite.core.access_log import AccessLog
from s3lite.model import ANONYMOUS, Identity, RequestHead
from s3lite.responses import NO_BODY_STATUSES, Headers, Response
from s3lite.target import Environ
from s3lite.wire import access_log as lines
from s3lite.wire.bucket_logging import Destination, day_of

log = logging.getLogger("s3lite")
_quoted = json.encoder.encode_basestring


class Exchange:
    """One request, for its log lines and its error document."""

    __slots__ = (
        "caller", "cors", "ctx", "destination", "error", "head", "oss", "request_id", "route", "status",
    )  # fmt: skip

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.head: RequestHead | None = None
        self.route: Route | None = None
        self.caller: Identity = ANONYMOUS
        self.cors: Headers = []  # for the answer, whatever it will be
        self.oss: RequestHead | None = None  # as sent, if it was in the dialect of OSS
        self.ctx: Context | None = None
        self.destination: Destination | None = None  # of a line about it
        self.status = 0  # of the answer, once there is one
        self.error = ""  # its code

    @property
    def operation(self) -> str:
        """Its name; "" while it is not known."""
        return self.route.operation if self.route else ""


def tell_operator(exchange: Exchange, environ: Environ, response: Response, elapsed_s: float) -> None:
    """One JSON line on standard error."""
    key, ctx, head = exchange.caller.key, exchange.ctx, exchange.head
    bucket, name = (head.target.bucket, head.target.key) if head else ("", "")
    # Only what a peer chooses needs JSON's escapes; encoding the whole line costs three times as much.
    sys.stderr.write(
        f'{{"request_id": "{exchange.request_id}", "operation": "{exchange.operation}", '
        f'"method": {_quoted(environ["REQUEST_METHOD"])}, "bucket": {_quoted(bucket)}, "key": {_quoted(name)}, '
        f'"status": {response.status}, "error": "{response.error}", '
        f'"bytes_in": {ctx.received if ctx else 0}, "bytes_out": {response.size or 0}, '
        f'"ready_ms": {elapsed_s * 1000:.2f}, '
        f'"caller": {_quoted(key.shown if key else "")}, "account": {_quoted(key.account.id if key else "")}, '
        f'"client": {_quoted(ctx.client_ip if ctx else environ.get("REMOTE_ADDR", ""))}}}\n'
    )


# ---------------------------------------------------------------- the log of a bucket


def tell_bucket(
    access_log: AccessLog,
    exchange: Exchange,
    environ: Environ,
    response: Response,
    *,
    started_s: float,
    elapsed_s: float,
    client_ip: str,
    host_id: str,
) -> None:
    """Leave a line in the log of the request's bucket, if it keeps one, and of other buckets that it touched.

    A log that cannot be kept fails no request.
    """
    head, ctx = exchange.head, exchange.ctx
    assert head is not None
    try:
        destination = exchange.destination
        if ctx is None:  # refused before its bucket was looked at
            destination = access_log.destination(None, head.target.bucket)
        if destination is None and not (ctx and ctx.beside):
            return
        record = _record(exchange, environ, response)
        record = replace(
            record, at_s=started_s, total_ms=int(elapsed_s * 1000), client_ip=client_ip, host_id=host_id
        )
        if destination is not None:
            _note(access_log, destination, record)
        for beside in ctx.beside if ctx is not None else ():
            elsewhere = (
                destination
                if beside.bucket is None
                else access_log.destination(beside.bucket, beside.bucket.name)
            )
            if elsewhere is not None:
                _note(access_log, elsewhere, _part_of(record, beside))
    except Exception:  # the request is done, whatever became of its line
        log.exception("no line was logged for request %s", exchange.request_id)


def _note(access_log: AccessLog, destination: Destination, record: lines.Record) -> None:
    record = replace(
        record, owner_id=destination.owner_id, bucket=destination.source, region=destination.region
    )
    day = day_of(destination.logging, record.at_s)
    access_log.note(replace(destination, day=day) if day else destination, lines.line(record))


def _record(exchange: Exchange, environ: Environ, response: Response) -> lines.Record:
    head, ctx = exchange.head, exchange.ctx
    assert head is not None
    sent = exchange.oss or head
    method = environ["REQUEST_METHOD"]
    has_body = method != "HEAD" and response.status not in NO_BODY_STATUSES
    return lines.Record(
        owner_id="",
        bucket="",
        at_s=0,
        client_ip="",
        request_id=exchange.request_id,
        operation=lines.operation_name(method, exchange.operation),
        key=head.target.key,
        status=response.status,
        caller=exchange.caller,
        region="",
        method=method,
        uri=f"{sent.path}?{sent.query}" if sent.query else sent.path,
        protocol=environ.get("SERVER_PROTOCOL", "HTTP/1.1"),
        error=response.error,
        sent_bytes=(response.size or 0) if has_body else 0,
        object_bytes=_object_bytes(ctx),
        referrer=head.headers.get("referer", ""),
        user_agent=head.headers.get("user-agent", ""),
        version_id=ctx.params.get("versionId", "") if ctx is not None else "",
        host=head.headers.get("host", ""),
    )


def _object_bytes(ctx: Context | None) -> int | None:
    if ctx is None:
        return None
    if ctx.version is not None and not ctx.version.is_delete_marker:
        return ctx.version.size
    return ctx.received if ctx.received and ctx.route.permission == "s3:PutObject" else None


def _part_of(record: lines.Record, beside: Beside) -> lines.Record:
    """The line of something that the request did beside its operation."""
    status = 204 if beside.error is None else beside.error.status
    if beside.error is None and beside.operation != lines.DELETED:
        status = record.status
    return replace(
        record,
        operation=beside.operation,
        key=beside.key,
        version_id=beside.version_id,
        status=status,
        error=beside.error.code.wire_name if beside.error is not None else record.error,
        object_bytes=beside.size,
        sent_bytes=0,
        total_ms=None,
        method="",
    )
