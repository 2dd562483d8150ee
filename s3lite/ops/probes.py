"""Configurations that s3lite does not take, answered as a fresh bucket answers them.

Clients (SDK helpers, infrastructure tools, backup programs) read these before they work; the answer
is that nothing is configured, which is true.
"""

from __future__ import annotations

from s3lite.context import Context, Handler
from s3lite.errors import Code, S3Error
from s3lite.responses import Response, xml
from s3lite.wire import results


def absent(code: Code) -> Handler:
    """A handler that answers that this configuration does not exist."""

    def handler(ctx: Context) -> Response:
        raise S3Error(code, BucketName=ctx.bucket.name)

    handler.__doc__ = f"Errors: {code.wire_name}, always."
    return handler


def constant(root: str, body: str = "") -> Handler:
    """A handler that answers a fixed document."""
    document = results.constant(root, body)

    def handler(_ctx: Context) -> Response:
        return xml(document)

    handler.__doc__ = "An empty document, always."
    return handler


def get_object_torrent(ctx: Context) -> Response:
    """GetObjectTorrent: no object has one.

    Source: API Reference, GetObjectTorrent; S3 gave torrents up in April 2022. Checked against AWS: never.
    Errors: NoSuchKey, always.
    """
    message = "No object has a torrent here: fetch the object itself, in parts by Range."
    raise S3Error(Code.NoSuchKey, message, Key=ctx.key)


get_bucket_accelerate_configuration = constant("AccelerateConfiguration")
get_bucket_replication = absent(Code.ReplicationConfigurationNotFoundError)
