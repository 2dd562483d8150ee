from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.callback.callback_kit import RELAXED

from s3lite.callback.egress import EgressPolicy, parse_url, resolve
from s3lite.errors import S3Error
from s3lite.settings import CallbackSettings, SettingsError

FAR = 1e9
MakePolicy = Callable[..., EgressPolicy]


@pytest.fixture
def make_policy() -> Iterator[MakePolicy]:
    made: list[EgressPolicy] = []

    def make(*allow: str, resolves: object = None, own: Any = (), **settings: Any) -> EgressPolicy:
        def resolver(host: str, port: int) -> list[str]:
            if isinstance(resolves, list):
                return resolves
            raise socket.gaierror("no such name")

        made.append(EgressPolicy(CallbackSettings(allow=allow, **settings), own, resolver=resolver))
        return made[-1]

    yield make
    for policy in made:
        policy.close()


def reaches(policy: EgressPolicy, url: str) -> list[str]:
    return [address for address, _ in policy.addresses(parse_url(url), FAR)]


# ---------------------------------------------------------------- the URL


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "target", "netloc"),
    [
        ("http://a.example", "http", "a.example", 80, "/", "a.example"),
        ("a.example/x", "http", "a.example", 80, "/x", "a.example"),
        ("HTTPS://A.Example.:443/p", "https", "a.example", 443, "/p", "a.example"),
        ("https://a.example:80/", "https", "a.example", 80, "/", "a.example:80"),
        ("a.example:8080?u=http://b/", "http", "a.example", 8080, "/?u=http://b/", "a.example:8080"),
        ("http://h/a%2fb//c/../d?x=%e7;".rstrip(";"), "http", "h", 80, "/a%2fb//c/../d?x=%e7", "h"),
        ("http://h/p?", "http", "h", 80, "/p?", "h"),
        ("http://h/?a[]=1&b=?/", "http", "h", 80, "/?a[]=1&b=?/", "h"),
        ("http://[2001:DB8:0::1]:8080/x", "http", "2001:db8::1", 8080, "/x", "[2001:db8::1]:8080"),
        ("http://127.0.0.1.:9000", "http", "127.0.0.1", 9000, "/", "127.0.0.1:9000"),
        ("http://xn--fiqs8s.example", "http", "xn--fiqs8s.example", 80, "/", "xn--fiqs8s.example"),
        ("http://my_service:9000/", "http", "my_service", 9000, "/", "my_service:9000"),
    ],
)
def test_parsed_urls(text: str, scheme: str, host: str, port: int, target: str, netloc: str) -> None:
    url = parse_url(text)
    assert (url.scheme, url.host, url.port, url.target, url.netloc) == (scheme, host, port, target, netloc)
    assert "?" not in str(url)


@pytest.mark.parametrize(
    "text",
    [
        "", "http://", "//a.example/", "ftp://a.example", "http:/a.example", "http://u:p@a.example", "http://u@a.example",
        "http://a.example#f", "http://a.example/#", "http://a.example:0", "http://a.example:65536", "http://a.example:",
        "http://a.example:22", "http://a.example:1023", "http://a.example:6667", "http://a.example:10080",
        "http://a..example", "http://.example", "http://a.example..", "http://-a.example", "http://a-.example",
        "http://" + "a" * 64 + ".example", "http://" + "a." * 130 + "example", "http://a%2eexample", "http://bücher.example",
        "http://a.example/ü", "http://a.example\\@b.example", "http://a.example/\\b", "http://a.example/ b", "http://a b/",
        "http://a.example/\r\nX: 1", "http://a.example\r\nX: 1/", "http://a.example/\n", "http://a.example\x00", "\thttp://h",
        "http://a.example/%zz", "http://a.example/%2", "http://a.example/${x:a}", 'http://a.example/"', "http://a.example/{",
        "http://127.1", "http://0x7f.1", "http://2130706433", "http://0177.0.0.1", "http://127.0.0.01", "http://1.2.3.4.5",
        "http://1.2.3.256", "http://0x7f000001", "http://127.0.0.0x1", "http://a.0x", "http://1.2.3.4e", "http://08.1.1.1",
        "http://[::1%25eth0]", "http://[::1%eth0]", "http://[::1", "http://::1", "http://[127.0.0.1]", "http://[v1.a]",
        "http://[]", "http://１２７.0.0.1", "http://a.example:８０",
    ],
)  # fmt: skip
def test_refused_urls(text: str) -> None:
    if text == "http://1.2.3.4e":
        assert parse_url(text).literal is None  # a name after all; it is judged by what it resolves to
        return
    with pytest.raises(S3Error) as caught:
        parse_url(text)
    assert caught.value.message == "The callback url configuration is invalid."
    assert caught.value.details["ArgumentName"] == "callbackUrl"


@RELAXED
@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("ht/p:.[]@%0x1\\"), max_size=30))
def test_any_text_is_a_url_that_means_one_thing_or_refused(text: str) -> None:
    try:
        url = parse_url("http://" + text)
    except S3Error:
        return
    again = parse_url(f"{url.scheme}://{url.netloc}{url.target}")
    assert again == url
    assert url.target.isascii()


# ---------------------------------------------------------------- addresses

DENIED_SAMPLES = [
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "100.100.100.200",
    "[::]",
    "[::1]",
    "[::127.0.0.1]",
    "[::8.8.8.8]",
    "[::ffff:10.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a00:1]",
    "[64:ff9b:1::1]",
    "[100::1]",
    "[2001::1]",
    "[2001:1ff::1]",
    "[2001:db8::1]",
    "[2002:7f00:1::]",
    "[fc00::1]",
    "[fdff::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[febf::1]",
    "[ff02::1]",
    "[fec0::1]",
    "[::ffff:0:127.0.0.1]",
    "[5f00::1]",
]


@pytest.mark.parametrize("host", DENIED_SAMPLES)
def test_denied_by_default(make_policy: MakePolicy, host: str) -> None:
    url = parse_url(f"http://{host}:8080/")
    assert make_policy().addresses(url, FAR) == []
    assert make_policy(resolves=[host.strip("[]")]).addresses(parse_url("http://name/"), FAR) == []
    with pytest.raises(S3Error) as caught:
        make_policy().check_early(url)
    assert caught.value.message == "Private address is forbidden to callback."
    assert caught.value.details["ArgumentName"] == "callbackUrl"


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "11.0.0.1", "100.128.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "[2606:4700::1111]", "[2001:200::1]",
     "[::ffff:8.8.8.8]"],
)  # fmt: skip
def test_public_addresses_pass(make_policy: MakePolicy, host: str) -> None:
    assert reaches(make_policy(), f"http://{host}/") == [str(parse_url(f"http://{host}/").literal)]
    make_policy().check_early(parse_url(f"https://{host}/"))


def test_names_keep_the_addresses_that_may_be_reached(make_policy: MakePolicy) -> None:
    policy = make_policy(resolves=["10.0.0.1", "8.8.8.8", "::1", "8.8.4.4", "8.8.8.8"])
    assert reaches(policy, "http://two.example/") == ["8.8.8.8", "8.8.4.4"]
    policy.check_early(parse_url("http://two.example/"))
    with pytest.raises(S3Error):
        make_policy(resolves=["10.0.0.1", "::1"]).check_early(parse_url("http://inner.example/"))


def test_a_name_that_does_not_resolve_passes_the_early_check_only(make_policy: MakePolicy) -> None:
    policy = make_policy()
    policy.check_early(parse_url("http://nowhere.example/"))
    with pytest.raises(OSError, match="no such name"):
        reaches(policy, "http://nowhere.example/")


def test_resolution_ends_at_the_deadline() -> None:
    policy = EgressPolicy(CallbackSettings(), resolver=lambda host, port: time.sleep(0.5) or [])
    start = time.monotonic()
    policy.check_early(parse_url("http://slow.example/"), start + 0.05)
    with pytest.raises(TimeoutError):
        policy.addresses(parse_url("http://slow.example/"), start + 0.1)
    assert time.monotonic() - start < 0.4
    policy.close()


def test_the_system_resolver() -> None:
    assert set(resolve("localhost", 80)) & {"127.0.0.1", "::1"}


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("entry", "url", "resolved", "reached"),
    [
        ("10.1.0.0/16", "http://10.1.2.3:9000/", [], True),
        ("10.1.0.0/16", "http://10.2.2.3:9000/", [], False),
        ("10.1.0.0/16", "http://name/", ["10.1.0.1"], True),
        ("10.1.0.0/16:9000", "http://10.1.2.3:9000/", [], True),
        ("10.1.0.0/16:9000", "http://10.1.2.3:9001/", [], False),
        ("127.0.0.1:9000", "http://127.0.0.1:9000/", [], True),
        ("127.0.0.1:9000", "http://127.0.0.1/", [], False),
        ("127.0.0.1:9000", "http://[::ffff:127.0.0.1]:9000/", [], True),
        ("::1", "http://[::1]:8080/", [], True),
        ("[::1]:9000", "http://[::1]:9000/", [], True),
        ("[::1]:9000", "http://[::1]:9001/", [], False),
        ("[fd00::/8]:8080", "http://[fd12::1]:8080/", [], True),
        ("hooks.internal", "http://Hooks.Internal.:7000/", ["192.168.1.1"], True),
        ("hooks.internal", "http://x.hooks.internal/", ["192.168.1.1"], False),
        ("*.svc.local:8080", "http://a.b.svc.local:8080/", ["10.0.0.1"], True),
        ("*.svc.local:8080", "http://a.svc.local/", ["10.0.0.1"], False),
        ("*.svc.local", "http://svc.local/", ["10.0.0.1"], False),
        # Metadata services and own listeners need exactly address:port.
        ("169.254.0.0/16", "http://169.254.169.254/", [], False),
        ("169.254.169.254", "http://169.254.169.254/", [], False),
        ("169.254.169.254/32:80", "http://169.254.169.254/", [], True),
        ("169.254.169.254:80", "http://169.254.169.254/", [], True),
        ("meta.internal:80", "http://meta.internal/", ["169.254.169.254"], False),
        ("fd00::/8", "http://[fd00:ec2::254]/", [], False),
        ("64:ff9b::/96", "http://[64:ff9b::a9fe:a9fe]/", [], False),
        ("2002::/16", "http://[2002:a9fe:a9fe::1]/", [], False),
        ("2001::/23", "http://[2001:0:102:304:0:0:5601:5601]/", [], False),
        ("10.0.0.0/8", "http://10.0.0.9:8000/", [], False),
        ("10.0.0.9:8000", "http://10.0.0.9:8000/", [], True),
        ("10.0.0.0/8", "http://10.0.0.9:8001/", [], True),
    ],
)  # fmt: skip
def test_allow_entries(
    make_policy: MakePolicy, entry: str, url: str, resolved: list[str], reached: bool
) -> None:
    policy = make_policy(entry, resolves=resolved, own=[("10.0.0.9", 8000)])
    assert bool(reaches(policy, url)) is reached


def test_a_wildcard_listener_is_every_address_of_this_machine(make_policy: MakePolicy) -> None:
    for own in ("0.0.0.0", "::", "localhost"):
        policy = make_policy("127.0.0.0/8", "0.0.0.0/8", "::1", own=[(own, 8000)])
        assert reaches(policy, "http://127.0.0.2:8000/") == []
        assert reaches(policy, "http://0.0.0.0:8000/") == []
        assert reaches(policy, "http://127.0.0.2:8001/") == ["127.0.0.2"]
        assert reaches(policy, "http://8.8.8.8:8000/") == ["8.8.8.8"]


def test_allow_only(make_policy: MakePolicy) -> None:
    policy = make_policy("8.8.8.0/24", "hooks.example", allow_only=True, resolves=["1.1.1.1"])
    assert reaches(policy, "http://8.8.8.8/")
    assert reaches(policy, "http://hooks.example/")
    assert not reaches(policy, "http://8.8.4.4/")
    assert not reaches(policy, "http://other.example/")


def test_denied_ports(make_policy: MakePolicy) -> None:
    policy = make_policy(deny_ports=(9100,))
    url = parse_url("http://8.8.8.8:9100/")
    assert policy.addresses(url, FAR) == []
    with pytest.raises(S3Error) as caught:
        policy.check_early(url)
    assert caught.value.message == "The callback url configuration is invalid."


def test_a_proxy_filters_by_itself(make_policy: MakePolicy) -> None:
    policy = make_policy(proxy="http://proxy.internal:3128", resolves=["10.0.0.3"])
    assert policy.addresses(parse_url("http://192.168.0.1/"), FAR) == [("10.0.0.3", 3128)]


@pytest.mark.parametrize(
    "entry", ["", "*", "a b", "host:99999", "host:", "host:x", "[::1", "10.0.0.0/33", "u@h", "*.*.a"]
)
def test_bad_allow_entries(entry: str) -> None:
    with pytest.raises(SettingsError):
        EgressPolicy(CallbackSettings(allow=(entry,)))


@pytest.mark.parametrize(
    "proxy", ["proxy:3128", "https://p", "http://u:p@h", "http://h/x", "http://h:x", "socks5://h"]
)
def test_bad_proxies(proxy: str) -> None:
    with pytest.raises(SettingsError):
        EgressPolicy(CallbackSettings(proxy=proxy))


@pytest.mark.parametrize(
    ("url", "resolved", "line"),
    [
        ("http://10.0.0.5:9000/p?secret=1", [], '"10.0.0.5:9000"'),
        ("http://[fd00::5]/p", [], '"[fd00::5]:80"'),
        ("https://hooks.internal/p", ["10.0.0.5"], '"hooks.internal:443"'),
        ("http://meta.internal/p", ["169.254.169.254"], '"169.254.169.254:80"'),
    ],
)
def test_a_refusal_is_logged_with_the_line_to_add(
    make_policy: MakePolicy, caplog: pytest.LogCaptureFixture, url: str, resolved: list[str], line: str
) -> None:
    with caplog.at_level(logging.WARNING, "s3lite.callback"):
        reaches(make_policy(resolves=resolved), url)
    assert line in caplog.text
    assert "secret" not in caplog.text
    assert reaches(make_policy(line.strip('"'), resolves=resolved), url)
