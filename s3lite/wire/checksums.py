"""Checksums of payloads: computing, combining, and what a request's headers ask to be compared.

The table `_TABLE` has a row per algorithm; a further algorithm is a further row. CRC32 comes from
zlib, the others that hashlib lacks from awscrt, which is imported with the first of them that is
needed: its import takes longer than that of all of s3lite. OSS's CRC comes from anycrc.

Sources: API Reference, PutObject, CreateMultipartUpload; User Guide, "Checking object integrity".
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from s3lite.errors import Code, S3Error

FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"

_PREFIX = "x-amz-checksum-"
_NO_VALUES = frozenset(f"{_PREFIX}{name}" for name in ("type", "mode", "algorithm"))


# ---------------------------------------------------------------- algorithms


class Hasher(ABC):
    """A checksum being computed."""

    @abstractmethod
    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take more data."""

    @abstractmethod
    def digest(self) -> bytes:
        """The checksum of all data so far, big endian. Nothing may be added afterwards."""

    def value(self) -> str:
        """`digest` in Base64, as S3 writes it."""
        return base64.b64encode(self.digest()).decode()


class _Hashlib(Hasher):
    def __init__(self, name: str) -> None:
        self._hash = hashlib.new(name, usedforsecurity=False)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        return self._hash.digest()


class _Crc(Hasher):
    def __init__(self, function: Callable[[Any, int], int], size: int) -> None:
        self._function = function
        self._size = size
        self._value = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


class _XxHash(Hasher):
    def __init__(self, state: Any) -> None:
        self._state = state

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._state.update(bytes(data))  # it takes bytes alone; of bytes this is no copy

    def digest(self) -> bytes:
        digest: bytes = self._state.finalize()
        return digest


def _crt(name: str) -> Any:
    """A function of awscrt's, imported now."""
    from awscrt import checksums

    return getattr(checksums, name)


@lru_cache(maxsize=1)
def _crc64ecma() -> Any:
    """Its tables, made with the first request in the dialect of OSS."""
    import anycrc  # type: ignore[import-untyped]  # it has no types

    return anycrc.Model("CRC64-XZ")


class _Algorithm(NamedTuple):
    size: int  # bytes of a digest
    types: tuple[str, ...]  # allowed for multipart uploads; the first is the default
    new: Callable[[], Hasher]
    combine: str = ""  # awscrt's function that joins the values of adjacent data


def _xxhash(name: str) -> Hasher:
    return _XxHash(getattr(_crt("XXHash"), name)())


# Types of the first five: API Reference, CreateMultipartUpload. Those of the others are not published as a
# table; without a way to combine them, a full-object value would mean reading the object again.
# fmt: off
_TABLE: Mapping[str, _Algorithm] = {
    "CRC32":     _Algorithm(4, (COMPOSITE, FULL_OBJECT), lambda: _Crc(zlib.crc32, 4), "combine_crc32"),
    "CRC32C":    _Algorithm(4, (COMPOSITE, FULL_OBJECT), lambda: _Crc(_crt("crc32c"), 4), "combine_crc32c"),
    "CRC64NVME": _Algorithm(8, (FULL_OBJECT,), lambda: _Crc(_crt("crc64nvme"), 8), "combine_crc64nvme"),
    "SHA1":      _Algorithm(20, (COMPOSITE,), lambda: _Hashlib("sha1")),
    "SHA256":    _Algorithm(32, (COMPOSITE,), lambda: _Hashlib("sha256")),
    "SHA512":    _Algorithm(64, (COMPOSITE,), lambda: _Hashlib("sha512")),
    "MD5":       _Algorithm(16, (COMPOSITE,), lambda: _Hashlib("md5")),
    "XXHASH64":  _Algorithm(8, (COMPOSITE,), lambda: _xxhash("new_xxhash64")),
    "XXHASH3":   _Algorithm(8, (COMPOSITE,), lambda: _xxhash("new_xxhash3_64")),
    "XXHASH128": _Algorithm(16, (COMPOSITE,), lambda: _xxhash("new_xxhash3_128")),
}
# fmt: on

ALGORITHMS = tuple(_TABLE)
"""The API's names of all algorithms."""

CRC64ECMA = "CRC64ECMA"
"""CRC-64/XZ, which OSS has in x-oss-hash-crc64ecma; for `Digests`, and no algorithm of the API."""

_BY_HEADER = {f"{_PREFIX}{name.lower()}": name for name in ALGORITHMS}


def new(algorithm: str) -> Hasher:
    """A fresh hasher. ``algorithm`` is one of `ALGORITHMS`, or `CRC64ECMA`."""
    return _Crc(_crc64ecma().calc, 8) if algorithm == CRC64ECMA else _TABLE[algorithm].new()


def header_name(algorithm: str) -> str:
    """``x-amz-checksum-crc32`` for ``CRC32``; also the name of its trailer."""
    return _PREFIX + algorithm.lower()


def element_name(algorithm: str) -> str:
    """``ChecksumCRC32`` for ``CRC32``."""
    return "Checksum" + algorithm


def check_algorithm(algorithm: str) -> None:
    """Raise InvalidRequest unless ``algorithm`` is one of `ALGORITHMS`."""
    if algorithm not in _TABLE:
        raise S3Error(
            Code.InvalidRequest,
            f"Checksum algorithm provided is unsupported. Use one of: {', '.join(ALGORITHMS)}.",
        )


def default_type(algorithm: str) -> str:
    """The checksum type of a multipart upload that names only an algorithm."""
    return _TABLE[algorithm].types[0]


def check_type(algorithm: str, checksum_type: str) -> None:
    """Raise InvalidRequest unless multipart uploads may combine ``algorithm`` and ``checksum_type``."""
    allowed = _TABLE[algorithm].types
    if checksum_type not in allowed:
        raise S3Error(
            Code.InvalidRequest,
            f"The {checksum_type} checksum type cannot be used with the {algorithm.lower()} checksum "
            f"algorithm: use {' or '.join(allowed)}.",
        )


# ---------------------------------------------------------------- of one payload


class Digests:
    """Every hash of one payload: MD5 always, others as asked for. One thread at a time may update.

    ``sha256`` is for the payload hash of signature version 4.
    """

    __slots__ = ("_by_name", "_md5", "_sha256", "_updates")

    def __init__(self, algorithms: Collection[str], *, sha256: bool = False) -> None:
        names = dict.fromkeys(("MD5", *algorithms, *(("SHA256",) if sha256 else ())))
        self._by_name = {name: new(name) for name in names}
        self._md5 = self._by_name["MD5"]
        self._sha256 = self._by_name["SHA256"] if sha256 else None
        self._updates = tuple(hasher.update for hasher in self._by_name.values())

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take more of the payload."""
        for update in self._updates:
            update(data)

    @property
    def etag(self) -> str:
        """Hex MD5: the ETag of a single upload, without quotes."""
        return self._md5.digest().hex()

    @property
    def sha256_hex(self) -> str:
        """Hex SHA-256; "" when it was not asked for."""
        return self._sha256.digest().hex() if self._sha256 is not None else ""

    def value(self, algorithm: str) -> str:
        """Base64 checksum. ``algorithm`` was among those asked for (MD5 always is). Ends the computation."""
        return self._by_name[algorithm].value()


def md5_etag(data: bytes) -> str:
    """The ETag of ``data`` as a single upload."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


# ---------------------------------------------------------------- of many parts


def multipart_etag(part_etags: Sequence[str]) -> str:
    """``HEX-N``: MD5 over the parts' MD5s, and their number. ``part_etags`` are plain hex MD5s."""
    return f"{md5_etag(b''.join(map(bytes.fromhex, part_etags)))}-{len(part_etags)}"


def composite(algorithm: str, part_values: Sequence[str]) -> str:
    """``BASE64-N``: the checksum of the parts' checksums, and their number."""
    hasher = new(algorithm)
    hasher.update(b"".join(map(base64.b64decode, part_values)))
    return f"{hasher.value()}-{len(part_values)}"


def full_object(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """The checksum of the whole object out of (value, size) of its parts, for the CRCs."""
    row = _TABLE[algorithm]
    combine = _crt(row.combine)
    total = 0
    for value, size in parts:
        total = combine(total, int.from_bytes(base64.b64decode(value), "big"), size)
    return base64.b64encode(total.to_bytes(row.size, "big")).decode()


# ---------------------------------------------------------------- of appendable objects


def appendable_etag(part_etags: Sequence[str]) -> str:
    """``HEX-aN`` of an object of N appends, by `appended_etag` from nothing."""
    etag = EMPTY_APPENDABLE
    for part_etag in part_etags:
        etag = appended_etag(etag, part_etag)
    return etag


def appended_etag(etag: str, part_etag: str) -> str:
    """The ETag of an appendable object after a further append; its cost does not grow with their number."""
    before, _, count = etag.partition("-a")
    return f"{md5_etag(bytes.fromhex(before) + bytes.fromhex(part_etag))}-a{int(count) + 1}"


def is_appendable(etag: str) -> bool:
    """Whether this is the ETag of an appendable object; as listings have no more of it."""
    return "-a" in etag


EMPTY_APPENDABLE = f"{md5_etag(b'')}-a0"
"""The ETag of an appendable object without bytes."""


def joined_crc64ecma(before: str, digests: Digests, size: int) -> str:
    """OSS's CRC, decimal, of bytes whose own is ``before`` ("" of none) with ``size`` bytes more."""
    added = int.from_bytes(base64.b64decode(digests.value(CRC64ECMA)), "big")
    return str(_crc64ecma().combine(int(before or 0), added, size))


# ---------------------------------------------------------------- what a request asks for


@dataclass(frozen=True, slots=True)
class ChecksumRequest:
    """What an upload's headers say of its checksums.

    ``algorithm`` is "" when none is named; with ``value`` None it is named alone, and to be computed.
    ``trailer`` is the algorithm of the checksum that x-amz-trailer announces.
    """

    algorithm: str = ""
    value: str | None = None
    trailer: str | None = None
    content_md5: bytes | None = None


def parse_checksum_headers(headers: Mapping[str, str]) -> ChecksumRequest:
    """What the headers of an upload (lower-case names) ask to be checked or computed.

    An algorithm without a value is no error: presigned URLs name one and leave the value out. A value
    overrules the algorithm that is named beside it (API Reference, PutObject).

    Raises InvalidRequest (unknown algorithm, several checksums), BadDigest (a value that cannot be a
    digest of its algorithm) and InvalidDigest (Content-MD5).
    """
    content_md5 = _content_md5(headers)
    given = [name for name in headers if name.startswith(_PREFIX) and name not in _NO_VALUES]
    announced = [name.strip().lower() for name in headers.get("x-amz-trailer", "").split(",") if name.strip()]
    named = headers.get("x-amz-sdk-checksum-algorithm", "").upper()
    if not given and not announced and not named:
        return ChecksumRequest(content_md5=content_md5)
    if len(given) + len(announced) > 1:
        raise S3Error(
            Code.InvalidRequest,
            "Expecting a single x-amz-checksum- header. Multiple checksum headers or trailers are not allowed.",
        )
    if given:
        algorithm = _algorithm_of(given[0], f"The header {given[0]} names no known checksum algorithm")
        value = headers[given[0]].strip()
        if not _is_value(algorithm, value):
            raise S3Error(Code.BadDigest, f"Value for {given[0]} header is invalid.")
        return ChecksumRequest(algorithm, value, content_md5=content_md5)
    if announced:
        trailer = _algorithm_of(
            announced[0], "The value specified in the x-amz-trailer header is not supported"
        )
        return ChecksumRequest(trailer, trailer=trailer, content_md5=content_md5)
    if named not in _TABLE:
        raise S3Error(
            Code.InvalidRequest,
            f"Value for x-amz-sdk-checksum-algorithm header is invalid: use one of {', '.join(ALGORITHMS)}.",
        )
    return ChecksumRequest(named, content_md5=content_md5)


def with_algorithm(request: ChecksumRequest, algorithm: str) -> ChecksumRequest:
    """The request with another algorithm to compute, for one that brings no value."""
    return replace(request, algorithm=algorithm)


def values_in_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Checksums of the whole object in CompleteMultipartUpload's headers, by algorithm, as sent."""
    return {algorithm: headers[name].strip() for name, algorithm in _BY_HEADER.items() if headers.get(name)}


def verify(request: ChecksumRequest, digests: Digests, trailers: Mapping[str, str]) -> None:
    """Compare what arrived with what the client announced.

    Raises BadDigest, naming the checksum, and InvalidRequest (the announced trailer is missing).
    """
    if request.content_md5 is not None and request.content_md5.hex() != digests.etag:
        raise S3Error(
            Code.BadDigest,
            "The Content-MD5 you specified did not match what we received.",
            ExpectedDigest=request.content_md5.hex(),
            CalculatedDigest=digests.etag,
        )
    if request.value is not None:
        _compare(request.algorithm, request.value, digests)
    if request.trailer is not None:
        name = header_name(request.trailer)
        value = trailers.get(name)
        if value is None:
            raise S3Error(
                Code.InvalidRequest, f"x-amz-trailer announces {name}, and the body does not end with it."
            )
        if not _is_value(request.trailer, value):
            raise S3Error(Code.BadDigest, f"Value for {name} trailing header is invalid.")
        _compare(request.trailer, value, digests)


def _compare(algorithm: str, value: str, digests: Digests) -> None:
    if value != digests.value(algorithm):
        raise S3Error(Code.BadDigest, f"The {algorithm} you specified did not match the calculated checksum.")


def _algorithm_of(name: str, fault: str) -> str:
    algorithm = _BY_HEADER.get(name)
    if algorithm is None:
        raise S3Error(Code.InvalidRequest, f"{fault}: use one of {', '.join(_BY_HEADER)}.")
    return algorithm


def _is_value(algorithm: str, value: str) -> bool:
    """True for canonical Base64 of as many bytes as the algorithm's digests have."""
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        return False
    return len(raw) == _TABLE[algorithm].size and base64.b64encode(raw).decode() == value


def _content_md5(headers: Mapping[str, str]) -> bytes | None:
    if "content-md5" not in headers:
        return None
    value = headers["content-md5"].strip()
    if not _is_value("MD5", value):
        raise S3Error(
            Code.InvalidDigest, "The Content-MD5 you specified is not valid: send Base64 of 16 bytes."
        )
    return base64.b64decode(value)
