"""May this caller do that? One pure function over the action, the bucket, its rules and the object's ACL.

A key or session with a policy of its own may do only what that allows, whoever owns it. Beyond that, an
explicit denial of the bucket policy outweighs everything, for the root account, too. What is not denied is
allowed by ownership, by an ACL, or by the policy:

* whoever owns a bucket may do everything to it and to what is in it, but read or share objects that someone
  else owns only as their ACL says; whoever owns an object may do everything to it;
* an ACL gives what `PERMISSIONS` says of its grants;
* a policy gives what it says, of objects that the bucket's owner owns.

Public access blocks and object ownership (`Rules`) take away from ACLs and policies, never add. So that nobody
is locked out for good, the root account and the bucket's owner may always read, replace and delete the policy;
owners give that up with x-amz-confirm-remove-self-bucket-access.

Source: API User Guide, "Mapping of ACL permissions and access policy permissions", "How Amazon S3 authorizes a
request", "Blocking public access", "Controlling ownership of objects".
"""

from __future__ import annotations

from dataclasses import dataclass

from s3lite.auth import acl as acls
from s3lite.auth.actions import resource
from s3lite.auth.patterns import Facts
from s3lite.auth.policy import Policy, Verdict, stored_key
from s3lite.model import BUCKET_OWNER_ENFORCED, NO_BLOCK, Acl, Bucket, Identity, PublicAccessBlock

SERVICE, BUCKET, OBJECT = "service", "bucket", "object"
OWNER = "OWNER"  # no ACL gives it: the object's owner or the bucket's
BUCKET_OWNER = "BUCKET_OWNER"  # not even the object's owner has it

# fmt: off
PERMISSIONS: dict[str, tuple[str, str]] = {  # action -> whose ACL decides, and what it must grant
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
    "s3:GetObjectVersionTorrent":    (OBJECT, acls.READ),
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
    "s3:GetObjectAnnotation":        (OBJECT, OWNER),
    "s3:ListObjectAnnotations":      (OBJECT, OWNER),
    "s3:PutObjectAnnotation":        (OBJECT, OWNER),
    "s3:DeleteObjectAnnotation":     (OBJECT, OWNER),
    "s3:GetObjectRetention":         (OBJECT, BUCKET_OWNER),
    "s3:PutObjectRetention":         (OBJECT, BUCKET_OWNER),
    "s3:GetObjectLegalHold":         (OBJECT, BUCKET_OWNER),
    "s3:PutObjectLegalHold":         (OBJECT, BUCKET_OWNER),
}
# fmt: on

OBJECT_ACTIONS = frozenset(action for action, (level, _) in PERMISSIONS.items() if level == OBJECT)
"""Actions on an object that is there: load it before asking, for its ACL and its tags count."""

_POLICY_ACTIONS = frozenset(("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a bucket says beside its ACL. ``binds_owner``: not even the owner gets around the policy."""

    policy: Policy | None = None
    binds_owner: bool = False
    block: PublicAccessBlock = NO_BLOCK
    ownership: str = ""

    @property
    def ignores_acls(self) -> bool:
        """True while every object is the bucket owner's."""
        return self.ownership == BUCKET_OWNER_ENFORCED


NO_RULES = Rules()


def authorize(
    identity: Identity,
    action: str,
    *,
    bucket: Bucket | None,
    name: str = "*",
    key: str = "",
    object_acl: Acl | None = None,
    rules: Rules = NO_RULES,
    facts: Facts | None = None,
) -> bool:
    """True if the caller may do ``action`` on the bucket, or on the object whose key and ACL are given.

    ``name`` is that of a bucket which is not there yet. ``facts`` may be left out only where there is no
    policy. An action that `PERMISSIONS` lacks is for the bucket's owner; without a bucket, for the root
    account.
    """
    if identity.limits:
        arn = resource(action, bucket.name if bucket else name, key)
        if not within_limits(identity, action, arn, facts):
            return False
    if bucket is not None and rules.policy is not None:
        arn = resource(action, bucket.name, key)
        verdict = rules.policy.evaluate(identity.account_id, action, arn, facts or {})
        if verdict is Verdict.DENY and not _is_exempt(identity, action, bucket, rules):
            return False
        if verdict is Verdict.ALLOW and _policy_counts(identity, bucket, object_acl, rules):
            return True
    return _by_ownership_or_acl(identity, action, bucket, object_acl, rules)


def authorize_some(
    identity: Identity, action: str, *, bucket: Bucket, object_acl: Acl | None = None, rules: Rules = NO_RULES
) -> bool:
    """False if the caller may do ``action`` nowhere in the bucket: to refuse before more is known of a request."""
    if not all(stored_key(document).may_allow("", action) for document in identity.limits):
        return False
    policy = rules.policy
    if (
        policy is not None
        and policy.may_allow(identity.account_id, action)
        and _policy_counts(identity, bucket, object_acl, rules)
    ):
        return True
    return _by_ownership_or_acl(identity, action, bucket, object_acl, rules)


def is_denied(
    identity: Identity, action: str, *, bucket: Bucket, key: str, rules: Rules, facts: Facts | None
) -> bool:
    """Whether a policy denies the action whatever else may allow it: the bucket's by name, a key's by silence."""
    if rules.policy is None and not identity.limits:
        return False
    arn = resource(action, bucket.name, key)
    if not within_limits(identity, action, arn, facts):
        return True
    if rules.policy is None:
        return False
    return rules.policy.evaluate(identity.account_id, action, arn, facts or {}) is Verdict.DENY


def within_limits(identity: Identity, action: str, arn: str, facts: Facts | None) -> bool:
    """Whether the policies of the caller's key and session, if there are any, all allow the action."""
    return all(
        stored_key(document).evaluate("", action, arn, facts or {}) is Verdict.ALLOW
        for document in identity.limits
    )


def _owns(identity: Identity, owner_id: str) -> bool:
    return bool(identity.account_id) and identity.account_id == owner_id


def _is_exempt(identity: Identity, action: str, bucket: Bucket, rules: Rules) -> bool:
    return action in _POLICY_ACTIONS and (
        identity.is_root or (_owns(identity, bucket.owner_id) and not rules.binds_owner)
    )


def _policy_counts(identity: Identity, bucket: Bucket, object_acl: Acl | None, rules: Rules) -> bool:
    """Whether what the policy allows is allowed: it cannot give away what others own, or past a block."""
    assert rules.policy is not None
    if (
        rules.block.restrict_public_buckets
        and rules.policy.is_public
        and not _owns(identity, bucket.owner_id)
    ):
        return False
    return object_acl is None or rules.ignores_acls or object_acl.owner_id == bucket.owner_id


def _by_ownership_or_acl(
    identity: Identity, action: str, bucket: Bucket | None, object_acl: Acl | None, rules: Rules
) -> bool:
    if identity.is_root:
        return True
    level, permission = PERMISSIONS.get(action, (BUCKET, BUCKET_OWNER))
    if level == SERVICE:
        return bool(identity.account_id)
    if bucket is None:
        return False
    owns_bucket = _owns(identity, bucket.owner_id)
    if rules.ignores_acls or permission == BUCKET_OWNER or (level == OBJECT and object_acl is None):
        return owns_bucket
    if level == BUCKET:
        return owns_bucket or _grants(bucket.acl, identity, permission, rules)
    assert object_acl is not None
    if _owns(identity, object_acl.owner_id):
        return True
    if owns_bucket and (permission == OWNER or object_acl.owner_id == bucket.owner_id):
        return True
    return permission != OWNER and _grants(object_acl, identity, permission, rules)


def _grants(acl: Acl, identity: Identity, permission: str, rules: Rules) -> bool:
    if rules.block.ignore_public_acls:
        acl = acls.without_public(acl)
    return acls.allows(acl, identity.account_id, permission)
