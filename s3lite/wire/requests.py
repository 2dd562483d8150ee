"""XML bodies that clients send, as values. Also the tags of the x-amz-tagging header.

Sources: API Reference, the request syntax of each operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.wire import checksums, xml
from s3lite.wire.conditions import parse_date

_MAX_GRANTS = 100
_MAX_TAG_KEY = 128
_MAX_TAG_VALUE = 256
_OBJECT_TAGS = 10

_PERMISSIONS = frozenset(("READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"))
_XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_GRANTEE_FIELDS = {"CanonicalUser": "ID", "Group": "URI", "AmazonCustomerByEmail": "EmailAddress"}
_CHECKSUM_ELEMENTS = {checksums.element_name(name): name for name in checksums.ALGORITHMS}


# ---------------------------------------------------------------- buckets


def parse_create_bucket(data: bytes) -> str:
    """The location constraint of CreateBucket, "" when there is none."""
    if not data.strip():
        return ""
    return xml.text(xml.parse(data, "CreateBucketConfiguration"), "LocationConstraint").strip()


def parse_versioning(data: bytes) -> str:
    """``Enabled`` or ``Suspended``. Raises NotImplemented for MFA delete."""
    root = xml.parse(data, "VersioningConfiguration")
    if xml.text(root, "MfaDelete").strip() == "Enabled":
        raise S3Error(Code.NotImplemented, "MFA delete is not implemented: leave MfaDelete out.")
    status = xml.text(root, "Status").strip()
    if status not in ("Enabled", "Suspended"):
        raise xml.malformed("Status must be Enabled or Suspended")
    return status


def parse_request_payment(data: bytes) -> str:
    """``BucketOwner`` or ``Requester``. Raises MalformedXML."""
    payer = xml.text(xml.parse(data, "RequestPaymentConfiguration"), "Payer").strip()
    if payer not in ("BucketOwner", "Requester"):
        raise xml.malformed("Payer must be BucketOwner or Requester")
    return payer


# ---------------------------------------------------------------- deletes


@dataclass(frozen=True, slots=True)
class DeleteItem:
    """One object of DeleteObjects, and the conditions under which it is to be deleted."""

    key: str
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    last_modified_s: float | None = None


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """The body of DeleteObjects. ``quiet``: report failures only."""

    quiet: bool
    objects: tuple[DeleteItem, ...]


def parse_delete(data: bytes, *, max_keys: int) -> DeleteRequest:
    """The body of DeleteObjects. Raises MalformedXML (no object, or more than ``max_keys``)."""
    root = xml.parse(data, "Delete")
    rows = xml.children(root, "Object")
    if not 1 <= len(rows) <= max_keys:
        raise xml.malformed(f"name between 1 and {max_keys} objects")
    quiet = xml.text(root, "Quiet").strip().lower() == "true"
    return DeleteRequest(quiet, tuple(map(_delete_item, rows)))


def _delete_item(row: xml.Element) -> DeleteItem:
    fields = xml.fields(row)
    key = fields.get("Key")
    if not key:
        raise xml.malformed("each Object needs a Key")
    if len(fields) == 1:
        return DeleteItem(key)
    modified_s = None
    time_text = fields.get("LastModifiedTime", "").strip()
    if time_text:
        modified_s = parse_date(time_text)
        if modified_s is None:
            raise xml.malformed("LastModifiedTime must be a date")
    size = fields.get("Size", "").strip()
    return DeleteItem(
        key=key,
        version_id=fields.get("VersionId") or None,
        etag=_etag(fields.get("ETag", "")) or None,
        size=_number(size, "Size") if size else None,
        last_modified_s=modified_s,
    )


# ---------------------------------------------------------------- multipart


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """A part that CompleteMultipartUpload names. ``checksums`` are Base64, by algorithm."""

    part_number: int
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)


def parse_complete(data: bytes, *, max_parts: int) -> tuple[CompletedPart, ...]:
    """The parts of CompleteMultipartUpload, numbers ascending; of one that is named twice the later line counts.

    Raises MalformedXML (no part, a part without number or ETag), InvalidPartOrder, InvalidArgument (a
    number outside 1..``max_parts``).
    """
    if not data:
        raise xml.malformed("name at least one Part")
    root = xml.parse(data, "CompleteMultipartUpload")
    parts: list[CompletedPart] = []
    for row in xml.children(root, "Part"):
        part = _completed_part(row, max_parts)
        if parts and part.part_number <= parts[-1].part_number:
            if part.part_number < parts[-1].part_number:
                raise S3Error(Code.InvalidPartOrder)
            parts.pop()
        parts.append(part)
    if not parts:
        raise xml.malformed("name at least one Part")
    return tuple(parts)


def _completed_part(row: xml.Element, max_parts: int) -> CompletedPart:
    fields = xml.fields(row)
    number_text = fields.pop("PartNumber", "").strip()
    etag = _etag(fields.pop("ETag", ""))
    if not number_text or not etag:
        raise xml.malformed("each Part needs a PartNumber and an ETag")
    number = _number(number_text, "PartNumber")
    if not 1 <= number <= max_parts:
        raise invalid_argument(
            "PartNumber", number_text, f"Part number must be an integer between 1 and {max_parts}, inclusive"
        )
    if not fields:
        return CompletedPart(number, etag)
    values = {
        _CHECKSUM_ELEMENTS[name]: value.strip()
        for name, value in fields.items()
        if name in _CHECKSUM_ELEMENTS and value.strip()
    }
    return CompletedPart(number, etag, values)


def _etag(value: str) -> str:
    """An ETag without its quotes, which some clients escape twice; OSS's have it in upper case."""
    return value.strip().replace("&quot;", '"').strip('"').lower()


def _number(value: str, name: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise xml.malformed(f"{name} must be a whole number")
    return int(value)


# ---------------------------------------------------------------- tags


def parse_tagging(data: bytes, *, max_tags: int) -> tuple[tuple[str, str], ...]:
    """The tags of a Tagging document. Raises MalformedXML and InvalidTag (User Guide, "Object tagging")."""
    tag_set = xml.child(xml.parse(data, "Tagging"), "TagSet")
    if tag_set is None:
        raise xml.malformed("Tagging needs a TagSet")
    tags = []
    for row in xml.children(tag_set, "Tag"):
        fields = xml.fields(row)
        if "Key" not in fields or "Value" not in fields:
            raise xml.malformed("each Tag needs a Key and a Value")
        tags.append((fields["Key"], fields["Value"]))
    return _checked_tags(tags, max_tags)


def parse_tagging_header(text: str) -> tuple[tuple[str, str], ...]:
    """The tags of x-amz-tagging, ``key=value&…`` URL-encoded, by key; ``text`` as WSGI has it.

    Raises InvalidTag, and InvalidArgument when it is not UTF-8.
    """
    if not text:
        return ()
    try:
        decoded = text.encode("latin-1").decode()
        pairs = [pair.partition("=") for pair in decoded.split("&") if pair]
        tags = [
            (unquote_plus(key, errors="strict"), unquote_plus(value, errors="strict"))
            for key, _, value in pairs
        ]
    except UnicodeError:
        raise invalid_argument(
            "x-amz-tagging",
            text,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters "
            "without tag name duplicates.",
        ) from None
    return _checked_tags(sorted(tags), _OBJECT_TAGS)


def _checked_tags(tags: Sequence[tuple[str, str]], max_tags: int) -> tuple[tuple[str, str], ...]:
    if len(tags) > max_tags:
        raise S3Error(Code.InvalidTag, f"There are {len(tags)} tags; at most {max_tags} are allowed.")
    seen = set()
    for key, value in tags:
        if not 1 <= len(key) <= _MAX_TAG_KEY:
            raise S3Error(
                Code.InvalidTag,
                f"The TagKey you have provided is invalid: it must have 1 to {_MAX_TAG_KEY} characters.",
                TagKey=key[:_MAX_TAG_KEY],
            )
        if len(value) > _MAX_TAG_VALUE:
            raise S3Error(
                Code.InvalidTag,
                f"The TagValue you have provided is invalid: it may have {_MAX_TAG_VALUE} characters.",
                TagKey=key,
                TagValue=value[:_MAX_TAG_VALUE],
            )
        if key in seen:
            raise S3Error(Code.InvalidTag, "Cannot provide multiple Tags with the same key", TagKey=key)
        seen.add(key)
    return tuple(tags)


# ---------------------------------------------------------------- access control


@dataclass(frozen=True, slots=True)
class GrantItem:
    """A grant as sent. ``type`` is CanonicalUser, Group or AmazonCustomerByEmail; ``value`` its id, URI or address."""

    type: str
    value: str
    permission: str


@dataclass(frozen=True, slots=True)
class AclDocument:
    """An AccessControlPolicy as sent; ``owner_id`` "" when it does not say."""

    owner_id: str
    grants: tuple[GrantItem, ...]


def parse_acl(data: bytes) -> AclDocument:
    """An AccessControlPolicy. Raises MalformedXML (no XML) and MalformedACLError (no such policy)."""
    root = xml.parse(data, "AccessControlPolicy")
    owner = xml.child(root, "Owner")
    grants = xml.child(root, "AccessControlList")
    if grants is None:
        raise _malformed_acl("it needs an AccessControlList")
    rows = xml.children(grants, "Grant")
    if len(rows) > _MAX_GRANTS:
        raise _malformed_acl(f"it may have {_MAX_GRANTS} grants")
    owner_id = xml.text(owner, "ID").strip() if owner is not None else ""
    return AclDocument(owner_id, tuple(map(_grant, rows)))


def _grant(row: xml.Element) -> GrantItem:
    permission = xml.text(row, "Permission").strip()
    if permission not in _PERMISSIONS:
        raise _malformed_acl(f"Permission must be one of {', '.join(sorted(_PERMISSIONS))}")
    kind, value = parse_grantee(row)
    if not value:
        raise _malformed_acl("a Grantee is a CanonicalUser with ID, a Group with URI, or an EmailAddress")
    return GrantItem(kind, value, permission)


def parse_grantee(grant: xml.Element) -> tuple[str, str]:
    """Type and id, URI or address of a Grant's Grantee; "" for what it does not say."""
    grantee = xml.child(grant, "Grantee")
    if grantee is None:
        return "", ""
    fields = xml.fields(grantee)
    named = str(grantee.get(_XSI_TYPE, ""))
    kind = named or next((kind for kind, name in _GRANTEE_FIELDS.items() if name in fields), "")
    return kind, fields.get(_GRANTEE_FIELDS.get(kind, ""), "").strip()


def _malformed_acl(reason: str) -> S3Error:
    return S3Error(Code.MalformedACLError, f"{Code.MalformedACLError.message} ({reason})")
