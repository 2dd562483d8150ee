"""ListObjects, ListObjectsV2 and ListObjectVersions."""

from __future__ import annotations

from collections.abc import Mapping

from s3lite.catalog.questions import ReadTx
from s3lite.context import Context
from s3lite.core import listing
from s3lite.errors import invalid_argument
from s3lite.model import Account
from s3lite.ops.upload_headers import integer_param
from s3lite.responses import Response, xml
from s3lite.wire import listings


def list_objects(ctx: Context) -> Response:
    """ListObjects: keys after ``marker``, in UTF-8 byte order.

    Source: API Reference, ListObjects. Checked against AWS: never.
    Errors: InvalidArgument (max-keys, encoding-type).
    """
    params = ctx.params
    delimiter, max_keys = params.get("delimiter", ""), _max_keys(ctx)
    with ctx.store.catalog.read() as tx:
        found = listing.list_objects(
            tx,
            ctx.bucket.id,
            prefix=params.get("prefix", ""),
            delimiter=delimiter,
            after=params.get("marker", ""),
            limit=max_keys,
        )
        owners = owners_of(tx, {entry.kind.owner_id for entry in found.entries})
    page = listings.ObjectsPage(
        bucket=ctx.bucket.name,
        prefix=params.get("prefix", ""),
        delimiter=delimiter,
        max_keys=max_keys,
        is_truncated=found.is_truncated,
        marker=params.get("marker", ""),
        # S3 gives NextMarker with a delimiter only; clients page by the last key else.
        next_marker=found.next_marker if delimiter else "",
        encoding_type=encoding_type(ctx),
        entries=found.entries,
        common_prefixes=found.common_prefixes,
        owners=owners,
    )
    return xml(listings.list_objects(page))


def list_objects_v2(ctx: Context) -> Response:
    """ListObjectsV2: keys after a continuation token or ``start-after``, in UTF-8 byte order.

    Source: API Reference, ListObjectsV2. Checked against AWS: never.
    Errors: InvalidArgument (list-type, max-keys, encoding-type, a foreign continuation token).
    """
    params = ctx.params
    if params["list-type"] != "2":
        raise invalid_argument("list-type", params["list-type"], "Invalid list-type: use 2.")
    token = params.get("continuation-token")
    after = listing.decode_token(token) if token else params.get("start-after", "")
    max_keys = _max_keys(ctx)
    fetch_owner = params.get("fetch-owner", "").lower() == "true"
    with ctx.store.catalog.read() as tx:
        found = listing.list_objects(
            tx,
            ctx.bucket.id,
            prefix=params.get("prefix", ""),
            delimiter=params.get("delimiter", ""),
            after=after,
            limit=max_keys,
        )
        owners = owners_of(tx, {entry.kind.owner_id for entry in found.entries}) if fetch_owner else None
    page = listings.ObjectsPage(
        bucket=ctx.bucket.name,
        prefix=params.get("prefix", ""),
        delimiter=params.get("delimiter", ""),
        max_keys=max_keys,
        is_truncated=found.is_truncated,
        start_after=params.get("start-after", ""),
        continuation_token=token,
        next_continuation_token=listing.encode_token(found.next_marker) if found.is_truncated else "",
        encoding_type=encoding_type(ctx),
        entries=found.entries,
        common_prefixes=found.common_prefixes,
        owners=owners,
    )
    return xml(listings.list_objects_v2(page))


def list_object_versions(ctx: Context) -> Response:
    """ListObjectVersions: every version and delete marker, newest first within a key.

    Source: API Reference, ListObjectVersions. Checked against AWS: never.
    Errors: InvalidArgument (markers, max-keys, encoding-type).
    """
    params = ctx.params
    if params.get("version-id-marker") and not params.get("key-marker"):
        raise invalid_argument(
            "version-id-marker",
            params["version-id-marker"],
            "A version-id marker cannot be specified without a key marker.",
        )
    max_keys = _max_keys(ctx)
    with ctx.store.catalog.read() as tx:
        found = listing.list_versions(
            tx,
            ctx.bucket.id,
            prefix=params.get("prefix", ""),
            delimiter=params.get("delimiter", ""),
            key_marker=params.get("key-marker", ""),
            version_id_marker=params.get("version-id-marker", ""),
            limit=max_keys,
        )
        owners = owners_of(tx, {entry.owner_id for entry in found.entries})
    page = listings.VersionsPage(
        bucket=ctx.bucket.name,
        prefix=params.get("prefix", ""),
        delimiter=params.get("delimiter", ""),
        max_keys=max_keys,
        is_truncated=found.is_truncated,
        key_marker=params.get("key-marker", ""),
        version_id_marker=params.get("version-id-marker", ""),
        next_key_marker=found.next_marker,
        next_version_id_marker=found.last_row.version_id if found.last_row and found.is_truncated else "",
        encoding_type=encoding_type(ctx),
        entries=found.entries,
        common_prefixes=found.common_prefixes,
        owners=owners,
    )
    return xml(listings.list_versions(page))


def _max_keys(ctx: Context) -> int:
    limit = ctx.settings.limits.list_keys
    return min(integer_param(ctx, "max-keys", low=0, high=2**31 - 1, default=limit), limit)


def encoding_type(ctx: Context) -> str:
    """``url`` or "". Raises InvalidArgument."""
    value = ctx.params.get("encoding-type", "")
    if value not in ("", "url"):
        raise invalid_argument(
            "encoding-type", value, "Invalid Encoding Method specified in Request: use url."
        )
    return value


def owners_of(tx: ReadTx, account_ids: set[str]) -> Mapping[str, Account]:
    """The accounts of these ids; one that has been removed is shown by its id alone."""
    return {account_id: tx.account(account_id) or Account(account_id, "") for account_id in account_ids}
