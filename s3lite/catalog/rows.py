"""Rows of the index as values of `s3lite.model`, and back.

Each ``*_COLUMNS`` names what the function beside it takes, in order. ACLs repeat themselves, so their
decoded form is cached by text; heads seldom do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from s3lite.model import (
    UNLOCKED,
    Account,
    Acl,
    Annotation,
    Bucket,
    Checksum,
    Completion,
    Encryption,
    Grant,
    ListedKind,
    ListedObject,
    ListedVersion,
    ObjectHead,
    ObjectLock,
    ObjectVersion,
    Part,
    Pending,
    Rate,
    Segment,
    Upload,
)

Row = tuple[Any, ...]
"""What an engine hands back; only the functions here look inside."""

ACCOUNT_COLUMNS = "accounts.id, accounts.display_name, accounts.email, accounts.is_root, accounts.created_ms"
KEY_COLUMNS = (
    "access_key, secret_key, webhook_secret, enabled, callback, access_keys.created_ms, policy, rate, "
    + ACCOUNT_COLUMNS
)
BUCKET_COLUMNS = "id, name, owner_id, created_ms, region, acl, versioning, object_lock, configs"
BUCKET_WIDTH = BUCKET_COLUMNS.count(",") + 1
LOCK_COLUMNS = "lock_mode, retain_until_ms, legal_hold"
ENCRYPTION_COLUMNS = "master, encryption"
_LATER_COLUMNS = f"{LOCK_COLUMNS}, {ENCRYPTION_COLUMNS}"
VERSION_COLUMNS = (
    "row, bucket_id, key, version_id, size, etag, modified_ms, owner_id, is_delete_marker, is_latest, blob, "
    "part_count, checksum_algorithm, checksum_value, checksum_type, head, tags, storage_class, acl, "
    + _LATER_COLUMNS
    + ", annotations"
)
ANNOTATION_COLUMNS = "name, size, etag, modified_ms, blob, checksum_algorithm, checksum_value, sealed_key"
_KIND = "owner_id, storage_class, checksum_algorithm, checksum_type"
LISTED_COLUMNS = (
    f"key, size, etag, modified_ms, CASE WHEN ({_KIND}) = (?, ?, ?, ?) THEN NULL ELSE checksum_type || '/' || "
    "checksum_algorithm || '/' || storage_class || '/' || owner_id END"
)
"""The values are those of the usual `ListedKind`, which nearly all rows have: a value that is not handed
over saves more than comparing costs (measured: 0.27 of 0.9 ms for a page of 1,000)."""
LISTED_VERSION_COLUMNS = (
    "row, key, version_id, is_latest, is_delete_marker, size, etag, modified_ms, " + _KIND
)
SEGMENT_COLUMNS = "part_number, size, blob, etag, checksum, sealed_key"
UPLOAD_COLUMNS = (
    "row, upload_id, bucket_id, key, owner_id, initiator_id, initiated_ms, checksum_algorithm, "
    "checksum_type, callback, callback_var, callback_access_key, head, tags, storage_class, acl, "
    + _LATER_COLUMNS
)
PART_COLUMNS = "part_number, size, etag, modified_ms, blob, checksum, sealed_key"
COMPLETION_COLUMNS = (
    "upload_id, bucket_id, key, fingerprint, etag, version_id, size, completed_ms, checksum_algorithm, "
    "checksum_value, checksum_type, callback, callback_var, callback_access_key, callback_id, "
    "callback_state, callback_reply, callback_reply_type"
)
PENDING_COLUMNS = (
    "row, callback_id, fingerprint, bucket_id, key, size, etag, expires_ms, token_hash, blob, upload_id, "
    "part_numbers, source_row, " + ENCRYPTION_COLUMNS
)

_compact = json.JSONEncoder(separators=(",", ":")).encode
_parse = json.JSONDecoder().raw_decode  # half the time of json.loads; nothing follows the value here


def of(table: str, columns: str) -> str:
    """The columns with their table's name, for statements about several."""
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


def account(row: Row) -> Account:
    """From `ACCOUNT_COLUMNS`."""
    return Account(row[0], row[1], row[2], bool(row[3]), row[4])


def bucket(row: Row) -> Bucket:
    """From `BUCKET_COLUMNS`."""
    configs = frozenset(row[8].split())
    return Bucket(row[0], row[1], row[2], row[3], row[4], decode_acl(row[5]), row[6], bool(row[7]), configs)


def object_version(row: Row) -> ObjectVersion:
    """From `VERSION_COLUMNS`."""
    number, bucket_id, key, version_id, size, etag, modified_ms, owner_id = row[:8]
    is_delete_marker, is_latest, blob, part_count, algorithm, value, kind, head, tags, storage, acl = row[
        8:19
    ]
    return ObjectVersion(
        number,
        bucket_id,
        str(key, "utf-8"),
        version_id,
        size,
        etag,
        modified_ms,
        owner_id,
        decode_head(head, tags, storage),
        decode_acl(acl),
        bool(is_delete_marker),
        bool(is_latest),
        blob,
        part_count,
        decode_checksum(algorithm, value, kind),
        decode_lock(*row[19:22]),
        decode_encryption(*row[22:24]),
        row[24],
    )


def annotation(row: Row) -> Annotation:
    """From `ANNOTATION_COLUMNS`."""
    name, size, etag, modified_ms, blob, algorithm, value, sealed_key = row
    return Annotation(
        str(name, "utf-8"), size, etag, modified_ms, blob, Checksum(algorithm, value), sealed_key
    )


def listed_objects(found: list[Row], usual: ListedKind) -> list[ListedObject]:
    """From `LISTED_COLUMNS`. A page is a thousand, so this skips the named tuple's own constructor."""
    make = tuple.__new__
    return [
        make(
            ListedObject,
            (str(key, "utf-8"), size, etag, modified_ms, usual if kind is None else listed_kind(kind)),
        )
        for key, size, etag, modified_ms, kind in found
    ]


@lru_cache(maxsize=1024)
def listed_kind(text: str) -> ListedKind:
    """From the last of `LISTED_COLUMNS`, whose parts but the owner have no slash."""
    checksum_type, algorithm, storage_class, owner_id = text.split("/", 3)
    return ListedKind(owner_id, storage_class, algorithm, checksum_type)


def listed_version(row: Row) -> ListedVersion:
    """From `LISTED_VERSION_COLUMNS`."""
    return ListedVersion(row[0], str(row[1], "utf-8"), row[2], bool(row[3]), bool(row[4]), *row[5:])


def segment(row: Row) -> Segment:
    """From `SEGMENT_COLUMNS`."""
    return Segment(*row)


def upload(row: Row) -> Upload:
    """From `UPLOAD_COLUMNS`."""
    number, upload_id, bucket_id, key, owner_id, initiator_id, initiated_ms, algorithm, kind = row[:9]
    callback, callback_var, callback_access_key, head, tags, storage_class, acl = row[9:16]
    return Upload(
        number,
        upload_id,
        bucket_id,
        str(key, "utf-8"),
        owner_id,
        initiator_id,
        initiated_ms,
        decode_head(head, tags, storage_class),
        decode_acl(acl),
        algorithm,
        kind,
        callback,
        callback_var,
        callback_access_key,
        decode_lock(*row[16:19]),
        decode_encryption(*row[19:]),
    )


def part(row: Row) -> Part:
    """From `PART_COLUMNS`."""
    return Part(*row)


def completion(row: Row) -> Completion:
    """From `COMPLETION_COLUMNS`."""
    upload_id, bucket_id, key, fingerprint, etag, version_id, size, completed_ms = row[:8]
    return Completion(
        upload_id,
        bucket_id,
        str(key, "utf-8"),
        fingerprint,
        etag,
        version_id,
        size,
        completed_ms,
        decode_checksum(*row[8:11]),
        *row[11:],
    )


def pending(row: Row) -> Pending:
    """From `PENDING_COLUMNS`."""
    number, callback_id, fingerprint, bucket_id, key, size, etag, expires_ms, token_hash = row[:9]
    blob, upload_id, part_numbers, source_row = row[9:13]
    return Pending(
        number,
        callback_id,
        fingerprint,
        bucket_id,
        str(key, "utf-8"),
        size,
        etag,
        expires_ms,
        token_hash,
        blob,
        upload_id or "",
        tuple(json.loads(part_numbers)),
        source_row,
        decode_encryption(*row[13:]),
    )


def encode_rate(rate: Rate | None) -> str:
    """A JSON list; "" for none."""
    return "" if rate is None else _compact(rate)


def decode_rate(text: str) -> Rate | None:
    """From `encode_rate`."""
    return Rate(*json.loads(text)) if text else None


def encode_acl(acl: Acl) -> str:
    """``[owner, [grantee, permission, is_group] …]``."""
    return _compact([acl.owner_id, *([g.grantee, g.permission, g.is_group] for g in acl.grants)])


@lru_cache(maxsize=1024)
def decode_acl(text: str) -> Acl:
    """From `encode_acl`."""
    owner_id, *grants = json.loads(text)
    return Acl(owner_id, tuple(Grant(*grant) for grant in grants))


def encode_head(head: ObjectHead) -> str:
    """Headers, metadata, redirect, and CRC if there is one; tags and storage class have columns of their own."""
    crc = (head.crc64ecma,) if head.crc64ecma else ()
    return _compact([_plain(head.headers), _plain(head.metadata), head.website_redirect, *crc])


def _plain(mapping: Mapping[str, str]) -> dict[str, str]:
    return mapping if type(mapping) is dict else dict(mapping)


def decode_head(text: str, tags: str, storage_class: str) -> ObjectHead:
    """From `encode_head`, `encode_tags` and the storage class."""
    (headers, metadata, redirect, *crc), _ = _parse(text)
    return ObjectHead(headers, metadata, decode_tags(tags), storage_class, redirect, *crc)


def encode_tags(tags: tuple[tuple[str, str], ...]) -> str:
    """JSON pairs; "" for none."""
    return _compact(tags) if tags else ""


def decode_tags(text: str) -> tuple[tuple[str, str], ...]:
    """From `encode_tags`."""
    return tuple((name, value) for name, value in json.loads(text)) if text else ()


def encode_checksum(checksum: Checksum | None) -> tuple[str, str, str]:
    """Algorithm, value and type; empty for none."""
    return (checksum.algorithm, checksum.value, checksum.type) if checksum else ("", "", "")


def decode_checksum(algorithm: str, value: str, kind: str) -> Checksum | None:
    """From `encode_checksum`."""
    return Checksum(algorithm, value, kind) if algorithm else None


def encode_lock(lock: ObjectLock) -> tuple[str, int, str]:
    """As `LOCK_COLUMNS`."""
    return lock.mode, lock.retain_until_ms, lock.legal_hold


def decode_lock(mode: str, retain_until_ms: int, legal_hold: str) -> ObjectLock:
    """From `LOCK_COLUMNS`. Most versions have none, which is then one shared value."""
    return ObjectLock(mode, retain_until_ms, legal_hold) if mode or legal_hold else UNLOCKED


def encode_encryption(encryption: Encryption | None) -> tuple[str, str]:
    """As `ENCRYPTION_COLUMNS`; empty for none."""
    if encryption is None:
        return "", ""
    return encryption.master, _compact(
        [
            encryption.mode,
            encryption.sealed_key,
            encryption.key_id,
            encryption.context,
            encryption.bucket_key,
            encryption.verifier,
            encryption.is_whole,
        ]
    )


def decode_encryption(master: str, text: str) -> Encryption | None:
    """From `ENCRYPTION_COLUMNS`."""
    if not text:
        return None
    (mode, sealed_key, *more), _ = _parse(text)
    return Encryption(mode, sealed_key, master, *more)


def encode_list(values: object) -> str:
    """A JSON array, for statements that ask about many values at once."""
    return _compact(values)
