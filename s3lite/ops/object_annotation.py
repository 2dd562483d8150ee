"""Annotations: up to 1,000 named texts of a version, each up to 1 MiB."""

from __future__ import annotations

from dataclasses import replace

from s3lite.auth.actions import versioned
from s3lite.auth.facts import About
from s3lite.catalog.base import Tx
from s3lite.context import Context, algorithms_of
from s3lite.core import object_annotation as core
from s3lite.core.listing import decode_token, encode_token
from s3lite.core.write import NewAnnotation, NewVersion
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import Bucket, Checksum, ObjectVersion
from s3lite.ops import events, upload_headers
from s3lite.ops.object_read import checksum_headers, found
from s3lite.responses import Headers, Response, empty, stream, xml
from s3lite.times import http_date
from s3lite.wire import checksums, results
from s3lite.wire.body import read_all
from s3lite.wire.checksums import Digests

_MAX_NAME_BYTES = 512
_MAX_RESULTS = 1000
_RESERVED = ("aws", "s3")
_IF_MATCH = "x-amz-object-if-match"
_DIRECTIVE = "x-amz-object-annotation-directive"


def put_object_annotation(ctx: Context) -> Response:
    """PutObjectAnnotation: add a text to a version of an object, or replace it; the object stays as it is.

    Source: API Reference, PutObjectAnnotation; User Guide, "Annotating your objects". Checked against AWS: never.
    Errors: NoSuchKey, NoSuchVersion, InvalidAnnotationName (letters, digits, ``_.-``, not beginning with aws or s3),
    AnnotationNameTooLong (more than 512 bytes), AnnotationLimitExceeded (more than 1,000), InvalidRequest (empty;
    SSE-C), EntityTooLarge (more than 1 MiB), UnsupportedMediaType (no UTF-8), BadDigest, PreconditionFailed
    (x-amz-object-if-match), AccessDenied (it would replace one of a locked version).
    Differs: of an object that is not encrypted, annotations are not either. Quotas do not count them.
    """
    version = found(ctx)
    name = _name(ctx)
    data, checksum, etag = _text(ctx)
    made = core.put(
        ctx.store,
        version,
        name,
        data,
        etag=etag,
        checksum=checksum,
        if_match=ctx.headers.get(_IF_MATCH),
        bypass=upload_headers.bypasses_governance(ctx),
        tell=_telling(ctx, "ObjectAnnotation:Put", version),
    )
    headers = [("ETag", f'"{made.etag}"'), *checksum_headers(checksum), *_headers(ctx, version)]
    return xml(results.put_annotation(key=ctx.key, name=name), headers=headers)


def get_object_annotation(ctx: Context) -> Response:
    """GetObjectAnnotation: the text.

    Source: API Reference, GetObjectAnnotation. Checked against AWS: never.
    Errors: NoSuchKey, NoSuchVersion, NoSuchAnnotation.
    """
    version = found(ctx)
    name = ctx.params["annotationName"]
    with ctx.store.catalog.read() as tx:
        annotation = tx.annotation(version.row, name) if version.annotations else None
    if annotation is None:
        raise S3Error(Code.NoSuchAnnotation, Key=ctx.key, AnnotationName=name)
    headers = [
        ("Content-Type", "application/octet-stream"),  # whatever is in it, no browser shows it as a page
        ("Last-Modified", http_date(annotation.modified_ms // 1000)),
        ("ETag", f'"{annotation.etag}"'),
        *_headers(ctx, version),
    ]
    if ctx.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers += checksum_headers(annotation.checksum)
    return stream(core.content(ctx.store, version, annotation), annotation.size, headers=headers)


def list_object_annotations(ctx: Context) -> Response:
    """ListObjectAnnotations: names, sizes, dates and ETags, by name in UTF-8 order, in pages.

    Source: API Reference, ListObjectAnnotations. Checked against AWS: never.
    Errors: NoSuchKey, NoSuchVersion, InvalidPrefix (longer than a name), InvalidArgument (max-annotation-results
    outside 1..1000, a foreign continuation token).
    """
    version = found(ctx)
    prefix, token = ctx.params.get("annotation-prefix", ""), ctx.params.get("continuation-token", "")
    if len(prefix.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES:
        raise S3Error(Code.InvalidPrefix)
    limit = upload_headers.integer_param(
        ctx, "max-annotation-results", low=1, high=_MAX_RESULTS, default=_MAX_RESULTS
    )
    with ctx.store.catalog.read() as tx:
        rows = tx.annotations(
            version.row, prefix=prefix, after=decode_token(token) if token else "", limit=limit + 1
        )
    page = rows[:limit]
    document = results.object_annotations(
        page,
        bucket=ctx.bucket.name,
        key=ctx.key,
        prefix=prefix,
        limit=limit,
        token=token,
        next_token=encode_token(page[-1].name) if len(rows) > limit else "",
    )
    return xml(document, headers=_version_id(ctx, version))


def delete_object_annotation(ctx: Context) -> Response:
    """DeleteObjectAnnotation: remove a text for good; one that is not there is gone already.

    Source: API Reference, DeleteObjectAnnotation. Checked against AWS: never.
    Errors: NoSuchKey, NoSuchVersion, PreconditionFailed (x-amz-object-if-match), AccessDenied (a locked version;
    x-amz-bypass-governance-retention lifts GOVERNANCE).
    """
    version = found(ctx)
    core.remove(
        ctx.store,
        version,
        _name(ctx),
        if_match=ctx.headers.get(_IF_MATCH),
        bypass=upload_headers.bypasses_governance(ctx),
        tell=_telling(ctx, "ObjectAnnotation:Delete", version),
    )
    return empty(204, _version_id(ctx, version))


def _name(ctx: Context) -> str:
    name = ctx.params.get("annotationName", "")
    if len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES:
        raise S3Error(Code.AnnotationNameTooLong)
    is_plain = all(character.isalpha() or character.isdigit() or character in "_.-" for character in name)
    if not name or not is_plain or name.lower().startswith(_RESERVED):
        raise S3Error(
            Code.InvalidAnnotationName,
            "The annotation name is not valid: it has letters, digits, underscores, periods and hyphens, and begins "
            "with neither aws nor s3.",
            AnnotationName=name,
        )
    return name


def _text(ctx: Context) -> tuple[bytes, Checksum, str]:
    """The payload with its checksum and ETag, verified. Raises as PutObjectAnnotation says."""
    limit = ctx.settings.limits.annotation_bytes
    data = read_all(ctx.body(max_bytes=limit), limit=limit)
    ctx.received = len(data)
    request = checksums.parse_checksum_headers(ctx.headers)
    digests = Digests(algorithms_of(request) or {"CRC64NVME"}, sha256=ctx.payload.kind == "sha256")
    digests.update(data)
    ctx.verify(request, digests)
    if not data:
        raise S3Error(Code.InvalidRequest, "An annotation has at least one byte.")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise S3Error(
            Code.UnsupportedMediaType, "The annotation is not text in UTF-8; encode other bytes as Base64."
        ) from None
    algorithm = request.trailer or request.algorithm or "CRC64NVME"
    return data, Checksum(algorithm, digests.value(algorithm)), digests.etag


def _headers(ctx: Context, version: ObjectVersion) -> Headers:
    mode = version.encryption.mode if version.encryption is not None else ""
    return [*_version_id(ctx, version), *([("x-amz-server-side-encryption", mode)] if mode else [])]


def _version_id(ctx: Context, version: ObjectVersion) -> Headers:
    return [("x-amz-object-version-id", version.version_id)] if ctx.bucket.versioning else []


def _telling(ctx: Context, event: str, version: ObjectVersion) -> core.Tell | None:
    told = events.events_of(ctx)
    if told is None:
        return None

    def tell(tx: Tx) -> None:
        told.tell(tx, ctx.bucket, event, version)

    return tell


# ---------------------------------------------------------------- copies


def are_wanted(ctx: Context) -> bool:
    """Whether a copy takes annotations along: unless the request says EXCLUDE. Raises InvalidArgument."""
    value = (ctx.headers.get(_DIRECTIVE) or ctx.params.get(_DIRECTIVE) or "COPY").upper()
    if value not in ("COPY", "EXCLUDE"):
        raise invalid_argument(_DIRECTIVE, value, f"Unknown {_DIRECTIVE}: use COPY or EXCLUDE.")
    return value == "COPY"


def check_copy(ctx: Context, source_bucket: Bucket, source: ObjectVersion, new: NewVersion) -> None:
    """Raise AccessDenied unless the caller may read the source's annotations and write the copy's."""
    version_id = source.version_id if source_bucket.versioning else None
    about = About(version=source, version_id=version_id or "")
    ctx.require(
        versioned("s3:GetObjectAnnotation", version_id), bucket=source_bucket, key=source.key, about=about
    )
    made = replace(source, bucket_id=ctx.bucket.id, key=new.key, head=new.head, acl=new.acl)
    ctx.require("s3:PutObjectAnnotation", about=About(version=made))


def copies(ctx: Context, new: NewVersion, *, key: bytes | None) -> tuple[NewAnnotation, ...]:
    """The annotations of a copy; ``key`` is that of bytes that were written anew."""
    source = new.annotations_of
    return () if source is None else core.copies(ctx.store, source, key=key)
