"""The rules of a bucket as the index keeps them: policy, public access block, object ownership.

Buckets without any (`Bucket.configs` says so) cost no statement; others one for each that they have. The
compiled form of a policy is cached by the document's bytes, so that no change is ever missed.
"""

from __future__ import annotations

from s3lite.auth import policy
from s3lite.auth.authorize import NO_RULES, Rules
from s3lite.catalog.base import Catalog
from s3lite.model import NO_BLOCK, Bucket
from s3lite.wire.access import stored_public_access_block

POLICY = "policy"
BINDS_OWNER = "policy-binds-owner"  # kept beside a policy put with x-amz-confirm-remove-self-bucket-access
PUBLIC_ACCESS_BLOCK = "publicAccessBlock"
OWNERSHIP = "ownershipControls"

_NAMES = frozenset((POLICY, PUBLIC_ACCESS_BLOCK, OWNERSHIP))


def rules_of(catalog: Catalog, bucket: Bucket) -> Rules:
    """What decides about access to the bucket, beside its ACL."""
    names = bucket.configs
    if names.isdisjoint(_NAMES):
        return NO_RULES
    with catalog.read() as tx:
        document = tx.bucket_config(bucket.id, POLICY) if POLICY in names else None
        block = tx.bucket_config(bucket.id, PUBLIC_ACCESS_BLOCK) if PUBLIC_ACCESS_BLOCK in names else None
        ownership = tx.bucket_config(bucket.id, OWNERSHIP) if OWNERSHIP in names else None
    return Rules(
        policy=policy.stored(document) if document is not None else None,
        binds_owner=BINDS_OWNER in names,
        block=stored_public_access_block(block) if block is not None else NO_BLOCK,
        ownership=ownership.decode() if ownership is not None else "",
    )
