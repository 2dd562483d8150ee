"""`s3lite form`: the page is sound HTML, and its signature is what S3 says (computed here by hand)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
from contextlib import closing
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from werkzeug.test import Client

from s3lite.app import create_app
from s3lite.auth.post_policy import PostPolicy
from s3lite.callback.listen import Receiver
from s3lite.callback.spec import from_form, parse
from s3lite.settings import load

TARGET = ("form", "--bucket", "photos", "--key", "in/a.jpg")
CALLBACK = ("--callback-url", "http://app.example/hook", "--callback-body", "k=${object}&u=${x:user}")


class Page(HTMLParser):
    """What a browser makes of the page: the form, its controls in order, and every attribute in use."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.form: dict[str, str | None] = {}
        self.controls: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "form":
            self.form = dict(attrs)
        if tag in ("input", "button", "select", "textarea"):
            self.controls.append({"tag": tag, **dict(attrs)})

    @property
    def fields(self) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.controls if each.get("type") == "hidden"}


def conditions(fields) -> list:
    return json.loads(base64.b64decode(fields["policy"]))["conditions"]


def sha256(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


# ---------------------------------------------------------------- signatures


def test_v4_signature_by_hand(run, data_dir):
    fields = Page(run(*TARGET).stdout).fields
    key_id, date, region, service, end = fields["x-amz-credential"].split("/")
    assert (key_id, region, service, end) == ("root-key", "us-east-1", "s3", "aws4_request")
    assert fields["x-amz-algorithm"] == "AWS4-HMAC-SHA256"
    assert fields["x-amz-date"].startswith(date)
    key = sha256(sha256(sha256(sha256(b"AWS4root-secret", date), region), "s3"), "aws4_request")
    assert fields["x-amz-signature"] == sha256(key, fields["policy"]).hex()
    for name in ("x-amz-credential", "x-amz-algorithm", "x-amz-date"):
        assert {name: fields[name]} in conditions(fields)


def test_v2_signature_by_hand(run, data_dir):
    run("user", "add", "alice", "--access-key", "AKA", "--secret-key", "SKA")
    fields = Page(run(*TARGET, "--v2", "--access-key", "AKA").stdout).fields
    expected = hmac.new(b"SKA", fields["policy"].encode(), hashlib.sha1).digest()
    assert fields["AWSAccessKeyId"] == "AKA"
    assert base64.b64decode(fields["signature"]) == expected
    assert not [name for name in fields if name.startswith("x-amz-")]


# ---------------------------------------------------------------- the policy


@pytest.mark.parametrize("version", ["--v2", "--v4"])
def test_the_policy_covers_every_field_and_the_server_agrees(run, data_dir, version):
    options = ("--var", "x:user=4&2", "--max-bytes", "1000", "--expires", "60")
    fields = Page(run(*TARGET, *CALLBACK, *options, version).stdout).fields
    now_s = datetime.now(UTC).timestamp()
    policy = PostPolicy.parse(fields["policy"], now_s=now_s)
    policy.check({name.lower(): value for name, value in fields.items()}, bucket="photos")
    assert policy.content_length_range == (0, 1000)
    assert policy.covers("callback")
    assert policy.covers("x:user")
    spec = parse(from_form(fields, covers=policy.covers, unlisted="refuse"))
    assert spec.variables == {"x:user": "4&2"}
    assert spec.urls[0].host == "app.example"
    with pytest.raises(Exception, match="expired"):
        PostPolicy.parse(fields["policy"], now_s=now_s + 62)


def test_a_key_with_the_files_name_is_bound_to_its_prefix(run, data_dir):
    fields = Page(run("form", "--bucket", "photos", "--key", "in/${filename}").stdout).fields
    assert fields["key"] == "in/${filename}"
    assert ["starts-with", "$key", "in/"] in conditions(fields)
    assert {"bucket": "photos"} in conditions(fields)


def test_who_answers_the_browser(run, data_dir):
    assert Page(run(*TARGET).stdout).fields["success_action_status"] == "201"
    assert "success_action_status" not in Page(run(*TARGET, *CALLBACK).stdout).fields
    standard = Page(run(*TARGET, *CALLBACK, "--callback-reply", "standard").stdout).fields
    assert standard["success_action_status"] == "201"
    assert json.loads(base64.b64decode(standard["callback"]))["callbackReply"] == "standard"


# ---------------------------------------------------------------- the server


@pytest.mark.parametrize("version", ["--v2", "--v4"])
def test_the_form_uploads_and_reports(run, store, objects, version, monkeypatch):
    monkeypatch.setenv("S3LITE_CALLBACK_ALLOW", "127.0.0.1")
    monkeypatch.setenv("S3LITE_SWEEP_ENABLED", "false")
    with Receiver() as receiver, closing(create_app(load())) as server:
        target = ("--bucket", "bucket", "--key", "in/${filename}", "--var", "x:user=4&2", "--max-bytes", "9")
        callback = ("--callback-url", receiver.url("/hook"), *CALLBACK[2:])
        fields = Page(run("form", *target, *callback, version).stdout).fields

        def upload(data: bytes):
            return Client(server).post("/bucket", data={**fields, "file": (io.BytesIO(data), "a b.txt")})

        assert (upload(b"some data").status_code, upload(b"too much data").status_code) == (200, 400)
        (received,) = receiver.requests
    assert received.body == b"k=in%2Fa%20b.txt&u=4%262"
    with store.catalog.read() as tx:
        version = tx.current_version(objects.bucket.id, "in/a b.txt")
    assert version.size == 9
    assert run("check", "--deep").stdout.strip().endswith("clean")


# ---------------------------------------------------------------- the page


def test_the_file_comes_last_and_the_button_has_no_name(run, data_dir):
    page = Page(run(*TARGET, *CALLBACK, "--endpoint", "https://s3.example/store/").stdout)
    assert page.form["action"] == "https://s3.example/store/photos"
    assert page.form["method"] == "post"
    assert page.form["enctype"] == "multipart/form-data"
    *hidden, file, button = page.controls
    assert all(control["type"] == "hidden" for control in hidden)
    assert (file["type"], file["name"]) == ("file", "file")
    assert (button["tag"], button["type"], button.get("name")) == ("button", "submit", None)


def test_everything_is_escaped(run, data_dir):
    nasty = "\"><script>alert('x')</script>&amp;{0}"
    html = run("form", "--bucket", "photos", "--key", nasty, *CALLBACK, "--var", f"x:user={nasty}").stdout
    page = Page(html)
    assert "script" not in page.tags
    assert page.fields["key"] == nasty
    assert page.fields["x:user"] == nasty


def test_json_has_the_parts_and_the_page(run, data_dir):
    emitted = json.loads(run(*TARGET, "--json").stdout)
    assert emitted["url"] == "http://127.0.0.1:8000/photos"
    assert Page(emitted["html"]).fields == emitted["fields"]
    assert emitted["policy"]["conditions"] == conditions(emitted["fields"])


def test_a_bucket_that_is_not_there_is_mentioned(run, objects):
    assert "does not exist yet" in run(*TARGET).stderr
    assert run("form", "--bucket", "bucket", "--key", "k").stderr == ""


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("--bucket", "Photos", "--key", "k"), 1, "bucket is not valid"),
        (("--bucket", "photos", "--key", ""), 1, "must not be empty"),
        (("--bucket", "photos", "--key", "a\nb"), 1, "line breaks"),
        (("--bucket", "photos", "--key", "k" * 1025), 1, "too long"),
        (("--bucket", "photos"), 2, "Missing option"),
        ((*TARGET[1:], "--callback-url", "http://a"), 2, "needs --callback-body"),
        ((*TARGET[1:], "--var", "x:a=1"), 2, "need --callback-url"),
        ((*TARGET[1:], *CALLBACK, "--var", "a=1"), 2, "x:NAME=VALUE"),
        ((*TARGET[1:], *CALLBACK, "--var", "x:A=1"), 1, "would refuse this callback"),
        ((*TARGET[1:], *CALLBACK[:3], "${nope}"), 1, "Unknown callback variable"),
        ((*TARGET[1:], "--endpoint", "s3.example"), 2, "is not http(s)://"),
        ((*TARGET[1:], "--expires", "0"), 2, "Invalid value"),
        ((*TARGET[1:], "--access-key", "nobody"), 1, "no access key nobody"),
        ((*TARGET[1:], "--access-key", "disabled"), 1, "key enable disabled"),
        ((*TARGET[1:], *CALLBACK, "--access-key", "silent"), 1, "--callback inline"),
    ],
)
def test_what_the_server_would_refuse_is_refused(run, data_dir, arguments, exit_code, message):
    if "disabled" in arguments or "silent" in arguments:
        run("key", "add", "root", "--access-key", "disabled")
        run("key", "disable", "disabled")
        run("key", "add", "root", "--access-key", "silent", "--callback", "off")
    result = run("form", *arguments, exit_code=exit_code)
    assert message in result.stderr
    assert result.stdout == ""
