"""CORS: the configuration, preflights, and headers on every answer that a page is to read."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import Any

import forms
import pytest
from client import S3, Answer

from s3lite.app import Application
from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Receiver

PAGE = "https://app.example"
UPLOADS = (
    "<CORSRule><ID>uploads</ID><AllowedOrigin>https://*.example</AllowedOrigin>"
    "<AllowedMethod>PUT</AllowedMethod><AllowedMethod>POST</AllowedMethod><AllowedMethod>GET</AllowedMethod>"
    "<AllowedHeader>*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>"
    "<ExposeHeader>x-amz-version-id</ExposeHeader><MaxAgeSeconds>600</MaxAgeSeconds></CORSRule>"
)
PUBLIC = "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod></CORSRule>"
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


def document(*rules: str) -> bytes:
    return f"<CORSConfiguration>{''.join(rules)}</CORSConfiguration>".encode()


@pytest.fixture
def shared(s3: S3) -> S3:
    """alice, her bucket sharing uploads with pages of *.example."""
    assert s3.put("/bucket?cors", document(UPLOADS, PUBLIC)).status == 200
    return s3


def preflight(s3: S3, path: str, origin: str = PAGE, method: str = "PUT", headers: str = "") -> Answer:
    sent = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        sent["Access-Control-Request-Headers"] = headers
    return s3.request("OPTIONS", path, headers=sent, signer="none")


def assert_readable(answer: Answer, origin: str = PAGE) -> None:
    """A page of ``origin`` may read this answer and its ETag."""
    assert answer.headers.getall("Access-Control-Allow-Origin") == [origin], answer
    assert answer.headers["Access-Control-Expose-Headers"] == "ETag, x-amz-version-id"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers.getall("Vary") == [VARY]


def assert_unshared(answer: Answer) -> None:
    assert not [name for name in answer.headers if name.lower().startswith("access-control")], answer


# ---------------------------------------------------------------- the configuration


def test_the_configuration_round_trips(s3: S3) -> None:
    assert s3.get("/bucket?cors").code == "NoSuchCORSConfiguration"
    assert s3.put("/bucket?cors", document(UPLOADS, PUBLIC)).status == 200
    answer = s3.get("/bucket?cors")
    assert answer.texts("CORSRule/ID") == ["uploads"]
    assert answer.texts("CORSRule/AllowedMethod") == ["PUT", "POST", "GET", "HEAD"]
    assert answer.texts("CORSRule/AllowedOrigin") == ["https://*.example", "*"]
    assert answer.text("CORSRule/MaxAgeSeconds") == "600"
    assert s3.delete("/bucket?cors").status == 204
    assert s3.get("/bucket?cors").code == "NoSuchCORSConfiguration"
    assert preflight(s3, "/bucket/key").status == 403
    assert s3.delete("/bucket?cors").status == 204


def test_a_refused_configuration_changes_nothing(shared: S3) -> None:
    answer = shared.put("/bucket?cors", document(UPLOADS.replace("PUT", "PATCH")))
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert "PATCH" in answer.message
    assert shared.put("/bucket?cors", b"<CORSConfiguration/>").code == "MalformedXML"
    assert preflight(shared, "/bucket/key").status == 200


def test_the_configuration_is_the_owners_business(shared: S3, other: S3, anonymous: S3) -> None:
    for client in (other, anonymous):
        assert client.get("/bucket?cors").code == "AccessDenied"
        assert client.put("/bucket?cors", document(PUBLIC)).code == "AccessDenied"
        assert client.delete("/bucket?cors").code == "AccessDenied"
    assert shared.get("/bucket?cors").texts("CORSRule/ID") == ["uploads"]


# ---------------------------------------------------------------- preflight


@pytest.mark.parametrize(
    "path",
    [
        "/bucket",
        "/bucket/key",
        "/bucket/not/there",
        "/bucket/key?uploads",
        "/bucket/key?partNumber=1&uploadId=u",
        "/bucket?delete",
        "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=of-another-method",
        "/bucket/key?AWSAccessKeyId=alice-key&Signature=x&Expires=1",
    ],
)
def test_a_preflight_is_answered_whatever_it_asks_about(shared: S3, path: str) -> None:
    answer = preflight(shared, path, headers="Content-Type, x-amz-meta-a")
    assert (answer.status, answer.body) == (200, b"")
    assert_readable(answer)
    assert answer.headers["Access-Control-Allow-Methods"] == "PUT, POST, GET"
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type, x-amz-meta-a"
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert answer.headers["x-amz-request-id"]


def test_a_rule_for_every_origin_answers_with_a_star(shared: S3) -> None:
    answer = preflight(shared, "/bucket/key", "https://elsewhere.test", "HEAD")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for name in ("Credentials", "Headers"):
        assert f"Access-Control-Allow-{name}" not in answer.headers
    for name in ("Access-Control-Max-Age", "Access-Control-Expose-Headers"):
        assert name not in answer.headers


REFUSED = [
    ("https://evil.test", "PUT", ""),
    (PAGE, "DELETE", ""),
    ("https://evil.test", "HEAD", "x-amz-date"),
    (PAGE, "PUT", "not a header"),
]


@pytest.mark.parametrize(("origin", "method", "headers"), REFUSED)
def test_a_preflight_that_no_rule_allows_is_403(shared: S3, origin: str, method: str, headers: str) -> None:
    answer = preflight(shared, "/bucket/key", origin, method, headers)
    assert (answer.status, answer.code) == (403, "AccessForbidden")
    assert answer.message.startswith("CORSResponse: This CORS request is not allowed.")
    assert (answer.text("Method"), answer.text("ResourceType")) == (method, "OBJECT")
    assert_unshared(answer)


def test_a_preflight_without_configuration_is_403(s3: S3) -> None:
    answer = preflight(s3, "/bucket")
    assert (answer.status, answer.code) == (403, "AccessForbidden")
    assert answer.message == "CORSResponse: CORS is not enabled for this bucket."


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "Insufficient information. Origin request header needed."),
        ({"Access-Control-Request-Method": "PUT"}, "Insufficient information. Origin request header needed."),
        ({"Origin": PAGE}, "Invalid Access-Control-Request-Method: null"),
        ({"Origin": PAGE, "Access-Control-Request-Method": "PATCH"}, "PATCH"),
    ],
)
def test_options_that_is_no_preflight_is_400(shared: S3, headers: dict[str, str], words: str) -> None:
    for path in ("/bucket", "/bucket/key"):
        answer = shared.request("OPTIONS", path, headers=headers, signer="none")
        assert (answer.status, answer.code) == (400, "BadRequest")
        assert words in answer.message


def test_a_preflight_for_a_missing_bucket(s3: S3) -> None:
    assert preflight(s3, "/missing/key").code == "NoSuchBucket"
    assert preflight(s3, "/").status == 405


# ---------------------------------------------------------------- actual answers


def test_answers_carry_the_headers_of_the_rule(shared: S3) -> None:
    stored = shared.put("/bucket/key", b"x", {"Origin": PAGE})
    assert_readable(stored)
    assert stored.headers["Access-Control-Allow-Methods"] == "PUT, POST, GET"
    assert_readable(shared.get("/bucket/key", Origin=PAGE))
    assert_readable(shared.get("/bucket", Origin=PAGE))
    assert shared.head("/bucket/key", Origin=PAGE).headers["Access-Control-Allow-Origin"] == "*"


def test_without_origin_nothing_is_added(shared: S3) -> None:
    answer = shared.put("/bucket/key", b"x")
    assert_unshared(answer)
    assert "Vary" not in answer.headers


def test_an_origin_that_no_rule_names_gets_vary_only(shared: S3) -> None:
    answer = shared.put("/bucket/key", b"x", {"Origin": "https://evil.test"})
    assert answer.status == 200
    assert_unshared(answer)
    assert answer.headers["Vary"] == VARY
    assert_unshared(shared.delete("/bucket/key", {"Origin": PAGE}))


def test_a_bucket_without_rules_shares_nothing(s3: S3) -> None:
    answer = s3.put("/bucket/key", b"x", {"Origin": PAGE})
    assert_unshared(answer)
    assert "Vary" not in answer.headers


def test_errors_carry_the_headers(shared: S3, other: S3) -> None:
    etag = shared.put("/bucket/key", b"x").headers["ETag"]
    errors = {
        403: other.get("/bucket/key", Origin=PAGE),
        404: shared.get("/bucket/none", Origin=PAGE),
        405: shared.post("/bucket/key", b"", {"Origin": PAGE}),
        412: shared.put("/bucket/key", b"x", {"Origin": PAGE, "If-None-Match": "*"}),
        416: shared.get("/bucket/key", Origin=PAGE, Range="bytes=9-"),
        304: shared.get("/bucket/key", Origin=PAGE, If_None_Match=etag),
        501: shared.put("/bucket?accelerate", b"", {"Origin": PAGE}),
    }
    for status, answer in errors.items():
        assert answer.status == status
        assert_readable(answer)
    forged = S3(shared.wsgi, "alice-key", "wrong").get("/bucket/key", Origin=PAGE)
    assert forged.code == "SignatureDoesNotMatch"
    assert_readable(forged)


def test_a_bucket_that_is_deleted_answers_readably_once_more(shared: S3) -> None:
    rule = UPLOADS.replace("<AllowedMethod>PUT", "<AllowedMethod>DELETE</AllowedMethod><AllowedMethod>PUT")
    shared.put("/bucket?cors", document(rule))
    answer = shared.delete("/bucket", {"Origin": PAGE})
    assert answer.status == 204
    assert_readable(answer)
    gone = shared.get("/bucket/key", Origin=PAGE)
    assert gone.code == "NoSuchBucket"
    assert_unshared(gone)


def test_multipart_uploads_carry_the_headers(shared: S3) -> None:
    origin = {"Origin": PAGE}
    created = shared.post("/bucket/key?uploads", b"", origin)
    assert_readable(created)
    upload_id = created.text("UploadId") or ""
    part = shared.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", b"part", origin)
    assert_readable(part)
    completed = shared.complete("/bucket/key", upload_id, {1: part.headers["ETag"]}, origin)
    assert completed.status == 200
    assert_readable(completed)
    assert_readable(shared.complete("/bucket/key", "none", {1: part.headers["ETag"]}, origin))


def test_a_presigned_put_carries_the_headers(shared: S3) -> None:
    answer = shared.open("PUT", shared.presign("PUT", "/bucket/key"), b"x", {"Origin": PAGE})
    assert answer.status == 200
    assert_readable(answer)


@pytest.mark.parametrize(("key", "status"), [("up/key", 204), ("else/key", 403)])
def test_forms_carry_the_headers(shared: S3, key: str, status: int) -> None:
    conditions: list[Any] = [{"bucket": "bucket"}, ["starts-with", "$key", "up/"]]
    fields = {"key": key} | forms.v4_fields("alice-key", "alice-secret", conditions)
    sent = {"Content-Type": forms.CONTENT_TYPE, "Origin": PAGE}
    answer = shared.request("POST", "/bucket", forms.body(list(fields.items())), sent, signer="none")
    assert answer.status == status
    assert_readable(answer)


@pytest.mark.parametrize(
    ("reply", "more", "status"),
    [
        (Reply(b"{}"), {}, 200),
        (Reply(b"no", 500), {}, 203),
        (Reply(b"no", 500), {"callbackReply": "standard", "callbackOnFailure": "error"}, 424),
    ],
)
def test_answers_of_callbacks_are_readable(
    shared: S3, reply: Reply, more: dict[str, str], status: int
) -> None:
    with Receiver() as receiver:
        receiver.default = reply
        spec = {"callbackUrl": receiver.url("/hook"), "callbackBody": "size=${size}"} | more
        carrier = base64.b64encode(json.dumps(spec).encode()).decode()
        answer = shared.put("/bucket/key", b"x", {"Origin": PAGE, "x-amz-meta-callback": carrier})
    assert answer.status == status
    assert answer.headers["ETag"]
    assert_readable(answer)


def test_a_failing_look_up_never_changes_the_answer(
    app: Application, shared: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = app.services.store.catalog
    read = catalog.read

    class Failing:
        def __init__(self, tx: Any) -> None:
            self._tx = tx

        def bucket_config(self, bucket_id: int, name: str) -> bytes | None:
            if name == "cors":
                raise OSError("disk")
            return self._tx.bucket_config(bucket_id, name)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tx, name)

    @contextmanager
    def failing():
        with read() as tx:
            yield Failing(tx)

    monkeypatch.setattr(catalog, "read", failing)
    answer = shared.put("/bucket/key", b"x", {"Origin": PAGE})
    assert answer.status == 200
    assert_unshared(answer)
    assert shared.get("/bucket/none", Origin=PAGE).code == "NoSuchKey"


def test_a_request_method_header_stands_for_the_method(shared: S3) -> None:
    """As Ceph's conformance tests have it; browsers send it with preflights only."""
    answer = shared.get("/bucket", Origin=PAGE, Access_Control_Request_Method="DELETE")
    assert answer.status == 200
    assert_unshared(answer)
