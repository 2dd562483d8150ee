"""Bucket policies over HTTP: kept, shown, obeyed, with the conditions that requests can meet."""

from __future__ import annotations

import json
from typing import Any

import pytest
from client import S3
from forms import CONTENT_TYPE, body, v4_fields

BOTH = ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]


def document(*statements: dict[str, Any]) -> bytes:
    base = {"Effect": "Allow", "Principal": "*", "Resource": BOTH}
    return json.dumps(
        {"Version": "2012-10-17", "Statement": [{**base, **row} for row in statements]}
    ).encode()


def put(s3: S3, *statements: dict[str, Any], headers: dict[str, str] | None = None) -> None:
    assert s3.put("/bucket?policy", document(*statements), headers).status == 204


def test_a_policy_comes_back_as_it_was_put(s3: S3) -> None:
    text = b' {"Statement": {"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::*"}}\n'
    assert s3.put("/bucket?policy", text).status == 204
    answer = s3.get("/bucket?policy")
    assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, text, "application/json")
    assert s3.delete("/bucket?policy").status == 204
    assert s3.get("/bucket?policy").code == "NoSuchBucketPolicy"
    assert s3.delete("/bucket?policy").status == 204


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b" " * 21_000,
        document({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket2/*"}),
        document({"Action": "s3:GetObject", "Principal": None, "NotPrincipal": {"AWS": "bob"}}),
    ],
)
def test_a_malformed_policy_changes_nothing(s3: S3, other: S3, text: bytes) -> None:
    put(s3, {"Action": "s3:ListBucket"})
    answer = s3.put("/bucket?policy", text)
    assert (answer.status, answer.code) == (400, "MalformedPolicy")
    assert other.get("/bucket").status == 200


def test_it_holds_from_the_next_request_on(s3: S3, other: S3, anonymous: S3) -> None:
    s3.put("/bucket/key", b"x")
    put(s3, {"Action": "s3:GetObject", "Principal": {"AWS": "bob"}})
    assert other.get("/bucket/key").body == b"x"
    assert anonymous.get("/bucket/key").status == 403
    assert other.get("/bucket").status == 403
    s3.delete("/bucket?policy")
    assert other.get("/bucket/key").status == 403


def test_it_gives_nothing_away_that_others_own(s3: S3, other: S3, anonymous: S3) -> None:
    put(s3, {"Action": "s3:*"})
    other.put("/bucket/theirs", b"x")
    s3.put("/bucket/mine", b"x")
    assert anonymous.get("/bucket/mine").status == 200
    assert anonymous.get("/bucket/theirs").status == 403
    assert other.get("/bucket/theirs").status == 200


# ---------------------------------------------------------------- lock-out


LOCKED = {"Effect": "Deny", "Action": "s3:*"}


def test_owners_can_always_mend_their_policy(s3: S3, other: S3) -> None:
    put(s3, LOCKED, {"Action": "s3:*"})
    assert s3.get("/bucket").status == 403
    assert other.delete("/bucket?policy").status == 403
    assert s3.get("/bucket?policy").status == 200
    assert s3.delete("/bucket?policy").status == 204
    assert s3.get("/bucket").status == 200


def test_owners_may_give_that_up_and_then_root_mends_it(s3: S3, root: S3) -> None:
    put(s3, LOCKED, headers={"x-amz-confirm-remove-self-bucket-access": "true"})
    assert s3.get("/bucket?policy").status == 403
    assert s3.delete("/bucket?policy").status == 403
    assert root.get("/bucket").status == 403
    assert root.put("/bucket?policy", document(LOCKED)).status == 204
    assert s3.get("/bucket?policy").status == 200


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("condition", "path", "status"),
    [
        ({"StringEquals": {"s3:prefix": "a/"}}, "/bucket?prefix=a%2F", 200),
        ({"StringEquals": {"s3:prefix": "a/"}}, "/bucket?prefix=b%2F", 403),
        ({"StringEquals": {"s3:prefix": "a/"}}, "/bucket", 403),
        ({"StringEquals": {"s3:delimiter": "/"}}, "/bucket?list-type=2&delimiter=%2F", 200),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, "/bucket?max-keys=10", 200),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, "/bucket?max-keys=11", 403),
        ({"Bool": {"aws:SecureTransport": "true"}}, "/bucket", 403),
        ({"Bool": {"aws:SecureTransport": "false"}}, "/bucket", 200),
        ({"StringEquals": {"aws:username": "bob"}}, "/bucket", 200),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::bob:root"}}, "/bucket", 200),
        ({"StringEquals": {"aws:userid": "carol"}}, "/bucket", 403),
        ({"StringEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}}, "/bucket", 200),
        ({"StringEquals": {"s3:authType": "REST-QUERY-STRING"}}, "/bucket", 403),
        ({"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}}, "/bucket", 403),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, "/bucket", 200),
        ({"NumericLessThan": {"aws:EpochTime": "1000"}}, "/bucket", 403),
        ({"StringEquals": {"s3:ResourceAccount": "alice"}}, "/bucket", 200),
        ({"StringEquals": {"aws:SourceVpce": "vpce-1"}}, "/bucket", 403),
        ({"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}, "/bucket", 200),
    ],
)
def test_facts_of_listings_and_callers(
    s3: S3, other: S3, condition: dict[str, Any], path: str, status: int
) -> None:
    put(s3, {"Action": "s3:ListBucket", "Condition": condition})
    assert other.get(path).status == status


def test_referer_user_agent_and_presigned_urls(s3: S3, other: S3) -> None:
    s3.put("/bucket/key", b"x")
    put(s3, {"Action": "s3:GetObject", "Condition": {"StringLike": {"aws:Referer": "http://example.com/*"}}})
    assert other.request("GET", "/bucket/key", headers={"Referer": "http://example.com/a"}).status == 200
    assert other.get("/bucket/key").status == 403
    put(s3, {"Action": "s3:GetObject", "Condition": {"StringEquals": {"aws:UserAgent": "me"}}})
    assert other.request("GET", "/bucket/key", headers={"User-Agent": "me"}).status == 200
    put(s3, {"Action": "s3:GetObject", "Condition": {"StringEquals": {"s3:authType": "REST-QUERY-STRING"}}})
    assert other.open("GET", other.presign("GET", "/bucket/key")).status == 200
    assert other.get("/bucket/key").status == 403


@pytest.mark.parametrize(
    ("condition", "headers", "status"),
    [
        ({"StringEquals": {"s3:x-amz-acl": "private"}}, {"x-amz-acl": "private"}, 200),
        ({"StringEquals": {"s3:x-amz-acl": "private"}}, {}, 403),
        ({"StringEquals": {"s3:x-amz-grant-read": 'id="alice"'}}, {"x-amz-grant-read": 'id="alice"'}, 200),
        ({"StringEquals": {"s3:x-amz-storage-class": "GLACIER"}}, {"x-amz-storage-class": "GLACIER"}, 200),
        ({"StringEquals": {"s3:RequestObjectTag/a": "1"}}, {"x-amz-tagging": "a=1&b=2"}, 200),
        ({"StringEquals": {"s3:RequestObjectTag/a": "1"}}, {"x-amz-tagging": "A=1"}, 403),
        (
            {"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["a"]}},
            {"x-amz-tagging": "a=1&b=2"},
            403,
        ),
        ({"Null": {"s3:if-none-match": "false"}}, {"If-None-Match": "*"}, 200),
        ({"StringEquals": {"s3:x-amz-server-side-encryption": "AES256"}}, {}, 403),
        ({"Null": {"s3:x-amz-copy-source": "true"}}, {}, 200),
    ],
)
def test_facts_of_uploads(
    s3: S3, other: S3, condition: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    put(s3, {"Action": "s3:PutObject", "Condition": condition})
    assert other.put("/bucket/key", b"x", headers).status == status


def test_copies(s3: S3, other: S3) -> None:
    for key in ("public/a b", "private/a"):
        s3.put(f"/bucket/{key}", b"x", {"x-amz-tagging": "kept=yes"})
    put(
        s3,
        {"Action": "s3:GetObject"},
        {"Action": "s3:PutObject", "Condition": {"StringLike": {"s3:x-amz-copy-source": "bucket/public/*"}}},
    )
    for source in ("/bucket/public/a%20b", "bucket/public/a+b", "/bucket%2Fpublic/a%20b"):
        assert other.put("/bucket/copy", headers={"x-amz-copy-source": source}).status == 200
    assert other.put("/bucket/copy", headers={"x-amz-copy-source": "/bucket/private/a"}).status == 403
    wanted = {"StringEquals": {"s3:RequestObjectTag/kept": "no"}}
    put(s3, {"Action": "s3:GetObject"}, {"Action": "s3:PutObject", "Condition": wanted})
    headers = {"x-amz-copy-source": "/bucket/private/a", "x-amz-tagging": "kept=no"}
    assert other.put("/bucket/copy", headers=headers).status == 403  # the copy would keep its source's tags
    assert other.put("/bucket/copy", headers={**headers, "x-amz-tagging-directive": "REPLACE"}).status == 200
    put(
        s3,
        {
            "Effect": "Deny",
            "Action": "s3:PutObject",
            "Condition": {"StringEquals": {"s3:x-amz-metadata-directive": "REPLACE"}},
        },
    )
    headers["x-amz-metadata-directive"] = "replace"
    assert s3.put("/bucket/copy", headers=headers).status == 403


def test_the_source_of_a_copy_is_asked_of_its_own_bucket(s3: S3, other: S3) -> None:
    s3.put("/bucket/key", b"x")
    other.put("/theirs")
    headers = {"x-amz-copy-source": "/bucket/key"}
    assert other.put("/theirs/copy", headers=headers).status == 403
    put(s3, {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/key"})
    assert other.put("/theirs/copy", headers=headers).status == 200
    version = {"x-amz-copy-source": "/bucket/key?versionId=null"}
    assert other.put("/theirs/copy", headers=version).status == 403
    named = {"StringEquals": {"s3:VersionId": "null"}}
    put(s3, {"Action": "s3:GetObjectVersion", "Condition": named})
    assert other.put("/theirs/copy", headers=version).status == 200
    assert other.put("/theirs/copy", headers=headers).status == 403


def test_tags_of_the_object_and_of_the_request(s3: S3, other: S3) -> None:
    s3.put("/bucket/open", b"x", {"x-amz-tagging": "security=public"})
    s3.put("/bucket/shut", b"x", {"x-amz-tagging": "security=private"})
    tagged = {"StringEquals": {"s3:ExistingObjectTag/security": "public"}}
    put(s3, {"Action": ["s3:GetObject", "s3:GetObjectTagging"], "Condition": tagged})
    for subresource in ("", "?tagging"):
        assert other.get(f"/bucket/open{subresource}").status == 200
        assert other.get(f"/bucket/shut{subresource}").status == 403
    put(s3, {"Action": "s3:PutObjectTagging", "Condition": {"StringEquals": {"s3:RequestObjectTag/a": "1"}}})
    for value, status in (("1", 200), ("2", 403)):
        tags = f"<Tagging><TagSet><Tag><Key>a</Key><Value>{value}</Value></Tag></TagSet></Tagging>"
        assert other.put("/bucket/open?tagging", tags.encode()).status == status


def test_an_upload_is_no_way_around_a_denial_of_tags_or_acls(s3: S3, other: S3) -> None:
    put(
        s3,
        {"Action": "s3:PutObject"},
        {"Effect": "Deny", "Action": ["s3:PutObjectTagging", "s3:PutObjectAcl"]},
    )
    assert other.put("/bucket/key", b"x").status == 200
    assert other.put("/bucket/key", b"x", {"x-amz-tagging": "a=1"}).status == 403
    assert other.put("/bucket/key", b"x", {"x-amz-acl": "public-read"}).status == 403
    assert other.post("/bucket/key?uploads", headers={"x-amz-acl": "public-read"}).status == 403


def test_each_key_of_a_multiple_delete(s3: S3, other: S3) -> None:
    for key in ("mine/a", "yours/a"):
        s3.put(f"/bucket/{key}", b"x")
    put(s3, {"Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::bucket/yours/*"})
    items = "".join(f"<Object><Key>{key}</Key></Object>" for key in ("mine/a", "yours/a"))
    versioned = "<Object><Key>yours/a</Key><VersionId>null</VersionId></Object>"
    answer = other.post("/bucket?delete", f"<Delete>{items}{versioned}</Delete>".encode())
    assert answer.texts("Deleted/Key") == ["yours/a"]
    assert answer.texts("Error/Key") == ["mine/a", "yours/a"]
    assert answer.texts("Error/VersionId") == ["null"]
    assert set(answer.texts("Error/Code")) == {"AccessDenied"}
    assert s3.keys("bucket") == ["mine/a"]


def test_a_missing_object_is_told_to_those_who_may_list_it(s3: S3, other: S3) -> None:
    put(s3, {"Action": "s3:ListBucket", "Condition": {"StringLike": {"s3:prefix": "public/*"}}})
    assert other.get("/bucket/public/none").status == 404
    assert other.get("/bucket/private/none").status == 403
    assert other.get("/bucket/private/none?prefix=public%2F").status == 403


def test_forms(s3: S3, other: S3) -> None:
    def send(**fields: str) -> int:
        assert other.credentials is not None
        sent = {"key": "k", **fields}
        signed = v4_fields(
            other.credentials.access_key,
            other.credentials.secret_key,
            [{"bucket": "bucket"}, *({name: value} for name, value in sent.items())],
        )
        form = body([*sent.items(), *signed.items()])
        return other.anonymous().post("/bucket", form, {"Content-Type": CONTENT_TYPE}).status

    assert send() == 403
    put(
        s3,
        {
            "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::bucket/k",
            "Condition": {"StringEquals": {"s3:x-amz-acl": "private", "s3:authType": "POST"}},
        },
    )
    assert send() == 403
    assert send(acl="private") == 204
    tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
    put(s3, {"Action": "s3:PutObject", "Condition": {"StringEquals": {"s3:RequestObjectTag/a": "1"}}})
    assert send(tagging=tags) == 204
    assert send(tagging=tags.replace("1", "2")) == 403


# ---------------------------------------------------------------- status


def test_policy_status(s3: S3) -> None:
    def status() -> str | None:
        return s3.get("/bucket?policyStatus").text("IsPublic")

    assert status() == "false"
    put(s3, {"Action": "s3:GetObject", "Principal": {"AWS": "bob"}})
    assert status() == "false"
    put(s3, {"Action": "s3:GetObject"})
    assert status() == "true"
    put(s3, {"Action": "s3:GetObject", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/24"}}})
    assert status() == "false"
