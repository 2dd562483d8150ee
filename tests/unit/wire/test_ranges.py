import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import Code, S3Error
from s3lite.wire import ranges


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=4-7", 10, (4, 4)),
        ("bytes=4-", 10, (4, 6)),
        ("bytes=4-99", 10, (4, 6)),
        ("bytes=-3", 10, (7, 3)),
        ("bytes=-99", 10, (0, 10)),
        ("Bytes= 4-7 ", 10, (4, 4)),
        ("bytes=5000000000-5000000001", 6_000_000_000, (5_000_000_000, 2)),
        ("bytes=0-1,3-4", 10, None),
        ("bytes=7-4", 10, None),
        ("bytes=-", 10, None),
        ("bytes=", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=٣-٤", 10, None),
        ("bytes 0-1", 10, None),
        ("items=0-1", 10, None),
        ("", 10, None),
        ("bytes=" + "9" * 5000 + "-", 10, None),
    ],
)
def test_parse_range(header, size, expected):
    assert ranges.parse_range(header, size) == expected


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=10-", 10),
        ("bytes=10-12", 10),
        ("bytes=0-", 0),
        ("bytes=0-0", 0),
        ("bytes=-0", 10),
        ("bytes=-5", 0),
    ],
)
def test_parse_range_refuses_what_is_not_there(header, size):
    with pytest.raises(S3Error) as caught:
        ranges.parse_range(header, size)
    error = caught.value
    assert (error.code, error.status) == (Code.InvalidRange, 416)
    assert error.headers == {"Content-Range": f"bytes */{size}"}
    assert error.details == {"RangeRequested": header, "ActualObjectSize": str(size)}


def test_parse_copy_range():
    assert ranges.parse_copy_range("bytes=0-4", 5) == (0, 5)
    assert ranges.parse_copy_range("bytes=2-3", 5) == (2, 2)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("0-2", Code.InvalidArgument),
        ("bytes=0", Code.InvalidArgument),
        ("bytes=hello-world", Code.InvalidArgument),
        ("bytes=0-bar", Code.InvalidArgument),
        ("bytes=0-", Code.InvalidArgument),
        ("bytes=-2", Code.InvalidArgument),
        ("bytes=0-2,3-5", Code.InvalidArgument),
        ("bytes=3-2", Code.InvalidArgument),
        ("bytes=0-5", Code.InvalidRange),
        ("bytes=9-10", Code.InvalidRange),
    ],
)
def test_parse_copy_range_is_strict(header, code):
    with pytest.raises(S3Error) as caught:
        ranges.parse_copy_range(header, 5)
    assert (caught.value.code, caught.value.status) == (code, 400)


def test_content_range():
    assert ranges.content_range(4, 4, 10) == "bytes 4-7/10"


@given(
    header=st.one_of(st.text(max_size=30), st.from_regex(r"bytes=[0-9]{0,3}-[0-9]{0,3}", fullmatch=True)),
    size=st.integers(0, 500),
)
def test_any_range_lies_within_the_object(header, size):
    for parse in (ranges.parse_range, ranges.parse_copy_range):
        try:
            chosen = parse(header, size)
        except S3Error:
            continue
        if chosen is not None:
            offset, length = chosen
            assert 0 <= offset < offset + length <= size
