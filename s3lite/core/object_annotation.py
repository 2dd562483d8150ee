"""Annotations: named texts that belong to a version of an object, and come and go without touching it.

Their bytes are blobs like any others. Those of an encrypted object have keys of their own, sealed under the
object's, so that they follow it through rotations and copies without being touched.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

from s3lite.catalog.base import Tx
from s3lite.core import lock, read, sealing, write
from s3lite.core.store import Store
from s3lite.core.write import NewAnnotation
from s3lite.crypto.aead import new_key
from s3lite.errors import Code, S3Error
from s3lite.model import Annotation, Checksum, ObjectVersion
from s3lite.wire.checksums import Digests
from s3lite.wire.encryption import CUSTOMER

Tell = Callable[[Tx], None]
"""Writes what others are owed for a change into the outbox, in its transaction."""


def refuse_customer_key(mode: str) -> None:
    """Raise InvalidRequest for an object that nobody but its customer can decrypt, as in S3."""
    if mode == CUSTOMER:
        raise S3Error(
            Code.InvalidRequest, "Objects encrypted with a customer's key (SSE-C) cannot have annotations."
        )


def put(
    store: Store,
    version: ObjectVersion,
    name: str,
    data: bytes,
    *,
    etag: str,
    checksum: Checksum,
    if_match: str | None,
    bypass: bool,
    tell: Tell | None,
) -> Annotation:
    """Add or replace an annotation, durable on return.

    Raises AnnotationLimitExceeded, PreconditionFailed (the object's ETag), AccessDenied (it replaces one of a
    locked version), OperationAborted (the version went meanwhile), InvalidRequest (SSE-C).
    """
    object_key = None
    if version.encryption is not None:
        refuse_customer_key(version.encryption.mode)
        object_key = sealing.key_of_version(store, version, None)
    made = _made(store, name, data, object_key, etag=etag, checksum=checksum)

    def work(tx: Tx) -> None:
        live = _live(tx, version, if_match)
        if tx.annotation(live.row, name) is not None:
            lock.check_removal(live.lock, store.clock.time_ms(), bypass=bypass)
        elif live.annotations >= store.settings.limits.annotations:
            raise S3Error(Code.AnnotationLimitExceeded)
        tx.put_annotation(live, made.annotation, stored=made.stored)
        if tell is not None:
            tell(tx)

    with write.discarding(store, made.stored):
        write.commit(store, work, owes=tell is not None)
    return made.annotation


def _made(
    store: Store, name: str, data: bytes, object_key: bytes | None, *, etag: str, checksum: Checksum
) -> NewAnnotation:
    key = new_key() if object_key is not None else None
    stored = write.receive(
        store,
        io.BytesIO(data),
        size=len(data),
        digests=Digests(()),
        verify=lambda _received: None,
        key=key,
    )
    sealed = ""
    if key is not None and object_key is not None:
        sealed = sealing.seal_annotation(object_key, key, name, len(data), stored.id)
    now_ms = store.clock.time_ms()
    return NewAnnotation(Annotation(name, len(data), etag, now_ms, stored.id, checksum, sealed), stored)


def _live(tx: Tx, version: ObjectVersion, if_match: str | None) -> ObjectVersion:
    """The version as it is now, its key locked until the transaction ends."""
    live = tx.version(version.bucket_id, version.key, version.version_id)
    if live is None or live.row != version.row:
        raise S3Error(Code.OperationAborted)
    if if_match is not None and if_match.strip('"') not in ("*", live.etag):
        raise S3Error(Code.PreconditionFailed, Condition="x-amz-object-if-match")
    return live


def remove(
    store: Store, version: ObjectVersion, name: str, *, if_match: str | None, bypass: bool, tell: Tell | None
) -> None:
    """Remove an annotation; one that is not there is gone already. Raises as `put`."""

    def work(tx: Tx) -> None:
        live = _live(tx, version, if_match)
        if tx.annotation(live.row, name) is None:
            return
        lock.check_removal(live.lock, store.clock.time_ms(), bypass=bypass)
        tx.remove_annotation(live, name)
        if tell is not None:
            tell(tx)

    write.commit(store, work, owes=tell is not None)


def content(store: Store, version: ObjectVersion, annotation: Annotation) -> Iterator[bytes]:
    """Its bytes. Raises InternalError (missing, damaged) and what `sealing.key_of_version` does."""
    if not annotation.sealed_key:
        size = annotation.size
        return read.read_plain(store, annotation.blob, size, annotation.etag, 0, size)
    key = sealing.key_of_annotation(sealing.key_of_version(store, version, None), annotation)
    return read.open_blob(store, key, annotation.blob, annotation.size, 0, annotation.size)


def copies(store: Store, source: ObjectVersion, *, key: bytes | None) -> tuple[NewAnnotation, ...]:
    """The annotations of a copy of ``source``: the same blobs, or, where only the copy is encrypted, new ones.

    ``key`` is that of a copy whose bytes were written anew.
    """
    with store.catalog.read() as tx:
        found = tx.annotations(source.row)
    if key is None or source.encryption is not None:
        return tuple(NewAnnotation(annotation) for annotation in found)
    return tuple(
        _made(
            store,
            annotation.name,
            b"".join(content(store, source, annotation)),
            key,
            etag=annotation.etag,
            checksum=annotation.checksum,
        )
        for annotation in found
    )
