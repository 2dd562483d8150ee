"""RenameObject."""

from __future__ import annotations

import pytest
from client import S3

from s3lite.app import Application
from s3lite.core.sweep import sweep


def rename(s3: S3, source: str, path: str = "/bucket/new", **headers: str):
    sent = {"x-amz-rename-source": source} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return s3.put(f"{path}?renameObject", headers=sent)


@pytest.mark.parametrize("size", [0, 10, 20_000])
def test_everything_but_the_key_stays(app: Application, s3: S3, size: int) -> None:
    sent = {"x-amz-meta-a": "b", "x-amz-tagging": "t=1", "Content-Type": "text/x"}
    s3.put("/bucket/old", b"x" * size, sent)
    before = s3.get("/bucket/old")
    assert rename(s3, "old").status == 200
    after = s3.get("/bucket/new")
    assert after.body == before.body
    for name in ("ETag", "Last-Modified", "x-amz-meta-a", "x-amz-tagging-count", "Content-Type"):
        assert after.headers[name] == before.headers[name]
    assert s3.keys("bucket") == ["new"]
    assert sweep(app.services.store).blobs == 0


def test_multipart_objects_keep_their_parts(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/old")
    etags = {number: s3.put_part("/bucket/old", upload_id, number, b"x" * 1024) for number in (1, 2)}
    s3.complete("/bucket/old", upload_id, etags)
    assert rename(s3, "old").status == 200
    assert s3.get("/bucket/new?partNumber=2").headers["x-amz-mp-parts-count"] == "2"
    assert len(s3.get("/bucket/new").body) == 2048


@pytest.mark.parametrize("source", ["/bucket/a%20b/%D0%BA", "a%20b/%D0%BA"])
def test_the_source_is_encoded_with_or_without_its_bucket(s3: S3, source: str) -> None:
    s3.put("/bucket/a b/к", b"x")
    assert rename(s3, source).status == 200
    assert s3.keys("bucket") == ["new"]


def test_what_had_the_key_is_replaced(app: Application, s3: S3) -> None:
    s3.put("/bucket/old", b"o" * 5000)
    s3.put("/bucket/new", b"n" * 5000)
    assert rename(s3, "old").status == 200
    assert s3.get("/bucket/new").body == b"o" * 5000
    assert sweep(app.services.store).blobs == 1


def test_conditions_of_both_sides(s3: S3) -> None:
    old = s3.put("/bucket/old", b"o").headers["ETag"]
    assert rename(s3, "old", If_Match='"x"').code == "NoSuchKey"
    new = s3.put("/bucket/new", b"n").headers["ETag"]
    future, past = "Fri, 01 Jan 2100 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT"
    for refused in (
        {"If_None_Match": "*"},
        {"If_Match": old},
        {"If_Unmodified_Since": past},
        {"x_amz_rename_source_if_match": new},
        {"x_amz_rename_source_if_none_match": old},
        {"x_amz_rename_source_if_unmodified_since": past},
    ):
        assert rename(s3, "old", **refused).code == "PreconditionFailed"
    assert s3.keys("bucket") == ["new", "old"]
    accepted = {"If_Match": new, "x_amz_rename_source_if_unmodified_since": future}
    assert rename(s3, "old", **accepted, x_amz_rename_source_if_match=old).status == 200


def test_what_is_refused(s3: S3, other: S3) -> None:
    s3.put("/bucket/new", b"x")
    assert rename(s3, "none").code == "NoSuchKey"
    assert rename(s3, "new").code == "InvalidRequest"
    assert rename(s3, "/bucket/").code == "InvalidArgument"
    assert rename(s3, "%FF").code == "InvalidArgument"
    assert s3.put("/bucket/new?renameObject").code == "InvalidArgument"
    assert rename(other, "new", "/bucket/mine").code == "AccessDenied"
    assert s3.get("/bucket/new").body == b"x"


def test_versioned_buckets_refuse(s3: S3) -> None:
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    s3.put("/bucket?versioning", body)
    s3.put("/bucket/old", b"x")
    answer = rename(s3, "old")
    assert (answer.status, answer.code) == (409, "InvalidBucketState")
