"""PostObject: browser forms."""

from __future__ import annotations

import hashlib
from typing import Any

import forms
import pytest
from client import S3, Answer

CONDITIONS: list[Any] = [{"bucket": "bucket"}, ["starts-with", "$key", "up/"]]


def post(
    s3: S3,
    fields: dict[str, str],
    file: bytes | None = b"file content",
    *,
    path: str = "/bucket",
    **kwargs: Any,
) -> Answer:
    data = forms.body(list(fields.items()), file, **kwargs)
    return s3.request("POST", path, data, {"Content-Type": forms.CONTENT_TYPE}, signer="none")


@pytest.fixture(params=["v2", "v4"])
def sign(request: pytest.FixtureRequest):
    make = forms.v2_fields if request.param == "v2" else forms.v4_fields

    def signed(conditions: list[Any], secret: str = "alice-secret", key: str = "alice-key", **changes: Any):
        return make(key, secret, conditions, **changes)

    return signed


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 300_000])
def test_a_signed_form_stores_its_file(s3: S3, sign, size: int) -> None:
    body = bytes(i % 253 for i in range(size))
    answer = post(s3, {"key": "up/key"} | sign(CONDITIONS), body)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert answer.headers["Location"] == "http://s3.test:80/bucket/up/key"
    read = s3.get("/bucket/up/key")
    assert (read.body, read.headers["Content-Type"]) == (body, "image/jpeg")


def test_the_file_is_told_by_its_name_not_by_a_filename(s3: S3, sign) -> None:
    assert post(s3, {"key": "up/key"} | sign(CONDITIONS), filename=None, file_type=None).status == 204
    assert s3.get("/bucket/up/key").body == b"file content"


def test_filename_is_substituted_without_its_folders(s3: S3, sign) -> None:
    post(s3, {"key": "up/${filename}"} | sign(CONDITIONS), filename="C:\\\\Users\\\\me\\\\photo one.jpg")
    assert s3.keys("bucket") == ["up/photo one.jpg"]


def test_fields_become_headers_and_metadata(s3: S3, sign) -> None:
    extra = {
        "Content-Type": "text/plain",
        "Cache-Control": "no-store",
        "x-amz-meta-a": "ü",
        "acl": "public-read",
    }
    conditions = [*CONDITIONS, *(["starts-with", f"${name}", ""] for name in extra)]
    assert post(s3, {"key": "up/key"} | extra | sign(conditions)).status == 204
    answer = s3.anonymous().head("/bucket/up/key")
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["x-amz-meta-a"].startswith("=?UTF-8?")


def test_fields_after_the_file_are_ignored(s3: S3, sign) -> None:
    after = [("submit", "Upload"), ("key", "elsewhere"), ("x-amz-meta-late", "1")]
    assert post(s3, {"key": "up/key"} | sign(CONDITIONS), after=after).status == 204
    assert s3.keys("bucket") == ["up/key"]
    assert "x-amz-meta-late" not in s3.head("/bucket/up/key").headers


def test_a_field_that_no_condition_names_is_refused_by_name(s3: S3, sign) -> None:
    answer = post(s3, {"key": "up/key", "submit": "Upload"} | sign(CONDITIONS))
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert "submit" in answer.message
    assert s3.keys("bucket") == []


def test_fields_named_x_ignore_need_no_condition(s3: S3, sign) -> None:
    assert post(s3, {"key": "up/key", "x-ignore-submit": "Upload"} | sign(CONDITIONS)).status == 204


@pytest.mark.parametrize(
    ("conditions", "fields", "named"),
    [
        ([{"bucket": "other"}, ["starts-with", "$key", ""]], {}, "bucket"),
        ([{"bucket": "bucket"}, ["eq", "$key", "up/else"]], {}, "key"),
        ([{"bucket": "bucket"}, ["starts-with", "$key", "down/"]], {}, "key"),
        ([*CONDITIONS, {"acl": "private"}], {"acl": "public-read"}, "acl"),
        ([*CONDITIONS, {"x-amz-meta-a": "1"}], {}, "x-amz-meta-a"),
    ],
)
def test_the_failing_condition_is_named(
    s3: S3, sign, conditions: list[Any], fields: dict[str, str], named: str
) -> None:
    answer = post(s3, {"key": "up/key"} | fields | sign(conditions))
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert named in answer.message
    assert s3.keys("bucket") == []


@pytest.mark.parametrize(
    ("size", "code"),
    [(9, "EntityTooSmall"), (10, None), (20, None), (21, "EntityTooLarge"), (500_000, "EntityTooLarge")],
)
def test_content_length_range_at_its_edges(s3: S3, sign, size: int, code: str | None) -> None:
    conditions = [*CONDITIONS, ["content-length-range", 10, 20]]
    answer = post(s3, {"key": "up/key"} | sign(conditions), b"x" * size)
    assert (answer.status == 204) if code is None else (answer.status == 400 and answer.code == code)
    assert (s3.keys("bucket") == ["up/key"]) is (code is None)


def test_success_action_status(s3: S3, sign) -> None:
    for wanted, status in [("200", 200), ("201", 201), ("204", 204), ("404", 204)]:
        conditions = [*CONDITIONS, {"success_action_status": wanted}]
        answer = post(s3, {"key": "up/ä", "success_action_status": wanted} | sign(conditions))
        assert answer.status == status
        if status == 201:
            assert answer.text("Bucket") == "bucket"
            assert answer.text("Key") == "up/ä"
            assert answer.text("Location") == "http://s3.test:80/bucket/up/%C3%A4"


def test_success_action_redirect(s3: S3, sign) -> None:
    conditions = [*CONDITIONS, ["starts-with", "$success_action_redirect", "http"]]
    fields = {"key": "up/a b", "success_action_redirect": "http://app.test/done?id=1"}
    answer = post(s3, fields | sign(conditions))
    etag = hashlib.md5(b"file content").hexdigest()
    assert answer.status == 303
    assert (
        answer.headers["Location"]
        == f"http://app.test/done?id=1&bucket=bucket&key=up%2Fa%20b&etag=%22{etag}%22"
    )


def test_wrong_signatures_and_keys(s3: S3, sign) -> None:
    assert post(s3, {"key": "up/key"} | sign(CONDITIONS, secret="wrong")).code == "SignatureDoesNotMatch"
    assert post(s3, {"key": "up/key"} | sign(CONDITIONS, key="nobody")).code == "InvalidAccessKeyId"
    signed = sign(CONDITIONS)
    signed["policy"] = forms.policy_text([*CONDITIONS, ["starts-with", "$key", ""]])
    assert post(s3, {"key": "up/key"} | signed).code == "SignatureDoesNotMatch"
    assert s3.keys("bucket") == []


def test_expired_policies(s3: S3, sign) -> None:
    answer = post(s3, {"key": "up/key"} | sign(CONDITIONS, expiration=forms.expiration(-1)))
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert "expired" in answer.message.lower()


def test_policies_do_not_give_what_the_signer_lacks(s3: S3, other: S3, sign) -> None:
    answer = post(s3, {"key": "up/key"} | sign(CONDITIONS, key="bob-key", secret="bob-secret"))
    assert (answer.status, answer.code) == (403, "AccessDenied")


def test_anonymous_forms_need_a_public_bucket(s3: S3, anonymous: S3) -> None:
    assert post(anonymous, {"key": "key"}).code == "AccessDenied"
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read-write"})
    assert post(anonymous, {"key": "key"}).status == 204


@pytest.mark.parametrize(
    ("fields", "file", "status"),
    [
        ({}, b"x", 400),
        ({"key": ""}, b"x", 400),
        ({"key": "up/key"}, None, 400),
        ({"key": "k" * 1025}, b"x", 400),
    ],
    ids=["no key", "empty key", "no file", "long key"],
)
def test_incomplete_forms(s3: S3, sign, fields: dict[str, str], file: bytes | None, status: int) -> None:
    assert post(s3, fields | sign(CONDITIONS), file).status == status
    assert s3.keys("bucket") == []


def test_a_field_after_the_file_cannot_be_the_key(s3: S3, sign) -> None:
    answer = post(s3, sign(CONDITIONS), after=[("key", "up/key")])
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_truncated_forms_store_nothing(s3: S3, sign) -> None:
    data = forms.body(list(({"key": "up/key"} | sign(CONDITIONS)).items()), b"x" * 100_000)
    for cut in (len(data) - 1000, len(data) - len(forms.BOUNDARY) - 3, 200):
        headers = {"Content-Type": forms.CONTENT_TYPE}
        assert s3.request("POST", "/bucket", data[:cut], headers, signer="none").status == 400
    assert s3.keys("bucket") == []


def test_too_many_and_too_large_fields(s3: S3) -> None:
    many = {f"f{i}": "v" for i in range(200)}
    assert post(s3, {"key": "up/key"} | many).status == 400
    assert post(s3, {"key": "up/key", "x-amz-meta-a": "v" * 30_000}).status == 400


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "text/plain", ""])
def test_other_bodies_are_refused(s3: S3, kind: str) -> None:
    answer = s3.request("POST", "/bucket", b"{}", {"Content-Type": kind} if kind else {}, signer="none")
    assert 400 <= answer.status < 500


def test_tags_come_as_a_document(s3: S3, sign) -> None:
    tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
    conditions = [*CONDITIONS, ["starts-with", "$tagging", ""]]
    assert post(s3, {"key": "up/key", "tagging": tagging} | sign(conditions)).status == 204
    assert s3.get("/bucket/up/key?tagging").texts("TagSet/Tag/Key") == ["a"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-meta-a", "1\r\nSet-Cookie: a=b"),
        ("Cache-Control", "a\nb"),
        ("x-amz-meta-a b", "1"),
        ("x-amz-meta-\u00e4", "1"),
    ],
)
def test_fields_that_no_header_can_hold_are_refused(s3: S3, sign, name: str, value: str) -> None:
    answer = post(s3, {"key": "up/key", name: value} | sign([*CONDITIONS, ["starts-with", f"${name}", ""]]))
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert s3.keys("bucket") == []
