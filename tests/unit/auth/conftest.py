"""botocore signs at the time that the tests' clock shows."""

from __future__ import annotations

import datetime
import email.utils

import botocore.auth
import pytest
from unit.auth import authkit


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.datetime.fromtimestamp(authkit.NOW, datetime.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_a, **_k: now)
    monkeypatch.setattr(
        botocore.auth, "formatdate", lambda *_a, **k: email.utils.formatdate(authkit.NOW, **k)
    )

    class Time:
        time = staticmethod(lambda: authkit.NOW)

    monkeypatch.setattr(botocore.auth, "time", Time)
