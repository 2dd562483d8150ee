"""Start: open the storage, bring its schema up to date, and make what a first start needs.

Safe to run in many processes at once: what is generated is stored in one transaction, and whoever
comes second finds it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from s3lite.auth.acl import canned_acl
from s3lite.blobs.base import BlobStore
from s3lite.blobs.open import open_blobs
from s3lite.blobs.reserve import Reserve
from s3lite.callback.signing import CallbackKeys, new_webhook_secret
from s3lite.catalog.base import Catalog, CatalogBusyError, Tx
from s3lite.catalog.open import open_catalog
from s3lite.catalog.schema import SchemaError
from s3lite.catalog.secrets import SecretsError
from s3lite.crypto.keyring import Keyring
from s3lite.ids import Ids
from s3lite.model import AccessKey, Account
from s3lite.names import is_valid_bucket_name
from s3lite.settings import Settings, SettingsError
from s3lite.times import Clock, rfc3339

CANNOT_START = (SettingsError, SchemaError, SecretsError, CatalogBusyError, OSError)
"""What `prepare` raises for reasons outside of the program; the messages say which."""

log = logging.getLogger("s3lite")

ROOT_ID = "root"
CREDENTIALS_FILE = "root-credentials.json"
_ROOT_KEY_SETTING = "root-access-key"
_CALLBACK_KEYS_SETTING = "callback-keys"


@dataclass(frozen=True, slots=True)
class Storage:
    """What `prepare` opened, and the root credential in force. ``is_new`` is true where it was just generated."""

    catalog: Catalog
    blobs: BlobStore
    callback_keys: CallbackKeys
    keyring: Keyring
    reserve: Reserve
    root: AccessKey
    is_new: bool


def prepare(settings: Settings, *, clock: Clock, ids: Ids) -> Storage:
    """Open and set up the storage that the settings name. Raises SettingsError, OSError."""
    faulty = [name for name in settings.buckets if not is_valid_bucket_name(name)]
    if faulty:
        raise SettingsError(
            f"s3lite cannot start with these settings:\n  buckets: not valid: {', '.join(faulty)}"
        )
    Path(settings.data_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    reserve = Reserve(
        _index_directory(settings),
        settings.storage.reserve_bytes,
        clock=clock,
        blobs_elsewhere=bool(settings.blobs_url),
    )
    try:
        return _open(settings, reserve, clock, ids)
    except OSError as error:
        if error.errno != errno.ENOSPC or not reserve.release():
            raise
    return _open(settings, reserve, clock, ids)


def _index_directory(settings: Settings) -> Path | None:
    """Where the index lies, if that is a disk of ours to look after."""
    scheme, _, path = settings.index_url.partition(":///")
    return Path(path).absolute().parent if scheme == "sqlite" and path != ":memory:" else None


def _open(settings: Settings, reserve: Reserve, clock: Clock, ids: Ids) -> Storage:
    with ExitStack() as opened:
        catalog, blobs = open_storage(settings, clock=clock)
        opened.callback(catalog.close)
        opened.callback(blobs.close)
        try:
            reserve.ensure()
        except OSError as error:
            log.warning("no room for storage.reserve_bytes, uploads are refused: %s", error)
        root, is_new = _root(settings, catalog, clock, ids)
        keyring = Keyring(settings.keyring_file, now=lambda: rfc3339(clock.time()))
        storage = Storage(catalog, blobs, _callback_keys(catalog), keyring, reserve, root, is_new)
        opened.pop_all()
    return storage


def open_storage(settings: Settings, *, clock: Clock) -> tuple[Catalog, BlobStore]:
    """Index and bytes that the settings name, with their schema and nothing in them. Raises `CANNOT_START`."""
    with ExitStack() as opened:
        catalog = open_catalog(settings, clock)
        opened.callback(catalog.close)
        blobs = open_blobs(settings)
        opened.callback(blobs.close)
        catalog.migrate()
        opened.pop_all()
    return catalog, blobs


def open_copy(settings: Settings, path: Path, *, clock: Clock) -> Catalog:
    """A snapshot of the index, in a file of its own, opened with the same keys."""
    return open_catalog(replace(settings, database_url=f"sqlite:///{path.absolute()}"), clock)


def is_installed(settings: Settings) -> bool:
    """True when the storage has been used from here before: the key file is the first thing made."""
    return settings.secrets_file.is_file()


def own_listeners(settings: Settings) -> tuple[tuple[str, int], ...]:
    """Addresses that callbacks must not reach because s3lite itself listens there."""
    host, _, port = settings.bind.rpartition(":")
    return ((host.strip("[]"), int(port)),)


def _root(settings: Settings, catalog: Catalog, clock: Clock, ids: Ids) -> tuple[AccessKey, bool]:
    """The root account and its credential: as configured, else as generated at the first start."""
    with catalog.read() as tx:
        known = tx.setting(_ROOT_KEY_SETTING)
        root = tx.access_key(known.decode()) if known else None
        missing = [name for name in settings.buckets if tx.bucket(name) is None]
    wanted = (settings.access_key, settings.secret_key)
    if root is not None and not missing and (not wanted[0] or wanted == (root.access_key, root.secret_key)):
        return root, False
    generated = (ids.access_key(), ids.secret_key())
    now_ms = clock.time_ms()

    def work(tx: Tx) -> tuple[AccessKey, bool]:
        account = Account(ROOT_ID, "root", is_root=True, created_ms=now_ms)
        known = tx.setting(_ROOT_KEY_SETTING)
        current = tx.access_key(known.decode()) if known else None
        if current is None or (wanted[0] and wanted != (current.access_key, current.secret_key)):
            if current is not None:
                tx.remove_access_key(current.access_key)
            tx.put_account(account)
            access, secret = wanted if wanted[0] else generated
            key = AccessKey(access, secret, account, webhook_secret=new_webhook_secret(), created_ms=now_ms)
            tx.put_access_key(key)
            tx.put_setting(_ROOT_KEY_SETTING, access.encode())
        else:
            key = current
        for name in settings.buckets:
            tx.create_bucket(
                name=name,
                owner_id=ROOT_ID,
                region=settings.region,
                acl=canned_acl("private", owner_id=ROOT_ID, bucket_owner_id=ROOT_ID),
                created_ms=now_ms,
            )
        return key, key.access_key == generated[0]

    key, is_new = catalog.write(work)
    if is_new:
        _write_credentials(Path(settings.data_dir) / CREDENTIALS_FILE, key)
    return key, is_new


def _write_credentials(path: Path, key: AccessKey) -> None:
    """Keep a generated credential where its operator finds it again, for their eyes only."""
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"access_key": key.access_key, "secret_key": key.secret_key}, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def installation_key(catalog: Catalog, name: str) -> bytes:
    """32 random bytes that all processes of an installation share, made when first asked for."""
    fresh = os.urandom(32)

    def work(tx: Tx) -> bytes:
        stored = tx.setting(name)
        if stored is None:
            tx.put_setting(name, fresh)
        return stored or fresh

    with catalog.read() as tx:
        return tx.setting(name) or catalog.write(work)


def _callback_keys(catalog: Catalog) -> CallbackKeys:
    with catalog.read() as tx:
        stored = tx.setting(_CALLBACK_KEYS_SETTING)
    if stored is not None:
        return CallbackKeys.from_bytes(stored)
    fresh = CallbackKeys.generate().to_bytes()

    def work(tx: Tx) -> bytes:
        stored = tx.setting(_CALLBACK_KEYS_SETTING)
        if stored is None:
            tx.put_setting(_CALLBACK_KEYS_SETTING, fresh)
        return stored or fresh

    return CallbackKeys.from_bytes(catalog.write(work))
