from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from unit.callback.callback_kit import VECTORS

from s3lite.callback.signing import CallbackKeys, new_webhook_secret, oss_signed_bytes, secret_bytes

VECTOR = json.loads((VECTORS / "signatures.json").read_text(encoding="utf-8"))


def test_standard_webhooks_vectors(keys: CallbackKeys) -> None:
    known = CallbackKeys(
        keys.rsa, (Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["ed25519_seed"])),)
    )
    header = known.webhook_signature(
        VECTOR["id"], VECTOR["timestamp"], VECTOR["body"].encode(), [VECTOR["secret"]]
    )
    assert header == f"{VECTOR['v1']} {VECTOR['v1a']}"
    assert known.public_keys() == [VECTOR["ed25519_public"]]


def test_oss_vector_pins_what_is_signed() -> None:
    path, _, query = VECTOR["oss_target"].partition("?")
    public = serialization.load_der_public_key(base64.b64decode(VECTOR["oss_public"]))
    assert isinstance(public, RSAPublicKey)
    signed = oss_signed_bytes(path, query, VECTOR["oss_body"].encode())
    public.verify(base64.b64decode(VECTOR["oss_signature"]), signed, PKCS1v15(), hashes.MD5())


def test_oss_path_is_decoded_and_query_is_not(keys: CallbackKeys) -> None:
    assert oss_signed_bytes("/a%20b+%2f%E7%85%A7", "q=%20+", b"x") == "/a b+/照?q=%20+\nx".encode()
    assert oss_signed_bytes("/", "", b"") == b"/\n"
    public = serialization.load_pem_public_key(keys.public_pem())
    assert isinstance(public, RSAPublicKey)
    assert public.key_size >= 2048
    signature = base64.b64decode(keys.oss_signature("/p", "q", b"body"))
    public.verify(signature, b"/p?q\nbody", PKCS1v15(), hashes.MD5())


def test_keys_survive_storage(keys: CallbackKeys) -> None:
    again = CallbackKeys.from_bytes(keys.to_bytes())
    assert again.public_pem() == keys.public_pem()
    assert json.loads(again.public_keys_json()) == {"keys": keys.public_keys()}


def test_rotation_signs_with_old_and_new(keys: CallbackKeys) -> None:
    rotated = keys.rotated()
    assert rotated.public_keys()[1] == keys.public_keys()[0]
    header = rotated.webhook_signature("msg_1", 1, b"", [new_webhook_secret(), new_webhook_secret()])
    assert [entry.partition(",")[0] for entry in header.split(" ")] == ["v1", "v1", "v1a", "v1a"]


def test_webhook_secrets_differ_and_decode() -> None:
    first, second = new_webhook_secret(), new_webhook_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(secret_bytes(first)) == 24
    with pytest.raises(ValueError, match="whsec_"):
        secret_bytes("whsec_%%")
