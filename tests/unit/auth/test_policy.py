"""The policy language: what is taken, what is refused, what it decides."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.auth import policy
from s3lite.auth.patterns import Pattern
from s3lite.auth.policy import Verdict
from s3lite.errors import Code, S3Error

BUCKET, KEY = "arn:aws:s3:::b", "arn:aws:s3:::b/k"
GET = "s3:GetObject"
BASE: dict[str, Any] = {"Effect": "Allow", "Principal": "*", "Action": GET, "Resource": "arn:aws:s3:::b/*"}


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> bytes:
    return json.dumps({"Version": version, "Statement": list(statements)}).encode()


def read(**changed: Any) -> policy.Policy:
    """A policy of `BASE` with some elements replaced, or removed (None)."""
    row = {name: value for name, value in {**BASE, **changed}.items() if value is not None}
    return policy.parse(document(row))


def allows(
    made: policy.Policy, who: str = "alt", action: str = GET, arn: str = KEY, **facts: tuple[str, ...]
) -> bool:
    return made.evaluate(who, action, arn, facts) is Verdict.ALLOW


def holds(operator: str, key: str, value: Any, *actual: str) -> bool:
    """Whether a condition holds for the values of the request; none are an absent key."""
    made = read(Condition={operator: {key: value}})
    return made.evaluate("alt", GET, KEY, {key.lower(): actual} if actual else {}) is Verdict.ALLOW


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "invalid Json"),
        (b"{", "invalid Json"),
        (b"[]", "invalid Json"),
        (b"\xff", "invalid Json"),
        (b"[" * 5000, "invalid Json"),
        (b'{"Statement": NaN}', "invalid Json"),
        (b'{"Version": "2012-10-17", "Version": "2012-10-17", "Statement": []}', "invalid Json"),
        (b" " * (policy.MAX_POLICY_BYTES + 1), "larger than"),
        (b"{}", "Missing required field Statement"),
        (b'{"Statement": []}', "Missing required field Statement"),
        (b'{"Statement": ["x"]}', "Statement must be"),
        (document({**BASE}, version="2012-10-18"), "valid version string"),
        (b'{"Statement": {}, "Conditions": {}}', "Unknown field Conditions"),
    ],
)
def test_documents_that_are_none(data: bytes, message: str) -> None:
    with pytest.raises(S3Error) as caught:
        policy.parse(data)
    assert caught.value.code is Code.MalformedPolicy
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Effect": None}, "Missing required field Effect"),
        ({"Effect": "allow"}, "Invalid effect"),
        ({"Effect": []}, "Invalid effect"),
        ({"Principal": None}, "Missing required field Principal"),
        ({"Action": None}, "Missing required field Action"),
        ({"Resource": None}, "Missing required field Resource"),
        ({"NotAction": GET}, "both Action and NotAction"),
        ({"Principal": None, "NotPrincipal": "*"}, "Allow with NotPrincipal"),
        ({"Principal": "alt"}, "Principal must be"),
        ({"Principal": {}}, "Principal must be"),
        ({"Principal": {"AWS": []}}, "Principal must be"),
        ({"Principal": {"Aws": "*"}}, "Unknown field Aws"),
        ({"Principal": {"AWS": "arn:aws:iam::1:user/*"}}, "Invalid principal"),
        ({"Principal": {"AWS": "arn:aws:iam:::root"}}, "Invalid principal"),
        ({"Principal": {"CanonicalUser": "*"}}, "Invalid principal"),
        ({"Action": "s3:GetObjekt"}, "invalid action"),
        ({"Action": "s3:Zap*"}, "invalid action"),
        ({"Action": "*:GetObject"}, "invalid action"),
        ({"Action": ["s3:GetObject", 7]}, "Action must be"),
        ({"Resource": "b/*"}, "invalid resource"),
        ({"Resource": "*"}, "invalid resource"),
        ({"Resource": "arn:aws:sqs:::b"}, "invalid resource"),
        ({"Resource": "arn:aws:s3:::b/${aws:Nonsense}"}, "invalid variable"),
        ({"Sid": 1}, "Sid"),
        ({"Extra": 1}, "Unknown field Extra"),
        ({"Condition": []}, "Condition must be"),
        ({"Condition": {"StringEquals": "x"}}, "must be an object"),
        ({"Condition": {"StringIs": {"aws:SourceIp": "x"}}}, "Invalid Condition type"),
        ({"Condition": {"ForSome:StringLike": {"s3:prefix": "x"}}}, "Invalid Condition type"),
        ({"Condition": {"NullIfExists": {"s3:prefix": "true"}}}, "Invalid Condition type"),
        ({"Condition": {"Null": {"s3:prefix": "yes"}}}, "Null"),
        ({"Condition": {"StringLike": {"s3:prefixes": "x"}}}, "invalid condition key"),
        ({"Condition": {"StringLike": {"s3:prefix": []}}}, "needs a value"),
        ({"Condition": {"StringLike": {"s3:prefix": {}}}}, "must be strings"),
        ({"Condition": {"NumericEquals": {"s3:max-keys": "ten"}}}, "invalid value"),
        ({"Condition": {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}}, "invalid value"),
        ({"Condition": {"Bool": {"aws:SecureTransport": "maybe"}}}, "invalid value"),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/99"}}}, "invalid IP address"),
        ({"Condition": {"ArnLike": {"aws:PrincipalArn": "alt"}}}, "invalid ARN"),
    ],
)
def test_statements_that_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(S3Error) as caught:
        read(**changed)
    assert caught.value.code is Code.MalformedPolicy
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("resource", "fits"),
    [
        ("arn:aws:s3:::b", True),
        ("arn:aws:s3:::b*", True),
        ("arn:aws:s3:::*/*", True),
        ("arn:aws-cn:s3:::b/x", True),
        ("arn:aws:s3:::bb/*", False),
        ("arn:aws:s3:::${aws:userid}/*", False),
    ],
)
def test_it_must_speak_of_its_bucket(resource: str, fits: bool) -> None:
    made = read(Resource=resource)
    if fits:
        made.check_bucket("b")
        return
    with pytest.raises(S3Error) as caught:
        made.check_bucket("b")
    assert caught.value.code is Code.MalformedPolicy


# ---------------------------------------------------------------- what it decides


@pytest.mark.parametrize(
    ("principal", "for_alt", "for_nobody"),
    [
        ("*", True, True),
        ({"AWS": "*"}, True, True),
        ({"AWS": "alt"}, True, False),
        ({"AWS": ["who", "arn:aws:iam::alt:root"]}, True, False),
        ({"AWS": "arn:aws:iam:::user/alt"}, True, False),
        ({"AWS": "arn:aws:iam:::user/path/alt"}, True, False),
        ({"AWS": "arn:aws:iam::alt:user/alt"}, True, False),
        ({"AWS": "arn:aws:iam::alt:user/carol"}, False, False),
        ({"AWS": "arn:aws:iam::alt:role/alt"}, False, False),
        ({"CanonicalUser": "alt"}, True, False),
        ({"Service": "logging.s3.amazonaws.com"}, False, False),
        ({"AWS": "other"}, False, False),
    ],
)
def test_principals(principal: Any, for_alt: bool, for_nobody: bool) -> None:
    made = read(Principal=principal)
    assert (allows(made, "alt"), allows(made, "")) == (for_alt, for_nobody)
    denied = read(Effect="Deny", Principal=None, NotPrincipal=principal)
    assert (denied.evaluate("alt", GET, KEY, {}) is Verdict.DENY) != for_alt


def test_tenants_are_part_of_the_name() -> None:
    made = read(Principal={"AWS": "arn:aws:iam::tenant:user/alt"})
    assert allows(made, "tenant$alt")
    assert not allows(made, "alt")


def test_a_denial_wins_wherever_it_stands() -> None:
    deny = {**BASE, "Effect": "Deny"}
    for rows in ([BASE, deny], [deny, BASE]):
        assert policy.parse(document(*rows)).evaluate("alt", GET, KEY, {}) is Verdict.DENY
    assert read().evaluate("alt", "s3:PutObject", KEY, {}) is None


@pytest.mark.parametrize(
    ("action", "asked", "matches"),
    [
        ("*", "s3:PutObject", True),
        ("s3:*", "s3:PutObject", True),
        ("S3:getobject", GET, True),
        ("s3:Get*", GET, True),
        ("s3:GetObject?cl", "s3:GetObjectAcl", True),
        ("s3:Get*", "s3:PutObject", False),
        (["s3:PutObject", GET], GET, True),
    ],
)
def test_actions(action: Any, asked: str, matches: bool) -> None:
    assert allows(read(Action=action), action=asked) == matches
    assert allows(read(Action=None, NotAction=action), action=asked) != matches


@pytest.mark.parametrize(
    ("resource", "asked", "matches"),
    [
        ("b/*", KEY, True),
        ("b/k", KEY, True),
        ("b/K", KEY, False),
        ("b", KEY, False),
        ("b/?", KEY, True),
        ("b/*.jpg", "arn:aws:s3:::b/x/y.jpg", True),
        ("b/*.jpg", "arn:aws:s3:::b/x.jpg.exe", False),
        ("b/a*c*e", "arn:aws:s3:::b/abcde", True),
        ("b/[k]", KEY, False),
    ],
)
def test_resources(resource: str, asked: str, matches: bool) -> None:
    assert allows(read(Resource=f"arn:aws:s3:::{resource}"), arn=asked) == matches
    assert allows(read(Resource=None, NotResource=f"arn:aws:s3:::{resource}"), arn=asked) != matches


def test_policy_variables() -> None:
    made = read(Resource="arn:aws:s3:::b/home/${aws:username}/*")
    assert allows(made, arn="arn:aws:s3:::b/home/alt/x", **{"aws:username": ("alt",)})
    assert not allows(made, arn="arn:aws:s3:::b/home/bob/x", **{"aws:username": ("alt",)})
    assert not allows(made, arn="arn:aws:s3:::b/home//x")  # anonymous callers have no name
    assert not allows(made, arn="arn:aws:s3:::b/home/bob/x", **{"aws:username": ("*",)})
    named = read(Resource="arn:aws:s3:::b/${aws:username, 'guest'}/${*}")
    assert allows(named, arn="arn:aws:s3:::b/guest/*")
    assert not allows(named, arn="arn:aws:s3:::b/guest/x")
    old = policy.parse(document({**BASE, "Resource": "arn:aws:s3:::b/${aws:username}"}, version="2008-10-17"))
    assert not allows(old, arn="arn:aws:s3:::b/alt", **{"aws:username": ("alt",)})
    assert allows(old, arn="arn:aws:s3:::b/${aws:username}")


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("operator", "key", "value", "actual", "expected"),
    [
        ("StringEquals", "s3:prefix", "a", "a", True),
        ("StringEquals", "s3:prefix", ["b", "a"], "a", True),
        ("StringEquals", "s3:prefix", "A", "a", False),
        ("StringEquals", "s3:prefix", "a*", "ab", False),
        ("StringEqualsIgnoreCase", "s3:prefix", "A", "a", True),
        ("StringNotEqualsIgnoreCase", "s3:prefix", "A", "a", False),
        ("StringNotEquals", "s3:prefix", ["a", "b"], "b", False),
        ("StringNotEquals", "s3:prefix", ["a", "b"], "c", True),
        ("StringLike", "s3:prefix", "a*", "a/b", True),
        ("StringLike", "s3:prefix", "a?", "a", False),
        ("StringNotLike", "s3:prefix", "a*", "b", True),
        ("NumericLessThanEquals", "s3:max-keys", "10", "10", True),
        ("NumericLessThan", "s3:max-keys", 10, "10", False),
        ("NumericGreaterThan", "s3:max-keys", "9", "10", True),
        ("NumericGreaterThanEquals", "s3:max-keys", "10", "10", True),
        ("NumericEquals", "s3:max-keys", "10", "1e1", False),
        ("NumericNotEquals", "s3:max-keys", "10", "11", True),
        ("DateLessThan", "aws:CurrentTime", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", True),
        ("DateGreaterThan", "aws:CurrentTime", "2026-01-02", "2026-01-01T00:00:00Z", False),
        ("DateGreaterThan", "aws:EpochTime", "100", "101", True),
        ("Bool", "aws:SecureTransport", False, "false", True),
        ("Bool", "aws:SecureTransport", "true", "false", False),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", "aws:SourceIp", "10.0.0.7", "10.0.0.7", True),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("IpAddress", "aws:SourceIp", ["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", "unknown", False),
        ("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", "11.1.2.3", True),
        ("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", "10.1.2.3", False),
        ("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", "unknown", True),
        ("ArnEquals", "aws:PrincipalArn", "arn:aws:iam::a*:root", "arn:aws:iam::alt:root", True),
        ("ArnLike", "aws:PrincipalArn", "arn:*:iam::alt:root", "arn:x:y:iam::alt:root", False),
        ("ArnNotLike", "aws:PrincipalArn", "arn:aws:iam::b*:root", "arn:aws:iam::alt:root", True),
        ("ArnLike", "aws:PrincipalArn", "*", "arn:aws:iam::alt:root", True),
    ],
)
def test_operators(operator: str, key: str, value: Any, actual: str, expected: bool) -> None:
    assert holds(operator, key, value, actual) is expected
    assert holds(f"{operator}IfExists", key, value, actual) is expected
    assert holds(f"ForAnyValue:{operator}", key, value, actual) is expected
    assert holds(f"ForAllValues:{operator}", key, value, actual) is expected


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("StringEquals", "a"),
        ("StringLike", "*"),
        ("NumericEquals", "1"),
        ("DateEquals", "2026-01-01T00:00:00Z"),
        ("Bool", "false"),
        ("IpAddress", "0.0.0.0/0"),
        ("ArnLike", "arn:aws:iam::*:*"),
    ],
)
def test_a_key_that_the_request_does_not_have(operator: str, value: str) -> None:
    assert not holds(operator, "s3:prefix", value)
    assert not holds(f"ForAnyValue:{operator}", "s3:prefix", value)
    assert holds(f"{operator}IfExists", "s3:prefix", value)
    assert holds(f"ForAllValues:{operator}", "s3:prefix", value)


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("StringNotEquals", "a"),
        ("StringNotLike", "*"),
        ("NumericNotEquals", "1"),
        ("NotIpAddress", "0.0.0.0/0"),
    ],
)
def test_a_negated_operator_holds_where_the_key_is_absent(operator: str, value: str) -> None:
    assert holds(operator, "s3:prefix", value)
    assert not holds(f"ForAnyValue:{operator}", "s3:prefix", value)


def test_null() -> None:
    assert holds("Null", "s3:prefix", "true")
    assert not holds("Null", "s3:prefix", "true", "x")
    assert holds("Null", "s3:prefix", False, "x")


def test_several_values_of_a_key() -> None:
    key = "s3:RequestObjectTagKeys"
    assert holds("ForAllValues:StringEquals", key, ["a", "b"], "a", "b")
    assert not holds("ForAllValues:StringEquals", key, ["a", "b"], "a", "c")
    assert holds("ForAnyValue:StringEquals", key, ["a", "b"], "a", "c")
    assert holds("ForAnyValue:StringNotEquals", key, ["a"], "a", "c")
    assert not holds("StringNotEquals", key, ["a"], "a", "c")


def test_all_conditions_must_hold() -> None:
    made = read(Condition={"StringEquals": {"s3:prefix": "a", "s3:delimiter": "/"}})
    assert allows(made, **{"s3:prefix": ("a",), "s3:delimiter": ("/",)})
    assert not allows(made, **{"s3:prefix": ("a",)})


def test_tags_keep_their_case() -> None:
    made = read(Condition={"StringEquals": {"S3:existingobjecttag/Colour": "red"}})
    assert allows(made, **{"s3:existingobjecttag/Colour": ("red",)})
    assert not allows(made, **{"s3:existingobjecttag/colour": ("red",)})


# ---------------------------------------------------------------- public


@pytest.mark.parametrize(
    ("changed", "public"),
    [
        ({}, True),
        ({"Principal": {"AWS": ["*", "alt"]}}, True),
        ({"Principal": {"AWS": "alt"}}, False),
        ({"Principal": {"Service": "x"}}, False),
        ({"Effect": "Deny"}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/32"}}}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/32", "0.0.0.0/1"]}}}, True),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "2000::/3"}}}, True),
        ({"Condition": {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, True),
        ({"Condition": {"IpAddressIfExists": {"aws:SourceIp": "10.0.0.0/8"}}}, True),
        ({"Condition": {"StringEquals": {"aws:userid": "alt"}}}, False),
        ({"Condition": {"StringLike": {"aws:userid": "a*"}}}, True),
        ({"Condition": {"StringLike": {"aws:userid": "${aws:username}"}}}, True),
        ({"Condition": {"StringNotEquals": {"aws:userid": "alt"}}}, True),
        ({"Condition": {"ForAllValues:StringEquals": {"aws:SourceVpce": "v"}}}, True),
        ({"Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::alt:root"}}}, False),
        ({"Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:root"}}}, True),
        ({"Condition": {"StringLike": {"aws:Referer": "http://example.com/"}}}, True),
        ({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, True),
    ],
)
def test_what_is_public(changed: dict[str, Any], public: bool) -> None:
    assert read(**changed).is_public is public


# ---------------------------------------------------------------- whatever comes


def test_a_stored_policy_that_cannot_be_read_denies_everything(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("CRITICAL"):
        made = policy.stored(b"{")
    assert made.evaluate("anyone", "s3:ListBucket", BUCKET, {}) is Verdict.DENY
    assert made.evaluate("", GET, KEY, {}) is Verdict.DENY


def test_no_pattern_takes_long() -> None:
    pattern = Pattern("*a" * 400 + "b")
    started = time.monotonic()
    assert not pattern.matches("a" * 1024, {})
    assert Pattern("*a" * 400).matches("a" * 1024, {})
    assert time.monotonic() - started < 1


texts = st.text(max_size=12) | st.sampled_from(
    [
        "*",
        GET,
        "s3:*",
        "Allow",
        "Deny",
        "arn:aws:s3:::b/*",
        "arn:aws:iam::a:root",
        "${aws:userid}",
        "true",
        "10.0.0.0/8",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
OPERATORS = [
    "StringEquals",
    "StringNotLike",
    "NumericLessThan",
    "DateEquals",
    "Bool",
    "IpAddress",
    "ArnLike",
    "Null",
]
conditions = st.dictionaries(
    st.sampled_from(OPERATORS) | texts,
    st.dictionaries(st.sampled_from(["aws:SourceIp", "s3:prefix", "s3:ExistingObjectTag/x"]) | texts, values),
    max_size=2,
)
rows = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Deny"]) | values,
        "Action": texts | values,
        "Resource": texts | values,
    },
    optional={"Principal": values, "NotPrincipal": texts, "Sid": values, "Condition": conditions | values},
)


@given(
    st.binary(max_size=200)
    | values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"Statement": rows | st.lists(rows, max_size=3)}).map(
        lambda value: json.dumps(value).encode()
    ),
    texts,
)
def test_any_bytes_are_a_policy_or_an_error(data: bytes, fact: str) -> None:
    try:
        made = policy.parse(data)
    except S3Error:
        return
    facts = {key: [fact] for key in ("aws:sourceip", "s3:prefix", "s3:existingobjecttag/x", "aws:userid")}
    for who in ("", "a"):
        made.evaluate(who, GET, KEY, facts)


@given(st.text(alphabet="ab*?.", max_size=8), st.text(alphabet="ab.\n", max_size=8))
def test_patterns_match_like_the_plain_algorithm(pattern: str, value: str) -> None:
    def plain(rest: str, text: str) -> bool:
        if not rest:
            return not text
        if rest[0] == "*":
            return any(plain(rest[1:], text[cut:]) for cut in range(len(text) + 1))
        return bool(text) and rest[0] in ("?", text[0]) and plain(rest[1:], text[1:])

    assert Pattern(pattern).matches(value, {}) == plain(pattern, value)


# ---------------------------------------------------------------- policies of keys

OF_KEY: dict[str, Any] = {"Effect": "Allow", "Action": GET, "Resource": "*"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Principal": "*"}, "A key's policy has no Principal"),
        ({"NotPrincipal": {"AWS": "a"}}, "A key's policy has no Principal"),
        ({"Action": "s3:GetObjct"}, "did you mean s3:GetObject"),
        ({"Action": "ec2:RunInstances"}, "invalid action - ec2:RunInstances"),
        ({"Resource": "bucket/key"}, "invalid resource - bucket/key: write arn:aws:s3:::BUCKET"),
        ({"Resource": "arn:aws:ec2:::x"}, "invalid resource"),
        ({"Resource": "arn:aws:s3:::b/${aws:nobody}"}, "invalid variable"),
        ({"Condition": {"StringEquals": {"s3:prefx": "a"}}}, "invalid condition key - s3:prefx"),
    ],
)
def test_policies_of_keys_that_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(S3Error, match="MalformedPolicy") as caught:
        policy.parse_key(document({**OF_KEY, **changed}))
    assert message in caught.value.message


def test_json_that_cannot_be_read_is_shown_where() -> None:
    with pytest.raises(S3Error) as caught:
        policy.parse_key(b'{"Statement": [\n}')
    assert "line 2" in caught.value.message


def test_a_key_may_name_everything_and_roles() -> None:
    made = policy.parse_key(document({**OF_KEY, "Action": ["s3:*", "sts:AssumeRole"]}))
    assert allows(made, "", "s3:ListBucket", BUCKET)
    assert allows(made, "", "sts:AssumeRole", "arn:aws:iam::alice:role/any")
    role = policy.parse_key(document({**OF_KEY, "Action": "*", "Resource": "arn:aws:iam::*:role/up*"}))
    assert allows(role, "", "sts:AssumeRole", "arn:aws:iam::alice:role/upload")
    assert not allows(role, "", "sts:AssumeRole", "arn:aws:iam::alice:role/other")
    with pytest.raises(S3Error):
        policy.parse(document({**BASE, "Action": "sts:AssumeRole"}))


def test_a_stored_policy_of_a_key_that_cannot_be_read_allows_nothing() -> None:
    assert not allows(policy.stored_key("{}"), "", GET, KEY)
