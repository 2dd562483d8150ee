"""Uploads that report back: every way to upload, against a real receiver."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs, quote

import forms
import pytest
from callbacks import CONTENT, VARIABLES, callback, closed_port, encode, headers
from client import S3, Answer

from s3lite.app import Application
from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Receiver
from s3lite.model import AccessKey

EXPECTED = b"bucket=bucket&filename=key&size=15&mimeType=text%2Fplain&my_var=value1"


@pytest.mark.parametrize("signer", ["v2", "v4"])
def test_put_object_reports_and_passes_the_answer_on(s3: S3, receiver: Receiver, signer: str) -> None:
    receiver.default = Reply(b'{"id": 7}', headers={"Set-Cookie": "a=b"}, content_type="text/html")
    answer = s3.request("PUT", "/bucket/key", CONTENT, headers(receiver.url("/hook?id=1")), signer=signer)
    assert (answer.status, answer.body) == (200, b'{"id": 7}')
    assert answer.headers["Content-Type"] == "application/json"
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["ETag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert answer.headers["x-s3lite-callback-status"] == "ok"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    (got,) = receiver.requests
    assert (got.target, got.body) == ("/hook?id=1", EXPECTED)
    assert (got.webhook, got.oss) == ("valid", "valid")
    assert got.headers["webhook-id"] == answer.headers["x-s3lite-callback-id"]
    assert got.headers["content-md5"] == base64.b64encode(hashlib.md5(EXPECTED).digest()).decode()
    assert base64.b64decode(got.headers["x-oss-pub-key-url"]) == b"http://s3.test:80/.s3lite/callback-key.pem"


def test_a_callback_is_no_metadata(s3: S3, receiver: Receiver) -> None:
    sent = headers(receiver.url()) | {"x-amz-meta-callback-url": "kept", "x-amz-meta-a": "v" * 2000}
    assert s3.put("/bucket/key", CONTENT, sent).status == 200
    shown = s3.head("/bucket/key").headers
    assert shown["x-amz-meta-callback-url"] == "kept"
    assert "x-amz-meta-callback" not in shown
    assert "x-amz-meta-callback-var" not in shown


def test_oss_headers_carry_a_callback(s3: S3, receiver: Receiver) -> None:
    sent = {
        "x-oss-callback": encode(callback(receiver.url())),
        "x-oss-callback-var": encode(VARIABLES),
        "Content-Type": "text/plain",
    }
    unsigned = s3.put("/bucket/key", CONTENT, sent)
    assert unsigned.status == 200
    receiver.requests.clear()
    raw = s3.presign("PUT", "/bucket/key", headers=sent)
    assert (
        s3.open("PUT", raw, CONTENT, sent | {"Content-Length": str(len(CONTENT))}).body == b'{"Status":"OK"}'
    )
    assert [got.body for got in receiver.requests] == [EXPECTED]


def test_a_presigned_url_carries_a_callback(s3: S3, receiver: Receiver) -> None:
    url = quote(encode(callback(receiver.url())), safe="")
    raw = s3.presign("PUT", f"/bucket/key?callback={url}&callback-var={quote(encode(VARIABLES), safe='')}")
    answer = s3.open("PUT", raw, CONTENT, {"Content-Type": "text/plain", "Content-Length": "15"})
    assert answer.body == b'{"Status":"OK"}'
    assert receiver.requests[0].body == EXPECTED


def test_a_presigned_url_does_not_take_a_callback_from_its_holder(s3: S3, receiver: Receiver) -> None:
    raw = s3.presign("PUT", "/bucket/key")
    length = {"Content-Length": "15"}
    answer = s3.open("PUT", raw, CONTENT, headers(receiver.url()) | length)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    added = f"{raw}&callback={quote(encode(callback(receiver.url())), safe='')}"
    assert s3.open("PUT", added, CONTENT, length).status == 403
    assert s3.head("/bucket/key").status == 404
    assert receiver.requests == []


def test_two_places_are_refused(s3: S3, receiver: Receiver) -> None:
    value = encode(callback(receiver.url()))
    answer = s3.put(f"/bucket/key?callback={quote(value, safe='')}", CONTENT, {"x-amz-meta-callback": value})
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert s3.head("/bucket/key").status == 404


def complete_with(
    s3: S3, sent: dict[str, str], *, at_create: dict[str, str] | None = None
) -> tuple[str, dict[int, str], Answer]:
    upload_id = s3.start_upload("/bucket/key", at_create)
    etags = {
        1: s3.put_part("/bucket/key", upload_id, 1, b"p" * 5000),
        2: s3.put_part("/bucket/key", upload_id, 2, b"end"),
    }
    return upload_id, etags, s3.complete("/bucket/key", upload_id, etags, sent)


def test_complete_reports(s3: S3, receiver: Receiver) -> None:
    body = "o=${object}&s=${size}&e=${etag}&m=${contentMd5}&op=${operation}"
    sent = headers(receiver.url(), callbackBody=body)
    _, _, answer = complete_with(s3, sent)
    assert answer.body == b'{"Status":"OK"}'
    assert answer.headers["Location"] == "http://s3.test:80/bucket/key"
    etag = s3.head("/bucket/key").headers["ETag"].strip('"')
    assert receiver.requests[0].body == f"o=key&s=5003&e={etag}&m=&op=CompleteMultipartUpload".encode()


def test_a_callback_given_at_create_is_sent_by_complete_and_replies_standard(
    s3: S3, receiver: Receiver
) -> None:
    upload_id, etags, answer = complete_with(s3, {}, at_create=headers(receiver.url()))
    assert answer.xml.tag == "CompleteMultipartUploadResult"
    assert base64.b64decode(answer.headers["x-s3lite-callback-body"]) == b'{"Status":"OK"}'
    assert b"size=5003" in receiver.requests[0].body
    assert "x-amz-meta-callback" not in s3.head("/bucket/key").headers
    again = s3.complete("/bucket/key", upload_id, etags)
    assert again.text("ETag") == answer.text("ETag")
    assert len(receiver.requests) == 1


def test_the_callback_of_complete_wins_over_that_of_create(s3: S3, receiver: Receiver) -> None:
    complete_with(s3, headers(receiver.url("/complete")), at_create=headers(receiver.url("/create")))
    assert [got.target for got in receiver.requests] == ["/complete"]


def test_a_repeated_complete_gets_the_same_answer_without_another_callback(
    s3: S3, receiver: Receiver
) -> None:
    receiver.script.append(Reply(b'{"n":1}'))
    sent = headers(receiver.url())
    upload_id, etags, first = complete_with(s3, sent)
    again = s3.complete("/bucket/key", upload_id, etags, sent)
    assert first.body == again.body == b'{"n":1}'
    assert len(receiver.requests) == 1


def test_a_repeated_complete_sends_a_failed_callback_once_more_with_its_id(
    s3: S3, receiver: Receiver
) -> None:
    receiver.script.append(Reply(b"", status=500))
    sent = headers(receiver.url())
    upload_id, etags, first = complete_with(s3, sent)
    assert (first.status, first.code) == (203, "CallbackFailed")
    assert s3.complete("/bucket/key", upload_id, etags, sent).body == b'{"Status":"OK"}'
    one, two = receiver.requests
    assert one.headers["webhook-id"] == two.headers["webhook-id"]
    assert s3.delete(f"/bucket/key?uploadId={upload_id}").code == "NoSuchUpload"


@pytest.mark.parametrize("make", [forms.v2_fields, forms.v4_fields], ids=["v2", "v4"])
def test_forms_report(s3: S3, receiver: Receiver, make) -> None:
    value = encode(callback(receiver.url()))
    conditions = [{"bucket": "bucket"}, {"key": "key"}, {"callback": value}, ["starts-with", "$x:var1", ""]]
    fields = {"key": "key", "callback": value, "x:var1": "value 1/&"} | make(
        "alice-key", "alice-secret", conditions
    )
    data = forms.body(list(fields.items()), CONTENT)
    answer = s3.request("POST", "/bucket", data, {"Content-Type": forms.CONTENT_TYPE}, signer="none")
    assert (answer.status, answer.body) == (200, b'{"Status":"OK"}')
    assert answer.headers["Location"] == "http://s3.test:80/bucket/key"
    assert receiver.requests[0].body.endswith(b"&size=15&mimeType=image%2Fjpeg&my_var=value%201%2F%26")


@pytest.mark.parametrize("unlisted", ["callback", "x:var1"])
def test_form_fields_that_no_condition_names_are_refused(s3: S3, receiver: Receiver, unlisted: str) -> None:
    extra = {"callback": encode(callback(receiver.url())), "x:var1": "v"}
    conditions = [{"bucket": "bucket"}, {"key": "key"}, *({n: v} for n, v in extra.items() if n != unlisted)]
    fields = {"key": "key"} | extra | forms.v4_fields("alice-key", "alice-secret", conditions)
    data = forms.body(list(fields.items()), CONTENT)
    answer = s3.request("POST", "/bucket", data, {"Content-Type": forms.CONTENT_TYPE}, signer="none")
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert unlisted in answer.message
    assert receiver.requests == []
    assert s3.keys("bucket") == []


# ---------------------------------------------------------------- when the application fails


FAULTS = [
    (Reply(b"{}", status=502), "Error status : 502."),
    (Reply(b"{}", status=201), "Error status : 201."),
    (Reply(b"", status=302, headers={"Location": "http://169.254.169.254/"}), "Error status : 302."),
    (Reply(b"OK"), "Response body is not valid json format."),
    (Reply(b""), "Response body is not valid json format."),
]


@pytest.mark.parametrize(
    ("reply", "message"), FAULTS, ids=[message for _, message in FAULTS[:3]] + ["text", "empty"]
)
def test_a_failed_callback_is_203_and_the_object_stays(
    s3: S3, receiver: Receiver, reply: Reply, message: str
) -> None:
    receiver.script.append(reply)
    answer = s3.put("/bucket/key", CONTENT, headers(receiver.url()))
    assert (answer.status, answer.code, answer.message) == (203, "CallbackFailed", message)
    assert answer.headers["x-s3lite-callback-status"] == "failed"
    assert answer.headers["ETag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert s3.get("/bucket/key").body == CONTENT


def test_an_application_that_is_not_there(s3: S3) -> None:
    answer = s3.put("/bucket/key", CONTENT, headers(f"http://127.0.0.1:{closed_port()}/"))
    assert (answer.status, answer.message) == (
        203,
        "Error status : -1.s3lite can not connect to your callbackUrl, please check it.",
    )
    assert s3.get("/bucket/key").body == CONTENT


def test_standard_replies_are_s3s_own(s3: S3, receiver: Receiver) -> None:
    receiver.default = Reply(b"any text", status=202)
    answer = s3.put("/bucket/key", CONTENT, headers(receiver.url(), callbackReply="standard"))
    assert (answer.status, answer.body) == (200, b"")
    assert base64.b64decode(answer.headers["x-s3lite-callback-body"]) == b"any text"
    receiver.default = Reply(b"", status=500)
    accepted = s3.put("/bucket/key", CONTENT, headers(receiver.url(), callbackReply="standard"))
    assert (accepted.status, accepted.headers["x-s3lite-callback-status"]) == (200, "failed")
    assert accepted.headers["x-s3lite-callback-message"] == "Error status : 500."
    refused = s3.put(
        "/bucket/key", CONTENT, headers(receiver.url(), callbackReply="standard", callbackOnFailure="error")
    )
    assert (refused.status, refused.code) == (424, "CallbackFailed")
    assert s3.get("/bucket/key").body == CONTENT


def test_urls_are_tried_in_turn(s3: S3, receiver: Receiver) -> None:
    receiver.script.append(Reply(b"", status=503))
    urls = f"http://127.0.0.1:{closed_port()}/;{receiver.url('/two')};{receiver.url('/three')}"
    assert s3.put("/bucket/key", CONTENT, headers(urls)).body == b'{"Status":"OK"}'
    assert [got.target for got in receiver.requests] == ["/two", "/three"]
    assert len({got.headers["webhook-id"] for got in receiver.requests}) == 1


def test_the_application_may_read_and_delete_the_object_meanwhile(s3: S3, receiver: Receiver) -> None:
    seen: list[int] = []

    def handler(_received) -> None:
        seen.append(s3.get("/bucket/key").status)
        seen.append(s3.delete("/bucket/key").status)

    receiver._on_request = handler
    assert s3.put("/bucket/key", CONTENT, headers(receiver.url())).status == 200
    assert seen == [200, 204]
    assert s3.head("/bucket/key").status == 404


# ---------------------------------------------------------------- refused before anything is stored

REFUSED: list[tuple[str, str]] = [
    ("!!", "The callback configuration is not base64 encoded."),
    (base64.b64encode(b"[]").decode(), "The callback configuration is not json format."),
    (base64.b64encode(b"x" * 6000).decode(), "The length of callback exceed max value."),
    (encode({"callbackBody": "a"}), "The callback url configuration is invalid."),
    (
        encode({"callbackUrl": ";".join(["http://a"] * 6), "callbackBody": "a"}),
        "The number of callback url exceed max value.",
    ),
    (
        encode({"callbackUrl": "http://10.0.0.1/", "callbackBody": "a"}),
        "Private address is forbidden to callback.",
    ),
    (
        encode({"callbackUrl": "http://169.254.169.254/", "callbackBody": "a"}),
        "Private address is forbidden to callback.",
    ),
    (encode({"callbackUrl": "http://a", "callbackBody": ""}), "The callback body is empty."),
    (
        encode({"callbackUrl": "http://a", "callbackBody": "$x"}),
        "Left brace must be adjacent to dollar sign.",
    ),
    (encode({"callbackUrl": "http://a", "callbackBody": "${colour}"}), "Unknown callback variable: colour."),
    (
        encode({"callbackUrl": "http://a", "callbackBody": "a", "callbackBodyType": "text/plain"}),
        "The body type of callback is not supported.",
    ),
    (
        encode({"callbackUrl": "http://a", "callbackBody": "a", "callbackHost": "a\r\nX: 1"}),
        "The callback host configuration is invalid.",
    ),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_bad_callbacks_store_nothing(s3: S3, value: str, message: str) -> None:
    answer = s3.put("/bucket/key", CONTENT, {"x-amz-meta-callback": value})
    assert (answer.status, answer.code, answer.message) == (400, "InvalidArgument", message)
    assert s3.head("/bucket/key").status == 404


def test_anonymous_uploads_carry_no_callback(s3: S3, anonymous: S3, receiver: Receiver) -> None:
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read-write"})
    answer = anonymous.put("/bucket/key", CONTENT, headers(receiver.url()) | {"Content-Length": "15"})
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert s3.head("/bucket/key").status == 404


@pytest.mark.parametrize("right", ["off", "policy-only"])
def test_keys_without_the_right(app: Application, s3: S3, receiver: Receiver, right: str) -> None:
    def work(tx):
        key = tx.access_key("alice-key")
        tx.put_access_key(AccessKey(key.access_key, key.secret_key, key.account, callback=right))

    app.services.store.catalog.write(work)
    assert s3.put("/bucket/key", CONTENT, headers(receiver.url())).code == "AccessDenied"
    assert s3.head("/bucket/key").status == 404


def test_image_variables(s3: S3, receiver: Receiver) -> None:
    png = (
        b"\x89PNG\r\n\x1a\n"
        + (13).to_bytes(4, "big")
        + b"IHDR"
        + (257).to_bytes(4, "big")
        + (197).to_bytes(4, "big")
        + bytes(9)
    )
    body = "w=${imageInfo.width}&h=${imageInfo.height}&f=${imageInfo.format}"
    for data in (png, png + bytes(300_000)):
        s3.put("/bucket/key", data, headers(receiver.url(), callbackBody=body))
    assert {got.body for got in receiver.requests} == {b"w=257&h=197&f=png"}


def test_public_keys_are_served(app: Application, anonymous: S3) -> None:
    pem = anonymous.get("/.s3lite/callback-key.pem")
    assert pem.body == app.services.callback_keys.public_pem()
    assert b"whpk_" in anonymous.get("/.s3lite/callback-keys.json").body


def test_variables_reach_the_application_whole(s3: S3, receiver: Receiver) -> None:
    sent = headers(receiver.url()) | {"x-amz-meta-callback-var": encode({"x:var1": '照片 & "more"\n'})}
    s3.put("/bucket/key", CONTENT, sent)
    assert parse_qs(receiver.requests[0].body.decode())["my_var"] == ['照片 & "more"\n']
