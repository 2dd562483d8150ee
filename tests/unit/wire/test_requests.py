import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import S3Error
from s3lite.wire import requests, xml
from s3lite.wire.requests import AclDocument, CompletedPart, DeleteItem, DeleteRequest, GrantItem

NS = f' xmlns="{xml.NAMESPACE}"'


def code_of(function, *args, **kwargs) -> str:
    with pytest.raises(S3Error) as caught:
        function(*args, **kwargs)
    assert caught.value.message
    return caught.value.code.name


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ""),
        (b"\n", ""),
        (b"<CreateBucketConfiguration/>", ""),
        (
            f"<CreateBucketConfiguration{NS}><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>".encode(),
            "eu-west-1",
        ),
    ],
)
def test_create_bucket(body, expected):
    assert requests.parse_create_bucket(body) == expected


def test_create_bucket_refuses_other_documents():
    assert code_of(requests.parse_create_bucket, b"<Delete/>") == "MalformedXML"


def test_versioning():
    for status in ("Enabled", "Suspended"):
        body = f"<VersioningConfiguration{NS}><Status>{status}</Status></VersioningConfiguration>".encode()
        assert requests.parse_versioning(body) == status
    for inner, code in [
        ("<Status>On</Status>", "MalformedXML"),
        ("", "MalformedXML"),
        ("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>", "NotImplemented"),
    ]:
        body = f"<VersioningConfiguration>{inner}</VersioningConfiguration>".encode()
        assert code_of(requests.parse_versioning, body) == code


@pytest.mark.parametrize("namespace", [NS, ""])
def test_delete(namespace):
    body = (
        f"<Delete{namespace}><Object><Key> a&amp;b </Key></Object>"
        "<Object><Key>k</Key><VersionId>v1</VersionId><ETag>&quot;abc&quot;</ETag><Size>5</Size>"
        "<LastModifiedTime>Tue, 14 Nov 2023 22:13:20 GMT</LastModifiedTime></Object>"
        "<Object><Key>l</Key><VersionId></VersionId><LastModifiedTime>2023-11-14T22:13:20Z</LastModifiedTime></Object>"
        "<Quiet>true</Quiet></Delete>"
    ).encode()
    assert requests.parse_delete(body, max_keys=3) == DeleteRequest(
        True,
        (
            DeleteItem(" a&b "),
            DeleteItem("k", "v1", "abc", 5, 1_700_000_000.0),
            DeleteItem("l", last_modified_s=1_700_000_000.0),
        ),
    )
    assert code_of(requests.parse_delete, body, max_keys=2) == "MalformedXML"


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<Object/>",
        "<Object><Key/></Object>",
        "<Object><Key><b/></Key></Object>",
        "<Object><Key>k</Key><Size>-1</Size></Object>",
        "<Object><Key>k</Key><LastModifiedTime>soon</LastModifiedTime></Object>",
    ],
)
def test_delete_refuses(inner):
    assert code_of(requests.parse_delete, f"<Delete>{inner}</Delete>".encode(), max_keys=10) == "MalformedXML"


def part(number: object, etag: str = "abc", more: str = "") -> str:
    return f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{more}</Part>"


def complete(*parts: str) -> bytes:
    return f"<CompleteMultipartUpload{NS}>{''.join(parts)}</CompleteMultipartUpload>".encode()


def test_complete():
    body = complete(
        part(1, "&quot;abc&quot;"),
        part(3, "abc", "<ChecksumCRC32>AAAAAA==</ChecksumCRC32><ChecksumSHA1/><Unknown>x</Unknown>"),
        part(10000, "&amp;quot;abc&amp;quot;"),
    )
    assert requests.parse_complete(body, max_parts=10_000) == (
        CompletedPart(1, "abc"),
        CompletedPart(3, "abc", {"CRC32": "AAAAAA=="}),
        CompletedPart(10000, "abc"),
    )


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([], "MalformedXML"),
        (["<Part><PartNumber>1</PartNumber></Part>"], "MalformedXML"),
        (["<Part><ETag>a</ETag></Part>"], "MalformedXML"),
        ([part("one")], "MalformedXML"),
        ([part("1.0")], "MalformedXML"),
        ([part(0)], "InvalidArgument"),
        ([part(10001)], "InvalidArgument"),
        ([part(2), part(1)], "InvalidPartOrder"),
    ],
)
def test_complete_refuses(parts, code):
    assert code_of(requests.parse_complete, complete(*parts), max_parts=10_000) == code


def tagging(*tags: tuple[str, str]) -> bytes:
    rows = "".join(
        f"<Tag>{xml.element('Key', key)}{xml.element('Value', value)}</Tag>" for key, value in tags
    )
    return f"<Tagging{NS}><TagSet>{rows}</TagSet></Tagging>".encode()


LONGEST = ("k" * 128, "v" * 256)


def test_tagging():
    assert requests.parse_tagging(tagging(("a", ""), ("b c", "1"), LONGEST), max_tags=10) == (
        ("a", ""),
        ("b c", "1"),
        LONGEST,
    )
    assert requests.parse_tagging(tagging(), max_tags=10) == ()
    ten = tuple((str(number), "") for number in range(10))
    assert requests.parse_tagging(tagging(*ten), max_tags=10) == ten


@pytest.mark.parametrize(
    "tags",
    [
        [(str(number), "") for number in range(11)],
        [("k" * 129, "")],
        [("", "v")],
        [("k", "v" * 257)],
        [("k", "1"), ("k", "2")],
    ],
)
def test_tagging_refuses(tags):
    assert code_of(requests.parse_tagging, tagging(*tags), max_tags=10) == "InvalidTag"


@pytest.mark.parametrize(
    "body", [b"<Tagging/>", b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>"]
)
def test_tagging_needs_its_elements(body):
    assert code_of(requests.parse_tagging, body, max_tags=10) == "MalformedXML"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("a=1&b=2", (("a", "1"), ("b", "2"))),
        ("a", (("a", ""),)),
        ("a=b=c&", (("a", "b=c"),)),
        ("a+b=%26%3D+", (("a b", "&= "),)),
        ("%C3%A9=%F0%9F%98%80", (("é", "😀"),)),
        ("é=1".encode().decode("latin-1"), (("é", "1"),)),
    ],
)
def test_tagging_header(text, expected):
    assert requests.parse_tagging_header(text) == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("%ff=1", "InvalidArgument"),
        ("\xff=1", "InvalidArgument"),
        ("a=1&a=2", "InvalidTag"),
        ("=1", "InvalidTag"),
        ("&".join(f"{number}=" for number in range(11)), "InvalidTag"),
    ],
)
def test_tagging_header_refuses(text, code):
    assert code_of(requests.parse_tagging_header, text) == code


XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def grant(grantee: str, permission: str = "READ") -> str:
    return f"<Grant>{grantee}<Permission>{permission}</Permission></Grant>"


def acl(*grants: str) -> bytes:
    return (
        f"<AccessControlPolicy{NS}><Owner><ID>me</ID></Owner>"
        f"<AccessControlList>{''.join(grants)}</AccessControlList></AccessControlPolicy>"
    ).encode()


def test_acl():
    body = acl(
        grant(
            f'<Grantee {XSI} xsi:type="CanonicalUser"><ID>me</ID><DisplayName>x</DisplayName></Grantee>',
            "FULL_CONTROL",
        ),
        grant(
            f'<Grantee {XSI} xsi:type="Group"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>'
        ),
        grant("<Grantee><EmailAddress>a@example.com</EmailAddress></Grantee>", "WRITE_ACP"),
    )
    assert requests.parse_acl(body) == AclDocument(
        "me",
        (
            GrantItem("CanonicalUser", "me", "FULL_CONTROL"),
            GrantItem("Group", "http://acs.amazonaws.com/groups/global/AllUsers", "READ"),
            GrantItem("AmazonCustomerByEmail", "a@example.com", "WRITE_ACP"),
        ),
    )
    ownerless = b"<AccessControlPolicy><AccessControlList/></AccessControlPolicy>"
    assert requests.parse_acl(ownerless) == AclDocument("", ())


ME = "<Grantee><ID>me</ID></Grantee>"


@pytest.mark.parametrize(
    "body",
    [
        b"<AccessControlPolicy/>",
        acl(grant(ME, "EXECUTE")),
        acl(grant("")),
        acl(grant("<Grantee/>")),
        acl(grant(f'<Grantee {XSI} xsi:type="Robot"><ID>me</ID></Grantee>')),
        acl(grant(f'<Grantee {XSI} xsi:type="Group"><ID>me</ID></Grantee>')),
        acl(*[grant(ME)] * 101),
    ],
)
def test_acl_refuses(body):
    assert code_of(requests.parse_acl, body) == "MalformedACLError"


WORDS = ["Delete", "Object", "Key", "Size", "CompleteMultipartUpload", "Part", "PartNumber", "ETag", "Tagging", "TagSet", "Tag", "Value",
         "AccessControlPolicy", "AccessControlList", "Grant", "Grantee", "Permission", "Owner", "ID"]  # fmt: skip
TREES = st.recursive(
    st.text("a1 -", max_size=4),
    lambda inner: st.tuples(st.sampled_from(WORDS), st.lists(inner, max_size=3)).map(
        lambda node: f"<{node[0]}>{''.join(node[1])}</{node[0]}>"
    ),
)


@given(root=st.sampled_from(WORDS), inner=st.lists(TREES, max_size=3))
def test_any_document_gives_a_value_or_an_s3_error(root, inner):
    body = f"<{root}>{''.join(inner)}</{root}>".encode()
    for parse in (
        requests.parse_create_bucket,
        requests.parse_versioning,
        requests.parse_acl,
        lambda data: requests.parse_delete(data, max_keys=2),
        lambda data: requests.parse_complete(data, max_parts=2),
        lambda data: requests.parse_tagging(data, max_tags=2),
    ):
        with contextlib.suppress(S3Error):
            parse(body)


@given(st.text("a=&%+é1", max_size=30))
def test_any_tagging_header_gives_tags_or_an_s3_error(text):
    with contextlib.suppress(S3Error):
        requests.parse_tagging_header(text)


def test_of_a_part_named_twice_the_later_line_counts():
    body = (
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>a</ETag></Part>"
        b"<Part><PartNumber>1</PartNumber><ETag>b</ETag></Part></CompleteMultipartUpload>"
    )
    assert [(part.part_number, part.etag) for part in requests.parse_complete(body, max_parts=10)] == [
        (1, "b")
    ]
