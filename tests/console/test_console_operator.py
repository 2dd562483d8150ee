"""The operator's pages: users and keys, deliveries, health; and that others do not see them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from client import S3
from conftest import ROOT_KEY, ROOT_SECRET
from ops.test_callbacks import headers

from s3lite.app import Application, create_app
from s3lite.callback.listen import Answer, Receiver
from s3lite.core.courier import Courier
from s3lite.settings import MetricsSettings, Settings

from .test_console import Visitor


@pytest.fixture
def root_visitor(app: Application) -> Visitor:
    return Visitor(app, ROOT_KEY, ROOT_SECRET)


@pytest.fixture
def alice(app: Application, s3: S3) -> Visitor:
    return Visitor(app)


# ---------------------------------------------------------------- users


def test_a_user_is_added_with_a_key_that_works(root_visitor: Visitor, app: Application) -> None:
    page = root_visitor.post(
        "users", do="add-user", id="carol", display_name="Carol", email="carol@example.com"
    )
    access_key, secret_key = (pre.text for pre in page.html.find_all("pre"))
    assert S3(app, access_key, secret_key).put("/carols").status == 200
    assert secret_key not in root_visitor.get("users").text


def test_faults_are_told(root_visitor: Visitor, alice: Visitor) -> None:
    assert "exists" in root_visitor.post("users", do="add-user", id="alice").text
    assert "user id has up to" in root_visitor.post("users", do="add-user", id="a b").text
    assert "owns buckets" in root_visitor.post("users", do="remove-user", user="alice").text


def test_a_key_is_disabled_and_enabled(root_visitor: Visitor, s3: S3) -> None:
    root_visitor.post("users", do="switch-key", access_key="alice-key")
    assert s3.get("/bucket").code == "InvalidAccessKeyId"
    root_visitor.post("users", do="switch-key", access_key="alice-key")
    assert s3.get("/bucket").status == 200


def test_the_operators_own_key_stays(root_visitor: Visitor) -> None:
    page = root_visitor.post("users", do="remove-key", access_key=ROOT_KEY)
    assert "not here" in page.html.find(role="alert").text
    assert root_visitor.get("users").status_int == 200


@pytest.mark.parametrize("path", ["users", "health"])
def test_others_do_not_see_the_operators_pages(alice: Visitor, path: str) -> None:
    assert alice.get(path).status_int == 404
    assert f'href="/.s3lite/console/{path}"' not in alice.get("buckets").text


def test_others_cannot_do_what_the_operator_may(alice: Visitor, app: Application) -> None:
    assert alice.post("users", do="add-user", id="mallory").status_int == 404
    with app.services.store.catalog.read() as tx:
        assert tx.account("mallory") is None


def test_a_root_key_with_a_policy_is_no_operator(app: Application) -> None:
    policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'

    def narrow(tx) -> None:
        key = tx.access_key(ROOT_KEY)
        tx.put_access_key(replace(key, access_key="narrow", policy=policy))

    app.services.store.catalog.write(narrow)
    assert Visitor(app, "narrow", ROOT_SECRET).get("users").status_int == 404


# ---------------------------------------------------------------- deliveries


def test_deliveries_show_outcomes_and_durations(app: Application, s3: S3, root_visitor: Visitor) -> None:
    with Receiver() as receiver:
        s3.put("/bucket/good", b"this is content", headers(receiver.url("/hook")))
        receiver.default = Answer(status=500)
        s3.put("/bucket/bad", b"this is content", headers(receiver.url("/hook")))
    _write_log(app)
    page = root_visitor.get("deliveries")
    badges = [badge.text for badge in page.html.find_all(class_="badge")]
    assert sorted(badges) == ["delivered", "failed"]
    assert "Error status : 500." in page.text
    assert page.html.find("svg", role="img")
    one = root_visitor.web.get(page.html.find("td").find_next("a")["href"])
    assert "/hook" in one.text


def test_others_see_the_deliveries_of_their_buckets_only(
    app: Application, s3: S3, other: S3, alice: Visitor
) -> None:
    with Receiver() as receiver:
        s3.put("/bucket/key", b"this is content", headers(receiver.url("/hook")))
    _write_log(app)
    assert "bucket/key" in alice.get("deliveries?bucket=bucket").text
    bob = Visitor(app, "bob-key", "bob-secret")
    page = bob.get("deliveries?bucket=bucket")
    assert "not yours" in page.html.find(role="alert").text
    assert "bucket/key" not in page.text


def test_a_message_in_the_outbox_is_sent_again(app: Application, s3: S3, root_visitor: Visitor) -> None:
    with Receiver(default=Answer(status=500)) as receiver:  # so that it stays in the outbox
        sent = s3.put("/bucket/key", b"this is content", headers(receiver.url(), callbackMode="async"))
        message_id = sent.headers["x-s3lite-callback-id"]
        assert "my_var=value1" in root_visitor.get(f"delivery/{message_id}").html.find("pre").text
        assert "being sent again" in root_visitor.post("retry", id=message_id).text
    assert "Nothing is kept" in root_visitor.post("retry", id="msg_unknown").text


def _write_log(app: Application) -> None:
    """Have what this process holds of the delivery log written down."""
    Courier(app.services.store, app.services.carriers).step()


# ---------------------------------------------------------------- health


def test_health_shows_what_is_stored(app: Application, s3: S3, root_visitor: Visitor) -> None:
    s3.put("/bucket/key", b"x" * 2048)
    page = root_visitor.get("health")
    assert "1, 2.0 KiB" in page.text
    assert len(page.html.find_all("figure")) == 9


def test_figures_are_running_totals(root_visitor: Visitor, alice: Visitor) -> None:
    first = root_visitor.call("figures").json
    second = root_visitor.call("figures").json
    assert second["requests"] > first["requests"]
    assert alice.call("figures").status_int == 400


def test_without_metrics_the_plots_say_so(settings: Settings) -> None:
    app = create_app(replace(settings, metrics=MetricsSettings(enabled=False)))
    assert "metrics.enabled" in Visitor(app, ROOT_KEY, ROOT_SECRET).call("figures").json["problem"]
    app.close()


# ---------------------------------------------------------------- quotas


def test_a_bucket_gets_a_quota(root_visitor: Visitor, s3: S3) -> None:
    s3.put("/bucket/a", b"12345")
    page = root_visitor.post("settings", bucket="bucket", tab="quota", max_bytes="1KiB", max_objects="2")
    assert "Quota saved." in page.text
    assert "Holds 5 B in 1 objects." in page.text
    assert page.html.find("input", {"name": "max_bytes"})["value"] == "1024"
    assert s3.put("/bucket/b", b"x" * 1024).code == "QuotaExceeded"
    assert "Quota removed." in root_visitor.post("settings", bucket="bucket", tab="quota").text
    assert s3.put("/bucket/b", b"x" * 1024).status == 200


@pytest.mark.parametrize(("name", "text"), [("max_bytes", "ten"), ("max_objects", "1.5")])
def test_a_quota_that_is_none_is_explained(root_visitor: Visitor, s3: S3, name: str, text: str) -> None:
    page = root_visitor.post("settings", bucket="bucket", tab="quota", **{name: text})
    assert "The quota is unchanged: " in page.html.find(role="alert").text


def test_quotas_are_the_operators(alice: Visitor) -> None:
    assert "Quota" not in alice.get("settings/bucket").text
    page = alice.post("settings", bucket="bucket", tab="quota", max_bytes="1")
    assert "operator" in page.html.find(role="alert").text
