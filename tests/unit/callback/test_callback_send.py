from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from unit.callback.callback_kit import (
    OK,
    REQUESTER,
    SECRET,
    WEBHOOK_ID,
    RawServer,
    answering,
    event,
    read_request,
    spec,
)

from s3lite.callback import pools
from s3lite.callback.egress import ADDRESS_DENIED
from s3lite.callback.listen import Answer, Receiver
from s3lite.callback.send import Attempt, CallbackSender, Outcome
from s3lite.callback.signing import CallbackKeys
from s3lite.callback.spec import CallbackSpec
from s3lite.errors import S3Error
from s3lite.settings import SettingsError

PUB_KEY_URL = "http://s3.example:8000/.s3lite/callback-key.pem"
CANNOT_CONNECT = "Error status : -1.s3lite can not connect to your callbackUrl, please check it."
TOO_LONG = "Error status : 400.User server return too long content-length value."
BAD_LENGTH = "Error status : 400.User server return invalid content-length value."
NOT_JSON = "Response body is not valid json format."
MakeSender = Callable[..., CallbackSender]


def deliver(sender: CallbackSender, what: CallbackSpec, reply: str = "passthrough", **values: Any) -> Outcome:
    return sender.deliver(what, event(**values), requester=REQUESTER, pub_key_url=PUB_KEY_URL, reply=reply)


def to_raw(sender: CallbackSender, answer: bytes, reply: str = "passthrough") -> Outcome:
    with RawServer(answering(answer)) as server:
        return deliver(sender, spec(server.url()), reply)


def answer(body: bytes, *, status: str = "200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status.encode(), len(body), headers, body)


# ---------------------------------------------------------------- the request


def test_the_request_as_sent(make_sender: MakeSender, keys: CallbackKeys) -> None:
    received: list[bytes] = []

    def talk(connection: socket.socket, _: int) -> None:
        received.append(read_request(connection))
        connection.sendall(OK)

    with RawServer(talk) as server:
        what = spec(
            server.url("/a%2fb%e7?q=%2f&x[]=1"), callbackBodyType="application/json", callbackBody="[${size}]"
        )
        assert deliver(make_sender(), what).ok
        host = f"127.0.0.1:{server.port}"
    head, _, body = received[0].partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert lines[0] == "POST /a%2fb%e7?q=%2f&x[]=1 HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert body == b"[15]"
    now = parsedate_to_datetime(headers.pop("Date"))
    assert abs((datetime.now(UTC) - now).total_seconds()) < 5
    timestamp = headers.pop("webhook-timestamp")
    key_url = base64.b64encode(PUB_KEY_URL.encode()).decode()
    assert headers == {
        "Host": host,
        "Connection": "keep-alive",
        "Content-Type": "application/json",
        "Content-Length": "4",
        "Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode(),
        "User-Agent": "s3lite-callback/0.1.0",
        "Accept-Encoding": "identity",
        "webhook-id": WEBHOOK_ID,
        "webhook-signature": keys.webhook_signature(WEBHOOK_ID, int(timestamp), body, [SECRET]),
        "Authorization": keys.oss_signature("/a%2fb%e7", "q=%2f&x[]=1", body),
        "x-oss-pub-key-url": key_url,
        "x-oss-bucket": "bkt",
        "x-oss-request-id": "REQ1",
        "x-oss-requester": "AKEXAMPLE",
        "x-oss-signature-version": "1.0",
        "x-oss-tag": "CALLBACK",
        "X-Callback-Pub-Key-Url": key_url,
    }
    assert len(headers) == len(lines) - 1 - 2


def test_host_and_no_oss_signature(make_sender: MakeSender, keys: CallbackKeys) -> None:
    with Receiver(secrets=[SECRET]) as receiver:
        what = spec(receiver.url(), callbackHost="app.example:81")
        assert deliver(make_sender(oss_signature=False), what).ok
    (got,) = receiver.requests
    assert got.headers["host"] == "app.example:81"
    assert not {name for name in got.headers if name.startswith("x-") or name == "authorization"}
    assert got.webhook == "valid"


def test_both_signatures_verify(make_sender: MakeSender, keys: CallbackKeys) -> None:
    with Receiver(public_keys=keys.public_keys(), oss_pem=keys.public_pem()) as receiver:
        outcome = deliver(make_sender(), spec(receiver.url("/%E7%85%A7?a=1")))
    assert outcome == Outcome(True, WEBHOOK_ID, 200, b'{"Status":"OK"}', "application/json", "")
    assert (receiver.requests[0].webhook, receiver.requests[0].oss) == ("valid", "valid")


def test_an_event_without_id_gets_one(make_sender: MakeSender) -> None:
    with Receiver() as receiver:
        outcome = deliver(make_sender(), spec(receiver.url(), callbackBody="${callbackId}"), callback_id="")
    assert outcome.callback_id.startswith("msg_")
    assert receiver.requests[0].body == outcome.callback_id.encode()
    assert receiver.requests[0].headers["webhook-id"] == outcome.callback_id


# ---------------------------------------------------------------- what counts as success


@pytest.mark.parametrize(
    ("raw", "body", "kind"),
    [
        (
            answer(
                b'{"a":[1.5e3,"\xe7\x85\xa7"]}', headers=b"Set-Cookie: a=b\r\nContent-Type: text/html\r\n"
            ),
            ...,
            "json",
        ),
        (answer(b" null\r\n"), ..., "json"),
        (answer(b"1" * 5000), ..., "json"),
        (answer(b"<a>\xe7\x85\xa7</a>", headers=b"Content-Type: text/xml; charset=utf-8\r\n"), ..., "xml"),
        (answer(b'<?xml version="1.0"?><a/>', headers=b"Content-Type: Application/XML\r\n"), ..., "xml"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n[\r\n1\r\n]\r\n0\r\nT: 1\r\n\r\n",
            b"[]",
            "json",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n[]", b"[]", "json"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"{}", "json"),
    ],
)
def test_success(make_sender: MakeSender, raw: bytes, body: Any, kind: str) -> None:
    outcome = to_raw(make_sender(), raw)
    expected = raw.partition(b"\r\n\r\n")[2] if body is ... else body
    assert outcome == Outcome(True, WEBHOOK_ID, 200, expected, f"application/{kind}", "")


@pytest.mark.parametrize(
    ("raw", "status", "message"),
    [
        (answer(b"{}", status="201 Created"), 201, "Error status : 201."),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, "Error status : 204."),
        (answer(b"{}", status="301 Moved", headers=b"Location: http://169.254.169.254/\r\n"), 301, "Error status : 301."),
        (answer(b"<h1>", status="502 Bad"), 502, "Error status : 502."),
        (answer(b"OK"), 200, NOT_JSON),
        (answer(b""), 200, NOT_JSON),
        (answer(b"\xef\xbb\xbf{}"), 200, NOT_JSON),
        (answer(b'"\xff"'), 200, NOT_JSON),
        (answer(b"[NaN]"), 200, NOT_JSON),
        (answer(b"-Infinity"), 200, NOT_JSON),
        (answer(b"{}{}"), 200, NOT_JSON),
        (answer(b"[" * 100_000), 200, NOT_JSON),
        (answer(b"<a/>"), 200, NOT_JSON),
        (answer(b"{}", headers=b"Content-Type: application/xml\r\n"), 200, NOT_JSON),
        (answer(b"<!DOCTYPE a><a/>", headers=b"Content-Type: text/xml\r\n"), 200, NOT_JSON),
        (answer(b"<a>&x;</a>", headers=b"Content-Type: text/xml\r\n"), 200, NOT_JSON),
        (answer(b'<?xml version="1.0" encoding="x"?><a/>', headers=b"Content-Type: text/xml\r\n"), 200, NOT_JSON),
        (answer(b" " * 5001), 200, TOO_LONG),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 5001, 200, TOO_LONG),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1388\r\n" + b" " * 5000 + b"\r\n1\r\n \r\n0\r\n\r\n", 200, TOO_LONG),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}", 200, TOO_LONG),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", 200, BAD_LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\n{}", 200, BAD_LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}", 200, BAD_LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 200, BAD_LENGTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, BAD_LENGTH),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}", 200, BAD_LENGTH),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 200, BAD_LENGTH),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", 200, BAD_LENGTH),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + b"x" * 400_000, 200, TOO_LONG),
        (b"HTTP/1.1 200 OK\r\n" + b"A: " + b"a" * 9000 + b"\r\n" + b"B: b\r\n" * 50_000 + b"\r\n{}", None, None),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", None, CANNOT_CONNECT),
        (b"HTTP/1.1 200 OK\r\nContent-", 200, NOT_JSON),
        (b"", None, CANNOT_CONNECT),
    ],
)  # fmt: skip
def test_failure(make_sender: MakeSender, raw: bytes, status: int | None, message: str | None) -> None:
    outcome = to_raw(make_sender(max_reply_bytes=200_000 if b"[[" in raw else 5000), raw)
    assert not outcome.ok
    assert outcome.body == b""
    assert outcome.status == status
    assert outcome.message == message or (message is None and outcome.message in (CANNOT_CONNECT, TOO_LONG))


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (answer(b"plain", status="201 Created"), b"plain"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (answer(b""), b""),
        (answer(b"x" * 6000), b"x" * 5000),
    ],
)
def test_standard_takes_any_2xx(make_sender: MakeSender, raw: bytes, body: bytes) -> None:
    outcome = to_raw(make_sender(max_reply_bytes=5000), raw, "standard")
    assert (outcome.ok, outcome.body) == (True, body)


def test_standard_fails_on_other_statuses(make_sender: MakeSender) -> None:
    assert (
        to_raw(make_sender(), answer(b"{}", status="302 Found"), "standard").message == "Error status : 302."
    )


# ---------------------------------------------------------------- connections that fail


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_listens(make_sender: MakeSender) -> None:
    log: list[Attempt] = []
    outcome = deliver(make_sender(on_log=log.append), spec(f"http://127.0.0.1:{closed_port()}/"))
    assert log[0].cause == "ConnectionRefusedError: Connection refused"
    assert (outcome.message, outcome.status) == (CANNOT_CONNECT, None)


def test_a_name_that_does_not_resolve(make_sender: MakeSender) -> None:
    def resolver(host: str, port: int) -> list[str]:
        raise socket.gaierror(8, "nodename nor servname")

    sender = make_sender(resolver=resolver)
    what = spec("http://nowhere.example/")
    sender.check(what)
    assert deliver(sender, what).message == CANNOT_CONNECT


def test_a_resolver_that_hangs_is_cut(make_sender: MakeSender) -> None:
    sender = make_sender(resolver=lambda host, port: time.sleep(0.6) or [], timeout_s=0.15)
    start = time.monotonic()
    assert deliver(sender, spec("http://slow.example/")).message == CANNOT_CONNECT
    assert time.monotonic() - start < 0.45


def drip(head: bytes, piece: bytes) -> Callable[[socket.socket, int], None]:
    def talk(connection: socket.socket, _: int) -> None:
        read_request(connection)
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(0.05)

    return talk


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\nA", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_an_answer_in_drips_is_cut_at_the_deadline(
    make_sender: MakeSender, head: bytes, piece: bytes
) -> None:
    with RawServer(drip(head, piece)) as server:
        start = time.monotonic()
        outcome = deliver(make_sender(timeout_s=0.3), spec(server.url()))
        took = time.monotonic() - start
    assert outcome.message.startswith("Error status : -1.Reply timeout, cost:3")
    assert outcome.message.endswith("ms, timeout:300ms.")
    assert 0.29 < took < 0.6


def test_total_time_is_capped_over_all_urls(make_sender: MakeSender) -> None:
    with RawServer(drip(b"", b"")) as server:
        start = time.monotonic()
        outcome = deliver(make_sender(timeout_s=0.2, total_timeout_s=0.5), spec(*[server.url()] * 5))
        took = time.monotonic() - start
        assert server.connections == 3
    assert "Reply timeout" in outcome.message
    assert 0.48 < took < 0.8


def test_failover_keeps_the_id_and_stops_at_the_first_success(make_sender: MakeSender) -> None:
    log: list[Attempt] = []
    with RawServer(drip(b"", b"")) as slow, Receiver(secrets=[SECRET]) as receiver:
        receiver.script += [Answer(status=500), Answer(b"no json"), Answer()]
        urls = [f"http://127.0.0.1:{closed_port()}/", slow.url(), *[receiver.url(f"/{n}") for n in range(3)]]
        outcome = deliver(make_sender(timeout_s=0.2, on_log=log.append), spec(*urls))
    assert outcome.ok
    assert [got.target for got in receiver.requests] == ["/0", "/1", "/2"]
    assert {got.headers["webhook-id"] for got in receiver.requests} == {WEBHOOK_ID}
    assert {got.webhook for got in receiver.requests} == {"valid"}
    messages = [attempt.message for attempt in log]
    assert messages[0] == CANNOT_CONNECT
    assert "Reply timeout" in messages[1]
    assert messages[2:] == ["Error status : 500.", NOT_JSON, ""]


def test_the_last_failure_is_reported(make_sender: MakeSender) -> None:
    with Receiver() as receiver:
        receiver.script += [Answer(status=500), Answer(status=404)]
        outcome = deliver(make_sender(), spec(receiver.url(), receiver.url()))
    assert (outcome.status, outcome.message) == (404, "Error status : 404.")


def test_too_many_in_flight_fail_at_once(make_sender: MakeSender) -> None:
    sender, release = make_sender(max_inflight=1), threading.Event()

    def hold(_: object) -> None:
        release.wait(5)

    with Receiver(on_request=hold) as receiver:
        first = threading.Thread(target=deliver, args=(sender, spec(receiver.url())))
        first.start()
        receiver.wait(1)
        assert sender.in_flight == 1
        outcome = deliver(sender, spec(receiver.url()))
        release.set()
        first.join()
    assert (outcome.ok, outcome.message) == (False, "Too many callback requests.")
    assert sender.in_flight == 0
    assert len(receiver.requests) == 1


# ---------------------------------------------------------------- egress


def test_denied_at_check_and_at_send(make_sender: MakeSender) -> None:
    sender = make_sender(allow=(), resolver=lambda host, port: ["10.0.0.1", "127.0.0.1"])
    for url in ("http://127.0.0.1:9000/", "http://inner.example/", "http://8.8.8.8/;http://10.0.0.1/"):
        with pytest.raises(S3Error) as caught:
            sender.check(spec(url))
        assert caught.value.message == ADDRESS_DENIED
    assert deliver(sender, spec("http://inner.example/")).message == ADDRESS_DENIED


def test_a_name_that_is_rebound_after_the_check(make_sender: MakeSender) -> None:
    answers = [["8.8.8.8"], ["127.0.0.1"]]
    with Receiver() as receiver:
        sender = make_sender(allow=(), resolver=lambda host, port: answers.pop(0))
        what = spec(f"http://rebind.example:{receiver.address[1]}/")
        sender.check(what)
        assert deliver(sender, what).message == ADDRESS_DENIED
    assert receiver.requests == []


def test_a_name_is_resolved_once_and_never_by_the_connection(make_sender: MakeSender) -> None:
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["10.9.9.9", "127.0.0.1"]

    with Receiver() as receiver:
        what = spec(f"http://two.example:{receiver.address[1]}/")
        assert deliver(make_sender(resolver=resolver), what).ok
        assert receiver.requests[0].headers["host"] == f"two.example:{receiver.address[1]}"
    assert asked == ["two.example"]


def test_the_next_address_is_tried_when_one_does_not_connect(make_sender: MakeSender) -> None:
    with RawServer(answering(OK)) as server:
        sender = make_sender(
            resolver=lambda host, port: ["127.0.0.9", "::1", "127.0.0.1"], allow=("127.0.0.0/8", "::1")
        )
        assert deliver(sender, spec(f"http://three.example:{server.port}/")).ok


def test_own_listeners_are_refused(make_sender: MakeSender) -> None:
    with Receiver() as receiver:
        sender = make_sender(own_listeners=[("0.0.0.0", receiver.address[1])])
        with pytest.raises(S3Error):
            sender.check(spec(receiver.url()))
        assert deliver(sender, spec(receiver.url())).message == ADDRESS_DENIED
    assert receiver.requests == []


def test_redirects_are_not_followed(make_sender: MakeSender) -> None:
    with Receiver() as target, Receiver() as receiver:
        receiver.default = Answer(status=307, headers={"Location": target.url()})
        assert deliver(make_sender(), spec(receiver.url())).message == "Error status : 307."
    assert target.requests == []


def test_proxies_of_the_environment_are_ignored(
    make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    with Receiver() as receiver:
        assert deliver(make_sender(), spec(receiver.url())).ok


def test_a_configured_proxy_gets_the_whole_url(make_sender: MakeSender) -> None:
    with Receiver() as proxy:
        sender = make_sender(proxy=proxy.url().rstrip("/"), allow=())
        assert deliver(sender, spec("http://app.internal:8080/cb?x=1")).ok
    assert proxy.requests[0].target == "http://app.internal:8080/cb?x=1"
    assert proxy.requests[0].headers["host"] == "app.internal:8080"


def test_a_header_that_cannot_be_sent_is_not_sent(
    make_sender: MakeSender, caplog: pytest.LogCaptureFixture
) -> None:
    with Receiver() as receiver:
        outcome = deliver(make_sender(), spec(receiver.url()), request_id="a\r\nb")
    assert outcome.message == CANNOT_CONNECT
    assert "x-oss-request-id" in caplog.text
    assert receiver.requests == []


# ---------------------------------------------------------------- connections that last


def test_connections_are_used_again(make_sender: MakeSender) -> None:
    log: list[Attempt] = []
    with Receiver() as receiver:
        sender = make_sender(on_log=log.append)
        for _ in range(3):
            assert deliver(sender, spec(receiver.url())).ok
        assert deliver(sender, spec(receiver.url(), callbackHost="other.example")).ok
    connections = [got.connection for got in receiver.requests]
    assert len(set(connections[:3])) == 1
    assert connections[3] != connections[0]
    assert [attempt.is_reused for attempt in log] == [False, True, True, False]


def test_a_failed_exchange_ends_its_connection(make_sender: MakeSender) -> None:
    with Receiver() as receiver:
        receiver.script += [Answer(status=500), Answer(b"no json")]
        sender = make_sender()
        for _ in range(3):
            deliver(sender, spec(receiver.url()))
    assert len({got.connection for got in receiver.requests}) == 3


def test_a_connection_gone_stale_is_replaced(make_sender: MakeSender) -> None:
    """The server hangs up on a reused connection when the second request arrives: seen only while reading."""
    log: list[Attempt] = []

    def talk(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(OK)
        if read_request(connection) and number > 1:
            connection.sendall(OK)

    with RawServer(talk) as server:
        sender = make_sender(on_log=log.append)
        assert deliver(sender, spec(server.url())).ok
        assert deliver(sender, spec(server.url())).ok
        assert server.connections == 2
        assert deliver(sender, spec(server.url())).ok
        assert server.connections == 2
    assert len(log) == 3


def test_a_fresh_connection_is_not_retried(make_sender: MakeSender) -> None:
    with RawServer(lambda connection, _: read_request(connection) and None) as server:
        assert deliver(make_sender(), spec(server.url())).message == CANNOT_CONNECT
        assert server.connections == 1


def test_an_answer_that_breaks_after_its_first_byte_is_not_retried(make_sender: MakeSender) -> None:
    def talk(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)
        connection.sendall(b"H")

    with RawServer(talk) as server:
        sender = make_sender()
        assert deliver(sender, spec(server.url())).ok
        assert not deliver(sender, spec(server.url())).ok
        assert server.connections == 1


def test_idle_connections_are_dropped(make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_S", 0.1)
    closed = threading.Event()

    def talk(connection: socket.socket, _: int) -> None:
        while read_request(connection):
            connection.sendall(OK)
        closed.set()

    with RawServer(talk) as server:
        assert deliver(make_sender(), spec(server.url())).ok
        assert closed.wait(2)


def test_many_hosts_do_not_keep_many_pools(make_sender: MakeSender) -> None:
    with Receiver() as receiver:
        sender = make_sender(oss_signature=False)
        for number in range(70):
            assert deliver(sender, spec(receiver.url(), callbackHost=f"h{number}")).ok
        assert len(sender._pools._pools) == 64


def test_threads_share_a_sender(make_sender: MakeSender) -> None:
    outcomes: list[bool] = []
    with Receiver() as receiver:
        sender = make_sender(oss_signature=False)

        def work() -> None:
            outcomes.extend(deliver(sender, spec(receiver.url())).ok for _ in range(10))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == [True] * 60
    assert len({got.connection for got in receiver.requests}) <= 12


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for app.example, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "app.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("app.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "app.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


def over_tls(
    certificate: Path, names: list[str | None], raw: bytes = OK
) -> Callable[[socket.socket, int], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda sock, name, ctx: names.append(name)

    def talk(connection: socket.socket, _: int) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            while read_request(secure):
                secure.sendall(raw)
                if raw != OK:
                    time.sleep(1)

    return talk


def test_tls_goes_to_the_address_with_the_name(make_sender: MakeSender, certificate: Path) -> None:
    names: list[str | None] = []
    log: list[Attempt] = []
    with RawServer(over_tls(certificate, names)) as server:
        sender = make_sender(
            ca_file=str(certificate), resolver=lambda host, port: ["127.0.0.1"], on_log=log.append
        )
        what = spec(
            f"https://app.example:{server.port}/", callbackHost="elsewhere.example", callbackSNI=False
        )
        assert deliver(sender, what).ok
        assert deliver(sender, what).ok
    assert names == ["app.example"]
    assert [attempt.is_reused for attempt in log] == [False, True]


def test_tls_certificates_are_verified(make_sender: MakeSender, certificate: Path) -> None:
    with RawServer(over_tls(certificate, [])) as server:
        resolver = lambda host, port: ["127.0.0.1"]  # noqa: E731
        right, other = (spec(f"https://{name}:{server.port}/") for name in ("app.example", "other.example"))
        assert deliver(make_sender(resolver=resolver), right).message == CANNOT_CONNECT
        assert (
            deliver(make_sender(resolver=resolver, ca_file=str(certificate)), other).message == CANNOT_CONNECT
        )


def test_a_missing_ca_file_stops_the_start(make_sender: MakeSender) -> None:
    with pytest.raises(SettingsError, match=r"callback\.ca_file"):
        make_sender(ca_file="/nowhere.pem")


def test_tls_obeys_the_deadline(make_sender: MakeSender, certificate: Path) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"
    sender = make_sender(ca_file=str(certificate), resolver=lambda host, port: ["127.0.0.1"], timeout_s=0.3)
    with RawServer(over_tls(certificate, [], half)) as server:
        outcome = deliver(sender, spec(f"https://app.example:{server.port}/"))
        assert outcome.message.startswith("Error status : -1.Reply timeout, cost:3")
    start = time.monotonic()
    with RawServer(lambda connection, _: time.sleep(1)) as silent:  # never answers the handshake
        outcome = deliver(sender, spec(f"https://app.example:{silent.port}/"))
    assert outcome.message == CANNOT_CONNECT
    assert time.monotonic() - start < 0.6


def test_tls_through_a_proxy_is_a_tunnel(make_sender: MakeSender, certificate: Path) -> None:
    names: list[str | None] = []
    lines: list[bytes] = []
    secure_talk = over_tls(certificate, names)

    def talk(connection: socket.socket, number: int) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        lines.append(head.partition(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        secure_talk(connection, number)

    with RawServer(talk) as proxy:
        sender = make_sender(ca_file=str(certificate), proxy=f"http://127.0.0.1:{proxy.port}")
        assert deliver(sender, spec("https://app.example:8443/cb")).ok
        assert deliver(sender, spec("https://app.example:8443/cb")).ok
    assert lines[0].startswith(b"CONNECT app.example:8443 HTTP/1.")
    assert (len(lines), names) == (1, ["app.example"])


# ---------------------------------------------------------------- logs


def test_logs_hold_no_secrets(make_sender: MakeSender, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "s3lite.callback"), Receiver() as receiver:
        receiver.script.append(Answer(b"secret-answer"))
        what = spec(
            receiver.url("/cb?token=secret-token"),
            receiver.url("/cb?token=secret-token"),
            variables={"x:a": "secret-value"},
            callbackBody="a=${x:a}",
        )
        assert deliver(make_sender(), what).ok
    assert "secret" not in caplog.text
    assert f"to http://127.0.0.1:{receiver.address[1]}/cb: ok in" in caplog.text
    assert NOT_JSON in caplog.text
    assert json.dumps("secret-value") not in caplog.text
