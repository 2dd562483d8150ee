"""Values as the XML documents that S3 answers.

Rows of listings are written by templates; what goes into them is tried for characters that need
escaping once for a page. Element order is that of the API Reference's sample responses, which is what
AWS sends; a row's optional elements stand where AWS puts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from s3lite.model import (
    Account,
    Acl,
    Annotation,
    Bucket,
    Checksum,
    Grant,
    ListedObject,
    ListedVersion,
    Part,
    Segment,
    Upload,
)
from s3lite.times import iso8601
from s3lite.wire.checksums import element_name
from s3lite.wire.xml import document, element, escape, is_expressible

_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_URL_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/"
# Bytes of UTF-8 that `escape` never changes. U+D800-DFFF and U+FFFE begin with ED and EF.
_PLAIN = bytes(byte for byte in range(32, 256) if byte not in b'&<>"\xed\xef')

Encoder = Callable[[str], str]


# ---------------------------------------------------------------- shared pieces


def _url_encode(value: str) -> str:
    """``encoding-type=url``: percent-encoded UTF-8; ``/`` stays and a space is %20, which every SDK decodes."""
    return quote(value, safe="/-_.~", errors="replace")


def _encoder(encoding_type: str) -> Encoder:
    return _url_encode if encoding_type == "url" else escape


def _encode_keys(encoding_type: str, keys: list[str]) -> list[str]:
    """The keys of a page as they are written: unchanged when no key needs more, which is tried at once."""
    joined = "".join(keys).encode("utf-8", "surrogatepass")
    if not joined.translate(None, _URL_SAFE if encoding_type == "url" else _PLAIN):
        return keys
    encode = _encoder(encoding_type)
    return [encode(key) for key in keys]


def _optional(name: str, value: str, encode: Encoder = escape) -> str:
    return f"<{name}>{encode(value)}</{name}>" if value else ""


def _flag(name: str, value: bool) -> str:
    return f"<{name}>{'true' if value else 'false'}</{name}>"


def _etag(etag: str) -> str:
    return f"<ETag>&quot;{escape(etag)}&quot;</ETag>"


def _account(name: str, account: Account) -> str:
    return f"<{name}>{element('ID', account.id)}{element('DisplayName', account.display_name)}</{name}>"


def _account_of(name: str, account_id: str, accounts: Mapping[str, Account]) -> str:
    return _account(name, accounts.get(account_id) or Account(account_id, ""))


def _checksum_values(checksum: Checksum | None) -> str:
    if checksum is None:
        return ""
    return element(element_name(checksum.algorithm), checksum.value) + element("ChecksumType", checksum.type)


def _part_checksum(algorithm: str, value: str) -> str:
    return element(element_name(algorithm), value) if algorithm and value else ""


def _common_prefixes(prefixes: Sequence[str], encoding_type: str) -> str:
    encoded = _encode_keys(encoding_type, list(prefixes))
    return "".join([f"<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>" for prefix in encoded])


class _Days(dict[int, str]):
    """``2026-01-31T`` by days since the epoch, each made when it is first asked for."""

    def __missing__(self, day: int) -> str:
        text = self[day] = iso8601(day * 86_400_000)[:11]
        return text


class _Minutes(dict[int, str]):
    """``2026-01-31T12:34:`` by minutes since the epoch, for one page, whose rows often share them."""

    def __missing__(self, minute: int) -> str:
        text = self[minute] = _DAYS[minute // 1440] + _MINUTES_OF_DAY[minute % 1440]
        return text


# `times.iso8601` out of tables, at a fifth of its price: listings have a date in every row.
_DAYS = _Days()
_MINUTES_OF_DAY = [f"{minute // 60:02}:{minute % 60:02}:" for minute in range(1440)]
_SECONDS = [f"{second:02}.000Z" for second in range(60)]


def _date(epoch_ms: int) -> str:
    second = epoch_ms // 1000
    return _DAYS[second // 86_400] + _MINUTES_OF_DAY[second // 60 % 1440] + _SECONDS[second % 60]


def _row_checksum(algorithm: str, checksum_type: str) -> str:
    """What rows of listings say of a checksum: its kind, never its value."""
    if not algorithm:
        return ""
    return element("ChecksumAlgorithm", algorithm) + _optional("ChecksumType", checksum_type)


# ---------------------------------------------------------------- buckets


def list_buckets(
    *, owner: Account, buckets: Sequence[Bucket], prefix: str = "", continuation_token: str = ""
) -> bytes:
    """ListBuckets."""
    rows = "".join(
        f"<Bucket>{element('Name', bucket.name)}<CreationDate>{_date(bucket.created_ms)}</CreationDate>"
        f"{_optional('BucketRegion', bucket.region)}</Bucket>"
        for bucket in buckets
    )
    body = f"{_account('Owner', owner)}<Buckets>{rows}</Buckets>"
    body += _optional("Prefix", prefix) + _optional("ContinuationToken", continuation_token)
    return document("ListAllMyBucketsResult", body)


def location_constraint(region: str) -> bytes:
    """GetBucketLocation; "" for us-east-1."""
    return document("LocationConstraint", escape(region))


def versioning_configuration(status: str) -> bytes:
    """GetBucketVersioning; "" for a bucket that was never versioned."""
    return document("VersioningConfiguration", _optional("Status", status))


def request_payment(payer: str) -> bytes:
    """GetBucketRequestPayment."""
    return document("RequestPaymentConfiguration", element("Payer", payer))


def bucket_info(*, bucket: Bucket, owner: Account, acl: str, endpoint: str) -> bytes:
    """GetBucketInfo of OSS; ``acl`` is its word for the public's rights."""
    endpoints = element("ExtranetEndpoint", endpoint) + element("IntranetEndpoint", endpoint)
    body = (
        f"<Bucket>{element('Name', bucket.name)}<CreationDate>{_date(bucket.created_ms)}</CreationDate>"
        f"{element('Location', bucket.region)}{endpoints}<StorageClass>STANDARD</StorageClass>"
        f"{_optional('Versioning', bucket.versioning)}{_account('Owner', owner)}"
        f"<AccessControlList>{element('Grant', acl)}</AccessControlList></Bucket>"
    )
    return document("BucketInfo", body)


def constant(root: str, body: str = "") -> bytes:
    """A document whose body is XML already: for configurations that are always the same."""
    return document(root, body)


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
    encode = _encoder(page.encoding_type)
    prefix = encode(page.prefix) if not is_expressible(page.prefix) else escape(page.prefix)
    body = (
        f"{element('Name', page.bucket)}<Prefix>{prefix}</Prefix>"
        f"<Marker>{encode(page.marker)}</Marker>{_optional('NextMarker', page.next_marker, encode)}"
        f"<MaxKeys>{page.max_keys}</MaxKeys>{_objects_tail(page)}"
    )
    return document("ListBucketResult", body)


def list_objects_v2(page: ObjectsPage) -> bytes:
    """ListObjectsV2. Tokens are opaque and not url-encoded."""
    encode = _encoder(page.encoding_type)
    token = page.continuation_token
    body = (
        f"{element('Name', page.bucket)}<Prefix>{encode(page.prefix)}</Prefix>"
        f"{_optional('StartAfter', page.start_after, encode)}"
        f"{element('ContinuationToken', token) if token is not None else ''}"
        f"{_optional('NextContinuationToken', page.next_continuation_token)}"
        f"<KeyCount>{page.key_count}</KeyCount><MaxKeys>{page.max_keys}</MaxKeys>{_objects_tail(page)}"
    )
    return document("ListBucketResult", body)


def _objects_tail(page: ObjectsPage) -> str:
    return (
        f"{_optional('Delimiter', page.delimiter, _encoder(page.encoding_type))}"
        f"{_optional('EncodingType', page.encoding_type)}{_flag('IsTruncated', page.is_truncated)}"
        f"{''.join(_object_rows(page))}{_common_prefixes(page.common_prefixes, page.encoding_type)}"
    )


def _object_rows(page: ObjectsPage) -> list[str]:
    """The hot rows, 1,000 on most pages: one template, what repeats made once, no call for a row.

    ETags come from the server and need no escaping.
    """
    keys = _encode_keys(page.encoding_type, [entry[0] for entry in page.entries])
    ends = {kind: _row_ends(page.owners, *kind) for kind in {entry[4] for entry in page.entries}}
    minutes, seconds = _Minutes(), _SECONDS
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
    owner = _account_of("Owner", owner_id, owners) if owners is not None else ""
    return (
        _row_checksum(algorithm, checksum_type),
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
    encode = _encoder(page.encoding_type)
    keys = _encode_keys(page.encoding_type, [entry.key for entry in page.entries])
    owners = {
        account_id: _account_of("Owner", account_id, page.owners)
        for account_id in {entry.owner_id for entry in page.entries}
    }
    rows = [
        _version_row(entry, key, owners[entry.owner_id])
        for key, entry in zip(keys, page.entries, strict=True)
    ]
    body = (
        f"{element('Name', page.bucket)}<Prefix>{encode(page.prefix)}</Prefix>"
        f"<KeyMarker>{encode(page.key_marker)}</KeyMarker>{element('VersionIdMarker', page.version_id_marker)}"
        f"{_optional('NextKeyMarker', page.next_key_marker, encode)}"
        f"{_optional('NextVersionIdMarker', page.next_version_id_marker)}<MaxKeys>{page.max_keys}</MaxKeys>"
        f"{_optional('Delimiter', page.delimiter, encode)}{_optional('EncodingType', page.encoding_type)}"
        f"{_flag('IsTruncated', page.is_truncated)}{''.join(rows)}"
        f"{_common_prefixes(page.common_prefixes, page.encoding_type)}"
    )
    return document("ListVersionsResult", body)


def _version_row(entry: ListedVersion, key: str, owner: str) -> str:
    """One row; version ids and ETags come from the server and need no escaping."""
    head = (
        f"<Key>{key}</Key><VersionId>{entry.version_id}</VersionId>{_flag('IsLatest', entry.is_latest)}"
        f"<LastModified>{_date(entry.modified_ms)}</LastModified>"
    )
    if entry.is_delete_marker:
        return f"<DeleteMarker>{head}{owner}</DeleteMarker>"
    return (
        f"<Version>{head}<ETag>&quot;{entry.etag}&quot;</ETag>"
        f"{_row_checksum(entry.checksum_algorithm, entry.checksum_type)}<Size>{entry.size}</Size>{owner}"
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
    encode = _encoder(page.encoding_type)
    rows = "".join(
        f"<Upload><Key>{encode(upload.key)}</Key>{element('UploadId', upload.upload_id)}"
        f"{_account_of('Initiator', upload.initiator_id, page.owners)}"
        f"{_account_of('Owner', upload.owner_id, page.owners)}"
        f"{element('StorageClass', upload.head.storage_class)}"
        f"<Initiated>{_date(upload.initiated_ms)}</Initiated>"
        f"{_row_checksum(upload.checksum_algorithm, upload.checksum_type)}</Upload>"
        for upload in page.uploads
    )
    body = (
        f"{element('Bucket', page.bucket)}<KeyMarker>{encode(page.key_marker)}</KeyMarker>"
        f"{element('UploadIdMarker', page.upload_id_marker)}"
        f"{_optional('NextKeyMarker', page.next_key_marker, encode)}"
        f"{_optional('NextUploadIdMarker', page.next_upload_id_marker)}"
        f"{_optional('Delimiter', page.delimiter, encode)}{_optional('Prefix', page.prefix, encode)}"
        f"{_optional('EncodingType', page.encoding_type)}<MaxUploads>{page.max_uploads}</MaxUploads>"
        f"{_flag('IsTruncated', page.is_truncated)}{rows}"
        f"{_common_prefixes(page.common_prefixes, page.encoding_type)}"
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
        f"<LastModified>{_date(part.modified_ms)}</LastModified>{_etag(part.etag)}<Size>{part.size}</Size>"
        f"{_part_checksum(upload.checksum_algorithm, part.checksum)}</Part>"
        for part in page.parts
    )
    body = (
        f"{element('Bucket', page.bucket)}<Key>{_encoder(page.encoding_type)(page.key)}</Key>"
        f"{element('UploadId', upload.upload_id)}{_account('Initiator', page.initiator)}"
        f"{_account('Owner', page.owner)}{element('StorageClass', upload.head.storage_class)}"
        f"<PartNumberMarker>{page.marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{page.parts[-1].part_number if page.parts else 0}</NextPartNumberMarker>"
        f"<MaxParts>{page.max_parts}</MaxParts>{_optional('EncodingType', page.encoding_type)}"
        f"{_flag('IsTruncated', page.is_truncated)}"
        f"{_row_checksum(upload.checksum_algorithm, upload.checksum_type)}{rows}"
    )
    return document("ListPartsResult", body)


def initiate_multipart_upload(*, bucket: str, key: str, upload_id: str) -> bytes:
    """CreateMultipartUpload."""
    body = element("Bucket", bucket) + element("Key", key) + element("UploadId", upload_id)
    return document("InitiateMultipartUploadResult", body)


def complete_multipart_upload(
    *, bucket: str, key: str, etag: str, location: str, checksum: Checksum | None
) -> bytes:
    """CompleteMultipartUpload."""
    body = (
        f"{element('Location', location)}{element('Bucket', bucket)}{element('Key', key)}{_etag(etag)}"
        f"{_checksum_values(checksum)}"
    )
    return document("CompleteMultipartUploadResult", body)


# ---------------------------------------------------------------- objects


def copy_object_result(*, etag: str, modified_ms: int, checksum: Checksum | None) -> bytes:
    """CopyObject."""
    body = f"<LastModified>{_date(modified_ms)}</LastModified>{_etag(etag)}{_checksum_values(checksum)}"
    return document("CopyObjectResult", body)


def put_annotation(*, key: str, name: str) -> bytes:
    """PutObjectAnnotation."""
    return document("PutObjectAnnotationOutput", element("Key", key) + element("AnnotationName", name))


def object_annotations(
    found: Sequence[Annotation],
    *,
    bucket: str,
    key: str,
    prefix: str,
    limit: int,
    token: str,
    next_token: str,
) -> bytes:
    """ListObjectAnnotations."""
    rows = "".join(
        f"<AnnotationEntry>{element('AnnotationName', each.name)}"
        f"<LastModified>{_date(each.modified_ms)}</LastModified>{_etag(each.etag)}"
        f"{element('ChecksumAlgorithm', each.checksum.algorithm)}<Size>{each.size}</Size></AnnotationEntry>"
        for each in found
    )
    body = element("Bucket", bucket) + element("Key", key) + _optional("AnnotationPrefix", prefix)
    body += (
        f"<MaxAnnotationResults>{limit}</MaxAnnotationResults><AnnotationCount>{len(found)}</AnnotationCount>"
    )
    body += _optional("ContinuationToken", token) + _optional("NextContinuationToken", next_token)
    return document("ListObjectAnnotationsOutput", f"{body}<Annotations>{rows}</Annotations>")


def copy_part_result(*, etag: str, modified_ms: int, algorithm: str = "", checksum: str = "") -> bytes:
    """UploadPartCopy; ``checksum`` is Base64, in ``algorithm``."""
    body = (
        f"<LastModified>{_date(modified_ms)}</LastModified>{_etag(etag)}{_part_checksum(algorithm, checksum)}"
    )
    return document("CopyPartResult", body)


@dataclass(frozen=True, slots=True)
class DeletedKey:
    """A key that DeleteObjects deleted. ``version_id`` is the one that was asked for, "" for none."""

    key: str
    version_id: str = ""
    is_delete_marker: bool = False
    delete_marker_version_id: str = ""


@dataclass(frozen=True, slots=True)
class DeleteFailure:
    """A key that DeleteObjects could not delete."""

    key: str
    version_id: str
    code: str
    message: str


def delete_result(outcomes: Iterable[DeletedKey | DeleteFailure], *, quiet: bool) -> bytes:
    """DeleteObjects; with ``quiet``, failures only."""
    rows = [
        _failure_row(outcome) if isinstance(outcome, DeleteFailure) else _deleted_row(outcome)
        for outcome in outcomes
        if isinstance(outcome, DeleteFailure) or not quiet
    ]
    return document("DeleteResult", "".join(rows))


def _deleted_row(deleted: DeletedKey) -> str:
    row = element("Key", deleted.key) + _optional("VersionId", deleted.version_id)
    if deleted.is_delete_marker:
        row += "<DeleteMarker>true</DeleteMarker>"
        row += _optional("DeleteMarkerVersionId", deleted.delete_marker_version_id)
    return f"<Deleted>{row}</Deleted>"


def _failure_row(failure: DeleteFailure) -> str:
    return (
        f"<Error>{element('Key', failure.key)}{_optional('VersionId', failure.version_id)}"
        f"{element('Code', failure.code)}{element('Message', failure.message)}</Error>"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeParts:
    """A page of the parts that GetObjectAttributes shows; ``algorithm`` is that of their checksums, or ""."""

    total: int
    marker: int
    next_marker: int
    max_parts: int
    is_truncated: bool
    algorithm: str
    parts: Sequence[Segment]


def object_attributes(
    *,
    etag: str | None = None,
    checksum: Checksum | None = None,
    parts: AttributeParts | None = None,
    storage_class: str | None = None,
    size: int | None = None,
) -> bytes:
    """GetObjectAttributes; None leaves an attribute out. The ETag has no quotes here, as in AWS."""
    body = element("ETag", etag) if etag is not None else ""
    if checksum is not None:
        body += f"<Checksum>{_checksum_values(checksum)}</Checksum>"
    if parts is not None:
        body += _attribute_parts(parts)
    if storage_class is not None:
        body += element("StorageClass", storage_class)
    if size is not None:
        body += f"<ObjectSize>{size}</ObjectSize>"
    return document("GetObjectAttributesResponse", body)


def _attribute_parts(page: AttributeParts) -> str:
    rows = "".join(
        f"<Part>{_part_checksum(page.algorithm, part.checksum)}<PartNumber>{part.part_number}</PartNumber>"
        f"<Size>{part.size}</Size></Part>"
        for part in page.parts
    )
    return (
        f"<ObjectParts>{_flag('IsTruncated', page.is_truncated)}<MaxParts>{page.max_parts}</MaxParts>"
        f"<NextPartNumberMarker>{page.next_marker}</NextPartNumberMarker>"
        f"<PartNumberMarker>{page.marker}</PartNumberMarker>{rows}"
        f"<PartsCount>{page.total}</PartsCount></ObjectParts>"
    )


def post_response(*, location: str, bucket: str, key: str, etag: str) -> bytes:
    """PostObject with success_action_status 201. Without namespace, as in AWS."""
    body = f"{element('Location', location)}{element('Bucket', bucket)}{element('Key', key)}{_etag(etag)}"
    return document("PostResponse", body, namespaced=False)


# ---------------------------------------------------------------- subresources


def access_control_policy(acl: Acl, *, accounts: Mapping[str, Account]) -> bytes:
    """GetBucketAcl and GetObjectAcl."""
    grants = "".join(
        f"<Grant>{grantee(grant, accounts)}{element('Permission', grant.permission)}</Grant>"
        for grant in acl.grants
    )
    body = f"{_account_of('Owner', acl.owner_id, accounts)}<AccessControlList>{grants}</AccessControlList>"
    return document("AccessControlPolicy", body)


def grantee(grant: Grant, accounts: Mapping[str, Account]) -> str:
    if grant.is_group:
        kind, inner = "Group", element("URI", grant.grantee)
    else:
        account = accounts.get(grant.grantee) or Account(grant.grantee, "")
        kind = "CanonicalUser"
        inner = element("ID", account.id) + element("DisplayName", account.display_name)
    return f'<Grantee xmlns:xsi="{_XSI}" xsi:type="{kind}">{inner}</Grantee>'


def tagging(tags: Sequence[tuple[str, str]]) -> bytes:
    """GetObjectTagging and GetBucketTagging."""
    rows = "".join(f"<Tag>{element('Key', key)}{element('Value', value)}</Tag>" for key, value in tags)
    return document("Tagging", f"<TagSet>{rows}</TagSet>")


# ---------------------------------------------------------------- errors


def error(
    *, code: str, message: str, resource: str, request_id: str, host_id: str, details: Mapping[str, str]
) -> bytes:
    """The Error document. Without namespace; names in ``details`` are element names."""
    body = (
        f"{element('Code', code)}{element('Message', message)}"
        f"{''.join(element(name, value) for name, value in details.items())}"
        f"{element('Resource', resource)}{element('RequestId', request_id)}{element('HostId', host_id)}"
    )
    return document("Error", body, namespaced=False)
