import base64
import contextlib
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import Code, S3Error
from s3lite.wire import checksums
from s3lite.wire.checksums import ChecksumRequest, Digests

# Of b"123456789": the CRC catalogue's check values; FIPS 180 and RFC 1321 by hashlib; xxHash's own test vectors
# for the empty input are below.
CHECKS = {
    "CRC32": "cbf43926",
    "CRC32C": "e3069283",
    "CRC64NVME": "ae8b14860a799888",
    "SHA1": hashlib.sha1(b"123456789").hexdigest(),
    "SHA256": hashlib.sha256(b"123456789").hexdigest(),
    "SHA512": hashlib.sha512(b"123456789").hexdigest(),
    "MD5": "25f9e794323b453885f5181f1b624d0b",
}
EMPTY_XXHASH = {
    "XXHASH64": "ef46db3751d8e999",
    "XXHASH3": "2d06800538d394c2",
    "XXHASH128": "99aa06d3014798d86001c324468d497f",
}


@pytest.mark.parametrize("algorithm", CHECKS)
def test_known_values(algorithm):
    hasher = checksums.new(algorithm)
    hasher.update(b"1234")
    hasher.update(memoryview(b"56789"))
    assert hasher.digest().hex() == CHECKS[algorithm]
    assert hasher.value() == base64.b64encode(bytes.fromhex(CHECKS[algorithm])).decode()


@pytest.mark.parametrize("algorithm", EMPTY_XXHASH)
def test_known_values_of_xxhash(algorithm):
    assert checksums.new(algorithm).digest().hex() == EMPTY_XXHASH[algorithm]
    whole, pieces = checksums.new(algorithm), checksums.new(algorithm)
    whole.update(b"a" * 1000)
    pieces.update(bytearray(b"a" * 400))
    pieces.update(b"a" * 600)
    assert whole.value() == pieces.value() == whole.value()


def test_names():
    assert checksums.header_name("CRC64NVME") == "x-amz-checksum-crc64nvme"
    assert checksums.element_name("CRC64NVME") == "ChecksumCRC64NVME"


@given(st.binary(max_size=2000))
def test_digests_compute_all_at_once(data):
    digests = Digests(checksums.ALGORITHMS, sha256=True)
    digests.update(data[:700])
    digests.update(data[700:])
    assert digests.etag == hashlib.md5(data).hexdigest() == checksums.md5_etag(data)
    assert digests.sha256_hex == hashlib.sha256(data).hexdigest()
    assert digests.value("SHA256") == base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert digests.value("CRC32") == base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    assert Digests(()).sha256_hex == ""


def value_of(algorithm: str, data: bytes) -> str:
    hasher = checksums.new(algorithm)
    hasher.update(data)
    return hasher.value()


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_full_object_equals_the_checksum_of_everything(algorithm, parts):
    combined = checksums.full_object(algorithm, [(value_of(algorithm, part), len(part)) for part in parts])
    assert combined == value_of(algorithm, b"".join(parts))


def test_composite_and_multipart_etag_hash_the_hashes():
    parts = [b"one", b"two"]
    digests = [hashlib.sha256(part).digest() for part in parts]
    expected = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode() + "-2"
    assert (
        checksums.composite("SHA256", [base64.b64encode(digest).decode() for digest in digests]) == expected
    )
    md5s = [hashlib.md5(part) for part in parts]
    etag = hashlib.md5(b"".join(md5.digest() for md5 in md5s)).hexdigest() + "-2"
    assert checksums.multipart_etag([md5.hexdigest() for md5 in md5s]) == etag


@pytest.mark.parametrize(
    ("algorithm", "default", "refused"),
    [
        ("CRC32", "COMPOSITE", None),
        ("CRC32C", "COMPOSITE", None),
        ("CRC64NVME", "FULL_OBJECT", "COMPOSITE"),
        ("SHA1", "COMPOSITE", "FULL_OBJECT"),
        ("SHA256", "COMPOSITE", "FULL_OBJECT"),
        ("XXHASH3", "COMPOSITE", "FULL_OBJECT"),
    ],
)
def test_types_of_multipart_checksums(algorithm, default, refused):
    assert checksums.default_type(algorithm) == default
    for checksum_type in ("COMPOSITE", "FULL_OBJECT", "OTHER"):
        if checksum_type in (refused, "OTHER"):
            with pytest.raises(S3Error) as caught:
                checksums.check_type(algorithm, checksum_type)
            assert caught.value.code is Code.InvalidRequest
        else:
            checksums.check_type(algorithm, checksum_type)


def test_check_algorithm():
    for algorithm in checksums.ALGORITHMS:
        checksums.check_algorithm(algorithm)
    with pytest.raises(S3Error):
        checksums.check_algorithm("CRC16")


MD5 = base64.b64encode(hashlib.md5(b"x").digest()).decode()
CRC = value_of("CRC32", b"x")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ChecksumRequest()),
        ({"x-amz-checksum-mode": "ENABLED", "x-amz-checksum-type": "COMPOSITE"}, ChecksumRequest()),
        ({"x-amz-sdk-checksum-algorithm": "crc32"}, ChecksumRequest("CRC32")),
        ({"x-amz-checksum-crc32": CRC}, ChecksumRequest("CRC32", CRC)),
        (
            {"x-amz-checksum-crc32": CRC, "x-amz-sdk-checksum-algorithm": "SHA1"},
            ChecksumRequest("CRC32", CRC),
        ),
        (
            {"x-amz-trailer": "x-amz-checksum-crc64nvme", "x-amz-sdk-checksum-algorithm": "CRC64NVME"},
            ChecksumRequest("CRC64NVME", trailer="CRC64NVME"),
        ),
        ({"content-md5": MD5}, ChecksumRequest(content_md5=hashlib.md5(b"x").digest())),
    ],
)
def test_checksum_headers(headers, expected):
    assert checksums.parse_checksum_headers(headers) == expected


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-checksum-crc32": CRC, "x-amz-checksum-sha1": "x"}, Code.InvalidRequest),
        ({"x-amz-checksum-crc32": CRC, "x-amz-trailer": "x-amz-checksum-crc32"}, Code.InvalidRequest),
        ({"x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"}, Code.InvalidRequest),
        ({"x-amz-trailer": "x-amz-meta-a"}, Code.InvalidRequest),
        ({"x-amz-checksum-crc16": "AAA="}, Code.InvalidRequest),
        ({"x-amz-sdk-checksum-algorithm": "CRC16"}, Code.InvalidRequest),
        ({"x-amz-checksum-crc32": ""}, Code.BadDigest),
        ({"x-amz-checksum-crc32": "AAAAAAA="}, Code.BadDigest),
        ({"x-amz-checksum-crc32": "AAAA*A=="}, Code.BadDigest),
        ({"x-amz-checksum-crc32": "ÄÄÄÄÄÄ=="}, Code.BadDigest),
        ({"content-md5": ""}, Code.InvalidDigest),
        ({"content-md5": "bad"}, Code.InvalidDigest),
        ({"content-md5": "AAAA"}, Code.InvalidDigest),
    ],
)
def test_bad_checksum_headers(headers, code):
    with pytest.raises(S3Error) as caught:
        checksums.parse_checksum_headers(headers)
    assert caught.value.code is code


def digests_of(data: bytes, *algorithms: str) -> Digests:
    digests = Digests(algorithms)
    digests.update(data)
    return digests


@pytest.mark.parametrize("data", [b"x", b"y"])
@pytest.mark.parametrize(
    ("request_", "trailers"),
    [
        (ChecksumRequest("CRC32", CRC), {}),
        (ChecksumRequest("CRC32", trailer="CRC32"), {"x-amz-checksum-crc32": CRC}),
        (ChecksumRequest(content_md5=hashlib.md5(b"x").digest()), {}),
    ],
)
def test_verify_compares(data, request_, trailers):
    digests = digests_of(data, "CRC32")
    if data == b"x":
        checksums.verify(request_, digests, trailers)
        return
    with pytest.raises(S3Error) as caught:
        checksums.verify(request_, digests, trailers)
    assert caught.value.code is Code.BadDigest


@pytest.mark.parametrize(
    ("trailers", "code"),
    [
        ({}, Code.InvalidRequest),
        ({"x-amz-checksum-sha1": CRC}, Code.InvalidRequest),
        ({"x-amz-checksum-crc32": "AAA="}, Code.BadDigest),
    ],
)
def test_verify_wants_the_announced_trailer(trailers, code):
    with pytest.raises(S3Error) as caught:
        checksums.verify(ChecksumRequest("CRC32", trailer="CRC32"), digests_of(b"x", "CRC32"), trailers)
    assert caught.value.code is code


def test_an_algorithm_without_value_is_computed_and_not_compared():
    request = checksums.with_algorithm(ChecksumRequest(), "SHA1")
    checksums.verify(request, digests_of(b"x", "SHA1"), {})
    assert request.algorithm == "SHA1"


def test_values_in_headers():
    headers = {"x-amz-checksum-crc32": " AAAAAA==-3 ", "x-amz-checksum-type": "COMPOSITE"}
    assert checksums.values_in_headers(headers) == {"CRC32": "AAAAAA==-3"}


@given(
    st.dictionaries(
        st.sampled_from(
            ["content-md5", "x-amz-trailer", "x-amz-sdk-checksum-algorithm", "x-amz-checksum-sha1"]
        ),
        st.text(max_size=40),
    )
)
def test_any_headers_give_a_request_or_an_s3_error(headers):
    with contextlib.suppress(S3Error):
        checksums.parse_checksum_headers(headers)
