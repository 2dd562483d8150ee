"""Encryption as core sees it: which key seals an object, and what opens it again.

Every object has a random key of its own. For an object in one blob it seals the bytes; for a multipart
object it seals the random keys of the parts' blobs. It is kept in the object's row, sealed under a key
of the keyring or under the customer's, and bound to what it belongs to: the blob, the size, the parts.
So rows and bytes cannot be exchanged, and a key changes without touching a byte.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from s3lite.core.store import Store
from s3lite.crypto import envelope, segments
from s3lite.crypto.aead import TamperedError, new_key
from s3lite.crypto.envelope import About
from s3lite.crypto.keyring import DEFAULT_KMS, SSE_S3, KeyringError, Master, UnknownKeyError
from s3lite.errors import Code, S3Error
from s3lite.model import Annotation, BlobId, Encryption, ObjectVersion, Segment, Stored, Upload
from s3lite.wire.encryption import CUSTOMER, KMS, CustomerKey, Wanted

log = logging.getLogger("s3lite")

KEYRING_SETTING = "keyring-id"
"""The catalog's setting that says which keyring file its objects are sealed with."""

DAMAGED = "The bytes of this object are damaged and are not given out. Ask the operator to run `s3lite check --deep`."
"""What clients are told of it."""

_OPEN: About = ("open",)  # of an upload, and of a customer's whose Complete came without the key


@dataclass(frozen=True, slots=True)
class Envelope:
    """How one object is to be sealed, with its key in clear: for the time of a request."""

    wanted: Wanted
    master: Master | None  # None: the customer's key
    key_id: str
    key: bytes = field(repr=False)

    def sealed(self, about: About) -> Encryption:
        """What is kept of it."""
        wanted, customer = self.wanted, self.wanted.customer_key
        root = self.master.secret if self.master is not None else _key_of(customer)
        master = self.master.ref if self.master is not None else ""
        bound = _bound(wanted.mode, master, self.key_id, wanted.context, about)
        return Encryption(
            mode=wanted.mode,
            sealed_key=envelope.seal(root, self.key, about=bound),
            master=master,
            key_id=self.key_id,
            context=wanted.context,
            bucket_key=wanted.bucket_key,
            verifier=envelope.verifier(customer.key) if customer is not None else "",
            is_whole=about != _OPEN,
            customer_md5=customer.md5 if customer is not None else "",
        )

    def for_upload(self) -> Encryption:
        """What an open multipart upload keeps."""
        return self.sealed(_OPEN)

    def for_parts(self, size: int, part_count: int) -> Encryption:
        """What an object of parts keeps."""
        return self.sealed(_whole(size, part_count, None))

    def for_object(self, stored: Stored) -> Encryption:
        """What an object in one blob keeps."""
        return self.sealed(_whole(stored.size, 0, stored.id))


def _bound(mode: str, master: str, key_id: str, context: str, about: About) -> About:
    return (mode, master, key_id, context, *about)


def _whole(size: int, part_count: int, blob: BlobId | None) -> About:
    return ("object", size, part_count, blob or "")


def _of_part(number: int, size: int, blob: BlobId | None) -> About:
    return ("part", number, size, blob or "")


def _of_annotation(name: str, size: int, blob: BlobId | None) -> About:
    return ("annotation", name, size, blob or "")


def _key_of(customer: CustomerKey | None) -> bytes:
    if customer is None:
        raise S3Error(
            Code.InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters must be "
            "provided to retrieve the object.",
        )
    return customer.key


# ---------------------------------------------------------------- keys of the keyring


def prepare(store: Store, wanted: Wanted | None, *, key: bytes | None = None) -> Envelope | None:
    """An envelope for an object; ``key`` is that of bytes which are sealed already. None for none.

    Raises KMS.NotFoundException, InternalError (no keyring that this installation knows).
    """
    if wanted is None:
        return None
    if wanted.mode == CUSTOMER:
        return Envelope(wanted, None, "", key or new_key())
    try:
        return _prepare(store, wanted, key or new_key())
    except KeyringError as error:
        raise _broken_keyring(error) from None


def _prepare(store: Store, wanted: Wanted, key: bytes) -> Envelope:
    ring = store.keyring
    if wanted.mode == KMS:
        name = _named(store, wanted.key_id)
        check_installation(store)
        is_alias = not wanted.key_id or wanted.key_id.rpartition(":")[2].startswith("alias/")
        return Envelope(wanted, ring.current(name), name if is_alias else wanted.key_id, key)
    check_installation(store)
    ring.ensure(SSE_S3)
    return Envelope(wanted, ring.current(SSE_S3), "", key)


def _named(store: Store, key_id: str) -> str:
    try:
        return store.keyring.resolve(key_id or f"alias/{DEFAULT_KMS}")
    except UnknownKeyError:
        name = key_id or DEFAULT_KMS
        raise S3Error(
            Code.KMS_NotFoundException,
            f"Key '{name[:256]}' does not exist: the keyring of this server has no such key. "
            f"Its operator makes one with `s3lite keyring add`."
            + ("" if key_id else f" It stands for {KMS} without a key id; naming a key works, too."),
        ) from None


def check_installation(store: Store) -> None:
    """Make sure that the keyring is the one that this installation's objects are sealed with.

    A lost file must not be replaced by a new one unnoticed, nor may two nodes have two. Raises KeyringError.
    """
    ring = store.keyring
    if ring.id and ring.id == ring.accepted_id:
        return
    with store.catalog.read() as tx:
        known = tx.setting(KEYRING_SETTING)
    if known is None:
        ring.ensure(SSE_S3)
        found = ring.id.encode()
        known = store.catalog.write(lambda tx: tx.setting(KEYRING_SETTING) or _put(tx.put_setting, found))
    if known.decode() != ring.id:
        raise KeyringError(
            f"{ring.path} is missing, or is not the keyring that this installation's objects are sealed with. "
            "Put back the right file, or accept this one with `s3lite keyring adopt`."
        )
    ring.accepted_id = ring.id


def _put(put_setting: Callable[[str, bytes], None], value: bytes) -> bytes:
    put_setting(KEYRING_SETTING, value)
    return value


def _broken_keyring(error: KeyringError) -> S3Error:
    log.error("keyring: %s", error)
    return S3Error(
        Code.InternalError,
        "The server's keyring cannot be used for this object. Ask the operator to run `s3lite keyring list`.",
    )


# ---------------------------------------------------------------- opening


def check_customer_key(encryption: Encryption | None, customer: CustomerKey | None) -> None:
    """Raise InvalidRequest unless a request brings the key that an object needs, and none if it needs none."""
    if encryption is None or encryption.mode != CUSTOMER:
        if customer is not None:
            raise S3Error(Code.InvalidRequest, "The encryption parameters are not applicable to this object.")
        return
    try:
        matches = envelope.is_verified(_key_of(customer), encryption.verifier)
    except TamperedError:
        raise _tampered() from None
    if not matches:
        raise S3Error(
            Code.InvalidRequest,
            "The provided encryption parameters did not match the ones used originally to encrypt the object.",
        )


def _open(store: Store, encryption: Encryption, customer: CustomerKey | None, about: About) -> bytes:
    """The object's key."""
    if encryption.mode == CUSTOMER:
        check_customer_key(encryption, customer)
        root = _key_of(customer)
    else:
        try:
            root = store.keyring.secret(encryption.master)
        except KeyringError as error:
            if encryption.mode == KMS and isinstance(error, UnknownKeyError):
                raise S3Error(
                    Code.KMS_NotFoundException,
                    f"The key {encryption.key_id} that this object is encrypted with is not in the keyring.",
                ) from None
            raise _broken_keyring(error) from None
    bound = _bound(encryption.mode, encryption.master, encryption.key_id, encryption.context, about)
    try:
        return envelope.open_sealed(root, encryption.sealed_key, about=bound)
    except TamperedError:
        raise _tampered() from None


def key_of_version(store: Store, version: ObjectVersion, customer: CustomerKey | None) -> bytes:
    """The key of an encrypted version: of its bytes, or of its parts' keys.

    Raises InvalidRequest (the customer's key), KMS.NotFoundException, InternalError.
    """
    encryption = version.encryption
    assert encryption is not None
    about = _whole(version.size, version.part_count, version.blob)
    if not encryption.is_whole:
        if encryption.mode != CUSTOMER:
            raise _tampered()  # nobody but a customer completes without the key
        about = _OPEN
    return _open(store, encryption, customer, about)


@dataclass(frozen=True, slots=True)
class PartEnvelope:
    """How one part is to be sealed, with its key and its upload's in clear."""

    upload_key: bytes = field(repr=False)
    key: bytes = field(repr=False)

    def sealed(self, number: int, size: int, blob: BlobId | None) -> str:
        """The part's key as its row keeps it; "" for an empty part."""
        if blob is None:
            return ""
        return envelope.seal(self.upload_key, self.key, about=_of_part(number, size, blob))


def prepare_append(object_key: bytes | None) -> PartEnvelope | None:
    """An envelope for what is added to an object whose key this is; None for a plain one."""
    return PartEnvelope(object_key, new_key()) if object_key is not None else None


def prepare_part(
    store: Store, upload: Upload, customer: CustomerKey | None, *, key: bytes | None = None
) -> PartEnvelope | None:
    """An envelope for a part; ``key`` is that of bytes which are sealed already. None for none.

    Raises as `key_of_version`.
    """
    if upload.encryption is None:
        return None
    return PartEnvelope(_open(store, upload.encryption, customer, _OPEN), key or new_key())


def key_of_part(object_key: bytes, part: Segment) -> bytes:
    """The key of a part's blob. Raises InternalError."""
    try:
        about = _of_part(part.part_number, part.size, part.blob)
        return envelope.open_sealed(object_key, part.sealed_key, about=about)
    except TamperedError:
        raise _tampered() from None


def seal_annotation(object_key: bytes, key: bytes, name: str, size: int, blob: BlobId | None) -> str:
    """An annotation's key as its row keeps it: under the object's, bound to what it opens."""
    return envelope.seal(object_key, key, about=_of_annotation(name, size, blob))


def key_of_annotation(object_key: bytes, annotation: Annotation) -> bytes:
    """The key of an annotation's blob. Raises InternalError."""
    try:
        about = _of_annotation(annotation.name, annotation.size, annotation.blob)
        return envelope.open_sealed(object_key, annotation.sealed_key, about=about)
    except TamperedError:
        raise _tampered() from None


def _tampered() -> S3Error:
    log.error("an encrypted object or its row is damaged, or was changed; `s3lite check --deep` names it")
    return S3Error(Code.InternalError, DAMAGED)


def opened(key: bytes, *, size: int, offset: int, length: int, read: segments.Reader) -> Iterator[bytes]:
    """`segments.open_range` that has opened its first bytes before it returns: what is wrong is an answer.

    Raises InternalError, now or while it is read.
    """

    def pieces() -> Iterator[bytes]:
        try:
            yield from segments.open_range(key, size=size, offset=offset, length=length, read=read)
        except TamperedError:
            raise _tampered() from None

    return primed(pieces())


def primed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, the first of which is there."""
    first = next(pieces, b"")

    def all_of_them() -> Iterator[bytes]:
        yield first
        yield from pieces

    return all_of_them()


# ---------------------------------------------------------------- the same bytes under another key


def shares_bytes(encryption: Encryption | None, other: Encryption | Wanted | None) -> bool:
    """Whether what is kept under one encryption can be kept under the other as it is.

    Not under a customer's key: whoever changes that key wants the old one to be good for nothing.
    """
    if encryption is None or other is None:
        return encryption is other
    return CUSTOMER not in (encryption.mode, other.mode)


def resealed(
    store: Store,
    version: ObjectVersion,
    wanted: Wanted | None = None,
    customer: CustomerKey | None = None,
) -> Encryption:
    """A version's encryption with its key sealed anew: as ``wanted``, else under today's generation.

    Raises as `key_of_version` and `prepare`.
    """
    key = key_of_version(store, version, customer)
    made = prepare(store, wanted or _as_before(version.encryption), key=key)
    assert made is not None
    return made.sealed(_whole(version.size, version.part_count, version.blob))


def resealed_upload(store: Store, upload: Upload) -> Encryption:
    """An open upload's encryption under today's generation of its key."""
    encryption = upload.encryption
    assert encryption is not None
    made = prepare(store, _as_before(encryption), key=_open(store, encryption, None, _OPEN))
    assert made is not None
    return made.for_upload()


def completed(
    store: Store, upload: Upload, *, size: int, part_count: int, customer: CustomerKey | None
) -> Encryption | None:
    """The encryption of the object that an upload becomes: its key bound to size and parts.

    A customer may complete without the key, if the upload has no checksum algorithm and the server does not
    answer as Ceph's does; it stays as it is then. Raises InvalidRequest (no key, another key).
    """
    encryption = upload.encryption
    wants_key = bool(upload.checksum_algorithm) or store.settings.compat.ceph
    if encryption is None or (encryption.mode == CUSTOMER and customer is None and not wants_key):
        return encryption
    key = _open(store, encryption, customer, _OPEN)
    if encryption.mode == CUSTOMER:
        made = Envelope(Wanted(CUSTOMER, customer_key=customer), None, "", key)
    else:
        made = _under_the_same(store, encryption, key)
    return made.for_parts(size, part_count)


def appended(store: Store, version: ObjectVersion, *, size: int, part_count: int) -> Encryption | None:
    """The encryption of an appendable version that grows: its key bound to the new size. Raises as `key_of_version`."""
    if version.encryption is None:
        return None
    key = key_of_version(store, version, None)
    return _under_the_same(store, version.encryption, key).for_parts(size, part_count)


def _under_the_same(store: Store, encryption: Encryption, key: bytes) -> Envelope:
    """An envelope under the very key, with its generation, of an encryption that was there before."""
    master = Master(encryption.master, store.keyring.secret(encryption.master))
    return Envelope(_as_before(encryption), master, encryption.key_id, key)


def _as_before(encryption: Encryption | None) -> Wanted:
    assert encryption is not None
    assert encryption.mode != CUSTOMER
    return Wanted(encryption.mode, encryption.key_id, encryption.context, encryption.bucket_key)
