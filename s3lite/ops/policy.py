"""Bucket policies. What they decide is `auth.authorize`'s, what they may say is `auth.policy`'s."""

from __future__ import annotations

from s3lite.auth import acl as acls
from s3lite.auth import policy
from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import access, write
from s3lite.errors import Code, S3Error
from s3lite.responses import Response, empty, xml
from s3lite.wire import results


def get_bucket_policy(ctx: Context) -> Response:
    """GetBucketPolicy: the document, byte for byte as it was put.

    Source: API Reference, GetBucketPolicy. Checked against AWS: never.
    Errors: NoSuchBucketPolicy.
    """
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, access.POLICY)
    if document is None:
        raise S3Error(Code.NoSuchBucketPolicy, BucketName=ctx.bucket.name)
    return Response(200, [("Content-Type", "application/json")], document)


def put_bucket_policy(ctx: Context) -> Response:
    """PutBucketPolicy: replace the policy; it holds from the next request on.

    Source: API Reference, PutBucketPolicy. Checked against AWS: never.
    Errors: MalformedPolicy, AccessDenied (a public policy, and the bucket blocks these).
    Differs: principals are not looked up, so that a policy may come before the account; a statement may hold
    actions that do not apply to its resources; callers of other accounts may put a policy where it says so.
    """
    document = ctx.document()
    wanted = policy.parse(document)
    wanted.check_bucket(ctx.bucket.name)
    if ctx.rules.block.block_public_policy and wanted.is_public:
        raise S3Error(
            Code.AccessDenied,
            "The policy is public, and the bucket's public access block refuses such policies.",
        )
    binds_owner = ctx.headers.get("x-amz-confirm-remove-self-bucket-access", "").lower() == "true"

    def work(tx: Tx) -> None:
        live = write.live_bucket(tx, ctx.bucket)
        tx.put_bucket_config(live.id, access.POLICY, document)
        if binds_owner:
            tx.put_bucket_config(live.id, access.BINDS_OWNER, b"true")
        else:
            tx.delete_bucket_config(live.id, access.BINDS_OWNER)

    write.commit(ctx.store, work)
    return empty(204)


def delete_bucket_policy(ctx: Context) -> Response:
    """DeleteBucketPolicy. Source: API Reference, DeleteBucketPolicy. Checked against AWS: never."""

    def work(tx: Tx) -> None:
        tx.delete_bucket_config(ctx.bucket.id, access.POLICY)
        tx.delete_bucket_config(ctx.bucket.id, access.BINDS_OWNER)

    write.commit(ctx.store, work)
    return empty(204)


def get_bucket_policy_status(ctx: Context) -> Response:
    """GetBucketPolicyStatus: whether the policy or the bucket's ACL gives the public something.

    Source: API Reference, GetBucketPolicyStatus; User Guide, "The meaning of public". Checked against AWS:
    never.
    Differs: false without a policy, where S3 may answer NoSuchBucketPolicy; ACLs of objects do not count.
    """
    rules = ctx.rules
    by_policy = (
        rules.policy is not None and rules.policy.is_public and not rules.block.restrict_public_buckets
    )
    by_acl = acls.is_public(ctx.bucket.acl) and not rules.ignores_acls and not rules.block.ignore_public_acls
    public = "true" if by_policy or by_acl else "false"
    return xml(results.constant("PolicyStatus", f"<IsPublic>{public}</IsPublic>"))
