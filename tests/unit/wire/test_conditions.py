import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import Code, S3Error
from s3lite.model import Acl, ObjectHead, ObjectVersion
from s3lite.times import http_date
from s3lite.wire import conditions
from s3lite.wire.conditions import DeleteConditions, WriteConditions
from s3lite.wire.requests import DeleteItem

ETAG = "37b51d194a7513e45b56f6524f2d51f2"
MODIFIED_MS = 1_700_000_000_500
SAME, BEFORE, AFTER = (http_date(1_700_000_000 + offset) for offset in (0, -1, 1))
FUTURE = http_date(1_800_000_000)
NOW_S = 1_750_000_000.0


def outcome(headers: dict[str, str], *, copy: bool = False) -> tuple[int, str]:
    """(status, failed condition) of a read or a copy."""
    decide = conditions.copy_source_decision if copy else conditions.read_decision
    try:
        decide(headers, etag=ETAG, modified_ms=MODIFIED_MS, now_s=NOW_S)
    except S3Error as error:
        return error.status, error.details.get("Condition", "")
    return 200, ""


READS = [
    ({}, 200, ""),
    ({"if-match": f'"{ETAG}"'}, 200, ""),
    ({"if-match": ETAG}, 200, ""),
    ({"if-match": "*"}, 200, ""),
    ({"if-match": f'"a", "{ETAG}"'}, 200, ""),
    ({"if-match": '"a"'}, 412, "If-Match"),
    ({"if-match": f'W/"{ETAG}"'}, 412, "If-Match"),
    ({"if-match": f'"{ETAG}x"'}, 412, "If-Match"),
    ({"if-none-match": f'"{ETAG}"'}, 304, ""),
    ({"if-none-match": f'W/"{ETAG}"'}, 304, ""),
    ({"if-none-match": f'"a",W/"{ETAG}"'}, 304, ""),
    ({"if-none-match": "*"}, 304, ""),
    ({"if-none-match": "a"}, 200, ""),
    ({"if-modified-since": SAME}, 304, ""),
    ({"if-modified-since": AFTER}, 304, ""),
    ({"if-modified-since": BEFORE}, 200, ""),
    ({"if-modified-since": FUTURE}, 200, ""),
    ({"if-modified-since": "yesterday"}, 200, ""),
    ({"if-unmodified-since": SAME}, 200, ""),
    ({"if-unmodified-since": BEFORE}, 412, "If-Unmodified-Since"),
    ({"if-unmodified-since": "yesterday"}, 200, ""),
    # Precedence: tags overrule dates, and If-Match comes first.
    ({"if-match": ETAG, "if-unmodified-since": BEFORE}, 200, ""),
    ({"if-none-match": "a", "if-modified-since": AFTER}, 200, ""),
    ({"if-none-match": ETAG, "if-modified-since": BEFORE}, 304, ""),
    ({"if-match": "a", "if-none-match": ETAG}, 412, "If-Match"),
    ({"if-match": ETAG, "if-none-match": ETAG}, 304, ""),
]


@pytest.mark.parametrize(("headers", "status", "condition"), READS)
def test_read_decision(headers, status, condition):
    assert outcome(headers) == (status, condition)


@pytest.mark.parametrize(("headers", "status", "_condition"), READS)
def test_copy_source_decision_is_the_same_without_304(headers, status, _condition):
    prefixed = {f"x-amz-copy-source-{name}": value for name, value in headers.items()}
    assert outcome(prefixed, copy=True)[0] == (200 if status == 200 else 412)
    assert outcome(headers, copy=True) == (200, "")


def test_not_modified_names_what_the_client_has():
    with pytest.raises(S3Error) as caught:
        conditions.read_decision({"if-none-match": ETAG}, etag=ETAG, modified_ms=MODIFIED_MS)
    assert caught.value.code is Code.NotModified
    assert caught.value.headers == {"ETag": f'"{ETAG}"', "Last-Modified": SAME}


def version(*, is_delete_marker: bool = False) -> ObjectVersion:
    return ObjectVersion(
        row=1,
        bucket_id=1,
        key="k",
        version_id="null",
        size=0 if is_delete_marker else 5,
        etag="" if is_delete_marker else ETAG,
        modified_ms=MODIFIED_MS,
        owner_id="o",
        head=ObjectHead(),
        acl=Acl("o"),
        is_delete_marker=is_delete_marker,
    )


def checked(condition: WriteConditions, current: ObjectVersion | None) -> str:
    try:
        condition.check(current)
    except S3Error as error:
        return error.code.name
    return "ok"


@pytest.mark.parametrize(
    ("headers", "on_object", "on_nothing"),
    [
        ({}, "ok", "ok"),
        ({"if-none-match": "*"}, "PreconditionFailed", "ok"),
        ({"if-none-match": f'"{ETAG}"'}, "PreconditionFailed", "ok"),
        ({"if-none-match": "other"}, "ok", "ok"),
        ({"if-match": "*"}, "ok", "NoSuchKey"),
        ({"if-match": ETAG}, "ok", "NoSuchKey"),
        ({"if-match": '"other"'}, "PreconditionFailed", "NoSuchKey"),
    ],
)
def test_write_conditions(headers, on_object, on_nothing):
    parsed = conditions.parse_write_conditions(headers)
    assert bool(parsed) is bool(headers)
    assert checked(parsed, version()) == on_object
    assert checked(parsed, None) == on_nothing
    assert checked(parsed, version(is_delete_marker=True)) == on_nothing


@pytest.mark.parametrize(
    ("headers", "on_object", "on_marker"),
    [
        ({}, "ok", "ok"),
        ({"if-match": ETAG}, "ok", "PreconditionFailed"),
        ({"if-match": "*"}, "ok", "ok"),
        ({"if-match": "other"}, "PreconditionFailed", "PreconditionFailed"),
        ({"x-amz-if-match-size": "5"}, "ok", "PreconditionFailed"),
        ({"x-amz-if-match-size": "0"}, "PreconditionFailed", "ok"),
        ({"x-amz-if-match-last-modified-time": SAME}, "ok", "ok"),
        ({"x-amz-if-match-last-modified-time": "2023-11-14T22:13:20Z"}, "ok", "ok"),
        ({"x-amz-if-match-last-modified-time": BEFORE}, "PreconditionFailed", "PreconditionFailed"),
        ({"x-amz-if-match-last-modified-time": http_date(0)}, "PreconditionFailed", "PreconditionFailed"),
    ],
)
def test_delete_conditions(headers, on_object, on_marker):
    parsed = conditions.parse_delete_conditions(headers)
    assert bool(parsed) is bool(headers)
    assert checked(parsed, version()) == on_object
    assert checked(parsed, version(is_delete_marker=True)) == on_marker
    assert checked(parsed, None) == "ok"


@pytest.mark.parametrize("name", ["x-amz-if-match-size", "x-amz-if-match-last-modified-time"])
def test_delete_conditions_refuse_what_they_cannot_read(name):
    with pytest.raises(S3Error) as caught:
        conditions.parse_delete_conditions({name: "soon"})
    assert caught.value.code is Code.InvalidArgument


def test_delete_item_conditions():
    item = DeleteItem("k", etag=ETAG, size=5, last_modified_s=1_700_000_000.0)
    assert conditions.delete_item_conditions(item) == DeleteConditions(ETAG, None, 5, 1_700_000_000)
    assert not conditions.delete_item_conditions(DeleteItem("k"))


@given(
    st.dictionaries(
        st.sampled_from(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]),
        st.one_of(st.text(max_size=40), st.sampled_from([SAME, AFTER, f'"{ETAG}"', 'W/"', "*", '"', ",,"])),
    )
)
def test_any_headers_decide(headers):
    assert outcome(headers)[0] in (200, 304, 412)
    checked(conditions.parse_write_conditions(headers), version())


@given(st.text(max_size=40))
def test_any_delete_header_gives_conditions_or_an_s3_error(text):
    with contextlib.suppress(S3Error):
        conditions.parse_delete_conditions(
            {"x-amz-if-match-size": text, "x-amz-if-match-last-modified-time": text}
        )
