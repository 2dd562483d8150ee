"""Hooks of an embedding program: they take away, never add, and come before the body."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import forms
import pytest
from client import S3
from conftest import ROOT_KEY, ROOT_SECRET, add_user

from s3lite.app import Application, create_app
from s3lite.hooks import Asked, Hooks, Refused
from s3lite.settings import Settings

Make = Callable[..., Application]


@pytest.fixture
def make(settings: Settings) -> Iterator[Make]:
    made: list[Application] = []

    def start(**hooks: Any) -> Application:
        made.append(create_app(settings, hooks=Hooks(**hooks)))
        return made[-1]

    yield start
    for app in made:
        app.close()


def test_authorize_refuses_what_the_server_allows(make: Make) -> None:
    app = make(authorize=lambda asked: asked.action != "s3:DeleteObject")
    root = S3(app, ROOT_KEY, ROOT_SECRET)
    root.put("/bucket")
    root.put("/bucket/key", b"x")
    assert root.delete("/bucket/key").code == "AccessDenied"
    assert root.get("/bucket/key").body == b"x"


def test_authorize_never_allows_what_the_server_refuses(make: Make) -> None:
    app = make(authorize=lambda asked: True)
    S3(app, ROOT_KEY, ROOT_SECRET).put("/bucket")
    assert add_user(app, "bob").put("/bucket/key", b"x").code == "AccessDenied"


def test_authorize_is_asked_for_each_key_of_delete_objects(make: Make) -> None:
    app = make(authorize=lambda asked: asked.key != "keep")
    root = S3(app, ROOT_KEY, ROOT_SECRET)
    root.put("/bucket")
    for key in ("keep2", "gone"):
        root.put(f"/bucket/{key}", b"x")
    body = b"<Delete><Object><Key>keep</Key></Object><Object><Key>gone</Key></Object></Delete>"
    answer = root.post("/bucket?delete", body)
    assert answer.texts("Error/Key") == ["keep"]
    assert root.keys("bucket") == ["keep2"]


def test_authorize_is_asked_about_the_source_of_a_copy(make: Make) -> None:
    app = make(authorize=lambda asked: (asked.action, asked.key) != ("s3:GetObject", "secret"))
    root = S3(app, ROOT_KEY, ROOT_SECRET)
    root.put("/bucket")
    root.put("/bucket/secret", b"x")
    assert root.put("/bucket/copy", headers={"x-amz-copy-source": "/bucket/secret"}).code == "AccessDenied"


def test_before_upload_refuses_with_its_own_words_and_stores_nothing(make: Make) -> None:
    def limit(asked: Asked) -> None:
        if asked.size is None or asked.size > 3:
            raise Refused("Three bytes are enough.", code="EntityTooLarge")

    root = S3(make(before_upload=limit), ROOT_KEY, ROOT_SECRET)
    root.put("/bucket")
    answer = root.put("/bucket/key", b"four")
    assert (answer.status, answer.code, answer.message) == (400, "EntityTooLarge", "Three bytes are enough.")
    assert root.put("/bucket/key", b"two").status == 200
    assert root.keys("bucket") == ["key"]


def test_before_upload_knows_the_key_of_a_form(make: Make) -> None:
    asked: list[Asked] = []
    root = S3(make(before_upload=asked.append), ROOT_KEY, ROOT_SECRET)
    root.put("/bucket")
    conditions: list[Any] = [{"bucket": "bucket"}, ["starts-with", "$key", ""]]
    fields = {"key": "in/${filename}"} | forms.v4_fields(ROOT_KEY, ROOT_SECRET, conditions)
    body = forms.body(list(fields.items()))
    headers = {"Content-Type": forms.CONTENT_TYPE, "Content-Length": str(len(body))}
    assert root.send("POST", "/bucket", "", body, headers).status == 204
    assert [(each.operation, each.key, each.account_id) for each in asked] == [
        ("PostObject", "in/photo.jpg", "root")
    ]


def test_a_hook_that_breaks_fails_closed(make: Make) -> None:
    def broken(_asked: Asked) -> bool:
        raise RuntimeError("the host's own trouble")

    root = S3(make(authorize=broken), ROOT_KEY, ROOT_SECRET)
    assert root.put("/bucket").code == "InternalError"


def test_identify_makes_a_signature_unnecessary(make: Make) -> None:
    app = make(identify=lambda environ: environ.get("HTTP_X_USER"))
    alice = add_user(app, "alice")
    alice.put("/bucket")
    host = S3(app, None)
    assert host.put("/bucket/key", b"x", {"X-User": "alice"}).status == 200
    assert host.put("/bucket/key", b"x", {"X-User": "nobody"}).code == "AccessDenied"
    assert host.put("/bucket/key", b"x").code == "AccessDenied"
    assert alice.get("/bucket/key").body == b"x"


def test_identify_does_not_serve_pages_of_other_sites(make: Make) -> None:
    app = make(identify=lambda environ: "root")
    assert S3(app, None).put("/bucket", headers={"Sec-Fetch-Site": "cross-site"}).code == "AccessDenied"
    assert S3(app, None).put("/bucket", headers={"Sec-Fetch-Site": "same-origin"}).status == 200


def test_refused_takes_only_codes_that_exist() -> None:
    with pytest.raises(ValueError, match="NoSuchThing"):
        Refused("no", code="NoSuchThing")
