"""The values that the parts of s3lite hand to one another. Frozen, without behaviour of their own.

Times are milliseconds since the epoch (``*_ms``), sizes are bytes, ETags are without quotes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

BlobId = NewType("BlobId", str)
"""Name of immutable bytes: 32 hex digits (`s3lite.ids.Ids.blob`)."""

NULL_VERSION = "null"
"""The version id of objects written while a bucket is unversioned or suspended."""


# ---------------------------------------------------------------- who


@dataclass(frozen=True, slots=True)
class Account:
    """A user: the canonical id that ACLs and listings show, and what is known of them."""

    id: str
    display_name: str
    email: str = ""
    is_root: bool = False
    created_ms: int = 0


class Rate(NamedTuple):
    """How fast requests by a key may come, all workers together; 0 is no bound."""

    requests_per_s: float = 0.0
    burst: int = 0  # requests at once after a pause; 0: those of one second
    bytes_per_s: float = 0.0  # of bodies, both ways


@dataclass(frozen=True, slots=True)
class Session:
    """What makes a credential a temporary one. ``policy`` narrows what its key may do; "" does not."""

    access_key: str  # its own; `AccessKey.access_key` is that of the key it was made by
    role: str  # as it was asked for; a name only. "" of GetSessionToken
    name: str
    issued_s: int
    expires_s: int
    policy: str = ""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A credential of an account. ``secret_key`` is in clear here, encrypted at rest.

    Of a temporary credential this is the key that it was made by, but for ``secret_key`` and ``session``.
    """

    access_key: str
    secret_key: str
    account: Account
    enabled: bool = True
    callback: str = "inline"  # off | policy-only | inline: what callbacks uploads by this key may carry
    webhook_secret: str = ""  # whsec_…: signs callbacks of uploads by this key
    created_ms: int = 0
    policy: str = ""  # JSON: what it may do of what its account may; "" is everything
    rate: Rate | None = None  # None: as the settings say
    session: Session | None = None

    @property
    def shown(self) -> str:
        """The access key that requests carry."""
        return self.session.access_key if self.session else self.access_key


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of an ACL. ``grantee`` is an account id, or a group's URI when ``is_group``."""

    grantee: str
    permission: str  # READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL
    is_group: bool = False


@dataclass(frozen=True, slots=True)
class Acl:
    """Owner and grants of a bucket or an object version."""

    owner_id: str
    grants: tuple[Grant, ...] = ()


# ---------------------------------------------------------------- buckets and objects


@dataclass(frozen=True, slots=True)
class PublicAccessBlock:
    """What a bucket keeps the public from, whatever its ACLs and its policy say."""

    block_public_acls: bool = False  # refuse requests that set one
    ignore_public_acls: bool = False
    block_public_policy: bool = False  # refuse requests that set one
    restrict_public_buckets: bool = False  # to the owner's account, while the policy is public


NO_BLOCK = PublicAccessBlock()

BUCKET_OWNER_ENFORCED = "BucketOwnerEnforced"
BUCKET_OWNER_PREFERRED = "BucketOwnerPreferred"
OBJECT_WRITER = "ObjectWriter"
"""Values of object ownership; "" (not configured) works as the last of them."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket's row. ``versioning`` is "" (never enabled), "Enabled" or "Suspended".

    ``configs`` names the configuration documents that it has, so that most requests look for none.
    """

    id: int
    name: str
    owner_id: str
    created_ms: int
    region: str
    acl: Acl
    versioning: str = ""
    object_lock: bool = False
    configs: frozenset[str] = frozenset()


QUOTA = "quota"
"""Among `Bucket.configs`: the bucket is counted, for its own quota or its owner's."""


class Quota(NamedTuple):
    """How much a bucket, or an account in all its buckets, may hold and holds. None is no bound."""

    subject: str  # "bucket ID" (the row's), "account ID"
    max_bytes: int | None
    max_objects: int | None
    bytes: int
    objects: int
    added_bytes: int = 0  # by the transaction that asks
    added_objects: int = 0


@dataclass(frozen=True, slots=True)
class Checksum:
    """A stored checksum: ``algorithm`` as in the API (CRC32, CRC64NVME, SHA256 …), Base64 ``value``
    (with ``-N`` when composite), ``type`` FULL_OBJECT or COMPOSITE."""

    algorithm: str
    value: str
    type: str = "FULL_OBJECT"


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What an uploader says of an object beside its bytes; kept at CreateMultipartUpload, too."""

    headers: Mapping[str, str] = field(default_factory=dict)  # content-type, cache-control … (lower case)
    metadata: Mapping[str, str] = field(default_factory=dict)  # x-amz-meta-*, names without the prefix
    tags: tuple[tuple[str, str], ...] = ()
    storage_class: str = "STANDARD"
    website_redirect: str = ""
    crc64ecma: str = ""  # of the bytes, decimal, where an upload in the dialect of OSS had it made


@dataclass(frozen=True, slots=True)
class Encryption:
    """How an object's bytes are sealed, with the key to them, which is sealed itself (docs/encryption.md).

    ``sealed_key`` is Base64: of the key of the object's one blob, or of what seals the keys of its parts.
    It is bound to the object's size and number of parts when ``is_whole``.
    """

    mode: str  # AES256, aws:kms or SSE-C
    sealed_key: str
    master: str = ""  # the key of the keyring, with its generation; "" for SSE-C
    key_id: str = ""  # that key as clients see it, for aws:kms
    context: str = ""  # Base64 of JSON, for aws:kms
    bucket_key: bool = False
    verifier: str = ""  # tells the customer's key from others, for SSE-C
    is_whole: bool = True
    customer_md5: str = ""  # of the key that came with this request; never stored


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """What keeps a version from being deleted. ``mode`` "" means no retention, ``legal_hold`` "" that it
    was never set."""

    mode: str = ""  # GOVERNANCE or COMPLIANCE
    retain_until_ms: int = 0  # a whole second
    legal_hold: str = ""  # ON or OFF


UNLOCKED = ObjectLock()


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes that are durable: a blob in the blob store, or ``data`` to be kept inline in the index.

    ``id`` None stands for the empty object. ``size`` is the object's; encrypted bytes are more, and have a
    checksum of their own, by which they can be checked without their key.
    """

    id: BlobId | None
    size: int
    data: bytes | None = None
    sealed_size: int = 0  # of encrypted bytes, as they are kept
    sealed_checksum: str = ""  # CRC64NVME of these, Base64

    @property
    def kept_size(self) -> int:
        """Bytes that are kept."""
        return self.sealed_size or self.size


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, or a delete marker.

    The bytes are in ``blob`` (one piece; None when empty), or, when ``part_count`` > 0 (multipart and
    appendable), in the catalog's segments of ``row``. An appendable one grows in its row: what was read of
    it is still its beginning, and its ETag and date are new.
    """

    row: int  # the catalog's id, rising with every commit
    bucket_id: int
    key: str
    version_id: str
    size: int
    etag: str
    modified_ms: int
    owner_id: str
    head: ObjectHead
    acl: Acl
    is_delete_marker: bool = False
    is_latest: bool = True
    blob: BlobId | None = None
    part_count: int = 0
    checksum: Checksum | None = None
    lock: ObjectLock = UNLOCKED
    encryption: Encryption | None = None
    annotations: int = 0  # how many it has


@dataclass(frozen=True, slots=True)
class Annotation:
    """A named text of a version. ``sealed_key`` is that of its blob, sealed under the version's; "" when the
    version is not encrypted."""

    name: str
    size: int
    etag: str
    modified_ms: int
    blob: BlobId | None
    checksum: Checksum
    sealed_key: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a multipart object, in order of ``part_number``; ``blob`` None when empty.

    ``sealed_key`` is that of its blob, sealed under the object's; "" when it is not encrypted.
    """

    part_number: int
    size: int
    blob: BlobId | None
    etag: str
    checksum: str = ""  # Base64, in the upload's algorithm
    sealed_key: str = ""


class ListedKind(NamedTuple):
    """What most rows of a listing have in common."""

    owner_id: str
    storage_class: str
    checksum_algorithm: str
    checksum_type: str


class ListedObject(NamedTuple):
    """A row of ListObjects: only what a covering index holds."""

    key: str
    size: int
    etag: str
    modified_ms: int
    kind: ListedKind


class ListedVersion(NamedTuple):
    """A row of ListObjectVersions."""

    row: int
    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    size: int
    etag: str
    modified_ms: int
    owner_id: str
    storage_class: str
    checksum_algorithm: str
    checksum_type: str


# ---------------------------------------------------------------- multipart uploads


@dataclass(frozen=True, slots=True)
class Upload:
    """An open multipart upload. ``checksum_algorithm`` "" means none was asked for."""

    row: int
    upload_id: str
    bucket_id: int
    key: str
    owner_id: str  # who will own the object
    initiator_id: str
    initiated_ms: int
    head: ObjectHead
    acl: Acl
    checksum_algorithm: str = ""
    checksum_type: str = ""
    callback: str = ""  # as the client sent it (Base64), for CompleteMultipartUpload
    callback_var: str = ""
    callback_access_key: str = ""  # who asked for it
    lock: ObjectLock = UNLOCKED  # as asked for; the bucket's default joins at completion
    encryption: Encryption | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded part of an open upload."""

    part_number: int
    size: int
    etag: str
    modified_ms: int
    blob: BlobId | None
    checksum: str = ""
    sealed_key: str = ""  # as `Segment.sealed_key`


@dataclass(frozen=True, slots=True)
class Completion:
    """What CompleteMultipartUpload answered, kept so that a repeat gets the same answer.

    ``fingerprint`` identifies the part list. ``callback`` and ``callback_var`` are what was asked for
    (Base64), by ``callback_access_key``; ``callback_state`` is "" (none), "pending", "ok" or "failed",
    ``callback_id`` its webhook-id, ``callback_reply`` the application's answer once it is "ok".
    """

    upload_id: str
    bucket_id: int
    key: str
    fingerprint: str
    etag: str
    version_id: str
    size: int
    completed_ms: int
    checksum: Checksum | None = None
    callback: str = ""
    callback_var: str = ""
    callback_access_key: str = ""
    callback_id: str = ""
    callback_state: str = ""
    callback_reply: bytes = b""
    callback_reply_type: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """An upload whose application is being asked whether it may become visible (gate).

    Its bytes are in ``blob``, or those of the parts ``part_numbers`` of the open upload ``upload_id``, or
    those of the version ``source_row`` (a copy). Once ``token_hash`` is "" nobody waits any more and no
    bytes are held: the row only remembers ``callback_id`` for a repeat, known by its ``fingerprint``.
    """

    row: int
    callback_id: str
    fingerprint: str
    bucket_id: int
    key: str
    size: int
    etag: str
    expires_ms: int
    token_hash: str = ""
    blob: BlobId | None = None
    upload_id: str = ""
    part_numbers: tuple[int, ...] = ()
    source_row: int = 0
    encryption: Encryption | None = None  # of ``blob``


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Target:
    """What a request line names. ``bucket`` "" is the service, ``key`` "" the bucket itself."""

    bucket: str
    key: str
    virtual_host: bool = False  # bucket taken from Host, so it is not in the path
    tenant: str | None = None  # whose the bucket must be, if `compat.ceph` let the path say TENANT:BUCKET


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request as signatures need it: nothing decoded, nothing folded.

    ``path`` is the path of the request line, mount prefix included, percent-encoding kept, without
    query. ``query`` is what follows ``?``. Header names are lower case; values are as WSGI has them
    (ISO 8859-1 text), outer white space removed.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    target: Target
    query_items: Sequence[tuple[str, str]] = ()  # decoded, in order; a name without "=" has value ""
    mount_prefix: str = ""  # SCRIPT_NAME, percent-encoding as in `path`
    origin: str = ""  # scheme://host[:port] as the client addressed the server, trusted proxies considered


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed, and what the signature covers.

    ``scheme``: anonymous, v2-header, v2-query, v2-form, v4-header, v4-query, v4-form; oss1-… and oss4-….
    ``signed_headers`` are lower-case names (V2: every x-amz-* and the positional headers).
    """

    scheme: str = "anonymous"
    key: AccessKey | None = None
    signed_headers: frozenset[str] = frozenset()

    @property
    def account(self) -> Account | None:
        """The account, or None for anonymous."""
        return self.key.account if self.key else None

    @property
    def account_id(self) -> str:
        """The account's id, "" for anonymous."""
        return self.key.account.id if self.key else ""

    @property
    def limits(self) -> tuple[str, ...]:
        """The policies that each must allow whatever is done: the key's and the session's."""
        key = self.key
        if key is None or not (key.policy or key.session):
            return ()
        return tuple(filter(None, (key.policy, key.session.policy if key.session else "")))

    @property
    def is_root(self) -> bool:
        """True for the operator's account, which may do anything."""
        return self.key is not None and self.key.account.is_root


ANONYMOUS = Identity()
