"""The console over WSGI, as a browser without script sees it: who gets in, what the pages hold, what they refuse."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from urllib.parse import quote

import pytest
from client import S3
from conftest import add_user
from webtest import TestApp, TestResponse

from s3lite.app import Application, create_app
from s3lite.callback.listen import Receiver
from s3lite.console.documents import DOCUMENTS, Document
from s3lite.settings import ConsoleSettings, NotificationSettings, Settings
from s3lite.times import Clock

ROOT = "/.s3lite/console/"


class Visitor:
    """A browser of one user."""

    def __init__(
        self, app: Application, access_key: str = "alice-key", secret_key: str = "alice-secret"
    ) -> None:
        self.web = TestApp(app, lint=True, extra_environ={"HTTP_HOST": "s3.test", "REMOTE_ADDR": "192.0.2.7"})
        self.signed_in = self.web.post(
            ROOT + "sign-in", {"access_key": access_key, "secret_key": secret_key}, expect_errors=True
        )

    def get(self, path: str) -> TestResponse:
        return self.web.get(ROOT + path, expect_errors=True)

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("buckets").text)
        assert found
        return found[1]

    def post(self, path: str, **fields: str) -> TestResponse:
        """Post a form, follow the redirect."""
        answer = self.web.post(ROOT + path, {"csrf": self.csrf} | fields, expect_errors=True)
        return answer.follow() if answer.status_int == 303 else answer

    def call(self, name: str, **document: object) -> TestResponse:
        headers = {"X-CSRF": self.csrf, "Content-Type": "application/json"}
        return self.web.post(ROOT + "api/" + name, json.dumps(document), headers=headers, expect_errors=True)


@pytest.fixture
def alice(app: Application, s3: S3) -> Visitor:
    return Visitor(app)


# ---------------------------------------------------------------- getting in


def test_pages_are_closed_to_strangers(app: Application, s3: S3) -> None:
    web = TestApp(app)
    answer = web.get(ROOT + "b/bucket", expect_errors=True)
    assert answer.status_int == 401
    assert 'name="secret_key"' in answer.text


def test_a_wrong_secret_does_not_sign_in(app: Application, s3: S3) -> None:
    stranger = Visitor(app, secret_key="wrong")
    assert stranger.signed_in.status_int == 403
    assert "Set-Cookie" not in stranger.signed_in.headers
    assert stranger.get("buckets").status_int == 401


def test_the_cookie_is_for_this_path_and_no_script(alice: Visitor) -> None:
    cookie = alice.signed_in.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert f"Path={ROOT};" in cookie
    assert "alice-secret" not in cookie


def test_a_changed_cookie_is_worth_nothing(alice: Visitor) -> None:
    value = alice.web.cookies["s3lite-console"]
    first, _, rest = value.partition(".")
    alice.web.set_cookie("s3lite-console", f"{first}.9{rest}")
    assert alice.get("buckets").status_int == 401


def test_a_session_ends_with_its_key(app: Application, alice: Visitor) -> None:
    app.services.store.catalog.write(lambda tx: tx.remove_access_key("alice-key"))
    assert alice.get("buckets").status_int == 401


def test_a_sign_in_ends_in_time(app: Application, alice: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    lifetime_s = app.services.settings.console.session_s
    for passed_s, status in ((lifetime_s - 5, 200), (lifetime_s + 5, 401)):
        with monkeypatch.context() as patch:
            patch.setattr(Clock, "time", lambda self, real=Clock.time, ahead=passed_s: real(self) + ahead)
            assert alice.get("buckets").status_int == status


def test_guessing_is_slowed_down(app: Application, s3: S3) -> None:
    for _ in range(10):
        assert Visitor(app, secret_key="wrong").signed_in.status_int == 403
    answer = Visitor(app).signed_in
    assert answer.status_int == 429
    assert "Wait a minute" in answer.text


def test_sign_out_forgets_the_cookie(alice: Visitor) -> None:
    alice.web.post(ROOT + "sign-out", {"csrf": alice.csrf})
    assert alice.get("buckets").status_int == 401


# ---------------------------------------------------------------- forms of other pages


def test_a_form_without_the_token_is_refused(alice: Visitor, s3: S3) -> None:
    answer = alice.web.post(ROOT + "delete-bucket", {"bucket": "bucket"}, expect_errors=True)
    assert answer.status_int == 403
    assert s3.head("/bucket").status == 200


@pytest.mark.parametrize("header", [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")])
def test_a_form_of_another_site_is_refused(alice: Visitor, header: tuple[str, str]) -> None:
    fields = {"csrf": alice.csrf, "name": "made"}
    answer = alice.web.post(ROOT + "buckets", fields, headers=[header], expect_errors=True)
    assert answer.status_int == 403


def test_pages_allow_no_inline_script_and_no_frame(alice: Visitor) -> None:
    page = alice.get("buckets")
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script>" not in page.text
    assert " style=" not in page.text
    assert " onclick" not in page.text


def test_stored_pages_get_an_origin_of_their_own(s3: S3) -> None:
    s3.put("/bucket/page.html", b"<script>1</script>", {"Content-Type": "text/html"})
    assert "sandbox" in s3.get("/bucket/page.html").headers["Content-Security-Policy"]
    s3.put("/bucket/photo.png", b"x", {"Content-Type": "image/png"})
    assert "Content-Security-Policy" not in s3.get("/bucket/photo.png").headers


def test_the_console_can_be_switched_off(settings: Settings) -> None:
    app = create_app(replace(settings, console=ConsoleSettings(enabled=False)))
    assert TestApp(app).get(ROOT, expect_errors=True).status_int == 404
    app.close()


# ---------------------------------------------------------------- buckets and objects


def test_a_bucket_is_made_and_removed(alice: Visitor, s3: S3) -> None:
    assert "Made holiday." in alice.post("buckets", name="holiday").text
    assert s3.head("/holiday").status == 200
    assert "Removed holiday." in alice.post("delete-bucket", bucket="holiday").text


def test_faults_are_told_in_the_servers_words(alice: Visitor, s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert (
        "The bucket that you tried to delete is not empty."
        in alice.post("delete-bucket", bucket="bucket").text
    )


def test_folders_pages_and_names_that_need_escaping(alice: Visitor, s3: S3) -> None:
    for key in ("a/1", "a/2", "<b>&\"'.txt", "ü ?#%.txt"):
        s3.request("PUT", "/bucket/x", b"x", raw_path="/bucket/" + quote(key))
    page = alice.get("b/bucket")
    assert "<b>&" not in page.text
    assert page.html.find("a", string="a/")
    links = [link["href"] for link in page.html.find_all("a", class_="file")]
    assert [alice.web.get(link).status_int for link in links] == [200, 200]


def test_a_long_bucket_is_shown_page_by_page(alice: Visitor, s3: S3) -> None:
    for number in range(101):
        s3.put(f"/bucket/k{number:03}", b"")
    first = alice.get("b/bucket")
    second = alice.web.get(first.html.find("a", rel="next")["href"])
    assert len(first.html.find_all("a", class_="file")) == 100
    assert [link.text for link in second.html.find_all("a", class_="file")] == ["k100"]


def test_chosen_objects_are_removed(alice: Visitor, s3: S3) -> None:
    for key in "abc":
        s3.put(f"/bucket/{key}", b"x")
    fields = [("csrf", alice.csrf), ("bucket", "bucket"), ("prefix", ""), ("key", "a"), ("key", "c")]
    alice.web.post(ROOT + "delete-objects", fields)
    assert s3.keys("bucket") == ["b"]


def test_an_object_shows_metadata_tags_text_and_versions(alice: Visitor, s3: S3) -> None:
    s3.put(
        "/bucket?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    headers = {"Content-Type": "text/plain", "x-amz-meta-color": "red", "x-amz-tagging": "team=a"}
    s3.put("/bucket/note.txt", b"first", headers)
    s3.put("/bucket/note.txt", b"<script>second</script>", headers)
    page = alice.get("o/bucket/note.txt")
    assert "&lt;script&gt;second" in page.text
    assert "red" in page.text
    assert "team=a" in page.text
    old = page.html.find_all("td")[-4].a["href"]
    assert "first" in alice.web.get(old).text


def test_restoring_a_version_makes_it_the_latest(alice: Visitor, s3: S3) -> None:
    s3.put(
        "/bucket?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    old = s3.put("/bucket/key", b"first").headers["x-amz-version-id"]
    s3.put("/bucket/key", b"second")
    assert "Version restored." in alice.post("restore", bucket="bucket", key="key", version_id=old).text
    assert s3.get("/bucket/key").body == b"first"


def test_tags_are_saved_and_bad_ones_explained(alice: Visitor, s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert "Tags saved." in alice.post("tags", bucket="bucket", key="key", tags="a=1\r\nb = 2").text
    assert s3.get("/bucket/key?tagging").texts("TagSet/Tag/Key") == ["a", "b"]
    assert 'role="alert"' in alice.post("tags", bucket="bucket", key="key", tags="a=1\r\na=2").text


def test_a_shared_link_needs_no_key(alice: Visitor, s3: S3, app: Application) -> None:
    s3.put("/bucket/key", b"shared")
    page = alice.post("share", bucket="bucket", key="key", expires="1 day")
    link = page.html.find("pre").text
    assert (
        TestApp(app, extra_environ={"HTTP_HOST": "s3.test"}).get(link.removeprefix("http://s3.test")).body
        == b"shared"
    )


def test_pages_show_only_what_the_key_may_see(app: Application, s3: S3, other: S3) -> None:
    s3.put("/bucket/secret.txt", b"private")
    bob = Visitor(app, "bob-key", "bob-secret")
    assert "bucket" not in [row.text for row in bob.get("buckets").html.find_all("td")]
    page = bob.get("b/bucket")
    assert page.status_int == 403
    assert "secret.txt" not in page.text
    assert "private" not in bob.get("o/bucket/secret.txt").text


# ---------------------------------------------------------------- uploads


def test_an_upload_goes_through_presigned_urls(alice: Visitor, s3: S3, app: Application) -> None:
    url = alice.call("put", bucket="bucket", key="in/ü 1.txt").json["url"]
    web = TestApp(app, extra_environ={"HTTP_HOST": "s3.test"})
    web.put(url.removeprefix("http://s3.test"), b"data", headers={"Content-Type": "text/plain"})
    assert s3.request("GET", "/", raw_path="/bucket/in/%C3%BC%201.txt").body == b"data"


def test_a_large_upload_goes_in_parts(alice: Visitor, s3: S3, app: Application) -> None:
    about = {"bucket": "bucket", "key": "big", "size": 3000, "type": "text/plain"}
    started = alice.call("start", **about).json
    web = TestApp(app, extra_environ={"HTTP_HOST": "s3.test"})
    etags = []
    for number in (1, 2):
        url = alice.call("part", **about, upload_id=started["upload_id"], number=number).json["url"]
        etags.append(web.put(url.removeprefix("http://s3.test"), b"x" * 1500).headers["ETag"])
    done = alice.call("complete", **about, upload_id=started["upload_id"], etags=etags)
    assert done.json == {"callback": ""}
    assert s3.get("/bucket/big").body == b"x" * 3000


def test_calls_need_the_token_and_a_session(alice: Visitor, app: Application) -> None:
    assert alice.web.post_json(ROOT + "api/put", {}, expect_errors=True).status_int == 403
    assert TestApp(app).post_json(ROOT + "api/put", {}, expect_errors=True).status_int == 401


def test_a_call_that_lacks_something_is_refused(alice: Visitor) -> None:
    assert alice.call("put", bucket="bucket").status_int == 400
    assert alice.call("no-such-call").status_int == 400


# ---------------------------------------------------------------- settings


def test_versioning_is_switched(alice: Visitor, s3: S3) -> None:
    alice.post("settings", bucket="bucket", tab="versioning", status="Enabled")
    assert s3.get("/bucket?versioning").text("Status") == "Enabled"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.subresource)
def test_each_example_can_be_saved_shown_and_removed(document: Document, settings: Settings) -> None:
    with Receiver() as hook:
        app = create_app(replace(settings, notifications=NotificationSettings((("hook", hook.url()),))))
        s3 = add_user(app, "alice")
        s3.put("/bucket")
        if document.subresource == "logging":  # it says itself that this is needed
            statement = {
                "Effect": "Allow",
                "Principal": {"Service": "logging.s3.amazonaws.com"},
                "Action": "s3:PutObject",
                "Resource": "arn:aws:s3:::bucket/access-log/*",
            }
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            assert s3.put("/bucket?policy", json.dumps(policy).encode()).status == 204
        alice, tab = Visitor(app), document.subresource
        assert not alice.get(f"settings/bucket?tab={tab}").html.find("textarea").text.strip()
        text = document.example.replace("BUCKET", "bucket").replace("\n", "\r\n")
        saved = alice.post("settings", bucket="bucket", tab=tab, text=text)
        assert "saved." in saved.text, saved.text
        assert saved.html.find("textarea").text.strip()
        removed = alice.post("settings", bucket="bucket", tab=tab, text="")
        assert "removed." in removed.text
        assert not removed.html.find("textarea").text.strip()
        app.close()


def test_a_faulty_document_stays_in_the_form_with_the_reason(alice: Visitor) -> None:
    page = alice.post(
        "settings", bucket="bucket", tab="cors", text="<CORSConfiguration><Oops/></CORSConfiguration>"
    )
    assert "<Oops/>" in page.html.find("textarea").text
    assert page.html.find(role="alert")


# ---------------------------------------------------------------- composer

FIELDS = {
    "url": "http://127.0.0.1:9000/hook",
    "body": "key=${object}&user=${x:user}",
    "body_type": "application/x-www-form-urlencoded",
    "reply": "standard",
    "variables": "user=42",
    "bucket": "photos",
    "key": "a b.jpg",
    "size": "7",
}


def test_composer_shows_the_exact_bytes(alice: Visitor) -> None:
    page = alice.post("composer", **FIELDS)
    assert "key=a%20b.jpg&user=42" in page.html.find("pre").text
    assert "webhook-signature:" in page.html.find("pre").text


def test_composer_explains_a_fault(alice: Visitor) -> None:
    page = alice.post("composer", **(FIELDS | {"body": "key=${objekt}"}))
    assert "Unknown callback variable: objekt." in page.html.find(role="alert").text


def test_composer_names_a_target_that_would_be_refused(alice: Visitor) -> None:
    page = alice.post("composer", **(FIELDS | {"url": "http://10.1.2.3/hook"}))
    assert "Private address is forbidden" in page.html.find(role="alert").text


def test_composer_makes_a_buckets_uploads_report(alice: Visitor, s3: S3) -> None:
    with Receiver() as hook:
        fields = FIELDS | {"url": hook.url("/told"), "bucket": "bucket", "prefix": "in/"}
        page = alice.post("attach", **fields)
        assert "Uploads to bucket now report to" in page.html.find(role="status").text
        assert alice.post("attach", **fields).status_int == 200  # again: it is replaced, not doubled
        (policy,) = json.loads(s3.get("/bucket?callback").body)["policies"]
        assert (policy["name"], policy["prefix"], policy["applies"]) == ("uploads", "in/", "default")
        s3.put("/bucket/in/a", b"x")
        s3.put("/bucket/out/b", b"x")
        assert [got.body for got in hook.requests] == [b"key=in%2Fa&user=42"]


@pytest.mark.parametrize(
    ("more", "word"), [({"bucket": "nobody"}, "bucket"), ({"body": "${objekt}"}, "objekt")]
)
def test_what_cannot_be_used_for_a_bucket_is_explained(
    alice: Visitor, more: dict[str, str], word: str
) -> None:
    assert word in alice.post("attach", **(FIELDS | {"bucket": "bucket"} | more)).html.find(role="alert").text


def test_a_buckets_other_policies_stay(alice: Visitor, s3: S3) -> None:
    callback = {"callbackUrl": "http://127.0.0.1:9000/", "callbackBody": "x"}
    document = {"right": "policy-only", "policies": [{"name": "scan", "callback": callback}]}
    assert s3.put("/bucket?callback", json.dumps(document).encode()).status == 204
    assert alice.post("attach", **(FIELDS | {"bucket": "bucket"})).html.find(role="status")
    kept = json.loads(s3.get("/bucket?callback").body)
    assert kept["right"] == "policy-only"
    assert [each["name"] for each in kept["policies"]] == ["scan", "uploads"]
