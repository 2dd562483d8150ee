"""May this caller do that? One pure function over the action, the bucket and the object's ACL.

S3's classic rules: whoever owns a bucket may do everything to it and to what is in it, but read or share
objects that someone else owns only as their ACL says; whoever owns an object may do everything to it.
Others need a grant in the ACL that governs the action (`PERMISSIONS`). Bucket policies will plug in here.

Source: API User Guide, "Mapping of ACL permissions and access policy permissions".
"""

from __future__ import annotations

from s3lite.auth import acl as acls
from s3lite.model import Acl, Bucket, Identity

SERVICE, BUCKET, OBJECT = "service", "bucket", "object"
OWNER = "OWNER"  # no ACL gives it: the object's owner or the bucket's

# fmt: off
PERMISSIONS: dict[str, tuple[str, str]] = {
    "s3:ListAllMyBuckets":           (SERVICE, ""),
    "s3:CreateBucket":               (SERVICE, ""),

    "s3:ListBucket":                 (BUCKET, acls.READ),
    "s3:ListBucketVersions":         (BUCKET, acls.READ),
    "s3:ListBucketMultipartUploads": (BUCKET, acls.READ),
    "s3:PutObject":                  (BUCKET, acls.WRITE),
    "s3:DeleteObject":               (BUCKET, acls.WRITE),
    "s3:AbortMultipartUpload":       (BUCKET, acls.WRITE),
    "s3:ListMultipartUploadParts":   (BUCKET, acls.WRITE),
    "s3:GetBucketAcl":               (BUCKET, acls.READ_ACP),
    "s3:PutBucketAcl":               (BUCKET, acls.WRITE_ACP),

    "s3:GetObject":                  (OBJECT, acls.READ),
    "s3:GetObjectVersion":           (OBJECT, acls.READ),
    "s3:GetObjectAttributes":        (OBJECT, acls.READ),
    "s3:GetObjectVersionAttributes": (OBJECT, acls.READ),
    "s3:GetObjectTorrent":           (OBJECT, acls.READ),
    "s3:GetObjectAcl":               (OBJECT, acls.READ_ACP),
    "s3:GetObjectVersionAcl":        (OBJECT, acls.READ_ACP),
    "s3:PutObjectAcl":               (OBJECT, acls.WRITE_ACP),
    "s3:PutObjectVersionAcl":        (OBJECT, acls.WRITE_ACP),
    "s3:GetObjectTagging":           (OBJECT, OWNER),
    "s3:GetObjectVersionTagging":    (OBJECT, OWNER),
    "s3:PutObjectTagging":           (OBJECT, OWNER),
    "s3:PutObjectVersionTagging":    (OBJECT, OWNER),
    "s3:DeleteObjectTagging":        (OBJECT, OWNER),
    "s3:DeleteObjectVersionTagging": (OBJECT, OWNER),
}
# fmt: on

OBJECT_ACTIONS = frozenset(action for action, (level, _) in PERMISSIONS.items() if level == OBJECT)
"""Actions for which the object's ACL counts: load it before asking."""


def authorize(
    identity: Identity, action: str, *, bucket: Bucket | None, object_acl: Acl | None = None
) -> bool:
    """True if the caller may do ``action`` on the bucket, or on the object whose ACL is given.

    An action that `PERMISSIONS` lacks is for the bucket's owner; without a bucket, for the root account.
    """
    if identity.is_root:
        return True
    account_id = identity.account_id
    level, permission = PERMISSIONS.get(action, (BUCKET, OWNER))
    if level == SERVICE:
        return bool(account_id)
    if bucket is None:
        return False
    owns_bucket = bool(account_id) and account_id == bucket.owner_id
    if level == BUCKET:
        return owns_bucket or (permission != OWNER and acls.allows(bucket.acl, account_id, permission))
    if object_acl is None:
        return owns_bucket
    if account_id and account_id == object_acl.owner_id:
        return True
    if permission == OWNER:
        return owns_bucket
    if owns_bucket and object_acl.owner_id == bucket.owner_id:
        return True
    return acls.allows(object_acl, account_id, permission)
