"""GetObject, HeadObject and GetObjectAttributes."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from s3lite.auth.actions import versioned
from s3lite.auth.facts import About
from s3lite.context import Context
from s3lite.core import read
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import UNLOCKED, Checksum, ObjectVersion, Segment
from s3lite.ops import encryption, lifecycle, upload_headers
from s3lite.responses import Headers, Response, stream, xml
from s3lite.times import http_date, iso8601
from s3lite.wire import checksums, conditions, object_lock, ranges, results

_OVERRIDES = {
    "response-content-type": "Content-Type",
    "response-content-language": "Content-Language",
    "response-expires": "Expires",
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
}
_SCRIPTABLE = ("text/html", "text/xml", "application/xml", "application/xhtml", "image/svg", "multipart/")
_HEADER_NAMES = {name: name.title() for name in upload_headers.SYSTEM_HEADERS}


def get_object(ctx: Context) -> Response:
    """GetObject: the bytes of an object, a range or a part of them.

    Source: API Reference, GetObject; RFC 9110, 14. Checked against AWS: never.
    Errors: NoSuchKey, NoSuchVersion, InvalidRange, InvalidPart (partNumber), PreconditionFailed, NotModified;
    InvalidRequest (an object of SSE-C without its key, or with another), KMS.NotFoundException.
    Differs: of several ranges in one request none is honoured, as S3 does: the whole object is sent.
    """
    return _get(ctx, head_only=False)


def head_object(ctx: Context) -> Response:
    """HeadObject: what GetObject would answer, without the bytes.

    Source: API Reference, HeadObject. Checked against AWS: never.
    Errors: as GetObject, without a body.
    """
    return _get(ctx, head_only=True)


def _get(ctx: Context, *, head_only: bool) -> Response:
    version = found(ctx)
    part = _part(ctx, version) if "partNumber" in ctx.params else None
    encryption.check_read(ctx, version)
    overrides = _overrides(ctx)
    conditions.read_decision(ctx.headers, etag=version.etag, modified_ms=version.modified_ms)
    headers = object_headers(ctx, version, overrides)
    offset, length, status = 0, version.size, 200
    whole = True
    if part is not None:
        offset, length, whole = part.offset, part.length, version.part_count == 0
        headers += _part_headers(ctx, version, part)
        status = 206
    else:
        wanted = ctx.headers.get("range")
        chosen = ranges.parse_range(wanted, version.size) if wanted else None
        if chosen is not None:
            (offset, length), status = chosen, 206
            whole = length == version.size
    if status == 206 and version.size:
        headers.append(("Content-Range", ranges.content_range(offset, length, version.size)))
    if version.checksum and whole and ctx.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers += checksum_headers(version.checksum)
    body: Iterable[bytes] = () if head_only else _body(ctx, version, offset, length)
    return stream(body, length, status=status, headers=headers)


def found(ctx: Context) -> ObjectVersion:
    """The version that the request names. Raises NoSuchKey, NoSuchVersion, MethodNotAllowed (delete marker)."""
    return existing(ctx, ctx.version)


def existing(ctx: Context, version: ObjectVersion | None) -> ObjectVersion:
    """`found`, of a version that the handler has looked up itself."""
    version_id = ctx.params.get("versionId")
    if version is None:
        if version_id:
            raise S3Error(Code.NoSuchVersion, Key=ctx.key, VersionId=version_id)
        raise S3Error(Code.NoSuchKey, headers={"x-amz-delete-marker": "false"}, Key=ctx.key)
    if version.is_delete_marker:
        headers = {"x-amz-delete-marker": "true", "x-amz-version-id": version.version_id}
        if version_id:
            headers |= {"Allow": "DELETE", "Last-Modified": http_date(version.modified_ms // 1000)}
            raise S3Error(
                Code.MethodNotAllowed, headers=headers, Method=ctx.head.method, ResourceType="DeleteMarker"
            )
        raise S3Error(Code.NoSuchKey, headers=headers, Key=ctx.key)
    return version


def _overrides(ctx: Context) -> dict[str, str]:
    """response-* parameters, for signed requests only: anyone could else make our origin say anything."""
    chosen = {_OVERRIDES[name]: value for name, value in ctx.params.items() if name in _OVERRIDES}
    if chosen and ctx.caller.key is None:
        raise S3Error(
            Code.InvalidRequest,
            "Request specific response headers cannot be used for anonymous GET requests.",
        )
    for name, value in chosen.items():
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise invalid_argument(name, value, "Header value cannot contain control characters.")
    return {name: value.encode("utf-8").decode("latin-1") for name, value in chosen.items()}


def object_headers(ctx: Context, version: ObjectVersion, overrides: dict[str, str]) -> Headers:
    """Headers that describe a version, ``response-*`` overrides applied."""
    head = version.head
    described = {_HEADER_NAMES[name]: value for name, value in head.headers.items()}
    described.setdefault("Content-Type", upload_headers.DEFAULT_CONTENT_TYPE)
    described.update(overrides)
    headers: Headers = [
        ("Last-Modified", http_date(version.modified_ms // 1000)),
        ("ETag", f'"{version.etag}"'),
        ("Accept-Ranges", "bytes"),
        *described.items(),
    ]
    if _sandbox(ctx, described["Content-Type"].lower()):
        headers.append(
            ("Content-Security-Policy", "sandbox allow-scripts allow-forms allow-popups allow-downloads")
        )
    for name, value in head.metadata.items():
        headers.append(
            (upload_headers.META_PREFIX + name, encode_metadata(value, is_raw=ctx.settings.compat.ceph))
        )
    if head.tags:
        headers.append(("x-amz-tagging-count", str(len(head.tags))))
    if head.storage_class != "STANDARD":
        headers.append(("x-amz-storage-class", head.storage_class))
    if head.website_redirect:
        headers.append(("x-amz-website-redirect-location", head.website_redirect))
    if ctx.bucket.versioning:
        headers.append(("x-amz-version-id", version.version_id))
    if version.encryption is not None:
        headers += encryption.read_headers(ctx, version)
    if version.lock != UNLOCKED:
        headers += _lock_headers(ctx, version)
    headers += oss_headers(ctx, version)
    return headers + lifecycle.expiration_headers(ctx, version)


def oss_headers(ctx: Context, version: ObjectVersion) -> Headers:
    """What only the dialect of OSS has: the CRC where it is known, and where to append."""
    headers: Headers = []
    if not ctx.speaks_oss:
        return headers
    if version.head.crc64ecma:
        headers.append(("x-amz-hash-crc64ecma", version.head.crc64ecma))
    if checksums.is_appendable(version.etag):
        headers.append(("x-amz-next-append-position", str(version.size)))
    return headers


def _sandbox(ctx: Context, content_type: str) -> bool:
    """Whether a browser must be told to give this page an origin of its own.

    By path style, pages that users store share the console's origin, and a script in one of them could do
    there what its visitor may.
    """
    return (
        content_type.startswith(_SCRIPTABLE) and not ctx.target.virtual_host and ctx.settings.console.enabled
    )


def _lock_headers(ctx: Context, version: ObjectVersion) -> Headers:
    """Retention and hold, for those who may ask for them."""
    headers: Headers = []
    lock, about = version.lock, About(version=version)
    if lock.mode and ctx.may("s3:GetObjectRetention", about=about):
        headers = [
            (object_lock.MODE_HEADER, lock.mode),
            (object_lock.DATE_HEADER, iso8601(lock.retain_until_ms)),
        ]
    if lock.legal_hold and ctx.may("s3:GetObjectLegalHold", about=about):
        headers.append((object_lock.HOLD_HEADER, lock.legal_hold))
    return headers


def encode_metadata(value: str, *, is_raw: bool) -> str:
    """Metadata as it goes out: ASCII and non-UTF-8 bytes as they came, other UTF-8 by RFC 2047 if not ``is_raw``."""
    if is_raw or value.isascii():
        return value
    raw = value.encode("latin-1", "replace")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return value
    return f"=?UTF-8?B?{base64.b64encode(raw).decode()}?="


def checksum_headers(checksum: Checksum) -> Headers:
    """The stored checksum and its type."""
    return [
        (checksums.header_name(checksum.algorithm), checksum.value),
        ("x-amz-checksum-type", checksum.type),
    ]


class _Part(NamedTuple):
    """Where a part lies in its object, and its checksum."""

    offset: int
    length: int
    checksum: str = ""


def _part(ctx: Context, version: ObjectVersion) -> _Part:
    """The part ``partNumber``. Raises InvalidPart, InvalidArgument, InvalidRequest (with a Range)."""
    if ctx.headers.get("range"):
        raise S3Error(Code.InvalidRequest, "Cannot specify both Range header and partNumber query parameter")
    number = upload_headers.integer_param(ctx, "partNumber", low=1, high=10_000)
    if version.part_count == 0:
        if number != 1:
            raise _no_such_part(number, 1)
        return _Part(0, version.size)
    segments = read.segments(ctx.store, version)
    if number > len(segments):
        raise _no_such_part(number, len(segments))
    part = segments[number - 1]
    return _Part(sum(segment.size for segment in segments[: number - 1]), part.size, part.checksum)


def _part_headers(ctx: Context, version: ObjectVersion, part: _Part) -> Headers:
    """What is said of a part beside what is said of its object."""
    if version.part_count == 0:
        return []
    headers = [("x-amz-mp-parts-count", str(version.part_count))]
    if part.checksum and version.checksum and ctx.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers += checksum_headers(
            Checksum(version.checksum.algorithm, part.checksum, version.checksum.type)
        )
    return headers


def _no_such_part(number: int, count: int) -> S3Error:
    return S3Error(
        Code.InvalidPart,
        "The requested part number is not satisfiable.",
        PartNumberRequested=str(number),
        ActualPartCount=str(count),
    )


def _body(ctx: Context, version: ObjectVersion, offset: int, length: int) -> Iterable[bytes]:
    """The bytes, by sendfile where one file holds them."""
    if length == 0:
        return ()
    small = read.small_bytes(ctx.store, version)
    if small is not None:
        return (small if length == len(small) else small[offset : offset + length],)
    wrapper = ctx.environ.get("wsgi.file_wrapper")
    if wrapper is not None:
        file = read.open_file(ctx.store, version)
        if file is not None:
            if offset + length == version.size or _sends_content_length(ctx):
                file.seek(offset)
                body: Iterable[bytes] = wrapper(file, ctx.settings.storage.buffer_bytes)
                return body
            file.close()
    return read.read(ctx.store, version, offset=offset, length=length, customer=ctx.customer_key)


def _sends_content_length(ctx: Context) -> bool:
    """True on servers whose file wrapper stops at Content-Length, so that ranges can use it."""
    return str(ctx.environ.get("SERVER_SOFTWARE", "")).startswith("gunicorn")


# ---------------------------------------------------------------- attributes

_ATTRIBUTES = frozenset(("ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"))


def get_object_attributes(ctx: Context) -> Response:
    """GetObjectAttributes: chosen attributes of an object, its parts by pages.

    Source: API Reference, GetObjectAttributes. Checked against AWS: never.
    Errors: NoSuchKey, NoSuchVersion, InvalidArgument (an unknown attribute, or none).
    """
    version = found(ctx)
    ctx.require(versioned("s3:GetObject", ctx.params.get("versionId")), about=About(version=version))
    encryption.check_read(ctx, version)
    wanted = {
        name.strip() for name in ctx.headers.get("x-amz-object-attributes", "").split(",") if name.strip()
    }
    unknown = wanted - _ATTRIBUTES
    if unknown or not wanted:
        raise invalid_argument(
            "x-amz-object-attributes",
            ",".join(sorted(unknown)),
            f"Invalid attribute name specified: use {', '.join(sorted(_ATTRIBUTES))}.",
        )
    parts = _attribute_parts(ctx, version) if "ObjectParts" in wanted and version.part_count else None
    document = results.object_attributes(
        etag=version.etag if "ETag" in wanted else None,
        checksum=version.checksum if "Checksum" in wanted else None,
        parts=parts,
        storage_class=version.head.storage_class if "StorageClass" in wanted else None,
        size=version.size if "ObjectSize" in wanted else None,
    )
    headers: Headers = [("Last-Modified", http_date(version.modified_ms // 1000))]
    if ctx.bucket.versioning:
        headers.append(("x-amz-version-id", version.version_id))
    return xml(document, headers=headers)


def _attribute_parts(ctx: Context, version: ObjectVersion) -> results.AttributeParts:
    def number(name: str, default: int) -> int:
        text = ctx.headers.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit()):
            raise invalid_argument(name, text, f"{name} must be a whole number.")
        return int(text)

    max_parts = min(number("x-amz-max-parts", 1000), 1000)
    marker = number("x-amz-part-number-marker", 0)
    segments: list[Segment] = read.segments(ctx.store, version)
    shown = [segment for segment in segments if segment.part_number > marker]
    page = shown[:max_parts]
    return results.AttributeParts(
        total=version.part_count,
        marker=marker,
        next_marker=page[-1].part_number if page else 0,
        max_parts=max_parts,
        is_truncated=len(shown) > len(page),
        algorithm=version.checksum.algorithm if version.checksum else "",
        parts=page,
    )


def location(ctx: Context) -> str:
    """The object's URL, as the uploader addressed the server."""
    bucket = "" if ctx.target.virtual_host else f"/{ctx.bucket.name}"
    return f"{ctx.head.origin}{ctx.head.mount_prefix}{bucket}/{quote(ctx.key, safe='/-_.~')}"
