"""PutObject and CopyObject."""

from __future__ import annotations

import base64
import hashlib
import zlib
from urllib.parse import quote

import pytest
from client import S3

from s3lite.app import Application
from s3lite.core.sweep import sweep


def md5(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 70_000, 3_000_000])
def test_put_object_reads_back(s3: S3, size: int) -> None:
    body = bytes(i % 251 for i in range(size))
    answer = s3.put("/bucket/key", body)
    assert (answer.status, answer.headers["ETag"]) == (200, md5(body))
    read = s3.get("/bucket/key")
    assert read.body == body
    assert read.headers["ETag"] == md5(body)
    assert read.headers["Content-Length"] == str(size)
    assert read.headers["Content-Type"] == "binary/octet-stream"


KEYS = [
    "a",
    "/a",
    "a//b",
    "a/./b/../c",
    "../../etc/passwd",
    "a b+c%20d",
    "照片/😀",
    "a\u0001b",
    "k" * 1024,
    "~.-_!*'()",
    "a?b=c&d#e",
]


@pytest.mark.parametrize("key", KEYS)
def test_put_object_takes_any_key(s3: S3, key: str) -> None:
    raw = f"/bucket/{quote(key, safe='/')}"
    assert s3.request("PUT", "/", b"body", raw_path=raw).status == 200
    assert s3.request("GET", "/", raw_path=raw).body == b"body"
    assert s3.request("DELETE", "/", raw_path=raw).status == 204
    assert s3.request("GET", "/", raw_path=raw).code == "NoSuchKey"


def test_put_object_refuses_a_key_too_long(s3: S3) -> None:
    assert s3.put("/bucket/" + "k" * 1025, b"x").code == "KeyTooLongError"
    assert s3.put("/bucket/" + "é" * 513, b"x").code == "KeyTooLongError"


def test_put_object_keeps_headers_and_metadata(s3: S3) -> None:
    sent = {
        "Content-Type": "text/plain; charset=utf-8",
        "Cache-Control": "no-cache",
        "Content-Disposition": 'attachment; filename="a.txt"',
        "Content-Language": "de",
        "Expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "x-amz-meta-colour": "red",
        "x-amz-meta-a_b": "underscore",
        "x-amz-meta-callback-url": "just metadata",
    }
    s3.put("/bucket/key", b"x", sent)
    answer = s3.head("/bucket/key")
    for name, value in sent.items():
        assert answer.headers[name.replace("_", "-")] == value


def test_put_object_refuses_too_much_metadata(s3: S3) -> None:
    assert s3.put("/bucket/key", b"x", {"x-amz-meta-a": "v" * 2047}).status == 200
    assert s3.put("/bucket/key", b"x", {"x-amz-meta-a": "v" * 2048}).code == "MetadataTooLarge"


def test_put_object_to_a_missing_bucket(s3: S3) -> None:
    assert s3.put("/nowhere/key", b"x").code == "NoSuchBucket"


def test_put_object_verifies_content_md5(s3: S3) -> None:
    good = base64.b64encode(hashlib.md5(b"body").digest()).decode()
    assert s3.put("/bucket/key", b"body", {"Content-MD5": good}).status == 200
    assert s3.put("/bucket/bad", b"other", {"Content-MD5": good}).code == "BadDigest"
    assert s3.put("/bucket/bad", b"other", {"Content-MD5": "nonsense"}).code == "InvalidDigest"
    assert s3.head("/bucket/bad").status == 404


def test_put_object_verifies_the_payload_hash(s3: S3) -> None:
    answer = s3.request("PUT", "/bucket/key", b"body", payload_hash=hashlib.sha256(b"other").hexdigest())
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
    assert s3.head("/bucket/key").status == 404


def test_put_object_verifies_and_returns_checksums(s3: S3) -> None:
    crc = base64.b64encode(zlib.crc32(b"body").to_bytes(4, "big")).decode()
    answer = s3.put("/bucket/key", b"body", {"x-amz-checksum-crc32": crc})
    assert answer.headers["x-amz-checksum-crc32"] == crc
    read = s3.request("GET", "/bucket/key", headers={"x-amz-checksum-mode": "ENABLED"})
    assert read.headers["x-amz-checksum-crc32"] == crc
    assert read.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert "x-amz-checksum-crc32" not in s3.get("/bucket/key").headers
    assert s3.put("/bucket/bad", b"other", {"x-amz-checksum-crc32": crc}).code == "BadDigest"
    assert s3.head("/bucket/bad").status == 404


def test_put_object_without_a_length_is_refused(s3: S3) -> None:
    raw = s3.presign("PUT", "/bucket/key").partition("?")
    answer = s3.send("PUT", raw[0], raw[2], b"", {})
    assert (answer.status, answer.code) == (411, "MissingContentLength")


def test_put_object_takes_a_chunked_body(s3: S3) -> None:
    raw = s3.presign("PUT", "/bucket/key")
    assert s3.open("PUT", raw, b"chunked body", {"Transfer-Encoding": "chunked"}).status == 200
    assert s3.get("/bucket/key").body == b"chunked body"


def test_put_object_refuses_two_lengths(s3: S3) -> None:
    raw = s3.presign("PUT", "/bucket/key")
    answer = s3.open("PUT", raw, b"x", {"Transfer-Encoding": "chunked", "Content-Length": "1"})
    assert answer.status in (200, 400)
    if answer.status == 400:
        assert answer.code == "InvalidRequest"


def test_put_object_refuses_what_it_cannot_do(s3: S3) -> None:
    answer = s3.put("/bucket/key", b"x", {"x-amz-write-offset-bytes": "1"})
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert s3.head("/bucket/key").status == 404


def test_put_object_refuses_an_unknown_storage_class(s3: S3) -> None:
    assert s3.put("/bucket/key", b"x", {"x-amz-storage-class": "FAST"}).code == "InvalidStorageClass"


def test_put_object_conditions(s3: S3) -> None:
    assert s3.put("/bucket/key", b"1", {"If-Match": "*"}).code in ("NoSuchKey", "PreconditionFailed")
    assert s3.put("/bucket/key", b"1", {"If-None-Match": "*"}).status == 200
    assert s3.put("/bucket/key", b"2", {"If-None-Match": "*"}).code == "PreconditionFailed"
    assert s3.put("/bucket/key", b"2", {"If-Match": md5(b"other")}).code == "PreconditionFailed"
    assert s3.put("/bucket/key", b"2", {"If-Match": md5(b"1")}).status == 200
    assert s3.get("/bucket/key").body == b"2"


def test_put_object_replaces_and_releases_the_old_bytes(s3: S3, app: Application) -> None:
    s3.put("/bucket/key", b"a" * 100_000)
    s3.put("/bucket/key", b"b" * 100_000)
    assert s3.get("/bucket/key").body == b"b" * 100_000
    assert sweep(app.services.store).blobs == 1
    assert len(list(app.services.store.blobs.scan())) == 1


# ---------------------------------------------------------------- copy


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_copy_object_is_independent_of_its_source(s3: S3, size: int) -> None:
    s3.put("/bucket/source", b"s" * size, {"x-amz-meta-a": "1", "Content-Type": "text/x"})
    answer = s3.put("/bucket/target", headers={"x-amz-copy-source": "/bucket/source"})
    assert answer.status == 200
    assert answer.text("ETag") == md5(b"s" * size)
    s3.delete("/bucket/source")
    copied = s3.get("/bucket/target")
    assert copied.body == b"s" * size
    assert copied.headers["x-amz-meta-a"] == "1"
    assert copied.headers["Content-Type"] == "text/x"


@pytest.mark.parametrize("source", ["bucket/a%20b%2Bc", "/bucket/a+b%2Bc", "bucket/a b%2bc"])
def test_copy_object_decodes_the_source(s3: S3, source: str) -> None:
    s3.put("/bucket/a b+c", b"x")
    assert s3.put("/bucket/target", headers={"x-amz-copy-source": source}).status == 200


def test_copy_object_replaces_metadata(s3: S3) -> None:
    s3.put("/bucket/source", b"x", {"x-amz-meta-a": "1", "x-amz-tagging": "k=v"})
    headers = {
        "x-amz-copy-source": "bucket/source",
        "x-amz-metadata-directive": "REPLACE",
        "x-amz-meta-b": "2",
    }
    s3.put("/bucket/target", headers=headers)
    answer = s3.head("/bucket/target")
    assert "x-amz-meta-a" not in answer.headers
    assert answer.headers["x-amz-meta-b"] == "2"
    assert answer.headers["x-amz-tagging-count"] == "1"


def test_copy_object_onto_itself_needs_a_change(s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert s3.put("/bucket/key", headers={"x-amz-copy-source": "bucket/key"}).code == "InvalidRequest"
    headers = {"x-amz-copy-source": "bucket/key", "x-amz-metadata-directive": "REPLACE", "x-amz-meta-b": "2"}
    assert s3.put("/bucket/key", headers=headers).status == 200
    assert s3.get("/bucket/key").body == b"x"


def test_copy_object_conditions_on_the_source(s3: S3) -> None:
    s3.put("/bucket/source", b"x")
    source = {"x-amz-copy-source": "bucket/source"}
    assert s3.put("/bucket/t", headers=source | {"x-amz-copy-source-if-match": md5(b"x")}).status == 200
    assert (
        s3.put("/bucket/t", headers=source | {"x-amz-copy-source-if-match": md5(b"y")}).code
        == "PreconditionFailed"
    )
    assert (
        s3.put("/bucket/t", headers=source | {"x-amz-copy-source-if-none-match": md5(b"x")}).code
        == "PreconditionFailed"
    )


def test_copy_object_refuses_what_the_caller_may_not_read(s3: S3, other: S3) -> None:
    s3.put("/bucket/secret", b"x")
    other.put("/theirs")
    headers = {"x-amz-copy-source": "bucket/secret"}
    assert other.put("/theirs/copy", headers=headers).code == "AccessDenied"
    missing = other.put("/theirs/copy", headers={"x-amz-copy-source": "bucket/missing"})
    assert missing.code == "AccessDenied"


@pytest.mark.parametrize("source", ["", "bucket", "bucket/", "/"])
def test_copy_object_refuses_a_source_without_a_key(s3: S3, source: str) -> None:
    answer = s3.put("/bucket/t", headers={"x-amz-copy-source": source or "%20"})
    assert answer.code == "InvalidArgument"


def test_copy_object_missing_source(s3: S3) -> None:
    assert s3.put("/bucket/t", headers={"x-amz-copy-source": "bucket/none"}).code == "NoSuchKey"
    assert s3.put("/bucket/t", headers={"x-amz-copy-source": "none/none"}).code == "NoSuchBucket"


def test_copy_object_refuses_a_callback(s3: S3) -> None:
    s3.put("/bucket/source", b"x")
    headers = {"x-amz-copy-source": "bucket/source", "x-amz-meta-callback": "e30="}
    assert s3.put("/bucket/t", headers=headers).code == "InvalidArgument"
