"""Pages of listings as the XML documents that S3 answers: objects, versions, uploads and parts.

Rows are written by templates; what goes into them is tried for characters that need escaping once for a
page. Element order is that of the API Reference's sample responses, which is what AWS sends; a row's
optional elements stand where AWS puts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s3lite.model import Account, ListedObject, ListedVersion, Part, Upload
from s3lite.wire.elements import (
    SECONDS,
    Minutes,
    account,
    account_of,
    common_prefixes,
    date,
    encode_keys,
    encoder,
    etag_element,
    flag,
    optional,
    part_checksum,
    row_checksum,
)
from s3lite.wire.xml import document, element, escape, is_expressible

# ---------------------------------------------------------------- listings of objects


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsPage:
    """A page of ListObjects or ListObjectsV2. ``owners`` None: rows have no Owner.

    ``continuation_token`` None: the client sent none; "" is shown as it was sent.
    """

    bucket: str
    prefix: str
    delimiter: str
    max_keys: int
    is_truncated: bool
    entries: Sequence[ListedObject]
    common_prefixes: Sequence[str]
    owners: Mapping[str, Account] | None
    encoding_type: str = ""
    marker: str = ""
    next_marker: str = ""
    start_after: str = ""
    continuation_token: str | None = None
    next_continuation_token: str = ""

    @property
    def key_count(self) -> int:
        """Keys and common prefixes on this page."""
        return len(self.entries) + len(self.common_prefixes)


def list_objects(page: ObjectsPage) -> bytes:
    """ListObjects.

    Prefix is url-encoded only if XML cannot hold it: it is the one field that botocore forgets to decode
    (boto3 #3534).
    """
    encode = encoder(page.encoding_type)
    prefix = encode(page.prefix) if not is_expressible(page.prefix) else escape(page.prefix)
    body = (
        f"{element('Name', page.bucket)}<Prefix>{prefix}</Prefix>"
        f"<Marker>{encode(page.marker)}</Marker>{optional('NextMarker', page.next_marker, encode)}"
        f"<MaxKeys>{page.max_keys}</MaxKeys>{_objects_tail(page)}"
    )
    return document("ListBucketResult", body)


def list_objects_v2(page: ObjectsPage) -> bytes:
    """ListObjectsV2. Tokens are opaque and not url-encoded."""
    encode = encoder(page.encoding_type)
    token = page.continuation_token
    body = (
        f"{element('Name', page.bucket)}<Prefix>{encode(page.prefix)}</Prefix>"
        f"{optional('StartAfter', page.start_after, encode)}"
        f"{element('ContinuationToken', token) if token is not None else ''}"
        f"{optional('NextContinuationToken', page.next_continuation_token)}"
        f"<KeyCount>{page.key_count}</KeyCount><MaxKeys>{page.max_keys}</MaxKeys>{_objects_tail(page)}"
    )
    return document("ListBucketResult", body)


def _objects_tail(page: ObjectsPage) -> str:
    return (
        f"{optional('Delimiter', page.delimiter, encoder(page.encoding_type))}"
        f"{optional('EncodingType', page.encoding_type)}{flag('IsTruncated', page.is_truncated)}"
        f"{''.join(_object_rows(page))}{common_prefixes(page.common_prefixes, page.encoding_type)}"
    )


def _object_rows(page: ObjectsPage) -> list[str]:
    """The hot rows, 1,000 on most pages: one template, what repeats made once, no call for a row.

    ETags come from the server and need no escaping.
    """
    keys = encode_keys(page.encoding_type, [entry[0] for entry in page.entries])
    ends = {kind: _row_ends(page.owners, *kind) for kind in {entry[4] for entry in page.entries}}
    minutes, seconds = Minutes(), SECONDS
    return [
        f"<Contents><Key>{key}</Key><LastModified>{minutes[modified_ms // 60_000]}"
        f"{seconds[modified_ms // 1000 % 60]}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
        f"{(end := ends[kind])[0]}<Size>{size}</Size>{end[1]}"
        for key, (_, size, etag, modified_ms, kind) in zip(keys, page.entries, strict=True)
    ]


def _row_ends(
    owners: Mapping[str, Account] | None,
    owner_id: str,
    storage_class: str,
    algorithm: str,
    checksum_type: str,
) -> tuple[str, str]:
    """What stands before and after the size in rows with these values."""
    owner = account_of("Owner", owner_id, owners) if owners is not None else ""
    return (
        row_checksum(algorithm, checksum_type),
        f"{owner}{element('StorageClass', storage_class)}</Contents>",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsPage:
    """A page of ListObjectVersions."""

    bucket: str
    prefix: str
    delimiter: str
    max_keys: int
    is_truncated: bool
    entries: Sequence[ListedVersion]
    common_prefixes: Sequence[str]
    owners: Mapping[str, Account]
    encoding_type: str = ""
    key_marker: str = ""
    version_id_marker: str = ""
    next_key_marker: str = ""
    next_version_id_marker: str = ""


def list_versions(page: VersionsPage) -> bytes:
    """ListObjectVersions: versions and delete markers as they come, newest first within a key."""
    encode = encoder(page.encoding_type)
    keys = encode_keys(page.encoding_type, [entry.key for entry in page.entries])
    owners = {
        account_id: account_of("Owner", account_id, page.owners)
        for account_id in {entry.owner_id for entry in page.entries}
    }
    rows = [
        _version_row(entry, key, owners[entry.owner_id])
        for key, entry in zip(keys, page.entries, strict=True)
    ]
    body = (
        f"{element('Name', page.bucket)}<Prefix>{encode(page.prefix)}</Prefix>"
        f"<KeyMarker>{encode(page.key_marker)}</KeyMarker>{element('VersionIdMarker', page.version_id_marker)}"
        f"{optional('NextKeyMarker', page.next_key_marker, encode)}"
        f"{optional('NextVersionIdMarker', page.next_version_id_marker)}<MaxKeys>{page.max_keys}</MaxKeys>"
        f"{optional('Delimiter', page.delimiter, encode)}{optional('EncodingType', page.encoding_type)}"
        f"{flag('IsTruncated', page.is_truncated)}{''.join(rows)}"
        f"{common_prefixes(page.common_prefixes, page.encoding_type)}"
    )
    return document("ListVersionsResult", body)


def _version_row(entry: ListedVersion, key: str, owner: str) -> str:
    """One row; version ids and ETags come from the server and need no escaping."""
    head = (
        f"<Key>{key}</Key><VersionId>{entry.version_id}</VersionId>{flag('IsLatest', entry.is_latest)}"
        f"<LastModified>{date(entry.modified_ms)}</LastModified>"
    )
    if entry.is_delete_marker:
        return f"<DeleteMarker>{head}{owner}</DeleteMarker>"
    return (
        f"<Version>{head}<ETag>&quot;{entry.etag}&quot;</ETag>"
        f"{row_checksum(entry.checksum_algorithm, entry.checksum_type)}<Size>{entry.size}</Size>{owner}"
        f"{element('StorageClass', entry.storage_class)}</Version>"
    )


# ---------------------------------------------------------------- multipart uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsPage:
    """A page of ListMultipartUploads. ``owners`` has owners and initiators."""

    bucket: str
    prefix: str
    delimiter: str
    max_uploads: int
    is_truncated: bool
    uploads: Sequence[Upload]
    common_prefixes: Sequence[str]
    owners: Mapping[str, Account]
    encoding_type: str = ""
    key_marker: str = ""
    upload_id_marker: str = ""
    next_key_marker: str = ""
    next_upload_id_marker: str = ""


def list_uploads(page: UploadsPage) -> bytes:
    """ListMultipartUploads."""
    encode = encoder(page.encoding_type)
    rows = "".join(
        f"<Upload><Key>{encode(upload.key)}</Key>{element('UploadId', upload.upload_id)}"
        f"{account_of('Initiator', upload.initiator_id, page.owners)}"
        f"{account_of('Owner', upload.owner_id, page.owners)}"
        f"{element('StorageClass', upload.head.storage_class)}"
        f"<Initiated>{date(upload.initiated_ms)}</Initiated>"
        f"{row_checksum(upload.checksum_algorithm, upload.checksum_type)}</Upload>"
        for upload in page.uploads
    )
    body = (
        f"{element('Bucket', page.bucket)}<KeyMarker>{encode(page.key_marker)}</KeyMarker>"
        f"{element('UploadIdMarker', page.upload_id_marker)}"
        f"{optional('NextKeyMarker', page.next_key_marker, encode)}"
        f"{optional('NextUploadIdMarker', page.next_upload_id_marker)}"
        f"{optional('Delimiter', page.delimiter, encode)}{optional('Prefix', page.prefix, encode)}"
        f"{optional('EncodingType', page.encoding_type)}<MaxUploads>{page.max_uploads}</MaxUploads>"
        f"{flag('IsTruncated', page.is_truncated)}{rows}"
        f"{common_prefixes(page.common_prefixes, page.encoding_type)}"
    )
    return document("ListMultipartUploadsResult", body)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsPage:
    """A page of ListParts."""

    bucket: str
    key: str
    upload: Upload
    marker: int
    max_parts: int
    is_truncated: bool
    parts: Sequence[Part]
    owner: Account
    initiator: Account
    encoding_type: str = ""


def list_parts(page: PartsPage) -> bytes:
    """ListParts. NextPartNumberMarker is the last part of the page, truncated or not, as AWS has it."""
    upload = page.upload
    rows = "".join(
        f"<Part><PartNumber>{part.part_number}</PartNumber>"
        f"<LastModified>{date(part.modified_ms)}</LastModified>{etag_element(part.etag)}<Size>{part.size}</Size>"
        f"{part_checksum(upload.checksum_algorithm, part.checksum)}</Part>"
        for part in page.parts
    )
    body = (
        f"{element('Bucket', page.bucket)}<Key>{encoder(page.encoding_type)(page.key)}</Key>"
        f"{element('UploadId', upload.upload_id)}{account('Initiator', page.initiator)}"
        f"{account('Owner', page.owner)}{element('StorageClass', upload.head.storage_class)}"
        f"<PartNumberMarker>{page.marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{page.parts[-1].part_number if page.parts else 0}</NextPartNumberMarker>"
        f"<MaxParts>{page.max_parts}</MaxParts>{optional('EncodingType', page.encoding_type)}"
        f"{flag('IsTruncated', page.is_truncated)}"
        f"{row_checksum(upload.checksum_algorithm, upload.checksum_type)}{rows}"
    )
    return document("ListPartsResult", body)
