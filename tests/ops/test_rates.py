"""Request rates as clients meet them, whatever way they sign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import forms
import pytest
from client import S3
from conftest import add_key, add_user

from s3lite.app import Application, create_app
from s3lite.model import Rate
from s3lite.settings import Settings

SLOW = Rate(0.01, 2)


def test_too_many_requests_are_told_to_slow_down(s3: S3) -> None:
    slow = add_key(s3, rate=SLOW)
    assert [slow.put("/bucket/a", b"x").status for _ in range(3)] == [200, 200, 503]
    answer = slow.get("/bucket/a")
    assert (answer.code, answer.headers["Retry-After"]) == ("SlowDown", "100")
    assert s3.get("/bucket/a").status == 200  # another key of the same account


def test_sessions_count_for_their_key(s3: S3) -> None:
    slow = add_key(s3, rate=SLOW)
    session = slow.assume()
    assert [session.get("/").status for _ in range(2)] == [200, 503]
    answer = slow.sts(Action="GetCallerIdentity")
    assert (answer.status, answer.text("Error/Code")) == (400, "Throttling")


def test_forms_and_presigned_urls_count(s3: S3) -> None:
    slow = add_key(s3, rate=SLOW)
    conditions = [{"bucket": "bucket"}, {"key": "form"}]
    fields = {"key": "form"} | forms.v4_fields(slow.credentials.access_key, "further-secret", conditions)
    data, kind = forms.body(list(fields.items())), {"Content-Type": forms.CONTENT_TYPE}
    statuses = [slow.request("POST", "/bucket", data, kind, signer="none").status for _ in range(3)]
    assert statuses == [204, 204, 503]
    assert slow.open("GET", slow.presign("GET", "/bucket/form")).status == 503


def test_who_has_no_valid_signature_uses_up_nobodys_rate(s3: S3) -> None:
    slow = add_key(s3, rate=SLOW)
    forger = S3(s3.wsgi, slow.credentials.access_key, "wrong")
    assert {forger.get("/").status for _ in range(5)} == {403}
    assert slow.get("/").status == 200


def test_bytes_both_ways_are_charged(s3: S3) -> None:
    s3.put("/bucket/a", b"x" * 3000)
    for ask in (lambda k: k.get("/bucket/a"), lambda k: k.put("/bucket/b", b"x" * 3000)):
        slow = add_key(s3, rate=Rate(bytes_per_s=1000))
        assert ask(slow).status == 200
        assert slow.get("/").code == "SlowDown"


@pytest.fixture
def hurried(settings: Settings) -> Iterator[Application]:
    limits = replace(settings.limits, key_requests_per_s=0.01, key_burst=3)
    app = create_app(replace(settings, limits=limits))
    yield app
    app.close()


def test_the_settings_have_a_rate_for_every_key(hurried: Application) -> None:
    alice, bob = add_user(hurried, "alice"), add_user(hurried, "bob")
    assert [alice.get("/").status for _ in range(4)] == [200, 200, 200, 503]
    assert bob.get("/").status == 200
    assert {add_key(bob, rate=Rate()).get("/").status for _ in range(9)} == {200}
