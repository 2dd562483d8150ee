import contextlib
import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import Code, S3Error
from s3lite.wire import cors
from s3lite.wire.cors import CorsRule


def document(*rules: str) -> bytes:
    rows = "".join(f"<CORSRule>{rule}</CORSRule>" for rule in rules)
    return f"<CORSConfiguration>{rows}</CORSConfiguration>".encode()


def rule(origin: str = "*", method: str = "GET", more: str = "") -> str:
    return f"<AllowedOrigin>{origin}</AllowedOrigin><AllowedMethod>{method}</AllowedMethod>{more}"


FULL = CorsRule(
    origins=("https://a.example", "https://*.b.example"),
    methods=("GET", "PUT"),
    headers=("*",),
    exposed=("ETag", "x-amz-version-id"),
    max_age_s=3000,
    id="one & only",
)


# ---------------------------------------------------------------- the document


def test_a_document_round_trips() -> None:
    rules = (FULL, CorsRule(("*",), ("HEAD",)), CorsRule(("null",), ("POST",), max_age_s=0))
    assert cors.parse(cors.document(rules)) == rules
    assert cors.loads(cors.dumps(rules)) == rules


def test_white_space_around_values_is_dropped() -> None:
    (found,) = cors.parse(document(rule(" *\n", " GET ", "<MaxAgeSeconds> 5 </MaxAgeSeconds>")))
    assert (found.origins, found.methods, found.max_age_s) == (("*",), ("GET",), 5)


def test_elements_are_shown_in_the_order_of_the_reference() -> None:
    text = cors.document([FULL]).decode()
    names = ("<ID>", "<AllowedHeader>", "<AllowedMethod>", "<AllowedOrigin>", "<ExposeHeader>", "<MaxAge")
    positions = [text.index(name) for name in names]
    assert positions == sorted(positions)
    assert "<ID>one &amp; only</ID>" in text


REFUSED = {
    "empty": (b"", Code.MissingRequestBodyError, ""),
    "no xml": (b"<CORSConf", Code.MalformedXML, ""),
    "another root": (b"<Tagging/>", Code.MalformedXML, ""),
    "no rule": (b"<CORSConfiguration/>", Code.MalformedXML, ""),
    "no origin": (document("<AllowedMethod>GET</AllowedMethod>"), Code.MalformedXML, ""),
    "no method": (document("<AllowedOrigin>*</AllowedOrigin>"), Code.MalformedXML, ""),
    "empty origin": (document(rule(" ")), Code.MalformedXML, "AllowedOrigin"),
    "nested": (document(rule("<a/>")), Code.MalformedXML, ""),
    "unknown method": (document(rule(method="PATCH")), Code.InvalidRequest, "Unsupported method is PATCH"),
    "lower-case method": (document(rule(method="get")), Code.InvalidRequest, "Unsupported method is get"),
    "OPTIONS": (document(rule(method="OPTIONS")), Code.InvalidRequest, "OPTIONS"),
    "two wildcards": (document(rule("http://*.a.*")), Code.InvalidRequest, '"http://*.a.*" can not have'),
    "two header wildcards": (
        document(rule(more="<AllowedHeader>*-*</AllowedHeader>")),
        Code.InvalidRequest,
        'AllowedHeader "*-*" can not have',
    ),
    "exposed wildcard": (
        document(rule(more="<ExposeHeader>*</ExposeHeader>")),
        Code.InvalidRequest,
        "wildcard for ExposeHeader",
    ),
    "exposed header with a line end": (
        document(rule(more="<ExposeHeader>a\nSet-Cookie: b</ExposeHeader>")),
        Code.InvalidRequest,
        "is not a header name",
    ),
    "negative age": (document(rule(more="<MaxAgeSeconds>-1</MaxAgeSeconds>")), Code.MalformedXML, "MaxAge"),
    "huge age": (
        document(rule(more=f"<MaxAgeSeconds>{'9' * 30}</MaxAgeSeconds>")),
        Code.MalformedXML,
        "MaxAge",
    ),
    "long id": (document(rule(more=f"<ID>{'i' * 256}</ID>")), Code.InvalidRequest, "255"),
    "101 rules": (document(*[rule()] * 101), Code.InvalidRequest, "100"),
    "too long": (document(rule("a" * cors.MAX_BYTES)), Code.MaxMessageLengthExceeded, "65536"),
}


@pytest.mark.parametrize(("data", "code", "words"), list(REFUSED.values()), ids=list(REFUSED))
def test_parse_refuses(data: bytes, code: Code, words: str) -> None:
    with pytest.raises(S3Error) as caught:
        cors.parse(data)
    assert caught.value.code is code
    assert words in caught.value.message


def test_limits_are_inclusive() -> None:
    assert len(cors.parse(document(*[rule()] * 100))) == 100
    assert cors.parse(document(rule(more=f"<ID>{'i' * 255}</ID>")))[0].id == "i" * 255


# ---------------------------------------------------------------- matching

ORIGINS = [
    ("*", "https://any.example", "*"),
    ("*", "null", "*"),
    ("https://a.example", "https://a.example", "https://a.example"),
    ("https://a.example", "http://a.example", None),
    ("https://a.example", "https://a.example:8443", None),
    ("https://a.example", "https://a.example.evil", None),
    ("https://a.example", "https://A.example", None),
    ("https://*.a.example", "https://x.a.example", "https://x.a.example"),
    ("https://*.a.example", "https://x.y.a.example", "https://x.y.a.example"),
    ("https://*.a.example", "https://a.example", None),
    ("https://*.a.example", "https://evila.example", None),
    ("*suffix", "foo.suffix", "foo.suffix"),
    ("*suffix", "suffix", "suffix"),
    ("*suffix", "foo.suffix.get", None),
    ("start*end", "startend", "startend"),
    ("start*end", "start12end", "start12end"),
    ("start*end", "0start12end", None),
    ("aba*aba", "aba", None),
    ("aba*aba", "ababa", None),
    ("aba*aba", "abaaba", "abaaba"),
    ("prefix*", "prefix.suffix", "prefix.suffix"),
    ("prefix*", "bla.prefix", None),
    ("http://*", "http://a\r\nSet-Cookie: b", None),
    ("*", "http://a\x00", None),
    ("*", "http://b\xfccher.example", None),
]


@pytest.mark.parametrize(("pattern", "origin", "allowed"), ORIGINS)
def test_origins(pattern: str, origin: str, allowed: str | None) -> None:
    found = cors.match([CorsRule((pattern,), ("GET",))], origin=origin, method="GET")
    assert (found.allow_origin if found else None) == allowed


def test_the_methods_of_a_rule_are_all_that_it_allows() -> None:
    rules = [CorsRule(("*",), ("GET", "PUT"))]
    allowed = [method for method in cors.METHODS if cors.match(rules, origin="a", method=method)]
    assert allowed == ["GET", "PUT"]


HEADERS = [
    ((), (), True),
    ((), ("x-amz-date",), False),
    (("*",), ("x-amz-date", "authorization"), True),
    (("x-amz-*",), ("x-amz-date", "X-Amz-Meta-A"), True),
    (("X-AMZ-*",), ("x-amz-date",), True),
    (("x-amz-*",), ("x-amz-date", "content-type"), False),
    (("x-amz-*", "Content-Type"), ("x-amz-date", "content-type"), True),
    (("content-*-x",), ("content-x",), False),
]


@pytest.mark.parametrize(("allowed", "asked", "fits"), HEADERS)
def test_every_requested_header_must_be_allowed(
    allowed: tuple[str, ...], asked: tuple[str, ...], fits: bool
) -> None:
    rules = [CorsRule(("*",), ("PUT",), headers=allowed)]
    assert (cors.match(rules, origin="a", method="PUT", headers=asked) is not None) is fits


def test_the_first_rule_that_fits_decides() -> None:
    rules = [
        CorsRule(("https://a",), ("PUT",), id="method"),
        CorsRule(("https://b",), ("GET",), id="origin"),
        CorsRule(("https://*",), ("GET",), headers=("x",), id="first"),
        CorsRule(("*",), ("GET",), headers=("*",), id="last"),
    ]
    found = cors.match(rules, origin="https://a", method="GET", headers=["x"])
    assert found is not None
    assert (found.rule.id, found.allow_origin) == ("first", "https://a")
    found = cors.match(rules, origin="https://a", method="GET", headers=["y"])
    assert found is not None
    assert (found.rule.id, found.allow_origin) == ("last", "*")


def test_an_origin_of_the_list_wins_over_a_star_after_it() -> None:
    found = cors.match([CorsRule(("https://a", "*"), ("GET",))], origin="https://a", method="GET")
    assert found is not None
    assert found.allow_origin == "https://a"


def test_requested_headers() -> None:
    assert cors.requested_headers("") == ()
    assert cors.requested_headers(" x-amz-date ,\tcontent-type,, ") == ("x-amz-date", "content-type")
    for text in ("a b", "a:b", "a\r\nb", "\xe4"):
        assert cors.requested_headers(text) is None


WORD = st.text("ab*.", max_size=6)


@given(WORD.filter(lambda text: text.count("*") <= 1), st.text("ab.", max_size=8))
def test_one_star_means_what_it_means_in_file_names(pattern: str, value: str) -> None:
    found = cors.match([CorsRule((pattern,), ("GET",))], origin=value, method="GET")
    assert (found is not None) is fnmatch.fnmatchcase(value, pattern)


@given(st.binary(max_size=200))
def test_any_bytes_give_rules_or_an_s3_error(data: bytes) -> None:
    with contextlib.suppress(S3Error):
        assert cors.parse(data)
