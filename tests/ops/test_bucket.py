"""CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation, ListBuckets."""

from __future__ import annotations

import pytest
from client import S3


def test_create_bucket_answers_its_location(s3: S3) -> None:
    answer = s3.put("/new-bucket")
    assert answer.status == 200
    assert answer.headers["Location"] == "/new-bucket"
    head = s3.head("/new-bucket")
    assert head.headers["x-amz-bucket-region"] == "us-east-1"
    assert head.headers["x-amz-access-point-alias"] == "false"


@pytest.mark.parametrize(
    "name", ["ab", "a" * 64, "Upper", "a..b", "-a-", "a_b", "192.168.0.1", "xn--abc", "a.-b"]
)
def test_create_bucket_refuses_names_out_of_rule(s3: S3, name: str) -> None:
    answer = s3.put(f"/{name}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


@pytest.mark.parametrize("name", ["abc", "a" * 63, "0.a", "a-b.c"])
def test_create_bucket_takes_names_in_rule(s3: S3, name: str) -> None:
    assert s3.put(f"/{name}").status == 200


def test_create_bucket_again_is_harmless_for_its_owner_and_refused_to_others(s3: S3, other: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert s3.put("/bucket").status == 200
    assert s3.get("/bucket/key").body == b"x"
    assert other.put("/bucket").code == "BucketAlreadyExists"


def test_create_bucket_refuses_a_foreign_region(s3: S3) -> None:
    body = b"<CreateBucketConfiguration><LocationConstraint>mars</LocationConstraint></CreateBucketConfiguration>"
    answer = s3.put("/elsewhere", body)
    assert (answer.status, answer.code) == (400, "InvalidLocationConstraint")
    assert s3.head("/elsewhere").status == 404


def test_create_bucket_refuses_anonymous_callers(anonymous: S3) -> None:
    assert anonymous.put("/mine").code == "AccessDenied"


def test_delete_bucket_refuses_a_bucket_with_objects(s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert s3.delete("/bucket").code == "BucketNotEmpty"
    s3.delete("/bucket/key")
    assert s3.delete("/bucket").status == 204
    assert s3.head("/bucket").status == 404


@pytest.mark.parametrize("left", ["a version", "a delete marker", "a locked version"])
def test_delete_bucket_refuses_a_bucket_with_versions(s3: S3, left: str) -> None:
    s3.put("/kept", headers={"x-amz-bucket-object-lock-enabled": "true"})
    lock = {"x-amz-object-lock-legal-hold": "ON"} if left == "a locked version" else {}
    version_id = s3.put("/kept/key", b"x", lock).headers["x-amz-version-id"]
    s3.delete("/kept/key")
    if left == "a delete marker":
        assert s3.delete(f"/kept/key?versionId={version_id}").status == 204
    if left == "a locked version":
        assert s3.delete(f"/kept/key?versionId={version_id}").code == "AccessDenied"
    assert s3.delete("/kept").code == "BucketNotEmpty"
    assert s3.head("/kept").status == 200


def test_delete_bucket_takes_open_uploads_along(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    s3.put_part("/bucket/key", upload_id, 1, b"x" * 2000)
    assert s3.delete("/bucket").status == 204
    s3.put("/bucket")
    assert s3.get("/bucket?uploads").texts("Upload") == []


def test_delete_bucket_is_refused_to_others(s3: S3, other: S3) -> None:
    assert other.delete("/bucket").code == "AccessDenied"


def test_a_missing_bucket_is_named(s3: S3) -> None:
    answer = s3.get("/nowhere")
    assert (answer.status, answer.code, answer.text("BucketName")) == (404, "NoSuchBucket", "nowhere")


def test_get_bucket_location_is_empty_in_us_east_1(s3: S3) -> None:
    answer = s3.get("/bucket?location")
    assert answer.status == 200
    assert answer.xml.tag == "LocationConstraint"
    assert not answer.xml.text


def test_expected_bucket_owner_is_checked(s3: S3) -> None:
    assert s3.request("HEAD", "/bucket", headers={"x-amz-expected-bucket-owner": "alice"}).status == 200
    assert s3.request("HEAD", "/bucket", headers={"x-amz-expected-bucket-owner": "bob"}).status == 403


def test_list_buckets_shows_the_callers_own(s3: S3, other: S3, root: S3) -> None:
    other.put("/another")
    assert s3.get("/").texts("Buckets/Bucket/Name") == ["bucket"]
    assert s3.get("/").text("Owner/ID") == "alice"
    assert root.get("/").texts("Buckets/Bucket/Name") == ["another", "bucket"]


def test_list_buckets_pages(s3: S3) -> None:
    for name in ("aaa", "bbb", "ccc"):
        s3.put(f"/{name}")
    first = s3.get("/?max-buckets=2")
    assert first.texts("Buckets/Bucket/Name") == ["aaa", "bbb"]
    token = first.text("ContinuationToken")
    rest = s3.get(f"/?max-buckets=2&continuation-token={token}")
    assert rest.texts("Buckets/Bucket/Name") == ["bucket", "ccc"]
    assert rest.text("ContinuationToken") is None
    assert s3.get("/?prefix=b").texts("Buckets/Bucket/Name") == ["bbb", "bucket"]


def test_list_buckets_by_region(s3: S3) -> None:
    here = s3.get("/?bucket-region=us-east-1")
    assert here.texts("Buckets/Bucket/Name") == ["bucket"]
    assert here.texts("Buckets/Bucket/BucketRegion") == ["us-east-1"]
    assert s3.get("/?bucket-region=eu-west-1").texts("Buckets/Bucket/Name") == []


def test_list_buckets_refuses_anonymous_callers(anonymous: S3) -> None:
    assert anonymous.get("/").code == "AccessDenied"


@pytest.mark.parametrize(
    "query", ["max-buckets=0", "max-buckets=x", "max-buckets=10001", "continuation-token=zzz"]
)
def test_list_buckets_refuses_bad_arguments(s3: S3, query: str) -> None:
    assert s3.get(f"/?{query}").code == "InvalidArgument"
