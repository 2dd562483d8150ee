"""Fixtures for in-process tests: one application on a temporary directory, its users, its buckets."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from client import S3
from engines.servers import ENGINES

from s3lite import bootstrap
from s3lite.app import Application, create_app
from s3lite.callback.signing import CallbackKeys
from s3lite.model import AccessKey, Account
from s3lite.settings import (
    CallbackSettings,
    HttpSettings,
    LimitSettings,
    Settings,
    StorageSettings,
    SweepSettings,
)

pytest_plugins = ["s3lite.testing", "engines.fixtures", "leaks"]

ROOT_KEY, ROOT_SECRET = "root-key", "root-secret"


@pytest.fixture(autouse=True, scope="session")
def one_set_of_callback_keys() -> Iterator[None]:
    """Making an RSA key takes longer than most tests, and nothing here depends on which it is."""
    keys = CallbackKeys.generate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap.CallbackKeys, "generate", lambda: keys)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """The storage of ``--storage``, fixed root credential, no upkeep thread, callbacks to loopback allowed."""
    yield Settings(
        **ENGINES.storage(tmp_path / "data"),
        data_dir=str(tmp_path / "data"),
        access_key=ROOT_KEY,
        secret_key=ROOT_SECRET,
        durability="relaxed",
        callback=CallbackSettings(allow=("127.0.0.1",)),
        sweep=SweepSettings(enabled=False),
        http=HttpSettings(key_cache_s=0),
        limits=LimitSettings(part_min_bytes=1024),
        storage=StorageSettings(inline_bytes=4096, buffer_bytes=64 << 10, garbage_grace_s=0, reserve_bytes=0),
    )
    ENGINES.forget(tmp_path / "data")


@pytest.fixture
def app(settings: Settings) -> Iterator[Application]:
    application = create_app(settings)
    yield application
    application.close()


def add_user(app: Application, name: str) -> S3:
    """A further account with one key, and a client for it."""
    account = Account(name, f"{name} display", f"{name}@example.com")
    key = AccessKey(f"{name}-key", f"{name}-secret", account)

    def work(tx):
        tx.put_account(account)
        tx.put_access_key(key)

    app.services.store.catalog.write(work)
    return S3(app, key.access_key, key.secret_key)


def add_key(client: S3, policy: str = "", **more: object) -> S3:
    """A further key of a client's user, with a policy, and a client for it."""
    catalog = client.wsgi.services.store.catalog
    name = f"key-{uuid.uuid4().hex}"

    def work(tx):
        account = tx.access_key(client.credentials.access_key).account
        tx.put_access_key(AccessKey(name, "further-secret", account, policy=policy, **more))

    catalog.write(work)
    return S3(client.wsgi, name, "further-secret")


@pytest.fixture
def root(app: Application) -> S3:
    """The operator."""
    return S3(app, ROOT_KEY, ROOT_SECRET)


@pytest.fixture
def s3(app: Application) -> S3:
    """An ordinary user with an empty bucket named ``bucket``."""
    client = add_user(app, "alice")
    assert client.put("/bucket").status == 200
    return client


@pytest.fixture
def other(app: Application) -> S3:
    """Another ordinary user, without buckets."""
    return add_user(app, "bob")


@pytest.fixture
def anonymous(app: Application) -> S3:
    return S3(app, None)
