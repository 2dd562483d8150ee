"""Fixtures of the tests of operations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from client import S3

from s3lite.app import Application
from s3lite.callback.listen import Receiver
from s3lite.callback.signing import new_webhook_secret
from s3lite.model import AccessKey


@pytest.fixture
def receiver(app: Application, s3: S3) -> Iterator[Receiver]:
    """Knows the webhook secret of alice's key."""
    secret = new_webhook_secret()

    def work(tx):
        key = tx.access_key("alice-key")
        tx.put_access_key(
            AccessKey(
                key.access_key, key.secret_key, key.account, webhook_secret=secret, created_ms=key.created_ms
            )
        )

    app.services.store.catalog.write(work)
    with Receiver(secrets=[secret], oss_pem=app.services.callback_keys.public_pem()) as listening:
        yield listening
