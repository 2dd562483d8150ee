"""Server-side encryption: what a request asks for, what its answer says, and a bucket's configuration."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from s3lite.auth.facts import About
from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx
from s3lite.context import Context
from s3lite.core import lock, sealing, write
from s3lite.errors import Code, S3Error
from s3lite.model import Encryption, ObjectVersion
from s3lite.responses import Headers, Response, empty, xml
from s3lite.wire import encryption as wire
from s3lite.wire.encryption import CUSTOMER, KMS, BucketDefault, CustomerKey, Wanted

_CONFIG = "encryption"
_NOTHING = BucketDefault(None)


# ---------------------------------------------------------------- requests


def wanted(ctx: Context, headers: Mapping[str, str]) -> Wanted | None:
    """The encryption of what is being uploaded: as the headers ask, else the bucket's default, else the server's.

    Raises InvalidArgument, InvalidRequest (a customer's key without TLS), AccessDenied (the bucket refuses
    customers' keys), NotImplemented.
    """
    asked = wire.parse_wanted(headers)
    default = _of_bucket(ctx)
    if asked is None:
        if default.wanted is not None:
            return default.wanted
        return Wanted(wire.AES256) if ctx.settings.encryption.default == wire.AES256 else None
    if asked.customer_key is not None:
        _check_transport(ctx)
        if default.blocks_customer_keys:
            raise S3Error(Code.AccessDenied, "This bucket's encryption configuration blocks SSE-C.")
        ctx.customer_key = asked.customer_key
    return asked


def wanted_of_copy(ctx: Context, source: ObjectVersion) -> Wanted | None:
    """`wanted` of a copy, which is never plain where its source is not. Raises as that does."""
    asked = wanted(ctx, ctx.headers)
    return Wanted(wire.AES256) if asked is None and source.encryption is not None else asked


def copy_source_key(ctx: Context, source: ObjectVersion) -> CustomerKey | None:
    """The customer's key that the source of a copy needs. Raises InvalidArgument, InvalidRequest."""
    key = customer_key(ctx, ctx.headers, wire.COPY_SOURCE)
    sealing.check_customer_key(source.encryption, key)
    return key


def customer_key(
    ctx: Context, headers: Mapping[str, str], prefix: str = f"{wire.MODE_HEADER}-customer-"
) -> CustomerKey | None:
    """The key that came with a request. Raises InvalidArgument, InvalidRequest (without TLS)."""
    key = wire.parse_customer_key(headers, prefix)
    if key is not None:
        _check_transport(ctx)
    return key


def _check_transport(ctx: Context) -> None:
    """Refuse a key that others may have read on its way."""
    allowed = ctx.settings.encryption.customer_keys_over_http
    if ctx.head.origin.startswith("https:") or allowed == "always":
        return
    if allowed == "loopback" and _is_local(ctx.client_ip):
        return
    raise S3Error(
        Code.InvalidRequest,
        "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure "
        "connection. (Operators: name the TLS proxy in http.trusted_proxies, or see "
        "encryption.customer_keys_over_http.)",
    )


def _is_local(client_ip: str) -> bool:
    """True for this machine; a peer without an address came over a Unix socket."""
    try:
        return not client_ip or ipaddress.ip_address(client_ip).is_loopback
    except ValueError:
        return False


def check_read(ctx: Context, version: ObjectVersion) -> None:
    """Make sure that the request brings the key that ``version`` needs, and keep it for the read.

    Raises InvalidArgument, InvalidRequest.
    """
    if (
        version.encryption is None
        and wire.MODE_HEADER not in ctx.headers
        and not _speaks_of_keys(ctx.headers)
    ):
        return
    wire.refuse_on_reads(ctx.headers)
    ctx.customer_key = customer_key(ctx, ctx.headers)
    sealing.check_customer_key(version.encryption, ctx.customer_key)


def _speaks_of_keys(headers: Mapping[str, str]) -> bool:
    return wire.CUSTOMER_HEADER in headers or wire.KEY_ID_HEADER in headers


def check_part(ctx: Context, encryption: Encryption | None) -> CustomerKey | None:
    """The customer's key of a part, which must be that of its upload. Raises InvalidArgument, InvalidRequest."""
    key = ctx.customer_key = customer_key(ctx, ctx.headers)
    if key is None and encryption is not None and encryption.mode == CUSTOMER:
        raise S3Error(
            Code.InvalidRequest,
            "The multipart upload initiate requested encryption. Subsequent part requests must include the "
            "appropriate encryption parameters.",
        )
    sealing.check_customer_key(encryption, key)
    return key


def is_readable(ctx: Context, version: ObjectVersion) -> bool:
    """False of an object under a customer's key that did not come with this request."""
    return not needs_customer_key(version) or ctx.customer_key is not None


def needs_customer_key(version: ObjectVersion) -> bool:
    """Whether only a request that brings a key can read the object."""
    return version.encryption is not None and version.encryption.mode == CUSTOMER


# ---------------------------------------------------------------- answers


def headers_of(encryption: Encryption | None, customer_md5: str = "", *, context: bool = False) -> Headers:
    """What an answer says of an object's encryption; its ``context`` only on uploads, as in S3."""
    if encryption is None:
        return []
    if encryption.mode == CUSTOMER:
        md5 = customer_md5 or encryption.customer_md5
        headers = [(wire.CUSTOMER_HEADER, wire.AES256)]
        return [*headers, (f"{wire.MODE_HEADER}-customer-key-MD5", md5)] if md5 else headers
    headers = [(wire.MODE_HEADER, encryption.mode)]
    if encryption.mode == KMS:
        headers.append((wire.KEY_ID_HEADER, encryption.key_id))
        if encryption.bucket_key:
            headers.append((wire.BUCKET_KEY_HEADER, "true"))
        if context and encryption.context:
            headers.append((wire.CONTEXT_HEADER, encryption.context))
    return headers


def read_headers(ctx: Context, version: ObjectVersion) -> Headers:
    """What a read says of it."""
    return headers_of(version.encryption, ctx.customer_key.md5 if ctx.customer_key else "")


# ---------------------------------------------------------------- a bucket's configuration


def _of_bucket(ctx: Context) -> BucketDefault:
    if _CONFIG not in ctx.bucket.configs:
        return _NOTHING
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, _CONFIG)
    return _NOTHING if document is None else wire.stored_configuration(document)


def get_bucket_encryption(ctx: Context) -> Response:
    """GetBucketEncryption: the configuration, or AES256 where the server encrypts by default.

    Source: API Reference, GetBucketEncryption. Checked against AWS: never.
    Errors: ServerSideEncryptionConfigurationNotFoundError, where uploads are kept as they are.
    """
    with ctx.store.catalog.read() as tx:
        document = tx.bucket_config(ctx.bucket.id, _CONFIG)
    if document is None and ctx.settings.encryption.default == wire.AES256:
        document = wire.DEFAULT_CONFIGURATION
    if document is None:
        raise S3Error(Code.ServerSideEncryptionConfigurationNotFoundError, BucketName=ctx.bucket.name)
    return xml(document)


def put_bucket_encryption(ctx: Context) -> Response:
    """PutBucketEncryption: what uploads get that ask for nothing, and whether customers' keys are refused.

    Source: API Reference, PutBucketEncryption; User Guide, "Blocking or unblocking SSE-C". Checked against
    AWS: never.
    Errors: MalformedXML, InvalidArgument, NotImplemented (aws:kms:dsse).
    Differs: SSE-C is not blocked in new buckets; a key is looked for when it is used, as in S3.
    """
    document = wire.parse_configuration(ctx.document()).document
    write.commit(
        ctx.store,
        lambda tx: tx.put_bucket_config(write.live_bucket(tx, ctx.bucket).id, _CONFIG, document),
    )
    return empty(200)


def delete_bucket_encryption(ctx: Context) -> Response:
    """DeleteBucketEncryption: back to the server's default.

    Source: API Reference, DeleteBucketEncryption. Checked against AWS: never.
    """
    write.commit(ctx.store, lambda tx: tx.delete_bucket_config(ctx.bucket.id, _CONFIG))
    return empty(204)


# ---------------------------------------------------------------- an object's


def update_object_encryption(ctx: Context) -> Response:
    """UpdateObjectEncryption: another key for an encrypted object, without touching its bytes.

    Source: API Reference, UpdateObjectEncryption. Checked against AWS: never.
    Errors: NoSuchKey, NoSuchVersion, InvalidRequest (not encrypted, or by a customer's key), AccessDenied
    (locked), KMS.NotFoundException, MalformedXML.
    Differs: V2 signatures are taken, and any name of a key beside its ARN; keys have no owner.
    """
    asked = wire.parse_object_encryption(ctx.document())
    version_id = ctx.params.get("versionId")
    with ctx.store.catalog.read() as tx:
        found = _version(ctx, tx, version_id)
    if found is None or found.is_delete_marker:
        ctx.require("s3:ListBucket", about=About(prefix=ctx.key))
        if version_id:
            raise S3Error(Code.NoSuchVersion, Key=ctx.key, VersionId=version_id)
        raise S3Error(Code.NoSuchKey, Key=ctx.key)
    if found.encryption is None or found.encryption.mode == CUSTOMER:
        raise S3Error(
            Code.InvalidRequest,
            "Only objects encrypted with SSE-S3 or SSE-KMS are supported by UpdateObjectEncryption.",
        )
    sealed = sealing.resealed(ctx.store, found, asked)

    def work(tx: Tx) -> None:
        live = _version(ctx, tx, found.version_id)
        if live is None or (live.row, live.etag) != (found.row, found.etag):
            raise S3Error(Code.OperationAborted)
        if lock.is_locked(live.lock, ctx.store.clock.time_ms()):
            raise S3Error(Code.AccessDenied, "The object is protected by S3 Object Lock.")
        tx.update_version(live.row, encryption=sealed)

    write.commit(ctx.store, work)
    return empty(200)


def _version(ctx: Context, tx: ReadTx, version_id: str | None) -> ObjectVersion | None:
    if version_id:
        return tx.version(ctx.bucket.id, ctx.key, version_id)
    return tx.current_version(ctx.bucket.id, ctx.key)
