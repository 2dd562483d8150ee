"""Documents about access: the public access block of a bucket, and who owns its objects.

Source: API Reference, PutPublicAccessBlock and PutBucketOwnershipControls.
"""

from __future__ import annotations

from functools import lru_cache

from s3lite.model import BUCKET_OWNER_ENFORCED, BUCKET_OWNER_PREFERRED, OBJECT_WRITER, PublicAccessBlock
from s3lite.wire import xml

OWNERSHIPS = (BUCKET_OWNER_ENFORCED, BUCKET_OWNER_PREFERRED, OBJECT_WRITER)

_BLOCK = "PublicAccessBlockConfiguration"
_BLOCK_FIELDS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def parse_public_access_block(data: bytes) -> PublicAccessBlock:
    """A PublicAccessBlockConfiguration; what it does not name is false. Raises MalformedXML."""
    root = xml.parse(data, _BLOCK)
    return PublicAccessBlock(*[_flag(root, name) for name in _BLOCK_FIELDS])


stored_public_access_block = lru_cache(maxsize=16)(parse_public_access_block)
"""`parse_public_access_block` of what `public_access_block` made: there are 16."""


def _flag(root: xml.Element, name: str) -> bool:
    value = xml.text(root, name, "false").strip().lower()
    if value not in ("true", "false"):
        raise xml.malformed(f"{name} must be true or false")
    return value == "true"


def public_access_block(block: PublicAccessBlock) -> bytes:
    """The document that says so, each of its four fields spelt out."""
    values = (
        block.block_public_acls,
        block.ignore_public_acls,
        block.block_public_policy,
        block.restrict_public_buckets,
    )
    fields = [
        xml.element(name, str(value).lower()) for name, value in zip(_BLOCK_FIELDS, values, strict=True)
    ]
    return xml.document(_BLOCK, "".join(fields))


def parse_ownership_controls(data: bytes) -> str:
    """The ownership that OwnershipControls ask for. Raises MalformedXML."""
    rules = xml.children(xml.parse(data, "OwnershipControls"), "Rule")
    if len(rules) != 1:
        raise xml.malformed("OwnershipControls need one Rule")
    value = xml.text(rules[0], "ObjectOwnership").strip()
    if value not in OWNERSHIPS:
        raise xml.malformed(f"ObjectOwnership must be {', '.join(OWNERSHIPS)}")
    return value


def ownership_controls(ownership: str) -> bytes:
    """The document that says so."""
    return xml.document("OwnershipControls", f"<Rule>{xml.element('ObjectOwnership', ownership)}</Rule>")
