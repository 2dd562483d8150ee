"""Multipart uploads."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from client import S3

from s3lite.app import Application
from s3lite.core.sweep import sweep
from s3lite.ops import object_write

PART = b"p" * 5000  # larger than inline_bytes and part_min_bytes of the test settings


def etag_of(*parts: bytes) -> str:
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(digests).hexdigest()}-{len(parts)}"'


def upload(s3: S3, path: str, parts: list[bytes], headers: dict[str, str] | None = None) -> dict[int, str]:
    upload_id = s3.start_upload(path, headers)
    etags = {number: s3.put_part(path, upload_id, number, body) for number, body in enumerate(parts, 1)}
    answer = s3.complete(path, upload_id, etags)
    assert answer.status == 200, answer
    return etags


@pytest.mark.parametrize(
    "parts",
    [[b""], [b"one"], [PART, b"end"], [PART, b"small but enough" * 100, PART, b"x"]],
    ids=["empty", "one", "two", "four"],
)
def test_complete_joins_the_parts(s3: S3, parts: list[bytes]) -> None:
    upload(s3, "/bucket/key", parts)
    answer = s3.get("/bucket/key")
    assert answer.body == b"".join(parts)
    assert answer.headers["ETag"] == etag_of(*parts)


def test_ranges_cross_part_borders(s3: S3) -> None:
    parts = [bytes([i]) * 5000 for i in range(4)]
    whole = b"".join(parts)
    upload(s3, "/bucket/key", parts)
    for first, last in [(0, 0), (4999, 5000), (4990, 15010), (0, 19999), (19999, 19999), (5000, 9999)]:
        answer = s3.request("GET", "/bucket/key", headers={"Range": f"bytes={first}-{last}"})
        assert (answer.status, answer.body) == (206, whole[first : last + 1])


def test_get_by_part_number(s3: S3) -> None:
    parts = [b"a" * 5000, b"b" * 6000, b"c"]
    upload(s3, "/bucket/key", parts)
    answer = s3.get("/bucket/key?partNumber=2")
    assert (answer.status, answer.body) == (206, parts[1])
    assert answer.headers["x-amz-mp-parts-count"] == "3"
    assert answer.headers["Content-Range"] == "bytes 5000-10999/11001"
    assert s3.get("/bucket/key?partNumber=4").code == "InvalidPart"


def test_parts_may_be_skipped_and_replaced(s3: S3, app: Application) -> None:
    upload_id = s3.start_upload("/bucket/key")
    s3.put_part("/bucket/key", upload_id, 7, b"old" * 2000)
    seven = s3.put_part("/bucket/key", upload_id, 7, b"new" * 2000)
    s3.put_part("/bucket/key", upload_id, 8, b"unused" * 1000)
    nine = s3.put_part("/bucket/key", upload_id, 9, b"last")
    assert s3.complete("/bucket/key", upload_id, {7: seven, 9: nine}).status == 200
    assert s3.get("/bucket/key").body == b"new" * 2000 + b"last"
    assert sweep(app.services.store).blobs == 2
    assert s3.get("/bucket/key").body == b"new" * 2000 + b"last"


def test_complete_refuses_bad_part_lists(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    first = s3.put_part("/bucket/key", upload_id, 1, PART)
    second = s3.put_part("/bucket/key", upload_id, 2, PART)
    path = f"/bucket/key?uploadId={upload_id}"
    assert s3.complete("/bucket/key", upload_id, {2: second, 1: first}).code == "InvalidPartOrder"
    assert s3.complete("/bucket/key", upload_id, {1: second, 2: PART.hex()[:32]}).code == "InvalidPart"
    assert s3.complete("/bucket/key", upload_id, {1: first, 3: second}).code == "InvalidPart"
    assert s3.complete("/bucket/key", upload_id, {}).code == "MalformedXML"
    assert s3.post(path, b"not xml").code == "MalformedXML"
    assert s3.complete("/bucket/key", upload_id, {1: first, 2: second}).status == 200


def test_complete_refuses_small_parts_but_the_last(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    etags = {
        1: s3.put_part("/bucket/key", upload_id, 1, b"x" * 1023),
        2: s3.put_part("/bucket/key", upload_id, 2, b"x"),
    }
    answer = s3.complete("/bucket/key", upload_id, etags)
    assert (answer.code, answer.text("PartNumber"), answer.text("ProposedSize")) == (
        "EntityTooSmall",
        "1",
        "1023",
    )
    etags[1] = s3.put_part("/bucket/key", upload_id, 1, b"x" * 1024)
    assert s3.complete("/bucket/key", upload_id, etags).status == 200


def test_complete_is_idempotent(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    etags = {1: s3.put_part("/bucket/key", upload_id, 1, PART)}
    first = s3.complete("/bucket/key", upload_id, etags)
    again = s3.complete("/bucket/key", upload_id, etags)
    assert (again.status, again.text("ETag")) == (200, first.text("ETag"))
    assert s3.complete("/bucket/key", upload_id, {1: '"0"'}).code == "NoSuchUpload"


def test_abort_after_complete_leaves_the_object(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    s3.complete("/bucket/key", upload_id, {1: s3.put_part("/bucket/key", upload_id, 1, PART)})
    assert s3.delete(f"/bucket/key?uploadId={upload_id}").code == "NoSuchUpload"
    assert s3.get("/bucket/key").body == PART


def test_abort_releases_the_parts(s3: S3, app: Application) -> None:
    upload_id = s3.start_upload("/bucket/key")
    s3.put_part("/bucket/key", upload_id, 1, PART)
    assert s3.delete(f"/bucket/key?uploadId={upload_id}").status == 204
    assert s3.delete(f"/bucket/key?uploadId={upload_id}").code == "NoSuchUpload"
    assert s3.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", b"x").code == "NoSuchUpload"
    assert sweep(app.services.store).blobs == 1
    assert list(app.services.store.blobs.scan()) == []


def test_an_upload_belongs_to_its_key(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    assert s3.put(f"/bucket/other?partNumber=1&uploadId={upload_id}", b"x").code == "NoSuchUpload"
    assert s3.get(f"/bucket/other?uploadId={upload_id}").code == "NoSuchUpload"


@pytest.mark.parametrize("number", ["0", "10001", "x", "-1", "1.0", "", "99999999999999999999"])
def test_part_numbers_out_of_range(s3: S3, number: str) -> None:
    upload_id = s3.start_upload("/bucket/key")
    assert s3.put(f"/bucket/key?partNumber={number}&uploadId={upload_id}", b"x").code == "InvalidArgument"


def test_an_upload_id_without_a_part_number_is_never_a_put_object(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    assert s3.put(f"/bucket/key?uploadId={upload_id}", b"x").code == "InvalidArgument"
    assert s3.head("/bucket/key").status == 404


def test_complete_conditions(s3: S3) -> None:
    s3.put("/bucket/key", b"there")
    upload_id = s3.start_upload("/bucket/key")
    etags = {1: s3.put_part("/bucket/key", upload_id, 1, PART)}
    assert s3.complete("/bucket/key", upload_id, etags, {"If-None-Match": "*"}).code == "PreconditionFailed"
    current = s3.head("/bucket/key").headers["ETag"]
    assert s3.complete("/bucket/key", upload_id, etags, {"If-Match": current}).status == 200
    assert s3.get("/bucket/key").body == PART


def test_complete_checks_the_object_size(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    etags = {1: s3.put_part("/bucket/key", upload_id, 1, PART)}
    assert (
        s3.complete("/bucket/key", upload_id, etags, {"x-amz-mp-object-size": "1"}).code == "InvalidRequest"
    )
    assert s3.complete("/bucket/key", upload_id, etags, {"x-amz-mp-object-size": "5000"}).status == 200


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_checksums_of_parts_make_that_of_the_object(s3: S3, kind: str) -> None:
    parts = [b"a" * 5000, b"b" * 3000]
    headers = {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": kind}
    upload(s3, "/bucket/key", parts, headers)
    crcs = [zlib.crc32(part).to_bytes(4, "big") for part in parts]
    if kind == "COMPOSITE":
        expected = base64.b64encode(zlib.crc32(b"".join(crcs)).to_bytes(4, "big")).decode() + "-2"
    else:
        expected = base64.b64encode(zlib.crc32(b"".join(parts)).to_bytes(4, "big")).decode()
    answer = s3.request("HEAD", "/bucket/key", headers={"x-amz-checksum-mode": "ENABLED"})
    assert answer.headers["x-amz-checksum-crc32"] == expected
    assert answer.headers["x-amz-checksum-type"] == kind


def test_a_part_with_another_algorithm_is_refused(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key", {"x-amz-checksum-algorithm": "SHA256"})
    crc = base64.b64encode(zlib.crc32(PART).to_bytes(4, "big")).decode()
    answer = s3.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", PART, {"x-amz-checksum-crc32": crc})
    assert answer.code == "InvalidRequest"


def test_list_parts_pages(s3: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    etags = {number: s3.put_part("/bucket/key", upload_id, number, b"x" * number) for number in (1, 2, 5)}
    first = s3.get(f"/bucket/key?uploadId={upload_id}&max-parts=2")
    assert first.texts("Part/PartNumber") == ["1", "2"]
    assert (first.text("IsTruncated"), first.text("NextPartNumberMarker")) == ("true", "2")
    rest = s3.get(f"/bucket/key?uploadId={upload_id}&max-parts=2&part-number-marker=2")
    assert (rest.texts("Part/PartNumber"), rest.texts("Part/Size"), rest.texts("Part/ETag")) == (
        ["5"],
        ["5"],
        [etags[5]],
    )
    assert rest.text("IsTruncated") == "false"


def test_list_multipart_uploads(s3: S3) -> None:
    ids = {key: [s3.start_upload(f"/bucket/{key}") for _ in range(2)] for key in ("a", "b/1", "b/2")}
    whole = s3.get("/bucket?uploads")
    assert whole.texts("Upload/Key") == ["a", "a", "b/1", "b/1", "b/2", "b/2"]
    assert whole.texts("Upload/UploadId")[:2] == ids["a"]
    first = s3.get("/bucket?uploads&max-uploads=1")
    assert (first.text("NextKeyMarker"), first.text("NextUploadIdMarker")) == ("a", ids["a"][0])
    rest = s3.get(f"/bucket?uploads&key-marker=a&upload-id-marker={ids['a'][0]}")
    assert rest.texts("Upload/UploadId") == [ids["a"][1], *ids["b/1"], *ids["b/2"]]
    folded = s3.get("/bucket?uploads&delimiter=%2F")
    assert (folded.texts("Upload/Key"), folded.texts("CommonPrefixes/Prefix")) == (["a", "a"], ["b/"])
    assert s3.get("/bucket?uploads&prefix=b%2F2").texts("Upload/Key") == ["b/2", "b/2"]


@pytest.mark.parametrize("source_size", [10, 9000])
def test_upload_part_copy(s3: S3, source_size: int) -> None:
    source = bytes(i % 256 for i in range(source_size))
    s3.put("/bucket/source", source)
    upload_id = s3.start_upload("/bucket/key")
    whole = s3.put(
        f"/bucket/key?partNumber=1&uploadId={upload_id}", headers={"x-amz-copy-source": "bucket/source"}
    )
    headers = {"x-amz-copy-source": "bucket/source", "x-amz-copy-source-range": "bytes=2-8"}
    part = s3.put(f"/bucket/key?partNumber=2&uploadId={upload_id}", headers=headers)
    assert whole.text("ETag") == f'"{hashlib.md5(source).hexdigest()}"'
    assert part.text("ETag") == f'"{hashlib.md5(source[2:9]).hexdigest()}"'
    s3.delete("/bucket/source")
    etags = {1: whole.text("ETag") or "", 2: part.text("ETag") or ""}
    answer = s3.complete("/bucket/key", upload_id, etags)
    if source_size < 1024:
        assert answer.code == "EntityTooSmall"
    else:
        assert s3.get("/bucket/key").body == source + source[2:9]


def test_upload_part_copy_of_a_multipart_source(s3: S3) -> None:
    upload(s3, "/bucket/source", [PART, b"end"])
    upload_id = s3.start_upload("/bucket/key")
    answer = s3.put(
        f"/bucket/key?partNumber=1&uploadId={upload_id}", headers={"x-amz-copy-source": "bucket/source"}
    )
    assert answer.text("ETag") == f'"{hashlib.md5(PART + b"end").hexdigest()}"'


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("bytes=0-10", "InvalidRange"),
        ("0-2", "InvalidArgument"),
        ("bytes=0-", "InvalidArgument"),
        ("bytes=0-1,2-3", "InvalidArgument"),
    ],
)
def test_upload_part_copy_refuses_bad_ranges(s3: S3, wanted: str, code: str) -> None:
    s3.put("/bucket/source", b"12345")
    upload_id = s3.start_upload("/bucket/key")
    headers = {"x-amz-copy-source": "bucket/source", "x-amz-copy-source-range": wanted}
    assert s3.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", headers=headers).code == code


def test_copy_of_a_multipart_object_survives_its_source(s3: S3, app: Application) -> None:
    upload(s3, "/bucket/source", [PART, b"end"])
    assert s3.put("/bucket/copy", headers={"x-amz-copy-source": "bucket/source"}).status == 200
    s3.delete("/bucket/source")
    sweep(app.services.store)
    assert s3.get("/bucket/copy").body == PART + b"end"


def test_object_attributes_of_parts(s3: S3) -> None:
    upload(s3, "/bucket/key", [PART, b"end"], {"x-amz-checksum-algorithm": "SHA256"})
    headers = {"x-amz-object-attributes": "ObjectParts,Checksum", "x-amz-max-parts": "1"}
    answer = s3.request("GET", "/bucket/key?attributes", headers=headers)
    assert answer.text("ObjectParts/PartsCount") == "2"
    assert answer.text("ObjectParts/IsTruncated") == "true"
    assert answer.text("ObjectParts/NextPartNumberMarker") == "1"
    assert answer.texts("ObjectParts/Part/Size") == ["5000"]
    assert (
        answer.text("ObjectParts/Part/ChecksumSHA256")
        == base64.b64encode(hashlib.sha256(PART).digest()).decode()
    )


def test_uploads_are_refused_to_others(s3: S3, other: S3) -> None:
    upload_id = s3.start_upload("/bucket/key")
    assert other.post("/bucket/key?uploads").code == "AccessDenied"
    assert other.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", b"x").code == "AccessDenied"
    assert other.delete(f"/bucket/key?uploadId={upload_id}").code == "AccessDenied"
    assert other.get("/bucket?uploads").code == "AccessDenied"


@pytest.mark.parametrize(
    ("overtaken", "status"),
    [(1, 200), (object_write.COPY_ATTEMPTS - 1, 200), (object_write.COPY_ATTEMPTS, 409)],
)
def test_upload_part_copy_looks_again_when_its_source_is_replaced(
    s3: S3, monkeypatch: pytest.MonkeyPatch, overtaken: int, status: int
) -> None:
    s3.put("/bucket/source", PART)
    upload_id = s3.start_upload("/bucket/key")
    real, looks = object_write.copy_source, []

    def overtake(ctx):
        found = real(ctx)
        looks.append(found)
        if len(looks) <= overtaken:
            s3.put("/bucket/source", PART + b"%d" % len(looks))
        return found

    monkeypatch.setattr(object_write, "copy_source", overtake)
    part = s3.put(
        f"/bucket/key?partNumber=1&uploadId={upload_id}", headers={"x-amz-copy-source": "/bucket/source"}
    )
    assert part.status == status
    if status == 200:
        s3.complete("/bucket/key", upload_id, {1: part.text("ETag") or ""})
        assert s3.get("/bucket/key").body == PART + b"%d" % overtaken
