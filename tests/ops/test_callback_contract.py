"""What docs/callbacks.md promises, row by row: each cause with its status, code, message, and what is stored.

Where the other promises are tested:

| promise | tests |
|---|---|
| bodies byte for byte, escaping | unit/callback/test_callback_render.py::test_bodies_byte_for_byte |
| published vectors of both signatures | unit/callback/test_callback_signing.py::test_standard_webhooks_vectors, unit/callback/test_callback_signing.py::test_oss_vector_pins_what_is_signed |
| uploads with header, in parts and by forms of both signatures | ops/test_callbacks.py::test_put_object_reports_and_passes_the_answer_on, ops/test_callbacks.py::test_complete_reports, ops/test_callbacks.py::test_forms_report |
| one place only | ops/test_callbacks.py::test_two_places_are_refused, unit/callback/test_callback_spec.py::test_two_places |
| the signature covers the callback | ops/test_callbacks.py::test_a_presigned_url_does_not_take_a_callback_from_its_holder, ops/test_callbacks.py::test_form_fields_that_no_condition_names_are_refused, unit/auth/test_auth_v2.py::test_a_callback_added_to_a_presigned_url |
| a callback is never metadata | ops/test_callbacks.py::test_a_callback_is_no_metadata |
| failover, one id, total time | ops/test_callback_contract.py::test_refused_then_silent_then_answered, unit/callback/test_callback_send.py::test_total_time_is_capped_over_all_urls |
| an answer in drips is cut | unit/callback/test_callback_send.py::test_an_answer_in_drips_is_cut_at_the_deadline |
| the application reads and deletes meanwhile | ops/test_callbacks.py::test_the_application_may_read_and_delete_the_object_meanwhile |
| what boto3 makes of it | e2e/test_boto3_callbacks.py::test_put_object, e2e/test_boto3_callbacks.py::test_upload_file, e2e/test_boto3_callbacks.py::test_complete_repeated_and_abort_after_failure |
| denied targets | unit/callback/test_callback_egress.py::test_denied_by_default, unit/callback/test_callback_egress.py::test_refused_urls, unit/callback/test_callback_egress.py::test_names_keep_the_addresses_that_may_be_reached, unit/callback/test_callback_send.py::test_a_name_that_is_rebound_after_the_check, unit/callback/test_callback_send.py::test_redirects_are_not_followed, unit/callback/test_callback_send.py::test_own_listeners_are_refused, ops/test_callback_contract.py::test_line_breaks_reach_no_header |
| headers of the application stay out | ops/test_callback_contract.py::test_no_header_of_the_application_reaches_the_uploader |
| 203 is readable under CORS | ops/test_callback_contract.py::test_a_failure_is_readable_by_pages, e2e/test_browser.py::test_a_page_of_another_origin_reads_203_and_why |
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from callbacks import CONTENT, closed_port, encode, headers
from client import S3, Answer
from unit.callback.callback_kit import RawServer, answering

from s3lite.app import Application, create_app
from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Receiver
from s3lite.callback.signing import new_webhook_secret
from s3lite.model import AccessKey, Account
from s3lite.settings import Settings

TESTS = Path(__file__).resolve().parent.parent


def test_the_tests_that_are_named_exist() -> None:
    named = re.findall(r"([\w/]+\.py)::(\w+)", __doc__ or "")
    assert len(named) > 20
    for file, name in named:
        assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE), f"{file}::{name}"


# ---------------------------------------------------------------- refused: 400 and 403, nothing stored


def carried(**fields: Any) -> dict[str, str]:
    """A good callback with some fields replaced; None leaves one out."""
    document = {"callbackUrl": "http://app.example/", "callbackBody": "a"} | fields
    return {
        "x-amz-meta-callback": encode({name: value for name, value in document.items() if value is not None})
    }


def variables(text: bytes) -> dict[str, str]:
    return carried() | {"x-amz-meta-callback-var": base64.b64encode(text).decode()}


@dataclass(frozen=True)
class Refusal:
    """A row of the table: what is sent, and the answer."""

    sent: dict[str, str]
    message: str
    argument: str


URL, VAR = "The callback url configuration is invalid.", "The callback var is not expected json."
REFUSALS = {
    "not Base64": Refusal({"x-amz-meta-callback": "!"}, "The callback configuration is not base64 encoded.", "callback"),
    "not JSON": Refusal({"x-amz-meta-callback": base64.b64encode(b"{").decode()}, "The callback configuration is not json format.", "callback"),
    "no object": Refusal({"x-amz-meta-callback": encode([1])}, "The callback configuration is not json format.", "callback"),
    "long callback": Refusal({"x-amz-meta-callback": "A" * 5121}, "The length of callback exceed max value.", "callback"),
    "long variables": Refusal(carried() | {"x-amz-meta-callback-var": "A" * 5121}, "The length of callback var exceed max value.", "callback-var"),
    "variables not Base64": Refusal(carried() | {"x-amz-meta-callback-var": "!"}, "The callback var is not base64 encoded.", "callback-var"),
    "variables no object": Refusal(variables(b"[]"), VAR, "callback-var"),
    "bad name": Refusal(variables(b'{"x:A": "1"}'), VAR, "callback-var"),
    "bad value": Refusal(variables(b'{"x:a": null}'), VAR, "callback-var"),
    "variables alone": Refusal({"x-amz-meta-callback-var": encode({"x:a": "1"})}, "x-amz-meta-callback-var needs x-amz-meta-callback.", "x-amz-meta-callback-var"),
    "no URL": Refusal(carried(callbackUrl=None), URL, "callbackUrl"),
    "empty URL": Refusal(carried(callbackUrl=" ; "), URL, "callbackUrl"),
    "bad scheme": Refusal(carried(callbackUrl="ftp://app.example/"), URL, "callbackUrl"),
    "bad port": Refusal(carried(callbackUrl="http://app.example:22/"), URL, "callbackUrl"),
    "user in URL": Refusal(carried(callbackUrl="http://a@app.example/"), URL, "callbackUrl"),
    "URL not ASCII": Refusal(carried(callbackUrl="http://app.example/ü"), URL, "callbackUrl"),
    "six URLs": Refusal(carried(callbackUrl=";".join(["http://a.example"] * 6)), "The number of callback url exceed max value.", "callbackUrl"),
    "private address": Refusal(carried(callbackUrl="http://192.168.1.1/"), "Private address is forbidden to callback.", "callbackUrl"),
    "metadata service": Refusal(carried(callbackUrl="http://169.254.169.254/"), "Private address is forbidden to callback.", "callbackUrl"),
    "bad host": Refusal(carried(callbackHost="a b"), "The callback host configuration is invalid.", "callbackHost"),
    "no body": Refusal(carried(callbackBody=None), "The callback body is empty.", "callbackBody"),
    "empty body": Refusal(carried(callbackBody=""), "The callback body is empty.", "callbackBody"),
    "body no text": Refusal(carried(callbackBody=5), "The callback body is invalid.", "callbackBody"),
    "body not closed": Refusal(carried(callbackBody="${object"), "The callback body is invalid.", "callbackBody"),
    "body too large": Refusal(carried(callbackBody="${mimeType}" * 3), "The callback body is invalid.", "callbackBody"),
    "brace missing": Refusal(carried(callbackBody="$(object)"), "Left brace must be adjacent to dollar sign.", "callbackBody"),
    "unknown variable": Refusal(carried(callbackBody="${colour}"), "Unknown callback variable: colour.", "callbackBody"),
    "type no text": Refusal(carried(callbackBodyType=5), "The callback body type configuration is invalid.", "callbackBodyType"),
    "unknown type": Refusal(carried(callbackBodyType="text/xml"), "The body type of callback is not supported.", "callbackBodyType"),
    "misspelt field": Refusal(carried(callbackURL="x"), "Unknown callback field: callbackURL.", "callbackURL"),
    "headers": Refusal(carried(additionalHeaders={"A": "b"}), "additionalHeaders is not supported.", "additionalHeaders"),
    "bad reply": Refusal(carried(callbackReply="none"), "callbackReply must be passthrough or standard.", "callbackReply"),
    "unknown policy": Refusal({"x-amz-meta-callback": encode({"callbackPolicy": "p"})}, "The callbackPolicy does not exist.", "callbackPolicy"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_wrong_with_a_callback_stores_nothing(s3: S3, name: str) -> None:
    row = REFUSALS[name]
    answer = s3.put("/bucket/key", CONTENT, row.sent)
    assert (answer.status, answer.code, answer.message) == (400, "InvalidArgument", row.message)
    assert answer.text("ArgumentName") == row.argument
    assert len((answer.text("ArgumentValue") or "").encode()) <= 512
    assert s3.head("/bucket/key").status == 404


def test_a_copy_that_carries_a_callback_copies_nothing(s3: S3) -> None:
    s3.put("/bucket/source", CONTENT)
    answer = s3.put("/bucket/key", headers=carried() | {"x-amz-copy-source": "/bucket/source"})
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert "x-amz-meta-callback" in answer.message
    assert s3.head("/bucket/key").status == 404


@pytest.mark.parametrize("field", ["callbackHost", "callbackBodyType", "callbackUrl"])
@pytest.mark.parametrize("bad", ["\r\nX-Injected: 1", "\n", "\0"])
def test_line_breaks_reach_no_header(s3: S3, field: str, bad: str) -> None:
    good = {
        "callbackHost": "app.example",
        "callbackBodyType": "application/json",
        "callbackUrl": "http://a.example/",
    }
    assert s3.put("/bucket/key", CONTENT, carried(**{field: good[field] + bad + "b"})).status == 400
    assert s3.head("/bucket/key").status == 404


# ---------------------------------------------------------------- failed: 203 or 424, and the object stays


def raw(data: bytes) -> Callable[[], Any]:
    return lambda: RawServer(answering(data))


def served(**answer: Any) -> Callable[[], Any]:
    return lambda: Receiver(default=Reply(**answer))


class Nobody:
    """A port where nothing listens."""

    def __enter__(self) -> Nobody:
        self.port = closed_port()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


class Unresolvable(Nobody):
    def url(self) -> str:
        return "http://nothing.invalid/"


CONNECT = "Error status : -1.s3lite can not connect to your callbackUrl, please check it."
LONG = "Error status : 400.User server return too long content-length value."
BROKEN = "Error status : 400.User server return invalid content-length value."
NOT_JSON = "Response body is not valid json format."
FAILURES: dict[str, tuple[Callable[[], Any], str]] = {
    "connection refused": (Nobody, CONNECT),
    "no such name": (Unresolvable, CONNECT),
    "not HTTP": (raw(b"SSH-2.0\r\n\r\n"), CONNECT),
    "no answer in time": (served(delay_s=1.5), r"Error status : -1\.Reply timeout, cost:\d+ms, timeout:\d+ms\."),
    "status 500": (served(status=500), "Error status : 500."),
    "status 201": (served(status=201), "Error status : 201."),
    "redirect": (served(status=302, headers={"Location": "http://169.254.169.254/"}), "Error status : 302."),
    "too long": (served(body=b'"' + b"a" * (1 << 20) + b'"'), LONG),
    "two lengths": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), BROKEN),
    "cut short": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), BROKEN),
    "bad chunks": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"), BROKEN),
    "plain text": (served(body=b"OK"), NOT_JSON),
    "bad XML": (served(body=b"<a>", content_type="application/xml"), NOT_JSON),
}  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """An application that waits for callbacks a little only."""
    from conftest import ROOT_KEY, ROOT_SECRET

    base = Settings(
        data_dir=str(tmp_path_factory.mktemp("quick")), access_key=ROOT_KEY, secret_key=ROOT_SECRET
    )
    callback = replace(base.callback, allow=("127.0.0.1",), timeout_s=0.7, breaker_failures=0)
    sweep, http = replace(base.sweep, enabled=False), replace(base.http, access_log=False)
    app = create_app(replace(base, callback=callback, sweep=sweep, http=http, durability="relaxed"))
    yield app
    app.close()


def check_failure(s3: S3, answer: Answer, status: int, message: str) -> None:
    assert (answer.status, answer.code) == (status, "CallbackFailed")
    assert answer.message == message or re.fullmatch(message, answer.message)
    assert answer.headers["Content-Type"] == "application/xml"
    assert answer.headers["ETag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert answer.headers["x-s3lite-callback-status"] == "failed"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "127.0.0.1" not in answer.body.decode().partition("<Resource>")[0]
    assert s3.head("/bucket/key").headers["Content-Length"] == "15"


@pytest.mark.parametrize("name", FAILURES)
def test_a_callback_that_fails_is_203_or_424_and_the_object_stays(quick: Application, name: str) -> None:
    s3 = S3(quick, "root-key", "root-secret")
    s3.put("/bucket")
    make, message = FAILURES[name]
    with make() as server:
        check_failure(s3, s3.put("/bucket/key", CONTENT, headers(server.url())), 203, message)
        if message == NOT_JSON or name == "status 201":
            return  # success under `standard`
        sent = headers(server.url(), callbackReply="standard", callbackOnFailure="error")
        if name == "too long":
            assert s3.put("/bucket/key", CONTENT, sent).status == 200  # the beginning will do
        else:
            check_failure(s3, s3.put("/bucket/key", CONTENT, sent), 424, message)


def test_a_name_that_turns_private_after_the_check(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["8.8.8.8"], ["10.0.0.1"]])
    monkeypatch.setattr("s3lite.callback.egress.resolve", lambda host, port: next(answers), raising=True)
    app = create_app(settings)
    s3 = S3(app, "root-key", "root-secret")
    s3.put("/bucket")
    sent = headers("http://rebinding.example/")
    check_failure(s3, s3.put("/bucket/key", CONTENT, sent), 203, "Private address is forbidden to callback.")
    app.close()


def test_too_many_at_once(settings: Settings) -> None:
    app = create_app(replace(settings, callback=replace(settings.callback, max_inflight=1)))
    s3 = S3(app, "root-key", "root-secret")
    s3.put("/bucket")
    inner: list[Answer] = []

    def upload_meanwhile(_received: object) -> None:
        inner.append(s3.put("/bucket/key", CONTENT, headers("http://127.0.0.1:1024/")))

    with Receiver(on_request=upload_meanwhile) as receiver:
        assert s3.put("/bucket/outer", CONTENT, headers(receiver.url())).status == 200
    check_failure(s3, inner[0], 203, "Too many callback requests.")
    app.close()


def test_refused_then_silent_then_answered(quick: Application) -> None:
    s3 = S3(quick, "root-key", "root-secret")
    s3.put("/bucket")
    with socket.create_server(("127.0.0.1", 0)) as silent, Receiver() as last:
        urls = f"http://127.0.0.1:{closed_port()}/;http://127.0.0.1:{silent.getsockname()[1]}/;{last.url()}"
        answer = s3.put("/bucket/key", CONTENT, headers(urls))
        connection, _ = silent.accept()
        with connection:
            asked = connection.recv(65536).decode("latin-1")
    assert (answer.status, answer.body) == (200, b'{"Status":"OK"}')
    callback_id = answer.headers["x-s3lite-callback-id"]
    assert f"webhook-id: {callback_id}\r\n" in asked
    assert [got.headers["webhook-id"] for got in last.requests] == [callback_id]


# ---------------------------------------------------------------- what the uploader gets of it

FOREIGN = {
    "Set-Cookie": "session=stolen",
    "Location": "http://evil.example/",
    "Access-Control-Allow-Origin": "*",
    "Content-Security-Policy": "default-src *",
    "ETag": '"mine"',
    "x-amz-version-id": "mine",
    "x-s3lite-callback-status": "mine",
    "Refresh": "0; url=http://evil.example/",
    "Content-Encoding": "gzip",
}


@pytest.mark.parametrize("more", [{}, {"callbackReply": "standard"}, {"callbackMode": "gate"}], ids=str)
@pytest.mark.parametrize("status", [200, 500])
def test_no_header_of_the_application_reaches_the_uploader(
    s3: S3, receiver: Receiver, status: int, more: dict[str, str]
) -> None:
    receiver.default = Reply(b'{"a":1}', status=status, content_type="text/html", headers=FOREIGN)
    answer = s3.put("/bucket/key", CONTENT, headers(receiver.url(), **more))
    sent = {name.lower(): value for name, value in answer.headers.items()}
    for name, value in FOREIGN.items():
        assert sent.get(name.lower()) != value
    assert "text/html" not in sent.get("content-type", "")


@pytest.mark.parametrize("status", [200, 502])
def test_a_failure_is_readable_by_pages(s3: S3, receiver: Receiver, status: int) -> None:
    rule = (
        b"<CORSConfiguration><CORSRule><AllowedOrigin>https://page.example</AllowedOrigin>"
        b"<AllowedMethod>PUT</AllowedMethod><ExposeHeader>ETag</ExposeHeader></CORSRule></CORSConfiguration>"
    )
    s3.put("/bucket?cors", rule, {"Content-MD5": base64.b64encode(hashlib.md5(rule).digest()).decode()})
    receiver.default = Reply(b"{}", status=status, headers={"Access-Control-Allow-Origin": "*"})
    sent = headers(receiver.url()) | {"Origin": "https://page.example"}
    answer = s3.put("/bucket/key", CONTENT, sent)
    assert answer.status == (200 if status == 200 else 203)
    assert answer.headers.getall("Access-Control-Allow-Origin") == ["https://page.example"]
    assert answer.headers["Access-Control-Expose-Headers"] == "ETag"
    assert "ETag" in answer.headers


def test_one_application_cannot_forge_for_another(app: Application, s3: S3) -> None:
    """The secret is that of the key that signed the upload."""
    secrets = {}
    for name in ("alice-key", "second-key"):
        secrets[name] = new_webhook_secret()

    def work(tx: Any) -> None:
        alice = tx.access_key("alice-key")
        account = Account(alice.account.id, alice.account.display_name, alice.account.email)
        for name, secret in secrets.items():
            tx.put_access_key(AccessKey(name, "alice-secret", account, webhook_secret=secret))

    app.services.store.catalog.write(work)
    with Receiver(secrets=[secrets["alice-key"]]) as receiver:
        s3.put("/bucket/key", CONTENT, headers(receiver.url()))
        S3(app, "second-key", "alice-secret").put("/bucket/key", CONTENT, headers(receiver.url()))
    assert [got.webhook for got in receiver.requests] == ["valid", "no signature fits"]
