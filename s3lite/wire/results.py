"""Values as the XML documents that S3 answers, but for pages of listings, which are `listings`'s.

Element order is that of the API Reference's sample responses, which is what AWS sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from s3lite.model import Account, Acl, Annotation, Bucket, Checksum, Grant, Segment
from s3lite.wire.elements import (
    account,
    account_of,
    checksum_values,
    date,
    etag_element,
    flag,
    optional,
    part_checksum,
)
from s3lite.wire.xml import document, element, escape

_XSI = "http://www.w3.org/2001/XMLSchema-instance"

# ---------------------------------------------------------------- buckets


def list_buckets(
    *, owner: Account, buckets: Sequence[Bucket], prefix: str = "", continuation_token: str = ""
) -> bytes:
    """ListBuckets."""
    rows = "".join(
        f"<Bucket>{element('Name', bucket.name)}<CreationDate>{date(bucket.created_ms)}</CreationDate>"
        f"{optional('BucketRegion', bucket.region)}</Bucket>"
        for bucket in buckets
    )
    body = f"{account('Owner', owner)}<Buckets>{rows}</Buckets>"
    body += optional("Prefix", prefix) + optional("ContinuationToken", continuation_token)
    return document("ListAllMyBucketsResult", body)


def location_constraint(region: str) -> bytes:
    """GetBucketLocation; "" for us-east-1."""
    return document("LocationConstraint", escape(region))


def versioning_configuration(status: str) -> bytes:
    """GetBucketVersioning; "" for a bucket that was never versioned."""
    return document("VersioningConfiguration", optional("Status", status))


def request_payment(payer: str) -> bytes:
    """GetBucketRequestPayment."""
    return document("RequestPaymentConfiguration", element("Payer", payer))


def bucket_info(*, bucket: Bucket, owner: Account, acl: str, endpoint: str) -> bytes:
    """GetBucketInfo of OSS; ``acl`` is its word for the public's rights."""
    endpoints = element("ExtranetEndpoint", endpoint) + element("IntranetEndpoint", endpoint)
    body = (
        f"<Bucket>{element('Name', bucket.name)}<CreationDate>{date(bucket.created_ms)}</CreationDate>"
        f"{element('Location', bucket.region)}{endpoints}<StorageClass>STANDARD</StorageClass>"
        f"{optional('Versioning', bucket.versioning)}{account('Owner', owner)}"
        f"<AccessControlList>{element('Grant', acl)}</AccessControlList></Bucket>"
    )
    return document("BucketInfo", body)


def constant(root: str, body: str = "") -> bytes:
    """A document whose body is XML already: for configurations that are always the same."""
    return document(root, body)


# ---------------------------------------------------------------- multipart uploads


def initiate_multipart_upload(*, bucket: str, key: str, upload_id: str) -> bytes:
    """CreateMultipartUpload."""
    body = element("Bucket", bucket) + element("Key", key) + element("UploadId", upload_id)
    return document("InitiateMultipartUploadResult", body)


def complete_multipart_upload(
    *, bucket: str, key: str, etag: str, location: str, checksum: Checksum | None
) -> bytes:
    """CompleteMultipartUpload."""
    body = (
        f"{element('Location', location)}{element('Bucket', bucket)}{element('Key', key)}{etag_element(etag)}"
        f"{checksum_values(checksum)}"
    )
    return document("CompleteMultipartUploadResult", body)


# ---------------------------------------------------------------- objects


def copy_object_result(*, etag: str, modified_ms: int, checksum: Checksum | None) -> bytes:
    """CopyObject."""
    body = f"<LastModified>{date(modified_ms)}</LastModified>{etag_element(etag)}{checksum_values(checksum)}"
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
        f"<LastModified>{date(each.modified_ms)}</LastModified>{etag_element(each.etag)}"
        f"{element('ChecksumAlgorithm', each.checksum.algorithm)}<Size>{each.size}</Size></AnnotationEntry>"
        for each in found
    )
    body = element("Bucket", bucket) + element("Key", key) + optional("AnnotationPrefix", prefix)
    body += (
        f"<MaxAnnotationResults>{limit}</MaxAnnotationResults><AnnotationCount>{len(found)}</AnnotationCount>"
    )
    body += optional("ContinuationToken", token) + optional("NextContinuationToken", next_token)
    return document("ListObjectAnnotationsOutput", f"{body}<Annotations>{rows}</Annotations>")


def copy_part_result(*, etag: str, modified_ms: int, algorithm: str = "", checksum: str = "") -> bytes:
    """UploadPartCopy; ``checksum`` is Base64, in ``algorithm``."""
    body = f"<LastModified>{date(modified_ms)}</LastModified>{etag_element(etag)}{part_checksum(algorithm, checksum)}"
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
    row = element("Key", deleted.key) + optional("VersionId", deleted.version_id)
    if deleted.is_delete_marker:
        row += "<DeleteMarker>true</DeleteMarker>"
        row += optional("DeleteMarkerVersionId", deleted.delete_marker_version_id)
    return f"<Deleted>{row}</Deleted>"


def _failure_row(failure: DeleteFailure) -> str:
    return (
        f"<Error>{element('Key', failure.key)}{optional('VersionId', failure.version_id)}"
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
        body += f"<Checksum>{checksum_values(checksum)}</Checksum>"
    if parts is not None:
        body += _attribute_parts(parts)
    if storage_class is not None:
        body += element("StorageClass", storage_class)
    if size is not None:
        body += f"<ObjectSize>{size}</ObjectSize>"
    return document("GetObjectAttributesResponse", body)


def _attribute_parts(page: AttributeParts) -> str:
    rows = "".join(
        f"<Part>{part_checksum(page.algorithm, part.checksum)}<PartNumber>{part.part_number}</PartNumber>"
        f"<Size>{part.size}</Size></Part>"
        for part in page.parts
    )
    return (
        f"<ObjectParts>{flag('IsTruncated', page.is_truncated)}<MaxParts>{page.max_parts}</MaxParts>"
        f"<NextPartNumberMarker>{page.next_marker}</NextPartNumberMarker>"
        f"<PartNumberMarker>{page.marker}</PartNumberMarker>{rows}"
        f"<PartsCount>{page.total}</PartsCount></ObjectParts>"
    )


def post_response(*, location: str, bucket: str, key: str, etag: str) -> bytes:
    """PostObject with success_action_status 201. Without namespace, as in AWS."""
    body = (
        f"{element('Location', location)}{element('Bucket', bucket)}{element('Key', key)}{etag_element(etag)}"
    )
    return document("PostResponse", body, namespaced=False)


# ---------------------------------------------------------------- subresources


def access_control_policy(acl: Acl, *, accounts: Mapping[str, Account]) -> bytes:
    """GetBucketAcl and GetObjectAcl."""
    grants = "".join(
        f"<Grant>{grantee(grant, accounts)}{element('Permission', grant.permission)}</Grant>"
        for grant in acl.grants
    )
    body = f"{account_of('Owner', acl.owner_id, accounts)}<AccessControlList>{grants}</AccessControlList>"
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
