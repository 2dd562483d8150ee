"""Signatures, as a client meets them: what is wrong is refused, by name, and nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from client import S3

from s3lite.app import Application, create_app
from s3lite.settings import Settings
from s3lite.times import Clock


class Shifted(Clock):
    """A clock that is off."""

    offset_s = 0.0

    def time(self) -> float:
        return time.time() + self.offset_s


@pytest.fixture
def shifted(settings: Settings) -> Iterator[tuple[Application, Shifted]]:
    clock = Shifted()
    app = create_app(settings, clock=clock)
    S3(app, "root-key", "root-secret").put("/bucket")
    yield app, clock
    app.close()


@pytest.mark.parametrize("signer", ["v2", "v4"])
def test_wrong_secrets_and_unknown_keys(s3: S3, app: Application, signer: str) -> None:
    wrong = S3(app, "alice-key", "guess").request("PUT", "/bucket/key", b"x", signer=signer)
    assert (wrong.status, wrong.code) == (403, "SignatureDoesNotMatch")
    assert wrong.text("StringToSign")
    assert b"guess" not in wrong.body
    assert b"alice-secret" not in wrong.body
    unknown = S3(app, "nobody", "guess").request("PUT", "/bucket/key", b"x", signer=signer)
    assert (unknown.status, unknown.code) == (403, "InvalidAccessKeyId")
    assert s3.head("/bucket/key").status == 404


@pytest.mark.parametrize("offset_s", [-1000.0, 1000.0], ids=["future", "past"])
@pytest.mark.parametrize("signer", ["v2", "v4"])
def test_skewed_clocks(shifted: tuple[Application, Shifted], offset_s: float, signer: str) -> None:
    app, clock = shifted
    s3 = S3(app, "root-key", "root-secret")
    clock.offset_s = offset_s
    answer = s3.request("PUT", "/bucket/key", b"x", signer=signer)
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")
    clock.offset_s = offset_s * 0.8
    assert s3.request("PUT", "/bucket/key", b"x", signer=signer).status == 200


def test_presigned_urls_expire_and_are_not_valid_before_their_time(
    shifted: tuple[Application, Shifted],
) -> None:
    app, clock = shifted
    s3 = S3(app, "root-key", "root-secret")
    s3.put("/bucket/key", b"x")
    raw = s3.presign("GET", "/bucket/key", expires=60)
    assert s3.open("GET", raw).body == b"x"
    clock.offset_s = 61
    assert s3.open("GET", raw).code == "AccessDenied"
    clock.offset_s = -1000
    assert s3.open("GET", raw).code == "AccessDenied"


@pytest.mark.parametrize("change", ["method", "key", "query", "header", "host"])
def test_a_presigned_url_is_good_for_one_thing(s3: S3, app: Application, change: str) -> None:
    s3.put("/bucket/key", b"x")
    raw = s3.presign("GET", "/bucket/key")
    assert s3.open("GET", raw).status == 200
    client, method, headers = s3, "GET", {}
    match change:
        case "method":
            method = "DELETE"
        case "key":
            raw = raw.replace("/key?", "/other?")
        case "query":
            raw += "&acl"
        case "header":
            headers = {"x-amz-meta-a": "1"}
        case "host":
            client = S3(app, None, host="elsewhere.test")
    assert client.open(method, raw, headers=headers).status == 403
    assert s3.get("/bucket/key").body == b"x"


def test_a_removed_key_is_refused(s3: S3, app: Application) -> None:
    app.services.store.catalog.write(lambda tx: tx.remove_access_key("alice-key"))
    assert s3.get("/bucket").code == "InvalidAccessKeyId"


def test_a_key_is_remembered_for_as_long_as_the_setting_says(settings: Settings) -> None:
    class Still(Clock):
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Still()
    app = create_app(replace(settings, http=replace(settings.http, key_cache_s=5.0)), clock=clock)
    s3 = S3(app, "root-key", "root-secret")
    assert s3.put("/bucket").status == 200
    app.services.store.catalog.write(lambda tx: tx.remove_access_key("root-key"))
    clock.now += 4.9
    assert s3.head("/bucket").status == 200
    clock.now += 0.2
    assert s3.get("/bucket").code == "InvalidAccessKeyId"
    app.close()
