"""Object lock: may this version go, and may its lock change?

Everything here is asked inside the transaction that acts, so that no delete slips in between a lock
and its decision. A delete without a version id makes a marker and touches no version: locks do not
speak of it.

Source: User Guide, "Locking objects with Object Lock"; API Reference, PutObjectRetention.
"""

from __future__ import annotations

from dataclasses import replace

from s3lite.catalog.base import Tx
from s3lite.errors import Code, S3Error
from s3lite.model import Bucket, ObjectLock
from s3lite.wire import object_lock

CONFIG = "object-lock"
"""The name of the bucket's configuration document."""


def is_retained(lock: ObjectLock, now_ms: int) -> bool:
    """True while a retention runs."""
    return bool(lock.mode) and lock.retain_until_ms > now_ms


def is_locked(lock: ObjectLock, now_ms: int) -> bool:
    """True while a retention or a legal hold keeps the version."""
    return lock.legal_hold == "ON" or is_retained(lock, now_ms)


def check_removal(lock: ObjectLock, now_ms: int, *, bypass: bool) -> None:
    """Raise AccessDenied for a version that must stay. ``bypass`` lifts GOVERNANCE, nothing else."""
    if lock.legal_hold == "ON":
        raise S3Error(Code.AccessDenied, "Access Denied because object protected by legal hold.")
    if is_retained(lock, now_ms) and not (bypass and lock.mode == "GOVERNANCE"):
        raise S3Error(Code.AccessDenied, "Access Denied because object protected by object lock.")


def with_retention(lock: ObjectLock, wanted: ObjectLock, now_ms: int, *, bypass: bool) -> ObjectLock:
    """``lock`` with the retention of ``wanted``. Raises AccessDenied.

    A retention that runs may be extended in its mode; anything else takes the bypass of GOVERNANCE.
    """
    extends = wanted.mode == lock.mode and wanted.retain_until_ms >= lock.retain_until_ms
    may_change = extends or (bypass and lock.mode == "GOVERNANCE")
    if is_retained(lock, now_ms) and not may_change:
        raise S3Error(Code.AccessDenied, "Access Denied because object protected by object lock.")
    return replace(lock, mode=wanted.mode, retain_until_ms=wanted.retain_until_ms)


def at_publication(tx: Tx, bucket: Bucket, asked: ObjectLock, modified_ms: int) -> ObjectLock:
    """The lock of a version that is being published: as asked for, the bucket's default where it says nothing."""
    if asked.mode or not bucket.object_lock or CONFIG not in bucket.configs:
        return asked
    document = tx.bucket_config(bucket.id, CONFIG)
    default = object_lock.stored_configuration(document) if document else None
    if default is None:
        return asked
    return replace(asked, mode=default.mode, retain_until_ms=default.until_ms(modified_ms))
