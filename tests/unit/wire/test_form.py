import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import Code, S3Error
from s3lite.settings import LimitSettings
from s3lite.wire import form
from s3lite.wire.form import FormReader
from tests.unit.wire.wire_sources import SIZES, Pieces, everything

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
SMALL = LimitSettings(form_fields=3, form_field_bytes=100, form_fields_bytes=250)


def part(name: str, value: bytes, *, filename: str | None = None, content_type: str | None = None) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    if content_type is not None:
        disposition += f"\r\nContent-Type: {content_type}"
    return f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode() + value + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def reader(
    body: bytes, *, piece: int = 1 << 20, content_type: str = TYPE, limits: LimitSettings = SMALL
) -> FormReader:
    return FormReader(Pieces(body, piece), content_type, content_length=len(body), limits=limits)


def refused(body: bytes, **options) -> S3Error:
    """What reading a whole form raises."""
    with pytest.raises(S3Error) as caught:
        whole(body, **options)
    return caught.value


def whole(body: bytes, **options) -> tuple[dict[str, str], bytes]:
    """Fields and file of a form."""
    form_reader = reader(body, **options)
    return form_reader.fields(), everything(form_reader)


@pytest.mark.parametrize("piece", SIZES)
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_form(piece, size):
    body = part("key", "é/${filename}".encode()) + part("Policy", b"", filename="p")
    body += (
        part("File", b"a\r\nb\r\n--x", filename="C:\\dir\\b.txt", content_type="text/plain; charset=x") + END
    )
    form_reader = reader(body, piece=piece)
    assert form_reader.fields() == {"key": "é/${filename}", "Policy": ""}
    assert form_reader.filename == "b.txt"
    assert form_reader.file_content_type == "text/plain; charset=x"
    assert everything(form_reader, size) == b"a\r\nb\r\n--x"


@pytest.mark.parametrize(
    ("filename", "expected"),
    [(None, ""), ("a", "a"), ("/x/y/a b.txt", "a b.txt"), ("..\\..\\a", "a"), ("x/", ""), ("é", "é")],
)
def test_the_file_is_told_by_its_name(filename, expected):
    form_reader = reader(part("other", b"1", filename="o.txt") + part("file", b"", filename=filename) + END)
    assert form_reader.fields() == {"other": "1"}
    assert (form_reader.filename, form_reader.file_content_type) == (expected, None)
    assert everything(form_reader) == b""


@pytest.mark.parametrize("piece", SIZES)
@pytest.mark.parametrize(
    "after",
    [
        b"",
        part("x", b"1") + part("x", b"2"),
        part("file", b"second"),
        b"--" + BOUNDARY.encode() + b"--epilogue",
    ],
)
def test_what_follows_the_file_is_ignored(piece, after):
    form_reader = reader(part("file", b"data") + after + END, piece=piece)
    assert form_reader.fields() == {}
    assert everything(form_reader) == b"data"


def test_a_preamble_and_lf_in_the_file_are_harmless():
    form_reader = reader(b"preamble\r\n" + part("file", b"\n\r\n\r") + END)
    form_reader.fields()
    assert everything(form_reader) == b"\n\r\n\r"


def test_every_truncation_is_noticed():
    body = part("key", b"k") + part("file", b"data") + END
    for end in range(len(body) - 2):
        error = refused(body[:end])
        assert error.code in (Code.MalformedPOSTRequest, Code.InvalidArgument), end
    assert refused(b"").code is Code.MalformedPOSTRequest


@pytest.mark.parametrize("piece", SIZES)
@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (part("key", b"k") + END, Code.InvalidArgument, "exactly one file"),
        (END, Code.InvalidArgument, "exactly one file"),
        (part("a", b"1") + part("A", b"2") + part("file", b"") + END, Code.InvalidArgument, "more than once"),
        (
            b"".join(part(str(n), b"") for n in range(4)) + part("file", b"") + END,
            Code.MaxPostPreDataLengthExceededError,
            "3",
        ),
        (
            part("a", b"x" * 101) + part("file", b"") + END,
            Code.MaxPostPreDataLengthExceededError,
            "100 bytes",
        ),
        (
            b"".join(part(c, b"x" * 90) for c in "abc") + part("file", b"") + END,
            Code.MaxPostPreDataLengthExceededError,
            "250 bytes",
        ),
        (part("k" * 251, b"") + part("file", b"") + END, Code.MaxPostPreDataLengthExceededError, "250 bytes"),
        (b"x" * 300_000 + part("file", b"") + END, Code.MaxPostPreDataLengthExceededError, "250 bytes"),
        (part("a", b"\xff") + part("file", b"") + END, Code.MalformedPOSTRequest, "UTF-8"),
        (part("", b"1") + part("file", b"") + END, Code.MalformedPOSTRequest, "name"),
        (part("a" * 5000, b"1") + part("file", b"") + END, Code.MalformedPOSTRequest, "header"),
        (part("file", b"d") + b"garbage", Code.MalformedPOSTRequest, ""),
        (part("file", b"d") + END + b"x" * 600_000, Code.MalformedPOSTRequest, "250 bytes follow"),
        (part("file", b"d") + part("z", b"x" * 600_000) + END, Code.MalformedPOSTRequest, "250 bytes follow"),
        (f"--{BOUNDARY}\r\nContent-Type: x/y\r\n\r\n".encode() + END, Code.MalformedPOSTRequest, ""),
    ],
)
def test_what_is_refused(piece, body, code, said):
    error = refused(body, piece=max(piece, 7))
    assert error.code is code
    assert said in error.message


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="a\nb"',
     "multipart/form-data; boundary=" + "a" * 71, "multipart/mixed; boundary=a", "application/x-www-form-urlencoded"],
)  # fmt: skip
def test_content_types_that_are_no_form(content_type):
    assert refused(b"", content_type=content_type).code is Code.MalformedPOSTRequest


def test_faults_of_the_source_pass_through():
    class Broken:
        def read(self, size):
            raise S3Error(Code.IncompleteBody)

    with pytest.raises(S3Error) as caught:
        FormReader(Broken(), TYPE, content_length=None, limits=SMALL).fields()
    assert caught.value.code is Code.IncompleteBody


def test_the_file_may_be_split_anywhere():
    near = f"\r\n--{BOUNDARY[:-1]}".encode()
    data = (near + b"\r" * 50 + b"\r\n--" + near + b"\r\n") * 3
    body = part("file", data) + END
    for piece in range(1, len(near) + 5):
        form_reader = reader(body, piece=piece)
        form_reader.fields()
        assert everything(form_reader) == data


@pytest.mark.parametrize("filler", [b"\r", b"\n", f"\r\n--{BOUNDARY[:-1]}".encode(), b"\r\n--"])
def test_large_adversarial_files_come_through_in_bounded_pieces(filler):
    data = filler * (3 * form._FEED // len(filler))
    form_reader = reader(part("file", data) + END, piece=100_000)
    form_reader.fields()
    pieces = []
    while piece := form_reader.read(1 << 30):
        pieces.append(piece)
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= form._FEED + len(BOUNDARY) + 4


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters='"\\%\r\n', exclude_categories=["Cc"]),
    min_size=1,
    max_size=10,
)


@given(
    fields=st.dictionaries(
        NAMES.filter(lambda name: name.lower() != "file"),
        st.binary(max_size=30).map(lambda raw: raw.hex()),
        max_size=3,
    ),
    data=st.lists(st.sampled_from([b"\r", b"\n", b"--", BOUNDARY[:-1].encode(), b"x" * 50, b"\x00"])).map(
        b"".join
    ),
    piece=st.integers(1, 200),
    size=st.integers(1, 100),
)
def test_any_form_comes_through(fields, data, piece, size):
    fields = {name: fields[name] for name in {name.lower(): name for name in fields}.values()}
    body = b"".join(part(name, value.encode()) for name, value in fields.items()) + part("file", data) + END
    form_reader = reader(body, piece=piece)
    assert form_reader.fields() == fields
    assert everything(form_reader, size) == data


@given(
    body=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    part("file", b"x"),
                    part("a", b"1"),
                    END,
                    b"\r\n",
                    f"--{BOUNDARY}".encode(),
                    b"Content-Length: 5\r\n",
                ]
            ),
        ),
        max_size=8,
    ).map(b"".join),
    content_type=st.one_of(
        st.just(TYPE),
        st.text(max_size=40),
        st.text(max_size=20).map(lambda b: f"multipart/form-data; boundary={b}"),
    ),
)
def test_any_bytes_give_a_form_or_an_s3_error(body, content_type):
    with contextlib.suppress(S3Error):
        whole(body, content_type=content_type)
