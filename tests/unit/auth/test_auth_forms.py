"""Browser forms: signatures of the policy, and the policy itself."""

from __future__ import annotations

import base64
import json
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from unit.auth.authkit import ALICE, NOW, authenticator

from s3lite.auth import sigv2
from s3lite.auth.post_policy import MAX_POLICY_BYTES, PostPolicy
from s3lite.errors import Code, S3Error
from s3lite.model import ANONYMOUS
from s3lite.times import rfc3339

SERVER = authenticator()
LATER = rfc3339(NOW + 600)
CONDITIONS: list[Any] = [
    {"bucket": "test2"},
    ["starts-with", "$key", "foo"],
    {"acl": "private"},
    ["starts-with", "$Content-Type", "text/plain"],
    ["content-length-range", 0, 1024],
]
FIELDS = {"key": "foo.txt", "acl": "private", "content-type": "text/plain"}


def encode(document: object) -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    return base64.b64encode(text.encode()).decode()


def policy(conditions: object = CONDITIONS, **members: object) -> PostPolicy:
    return PostPolicy.parse(encode({"expiration": LATER, "conditions": conditions, **members}), now_s=NOW)


def v2_form(document: object, **fields: str) -> dict[str, str]:
    text = encode(document)
    signature = sigv2.signature(ALICE.secret_key, text)
    return {**FIELDS, "awsaccesskeyid": "yly", "policy": text, "signature": signature, **fields}


def boto_form(version: str, extra: dict[str, str]) -> dict[str, str]:
    """What generate_presigned_post gives, names in lower case as the form reader hands them on."""
    conditions: list[object] = [
        {"bucket": "test2"},
        {"key": "this_object"},
        *({k: v} for k, v in extra.items()),
    ]
    request = AWSRequest("POST", "http://s3.test/test2")
    request.context["s3-presign-post-fields"] = dict(extra)
    request.context["s3-presign-post-policy"] = {"expiration": LATER, "conditions": conditions}
    credentials = Credentials(ALICE.access_key, ALICE.secret_key)
    if version == "v2":
        botocore.auth.HmacV1PostAuth(credentials).add_auth(request)
    else:
        botocore.auth.S3SigV4PostAuth(credentials, "s3", "us-east-1").add_auth(request)
    fields: dict[str, str] = request.context["s3-presign-post-fields"]
    return {"key": "this_object", **{name.lower(): value for name, value in fields.items()}}


def judge(fields: dict[str, str]) -> None:
    _, found = SERVER.form(fields)
    assert found is not None
    found.check(fields, bucket="test2")


def refused(fields: dict[str, str], code: Code, status: int) -> S3Error:
    with pytest.raises(S3Error) as caught:
        judge(fields)
    assert (caught.value.code, caught.value.status) == (code, status)
    return caught.value


# ---------------------------------------------------------------- who signed


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_the_seeds_forms(version: str) -> None:
    fields = boto_form(version, {"callback": "eyJh", "x:var1": "value1", "Content-Type": "text/plain"})
    identity, found = SERVER.form(fields)
    assert (identity.scheme, identity.key) == (f"{version}-form", ALICE)
    assert found is not None
    found.check(fields, bucket="test2")
    assert found.covers("callback")
    assert found.covers("X:Var1")
    assert not found.covers("x:var2")
    found.check({**fields, "file": "", "x-ignore-me": "1"}, bucket="test2")
    message = refused({**fields, "x:var2": "1"}, Code.AccessDenied, 403).message
    assert message == "Invalid according to Policy: Extra input fields: x:var2"
    found.check({**fields, "x:var2": "1"}, bucket="test2", unlisted_ok=lambda name: name.startswith("x:"))


def test_no_policy_and_no_signature_is_anonymous() -> None:
    assert SERVER.form(FIELDS) == (ANONYMOUS, None)


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_form_changed_or_incomplete(version: str) -> None:
    fields = boto_form(version, {})
    signature = "signature" if version == "v2" else "x-amz-signature"
    key = "awsaccesskeyid" if version == "v2" else "x-amz-credential"
    other = encode({"expiration": LATER, "conditions": [["starts-with", "$key", ""], {"bucket": "test2"}]})
    error = refused({**fields, "policy": other}, Code.SignatureDoesNotMatch, 403)
    assert ALICE.secret_key not in str(error.details)
    refused({**fields, signature: fields[signature][:-1]}, Code.SignatureDoesNotMatch, 403)
    refused({**fields, signature: "é"}, Code.SignatureDoesNotMatch, 403)
    refused({**fields, key: fields[key].replace("yly", "who")}, Code.InvalidAccessKeyId, 403)
    refused({**fields, "x-amz-security-token": "t"}, Code.InvalidToken, 400)
    for name in (signature, key, "policy"):
        left = {other: value for other, value in fields.items() if other != name}
        error = refused(left, Code.InvalidArgument, 400)
        assert error.details["ArgumentName"].lower() == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-algorithm", "AWS4-HMAC-SHA1"),
        ("x-amz-credential", "yly/20260101/us-east-1/s3"),
        ("x-amz-credential", "yly/20260101/us-east-1/iam/aws4_request"),
        ("x-amz-date", "20200101T000000Z"),
        ("x-amz-date", "x"),
    ],
)
def test_v4_fields_that_are_wrong(name: str, value: str) -> None:
    fields = {**boto_form("v4", {}), name: value}
    assert refused(fields, Code.InvalidArgument, 400).details["ArgumentName"] == name


def test_two_mechanisms_at_once() -> None:
    refused({**boto_form("v4", {}), **boto_form("v2", {})}, Code.InvalidArgument, 400)


def test_an_expired_policy_with_a_right_signature() -> None:
    document = {"expiration": rfc3339(NOW - 1), "conditions": CONDITIONS}
    error = refused(v2_form(document), Code.AccessDenied, 403)
    assert error.message == "Invalid according to Policy: Policy expired."


# ---------------------------------------------------------------- documents


@pytest.mark.parametrize(
    "document",
    [
        " ",
        "{",
        "[]",
        "null",
        '{"expiration": NaN, "conditions": []}',
        {"conditions": CONDITIONS},
        {"EXPIRATION": LATER, "conditions": CONDITIONS},
        {"expiration": LATER},
        {"expiration": LATER, "CONDITIONS": CONDITIONS},
        {"expiration": LATER, "conditions": CONDITIONS, "other": 1},
        {"expiration": LATER, "conditions": {}},
        {"expiration": 5, "conditions": []},
        {"expiration": "2030-01-01 00:00:00+00:00", "conditions": []},
        {"expiration": "2030-01-01T00:00:00", "conditions": []},
        {"expiration": "2030-13-01T00:00:00Z", "conditions": []},
        '{"expiration": "2030-01-01T00:00:00Z", "conditions": [], "conditions": []}',
    ],
)
def test_documents_that_are_none(document: object) -> None:
    refused(v2_form(document), Code.InvalidPolicyDocument, 400)


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"acl": "private", "key": "x"},
        {"success_action_status": 201},
        [],
        "acl",
        ["eq", "$key"],
        ["eq", "key", "x"],
        ["eq", "$key", 1],
        ["eq", "$key", ["x"]],
        ["matches", "$key", "x"],
        [1, "$key", "x"],
        ["content-length-range", 0],
        ["content-length-range", -1, 0],
        ["content-length-range", 2, 1],
        ["content-length-range", "a", "b"],
        ["content-length-range", True, 5],
        [["eq"], "$key", "x"],
        {"acl": {"a": {}}},
    ],
)
def test_conditions_that_are_none(condition: object) -> None:
    refused(v2_form({"expiration": LATER, "conditions": [condition]}), Code.InvalidPolicyDocument, 400)


def test_documents_too_large_too_deep_or_not_base64() -> None:
    for text in (
        "é",
        "====",
        "a",
        "/w==",
        "A" * (MAX_POLICY_BYTES + 1),
        encode("[" * 15_000),
        encode("9" * 9999),
    ):
        with pytest.raises(S3Error) as caught:
            PostPolicy.parse(text, now_s=NOW)
        assert caught.value.code is Code.InvalidPolicyDocument


def test_base64_in_lines() -> None:
    text = base64.encodebytes(json.dumps({"expiration": LATER, "conditions": CONDITIONS}).encode()).decode()
    assert PostPolicy.parse(text, now_s=NOW).covers("key")


# ---------------------------------------------------------------- conditions


def test_words_and_fields_in_any_case() -> None:
    found = policy(
        [
            {"bUcKeT": "test2"},
            ["StArTs-WiTh", "$KeY", "foo"],
            {"AcL": "private"},
            ["eq", "$Content-TYPE", "text/plain"],
        ]
    )
    found.check(FIELDS, bucket="test2")


@pytest.mark.parametrize(
    ("fields", "bucket", "condition"),
    [
        ({**FIELDS, "key": "bar"}, "test2", '["starts-with", "$key", "foo"]'),
        ({**FIELDS, "acl": "Private"}, "test2", '["eq", "$acl", "private"]'),
        (FIELDS, "other", '["eq", "$bucket", "test2"]'),
        ({**FIELDS, "bucket": "test2"}, "other", '["eq", "$bucket", "test2"]'),
        ({"key": "foo", "acl": "private"}, "test2", '["starts-with", "$Content-Type", "text/plain"]'),
    ],
)
def test_the_failing_condition_is_named(fields: dict[str, str], bucket: str, condition: str) -> None:
    with pytest.raises(S3Error) as caught:
        policy().check(fields, bucket=bucket)
    assert caught.value.message == f"Invalid according to Policy: Policy Condition failed: {condition}"


@pytest.mark.parametrize("name", ["submit", "tagging", "x-amz-meta-a", "callback", "redirect"])
def test_a_field_that_no_condition_names(name: str) -> None:
    with pytest.raises(S3Error, match=f"Extra input fields: {name}"):
        policy().check({**FIELDS, name: "1"}, bucket="test2")


def test_a_policy_must_name_the_bucket() -> None:
    with pytest.raises(S3Error, match="Extra input fields: bucket"):
        policy(CONDITIONS[1:]).check(FIELDS, bucket="test2")


def test_an_empty_prefix_admits_anything() -> None:
    found = policy([*CONDITIONS, ["starts-with", "$x-amz-meta-a", ""]])
    for fields in (FIELDS, {**FIELDS, "x-amz-meta-a": "anything"}):
        found.check(fields, bucket="test2")


def test_a_list_of_content_types() -> None:
    found = policy([{"bucket": "b"}, ["starts-with", "$content-type", "image/"]])
    found.check({"content-type": "image/jpg, image/png"}, bucket="b")
    with pytest.raises(S3Error):
        found.check({"content-type": "image/jpg,text/html"}, bucket="b")


def test_escaped_dollars_and_backslashes() -> None:
    found = policy([{"bucket": "b"}, ["starts-with", "$key", "\\$foo"]])
    found.check({"key": "\\$foo.txt"}, bucket="b")
    text = encode(f'{{"expiration": "{LATER}", "conditions": [{{"bucket": "b"}}, {{"key": "\\$5"}}]}}')
    PostPolicy.parse(text, now_s=NOW).check({"key": "$5"}, bucket="b")


def test_checksums_need_not_be_named() -> None:
    policy().check({**FIELDS, "x-amz-checksum-sha256": "…"}, bucket="test2")


def test_content_length_ranges_meet() -> None:
    assert policy().content_length_range == (0, 1024)
    assert policy([]).content_length_range is None
    both = [["content-length-range", "10", "20"], ["content-length-range", 0, 15]]
    assert policy(both).content_length_range == (10, 15)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
DOCUMENTS = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()),
    st.builds(lambda items: encode({"expiration": LATER, "conditions": items}), st.lists(JSON, max_size=3)),
)


@given(DOCUMENTS, st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_any_document_gives_a_policy_or_an_s3_error(text: str, fields: dict[str, str]) -> None:
    try:
        found = PostPolicy.parse(text, now_s=NOW)
        found.check(fields, bucket="b")
    except S3Error:
        pass


@given(
    st.dictionaries(st.sampled_from(sorted(boto_form("v4", {}) | boto_form("v2", {}))), st.text(max_size=40))
)
def test_any_form_gives_an_identity_or_an_s3_error(fields: dict[str, str]) -> None:
    try:
        identity, _ = SERVER.form(fields)
    except S3Error:
        return
    assert identity is ANONYMOUS
