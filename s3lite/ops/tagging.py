"""Tags of buckets and objects."""

from __future__ import annotations

import json

from s3lite.auth.actions import versioned
from s3lite.auth.facts import About
from s3lite.context import Context
from s3lite.core import write
from s3lite.errors import Code, S3Error
from s3lite.model import ObjectVersion
from s3lite.ops import events
from s3lite.ops.object_read import found
from s3lite.responses import Headers, Response, empty, xml
from s3lite.wire import results
from s3lite.wire.requests import parse_tagging

_OBJECT_TAGS = 10
_BUCKET_TAGS = 50


def get_object_tagging(ctx: Context) -> Response:
    """GetObjectTagging. Source: API Reference, GetObjectTagging. Checked against AWS: never."""
    version = found(ctx)
    return xml(results.tagging(version.head.tags), headers=_version_id(ctx, version))


def put_object_tagging(ctx: Context) -> Response:
    """PutObjectTagging: replace an object's tags.

    Source: API Reference, PutObjectTagging. Checked against AWS: never.
    Errors: MalformedXML, InvalidTag (more than 10, repeated, too long).
    """
    version = found(ctx)
    tags = parse_tagging(ctx.document(), max_tags=_OBJECT_TAGS)
    action = versioned("s3:PutObjectTagging", ctx.params.get("versionId"))
    ctx.require(action, about=About(version=version, tags=tags))
    events.change_version(ctx, "ObjectTagging:Put", version, tags=tags)
    return empty(200, _version_id(ctx, version))


def delete_object_tagging(ctx: Context) -> Response:
    """DeleteObjectTagging. Source: API Reference, DeleteObjectTagging. Checked against AWS: never."""
    version = found(ctx)
    events.change_version(ctx, "ObjectTagging:Delete", version, tags=())
    return empty(204, _version_id(ctx, version))


def _version_id(ctx: Context, version: ObjectVersion) -> Headers:
    return [("x-amz-version-id", version.version_id)] if ctx.bucket.versioning else []


def get_bucket_tagging(ctx: Context) -> Response:
    """GetBucketTagging. Source: API Reference, GetBucketTagging. Errors: NoSuchTagSet."""
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, "tagging")
    if document is None:
        raise S3Error(Code.NoSuchTagSet, BucketName=ctx.bucket.name)
    return xml(results.tagging(tuple((key, value) for key, value in json.loads(document))))


def put_bucket_tagging(ctx: Context) -> Response:
    """PutBucketTagging: replace a bucket's tags.

    Source: API Reference, PutBucketTagging. Checked against AWS: never.
    Errors: MalformedXML, InvalidTag (more than 50, repeated, too long).
    """
    tags = parse_tagging(ctx.document(), max_tags=_BUCKET_TAGS)
    document = json.dumps(tags).encode()
    write.commit(
        ctx.store,
        lambda tx: tx.put_bucket_config(write.live_bucket(tx, ctx.bucket).id, "tagging", document),
    )
    return empty(204)


def delete_bucket_tagging(ctx: Context) -> Response:
    """DeleteBucketTagging. Source: API Reference, DeleteBucketTagging. Checked against AWS: never."""
    write.commit(ctx.store, lambda tx: tx.delete_bucket_config(ctx.bucket.id, "tagging"))
    return empty(204)
