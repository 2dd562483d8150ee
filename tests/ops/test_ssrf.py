"""Nobody makes this server talk to where it must not: callbacks, notifications and website redirects as a whole.

The rules one by one are in tests/unit/callback (test_callback_egress, test_callback_send); here they are
tried through the application, with names that a name server on loopback rebinds.
"""

from __future__ import annotations

import gzip
import itertools
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import forms
import pytest
from callbacks import CONTENT, encode, headers
from client import S3
from conftest import add_user
from names import NameServer
from unit.callback.callback_kit import RawServer, answering

from s3lite.app import Application, create_app
from s3lite.callback.egress import _BLOCKED_PORTS, parse_url
from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Receiver
from s3lite.errors import S3Error
from s3lite.settings import CallbackSettings, NotificationSettings, OutboxSettings, Settings

OPEN = "127.0.0.2"  # the one address that the operator allows
DENIED = "Private address is forbidden to callback."
INVALID = "The callback url configuration is invalid."
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with NameServer({}) as server:
        monkeypatch.setattr("s3lite.callback.egress.socket.getaddrinfo", server.getaddrinfo)
        yield server


@pytest.fixture
def inner() -> Iterator[RawServer]:
    """What must not be reached: a server of this machine that would answer."""
    with RawServer(answering(OK)) as server:
        yield server


@pytest.fixture
def outer() -> Iterator[Receiver]:
    """An application that the operator allows."""
    with Receiver(host=OPEN) as listening:
        yield listening


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(
        settings,
        website_domains=("web.test",),
        callback=CallbackSettings(allow=(OPEN,), timeout_s=1, breaker_failures=0),
        outbox=OutboxSettings(schedule_s=(0, 0.05), poll_s=0.05),
        notifications=NotificationSettings(targets=(("named", "http://hook.test:8080/"),)),
    )


def stored(s3: S3) -> list[str]:
    return s3.keys("bucket")


def eventually(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------- addresses, however they are written

V4 = {
    "127.0.0.1": (
        "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0177.0.0.1",
        "0177.1", "017700000001", "127.000.000.001", "0x7f.0.0.0x1", "127.0.0.01", "4429185025", "１２７.0.0.1",
        "127。0。0。1", "①②⑦.⓪.⓪.①", "%31%32%37.0.0.1", "127.0.0.1%00.test", "0", "0.0.0.0", "00000000", "0x0",
        "127.127.127.127", "localhost", "localhost.", "LocalHost", "loopback.test",
    ),
    "169.254.169.254": (
        "169.254.169.254", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "169.254.43518",
        "169.16689662", "0251.254.169.254", "metadata.test",
    ),
    "others": (
        "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.100.100.200",
        "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255", "0.1.2.3",
    ),
}  # fmt: skip
V6 = (
    "::1", "::", "0:0:0:0:0:0:0:1", "0000::0001", "::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:7f00:0001",
    "::127.0.0.1", "::7f00:1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "2001:0:102:304::5601:5601",
    "2001:0:0:0:0:0:80ff:fffe", "fe80::1", "fe80::1%25lo", "::1%25lo", "::1%lo", "fec0::1", "fc00::1", "fd00:ec2::254",
    "ff02::1", "2001:db8::1", "100::1", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1", "[::1]", "::1.",
)  # fmt: skip
SPELLINGS = [*itertools.chain.from_iterable(V4.values()), *(f"[{text}]" for text in V6)]


@pytest.mark.parametrize("scheme", ["http://", "https://", ""], ids=["http", "https", "none"])
def test_no_spelling_of_an_inner_address_is_reached(
    s3: S3, inner: RawServer, names: NameServer, scheme: str
) -> None:
    names.zone |= {"loopback.test": [["127.0.0.1", "::1"]], "metadata.test": [["169.254.169.254"]]}
    for spelling in SPELLINGS:
        answer = s3.put("/bucket/key", CONTENT, headers(f"{scheme}{spelling}:{inner.port}/"))
        assert answer.code == "InvalidArgument", spelling
        assert answer.message in (DENIED, INVALID), spelling
    assert stored(s3) == []
    assert inner.connections == 0


MAPPED = ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "::1", "127.0.0.1"]


@pytest.mark.parametrize(
    "address", [*MAPPED, "169.254.169.254", "fd00:ec2::254", "::ffff:a9fe:a9fe", "10.0.0.1"]
)
def test_no_name_of_an_inner_address_is_reached(
    s3: S3, inner: RawServer, names: NameServer, address: str
) -> None:
    names.zone["inner.test"] = [[address]]
    assert s3.put("/bucket/key", CONTENT, headers(f"http://inner.test:{inner.port}/")).message == DENIED
    assert stored(s3) == []
    assert inner.connections == 0


TRICKS = [
    "http://public.test@{inner}/", "http://{inner}@public.test/", "http://a:b@{inner}/", "http://public.test#@{inner}/",
    "http://{inner}#@public.test/", "http://public.test\\@{inner}/", "http://{inner}\\@public.test/",
    "http://public.test%2f@{inner}/", "http://public.test%00@{inner}/", "http://public.test:80@{inner}/",
    "http://public.test;http://{inner}/", "http:{inner}/", "http:/{inner}/", "http:///{inner}/", "//{inner}/",
    "http:\\\\{inner}/", "http://{inner}:80/", "http://[::1]@{inner}/", "http://[public.test]@{inner}/",
    "gopher://{inner}/_x", "file:///etc/passwd", "ftp://{inner}/", "dict://{inner}/x", "unix:///run/x.sock",
    "jar:http://{inner}!/", "javascript:alert(1)", "data:,x", "http+unix://%2Frun%2Fx.sock/",
    "http://public.test\t@{inner}/", "http://public.test\r\nHost: {inner}/", "http://public.test /@{inner}/",
    "http://xn--/@{inner}", "http://{inner}\u3002/", "http://\u2100.test@{inner}/", "HTTP://{inner}/", " http://{inner}/ ",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_of_a_url_reaches_another_host_than_the_one_that_was_judged(
    s3: S3, inner: RawServer, names: NameServer, trick: str
) -> None:
    names.zone["public.test"] = [["8.8.8.8"]]
    url = trick.replace("{inner}", f"127.0.0.1:{inner.port}")
    answer = s3.put("/bucket/key", CONTENT, headers(url))
    assert (answer.status, answer.message in (DENIED, INVALID)) == (400, True), answer
    assert stored(s3) == []
    assert inner.connections == 0


def test_every_port_but_those_of_applications_is_refused() -> None:
    allowed = {80, 443, *range(1024, 65536)} - _BLOCKED_PORTS
    for port in [*range(1100), *_BLOCKED_PORTS, 65535, 65536, 99999]:
        try:
            assert parse_url(f"http://public.test:{port}/").port == port
        except S3Error:
            assert port not in allowed
        else:
            assert port in allowed


def test_the_servers_own_port_is_refused(settings: Settings, inner: RawServer) -> None:
    allowed = replace(settings.callback, allow=("127.0.0.0/8", "::1"))
    app = create_app(replace(settings, bind=f"127.0.0.1:{inner.port}", callback=allowed))
    s3 = add_user(app, "alice")
    s3.put("/bucket")
    for url in (f"http://127.0.0.1:{inner.port}/", f"http://[::ffff:127.0.0.1]:{inner.port}/"):
        assert s3.put("/bucket/key", CONTENT, headers(url)).message == DENIED
    assert inner.connections == 0
    app.close()


# ---------------------------------------------------------------- every way to carry a callback


def by_header(s3: S3, url: str, **more: str) -> int:
    return s3.put("/bucket/key", CONTENT, headers(url, **more)).status


def by_oss_header(s3: S3, url: str, **more: str) -> int:
    sent = {"x-oss-callback": headers(url, **more)["x-amz-meta-callback"]}
    return s3.put("/bucket/key", CONTENT, sent).status


def by_query(s3: S3, url: str, **more: str) -> int:
    quoted = (
        headers(url, **more)["x-amz-meta-callback"]
        .replace("+", "%2B")
        .replace("=", "%3D")
        .replace("/", "%2F")
    )
    return s3.open(
        "PUT", s3.presign("PUT", f"/bucket/key?callback={quoted}"), CONTENT, {"Content-Length": "15"}
    ).status


def by_form(s3: S3, url: str, **more: str) -> int:
    document = encode({"callbackUrl": url, "callbackBody": "k=${object}"} | more)
    fields = {"key": "key", "callback": document}
    conditions = [{"bucket": "bucket"}, *({name: value} for name, value in fields.items())]
    credentials = s3.credentials
    body = forms.body(
        [
            *fields.items(),
            *forms.v4_fields(credentials.access_key, credentials.secret_key, conditions).items(),
        ]
    )
    sent = {"Content-Type": forms.CONTENT_TYPE, "Content-Length": str(len(body))}
    return s3.send("POST", "/bucket", "", body, sent).status


def by_create(s3: S3, url: str, **more: str) -> int:
    return s3.post("/bucket/key?uploads", headers=headers(url, **more)).status


def by_complete(s3: S3, url: str, **more: str) -> int:
    upload = s3.start_upload("/bucket/key")
    part = s3.put_part("/bucket/key", upload, 1, CONTENT)
    return s3.complete("/bucket/key", upload, {1: part}, headers(url, **more)).status


def by_policy(s3: S3, url: str, **more: str) -> int:
    fields = {"callbackUrl": url, "callbackBody": "k=${object}"} | more
    policy = {"name": "p", "applies": "always", "callback": fields}
    put = s3.put("/bucket?callback", json.dumps({"policies": [policy]}).encode())
    return put.status if put.status != 200 else s3.put("/bucket/key", CONTENT).status


CARRIERS = [by_header, by_oss_header, by_query, by_form, by_create, by_complete, by_policy]


@pytest.mark.parametrize("mode", ["sync", "gate", "async", "sync-retry"])
@pytest.mark.parametrize("carry", CARRIERS, ids=[carry.__name__ for carry in CARRIERS])
def test_no_carrier_and_no_mode_reaches_an_inner_address(
    s3: S3, inner: RawServer, names: NameServer, carry: Callable[..., int], mode: str
) -> None:
    names.zone["inner.test"] = [["127.0.0.1"]]
    for url in (f"http://127.0.0.1:{inner.port}/", f"http://inner.test:{inner.port}/"):
        assert carry(s3, url, callbackMode=mode) >= 400
    assert stored(s3) == []
    assert inner.connections == 0


# ---------------------------------------------------------------- names that change


@pytest.mark.parametrize("mode", ["sync", "gate", "sync-retry", "async"])
def test_a_name_that_is_rebound_after_its_check_is_refused_when_it_is_sent(
    app: Application, s3: S3, inner: RawServer, outer: Receiver, names: NameServer, mode: str
) -> None:
    """Judged as allowed before the upload is stored, and inner at each attempt after that."""
    names.zone["rebind.test"] = [[OPEN], ["127.0.0.1"]]
    answer = s3.put("/bucket/key", CONTENT, headers(f"http://rebind.test:{inner.port}/", callbackMode=mode))
    assert answer.status == {"sync": 203, "gate": 503, "sync-retry": 203, "async": 200}[mode]
    attempts = 2 if mode in ("sync-retry", "async") else 1
    eventually(lambda: names.lookups.count("rebind.test") > attempts)
    assert inner.connections == 0
    assert outer.requests == []


def test_an_address_that_was_right_once_is_judged_again_though_its_connection_is_open(
    s3: S3, names: NameServer
) -> None:
    with RawServer(answering(OK, keep=True)) as inner, Receiver(host=OPEN) as outer:
        port = outer.address[1]
        names.zone["turn.test"] = [[OPEN], [OPEN], [OPEN], ["127.0.0.1"], [OPEN]]
        sent = headers(f"http://turn.test:{port}/")
        assert s3.put("/bucket/a", CONTENT, sent).status == 200  # looked up to check it, and to send it
        assert s3.put("/bucket/b", CONTENT, sent).status == 203  # and here it is another by then
        assert s3.put("/bucket/c", CONTENT, sent).status == 200
        assert [got.headers["host"] for got in outer.requests] == [f"turn.test:{port}"] * 2
        assert inner.connections == 0


def test_of_many_addresses_only_the_allowed_are_tried(s3: S3, outer: Receiver, names: NameServer) -> None:
    port = outer.address[1]
    with RawServer(answering(OK)) as inner:
        names.zone["many.test"] = [["127.0.0.1", "::1", "10.0.0.1", OPEN, "169.254.169.254"]]
        assert s3.put("/bucket/key", CONTENT, headers(f"http://many.test:{port}/")).status == 200
        assert inner.connections == 0
    assert len(outer.requests) == 1
    assert names.lookups == ["many.test"] * 2  # once to check and once to send: never by the connection


def test_a_name_without_addresses_is_no_way_in_and_holds_up_nobody(s3: S3, names: NameServer) -> None:
    begun = time.monotonic()
    assert s3.put("/bucket/key", CONTENT, headers("http://nowhere.test/")).status == 203
    assert time.monotonic() - begun < 3


# ---------------------------------------------------------------- what an application answers


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("mode", ["sync", "gate", "async"])
def test_a_redirect_is_never_followed(
    s3: S3, inner: RawServer, outer: Receiver, mode: str, status: int
) -> None:
    outer.default = Reply(
        status=status, headers={"Location": f"http://127.0.0.1:{inner.port}/", "Refresh": "0"}
    )
    answer = s3.put("/bucket/key", CONTENT, headers(outer.url(), callbackMode=mode))
    assert answer.status == {"sync": 203, "gate": 503, "async": 200}[mode]
    outer.wait(1)
    assert inner.connections == 0


def test_proxies_of_the_environment_get_nothing(
    s3: S3, inner: RawServer, outer: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{inner.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert s3.put("/bucket/key", CONTENT, headers(outer.url())).status == 200
    assert inner.connections == 0


def piece(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


BOMB = gzip.compress(bytes(64 << 20))
ENDLESS = b"x" * (3 << 20)
ANSWERS = {
    "gzip-bomb": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,
    "deflate-in-chunks": b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n"
    + piece(BOMB) + b"0\r\n\r\n",
    "endless": b"HTTP/1.1 200 OK\r\n\r\n" + ENDLESS,
    "endless-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + piece(b" " * 60_000) * 60,
    "one-byte-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + piece(b" ") * 600_000,
    "length-that-lies": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + ENDLESS,
    "header-flood": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500_000,
    "endless-header": b"HTTP/1.1 200 OK\r\nA: " + ENDLESS,
    "endless-status": b"HTTP/1.1 200 " + ENDLESS,
    "100-flood": b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
    "chunk-size-flood": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * (3 << 20),
    "trailer-flood": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 500_000,
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_costs_more_than_its_limits(settings: Settings, name: str) -> None:
    limited = replace(settings.callback, allow=("127.0.0.1",), max_reply_bytes=1 << 20)
    app = create_app(replace(settings, callback=limited))
    s3 = add_user(app, "alice")
    s3.put("/bucket")
    with RawServer(answering(ANSWERS[name])) as server:
        sent = headers(server.url())
        s3.put("/bucket/first", CONTENT, sent)  # what is imported and kept at first does not count
        tracemalloc.start()
        begun = time.monotonic()
        answer = s3.put("/bucket/key", CONTENT, sent)
        took_s, (_, most) = time.monotonic() - begun, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert answer.status == 203
    assert answer.code == "CallbackFailed"
    assert took_s < 5
    assert most < 24 << 20
    app.close()


# ---------------------------------------------------------------- notifications


def subscribe(s3: S3, arn: str) -> int:
    rule = f"<QueueConfiguration><Queue>{arn}</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration>"
    body = f"<NotificationConfiguration>{rule}</NotificationConfiguration>".encode()
    return s3.put("/bucket?notification", body).status


def test_a_bucket_cannot_name_where_its_notifications_go(s3: S3, inner: RawServer) -> None:
    address = f"127.0.0.1:{inner.port}"
    for arn in (
        f"http://{address}/", f"arn:s3lite:webhook:::http://{address}/", f"arn:aws:sns:us-east-1:1:{address}", f"//{address}",
        f"arn:aws:lambda:::named@{address}", "arn:s3lite:webhook:::named#x", "arn:s3lite:webhook:::../named",
    ):  # fmt: skip
        assert subscribe(s3, arn) == 400, arn
    assert inner.connections == 0


def test_a_notification_goes_through_the_same_gate(settings: Settings, names: NameServer) -> None:
    """Its target is the operator's, and its name may still be somebody else's."""
    with RawServer(answering(OK)) as inner, Receiver(host=OPEN) as outer:
        url = f"http://hook.test:{outer.address[1]}/"
        names.zone["hook.test"] = [[OPEN], ["127.0.0.1"]]
        app = create_app(replace(settings, notifications=NotificationSettings(targets=(("named", url),))))
        s3 = add_user(app, "alice")
        s3.put("/bucket")
        assert subscribe(s3, "arn:s3lite:webhook:::named") == 200  # the test event: allowed
        assert s3.put("/bucket/key", CONTENT).status == 200
        app.start_upkeep()
        eventually(lambda: len(names.lookups) >= 3)  # the test event, and two attempts
        assert len(outer.requests) == 1
        assert inner.connections == 0
        app.close()


def test_a_notification_target_in_a_denied_network_needs_the_allow_list(
    settings: Settings, inner: RawServer
) -> None:
    url = f"http://127.0.0.1:{inner.port}/"
    app = create_app(replace(settings, notifications=NotificationSettings(targets=(("named", url),))))
    s3 = add_user(app, "alice")
    s3.put("/bucket")
    assert subscribe(s3, "arn:s3lite:webhook:::named") == 400
    assert inner.connections == 0
    app.close()


def test_a_notification_follows_no_redirect(settings: Settings, inner: RawServer, outer: Receiver) -> None:
    outer.script.append(Reply(status=200))
    outer.default = Reply(status=307, headers={"Location": f"http://127.0.0.1:{inner.port}/"})
    target = (("named", outer.url()),)
    app = create_app(replace(settings, notifications=NotificationSettings(targets=target)))
    s3 = add_user(app, "alice")
    s3.put("/bucket")
    assert subscribe(s3, "arn:s3lite:webhook:::named") == 200
    s3.put("/bucket/key", CONTENT)
    outer.wait(2)
    assert inner.connections == 0
    app.close()


# ---------------------------------------------------------------- website redirects


def site(s3: S3, redirect: str, condition: str = "") -> S3:
    """Anybody's browser on the site of ``bucket`` with one routing rule."""
    when = f"<Condition>{condition}</Condition>" if condition else ""
    rules = f"<RoutingRules><RoutingRule>{when}<Redirect>{redirect}</Redirect></RoutingRule></RoutingRules>"
    index = "<IndexDocument><Suffix>i</Suffix></IndexDocument>"
    assert (
        s3.put(
            "/bucket?website", f"<WebsiteConfiguration>{index}{rules}</WebsiteConfiguration>".encode()
        ).status
        == 200
    )
    return S3(s3.wsgi, None, host="bucket.web.test:80")


PATHS = [
    "//evil.test/", "///evil.test", "/%2F%2Fevil.test/", "/%5Cevil.test", "/@evil.test", "/.evil.test", "/:80@evil.test",
    "/%0d%0aLocation:%20http://evil.test/", "/%E5%98%8A%E5%98%8Dx", "/%09//evil.test", "/http://evil.test/", "/?x=http://evil.test",
    "/%3F%23@evil.test",
]  # fmt: skip


@pytest.mark.parametrize(
    ("redirect", "prefix", "host"),
    [
        ("<HostName>www.example</HostName>", "", "www.example"),
        ("<Protocol>https</Protocol>", "", "bucket.web.test"),
        ("<ReplaceKeyPrefixWith></ReplaceKeyPrefixWith>", "go/", "bucket.web.test"),
        ("<ReplaceKeyPrefixWith>/</ReplaceKeyPrefixWith>", "go/", "bucket.web.test"),
    ],
    ids=["host", "protocol", "prefix", "slash"],
)
def test_a_visitor_cannot_choose_the_host_of_a_redirect(
    s3: S3, redirect: str, prefix: str, host: str
) -> None:
    browser = site(s3, redirect, prefix and f"<KeyPrefixEquals>{prefix}</KeyPrefixEquals>")
    for path in PATHS:
        raw, _, query = path.partition("?")
        answer = browser.send("GET", f"/{prefix}{raw[1:]}", query, b"", {})
        assert answer.status == 301, path
        location = answer.headers["Location"]
        assert not set(location) & set("\r\n\t\\ "), path
        assert not location.startswith("//"), path
        assert urlsplit(location).hostname in (host, None), path


def test_a_redirect_is_the_visitors_to_follow_and_never_fetched_here(s3: S3, inner: RawServer) -> None:
    browser = site(s3, f"<HostName>127.0.0.1:{inner.port}</HostName>")
    assert browser.get("/x").headers["Location"] == f"http://127.0.0.1:{inner.port}/x"
    sent = {"x-amz-website-redirect-location": f"http://127.0.0.1:{inner.port}/", "x-amz-acl": "public-read"}
    assert s3.put("/bucket/moved", b"", sent).status == 200
    s3.delete("/bucket?website")
    assert (
        s3.put(
            "/bucket?website",
            b"<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument></WebsiteConfiguration>",
        ).status
        == 200
    )
    assert browser.get("/moved").status == 301
    assert inner.connections == 0
