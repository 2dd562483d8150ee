"""Callbacks of the modes async and sync-retry: kept with the object, delivered until they arrive."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import forms
import pytest
from client import S3

from s3lite.app import Application
from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Receiver
from s3lite.settings import OutboxSettings, Settings

BODY = "k=${object}&s=${size}&v=${versionId}&id=${callbackId}&t=${eventTime}&op=${operation}&w=${imageInfo.width}"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (7).to_bytes(4, "big") + (5).to_bytes(4, "big") + b"\x08\x02\0\0\0"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, outbox=OutboxSettings(schedule_s=(0, 0.05, 0.05), poll_s=0.05))


@pytest.fixture
def receiver(app: Application) -> Iterator[Receiver]:
    keys = app.services.callback_keys
    with Receiver(public_keys=keys.public_keys(), oss_pem=keys.public_pem()) as listening:
        yield listening


def encode(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def headers(url: str, mode: str = "async", *, body: str = BODY, **more: Any) -> dict[str, str]:
    document = {"callbackUrl": url, "callbackBody": body, "callbackMode": mode} | more
    return {"x-amz-meta-callback": encode(document)}


def told(receiver: Receiver, number: int = 0) -> dict[str, str]:
    pairs = (pair.partition(b"=") for pair in receiver.requests[number].body.split(b"&"))
    return {name.decode(): value.decode() for name, _, value in pairs}


def eventually(claim: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waiting(app: Application) -> int:
    with app.services.store.catalog.read() as tx:
        return tx.outbox_figures().waiting


# ---------------------------------------------------------------- async


def test_put_object_does_not_wait_and_is_reported_once(app: Application, s3: S3, receiver: Receiver) -> None:
    receiver.default = Reply(b"thanks", status=202, delay_s=0.2)
    answer = s3.put("/bucket/key", b"data", headers(receiver.url("/hook?secret=1")))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["x-s3lite-callback-status"] == "queued"
    (got,) = receiver.wait()
    assert (got.target, got.webhook, got.oss) == ("/hook?secret=1", "valid", "valid")
    assert got.headers["webhook-id"] == answer.headers["x-s3lite-callback-id"] == told(receiver)["id"]
    assert (told(receiver)["k"], told(receiver)["s"], told(receiver)["op"]) == ("key", "4", "PutObject")
    eventually(lambda: waiting(app) == 0)
    assert len(receiver.requests) == 1


def test_the_body_tells_of_the_version_that_was_committed(s3: S3, receiver: Receiver) -> None:
    s3.put(
        "/bucket?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    answer = s3.put("/bucket/key", b"data", headers(receiver.url()))
    receiver.wait()
    assert told(receiver)["v"] == answer.headers["x-amz-version-id"]
    assert told(receiver)["t"].endswith("Z")


@pytest.mark.parametrize("mode", ["async", "sync-retry"])
def test_images_are_measured(s3: S3, receiver: Receiver, mode: str) -> None:
    receiver.script.append(Reply(status=500))  # the row has the same body as the first attempt
    s3.put("/bucket/key", PNG, headers(receiver.url(), mode))
    receiver.wait(2)
    assert [told(receiver, number)["w"] for number in (0, 1)] == ["7", "7"]


def test_a_refused_upload_owes_nothing(app: Application, s3: S3, receiver: Receiver) -> None:
    s3.put("/bucket/key", b"old")
    refused = s3.put("/bucket/key", b"data", headers(receiver.url()) | {"If-None-Match": "*"})
    assert refused.status == 412
    assert waiting(app) == 0
    assert receiver.requests == []


def test_a_commit_that_fails_leaves_no_row(app: Application, s3: S3, receiver: Receiver, monkeypatch) -> None:
    """412 that only the transaction finds: the early check is passed, then another writer comes first."""
    from s3lite.ops import object_write

    monkeypatch.setattr(object_write, "check_conditions", lambda ctx, when: None)
    s3.put("/bucket/key", b"old")
    assert s3.put("/bucket/key", b"data", headers(receiver.url()) | {"If-None-Match": "*"}).status == 412
    assert waiting(app) == 0
    time.sleep(0.1)
    assert receiver.requests == []


def test_failures_are_tried_again_with_the_same_id_and_a_new_time(s3: S3, receiver: Receiver) -> None:
    receiver.script += [Reply(status=500), Reply(status=302)]
    answer = s3.put("/bucket/key", b"data", headers(receiver.url()))
    got = receiver.wait(3)
    assert {each.headers["webhook-id"] for each in got} == {answer.headers["x-s3lite-callback-id"]}
    assert [each.webhook for each in got] == ["valid"] * 3


def test_a_form_answers_as_s3_and_reports(s3: S3, receiver: Receiver) -> None:
    value = headers(receiver.url())["x-amz-meta-callback"]
    conditions = [{"bucket": "bucket"}, {"key": "key"}, {"callback": value}]
    fields = {"key": "key", "callback": value} | forms.v4_fields("alice-key", "alice-secret", conditions)
    data = forms.body(list(fields.items()), b"data")
    answer = s3.request("POST", "/bucket", data, {"Content-Type": forms.CONTENT_TYPE}, signer="none")
    assert (answer.status, answer.headers["x-s3lite-callback-status"]) == (204, "queued")
    receiver.wait()
    assert told(receiver)["op"] == "PostObject"


@pytest.mark.parametrize(
    "more", [{"callbackReply": "passthrough"}, {"callbackOnFailure": "error"}, {"callbackMode": "later"}]
)
def test_what_async_cannot_do_is_refused(s3: S3, receiver: Receiver, more: dict[str, str]) -> None:
    document = {"callbackUrl": receiver.url(), "callbackBody": "a", "callbackMode": "async"} | more
    answer = s3.put("/bucket/key", b"data", {"x-amz-meta-callback": encode(document)})
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert answer.text("ArgumentName") == next(iter(more))
    assert s3.head("/bucket/key").status == 404


def test_a_removed_key_leaves_the_servers_own_signature(app: Application, s3: S3, receiver: Receiver) -> None:
    receiver.script.append(Reply(status=500, delay_s=0.1))
    s3.put("/bucket/key", b"data", headers(receiver.url()))
    app.services.store.catalog.write(lambda tx: tx.remove_access_key("alice-key"))
    got = receiver.wait(2)[1]
    assert got.webhook == "valid"
    assert "v1," not in got.headers["webhook-signature"]


# ---------------------------------------------------------------- multipart uploads


def upload(s3: S3, at_create: dict[str, str]) -> tuple[str, dict[int, str]]:
    upload_id = s3.start_upload("/bucket/key", at_create)
    return upload_id, {1: s3.put_part("/bucket/key", upload_id, 1, PNG)}


def test_a_callback_kept_from_create_is_owed_by_complete(s3: S3, receiver: Receiver) -> None:
    upload_id, etags = upload(s3, headers(receiver.url()))
    answer = s3.complete("/bucket/key", upload_id, etags)
    assert answer.xml.tag == "CompleteMultipartUploadResult"
    assert answer.headers["x-s3lite-callback-status"] == "queued"
    receiver.wait()
    assert (told(receiver)["op"], told(receiver)["w"]) == ("CompleteMultipartUpload", "7")


def test_a_repeated_complete_tells_how_far_the_callback_is(
    app: Application, s3: S3, receiver: Receiver
) -> None:
    receiver.default = Reply(status=500, delay_s=0.1)
    upload_id, etags = upload(s3, headers(receiver.url()))
    first = s3.complete("/bucket/key", upload_id, etags)
    again = s3.complete("/bucket/key", upload_id, etags)
    assert again.headers["x-s3lite-callback-status"] == "queued"
    assert again.headers["x-s3lite-callback-id"] == first.headers["x-s3lite-callback-id"]
    receiver.default = Reply()
    eventually(lambda: waiting(app) == 0)
    done = s3.complete("/bucket/key", upload_id, etags)
    assert done.headers["x-s3lite-callback-status"] == "ok"
    assert done.text("ETag") == first.text("ETag")
    assert len({got.headers["webhook-id"] for got in receiver.requests}) == 1


# ---------------------------------------------------------------- sync-retry


def test_sync_retry_that_succeeds_answers_as_sync(app: Application, s3: S3, receiver: Receiver) -> None:
    answer = s3.put("/bucket/key", b"data", headers(receiver.url(), "sync-retry"))
    assert (answer.status, answer.body) == (200, b'{"Status":"OK"}')
    assert answer.headers["x-s3lite-callback-status"] == "ok"
    eventually(lambda: waiting(app) == 0)
    assert len(receiver.requests) == 1


def test_sync_retry_that_fails_says_so_and_is_left_to_the_outbox(s3: S3, receiver: Receiver) -> None:
    receiver.script.append(Reply(status=500))
    answer = s3.put("/bucket/key", b"data", headers(receiver.url(), "sync-retry"))
    assert (answer.status, answer.code) == (203, "CallbackFailed")
    assert answer.headers["x-s3lite-callback-status"] == "queued"
    one, two = receiver.wait(2)
    assert one.headers["webhook-id"] == two.headers["webhook-id"]


def test_sync_retry_takes_no_json_for_done_when_it_is_tried_again(
    app: Application, s3: S3, receiver: Receiver
) -> None:
    receiver.default = Reply(b"OK")
    answer = s3.put("/bucket/key", b"data", headers(receiver.url(), "sync-retry"))
    assert answer.message == "Response body is not valid json format."
    eventually(lambda: waiting(app) == 0)
    assert len(receiver.requests) == 2


def test_sync_retry_with_standard_reply_reports_in_headers(s3: S3, receiver: Receiver) -> None:
    receiver.script.append(Reply(status=503))
    sent = headers(receiver.url(), "sync-retry", callbackReply="standard")
    answer = s3.put("/bucket/key", b"data", sent)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["x-s3lite-callback-status"] == "queued"
    assert answer.headers["x-s3lite-callback-message"] == "Error status : 503."
    receiver.wait(2)


def test_a_gone_application_ends_sync_retry(app: Application, s3: S3, receiver: Receiver) -> None:
    receiver.default = Reply(status=410)
    answer = s3.put("/bucket/key", b"data", headers(receiver.url(), "sync-retry"))
    assert answer.headers["x-s3lite-callback-status"] == "failed"
    eventually(lambda: waiting(app) == 0)
    assert len(receiver.requests) == 1


def test_a_repeated_complete_gets_what_sync_retry_got(s3: S3, receiver: Receiver) -> None:
    receiver.script.append(Reply(b'{"n":1}'))
    sent = headers(receiver.url(), "sync-retry")
    upload_id, etags = upload(s3, {})
    first = s3.complete("/bucket/key", upload_id, etags, sent)
    again = s3.complete("/bucket/key", upload_id, etags, sent)
    assert first.body == again.body == b'{"n":1}'
    assert len(receiver.requests) == 1
