"""The examples of docs/embedding.md, each host with boto3 and with its own users."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import django
import pytest
import requests
from django.conf import settings as django_settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.test import override_settings

from s3lite.model import Account
from s3lite.settings import Settings
from s3lite.testing import ACCESS_KEY, SECRET_KEY, throw_away_settings

from .conftest import ROOT
from .test_embedding import serving

HOSTS = ("bare", "flask", "django", "pyramid")


@pytest.fixture(autouse=True)
def django_project() -> Iterator[None]:
    """The least of a Django project: sessions without a database."""
    if not django_settings.configured:
        django_settings.configure(SECRET_KEY="x" * 50, ROOT_URLCONF="django.contrib.staticfiles.urls")
        django.setup()
    engine = "django.contrib.sessions.backends.signed_cookies"
    with override_settings(SESSION_ENGINE=engine, SECRET_KEY="x" * 50, ALLOWED_HOSTS=["*"]):
        yield


@pytest.fixture
def settings(tmp_path) -> Settings:
    return throw_away_settings(tmp_path / "data")


def example(host: str, settings: Settings) -> Any:
    """examples/embed_HOST.py, freshly made."""
    if str(ROOT / "examples") not in sys.path:
        sys.path.insert(0, str(ROOT / "examples"))
    return importlib.import_module(f"embed_{host}").make_app(settings)


def client(base: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"{base}/storage",
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


@pytest.mark.parametrize("host", HOSTS)
def test_boto3_works_under_the_hosts_prefix(host: str, settings: Settings) -> None:
    with serving(example(host, settings)) as base:
        s3 = client(base)
        s3.create_bucket(Bucket="photos")
        s3.put_object(Bucket="photos", Key="a b/ü+.txt", Body=b"data")
        assert s3.get_object(Bucket="photos", Key="a b/ü+.txt")["Body"].read() == b"data"
        assert [row["Key"] for row in s3.list_objects_v2(Bucket="photos")["Contents"]] == ["a b/ü+.txt"]


def uploads_of_a_user(base: str) -> Any:
    """Carol signs in at the host, then stores without a signature; nobody else may. Returns the session."""
    session = requests.Session()
    assert session.put(f"{base}/storage/carols", timeout=10).status_code == 403
    session.post(f"{base}/login", data={"user": "carol"}, timeout=10).raise_for_status()
    assert session.put(f"{base}/storage/carols", timeout=10).status_code == 200
    assert session.put(f"{base}/storage/carols/k", b"data", timeout=10).status_code == 200
    assert requests.put(f"{base}/storage/carols/k", b"other", timeout=10).status_code == 403
    forged = {"Sec-Fetch-Site": "cross-site"}
    assert session.put(f"{base}/storage/carols/k", b"other", headers=forged, timeout=10).status_code == 403
    assert session.get(f"{base}/storage/carols/k", timeout=10).content == b"data"
    return session


def test_flask_knows_its_users_and_hears_of_uploads(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_SECRET_KEY", "a secret of the test")
    with serving(example("flask", settings)) as base:
        session = uploads_of_a_user(base)
        told = session.get(f"{base}/uploads", timeout=10).json()
        assert told == [{"key": "k", "size": 4, "by": "carol"}]


def test_pyramid_knows_its_users_and_hears_of_uploads(settings: Settings) -> None:
    with serving(example("pyramid", settings)) as base:
        assert uploads_of_a_user(base).get(f"{base}/", timeout=10).json() == ["k"]


def test_the_bare_hosts_users_keep_to_their_keys_and_sizes(settings: Settings) -> None:
    alice = {"X-User": "alice"}
    with serving(example("bare", settings)) as base:
        assert requests.put(f"{base}/storage/alices", headers=alice, timeout=10).status_code == 200
        for key, size, status in (("alice/1", 10, 200), ("bob/1", 10, 403), ("alice/2", 2_000_000, 400)):
            answer = requests.put(f"{base}/storage/alices/{key}", b"x" * size, headers=alice, timeout=10)
            assert answer.status_code == status, answer.text
        assert requests.get(f"{base}/", timeout=10).text == "1 uploads\n"


def test_djangos_users_need_no_signature_and_a_signal_tells_of_uploads(settings: Settings) -> None:
    app = example("django", settings)
    told: list[tuple[str, int, str]] = []

    def hear(event: Any, **_: object) -> None:
        told.append((event["key"], event["size"], event["account_id"]))

    importlib.import_module("embed_django").uploaded.connect(hear)
    storage = app.mounts["/storage"]
    storage.services.store.catalog.write(lambda tx: tx.put_account(Account("7", "Seven")))
    session = SessionStore()
    session[SESSION_KEY] = "7"
    session.save()
    cookies = {django_settings.SESSION_COOKIE_NAME: session.session_key}
    with serving(app) as base:
        url = f"{base}/storage/sevens"
        assert requests.put(url, cookies=cookies, timeout=10).status_code == 200
        assert requests.put(url + "/k", b"data", cookies=cookies, timeout=10).status_code == 200
        assert requests.put(url + "/k", b"data", timeout=10).status_code == 403
    assert told == [("k", 4, "7")]
