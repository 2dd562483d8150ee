"""Gates: nothing is visible before the application says yes, and nothing stays after its no."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import forms
import pytest
from callbacks import CONTENT, closed_port, encode, headers
from client import S3, Answer
from ssekit import customer_headers

from s3lite.app import Application, create_app
from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Received, Receiver
from s3lite.core.sweep import sweep
from s3lite.settings import Settings
from s3lite.times import Clock

LARGE = bytes(range(256)) * 100  # beyond what is kept in the index
NO = Reply(b'{"message": "no cats please"}', status=422)


def gate(url: str, **more: Any) -> dict[str, str]:
    return headers(url, callbackMode="gate", **more)


def state(app: Application) -> dict[str, int]:
    """What the index holds; it must be consistent whenever a test looks."""
    with app.services.store.catalog.read() as tx:
        assert tx.reference_faults(limit=10) == []
        return tx.counts()


def held(app: Application) -> int:
    """Bytes that are neither an object's nor on their way out."""
    counts = state(app)
    return counts["blobs"] - counts["garbage"]


@pytest.fixture
def during(receiver: Receiver) -> Callable[[Callable[[Received], Reply | None]], None]:
    """Have something done while the application is being asked."""

    def use(work: Callable[[Received], Reply | None]) -> None:
        receiver._on_request = work

    return use


# ---------------------------------------------------------------- yes


@pytest.mark.parametrize("content", [CONTENT, LARGE, b""], ids=["inline", "file", "empty"])
def test_a_yes_publishes_and_until_then_the_old_object_is_there(
    app: Application, s3: S3, receiver: Receiver, during, content: bytes
) -> None:
    s3.put("/bucket/key", b"old")
    seen: list[object] = []

    def look(_received: Received) -> None:
        seen.append((s3.get("/bucket/key").body, s3.keys("bucket"), state(app)["pending"]))

    during(look)
    answer = s3.put("/bucket/key", content, gate(receiver.url()))
    assert (answer.status, answer.body) == (200, b'{"Status":"OK"}')
    assert answer.headers["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
    assert answer.headers["x-s3lite-callback-status"] == "ok"
    assert seen == [(b"old", ["key"], 1)]
    assert s3.get("/bucket/key").body == content
    assert state(app)["pending"] == 0
    (got,) = receiver.requests
    assert got.webhook == "valid"
    assert got.headers["webhook-id"] == answer.headers["x-s3lite-callback-id"]


def test_any_2xx_is_a_yes_and_what_cannot_be_passed_on_is_answered_as_by_s3(
    s3: S3, receiver: Receiver
) -> None:
    receiver.default = Reply(b"fine", status=202)
    answer = s3.put("/bucket/key", CONTENT, gate(receiver.url()))
    assert (answer.status, answer.body, answer.headers["x-s3lite-callback-status"]) == (200, b"", "ok")
    receiver.default = Reply(b"", status=204)
    answer = s3.put("/bucket/other", CONTENT, gate(receiver.url(), callbackReply="standard"))
    assert (answer.status, s3.head("/bucket/other").status) == (200, 200)


def test_a_form_waits_for_its_gate(s3: S3, receiver: Receiver) -> None:
    value = encode({"callbackUrl": receiver.url(), "callbackBody": "k=${object}", "callbackMode": "gate"})
    fields = {"key": "key", "callback": value} | forms.v4_fields(
        "alice-key", "alice-secret", [{"bucket": "bucket"}, {"key": "key"}, {"callback": value}]
    )
    data = forms.body(list(fields.items()), CONTENT)

    def post() -> Answer:
        return s3.request("POST", "/bucket", data, {"Content-Type": forms.CONTENT_TYPE}, signer="none")

    receiver.script.append(NO)
    refused = post()
    assert (refused.status, refused.code, refused.message) == (403, "CallbackRejected", "no cats please")
    assert s3.head("/bucket/key").status == 404
    assert post().body == b'{"Status":"OK"}'
    assert s3.get("/bucket/key").body == CONTENT


def test_conditions_are_decided_when_it_is_published(
    s3: S3, app: Application, receiver: Receiver, during
) -> None:
    during(lambda _received: s3.put("/bucket/key", b"somebody was faster") and None)
    answer = s3.put("/bucket/key", CONTENT, gate(receiver.url()) | {"If-None-Match": "*"})
    assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert s3.get("/bucket/key").body == b"somebody was faster"
    assert held(app) == 1


def test_a_bucket_that_goes_while_the_application_is_asked(
    s3: S3, app: Application, receiver: Receiver, during
) -> None:
    during(lambda _received: s3.delete("/bucket") and None)
    assert s3.put("/bucket/key", LARGE, gate(receiver.url())).code == "NoSuchBucket"
    assert held(app) == 0


# ---------------------------------------------------------------- no

REASONS = [
    (b'{"message": "no <b>cats</b>\\n & dogs"}', "application/json; charset=utf-8", "no <b>cats</b> & dogs"),
    (b"infected: EICAR\x07\r\n", "text/plain", "infected: EICAR?"),
    (b"x" * 9000, "text/plain", "x" * 512),
    (b"<html>nginx</html>", "text/html", None),
    (b'{"message": 5}', "application/json", None),
    (b"not json", "application/json", None),
    (b"\xff\xfe", "text/plain", "\ufffd\ufffd"),
]


@pytest.mark.parametrize(("body", "kind", "reason"), REASONS, ids=[kind for _, kind, _ in REASONS])
def test_a_no_is_403_with_a_reason_that_cannot_do_harm(
    s3: S3, app: Application, receiver: Receiver, body: bytes, kind: str, reason: str | None
) -> None:
    receiver.default = Reply(body, status=403, content_type=kind, headers={"Set-Cookie": "a=b"})
    answer = s3.put("/bucket/key", LARGE, gate(receiver.url()))
    assert (answer.status, answer.code) == (403, "CallbackRejected")
    assert answer.message == (reason or "The application refused this upload; nothing was stored.")
    assert answer.headers["x-s3lite-callback-status"] == "rejected"
    assert answer.headers["x-s3lite-callback-id"] == receiver.requests[0].headers["webhook-id"]
    assert "Set-Cookie" not in answer.headers
    assert "ETag" not in answer.headers
    assert s3.head("/bucket/key").status == 404
    assert (state(app)["pending"], held(app)) == (0, 0)


def test_no_other_url_is_asked_after_a_no(s3: S3, receiver: Receiver) -> None:
    receiver.script.append(NO)
    answer = s3.put("/bucket/key", CONTENT, gate(f"{receiver.url('/one')};{receiver.url('/two')}"))
    assert answer.code == "CallbackRejected"
    assert [got.target for got in receiver.requests] == ["/one"]


# ---------------------------------------------------------------- neither

UNDECIDED = [Reply(b"", status) for status in (500, 502, 301, 408, 425, 429)]


@pytest.mark.parametrize("reply", UNDECIDED, ids=lambda reply: str(reply.status))
def test_what_is_neither_yes_nor_no_stores_nothing_and_may_be_tried_again(
    s3: S3, app: Application, receiver: Receiver, reply: Reply
) -> None:
    receiver.script.append(replace(reply, headers={"Retry-After": "17"}))
    answer = s3.put("/bucket/key", LARGE, gate(receiver.url()))
    assert (answer.status, answer.code) == (503, "ServiceUnavailable")
    assert f"Error status : {reply.status}." in answer.message
    assert answer.headers["Retry-After"] == "17"
    assert answer.headers["x-s3lite-callback-status"] == "undecided"
    assert s3.head("/bucket/key").status == 404
    assert (state(app)["pending"], held(app)) == (0, 0)


def test_an_application_that_is_not_there(s3: S3, app: Application) -> None:
    answer = s3.put("/bucket/key", LARGE, gate(f"http://127.0.0.1:{closed_port()}/"))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert held(app) == 0


def test_another_url_is_asked_after_silence(s3: S3, receiver: Receiver) -> None:
    urls = f"http://127.0.0.1:{closed_port()}/;{receiver.url()}"
    assert s3.put("/bucket/key", CONTENT, gate(urls)).status == 200


def test_a_gate_has_its_own_time(tmp_path, settings: Settings) -> None:
    """A scan may take longer than an ordinary callback."""
    app = create_app(replace(settings, callback=replace(settings.callback, timeout_s=0.05, gate_timeout_s=2)))
    root = S3(app, "root-key", "root-secret")
    root.put("/bucket")
    with Receiver(default=Reply(delay_s=0.3)) as slow:
        assert root.put("/bucket/late", CONTENT, headers(slow.url())).status == 203
        assert root.put("/bucket/key", CONTENT, gate(slow.url())).status == 200
    app.close()


def test_a_gate_that_would_not_be_asked_refuses_before_the_body(settings: Settings) -> None:
    callback = replace(settings.callback, breaker_failures=1)
    app = create_app(replace(settings, callback=callback))
    root = S3(app, "root-key", "root-secret")
    root.put("/bucket")
    dead = f"http://127.0.0.1:{closed_port()}/"
    assert root.put("/bucket/key", CONTENT, gate(dead)).code == "ServiceUnavailable"
    wrong = gate(dead) | {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}  # which only the body would show
    answer = root.put("/bucket/key", CONTENT, wrong)
    assert (answer.status, answer.code) == (503, "SlowDown")
    app.close()


# ---------------------------------------------------------------- the same id while it is undecided


def ids(receiver: Receiver) -> list[str]:
    return [got.headers["webhook-id"] for got in receiver.requests]


def test_a_repeat_keeps_its_id_until_it_is_decided(s3: S3, receiver: Receiver) -> None:
    receiver.script += [Reply(b"", 503), Reply(b"", 500)]
    for _ in range(4):
        s3.put("/bucket/key", CONTENT, gate(receiver.url()))
    first, second, third, fourth = ids(receiver)
    assert first == second == third != fourth


@pytest.mark.parametrize(
    "change",
    [{"path": "/bucket/other"}, {"body": b"other content"}, {"var": "2"}, {"type": "image/png"}],
    ids=lambda change: next(iter(change)),
)
def test_a_different_upload_has_another_id(s3: S3, receiver: Receiver, change: dict[str, Any]) -> None:
    receiver.default = Reply(b"", 503)
    s3.put("/bucket/key", CONTENT, gate(receiver.url()))
    sent = gate(receiver.url())
    if "var" in change:
        sent["x-amz-meta-callback-var"] = encode({"x:var1": change["var"]})
    sent["Content-Type"] = change.get("type", "text/plain")
    s3.put(change.get("path", "/bucket/key"), change.get("body", CONTENT), sent)
    first, second = ids(receiver)
    assert first != second


def test_ids_are_forgotten_after_a_while(settings: Settings) -> None:
    app = create_app(replace(settings, callback=replace(settings.callback, gate_memory_s=0)))
    root = S3(app, "root-key", "root-secret")
    root.put("/bucket")
    with Receiver(default=Reply(b"", 503)) as broken:
        root.put("/bucket/key", CONTENT, gate(broken.url()))
        time.sleep(0.01)
        sweep(app.services.store)
        root.put("/bucket/key", CONTENT, gate(broken.url()))
        first, second = ids(broken)
    assert first != second
    app.close()


# ---------------------------------------------------------------- multipart uploads


def begin(s3: S3, sent: dict[str, str] | None = None) -> tuple[str, dict[int, str]]:
    upload_id = s3.start_upload("/bucket/key", sent)
    first = s3.put_part("/bucket/key", upload_id, 1, b"p" * 5000)
    return upload_id, {1: first, 2: s3.put_part("/bucket/key", upload_id, 2, b"end")}


def test_a_refused_complete_leaves_the_upload_open(s3: S3, app: Application, receiver: Receiver) -> None:
    receiver.script.append(NO)
    upload_id, etags = begin(s3)
    refused = s3.complete("/bucket/key", upload_id, etags, gate(receiver.url()))
    assert (refused.status, refused.code, refused.message) == (403, "CallbackRejected", "no cats please")
    assert s3.get(f"/bucket/key?uploadId={upload_id}").texts("Part/PartNumber") == ["1", "2"]
    assert s3.head("/bucket/key").status == 404
    assert state(app)["pending"] == 0
    again = s3.complete("/bucket/key", upload_id, etags, gate(receiver.url()))
    assert again.body == b'{"Status":"OK"}'
    assert s3.get("/bucket/key").body == b"p" * 5000 + b"end"
    assert len(set(ids(receiver))) == 1


def test_a_gate_kept_from_create_decides_and_replies_standard(s3: S3, receiver: Receiver) -> None:
    upload_id, etags = begin(s3, gate(receiver.url()))
    assert receiver.requests == []
    answer = s3.complete("/bucket/key", upload_id, etags)
    assert answer.xml.tag == "CompleteMultipartUploadResult"
    assert b"size=5003" in receiver.requests[0].body


def test_a_repeated_complete_gets_the_gates_answer_again(s3: S3, receiver: Receiver) -> None:
    receiver.script.append(Reply(b'{"n": 1}'))
    upload_id, etags = begin(s3)
    first = s3.complete("/bucket/key", upload_id, etags, gate(receiver.url()))
    again = s3.complete("/bucket/key", upload_id, etags, gate(receiver.url()))
    assert first.body == again.body == b'{"n": 1}'
    assert len(receiver.requests) == 1


def test_while_one_complete_is_decided_another_is_told_to_come_again(
    s3: S3, receiver: Receiver, during
) -> None:
    upload_id, etags = begin(s3)
    others: list[Answer] = []

    def complete_too(_received: Received) -> None:
        others.append(s3.complete("/bucket/key", upload_id, etags, gate(receiver.url())))

    during(complete_too)
    assert s3.complete("/bucket/key", upload_id, etags, gate(receiver.url())).status == 200
    assert [(other.status, other.code, other.headers["Retry-After"]) for other in others] == [
        (503, "ServiceUnavailable", "2")
    ]
    assert len(receiver.requests) == 1


def test_an_abort_meanwhile_wins(s3: S3, app: Application, receiver: Receiver, during) -> None:
    upload_id, etags = begin(s3)
    during(lambda _received: s3.delete(f"/bucket/key?uploadId={upload_id}") and None)
    answer = s3.complete("/bucket/key", upload_id, etags, gate(receiver.url()))
    assert (answer.status, answer.code) == (404, "NoSuchUpload")
    assert s3.head("/bucket/key").status == 404
    assert (state(app)["pending"], held(app)) == (0, 0)


def test_a_part_that_is_replaced_meanwhile_is_not_published_unseen(
    s3: S3, app: Application, receiver: Receiver, during
) -> None:
    """The same bytes again stand for others with the same MD5: the ETag does not tell them apart."""
    upload_id, etags = begin(s3)
    during(lambda _received: s3.put_part("/bucket/key", upload_id, 2, b"end") and None)
    answer = s3.complete("/bucket/key", upload_id, etags, gate(receiver.url()))
    assert (answer.status, answer.code) == (409, "OperationAborted")
    assert s3.head("/bucket/key").status == 404
    receiver._on_request = None
    assert s3.complete("/bucket/key", upload_id, etags, gate(receiver.url())).status == 200
    assert len(set(ids(receiver))) == 2


# ---------------------------------------------------------------- ${pendingUrl}


def asking_to_look(receiver: Receiver) -> dict[str, str]:
    """A gate whose body is the URL, as a JSON string."""
    kind = "application/json"
    return gate(receiver.url(), callbackBody="${pendingUrl}", callbackBodyType=kind)


def fetch(s3: S3, url: str, **sent: str) -> Answer:
    parts = urlsplit(url)
    names = {name.replace("_", "-"): value for name, value in sent.items()}
    return s3.send("GET", parts.path, parts.query, b"", names)


@pytest.mark.parametrize("content", [CONTENT, LARGE, b""], ids=["inline", "file", "empty"])
def test_the_application_may_look_at_the_bytes(
    s3: S3, anonymous: S3, receiver: Receiver, during, content: bytes
) -> None:
    looks: list[Answer] = []

    def look(received: Received) -> None:
        url = received.body.decode().strip('"')
        looks.append(fetch(anonymous, url))
        if content:
            looks.append(fetch(anonymous, url, Range="bytes=3-7"))
            looks.append(fetch(anonymous, url, Range=f"bytes={len(content)}-"))

    during(look)
    assert s3.put("/bucket/key", content, asking_to_look(receiver)).status == 200
    assert (looks[0].status, looks[0].body) == (200, content)
    assert looks[0].headers["Content-Type"] == "application/octet-stream"
    if content:
        assert (looks[1].status, looks[1].body) == (206, content[3:8])
        assert looks[1].headers["Content-Range"] == f"bytes 3-7/{len(content)}"
        assert looks[2].code == "InvalidRange"
    url = receiver.requests[0].body.decode().strip('"')
    assert fetch(anonymous, url).code == "NoSuchKey"


def test_the_application_may_look_at_an_upload_in_parts(s3: S3, anonymous: S3, receiver: Receiver) -> None:
    upload_id, etags = begin(s3)
    s3.put_part("/bucket/key", upload_id, 3, b"not of the object")
    looks: list[bytes] = []

    def look(received: Received) -> None:
        url = received.body.decode().strip('"')
        looks.extend((fetch(anonymous, url).body, fetch(anonymous, url, Range="bytes=4999-5001").body))

    receiver._on_request = look
    assert s3.complete("/bucket/key", upload_id, etags, asking_to_look(receiver)).status == 200
    assert looks == [b"p" * 5000 + b"end", b"pen"]


def test_encrypted_bytes_are_shown_as_they_will_be(
    s3: S3, app: Application, anonymous: S3, receiver: Receiver
) -> None:
    mode = "AES256"
    looks: list[bytes] = []

    def look(received: Received) -> None:
        url = received.body.decode().strip('"')
        looks.extend((fetch(anonymous, url).body, fetch(anonymous, url, Range="bytes=4-9").body))

    receiver._on_request = look
    sent = asking_to_look(receiver) | {"x-amz-server-side-encryption": mode}
    answer = s3.put("/bucket/single", LARGE, sent)
    assert (answer.status, answer.headers["x-amz-server-side-encryption"]) == (200, mode)
    upload_id, etags = begin(s3, {"x-amz-server-side-encryption": mode})
    assert s3.complete("/bucket/key", upload_id, etags, asking_to_look(receiver)).status == 200
    assert looks == [LARGE, LARGE[4:10], b"p" * 5000 + b"end", b"p" * 6]
    assert (s3.get("/bucket/single").body, s3.get("/bucket/key").body) == (LARGE, b"p" * 5000 + b"end")
    state(app)


def test_bytes_under_a_customers_key_are_not_shown(s3: S3, receiver: Receiver) -> None:
    answer = s3.put("/bucket/key", LARGE, asking_to_look(receiver) | customer_headers())
    assert (answer.status, receiver.requests[0].body) == (200, b"null")


@pytest.mark.parametrize("spoil", ["token", "row", "no token", "method"])
def test_nobody_else_sees_the_bytes(s3: S3, anonymous: S3, receiver: Receiver, spoil: str) -> None:
    looks: list[Answer] = []

    def look(received: Received) -> None:
        url = urlsplit(received.body.decode().strip('"'))
        path, query, method = url.path, url.query, "GET"
        if spoil == "token":
            query = query[:-1] + ("0" if query[-1] != "0" else "1")
        elif spoil == "row":
            path += "1"
        elif spoil == "no token":
            query = ""
        else:
            method = "DELETE"
        looks.append(anonymous.send(method, path, query, b"", {}))

    receiver._on_request = look
    assert s3.put("/bucket/key", CONTENT, asking_to_look(receiver)).status == 200
    assert [look.code for look in looks] == ["MethodNotAllowed" if spoil == "method" else "NoSuchKey"]


def test_pending_urls_are_for_gates_only(s3: S3, receiver: Receiver) -> None:
    sent = headers(receiver.url(), callbackBody="${pendingUrl}")
    answer = s3.put("/bucket/key", CONTENT, sent)
    assert (answer.status, answer.message) == (400, "Unknown callback variable: pendingUrl.")


def test_what_to_do_on_failure_is_no_question_for_a_gate(s3: S3, receiver: Receiver) -> None:
    answer = s3.put("/bucket/key", CONTENT, gate(receiver.url(), callbackOnFailure="accept"))
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_image_variables_and_the_rest_are_there_before_it_is_published(s3: S3, receiver: Receiver) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\1\1\0\0\0\xc5" + bytes(9)
    body = "w=${imageInfo.width}&e=${etag}&s=${size}&o=${operation}&v=${versionId}"
    s3.put("/bucket/key", png, gate(receiver.url(), callbackBody=body))
    etag = hashlib.md5(png).hexdigest()
    assert receiver.requests[0].body.decode() == f"w=257&e={etag}&s={len(png)}&o=PutObject&v="


# ---------------------------------------------------------------- when the server dies


class LaterClock(Clock):
    """A clock that can be put forward, within what signatures allow."""

    later_s = 0.0

    def time(self) -> float:
        return super().time() + self.later_s


class Killed(BaseException):
    """Stands for kill -9: nothing of this process is done any more."""


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["inline", "file"])
def test_a_crash_before_the_answer_leaves_a_row_that_the_sweeper_ends(
    settings: Settings, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LaterClock()
    app = create_app(settings, clock=clock)
    root = S3(app, "root-key", "root-secret")
    root.put("/bucket")
    receiver = Receiver()
    receiver.start()
    with monkeypatch.context() as patch:
        patch.setattr("s3lite.ops.gate.pending.leave_undecided", _die)
        patch.setattr("s3lite.core.write.make_room", _die)
        with pytest.raises(Killed):
            root.put("/bucket/key", content, gate(receiver.url()))
    assert (state(app)["pending"], held(app)) == (1, 1)
    assert sweep(app.services.store).undecided == 0
    clock.later_s = 60
    assert sweep(app.services.store).undecided == 1
    assert (state(app)["pending"], held(app)) == (0, 0)
    assert root.head("/bucket/key").status == 404
    assert root.put("/bucket/key", content, gate(receiver.url())).status == 200
    assert len(set(ids(receiver))) == 1
    receiver.close()
    app.close()


def _die(*_: object, **__: object) -> None:
    raise Killed


def test_threads_that_wait_hold_no_lock(s3: S3, receiver: Receiver, during) -> None:
    release = threading.Event()
    during(lambda _received: release.wait(5) and None)
    waiting = threading.Thread(target=s3.put, args=("/bucket/key", CONTENT, gate(receiver.url())))
    waiting.start()
    receiver.wait(1)
    assert s3.put("/bucket/other", CONTENT).status == 200
    assert s3.put("/bucket/key", b"old").status == 200
    release.set()
    waiting.join()
    assert s3.get("/bucket/key").body == CONTENT
