"""Headers and documents of encryption: any of them is a value or an S3Error, and values survive the round trip."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import S3Error
from s3lite.wire import encryption as wire
from s3lite.wire.encryption import AES256, KMS, Wanted

KEY = bytes(range(32))
NAMES = [
    wire.MODE_HEADER, wire.KEY_ID_HEADER, wire.CONTEXT_HEADER, wire.BUCKET_KEY_HEADER, wire.CUSTOMER_HEADER,
    f"{wire.MODE_HEADER}-customer-key", f"{wire.MODE_HEADER}-customer-key-md5",
]  # fmt: skip
VALUES = [
    "",
    "AES256",
    "aws:kms",
    "aws:kms:dsse",
    "true",
    "e30=",
    base64.b64encode(KEY).decode(),
    "é",
    "\ud800",
]


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=40)))
def test_any_headers_are_a_wish_none_or_a_refusal(headers) -> None:
    with suppress(S3Error):  # any other exception fails
        found = wire.parse_wanted(headers)
        assert found is None or found.mode in (AES256, KMS, wire.CUSTOMER)
        assert found is not None or not any(headers.get(name) for name in NAMES[:3])


def test_a_customers_key_and_its_representation() -> None:
    prefix = wire.COPY_SOURCE
    md5 = base64.b64encode(hashlib.md5(KEY).digest()).decode()
    headers = {
        f"{prefix}algorithm": "AES256",
        f"{prefix}key": base64.b64encode(KEY).decode(),
        f"{prefix}key-md5": md5,
    }
    assert wire.parse_customer_key(headers) is None  # another prefix's
    found = wire.parse_customer_key(headers, prefix)
    assert found is not None
    assert (found.key, found.md5) == (KEY, md5)
    assert repr(KEY) not in repr(Wanted(wire.CUSTOMER, customer_key=found))


@pytest.mark.parametrize(("padding", "is_taken"), [(8192 // 4 * 3 - 9, True), (8192 // 4 * 3 - 8, False)])
def test_an_encryption_context_has_a_limit(padding: int, is_taken: bool) -> None:
    context = base64.b64encode(b'{"a": "%s"}' % (b"x" * padding)).decode()
    assert (len(context) <= 8192) is is_taken
    headers = {wire.MODE_HEADER: KMS, wire.CONTEXT_HEADER: context}
    if is_taken:
        found = wire.parse_wanted(headers)
        assert found is not None
        assert found.context == context
    else:
        with pytest.raises(S3Error, match="InvalidArgument"):
            wire.parse_wanted(headers)


RULE = (
    "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>{}</SSEAlgorithm>"
    "<KMSMasterKeyID>{}</KMSMasterKeyID></ApplyServerSideEncryptionByDefault>"
    "<BucketKeyEnabled>{}</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"
)


@pytest.mark.parametrize(
    ("mode", "key", "bucket_key"),
    [("aws:kms", "arn:aws:kms:r:1:key/a", "true"), ("aws:kms", "", "false"), ("AES256", "", "true")],
)
def test_what_is_kept_of_a_configuration_says_the_same(mode: str, key: str, bucket_key: str) -> None:
    found = wire.parse_configuration(RULE.format(mode, key, bucket_key).encode())
    assert found.wanted == Wanted(mode, key, bucket_key=bucket_key == "true" and mode == KMS)
    assert wire.stored_configuration(found.document) == found
    assert wire.parse_configuration(wire.DEFAULT_CONFIGURATION).wanted == Wanted(AES256)


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: RULE.format(text, "", "").encode("utf-8", "replace"))
)
def test_any_document_is_a_configuration_or_a_refusal(data) -> None:
    for parse in (wire.parse_configuration, wire.parse_object_encryption):
        with suppress(S3Error):
            parse(data)


@pytest.mark.parametrize(
    ("body", "is_taken"),
    [
        ("<SSE-KMS><KMSKeyArn>arn:k</KMSKeyArn></SSE-KMS>", True),
        ("<SSE-KMS><KMSKeyArn>arn:k</KMSKeyArn><BucketKeyEnabled>true</BucketKeyEnabled></SSE-KMS>", True),
        ("<SSE-KMS><KMSKeyArn>arn:k</KMSKeyArn><BucketKeyEnabled>1</BucketKeyEnabled></SSE-KMS>", False),
        ("<SSE-KMS/>", False),
        ("<SSE-S3/>", False),
        ("<SSE-KMS><KMSKeyArn>arn:k</KMSKeyArn></SSE-KMS><SSE-S3/>", False),
    ],
)
def test_object_encryption(body: str, is_taken: bool) -> None:
    document = f"<ObjectEncryption>{body}</ObjectEncryption>".encode()
    if is_taken:
        found = wire.parse_object_encryption(document)
        assert (found.mode, found.key_id, found.bucket_key) == (KMS, "arn:k", "true" in body)
    else:
        with pytest.raises(S3Error, match="InvalidRequest"):
            wire.parse_object_encryption(document)
