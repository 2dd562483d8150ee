"""The dialect of OSS at the border: what is recognised, refused, and how answers look."""

from __future__ import annotations

import base64
import json
from email.utils import formatdate

import pytest
from client import S3
from lxml import etree
from oss_signing import Oss, sign_v1

from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Receiver


@pytest.fixture
def oss(s3: S3) -> Oss:
    """Alice, who owns ``bucket``, speaking OSS."""
    return Oss(s3.anonymous(), "alice-key", "alice-secret")


def test_metadata_has_the_dialects_prefix_both_ways(oss: Oss, s3: S3) -> None:
    assert oss.v1("PUT", "/bucket/key", b"data", {"x-oss-meta-color": "red"}).status == 200
    answer = oss.v1("HEAD", "/bucket/key")
    assert answer.headers["x-oss-meta-color"] == "red"
    assert answer.headers["x-oss-object-type"] == "Normal"
    assert not [name for name in answer.headers if name.lower().startswith("x-amz-")]
    assert s3.head("/bucket/key").headers["x-amz-meta-color"] == "red"


def test_a_wrong_secret_is_refused_in_the_dialects_words(s3: S3) -> None:
    answer = Oss(s3.anonymous(), "alice-key", "wrong").v1("GET", "/bucket/key")
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert answer.headers["x-oss-request-id"]


def test_an_unsigned_header_of_s3_is_refused(oss: Oss) -> None:
    answer = oss.v1("PUT", "/bucket/key", b"data", also={"x-amz-acl": "public-read"})
    assert (answer.status, answer.code) == (403, "AccessDenied")


def test_a_header_of_the_dialect_that_was_not_signed_is_refused(oss: Oss) -> None:
    answer = oss.v1("PUT", "/bucket/key", b"data", also={"x-oss-object-acl": "public-read"})
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


def test_a_subresource_that_was_not_signed_is_refused(oss: Oss) -> None:
    assert oss.v1("DELETE", "/bucket?lifecycle", signed_query="").code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("key", ["k?acl", "k?x=1&uploadId=2"])
def test_a_key_that_reads_like_a_subresource_is_refused(oss: Oss, key: str) -> None:
    raw = "/bucket/" + key.replace("?", "%3F")
    answer = oss.s3.send("GET", raw, "", b"", _authorized(oss, "GET", f"/bucket/{key}"))
    assert (answer.status, answer.code) == (403, "AccessDenied")


def _authorized(oss: Oss, method: str, resource: str) -> dict[str, str]:
    date = formatdate(usegmt=True)
    signature = sign_v1(oss.secret_key, f"{method}\n\n\n{date}\n{resource}")
    return {"Date": date, "Authorization": f"OSS {oss.access_key}:{signature}"}


@pytest.mark.parametrize("word", ["referer", "worm", "bucketPolicyOfTomorrow", "x-oss-process"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_what_is_not_offered_is_never_another_operation(oss: Oss, s3: S3, method: str, word: str) -> None:
    signed = word if word in ("referer", "worm", "x-oss-process") else ""
    answer = oss.v1(method, f"/bucket?{word}", signed_query=signed)
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert s3.head("/bucket").status == 200


def test_forbid_overwrite_answers_409(oss: Oss) -> None:
    oss.v1("PUT", "/bucket/key", b"first")
    answer = oss.v1("PUT", "/bucket/key", b"second", {"x-oss-forbid-overwrite": "true"})
    assert (answer.status, answer.code) == (409, "FileAlreadyExists")
    assert oss.v1("GET", "/bucket/key").body == b"first"


def test_listing_has_no_namespace_and_a_type(oss: Oss) -> None:
    oss.v1("PUT", "/bucket/key", b"data", {"x-oss-storage-class": "IA"})
    root = etree.fromstring(oss.v1("GET", "/bucket").body)
    assert root.tag == "ListBucketResult"
    assert root.findtext("MaxKeys") == "100"
    assert root.findtext("Contents/Type") == "Normal"
    assert root.findtext("Contents/StorageClass") == "IA"
    assert root.findtext("Contents/ETag") == '"8D777F385D3DFEC8815D20F7496026DC"'


def test_a_truncated_listing_names_its_next_marker(oss: Oss) -> None:
    for key in "abc":
        oss.v1("PUT", f"/bucket/{key}", b"data")
    assert oss.v1("GET", "/bucket?max-keys=2", signed_query="").text("NextMarker") == "b"


def test_etags_in_upper_case_are_understood(oss: Oss) -> None:
    etag = oss.v1("PUT", "/bucket/key", b"data").headers["ETag"]
    assert etag == etag.upper()
    assert oss.v1("GET", "/bucket/key", headers={"If-None-Match": etag}).status == 304


def test_acl_is_one_word(oss: Oss) -> None:
    assert oss.v1("GET", "/bucket?acl").text("AccessControlList/Grant") == "private"
    assert oss.v1("PUT", "/bucket?acl", headers={"x-oss-acl": "public-read"}).status == 200
    assert oss.v1("GET", "/bucket?acl").text("AccessControlList/Grant") == "public-read"
    assert oss.v1("GET", "/bucket?bucketInfo").text("Bucket/AccessControlList/Grant") == "public-read"


def test_head_errors_come_in_a_header(oss: Oss) -> None:
    answer = oss.v1("HEAD", "/bucket/missing")
    document = etree.fromstring(base64.b64decode(answer.headers["x-oss-err"]))
    assert (answer.status, document.findtext("Code")) == (404, "NoSuchKey")


def test_callback_header_answers_the_applications_bytes(oss: Oss) -> None:
    with Receiver() as receiver:
        callback = {"callbackUrl": receiver.url(), "callbackBody": "key=${object}&var=${x:v}"}
        headers = {"x-oss-callback": _encode(callback), "x-oss-callback-var": _encode({"x:v": "1"})}
        answer = oss.v1("PUT", "/bucket/key", b"data", headers)
        assert (answer.status, answer.body) == (200, b'{"Status":"OK"}')
        assert receiver.requests[0].body == b"key=key&var=1"


def test_a_callback_that_was_not_signed_is_refused(oss: Oss) -> None:
    callback = _encode({"callbackUrl": "http://127.0.0.1:9/", "callbackBody": "x"})
    assert oss.v1("PUT", "/bucket/key", b"data", also={"x-oss-callback": callback}).status == 403


def test_failed_callback_is_203_with_the_object_stored(oss: Oss) -> None:
    with Receiver(default=Reply(status=500)) as receiver:
        callback = _encode({"callbackUrl": receiver.url(), "callbackBody": "x"})
        answer = oss.v1("PUT", "/bucket/key", b"data", {"x-oss-callback": callback})
    assert (answer.status, answer.code) == (203, "CallbackFailed")
    assert oss.v1("GET", "/bucket/key").body == b"data"


def _encode(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


# ---------------------------------------------------------------- forms

CONDITIONS: list[object] = [["starts-with", "$key", "in/"], ["content-length-range", 0, 1024]]


@pytest.mark.parametrize("version", ["form_v1", "form_v4"])
def test_form_with_few_conditions_is_taken(oss: Oss, version: str) -> None:
    fields = {"key": "in/${filename}", "success_action_status": "200", "name": "photo.jpg"}
    answer = getattr(oss, version)(fields, CONDITIONS)
    assert answer.status == 200, answer
    assert answer.headers["x-oss-request-id"]
    assert oss.v1("GET", "/bucket/in/photo.jpg").body == b"file content"


def test_form_may_not_choose_an_acl_that_its_policy_does_not_name(oss: Oss) -> None:
    fields = {"key": "in/x", "x-oss-object-acl": "public-read"}
    answer = oss.form_v1(fields, CONDITIONS)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert oss.form_v1(fields, [*CONDITIONS, {"x-oss-object-acl": "public-read"}]).status == 204


def test_form_with_another_key_prefix_is_refused(oss: Oss) -> None:
    assert oss.form_v1({"key": "out/x"}, CONDITIONS).code == "AccessDenied"


def test_form_callback_needs_a_condition(oss: Oss) -> None:
    with Receiver() as receiver:
        value = _encode({"callbackUrl": receiver.url(), "callbackBody": "k=${object}&u=${x:user}"})
        fields = {"key": "in/x", "callback": value, "x:user": "7"}
        assert oss.form_v1(fields, CONDITIONS).code == "AccessDenied"
        named = [*CONDITIONS, {"callback": value}, ["starts-with", "$x:user", ""]]
        assert oss.form_v1(fields, named).body == b'{"Status":"OK"}'
        assert receiver.requests[0].body == b"k=in%2Fx&u=7"
