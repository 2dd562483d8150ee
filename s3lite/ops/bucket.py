"""Buckets: create, head, delete, location."""

from __future__ import annotations

from s3lite.catalog.base import Tx
from s3lite.context import Context
from s3lite.core import access, write
from s3lite.errors import Code, S3Error
from s3lite.model import Bucket
from s3lite.names import check_bucket_name
from s3lite.ops import ownership, upload_headers
from s3lite.responses import Response, empty, xml
from s3lite.wire import results
from s3lite.wire.requests import parse_create_bucket


def create_bucket(ctx: Context) -> Response:
    """CreateBucket: make a bucket for the caller.

    Source: API Reference, CreateBucket. Checked against AWS: never.
    Errors: InvalidBucketName, BucketAlreadyExists, BucketAlreadyOwnedByYou, TooManyBuckets,
    InvalidLocationConstraint, IllegalLocationConstraintException, InvalidBucketAclWithObjectOwnership.
    A second creation by the owner succeeds in us-east-1 and is refused elsewhere, as in S3. With object
    lock (x-amz-bucket-object-lock-enabled) versioning is Enabled, too.
    """
    name = ctx.target.bucket
    if ctx.target.tenant is not None:
        raise S3Error(
            Code.InvalidBucketName,
            f"Create {name!r} without a tenant before it: a bucket belongs to whoever creates it.",
            BucketName=f"{ctx.target.tenant}:{name}",
        )
    check_bucket_name(name)
    account = ctx.caller.account
    assert account is not None  # the row's permission is never given to anonymous callers
    has_lock = ctx.headers.get("x-amz-bucket-object-lock-enabled", "").lower() == "true"
    location = parse_create_bucket(ctx.document())
    region = ctx.settings.region
    if location and location not in (region, "EU" if region == "eu-west-1" else region):
        raise S3Error(
            Code.InvalidLocationConstraint,
            f"The specified location constraint is not valid: this server is region {region}.",
            LocationConstraint=location,
        )
    acl = upload_headers.bucket_acl(ctx, ctx.headers, owner_id=account.id)
    owned = ownership.of_new_bucket(ctx.headers, acl)
    limit = ctx.settings.limits.buckets_per_account
    now_ms = ctx.store.clock.time_ms()

    def work(tx: Tx) -> Bucket | None:
        existing = tx.bucket(name)
        if existing is not None:
            if existing.owner_id != account.id:
                raise S3Error(Code.BucketAlreadyExists, BucketName=name)
            if ctx.settings.compat.ceph and existing.acl != acl:
                raise S3Error(
                    Code.BucketAlreadyExists,
                    "The bucket is yours and has another ACL; change that by PutBucketAcl.",
                    BucketName=name,
                )
            return None
        if limit and len(tx.buckets(owner_id=account.id, limit=limit)) >= limit:
            raise S3Error(Code.TooManyBuckets, f"You have attempted to create more than {limit} buckets.")
        made = tx.create_bucket(
            name=name,
            owner_id=account.id,
            region=region,
            acl=acl,
            created_ms=now_ms,
            object_lock=has_lock,
        )
        if made is not None and has_lock:
            tx.set_versioning(made.id, "Enabled")
        if made is not None and owned:
            tx.put_bucket_config(made.id, access.OWNERSHIP, owned.encode())
        return made

    created = write.commit(ctx.store, work)
    if created is None and region != "us-east-1" and not ctx.settings.compat.ceph:
        raise S3Error(Code.BucketAlreadyOwnedByYou, BucketName=name)
    return empty(200, [("Location", f"/{name}")])


def head_bucket(ctx: Context) -> Response:
    """HeadBucket: whether the bucket is there and may be listed.

    Source: API Reference, HeadBucket. Checked against AWS: never.
    Errors: NoSuchBucket, AccessDenied, without a body.
    """
    return empty(200, [("x-amz-bucket-region", ctx.bucket.region), ("x-amz-access-point-alias", "false")])


def delete_bucket(ctx: Context) -> Response:
    """DeleteBucket: remove an empty bucket; open multipart uploads go with it, unless the operator keeps them.

    The reference wants objects, versions and delete markers gone, and has uploads stand in the way in directory
    buckets only; aws-cli's `rb --force`, s3cmd and rclone therefore abort none before they delete a bucket, and
    one that a crashed client left behind would defeat them. Object lock keeps a bucket by keeping its versions.

    Source: API Reference, DeleteBucket. Checked against AWS: never.
    Errors: BucketNotEmpty (objects, versions or delete markers are left; with compat.delete_with_uploads off,
    open uploads, too).
    """
    keeps_uploads = not ctx.settings.compat.delete_with_uploads

    def work(tx: Tx) -> None:
        live = write.live_bucket(tx, ctx.bucket)
        if not tx.bucket_is_empty(live.id):
            raise S3Error(Code.BucketNotEmpty, BucketName=live.name)
        if keeps_uploads and tx.list_uploads(live.id, lower=b"", upper=None, limit=1):
            raise S3Error(
                Code.BucketNotEmpty,
                "The bucket has open multipart uploads: complete or abort them first (ListMultipartUploads).",
                BucketName=live.name,
            )
        tx.delete_bucket(live.id)

    write.commit(ctx.store, work)
    return empty(204)


def get_bucket_location(ctx: Context) -> Response:
    """GetBucketLocation: the region, empty for us-east-1.

    Source: API Reference, GetBucketLocation. Checked against AWS: never.
    """
    region = ctx.bucket.region
    return xml(results.location_constraint("" if region == "us-east-1" else region))
