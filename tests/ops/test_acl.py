"""Access control lists."""

from __future__ import annotations

import pytest
from client import S3

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"


def document(*grants: str, owner: str = "alice") -> bytes:
    return (
        f"<AccessControlPolicy><Owner><ID>{owner}</ID></Owner>"
        f"<AccessControlList>{''.join(grants)}</AccessControlList></AccessControlPolicy>"
    ).encode()


def grant(value: str, permission: str, kind: str = "CanonicalUser") -> str:
    tag = {"CanonicalUser": "ID", "Group": "URI", "AmazonCustomerByEmail": "EmailAddress"}[kind]
    xsi = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    return f'<Grant><Grantee {xsi} xsi:type="{kind}"><{tag}>{value}</{tag}></Grantee><Permission>{permission}</Permission></Grant>'


def test_the_default_grants_the_owner_alone(s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    for path in ("/bucket?acl", "/bucket/key?acl"):
        answer = s3.get(path)
        assert answer.text("Owner/ID") == "alice"
        assert answer.texts("AccessControlList/Grant/Grantee/ID") == ["alice"]
        assert answer.texts("AccessControlList/Grant/Permission") == ["FULL_CONTROL"]


@pytest.mark.parametrize(
    ("canned", "read", "write"),
    [
        ("private", 403, 403),
        ("public-read", 200, 403),
        ("public-read-write", 200, 200),
        ("authenticated-read", 403, 403),
    ],
)
def test_canned_bucket_acls_for_anonymous_callers(
    s3: S3, anonymous: S3, canned: str, read: int, write: int
) -> None:
    assert s3.put("/bucket?acl", headers={"x-amz-acl": canned}).status == 200
    assert anonymous.get("/bucket").status == read
    assert anonymous.put("/bucket/key", b"x").status == write


def test_authenticated_read_is_for_every_account(s3: S3, other: S3, anonymous: S3) -> None:
    s3.put("/bucket/key", b"x", {"x-amz-acl": "authenticated-read"})
    assert other.get("/bucket/key").body == b"x"
    assert anonymous.get("/bucket/key").code == "AccessDenied"


def test_an_object_may_be_public_in_a_private_bucket(s3: S3, anonymous: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert anonymous.get("/bucket/key").status == 403
    s3.put("/bucket/key?acl", headers={"x-amz-acl": "public-read"})
    assert anonymous.get("/bucket/key").body == b"x"
    assert anonymous.get("/bucket").status == 403


def test_grants_by_document(s3: S3, other: S3) -> None:
    body = document(
        grant("alice", "FULL_CONTROL"),
        grant("bob", "READ"),
        grant("bob@example.com", "WRITE", "AmazonCustomerByEmail"),
    )
    assert s3.put("/bucket?acl", body).status == 200
    assert other.get("/bucket").status == 200
    assert other.put("/bucket/theirs", b"x").status == 200
    assert other.get("/bucket?acl").code == "AccessDenied"
    assert s3.get("/bucket?acl").texts("AccessControlList/Grant/Permission") == [
        "FULL_CONTROL",
        "READ",
        "WRITE",
    ]


def test_grants_by_header(s3: S3, other: S3) -> None:
    s3.put(
        "/bucket/key",
        b"x",
        {"x-amz-grant-read": 'id="bob"', "x-amz-grant-read-acp": 'emailAddress="bob@example.com"'},
    )
    assert other.get("/bucket/key").body == b"x"
    assert other.get("/bucket/key?acl").status == 200
    assert other.put("/bucket/key?acl", headers={"x-amz-acl": "private"}).code == "AccessDenied"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (document(grant("nobody", "READ")), "InvalidArgument"),
        (
            document(grant("nobody@example.com", "READ", "AmazonCustomerByEmail")),
            "UnresolvableGrantByEmailAddress",
        ),
        (document(grant("http://example.com/group", "READ", "Group")), "InvalidArgument"),
        (document(grant("alice", "EVERYTHING")), "MalformedACLError"),
        (document(grant("bob", "READ"), owner="bob"), "AccessDenied"),
        (b"<AccessControlPolicy", "MalformedXML"),
        (b"", "MissingSecurityHeader"),
    ],
)
def test_bad_acls_change_nothing(s3: S3, other: S3, body: bytes, code: str) -> None:
    assert s3.put("/bucket?acl", body).code == code
    assert s3.get("/bucket?acl").texts("AccessControlList/Grant/Permission") == ["FULL_CONTROL"]


def test_unknown_canned_acls_are_refused(s3: S3) -> None:
    for path in ("/bucket?acl", "/bucket/key", "/new-bucket"):
        assert s3.put(path, headers={"x-amz-acl": "public-ready"}).code == "InvalidArgument"


def test_canned_and_grants_together_are_refused(s3: S3) -> None:
    headers = {"x-amz-acl": "private", "x-amz-grant-read": f'uri="{ALL_USERS}"'}
    assert s3.put("/bucket/key", b"x", headers).code == "InvalidRequest"


def test_what_others_write_is_theirs(s3: S3, other: S3) -> None:
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read-write"})
    other.put("/bucket/theirs", b"x")
    assert s3.get("/bucket/theirs").code == "AccessDenied"
    assert s3.delete("/bucket/theirs").status == 204


def test_policy_status_says_whether_the_acl_is_public(s3: S3) -> None:
    assert s3.get("/bucket?policyStatus").text("IsPublic") == "false"
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read"})
    assert s3.get("/bucket?policyStatus").text("IsPublic") == "true"
