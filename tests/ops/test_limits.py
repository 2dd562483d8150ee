"""Limits at their edge: what is just within is accepted, what is one more is refused with S3's code.

`docs/limits.md` names a test for each limit; those of one part of the code are beside the tests of that part.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from client import S3
from conftest import add_user

from s3lite.app import Application
from s3lite.auth import policy as policies
from s3lite.callback import spec as callback_spec
from s3lite.callback.listen import Answer, Receiver
from s3lite.crypto.keyring import Keyring, KeyringError
from s3lite.errors import S3Error
from s3lite.settings import Settings
from s3lite.wire import lifecycle, object_lock, sts, website
from s3lite.wire.requests import parse_acl

PUT, PARTS, UPLOADS, METADATA, XML, BUCKETS, KEYS = 5000, 3, 2, 100, 30_000, 2, 4


@pytest.fixture
def settings(settings: Settings) -> Settings:
    limits = replace(
        settings.limits,
        object_bytes=PUT + 500,
        put_bytes=PUT,
        part_min_bytes=1,
        parts=PARTS,
        uploads=UPLOADS,
        metadata_bytes=METADATA,
        xml_bytes=XML,
        buckets_per_account=BUCKETS,
        delete_keys=KEYS,
        list_keys=KEYS,
    )
    return replace(settings, limits=limits, callback=replace(settings.callback, policies=2))


def xml(name: str, inner: str) -> bytes:
    return f"<{name}>{inner}</{name}>".encode()


# ---------------------------------------------------------------- sizes


def test_the_size_of_a_put(s3: S3) -> None:
    assert s3.put("/bucket/key", b"x" * PUT).status == 200
    assert s3.put("/bucket/key", b"x" * (PUT + 1)).code == "EntityTooLarge"
    assert s3.head("/bucket/key").headers["Content-Length"] == str(PUT)


def test_the_size_of_a_part_and_of_what_parts_make(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    assert s3.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", b"x" * (PUT + 1)).code == "EntityTooLarge"
    etags = {
        number: s3.put_part("/bucket/key", upload_id, number, b"x" * size)
        for number, size in ((1, PUT), (2, 501))
    }
    assert s3.complete("/bucket/key", upload_id, etags).code == "EntityTooLarge"
    etags[2] = s3.put_part("/bucket/key", upload_id, 2, b"x" * 500)
    assert s3.complete("/bucket/key", upload_id, etags).status == 200
    source = {"x-amz-copy-source": "/bucket/key"}
    upload_id = s3.start_upload("/bucket/other")
    part = f"/bucket/other?partNumber=1&uploadId={upload_id}"
    assert s3.put(part, headers=source).code == "EntityTooLarge"
    assert s3.put(part, headers=source | {"x-amz-copy-source-range": f"bytes=1-{PUT}"}).status == 200


def test_the_numbers_of_parts(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    for number, code in ((0, "InvalidArgument"), (1, None), (PARTS, None), (PARTS + 1, "InvalidArgument")):
        answer = s3.put(f"/bucket/key?partNumber={number}&uploadId={upload_id}", b"x")
        assert (answer.code if answer.status >= 400 else None) == code


def test_the_number_of_open_uploads(s3: S3) -> None:
    first, _second = (s3.start_upload(f"/bucket/{number}") for number in range(UPLOADS))
    refused = s3.post("/bucket/one-more?uploads")
    assert (refused.status, refused.code) == (400, "InvalidRequest")
    assert "complete or abort" in refused.message
    s3.delete(f"/bucket/0?uploadId={first}")
    assert s3.post("/bucket/one-more?uploads").status == 200


def test_the_length_of_a_key(s3: S3) -> None:
    for key in ("k" * 1024, "é" * 512):
        assert s3.put(f"/bucket/{key}", b"x").status == 200
        assert s3.put(f"/bucket/{key}+", b"x").code == "KeyTooLongError"
        assert s3.post(f"/bucket/{key}+?uploads").code == "KeyTooLongError"


def test_the_length_of_a_bucket_name(app: Application) -> None:
    for name, code in (
        ("ab", "InvalidBucketName"),
        ("abc", None),
        ("a" * 63, None),
        ("a" * 64, "InvalidBucketName"),
    ):
        answer = add_user(app, f"owner-of-{len(name)}").put(f"/{name}")
        assert (answer.code if answer.status >= 400 else None) == code


def test_the_size_of_metadata(s3: S3) -> None:
    assert s3.put("/bucket/key", b"x", {"x-amz-meta-name": "v" * (METADATA - 4)}).status == 200
    assert s3.put("/bucket/key", b"x", {"x-amz-meta-name": "v" * (METADATA - 3)}).code == "MetadataTooLarge"
    many = {f"x-amz-meta-{number:03}": "" for number in range(METADATA // 3 + 1)}
    assert s3.put("/bucket/key", b"x", many).code == "MetadataTooLarge"


# ---------------------------------------------------------------- documents


def test_the_size_of_a_document(s3: S3) -> None:
    document = xml("Tagging", "<TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet>")
    for size, code in ((XML, None), (XML + 1, "EntityTooLarge")):
        padded = document + b" " * (size - len(document))
        answer = s3.put("/bucket?tagging", padded)
        assert (answer.code if answer.status >= 400 else None) == code


def test_the_keys_of_one_delete(s3: S3) -> None:
    for count, status in ((KEYS, 200), (KEYS + 1, 400)):
        body = xml("Delete", "".join(f"<Object><Key>{number}</Key></Object>" for number in range(count)))
        answer = s3.post("/bucket?delete", body, {"Content-MD5": _md5(body)})
        assert answer.status == status
    assert answer.code == "MalformedXML"


def test_the_entries_of_a_page(s3: S3) -> None:
    for number in range(KEYS + 1):
        s3.put(f"/bucket/{number}", b"")
    for query in ("list-type=2", "versions", f"list-type=2&max-keys={KEYS + 1}", "max-keys=2147483647"):
        page = s3.get(f"/bucket?{query}")
        entries = page.texts("Contents/Key") + page.texts("Version/Key")
        assert (len(entries), page.text("IsTruncated")) == (KEYS, "true")


def test_the_buckets_of_an_account(app: Application) -> None:
    owner = add_user(app, "carol")
    for number in range(BUCKETS):
        assert owner.put(f"/carols-{number}").status == 200
    assert owner.put("/carols-last").code == "TooManyBuckets"
    owner.delete("/carols-0")
    assert owner.put("/carols-last").status == 200


def test_the_size_of_a_bucket_policy(s3: S3) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:GetObject",
                "Resource": "arn:aws:s3:::bucket/x",
            }
        ],
    }
    text = json.dumps(policy).encode()
    assert s3.put("/bucket?policy", text + b" " * ((20 << 10) - len(text))).status == 204
    assert s3.put("/bucket?policy", text + b" " * ((20 << 10) + 1 - len(text))).code == "MalformedPolicy"


def test_the_grants_of_an_acl() -> None:
    grant = (
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>a</ID>'
        "</Grantee><Permission>READ</Permission></Grant>"
    )

    def document(count: int) -> bytes:
        inner = f"<Owner><ID>a</ID></Owner><AccessControlList>{grant * count}</AccessControlList>"
        return xml("AccessControlPolicy", inner)

    assert len(parse_acl(document(100)).grants) == 100
    with pytest.raises(S3Error, match="MalformedACLError"):
        parse_acl(document(101))


def test_the_rules_of_a_lifecycle_configuration() -> None:
    rule = (
        "<Rule><ID>{0}</ID><Filter><Prefix>{0}/</Prefix></Filter><Status>Enabled</Status>"
        "<Expiration><Days>1</Days></Expiration></Rule>"
    )

    def document(count: int) -> bytes:
        return xml("LifecycleConfiguration", "".join(rule.format(number) for number in range(count)))

    assert len(lifecycle.parse(document(1000))) == 1000
    with pytest.raises(S3Error, match="MalformedXML"):
        lifecycle.parse(document(1001))


def test_the_routing_rules_of_a_website() -> None:
    rule = "<RoutingRule><Redirect><HostName>other.example</HostName></Redirect></RoutingRule>"

    def document(count: int) -> bytes:
        index = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
        return xml("WebsiteConfiguration", f"{index}<RoutingRules>{rule * count}</RoutingRules>")

    assert len(website.parse(document(50)).rules) == 50
    with pytest.raises(S3Error):
        website.parse(document(51))


# ---------------------------------------------------------------- callbacks


def test_the_length_and_the_urls_of_a_callback(s3: S3) -> None:
    def put(urls: int, padding: int = 0) -> object:
        spec = {
            "callbackUrl": ";".join(["http://127.0.0.1:18099/"] * urls),
            "callbackBody": "x" * (1 + padding),
        }
        return s3.put(
            "/bucket/key", b"x", {"x-oss-callback": base64.b64encode(json.dumps(spec).encode()).decode()}
        )

    assert put(5).code != "InvalidArgument"  # tried, and refused by nobody but the network
    assert put(6).code == "InvalidArgument"
    assert put(1, 3700).code != "InvalidArgument"
    assert put(1, 3900).code == "InvalidArgument"  # more than 5,120 bytes of Base64


def _md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def test_the_name_of_a_variable() -> None:
    def parse(length: int) -> object:
        spec, variables = (
            base64.b64encode(json.dumps(document).encode()).decode()
            for document in (
                {"callbackUrl": "http://127.0.0.1:18099/", "callbackBody": "x"},
                {"x:" + "v" * length: "1"},
            )
        )
        return callback_spec.parse(callback_spec.RawCallback("s3-header", spec, variables))

    assert parse(64)
    with pytest.raises(S3Error):
        parse(65)


def test_the_callback_policies_of_a_bucket(s3: S3) -> None:
    def put(count: int) -> object:
        policy = {"callbackUrl": "http://127.0.0.1:18099/", "callbackBody": "x"}
        named = [{"name": f"p{number}", "callback": policy} for number in range(count)]
        return s3.put("/bucket?callback", json.dumps({"policies": named}).encode())

    assert put(2).status == 204
    assert put(3).code == "MalformedPolicy"


def test_the_answer_in_a_header(s3: S3, receiver: Receiver) -> None:
    spec = {"callbackUrl": receiver.url(), "callbackBody": "x", "callbackReply": "standard"}
    headers = {"x-oss-callback": base64.b64encode(json.dumps(spec).encode()).decode()}
    for size in (4096, 4097):
        receiver.script.append(Answer(b'"' + b"a" * (size - 2) + b'"'))
        told = s3.put("/bucket/key", b"x", headers).headers
        assert any(len(value) > 4096 for value in told.values()) == (
            size == 4096
        )  # in Base64 they are longer


# ---------------------------------------------------------------- the rest


def test_the_parameters_of_a_call_to_sts() -> None:
    def body(count: int) -> bytes:
        return "&".join(f"P{number}=" for number in range(count)).encode()

    assert len(sts.parse_parameters(body(100))) == 100
    with pytest.raises(S3Error):
        sts.parse_parameters(body(101))


def test_the_policy_of_a_session(s3: S3, settings: Settings) -> None:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    named = {"Action": "AssumeRole", "RoleArn": "arn:aws:iam::any:role/any", "RoleSessionName": "test"}
    for size, status in ((settings.sessions.policy_bytes, 200), (settings.sessions.policy_bytes + 1, 400)):
        assert s3.sts(**named, Policy=text.ljust(size)).status == status


def test_the_retention_of_a_bucket() -> None:
    def parse(period: str) -> object:
        rule = f"<Rule><DefaultRetention><Mode>GOVERNANCE</Mode>{period}</DefaultRetention></Rule>"
        enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
        return object_lock.parse_configuration(xml("ObjectLockConfiguration", enabled + rule))

    assert parse("<Days>36500</Days>")
    assert parse("<Years>100</Years>")
    for beyond in ("<Days>36501</Days>", "<Years>101</Years>", "<Days>0</Days>"):
        with pytest.raises(S3Error):
            parse(beyond)


def test_the_policy_of_a_key() -> None:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
    assert policies.parse_key(text + b" " * ((20 << 10) - len(text)))
    with pytest.raises(S3Error, match="MalformedPolicy"):
        policies.parse_key(text + b" " * ((20 << 10) + 1 - len(text)))


def test_the_name_of_a_key_of_the_keyring(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keyring.json", now=lambda: "2026-01-01T00:00:00Z")
    ring.add("k" * 256)
    with pytest.raises(KeyringError, match="up to 256"):
        ring.add("k" * 257)
