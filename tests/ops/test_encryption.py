"""Server-side encryption over the wire: SSE-S3, SSE-KMS, SSE-C, and the default of buckets."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from client import S3
from conftest import add_user
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from ssekit import (
    KEY_A,
    KEY_B,
    S3_HEADERS,
    customer_headers,
    files_with,
    kms_headers,
    text,
)

from s3lite.app import Application, create_app
from s3lite.crypto.segments import SEGMENT_BYTES
from s3lite.settings import EncryptionSettings, Settings

SSE = "x-amz-server-side-encryption"
SIZES = [1, 4000, 5000, SEGMENT_BYTES, 3 * SEGMENT_BYTES + 17]  # in the index up to 4096
MODES = [S3_HEADERS, kms_headers(), customer_headers()]
IDS = ["sse-s3", "sse-kms", "sse-c"]


@pytest.fixture
def ring(app: Application):
    keyring = app.services.store.keyring
    keyring.add("payroll", ("salaries",))
    return keyring


@pytest.fixture
def data_dir(settings: Settings, embedded: None) -> Path:
    return Path(settings.data_dir)


def reading(headers: dict[str, str]) -> dict[str, str]:
    """The headers that a read of it needs."""
    return {name: value for name, value in headers.items() if "customer" in name}


def get(s3: S3, path: str, headers: dict[str, str] | None = None, **more: str):
    return s3.request("GET", path, headers={**(headers or {}), **more})


# ---------------------------------------------------------------- what is stored


@pytest.mark.parametrize("headers", MODES, ids=IDS)
@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back_and_are_nowhere_on_disk(s3: S3, ring, data_dir: Path, size: int, headers) -> None:
    body = text(size)
    s3.put("/bucket/plain", text(5000) + text(100))
    assert s3.put("/bucket/key", body, headers).status == 200
    answer = get(s3, "/bucket/key", reading(headers))
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert answer.headers["Content-Length"] == str(size)
    assert s3.get("/bucket?list-type=2").texts("Contents/Size")[0] == str(size)
    assert len(files_with(data_dir)) == 1  # of the plain one: the search finds what is there
    s3.delete("/bucket/plain")


@pytest.mark.parametrize("headers", MODES, ids=IDS)
def test_keys_are_nowhere_in_the_index(s3: S3, ring, data_dir: Path, headers) -> None:
    s3.put("/bucket/key", text(10), headers)
    secrets = [KEY_A, base64.b64encode(KEY_A)]
    for name in ring.names():
        secret = ring.current(name).secret
        secrets += [secret, base64.b64encode(secret), secret.hex().encode()]
    found = [name for secret in secrets for name in files_with(data_dir, secret)]
    assert set(found) == {"keyring.json"}
    assert (data_dir / "keyring.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("headers", MODES, ids=IDS)
def test_empty_objects_are_encrypted_as_far_as_they_can_be(s3: S3, ring, headers) -> None:
    s3.put("/bucket/key", b"", headers)
    assert get(s3, "/bucket/key", reading(headers)).body == b""
    if "customer" in str(headers):
        assert s3.get("/bucket/key").status == 400


def test_plain_uploads_need_no_keyring(s3: S3, data_dir: Path) -> None:
    s3.put("/bucket/key", b"x")
    assert SSE not in s3.get("/bucket/key").headers
    assert not (data_dir / "keyring.json").exists()


# ---------------------------------------------------------------- what answers say


def said(answer) -> dict[str, str]:
    return {name[len(SSE) :]: value for name, value in answer.headers.items() if name.startswith(SSE)}


def test_sse_s3_is_said_on_writes_and_reads(s3: S3) -> None:
    assert said(s3.put("/bucket/key", b"x", S3_HEADERS)) == {"": "AES256"}
    assert said(s3.get("/bucket/key")) == said(s3.head("/bucket/key")) == {"": "AES256"}


def test_sse_kms_names_its_key_and_shows_the_context_on_writes_alone(s3: S3, ring) -> None:
    context = base64.b64encode(json.dumps({"department": "10"}).encode()).decode()
    headers = kms_headers(context=context, bucket_key_enabled="true")
    expected = {"": "aws:kms", "-aws-kms-key-id": "payroll", "-bucket-key-enabled": "true"}
    assert said(s3.put("/bucket/key", b"x", headers)) == expected | {"-context": context}
    assert said(s3.get("/bucket/key")) == expected


@pytest.mark.parametrize("named", ["payroll", "arn:aws:kms:us-east-1:123456789012:key/payroll"])
def test_a_key_is_shown_as_it_was_named(s3: S3, ring, named: str) -> None:
    assert said(s3.put("/bucket/key", b"x", kms_headers(named)))["-aws-kms-key-id"] == named


def test_of_an_alias_the_key_is_shown(s3: S3, ring) -> None:
    assert said(s3.put("/bucket/key", b"x", kms_headers("alias/salaries")))["-aws-kms-key-id"] == "payroll"


def test_kms_without_a_key_id_needs_the_operators_key(s3: S3, ring) -> None:
    answer = s3.put("/bucket/key", b"x", kms_headers(""))
    assert (answer.status, answer.code) == (400, "KMS.NotFoundException")
    ring.add("aws/s3")
    assert said(s3.put("/bucket/key", b"x", kms_headers("")))["-aws-kms-key-id"] == "aws/s3"
    assert s3.get("/bucket/key").body == b"x"


def test_an_unknown_key_is_refused_before_the_body(s3: S3, ring) -> None:
    answer = s3.put("/bucket/key", b"x", kms_headers("nobody"))
    assert (answer.status, answer.code) == (400, "KMS.NotFoundException")
    assert "s3lite keyring add" in answer.message
    assert s3.head("/bucket/key").status == 404


def test_sse_c_echoes_the_keys_md5_and_never_the_key(s3: S3) -> None:
    headers = customer_headers()
    expected = {"-customer-algorithm": "AES256", "-customer-key-MD5": headers[f"{SSE}-customer-key-md5"]}
    assert said(s3.put("/bucket/key", b"x", headers)) == expected
    assert said(get(s3, "/bucket/key", headers)) == expected


# ---------------------------------------------------------------- faults of requests


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({SSE: "aes:kms"}, "InvalidArgument"),
        ({SSE: "AES192"}, "InvalidArgument"),
        ({**S3_HEADERS, **customer_headers()}, "InvalidArgument"),
        ({**kms_headers(), **customer_headers()}, "InvalidArgument"),
        ({f"{SSE}-aws-kms-key-id": "payroll"}, "InvalidArgument"),
        ({**S3_HEADERS, f"{SSE}-aws-kms-key-id": "payroll"}, "InvalidArgument"),
        ({**S3_HEADERS, f"{SSE}-context": "e30="}, "InvalidArgument"),
        (kms_headers(context="e30"), "InvalidArgument"),
        (kms_headers(context=base64.b64encode(b"[1]").decode()), "InvalidArgument"),
        (kms_headers(context=base64.b64encode(b'{"a": 1}').decode()), "InvalidArgument"),
        (kms_headers(bucket_key_enabled="perhaps"), "InvalidArgument"),
        ({**customer_headers(), f"{SSE}-customer-algorithm": "AES192"}, "InvalidEncryptionAlgorithmError"),
        ({**customer_headers(), f"{SSE}-customer-algorithm": ""}, "InvalidArgument"),
        ({**customer_headers(), f"{SSE}-customer-key": ""}, "InvalidArgument"),
        ({**customer_headers(), f"{SSE}-customer-key": "c2hvcnQ="}, "InvalidArgument"),
        ({**customer_headers(), f"{SSE}-customer-key": "no Base64"}, "InvalidArgument"),
        ({**customer_headers(), f"{SSE}-customer-key-md5": ""}, "InvalidArgument"),
        ({**customer_headers(), f"{SSE}-customer-key-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, "InvalidArgument"),
    ],
)
def test_what_contradicts_itself_is_refused_and_stores_nothing(s3: S3, ring, headers, code: str) -> None:
    answer = s3.put("/bucket/key", b"x", headers)
    assert (answer.status, answer.code) == (400, code)
    assert s3.post("/bucket/key?uploads", headers=headers).code == code
    assert s3.head("/bucket/key").status == 404


def test_two_layers_are_refused_rather_than_one_given(s3: S3, ring) -> None:
    answer = s3.put("/bucket/key", b"x", {SSE: "aws:kms:dsse"})
    assert (answer.status, answer.code) == (501, "NotImplemented")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("stored", [{}, S3_HEADERS, kms_headers()], ids=["plain", "sse-s3", "sse-kms"])
def test_reads_do_not_take_headers_of_uploads(s3: S3, ring, method: str, stored) -> None:
    s3.put("/bucket/key", b"x", stored)
    for headers in (S3_HEADERS, kms_headers()):
        assert s3.request(method, "/bucket/key", headers=headers).status == 400


@pytest.mark.parametrize("query", ["", "?attributes"])
def test_sse_c_objects_are_read_with_their_key_alone(s3: S3, query: str) -> None:
    s3.put("/bucket/key", text(5000), customer_headers())
    wanted = {"x-amz-object-attributes": "ObjectSize"} if query else {}
    path = f"/bucket/key{query}"
    assert get(s3, path, {**customer_headers(), **wanted}).status == 200
    for headers in ({}, customer_headers(KEY_B)):
        answer = get(s3, path, {**headers, **wanted})
        assert (answer.status, answer.code) == (400, "InvalidRequest")
        assert s3.request("HEAD", "/bucket/key", headers=headers).status == 400


def test_a_key_for_what_needs_none_is_refused(s3: S3) -> None:
    for headers in ({}, S3_HEADERS):
        s3.put("/bucket/key", b"x", headers)
        answer = get(s3, "/bucket/key", customer_headers())
        assert (answer.status, answer.code) == (400, "InvalidRequest")


# ---------------------------------------------------------------- keys on the wire


@pytest.mark.parametrize(
    ("policy", "address", "is_taken"),
    [
        ("loopback", "127.0.0.1", True),
        ("loopback", "::1", True),
        ("loopback", "", True),
        ("loopback", "192.0.2.7", False),
        ("always", "192.0.2.7", True),
        ("never", "127.0.0.1", False),
    ],
)
def test_customers_keys_without_tls(settings: Settings, policy: str, address: str, is_taken: bool) -> None:
    chosen = replace(settings, encryption=EncryptionSettings(customer_keys_over_http=policy))
    application = create_app(chosen)

    def from_there(environ, start_response):
        return application(environ | {"REMOTE_ADDR": address}, start_response)

    add_user(application, "carol")
    client = S3(from_there, "carol-key", "carol-secret")
    client.put("/carols")
    answer = client.put("/carols/key", b"x", customer_headers())
    application.close()
    assert answer.status == (200 if is_taken else 400)
    if not is_taken:
        assert (answer.code, "secure connection" in answer.message) == ("InvalidRequest", True)


def test_tls_as_a_trusted_proxy_tells_it(settings: Settings) -> None:
    chosen = replace(
        settings,
        encryption=EncryptionSettings(customer_keys_over_http="never"),
        http=replace(settings.http, trusted_proxies=("192.0.2.7",)),
    )
    application = create_app(chosen)

    def behind_proxy(environ, start_response):
        return application(environ | {"REMOTE_ADDR": "192.0.2.7"}, start_response)

    add_user(application, "carol")
    client = S3(behind_proxy, "carol-key", "carol-secret")
    client.put("/carols")
    outside = {"X-Forwarded-For": "198.51.100.1"}
    assert client.put("/carols/key", b"x", customer_headers() | outside).status == 400
    tls = outside | {"X-Forwarded-Proto": "https"}
    assert client.put("/carols/key", b"x", customer_headers() | tls).status == 200
    application.close()


# ---------------------------------------------------------------- ranges and parts

PARTS = [text(70_000), text(SEGMENT_BYTES), text(1500), text(130_001)]


@pytest.fixture
def multipart(s3: S3, ring):
    """Makes a multipart object under an encryption; its bytes."""

    def make(headers: dict[str, str], path: str = "/bucket/big") -> bytes:
        upload_id = s3.start_upload(path, headers)
        customer = reading(headers)
        etags = {}
        for number, part in enumerate(PARTS, start=1):
            answer = s3.put(f"{path}?partNumber={number}&uploadId={upload_id}", part, customer)
            assert said(answer).keys() <= said(s3.post(f"{path}?uploads", headers=headers)).keys()
            etags[number] = answer.headers["ETag"]
        assert s3.complete(path, upload_id, etags, customer).status == 200
        return b"".join(PARTS)

    return make


@pytest.mark.parametrize("headers", MODES, ids=IDS)
def test_parts_have_keys_of_their_own(s3: S3, multipart, data_dir: Path, headers) -> None:
    whole = multipart(headers)
    answer = get(s3, "/bucket/big", reading(headers))
    assert answer.body == whole
    assert answer.headers["ETag"].endswith('-4"')
    assert files_with(data_dir) == []
    for number, part in enumerate(PARTS, start=1):
        found = get(s3, f"/bucket/big?partNumber={number}", reading(headers))
        assert (found.status, found.body) == (206, part)
        assert found.headers["x-amz-mp-parts-count"] == "4"
    assert get(s3, "/bucket/big?partNumber=5").code == "InvalidPart"


@pytest.mark.parametrize("headers", MODES, ids=IDS)
@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)
@given(st.data())
def test_any_range_across_parts_is_the_slice(s3: S3, multipart, headers, data) -> None:
    if s3.request("HEAD", "/bucket/big", headers=reading(headers)).status != 200:
        multipart(headers)
    whole = b"".join(PARTS)
    first = data.draw(st.integers(0, len(whole) - 1))
    last = data.draw(st.integers(first, len(whole) - 1))
    found = get(s3, "/bucket/big", reading(headers), Range=f"bytes={first}-{last}")
    assert (found.status, found.body) == (206, whole[first : last + 1])


@pytest.mark.parametrize("headers", MODES, ids=IDS)
@pytest.mark.parametrize("size", [100, 200_000])
def test_ranges_of_single_uploads(s3: S3, ring, size: int, headers) -> None:
    body = text(size)
    s3.put("/bucket/key", body, headers)
    for wanted, expected in (
        ("bytes=0-0", body[:1]), ("bytes=-7", body[-7:]), ("bytes=50-", body[50:]), ("bytes=40-90", body[40:91]),
    ):  # fmt: skip
        found = get(s3, "/bucket/key", reading(headers), Range=wanted)
        assert (found.status, found.body) == (206, expected)
        assert found.headers["Content-Range"].endswith(f"/{size}")


@pytest.mark.parametrize(
    "given", [{}, customer_headers(KEY_B), S3_HEADERS], ids=["none", "another", "sse-s3"]
)
def test_parts_of_an_sse_c_upload_need_its_key(s3: S3, given) -> None:
    upload_id = s3.start_upload("/bucket/big", customer_headers())
    answer = s3.put(f"/bucket/big?partNumber=1&uploadId={upload_id}", b"x", given)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert s3.get(f"/bucket/big?uploadId={upload_id}").texts("Part") == []


def test_complete_of_an_sse_c_upload(s3: S3) -> None:
    """The key is needed where the upload has a checksum algorithm; another one never passes."""
    for algorithm, without in (("", 200), ("CRC32", 400)):
        extra = {"x-amz-checksum-algorithm": algorithm} if algorithm else {}
        upload_id = s3.start_upload("/bucket/big", customer_headers() | extra)
        path = f"/bucket/big?partNumber=1&uploadId={upload_id}"
        etags = {1: s3.put(path, text(3000), customer_headers()).headers["ETag"]}
        assert s3.complete("/bucket/big", upload_id, etags, customer_headers(KEY_B)).code == "InvalidRequest"
        assert s3.complete("/bucket/big", upload_id, etags).status == without
        if without != 200:
            assert s3.complete("/bucket/big", upload_id, etags, customer_headers()).status == 200
        assert get(s3, "/bucket/big", customer_headers()).body == text(3000)


def test_uploads_say_their_encryption_from_beginning_to_end(s3: S3, ring) -> None:
    begun = s3.post("/bucket/big?uploads", headers=kms_headers())
    expected = {"": "aws:kms", "-aws-kms-key-id": "payroll"}
    upload_id = begun.text("UploadId")
    part = s3.put(f"/bucket/big?partNumber=1&uploadId={upload_id}", b"x", kms_headers("ignored"))
    done = s3.complete("/bucket/big", upload_id, {1: part.headers["ETag"]})
    assert said(begun) == said(part) == said(done) == expected


# ---------------------------------------------------------------- browser forms, callbacks and the rest


def test_rename_and_delete_and_versions(s3: S3, ring) -> None:
    for headers in MODES:
        s3.put("/bucket/old", text(5000), headers)
        assert s3.put("/bucket/new?renameObject", b"", {"x-amz-rename-source": "/bucket/old"}).status == 200
        assert get(s3, "/bucket/new", reading(headers)).body == text(5000)
    enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    s3.put("/bucket?versioning", enabled)
    made = [s3.put("/bucket/key", text(n * 3000), headers).headers["x-amz-version-id"] for n, headers in enumerate(MODES, start=1)]  # fmt: skip
    for number, (version_id, headers) in enumerate(zip(made, MODES, strict=True), start=1):
        found = get(s3, f"/bucket/key?versionId={version_id}", reading(headers))
        assert found.body == text(number * 3000)
    s3.delete(f"/bucket/key?versionId={made[2]}")
    assert said(s3.get("/bucket/key"))["-aws-kms-key-id"] == "payroll"


# ---------------------------------------------------------------- the default of buckets

CONFIGURED = (
    "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>{}"
    "</ApplyServerSideEncryptionByDefault>{}</Rule></ServerSideEncryptionConfiguration>"
)
ALGORITHM = "<SSEAlgorithm>{}</SSEAlgorithm>"
KMS_KEY = ALGORITHM.format("aws:kms") + "<KMSMasterKeyID>payroll</KMSMasterKeyID>"


def configure(s3: S3, default: str, more: str = "") -> None:
    assert s3.put("/bucket?encryption", CONFIGURED.format(default, more).encode()).status == 200


def test_a_fresh_bucket_has_no_default_and_uploads_are_plain(s3: S3) -> None:
    answer = s3.get("/bucket?encryption")
    assert (answer.status, answer.code) == (404, "ServerSideEncryptionConfigurationNotFoundError")
    assert said(s3.put("/bucket/key", b"x")) == {}


def test_the_servers_default_is_shown_and_done(settings: Settings) -> None:
    application = create_app(replace(settings, encryption=EncryptionSettings(default="AES256")))
    client = add_user(application, "carol")
    client.put("/carols")
    shown = client.get("/carols?encryption")
    assert shown.text("Rule/ApplyServerSideEncryptionByDefault/SSEAlgorithm") == "AES256"
    assert said(client.put("/carols/key", text(9000))) == {"": "AES256"}
    assert client.get("/carols/key").body == text(9000)
    assert files_with(settings.data_dir) == []
    application.close()


def test_a_buckets_default_holds_for_uploads_that_ask_for_nothing(s3: S3, ring, data_dir: Path) -> None:
    configure(s3, KMS_KEY, "<BucketKeyEnabled>true</BucketKeyEnabled>")
    expected = {"": "aws:kms", "-aws-kms-key-id": "payroll", "-bucket-key-enabled": "true"}
    assert said(s3.put("/bucket/key", text(9000))) == expected
    assert said(s3.put("/bucket/other", text(9000), S3_HEADERS)) == {"": "AES256"}
    assert said(s3.post("/bucket/big?uploads")) == expected
    assert files_with(data_dir) == []
    shown = s3.get("/bucket?encryption")
    assert shown.text("Rule/ApplyServerSideEncryptionByDefault/KMSMasterKeyID") == "payroll"
    assert shown.text("Rule/BucketKeyEnabled") == "true"
    assert s3.delete("/bucket?encryption").status == 204
    assert s3.get("/bucket?encryption").status == 404
    assert said(s3.put("/bucket/key", b"x")) == {}


def test_a_bucket_can_block_customers_keys(s3: S3) -> None:
    s3.put("/bucket/old", b"x", customer_headers())
    blocked = "<BlockedEncryptionTypes><EncryptionType>{}</EncryptionType></BlockedEncryptionTypes>"
    configure(s3, ALGORITHM.format("AES256"), blocked.format("SSE-C"))
    assert s3.get("/bucket?encryption").text("Rule/BlockedEncryptionTypes/EncryptionType") == "SSE-C"
    assert s3.put("/bucket/key", b"x", customer_headers()).code == "AccessDenied"
    assert s3.post("/bucket/key?uploads", headers=customer_headers()).code == "AccessDenied"
    assert get(s3, "/bucket/old", customer_headers()).body == b"x"
    configure(s3, ALGORITHM.format("AES256"), blocked.format("NONE"))
    assert s3.put("/bucket/key", b"x", customer_headers()).status == 200


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "MissingRequestBodyError"),
        (b"<ServerSideEncryptionConfiguration/>", "MalformedXML"),
        (CONFIGURED.format("", "").encode(), "MalformedXML"),
        (CONFIGURED.format(ALGORITHM.format("ROT13"), "").encode(), "MalformedXML"),
        (CONFIGURED.format(ALGORITHM.format("AES256"), "<Surprise/>").encode(), "MalformedXML"),
        (
            CONFIGURED.format(ALGORITHM.format("AES256"), "<BucketKeyEnabled>x</BucketKeyEnabled>").encode(),
            "MalformedXML",
        ),
        (CONFIGURED.format(ALGORITHM.format("AES256"), "<BlockedEncryptionTypes/>").encode(), "MalformedXML"),
        (
            CONFIGURED.format(ALGORITHM.format("AES256") + "<KMSMasterKeyID>k</KMSMasterKeyID>", "").encode(),
            "InvalidArgument",
        ),
        (CONFIGURED.format(ALGORITHM.format("aws:kms:dsse"), "").encode(), "NotImplemented"),
    ],
)
def test_configurations_that_are_none_are_refused(s3: S3, document: bytes, code: str) -> None:
    assert s3.put("/bucket?encryption", document).code == code
    assert s3.get("/bucket?encryption").status == 404


# ---------------------------------------------------------------- bucket policies


def deny(s3: S3, condition: dict[str, object]) -> None:
    statement = {
        "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket/*",
        "Condition": condition,
    }  # fmt: skip
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
    assert s3.put("/bucket?policy", document).status == 204


@pytest.mark.parametrize(
    ("condition", "headers"),
    [
        ({"Null": {f"s3:{SSE}": "true"}}, S3_HEADERS),
        ({"StringNotEquals": {f"s3:{SSE}": "aws:kms"}}, kms_headers()),
        ({"StringNotEquals": {f"s3:{SSE}-aws-kms-key-id": "payroll"}}, kms_headers()),
        ({"Null": {f"s3:{SSE}-customer-algorithm": "true"}}, customer_headers()),
    ],
    ids=["any", "kms", "key", "sse-c"],
)
def test_a_policy_can_demand_encryption_also_of_multipart_uploads(s3: S3, ring, condition, headers) -> None:
    deny(s3, condition)
    assert s3.put("/bucket/key", b"x").code == "AccessDenied"
    assert s3.post("/bucket/key?uploads").code == "AccessDenied"
    assert s3.put("/bucket/key", b"x", headers).status == 200
    upload_id = s3.start_upload("/bucket/key", headers)
    part = s3.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", b"y", reading(headers))
    assert part.status == 200
    assert s3.complete("/bucket/key", upload_id, {1: part.headers["ETag"]}, reading(headers)).status == 200


def test_what_a_part_says_of_its_encryption_does_not_count(s3: S3, ring) -> None:
    upload_id = s3.start_upload("/bucket/key")
    deny(s3, {"Null": {f"s3:{SSE}": "true"}})
    answer = s3.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", b"y", S3_HEADERS)
    assert answer.code == "AccessDenied"


# ---------------------------------------------------------------- UpdateObjectEncryption


def update(
    s3: S3, key: str, kms_key: str = "arn:aws:kms:us-east-1:1:key/payroll", *, more: str = ""
) -> object:
    body = f"<ObjectEncryption><SSE-KMS><KMSKeyArn>{kms_key}</KMSKeyArn>{more}</SSE-KMS></ObjectEncryption>"
    return s3.put(f"/bucket/{key}?encryption", body.encode())


def test_an_objects_key_is_changed_without_touching_it(s3: S3, multipart, data_dir: Path) -> None:
    s3.put("/bucket/key", text(9000), S3_HEADERS)
    multipart(S3_HEADERS)
    blobs = {path: path.read_bytes() for path in data_dir.rglob("blobs/*/*")}
    before = s3.head("/bucket/key").headers
    for key, body in (("key", text(9000)), ("big", b"".join(PARTS))):
        assert update(s3, key, more="<BucketKeyEnabled>true</BucketKeyEnabled>").status == 200
        answer = s3.get(f"/bucket/{key}")
        assert answer.body == body
        assert said(answer) == {
            "": "aws:kms", "-aws-kms-key-id": "arn:aws:kms:us-east-1:1:key/payroll", "-bucket-key-enabled": "true",
        }  # fmt: skip
    assert {path: path.read_bytes() for path in data_dir.rglob("blobs/*/*")} == blobs
    after = s3.head("/bucket/key").headers
    assert (before["ETag"], before["Last-Modified"]) == (after["ETag"], after["Last-Modified"])


def test_what_cannot_be_changed_is_refused(s3: S3, other: S3, ring) -> None:
    s3.put("/bucket/plain", b"x")
    s3.put("/bucket/own", b"x", customer_headers())
    s3.put("/bucket/key", b"x", S3_HEADERS)
    assert update(s3, "plain").code == update(s3, "own").code == "InvalidRequest"
    assert update(s3, "key", "nobody").code == "KMS.NotFoundException"
    assert update(s3, "key", "").code == "InvalidRequest"
    assert update(s3, "absent").code == "NoSuchKey"
    assert update(other, "key").code == update(other, "absent").code == "AccessDenied"
    assert s3.put("/bucket/key?encryption", b"<ObjectEncryption/>").code == "InvalidRequest"
    assert said(s3.get("/bucket/key")) == {"": "AES256"}
