from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.callback.callback_kit import RELAXED, VECTORS, event

from s3lite.callback.render import FORM, JSON, MAX_BODY, TemplateError, compile_template

CASES = json.loads((VECTORS / "bodies.json").read_text(encoding="utf-8"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def render(template: str, body_type: str, variables: dict[str, str] | None = None, **values: Any) -> str:
    compiled = compile_template(template, body_type, variables or {})
    return compiled.render(event(**values), variables or {}).decode()


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_bodies_byte_for_byte(case: dict[str, Any]) -> None:
    body_type = JSON if case["type"] == "json" else FORM
    body = render(case["template"], body_type, case["vars"], **case["event"]).encode()
    assert body == case["body"].encode()
    if "md5" in case:
        assert base64.b64encode(hashlib.md5(body).digest()).decode() == case["md5"]


def test_every_system_variable() -> None:
    names = [
        "bucket", "object", "etag", "size", "mimeType", "imageInfo.height", "imageInfo.width", "imageInfo.format",
        "imageInfo", "crc64", "contentMd5", "vpcId", "clientIp", "reqId", "operation", "versionId", "eventTime",
        "callbackId",
    ]  # fmt: skip
    template = "{" + ",".join(f'"{name}":${{{name}}}' for name in names) + "}"
    full = json.loads(
        render(
            template,
            JSON,
            image=[3, 2, "png"],
            crc64="18446744073709551615",
            content_md5="bWQ1",
            version_id="v1",
        )
    )
    assert full == {
        "bucket": "bkt", "object": "dir/k", "etag": "e" * 32, "size": 15, "mimeType": "text/plain",
        "imageInfo.height": 2, "imageInfo.width": 3, "imageInfo.format": "png",
        "imageInfo": {"height": 2, "width": 3, "format": "png"}, "crc64": 18446744073709551615,
        "contentMd5": "bWQ1", "vpcId": None, "clientIp": "192.0.2.7", "reqId": "REQ1", "operation": "PutObject",
        "versionId": "v1", "eventTime": "2026-01-31T01:02:03Z", "callbackId": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
    }  # fmt: skip
    empty = json.loads(render(template, JSON))
    assert [empty[name] for name in ("crc64", "contentMd5", "versionId", "imageInfo")] == [None] * 4


def test_values_are_not_scanned_again() -> None:
    assert render("a=${x:a}&b=${x:b}", FORM, {"x:a": "${bucket}", "x:b": "$"}) == "a=%24%7Bbucket%7D&b=%24"
    assert render("${object}", JSON, key="${size}") == '"${size}"'


def test_controls_in_json() -> None:
    assert (
        render("${x:a}", JSON, {"x:a": '\x00\b\f\r\t\x1f\x7f/"\\é'})
        == '"\\u0000\\b\\f\\r\\t\\u001f\x7f/\\"\\\\é"'
    )


def test_an_escaped_quote_does_not_end_a_string() -> None:
    assert render(r'{"a":"\"${bucket}\\","b":${bucket}}', JSON) == r'{"a":"\"bkt\\","b":"bkt"}'


def test_image_object_inside_a_string_and_in_a_form() -> None:
    assert (
        json.loads(render('{"i":"${imageInfo}"}', JSON, image=[3, 2, "gif"]))["i"]
        == '{"height":2,"width":3,"format":"gif"}'
    )
    assert render("i=${imageInfo}", FORM, image=[3, 2, "gif"]).startswith("i=%7B%22height%22%3A2")


def test_an_empty_custom_value_is_present() -> None:
    assert render("${x:a}${x:b}", JSON, {"x:a": ""}) == '""null'


def test_needs_image_tells_whether_the_object_must_be_read() -> None:
    assert compile_template("${imageInfo.width}", FORM, {}).needs_image
    assert compile_template("${imageInfo}", JSON, {}).needs_image
    assert not compile_template("${object} imageInfo", FORM, {}).needs_image


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("$(object)", "Left brace must be adjacent to dollar sign."),
        ("price: 5$", "Left brace must be adjacent to dollar sign."),
        ("$ {object}", "Left brace must be adjacent to dollar sign."),
        ("$${object}", "Left brace must be adjacent to dollar sign."),
        ("${object", "The callback body is invalid."),
        ("${}", "The callback body is invalid."),
        ("${x:a${x:b}}", "The callback body is invalid."),
        ("${key}", "Unknown callback variable: key."),
        ("${Object}", "Unknown callback variable: Object."),
        ("${ object }", "Unknown callback variable:  object ."),
        ("x" * (MAX_BODY + 1), "The callback body is invalid."),
        ("${object}" * 30, "The callback body is invalid."),
        ("é" * (MAX_BODY // 2) + "e", "The callback body is invalid."),
    ],
)
def test_bad_templates(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template(template, FORM, {})
    assert str(caught.value) == message


def test_bound_counts_custom_values_as_rendered() -> None:
    compile_template("${x:a}", FORM, {"x:a": "/" * (MAX_BODY // 3)})
    with pytest.raises(TemplateError):
        compile_template("${x:a}", FORM, {"x:a": "/" * (MAX_BODY // 3 + 1)})


@RELAXED
@given(TEXT, TEXT)
def test_form_values_round_trip(key: str, value: str) -> None:
    body = render("k=${object}&v=${x:v}&w=${x:v}", FORM, {"x:v": value}, key=key)
    assert body.isascii()
    assert parse_qsl(body, keep_blank_values=True, separator="&") == [("k", key), ("v", value), ("w", value)]


@RELAXED
@given(TEXT, TEXT)
def test_json_templates_render_to_json(key: str, value: str) -> None:
    template = '{"k":${object},"s":"<${x:v}>","v":[${x:v},${x:none},${size}],"${x:v}":"${x:none}"}'
    document = json.loads(render(template, JSON, {"x:v": value}, key=key))
    expected = {"k": key, "s": f"<{value}>", "v": [value, None, 15]}
    assert document == {**expected, value: ""}


@RELAXED
@given(st.text(st.sampled_from('${}x:abject"\\ é\n'), max_size=30), st.sampled_from([FORM, JSON]), TEXT)
def test_any_template_renders_within_its_bound_or_is_refused(
    template: str, body_type: str, value: str
) -> None:
    variables = {"x:a": value}
    try:
        compiled = compile_template(template, body_type, variables)
    except TemplateError:
        return
    assert len(compiled.render(event(key=value), variables)) <= compiled.bound(variables)
