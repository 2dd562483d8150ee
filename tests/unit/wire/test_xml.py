import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from s3lite.errors import Code, S3Error
from s3lite.wire import xml

S3 = xml.NAMESPACE


def refused(data: bytes, root: str = "A") -> S3Error:
    with pytest.raises(S3Error) as caught:
        xml.parse(data, root)
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        b"<A><B>x</B></A>",
        f'<A xmlns="{S3}"><B>x</B></A>'.encode(),
        b'<s:A xmlns:s="urn:other"><s:B>x</s:B></s:A>',
        b'<?xml version="1.0" encoding="UTF-8"?>\n<A><!-- c --><B>x</B><?pi?></A>\n',
        '<?xml version="1.0" encoding="UTF-16"?><A><B>x</B></A>'.encode("utf-16"),
        b"\xef\xbb\xbf<A><B>x</B></A>",
    ],
)
def test_namespaces_comments_and_encodings_do_not_matter(data):
    root = xml.parse(data, ("Z", "A"))
    assert xml.local_name(root) == "A"
    assert xml.text(root, "B") == "x"
    assert [child.text for child in xml.children(root, "B")] == ["x"]
    assert xml.fields(root) == {"B": "x"}


def test_texts_and_their_absence():
    root = xml.parse(b"<A><B> a<!-- c -->b <![CDATA[<c>]]></B><B>2</B><C/></A>", "A")
    assert xml.text(root, "B") == " ab <c>"
    assert xml.text(root, "C", "default") == ""
    assert xml.text(root, "D", "default") == "default"
    assert xml.child(root, "D") is None
    assert xml.fields(root) == {"B": " ab <c>", "C": ""}
    nested = xml.parse(b"<A><B>a<C/></B></A>", "A")
    for read in (lambda: xml.text(nested, "B"), lambda: xml.fields(nested)):
        with pytest.raises(S3Error) as caught:
            read()
        assert caught.value.code is Code.MalformedXML


BILLION_LAUGHS = (
    '<!DOCTYPE A [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">'
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><A>&i;</A>"
)


@pytest.mark.parametrize(
    "data",
    [
        b"<A>",
        b"<A></B>",
        b"<B/>",
        b"hello",
        b"<A/><A/>",
        b"<A>\x00</A>",
        b"<A>\xff</A>",
        b"<A>&nbsp;</A>",
        b"<!DOCTYPE A><A/>",
        b'<!DOCTYPE A SYSTEM "http://example.com/x.dtd"><A/>',
        b'<!DOCTYPE A [<!ENTITY x SYSTEM "file:///etc/passwd">]><A>&x;</A>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE A [<!ENTITY x "y">]><A>&x;</A>'.encode("utf-16"),
        BILLION_LAUGHS.encode(),
        b'<?xml version="1.0" encoding="no-such"?><A/>',
        b"<A>" * (xml.MAX_DEPTH + 1) + b"</A>" * (xml.MAX_DEPTH + 1),
        b"<A>" * 100_000,
    ],
)
def test_what_is_refused(data):
    error = refused(data)
    assert error.code is Code.MalformedXML
    assert error.message.startswith(Code.MalformedXML.message)


def test_depth_up_to_the_limit_is_fine():
    xml.parse(b"<A>" * xml.MAX_DEPTH + b"</A>" * xml.MAX_DEPTH, "A")


@pytest.mark.parametrize("data", [b"", b" \n"])
def test_an_empty_body_is_told_apart(data):
    assert refused(data).code is Code.MissingRequestBodyError


@given(st.one_of(st.binary(max_size=200), st.text("<>/A!?[]&;x=\"' ", max_size=60).map(str.encode)))
def test_any_bytes_give_an_element_or_an_s3_error(data):
    with contextlib.suppress(S3Error):
        xml.parse(data, "A")


def test_escape():
    assert xml.escape("a&<>\"'b") == "a&amp;&lt;&gt;&quot;'b"
    assert xml.escape("\r\n\t\x85é😀") == "&#13;\n\t\x85é😀"
    assert xml.escape("a\x00\x1f\ud800\ufffeb") == "a\ufffd\ufffd\ufffd\ufffdb"


@given(st.text())
def test_what_is_written_is_read_back(text):
    document = xml.document("A", xml.element("B", text))
    assert document.startswith(
        b'<?xml version="1.0" encoding="UTF-8"?>\n<A xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    )
    legal = "".join(
        "\ufffd" if (ord(c) < 32 and c not in "\t\n\r") or c in "\ufffe\uffff" else c for c in text
    )
    assert xml.text(xml.parse(document, "A"), "B") == legal
    assert etree.fromstring(xml.document("A", "", namespaced=False)).tag == "A"
