"""The paths under ``/.s3lite/``: health, readiness, public keys, bytes that a gate decides about; not the console.

No bucket name begins with a dot, so they never stand in the way of one.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from contextlib import suppress

from s3lite.context import Services
from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead
from s3lite.ops import gate
from s3lite.responses import Response
from s3lite.settings import MetricsSettings

PREFIX = ".s3lite"

log = logging.getLogger("s3lite")


def is_console(head: RequestHead) -> bool:
    """Whether a request for a reserved path is for the console's pages."""
    return head.target.key == "console" or head.target.key.startswith("console/")


def check_may_read_metrics(head: RequestHead, settings: MetricsSettings, client_ip: str) -> None:
    """Raise AccessDenied unless the asker has the token, or an address that needs none.

    What came through a proxy has the proxy's address, so it needs the token whatever that address is.
    """
    given = head.headers.get("authorization", "")
    if settings.token and hmac.compare_digest(given.encode(), f"Bearer {settings.token}".encode()):
        return
    proxied = any(name in head.headers for name in ("x-forwarded-for", "forwarded", "via"))
    with suppress(ValueError):
        address = ipaddress.ip_address(client_ip)
        if not proxied and any(address in ipaddress.ip_network(entry) for entry in settings.allow):
            return
    raise S3Error(
        Code.AccessDenied, "Metrics are read with metrics.token, or from an address of metrics.allow."
    )


def answer(head: RequestHead, services: Services) -> Response:
    """Answer a request for a reserved path. Raises MethodNotAllowed, NoSuchKey."""
    if head.method not in ("GET", "HEAD"):
        raise S3Error(Code.MethodNotAllowed, headers={"Allow": "GET, HEAD"})
    if head.target.key.startswith("pending/"):
        return gate.pending_content(head, services)
    match head.target.key:
        case "health":
            return _text(200, "ok\n")
        case "ready":
            return _ready(services)
        case "callback-key.pem":
            pem = services.callback_keys.public_pem()
            return Response(200, [("Content-Type", "application/x-pem-file")], pem)
        case "callback-keys.json":
            keys = services.callback_keys.public_keys_json()
            return Response(200, [("Content-Type", "application/json")], keys)
    raise S3Error(
        Code.NoSuchKey, "Under /.s3lite/ there are health, ready, callback-key.pem and callback-keys.json."
    )


def _ready(services: Services) -> Response:
    """200 while index and bytes answer, 503 with a word why they do not."""
    try:
        with services.store.catalog.read() as tx:
            tx.setting("ready")
        services.store.blobs.ready()
    except Exception as problem:  # noqa: BLE001  # whatever breaks storage means not ready
        log.warning("not ready: %s", problem)
        return _text(503, "storage does not answer\n")
    return _text(200, "ready\n")


def _text(status: int, text: str) -> Response:
    return Response(status, [("Content-Type", "text/plain; charset=utf-8")], text.encode())
