import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import Code, S3Error
from s3lite.wire import website
from s3lite.wire.website import Redirect, RoutingRule, Website

INDEX = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"


def document(inner: str) -> bytes:
    return f"<WebsiteConfiguration>{inner}</WebsiteConfiguration>".encode()


def routing(redirect: str, condition: str = "") -> bytes:
    when = f"<Condition>{condition}</Condition>" if condition else ""
    rule = f"<RoutingRule>{when}<Redirect>{redirect}</Redirect></RoutingRule>"
    return document(f"{INDEX}<RoutingRules>{rule}</RoutingRules>")


HOST = "<HostName>a.example</HostName>"
SITES = [
    Website(index="index.html"),
    Website(index="i", error_key="errors/404.html"),
    Website(redirect_all=Redirect("a.example", "https")),
    Website(redirect_all=Redirect("a.example:8080")),
    Website(
        index="i",
        rules=(
            RoutingRule(Redirect("a.example", "https", "key&", None, 302), "docs/", 404),
            RoutingRule(Redirect(prefix=""), "old/"),
            RoutingRule(Redirect(key="x", code=307), error=403),
            RoutingRule(Redirect(protocol="http")),
        ),
    ),
]


@pytest.mark.parametrize("site", SITES)
def test_a_document_round_trips(site: Website) -> None:
    assert website.parse(website.document(site)) == site
    assert website.loads(website.dumps(site)) == site


REFUSED = {
    "empty": (b"", Code.MissingRequestBodyError),
    "another root": (b"<Tagging/>", Code.MalformedXML),
    "no index": (document(""), Code.InvalidArgument),
    "error document alone": (document("<ErrorDocument><Key>e</Key></ErrorDocument>"), Code.InvalidArgument),
    "empty index": (document("<IndexDocument><Suffix/></IndexDocument>"), Code.InvalidArgument),
    "index in a folder": (
        document("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>"),
        Code.InvalidArgument,
    ),
    "empty error document": (
        document(f"{INDEX}<ErrorDocument><Key/></ErrorDocument>"),
        Code.InvalidArgument,
    ),
    "all and more": (
        document(f"<RedirectAllRequestsTo>{HOST}</RedirectAllRequestsTo>{INDEX}"),
        Code.InvalidRequest,
    ),
    "all to nowhere": (document("<RedirectAllRequestsTo/>"), Code.MalformedXML),
    "empty redirect": (routing(""), Code.MalformedXML),
    "empty condition": (routing(HOST, "<KeyPrefixEquals/>"), Code.InvalidRequest),
    "protocol": (routing("<Protocol>javascript</Protocol>"), Code.InvalidRequest),
    "code 200": (routing("<HttpRedirectCode>200</HttpRedirectCode>"), Code.InvalidRequest),
    "code 300": (routing("<HttpRedirectCode>300</HttpRedirectCode>"), Code.InvalidRequest),
    "code 304": (routing("<HttpRedirectCode>304</HttpRedirectCode>"), Code.InvalidRequest),
    "error 200": (
        routing(HOST, "<HttpErrorCodeReturnedEquals>200</HttpErrorCodeReturnedEquals>"),
        Code.InvalidRequest,
    ),
    "key and prefix": (
        routing(
            "<ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith>",
        ),
        Code.InvalidRequest,
    ),
    "51 rules": (
        document(
            f"{INDEX}<RoutingRules>"
            + f"<RoutingRule><Redirect>{HOST}</Redirect></RoutingRule>" * 51
            + "</RoutingRules>"
        ),
        Code.InvalidRequest,
    ),
} | {
    f"host {host!r}": (routing(f"<HostName>{host}</HostName>"), Code.InvalidRequest)
    for host in ("a b", "a/b", "a\nSet-Cookie: b", "user@a", "-a", "a:b", "a?b", "\u00e4")
}


@pytest.mark.parametrize(("data", "code"), list(REFUSED.values()), ids=list(REFUSED))
def test_parse_refuses(data: bytes, code: Code) -> None:
    with pytest.raises(S3Error) as caught:
        website.parse(data)
    assert caught.value.code is code


LOCATIONS = [
    (RoutingRule(Redirect("a.example", "https")), "k", "https://a.example/k"),
    (RoutingRule(Redirect("a.example")), "a b/\u00e9?#", "http://a.example/a%20b/%C3%A9%3F%23"),
    (RoutingRule(Redirect(protocol="https")), "k", "https://site.web.example:81/m/k"),
    (RoutingRule(Redirect()), "k", "/m/k"),
    (RoutingRule(Redirect(key="new?x=1&y=%20#z")), "old", "/m/new?x=1&y=%20#z"),
    (RoutingRule(Redirect(prefix="new/"), "old/"), "old/a?b", "/m/new/a%3Fb"),
    (RoutingRule(Redirect(prefix="#!/"), error=404), "page", "/m/#!/page"),
    (RoutingRule(Redirect(prefix="")), "k", "/m/k"),
    (RoutingRule(Redirect("a.example", prefix="p/")), "k", "http://a.example/p/k"),
    (RoutingRule(Redirect(key="a\r\nb\x00")), "k", "/m/a%0D%0Ab%00"),
]


@pytest.mark.parametrize(("rule", "key", "location"), LOCATIONS)
def test_locations(rule: RoutingRule, key: str, location: str) -> None:
    assert website.location(rule, key, origin="http://site.web.example:81", mount_prefix="/m") == location


@pytest.mark.parametrize(
    "key", ["/evil.test", "//evil.test", "\\evil.test", "\t/evil.test", "\r\nSet-Cookie: a"]
)
def test_a_key_never_leads_to_another_host(key: str) -> None:
    for rule in (RoutingRule(Redirect()), RoutingRule(Redirect(prefix=""), "x")):
        path = website.location(rule, "x" * len(rule.prefix) + key, origin="http://a", mount_prefix="")
        assert path.startswith("/")
        assert not path.startswith("//")
        assert path.isascii()
        assert path.isprintable()
        assert "\\" not in path
    assert not website.folder(key, "").startswith("//")


@pytest.mark.parametrize(
    ("value", "location"),
    [
        ("/other", "/other"),
        ("//evil.test", "/%2Fevil.test"),
        ("https://a.example/x?y=z", "https://a.example/x?y=z"),
        ("http://a.example/a b\r\nc", "http://a.example/a%20b%0D%0Ac"),
        ("javascript:alert(1)", None),
        ("other", None),
    ],
)
def test_locations_of_objects(value: str, location: str | None) -> None:
    assert website.object_location(value, "") == location


def test_the_first_rule_that_fits_decides() -> None:
    by_error = RoutingRule(Redirect(key="e"), "docs/", 404)
    by_prefix = RoutingRule(Redirect(key="p"), "docs/")
    site = Website(index="i", rules=(by_error, by_prefix, RoutingRule(Redirect(key="q"), "docs/a")))
    assert website.rule_for(site, "docs/a") is by_prefix
    assert website.rule_for(site, "docs/a", error=404) is by_error
    assert website.rule_for(site, "docs/a", error=403) is None
    assert website.rule_for(site, "else") is None


@given(st.binary(max_size=200))
def test_any_bytes_give_a_site_or_an_s3_error(data: bytes) -> None:
    with contextlib.suppress(S3Error):
        assert website.parse(data)
