"""Short ways to make callbacks, for the tests of all their modes."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

BODY = "bucket=${bucket}&filename=${object}&size=${size}&mimeType=${mimeType}&my_var=${x:var1}"
VARIABLES = {"x:var1": "value1", "x:var2": "value2"}
CONTENT = b"this is content"


def encode(document: Any) -> str:
    """Base64 of JSON, as requests carry it."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def callback(url: str, **more: Any) -> dict[str, Any]:
    return {"callbackUrl": url, "callbackBody": BODY} | more


def headers(url: str, **more: Any) -> dict[str, str]:
    return {
        "x-amz-meta-callback": encode(callback(url, **more)),
        "x-amz-meta-callback-var": encode(VARIABLES),
        "Content-Type": "text/plain",
    }


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
