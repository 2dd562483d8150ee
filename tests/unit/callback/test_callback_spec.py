from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.callback.callback_kit import RELAXED, REQUESTER, b64

from s3lite.callback import spec as callback_spec
from s3lite.callback.spec import CallbackSpec, RawCallback, from_form, from_request, is_carrier, parse, refuse
from s3lite.errors import S3Error
from s3lite.model import ANONYMOUS, Identity, RequestHead, Target

GOOD = {"callbackUrl": "http://a.example/cb", "callbackBody": "size=${size}"}
CB = b64(GOOD)
VAR = b64({"x:var1": "value1"})
META, META_VAR = "x-amz-meta-callback", "x-amz-meta-callback-var"
OSS, OSS_VAR = "x-oss-callback", "x-oss-callback-var"
V4 = Identity("v4-header", REQUESTER, frozenset(("host", META, META_VAR, OSS, OSS_VAR)))
V4_BARE = Identity("v4-query", REQUESTER, frozenset(("host",)))
V2 = Identity("v2-header", REQUESTER, frozenset((META, META_VAR)))
V2_QUERY = Identity("v2-query", REQUESTER, frozenset((META, META_VAR)))
TWO_PLACES = "Either the callback query string parameter or the x-amz-meta-callback header should be specified, not both."


def head(headers: dict[str, str] | None = None, query: list[tuple[str, str]] | None = None) -> RequestHead:
    return RequestHead("PUT", "/b/k", "", headers or {}, Target("b", "k"), query or [])


def message(status: int, call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(S3Error) as caught:
        call(*args, **kwargs)
    assert caught.value.status == status
    assert caught.value.code.name == {400: "InvalidArgument", 403: "AccessDenied"}[status]
    return caught.value.message


def parse_fields(**fields: Any) -> CallbackSpec:
    document = {name: value for name, value in {**GOOD, **fields}.items() if value is not ...}
    return parse(RawCallback("s3-header", b64(document)))


def parse_var(text: str) -> CallbackSpec:
    return parse(RawCallback("s3-header", CB, text))


# ---------------------------------------------------------------- where it stands


@pytest.mark.parametrize(
    ("place", "request_head", "identity"),
    [
        ("s3-header", head({META: CB, META_VAR: VAR}), V4),
        ("s3-header", head({META: CB, META_VAR: VAR}), V2),
        ("oss-header", head({OSS: CB, OSS_VAR: VAR}), V4),
        ("query", head(query=[("callback", CB), ("callback-var", VAR)]), V4_BARE),
        ("query", head(query=[("callback", CB), ("callback-var", VAR)]), V2),
        ("s3-query", head(query=[(META, CB), (META_VAR, VAR)]), V4_BARE),
        ("s3-query", head(query=[(META, CB), (META_VAR, VAR)]), V2_QUERY),
        ("s3-query", head(query=[("X-Amz-Meta-Callback", CB), (META_VAR, VAR)]), V4_BARE),
    ],
)
def test_each_place(place: str, request_head: RequestHead, identity: Identity) -> None:
    assert from_request(request_head, identity) == RawCallback(place, CB, VAR)


@pytest.mark.parametrize(
    "request_head",
    [
        head(),
        head({META: ""}),
        head({META: "", META_VAR: ""}),
        head(query=[(META, "")]),
        head({"x-amz-meta-callback-url": CB, "x-amz-meta-callbacks": CB}),
        head(query=[("Callback", CB), ("callbackUrl", "x")]),
    ],
)
def test_no_callback(request_head: RequestHead) -> None:
    assert from_request(request_head, V4) is None
    refuse(request_head)


@pytest.mark.parametrize(
    "request_head",
    [
        head({META: CB, OSS: CB}),
        head({META: CB}, [("callback", CB)]),
        head({OSS: CB}, [("callback-var", VAR)]),
        head(query=[("callback", CB), (META, CB)]),
    ],
)
def test_two_places(request_head: RequestHead) -> None:
    assert message(400, from_request, request_head, V4) == TWO_PLACES


def test_repeated_or_joined_values() -> None:
    not_base64 = "The callback configuration is not base64 encoded."
    assert message(400, from_request, head({META: f"{CB},{CB}"}), V4) == not_base64
    assert message(400, from_request, head({OSS: f"{CB}, {CB}"}), V4) == not_base64
    assert message(400, from_request, head(query=[("callback", CB), ("callback", CB)]), V4) == not_base64
    joined = head({META: CB, META_VAR: f"{VAR},{VAR}"})
    assert message(400, from_request, joined, V4) == "The callback var is not base64 encoded."


def test_variables_alone() -> None:
    assert META_VAR in message(400, from_request, head({META_VAR: VAR}), V4)
    assert META_VAR in message(400, from_request, head({META: "", META_VAR: VAR}), V4)
    assert "callback-var" in message(400, from_request, head(query=[("callback-var", VAR)]), V4)


@pytest.mark.parametrize(
    ("request_head", "identity"),
    [
        (head({META: CB}), V4_BARE),
        (head({OSS: CB}), V4_BARE),
        (head({META: CB, META_VAR: VAR}), Identity("v4-header", REQUESTER, frozenset((META,)))),
        (head({OSS: CB}), V2),
        (head(query=[(META, CB)]), Identity("v2-header", REQUESTER, frozenset())),
        (head({META: CB}), ANONYMOUS),
        (head(query=[("callback", CB)]), ANONYMOUS),
    ],
)
def test_what_the_signature_does_not_cover(request_head: RequestHead, identity: Identity) -> None:
    text = message(403, from_request, request_head, identity)
    assert "callback" in text


@pytest.mark.parametrize(
    "request_head", [head({META: CB}), head({OSS_VAR: VAR}), head(query=[("callback", CB)])]
)
def test_copy_refuses_any_carrier(request_head: RequestHead) -> None:
    assert "callback" in message(400, refuse, request_head)


def test_carriers_are_not_metadata() -> None:
    assert is_carrier("X-Amz-Meta-Callback")
    assert is_carrier("x-amz-meta-callback-var")
    assert not is_carrier("x-amz-meta-callback-url")
    assert "x-oss-callback" in callback_spec.CARRIER_HEADERS


# ---------------------------------------------------------------- forms


def form(
    fields: dict[str, str], *, named: set[str] | None = None, unlisted: str = "refuse"
) -> RawCallback | None:
    return from_form(fields, covers=None if named is None else named.__contains__, unlisted=unlisted)


def test_form_fields() -> None:
    fields = {"key": "k", "Callback": CB, "x:b": "照片 1", "x:a": ""}
    raw = form(fields, named={"callback", "x:a", "x:b"})
    assert raw == RawCallback("form", CB, form_vars=(("x:b", "照片 1"), ("x:a", "")))
    assert parse(raw).variables == {"x:b": "照片 1", "x:a": ""}
    assert form({"key": "k", "x:a": "1"}, named=set()) is None


def test_form_fields_that_the_policy_does_not_name() -> None:
    fields = {"callback": CB, "x:a": "1"}
    assert "x:a" in message(403, form, fields, named={"callback"})
    assert "callback" in message(403, form, fields, named={"x:a"})
    assert form(fields, named=set(), unlisted="accept") is not None
    assert "anonymous" in message(403, form, fields, unlisted="accept").lower()


@pytest.mark.parametrize("name", ["callback-var", "Callback-Var", META, META_VAR, OSS])
def test_form_fields_that_forms_do_not_have(name: str) -> None:
    assert name in message(400, form, {"callback": CB, name: VAR}, named={"callback", name})


def test_form_variables_that_cannot_be() -> None:
    def parsed(fields: dict[str, str]) -> object:
        raw = form({"callback": CB, **fields}, named={"callback", *fields})
        assert raw is not None
        return parse(raw)

    unexpected = "The callback var is not expected json."
    for name in ("X:a", "x:A", "x:", "x:" + "a" * 65, "x:a b", "x:a$", "x:{", "x:}", "x:a\n"):
        assert message(400, parsed, {name: "1"}) == unexpected
    assert (
        message(400, parsed, {"x:a": "a" * 3000, "x:b": "a" * 2121})
        == "The length of callback var exceed max value."
    )
    assert parsed({"x:a": "a" * 3000, "x:b": "a" * 2120})
    assert message(400, form, {"callback": CB, "CALLBACK": CB}, named={"callback"}).endswith(
        "is not base64 encoded."
    )
    twice = RawCallback("form", CB, form_vars=(("x:a", "1"), ("x:a", "2")))
    assert message(400, parse, twice) == unexpected


# ---------------------------------------------------------------- encoding


def test_tolerated_base64() -> None:
    document = {**GOOD, "note": "\u00ff\u00fe>>>???"}
    text = base64.b64encode(json.dumps(document, ensure_ascii=False).encode("utf-8")).decode()
    assert "+" in text or "/" in text
    wrapped = "\r\n ".join(text[at : at + 60] for at in range(0, len(text), 60))
    for form_of in (text, text.rstrip("="), text.replace("+", "-").replace("/", "_"), wrapped):
        assert parse(RawCallback("oss-header", form_of)).urls
    raw = from_request(head(query=[("callback", text.replace("+", " "))]), V4)
    assert raw is not None
    assert raw.callback == text


@pytest.mark.parametrize("text", ["{}", "a===", "abc=d", "é", "A", "ab\x00cd", "YQ==YQ=="])
def test_not_base64(text: str) -> None:
    assert (
        message(400, parse, RawCallback("query", text)) == "The callback configuration is not base64 encoded."
    )
    assert message(400, parse_var, text) == "The callback var is not base64 encoded."


@pytest.mark.parametrize(
    "data", [b"", b"x", b"[]", b'"s"', b"null", b"{", b"\xff{}", b"\xef\xbb\xbf{}", b'{"a":NaN}', b"[" * 3000,
             b'{"a":"\\ud800"}'],
)  # fmt: skip
def test_not_json(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert message(400, parse, RawCallback("query", text)) == "The callback configuration is not json format."
    if data:
        assert message(400, parse_var, text) == "The callback var is not expected json."


def test_lengths() -> None:
    assert parse(RawCallback("query", CB + " " * (5120 - len(CB)))).urls
    assert message(400, parse, RawCallback("query", "A" * 5121)) == "The length of callback exceed max value."
    assert message(400, parse_var, "A" * 5121) == "The length of callback var exceed max value."


# ---------------------------------------------------------------- fields


URL_INVALID = "The callback url configuration is invalid."
BODY_INVALID = "The callback body is invalid."


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"callbackUrl": ...}, URL_INVALID),
        ({"callbackUrl": ""}, URL_INVALID),
        ({"callbackUrl": " ; ; "}, URL_INVALID),
        ({"callbackUrl": ["http://a.example"]}, URL_INVALID),
        ({"callbackUrl": "ftp://a.example"}, URL_INVALID),
        ({"callbackUrl": "http://a.example;http://b.example:0"}, URL_INVALID),
        ({"callbackUrl": ";".join(["http://a.example"] * 6)}, "The number of callback url exceed max value."),
        ({"callbackHost": 5}, "The callback host configuration is invalid."),
        ({"callbackHost": None}, "The callback host configuration is invalid."),
        ({"callbackHost": "a b"}, "The callback host configuration is invalid."),
        ({"callbackHost": "a\r\nX-Evil: 1"}, "The callback host configuration is invalid."),
        ({"callbackHost": "a\n"}, "The callback host configuration is invalid."),
        ({"callbackHost": "a:65536"}, "The callback host configuration is invalid."),
        ({"callbackHost": "a:0"}, "The callback host configuration is invalid."),
        ({"callbackHost": "[::1"}, "The callback host configuration is invalid."),
        ({"callbackHost": "täst"}, "The callback host configuration is invalid."),
        ({"callbackBody": ...}, "The callback body is empty."),
        ({"callbackBody": ""}, "The callback body is empty."),
        ({"callbackBody": {"a": 1}}, BODY_INVALID),
        ({"callbackBody": None}, BODY_INVALID),
        ({"callbackBody": "${size"}, BODY_INVALID),
        ({"callbackBody": "${object}" * 30}, BODY_INVALID),
        ({"callbackBody": "$(size)"}, "Left brace must be adjacent to dollar sign."),
        ({"callbackBody": "${fname}"}, "Unknown callback variable: fname."),
        ({"callbackBody": "${\x00}"}, "Unknown callback variable: ?."),
        ({"callbackBodyType": 1}, "The callback body type configuration is invalid."),
        ({"callbackBodyType": None}, "The callback body type configuration is invalid."),
        ({"callbackBodyType": "text/plain"}, "The body type of callback is not supported."),
        ({"callbackBodyType": "application/json; charset=utf-8"}, "The body type of callback is not supported."),
        ({"callbackBodyType": "application/json\r\nX: 1"}, "The body type of callback is not supported."),
    ],
)  # fmt: skip
def test_bad_fields(fields: dict[str, Any], text: str) -> None:
    assert message(400, parse_fields, **fields) == text


@pytest.mark.parametrize(
    "fields",
    [
        {"callbackURL": "x"}, {"callbackFoo": 1}, {"callback": 1}, {"additionalHeaders": {"a": "b"}},
        {"callbackReply": "none"}, {"callbackReply": None}, {"callbackOnFailure": "retry"}, {"callbackMode": "later"},
        {"callbackMode": None}, {"callbackPolicy": "p"}, {"callbackSNI": 3},
    ],
)  # fmt: skip
def test_refused_fields_are_named(fields: dict[str, Any]) -> None:
    assert next(iter(fields)) in message(400, parse_fields, **fields)


def test_errors_name_the_argument_and_can_stand_in_xml() -> None:
    with pytest.raises(S3Error) as caught:
        parse_fields(callbackHost="\x00\x0b\uffff" + "é" * 600)
    details = caught.value.details
    assert details["ArgumentName"] == "callbackHost"
    assert details["ArgumentValue"].startswith("???é")
    assert len(details["ArgumentValue"].encode()) <= 512


def test_accepted_fields() -> None:
    spec = parse_fields(
        callbackUrl=" a.example/x ;; https://b.example:8443 ", callbackHost="[::1]:8080", callbackSNI=True,
        callbackBodyType="application/json", callbackReply="standard", callbackOnFailure="error",
        callbackMode="sync", other={"callbackUrl": 1},
    )  # fmt: skip
    assert [str(url) for url in spec.urls] == ["http://a.example/x", "https://b.example:8443/"]
    assert (spec.host, spec.body_type) == ("[::1]:8080", "application/json")
    assert (spec.reply, spec.on_failure) == ("standard", "error")
    plain = parse_fields(callbackSNI="false", callbackHost="")
    assert (plain.host, plain.reply, plain.on_failure) == ("", "", "accept")
    assert plain.body_type == "application/x-www-form-urlencoded"


def test_variables() -> None:
    text = base64.b64encode(
        '{"x:s":"v","x:n":1.50,"x:big":12345678901234567890123,"x:t":true,"x:键值1":""}'.encode()
    ).decode()
    assert parse_var(text).variables == {
        "x:s": "v", "x:n": "1.50", "x:big": "12345678901234567890123", "x:t": "true", "x:键值1": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        {"var1": "v"},
        {"x:A": "v"},
        {"x:": "v"},
        {"x:a": None},
        {"x:a": []},
        {"x:a": {}},
        {"x:a}": ""},
        {"x:" + "a" * 65: ""},
    ],
)
def test_bad_variables(document: Any) -> None:
    assert message(400, parse_var, b64(document)) == "The callback var is not expected json."


# ---------------------------------------------------------------- anything


def status_of(raw: RawCallback) -> int:
    try:
        return 0 if parse(raw).urls else -1
    except S3Error as error:
        return error.status


@RELAXED
@given(st.binary(max_size=200), st.binary(max_size=60), st.booleans())
def test_any_bytes_give_a_value_or_an_s3_error(data: bytes, variables: bytes, encode: bool) -> None:
    texts = [
        base64.b64encode(part).decode() if encode else part.decode("latin-1") for part in (data, variables)
    ]
    assert status_of(RawCallback("query", *texts)) in (0, 400)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@RELAXED
@given(
    st.dictionaries(
        st.sampled_from(
            ["callbackUrl", "callbackHost", "callbackBody", "callbackBodyType", "callbackReply", "z"]
        ),
        JSON_VALUES | st.sampled_from(["http://a.example", "a=${x:b}", "application/json", "standard"]),
    )
)
def test_any_document_gives_a_spec_or_an_s3_error(document: dict[str, Any]) -> None:
    assert status_of(RawCallback("query", b64(document))) in (0, 400)
