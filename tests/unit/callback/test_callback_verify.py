from __future__ import annotations

import ast
import base64
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives import serialization
from unit.callback.callback_kit import SECRET, VECTORS

from s3lite.callback import verify as module
from s3lite.callback.listen import Receiver
from s3lite.callback.signing import CallbackKeys
from s3lite.callback.verify import CallbackGuard, VerificationError, oss_signature_fits, verify

VECTOR = json.loads((VECTORS / "signatures.json").read_text(encoding="utf-8"))
BODY = VECTOR["body"].encode()
AT = VECTOR["timestamp"]
HEADERS = {
    "Webhook-Id": VECTOR["id"],
    "webhook-timestamp": str(AT),
    "webhook-signature": f"v1,AAAA v9,x {VECTOR['v1']} {VECTOR['v1a']}",
}


def test_vectors() -> None:
    assert verify(HEADERS, BODY, secrets=["whsec_AAAA", SECRET], now=AT + 299) == VECTOR["id"]
    assert verify(HEADERS, BODY, public_keys=[VECTOR["ed25519_public"]], now=AT - 299) == VECTOR["id"]


@pytest.mark.parametrize(
    ("headers", "body", "now"),
    [
        ({}, BODY, AT),
        ({"Webhook-Id": "msg_2"}, BODY, AT),
        ({"webhook-timestamp": str(AT + 1)}, BODY, AT),
        ({"webhook-timestamp": "1e9"}, BODY, AT),
        ({"webhook-signature": ""}, BODY, AT),
        ({"webhook-signature": "v1,é v1a,é v1 v1a,AAAA"}, BODY, AT),
        ({"x": "y"}, BODY + b" ", AT),
        ({"x": "y"}, BODY, AT + 301),
        ({"x": "y"}, BODY, AT - 301),
    ],
)
def test_forgeries(headers: Mapping[str, str], body: bytes, now: float) -> None:
    sent = {**HEADERS, **headers} if headers else {}
    with pytest.raises(VerificationError):
        verify(sent, body, secrets=[SECRET], public_keys=[VECTOR["ed25519_public"]], now=now)


def test_without_keys_nothing_verifies() -> None:
    with pytest.raises(VerificationError):
        verify(HEADERS, BODY, now=AT)


def test_oss_vector() -> None:
    key = serialization.load_der_public_key(base64.b64decode(VECTOR["oss_public"]))
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = VECTOR["oss_body"].encode()
    assert oss_signature_fits(VECTOR["oss_target"], body, VECTOR["oss_signature"], pem)
    assert not oss_signature_fits(VECTOR["oss_target"] + "0", body, VECTOR["oss_signature"], pem)
    assert not oss_signature_fits(VECTOR["oss_target"], body, "", pem)


def test_the_verifier_can_be_copied() -> None:
    """Nothing of s3lite; cryptography only inside the functions that need it."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {
        name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        )
    }
    assert names <= set(sys.stdlib_module_names)


def test_wsgi_middleware(keys: CallbackKeys) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["s3lite.callback_id"].encode(), environ["wsgi.input"].read()]

    def call(body: bytes, signature: str, **more: str) -> tuple[str, bytes]:
        statuses: list[str] = []
        environ = {
            "HTTP_WEBHOOK_ID": VECTOR["id"], "HTTP_WEBHOOK_TIMESTAMP": str(AT), "HTTP_WEBHOOK_SIGNATURE": signature,
            "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body + b"next request"), **more,
        }  # fmt: skip
        guard = CallbackGuard(app, secrets=[SECRET], now=AT)
        answer = b"".join(guard(environ, lambda status, headers: statuses.append(status)))
        return statuses[0], answer

    assert call(BODY, VECTOR["v1"]) == ("200 OK", VECTOR["id"].encode() + BODY)
    assert call(BODY + b"x", VECTOR["v1"])[0] == "403 Forbidden"
    assert call(BODY, VECTOR["v1"], CONTENT_LENGTH="65537")[0] == "403 Forbidden"
    assert call(BODY, VECTOR["v1"], CONTENT_LENGTH="-1")[0] == "403 Forbidden"
    assert call(BODY, VECTOR["v1"], CONTENT_LENGTH="x")[0] == "403 Forbidden"


def test_recent_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    seen = module.RecentIds(keep_s=10, most=3)
    assert [seen.is_new(each) for each in ("a", "b", "a", "c")] == [True, True, False, True]
    assert seen.is_new("d")  # the oldest makes room
    assert [seen.is_new(each) for each in ("b", "a")] == [False, True]
    now += 11
    assert seen.is_new("d")


def post(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    with urlopen(Request(url, body, dict(headers), method="POST"), timeout=5) as answer:
        data: bytes = answer.read()
    return data


def test_receiver_says_what_does_not_verify(keys: CallbackKeys) -> None:
    with Receiver(secrets=[SECRET], oss_pem=keys.public_pem()) as receiver:
        assert post(receiver.url("/cb"), BODY, HEADERS) == b'{"Status":"OK"}'
        (got,) = receiver.wait()
        with pytest.raises(TimeoutError):
            receiver.wait(2, timeout_s=0.01)
    assert got.webhook == "the timestamp is too old or too new"
    assert got.oss == "no signature fits"
