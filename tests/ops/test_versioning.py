"""Versioned buckets."""

from __future__ import annotations

import pytest
from client import S3


def status(s3: S3, state: str) -> None:
    body = f"<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>".encode()
    assert s3.put("/bucket?versioning", body).status == 200


@pytest.fixture
def versioned(s3: S3) -> S3:
    status(s3, "Enabled")
    return s3


def test_a_fresh_bucket_has_no_status(s3: S3) -> None:
    assert s3.get("/bucket?versioning").text("Status") is None
    status(s3, "Suspended")
    assert s3.get("/bucket?versioning").text("Status") == "Suspended"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<VersioningConfiguration/>",
        b"<VersioningConfiguration><Status>On</Status></VersioningConfiguration>",
    ],
)
def test_put_bucket_versioning_refuses_other_words(s3: S3, body: bytes) -> None:
    assert s3.put("/bucket?versioning", body).status == 400


def test_every_put_makes_a_version(versioned: S3) -> None:
    first = versioned.put("/bucket/key", b"1").headers["x-amz-version-id"]
    second = versioned.put("/bucket/key", b"2").headers["x-amz-version-id"]
    assert first != second
    assert versioned.get("/bucket/key").body == b"2"
    assert versioned.get(f"/bucket/key?versionId={first}").body == b"1"
    listed = versioned.get("/bucket?versions")
    assert listed.texts("Version/VersionId") == [second, first]
    assert listed.texts("Version/IsLatest") == ["true", "false"]


def test_delete_makes_a_marker_and_undoing_it_brings_the_object_back(versioned: S3) -> None:
    versioned.put("/bucket/key", b"1")
    gone = versioned.delete("/bucket/key")
    marker = gone.headers["x-amz-version-id"]
    assert gone.headers["x-amz-delete-marker"] == "true"
    missing = versioned.get("/bucket/key")
    assert (missing.code, missing.headers["x-amz-delete-marker"]) == ("NoSuchKey", "true")
    assert versioned.get(f"/bucket/key?versionId={marker}").status == 405
    assert versioned.keys("bucket") == []
    assert versioned.delete(f"/bucket/key?versionId={marker}").headers["x-amz-delete-marker"] == "true"
    assert versioned.get("/bucket/key").body == b"1"


def test_suspended_buckets_write_the_null_version(versioned: S3) -> None:
    first = versioned.put("/bucket/key", b"1").headers["x-amz-version-id"]
    status(versioned, "Suspended")
    assert "x-amz-version-id" not in versioned.put("/bucket/key", b"2").headers
    versioned.put("/bucket/key", b"3")
    assert versioned.get("/bucket?versions").texts("Version/VersionId") == ["null", first]
    assert versioned.get(f"/bucket/key?versionId={first}").body == b"1"
    assert versioned.get("/bucket/key?versionId=null").body == b"3"
    assert versioned.delete("/bucket/key").headers["x-amz-version-id"] == "null"
    assert versioned.get("/bucket?versions").texts("DeleteMarker/VersionId") == ["null"]


def test_objects_from_before_are_the_null_version(s3: S3) -> None:
    s3.put("/bucket/key", b"old")
    status(s3, "Enabled")
    s3.put("/bucket/key", b"new")
    assert s3.get("/bucket/key?versionId=null").body == b"old"


def test_version_listing_pages(versioned: S3) -> None:
    ids = [versioned.put(f"/bucket/{key}", b"x").headers["x-amz-version-id"] for key in "aab"]
    first = versioned.get("/bucket?versions&max-keys=1")
    assert first.texts("Version/VersionId") == [ids[1]]
    assert (first.text("NextKeyMarker"), first.text("NextVersionIdMarker")) == ("a", ids[1])
    rest = versioned.get(f"/bucket?versions&key-marker=a&version-id-marker={ids[1]}")
    assert rest.texts("Version/VersionId") == [ids[0], ids[2]]
    assert versioned.get("/bucket?versions&version-id-marker=x").code == "InvalidArgument"


def test_a_bucket_with_versions_is_not_empty(versioned: S3) -> None:
    versioned.put("/bucket/key", b"1")
    versioned.delete("/bucket/key")
    assert versioned.delete("/bucket").code == "BucketNotEmpty"


def test_copying_a_version(versioned: S3) -> None:
    first = versioned.put("/bucket/key", b"1").headers["x-amz-version-id"]
    versioned.put("/bucket/key", b"2")
    answer = versioned.put("/bucket/copy", headers={"x-amz-copy-source": f"bucket/key?versionId={first}"})
    assert answer.headers["x-amz-copy-source-version-id"] == first
    assert versioned.get("/bucket/copy").body == b"1"


def test_unknown_versions(versioned: S3) -> None:
    versioned.put("/bucket/key", b"1")
    assert versioned.get("/bucket/key?versionId=nope").code == "NoSuchVersion"
    assert versioned.delete("/bucket/key?versionId=nope").status == 204


def test_conditions_see_the_latest_version(versioned: S3) -> None:
    versioned.put("/bucket/key", b"1")
    assert versioned.put("/bucket/key", b"2", {"If-None-Match": "*"}).code == "PreconditionFailed"
    versioned.delete("/bucket/key")
    assert versioned.put("/bucket/key", b"2", {"If-None-Match": "*"}).status == 200
