"""GetObject, HeadObject, GetObjectAttributes."""

from __future__ import annotations

import hashlib

import pytest
from client import S3

from s3lite.core import read

BODY = bytes(range(256)) * 40
LARGE = bytes(i * 7 % 256 for i in range(200_000))


@pytest.fixture(params=[BODY, LARGE], ids=["10 KB", "200 KB"])
def body(request: pytest.FixtureRequest, s3: S3) -> bytes:
    s3.put("/bucket/key", request.param)
    return bytes(request.param)


@pytest.mark.parametrize(
    ("spec", "first", "last"),
    [("0-0", 0, 1), ("4-7", 4, 8), ("100-", 100, None), ("-5", -5, None), ("5-999999999", 5, None)],
)
def test_get_object_range(s3: S3, body: bytes, spec: str, first: int, last: int | None) -> None:
    answer = s3.request("GET", "/bucket/key", headers={"Range": f"bytes={spec}"})
    wanted = body[first:last]
    assert (answer.status, answer.body) == (206, wanted)
    start = first if first >= 0 else len(body) + first
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(wanted) - 1}/{len(body)}"
    assert answer.headers["Content-Length"] == str(len(wanted))


@pytest.mark.parametrize("spec", ["bytes=0-1,3-4", "lines=1-2", "bytes=x-y", "bytes=5-2"])
def test_get_object_ignores_ranges_that_s3_ignores(s3: S3, body: bytes, spec: str) -> None:
    answer = s3.request("GET", "/bucket/key", headers={"Range": spec})
    assert (answer.status, len(answer.body)) == (200, len(body))


def test_get_object_refuses_a_range_past_the_end(s3: S3, body: bytes) -> None:
    answer = s3.request("GET", "/bucket/key", headers={"Range": f"bytes={len(body)}-"})
    assert (answer.status, answer.code) == (416, "InvalidRange")
    assert answer.headers["Content-Range"] == f"bytes */{len(body)}"
    assert answer.text("ActualObjectSize") == str(len(body))


def test_get_object_range_of_nothing(s3: S3) -> None:
    s3.put("/bucket/empty", b"")
    answer = s3.request("GET", "/bucket/empty", headers={"Range": "bytes=0-1"})
    assert answer.status == 416
    assert answer.headers["Content-Range"] == "bytes */0"
    assert answer.text("ActualObjectSize") == "0"


def test_get_object_conditions(s3: S3, body: bytes) -> None:
    etag = s3.head("/bucket/key").headers["ETag"]
    modified = s3.head("/bucket/key").headers["Last-Modified"]

    def status(**headers: str) -> int:
        return s3.get("/bucket/key", **headers).status

    assert status(If_Match=etag) == 200
    assert status(If_Match='"other"') == 412
    assert status(If_None_Match=etag) == 304
    assert status(If_None_Match='"other"') == 200
    assert status(If_Modified_Since=modified) == 304
    assert status(If_Modified_Since="Sat, 29 Oct 1994 19:43:31 GMT") == 200
    assert status(If_Unmodified_Since="Sat, 29 Oct 1994 19:43:31 GMT") == 412
    assert status(If_Unmodified_Since=modified) == 200


def test_not_modified_carries_the_etag_and_no_body(s3: S3, body: bytes) -> None:
    etag = s3.head("/bucket/key").headers["ETag"]
    answer = s3.get("/bucket/key", If_None_Match=etag)
    assert answer.headers["ETag"] == etag
    assert answer.body == b""


def test_get_object_overrides_headers_for_signed_requests_only(s3: S3, body: bytes) -> None:
    query = "response-content-type=text%2Fhtml&response-content-disposition=attachment&response-cache-control=no-store"
    raw = s3.presign("GET", f"/bucket/key?{query}")
    answer = s3.open("GET", raw)
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["Cache-Control"] == "no-store"


def test_get_object_refuses_overrides_to_anonymous_callers(s3: S3, anonymous: S3) -> None:
    s3.put("/bucket/public", b"x", {"x-amz-acl": "public-read"})
    assert anonymous.get("/bucket/public").body == b"x"
    assert anonymous.get("/bucket/public?response-content-type=text/html").code == "InvalidRequest"


def test_get_object_refuses_header_injection(s3: S3, body: bytes) -> None:
    raw = s3.presign("GET", "/bucket/key?response-content-type=a%0D%0AX-Evil%3A1")
    assert s3.open("GET", raw).code == "InvalidArgument"


def test_missing_objects_look_alike_to_those_who_may_not_list(s3: S3, other: S3, anonymous: S3) -> None:
    s3.put("/bucket/secret", b"x")
    for client in (other, anonymous):
        present, missing = client.get("/bucket/secret"), client.get("/bucket/missing")
        assert (present.status, present.code) == (missing.status, missing.code) == (403, "AccessDenied")
    assert s3.get("/bucket/missing").code == "NoSuchKey"


def test_head_object_has_no_body(s3: S3, body: bytes) -> None:
    answer = s3.head("/bucket/key")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(body))
    assert s3.head("/bucket/missing").body == b""


def test_every_answer_has_a_request_id(s3: S3) -> None:
    answer = s3.get("/bucket/missing")
    assert answer.headers["x-amz-request-id"] == answer.text("RequestId")
    assert answer.headers["x-amz-id-2"] == answer.text("HostId")


def test_part_number_of_a_plain_object(s3: S3, body: bytes) -> None:
    answer = s3.get("/bucket/key?partNumber=1")
    assert (answer.status, answer.body) == (206, body)
    assert s3.get("/bucket/key?partNumber=2").code == "InvalidPart"
    assert s3.get("/bucket/key?partNumber=0").code == "InvalidArgument"


def test_metadata_beyond_ascii_comes_back_by_rfc_2047(s3: S3, anonymous: S3) -> None:
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read-write"})
    raw = "grün".encode().decode("latin-1")
    anonymous.put("/bucket/key", b"x", {"x-amz-meta-colour": raw})
    assert s3.head("/bucket/key").headers["x-amz-meta-colour"] == "=?UTF-8?B?Z3LDvG4=?="


def test_get_object_attributes(s3: S3, body: bytes) -> None:
    wanted = {"x-amz-object-attributes": "ETag,Checksum,ObjectSize,StorageClass,ObjectParts"}
    answer = s3.request("GET", "/bucket/key?attributes", headers=wanted)
    assert answer.text("ETag") == hashlib.md5(body).hexdigest()
    assert answer.text("ObjectSize") == str(len(body))
    assert answer.text("StorageClass") == "STANDARD"
    assert answer.text("Checksum/ChecksumCRC64NVME")
    assert answer.text("ObjectParts") is None


def test_get_object_attributes_refuses_unknown_names(s3: S3, body: bytes) -> None:
    for value in ("Colour", ""):
        headers = {"x-amz-object-attributes": value} if value else {}
        assert s3.request("GET", "/bucket/key?attributes", headers=headers).code == "InvalidArgument"


# ---------------------------------------------------------------- readers that a writer overtakes


@pytest.fixture
def overtaken(s3: S3, monkeypatch: pytest.MonkeyPatch):
    """A multipart object; before its parts are looked up for the first time, what is given happens to it."""
    upload_id = s3.start_upload("/bucket/key")
    etags = {number: s3.put_part("/bucket/key", upload_id, number, PART) for number in (1, 2)}
    s3.complete("/bucket/key", upload_id, etags)
    real = read.segments

    def arm(happens):
        def segments(store, version):
            monkeypatch.setattr(read, "segments", real)
            happens()
            return real(store, version)

        monkeypatch.setattr(read, "segments", segments)

    return arm


PART = b"p" * 5000
READS = {
    "whole": ({}, ""),
    "range": ({"range": "bytes=1-5"}, ""),
    "part": ({}, "?partNumber=1"),
    "attributes": ({"x_amz_object_attributes": "ObjectParts,ObjectSize"}, "?attributes"),
}


@pytest.mark.parametrize("how", READS)
def test_a_reader_that_is_overtaken_by_a_delete_finds_nothing(s3: S3, overtaken, how: str) -> None:
    headers, query = READS[how]
    overtaken(lambda: s3.delete("/bucket/key"))
    answer = s3.get(f"/bucket/key{query}", **headers)
    assert (answer.status, answer.code) == (404, "NoSuchKey")


@pytest.mark.parametrize("how", READS)
def test_a_reader_that_is_overtaken_by_a_writer_reads_what_was_written(s3: S3, overtaken, how: str) -> None:
    headers, query = READS[how]
    overtaken(lambda: s3.put("/bucket/key", b"new bytes"))
    answer = s3.get(f"/bucket/key{query}", **headers)
    found = answer.text("ObjectSize") if how == "attributes" else answer.body
    assert found == {"whole": b"new bytes", "range": b"ew by", "part": b"new bytes", "attributes": "9"}[how]
    assert answer.headers.get("ETag", "").count("-") == 0


def test_who_may_read_is_decided_anew_when_a_reader_is_overtaken(s3: S3, overtaken) -> None:
    s3.put("/bucket/key?acl", headers={"x-amz-acl": "public-read"})
    overtaken(lambda: s3.put("/bucket/key", b"private"))
    assert s3.anonymous().get("/bucket/key").code == "AccessDenied"


def test_a_copy_that_is_overtaken_copies_what_was_written(s3: S3, overtaken) -> None:
    overtaken(lambda: s3.put("/bucket/key", b"new bytes"))
    asked = {"x-amz-copy-source": "/bucket/key", "x-amz-checksum-algorithm": "SHA256"}  # reads all bytes
    assert s3.put("/bucket/copy", headers=asked).status == 200
    assert s3.get("/bucket/copy").body == b"new bytes"
