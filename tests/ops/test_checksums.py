"""All ten checksum algorithms, wherever they are asked for: whole objects, parts, copies, and what shows them."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from client import S3

from s3lite.wire.checksums import ALGORITHMS, new

PARTS = [b"a" * 5000, b"b" * 3000]
MODE = {"x-amz-checksum-mode": "ENABLED"}
KINDS = [
    *((name, "COMPOSITE") for name in ALGORITHMS if name != "CRC64NVME"),
    *((name, "FULL_OBJECT") for name in ("CRC32", "CRC32C", "CRC64NVME")),
]
# Made elsewhere, so that our hashers are not measured by themselves alone.
KNOWN = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
    "SHA512": lambda data: hashlib.sha512(data).digest(),
    "MD5": lambda data: hashlib.md5(data).digest(),
}


def value(algorithm: str, data: bytes) -> str:
    hasher = new(algorithm)
    hasher.update(data)
    made = hasher.value()
    if algorithm in KNOWN:
        assert made == base64.b64encode(KNOWN[algorithm](data)).decode()
    return made


def header(algorithm: str) -> str:
    return f"x-amz-checksum-{algorithm.lower()}"


def start(s3: S3, algorithm: str, kind: str) -> str:
    return s3.start_upload(
        "/bucket/key", {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_whole_object_is_verified_and_shows_its_checksum(s3: S3, algorithm: str) -> None:
    good, bad = value(algorithm, b"body"), value(algorithm, b"other")
    assert s3.put("/bucket/key", b"body", {header(algorithm): bad}).code == "BadDigest"
    assert s3.head("/bucket/key").status == 404
    assert s3.put("/bucket/key", b"body", {header(algorithm): good}).headers[header(algorithm)] == good
    shown = s3.request("GET", "/bucket/key", headers=MODE).headers
    assert (shown[header(algorithm)], shown["x-amz-checksum-type"]) == (good, "FULL_OBJECT")


@pytest.mark.parametrize(("algorithm", "kind"), KINDS)
def test_checksums_of_parts_make_that_of_the_object(s3: S3, algorithm: str, kind: str) -> None:
    upload_id = start(s3, algorithm, kind)
    values = [value(algorithm, part) for part in PARTS]
    etags = {n: s3.put_part("/bucket/key", upload_id, n, part) for n, part in enumerate(PARTS, 1)}
    listed = s3.get(f"/bucket/key?uploadId={upload_id}")
    assert listed.texts(f"Part/Checksum{algorithm}") == values
    assert (listed.text("ChecksumAlgorithm"), listed.text("ChecksumType")) == (algorithm, kind)
    joined = b"".join(base64.b64decode(each) for each in values)
    whole = value(algorithm, b"".join(PARTS)) if kind == "FULL_OBJECT" else value(algorithm, joined) + "-2"
    done = s3.complete("/bucket/key", upload_id, etags)
    assert (done.text(f"Checksum{algorithm}"), done.text("ChecksumType")) == (whole, kind)
    assert s3.request("HEAD", "/bucket/key", headers=MODE).headers[header(algorithm)] == whole
    wanted = {"x-amz-object-attributes": "Checksum,ObjectParts"}
    shown = s3.request("GET", "/bucket/key?attributes", headers=wanted)
    assert (shown.text(f"Checksum/Checksum{algorithm}"), shown.text("Checksum/ChecksumType")) == (whole, kind)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_types_that_an_algorithm_cannot_have_are_refused(s3: S3, algorithm: str) -> None:
    for kind in ("COMPOSITE", "FULL_OBJECT"):
        headers = {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
        answer = s3.post("/bucket/key?uploads", headers=headers)
        assert (answer.status == 200) == ((algorithm, kind) in KINDS), answer


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_copy_has_the_checksum_that_it_asks_for(s3: S3, algorithm: str) -> None:
    s3.put("/bucket/source", PARTS[0], {header("SHA1"): value("SHA1", PARTS[0])})
    asked = {"x-amz-copy-source": "bucket/source", "x-amz-checksum-algorithm": algorithm}
    answer = s3.put("/bucket/copy", headers=asked)
    assert answer.text(f"Checksum{algorithm}") == value(algorithm, PARTS[0])
    shown = s3.request("GET", "/bucket/copy", headers=MODE)
    assert (shown.headers[header(algorithm)], shown.body) == (value(algorithm, PARTS[0]), PARTS[0])


def test_a_copy_that_asks_for_nothing_keeps_the_checksum_of_its_source(s3: S3) -> None:
    s3.put("/bucket/source", b"body", {header("SHA1"): value("SHA1", b"body")})
    answer = s3.put("/bucket/copy", headers={"x-amz-copy-source": "bucket/source"})
    assert answer.text("ChecksumSHA1") == value("SHA1", b"body")


def test_a_copy_of_parts_gets_a_checksum_of_the_whole(s3: S3) -> None:
    upload_id = start(s3, "SHA256", "COMPOSITE")
    etags = {n: s3.put_part("/bucket/key", upload_id, n, part) for n, part in enumerate(PARTS, 1)}
    assert s3.complete("/bucket/key", upload_id, etags).status == 200
    asked = {"x-amz-copy-source": "bucket/key", "x-amz-checksum-algorithm": "SHA256"}
    answer = s3.put("/bucket/copy", headers=asked)
    assert answer.text("ChecksumSHA256") == value("SHA256", b"".join(PARTS))
    assert answer.text("ChecksumType") == "FULL_OBJECT"


def test_a_copy_refuses_an_algorithm_that_nobody_knows(s3: S3) -> None:
    s3.put("/bucket/source", b"body")
    asked = {"x-amz-copy-source": "bucket/source", "x-amz-checksum-algorithm": "CRC16"}
    assert s3.put("/bucket/copy", headers=asked).code == "InvalidRequest"
    assert s3.head("/bucket/copy").status == 404
