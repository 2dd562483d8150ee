"""ACLs and the decision."""

from __future__ import annotations

from typing import Any

import pytest

from s3lite.auth import acl as acls
from s3lite.auth.authorize import OBJECT_ACTIONS, PERMISSIONS, authorize
from s3lite.errors import Code, S3Error
from s3lite.model import ANONYMOUS, AccessKey, Account, Acl, Bucket, Grant, Identity


def caller(name: str, *, is_root: bool = False) -> Identity:
    return Identity("v4-header", AccessKey(name, "s", Account(name, name, is_root=is_root)))


OWNER, ALT, ROOT = caller("owner"), caller("alt"), caller("root", is_root=True)


def bucket(canned: str = "private", *, acl: Acl | None = None) -> Bucket:
    made = acls.canned_acl(canned, owner_id="owner", bucket_owner_id="owner")
    return Bucket(1, "b", "owner", 0, "us-east-1", acl or made)


def obj(canned: str = "private", *, owner: str = "owner") -> Acl:
    return acls.canned_acl(canned, owner_id=owner, bucket_owner_id="owner")


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize(
    ("name", "grants"),
    [
        ("private", [("me", "FULL_CONTROL")]),
        ("public-read", [(acls.ALL_USERS, "READ"), ("me", "FULL_CONTROL")]),
        ("public-read-write", [(acls.ALL_USERS, "READ"), (acls.ALL_USERS, "WRITE"), ("me", "FULL_CONTROL")]),
        ("authenticated-read", [(acls.AUTHENTICATED_USERS, "READ"), ("me", "FULL_CONTROL")]),
        ("bucket-owner-read", [("me", "FULL_CONTROL"), ("boss", "READ")]),
        ("bucket-owner-full-control", [("me", "FULL_CONTROL"), ("boss", "FULL_CONTROL")]),
        ("aws-exec-read", [("me", "FULL_CONTROL")]),
        (
            "log-delivery-write",
            [(acls.LOG_DELIVERY, "WRITE"), (acls.LOG_DELIVERY, "READ_ACP"), ("me", "FULL_CONTROL")],
        ),
    ],
)
def test_canned_lists(name: str, grants: list[tuple[str, str]]) -> None:
    made = acls.canned_acl(name, owner_id="me", bucket_owner_id="boss")
    assert [(grant.grantee, grant.permission) for grant in made.grants] == grants
    assert acls.is_public(made) == ("public" in name or "authenticated" in name)


def test_a_canned_name_that_is_none() -> None:
    with pytest.raises(S3Error) as caught:
        acls.canned_acl("public-ready", owner_id="me", bucket_owner_id="me")
    assert caught.value.code is Code.InvalidArgument


def granted(headers: dict[str, str]) -> Acl | None:
    return acls.grants_from_headers(
        headers,
        owner_id="owner",
        resolve_email={"alt@example.org": "alt"}.get,
        account_exists=lambda account_id: account_id in ("owner", "alt"),
    )


def test_grant_headers() -> None:
    made = granted(
        {
            "x-amz-grant-full-control": "id=owner",
            "x-amz-grant-read": f'emailAddress="alt@example.org", URI = "{acls.ALL_USERS}" ,id="alt"',
        }
    )
    assert made == Acl(
        "owner",
        (Grant("alt", "READ"), Grant(acls.ALL_USERS, "READ", is_group=True), Grant("owner", "FULL_CONTROL")),
    )
    assert granted({"x-amz-acl": "private"}) is None


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-grant-read": "id=alt", "x-amz-acl": "private"}, Code.InvalidRequest),
        ({"x-amz-grant-read": "id=nobody"}, Code.InvalidArgument),
        ({"x-amz-grant-read": 'uri="http://example.org/all"'}, Code.InvalidArgument),
        ({"x-amz-grant-read": "emailAddress=who@example.org"}, Code.UnresolvableGrantByEmailAddress),
        ({"x-amz-grant-read": "alt"}, Code.InvalidArgument),
        ({"x-amz-grant-read": 'id="alt'}, Code.InvalidArgument),
        ({"x-amz-grant-read": "id=alt id=owner"}, Code.InvalidArgument),
        ({"x-amz-grant-read": "name=alt"}, Code.InvalidArgument),
        ({"x-amz-grant-read": ",".join(["id=alt"] * 101)}, Code.InvalidRequest),
    ],
)
def test_grant_headers_that_are_wrong(headers: dict[str, str], code: Code) -> None:
    with pytest.raises(S3Error) as caught:
        granted(headers)
    assert caught.value.code is code


def test_what_a_list_allows() -> None:
    made = Acl("me", (Grant("alt", "READ"), Grant(acls.AUTHENTICATED_USERS, "WRITE", is_group=True)))
    assert acls.allows(made, "alt", "READ")
    assert not acls.allows(made, "", "READ")
    assert acls.allows(made, "who", "WRITE")
    assert not acls.allows(made, "", "WRITE")
    assert acls.allows(made, "me", "WRITE_ACP")
    assert not acls.allows(made, "me", "READ")
    assert not acls.allows(Acl("", (Grant("", "FULL_CONTROL"),)), "", "READ_ACP")
    assert not acls.allows(Acl("me", (Grant(acls.LOG_DELIVERY, "WRITE", is_group=True),)), "alt", "WRITE")


# ---------------------------------------------------------------- decision


@pytest.mark.parametrize(
    ("canned", "who", "may_list", "may_write"),
    [
        ("private", ALT, False, False),
        ("private", ANONYMOUS, False, False),
        ("public-read", ANONYMOUS, True, False),
        ("public-read-write", ANONYMOUS, True, True),
        ("authenticated-read", ALT, True, False),
        ("authenticated-read", ANONYMOUS, False, False),
        ("private", OWNER, True, True),
        ("private", ROOT, True, True),
    ],
)
def test_buckets(canned: str, who: Identity, may_list: bool, may_write: bool) -> None:
    for action in ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"):
        assert authorize(who, action, bucket=bucket(canned)) == may_list
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"):
        assert authorize(who, action, bucket=bucket(canned)) == may_write


@pytest.mark.parametrize(
    ("bucket_acl", "object_acl", "who", "may_read"),
    [
        ("private", "private", ALT, False),
        ("public-read-write", "private", ALT, False),
        ("private", "public-read", ALT, True),
        ("private", "public-read", ANONYMOUS, True),
        ("private", "authenticated-read", ANONYMOUS, False),
        ("private", "private", OWNER, True),
        ("private", "private", ROOT, True),
    ],
)
def test_objects(bucket_acl: str, object_acl: str, who: Identity, may_read: bool) -> None:
    assert authorize(who, "s3:GetObject", bucket=bucket(bucket_acl), object_acl=obj(object_acl)) == may_read


def test_objects_that_another_account_owns() -> None:
    here = bucket("public-read-write")
    assert not authorize(OWNER, "s3:GetObject", bucket=here, object_acl=obj(owner="alt"))
    assert authorize(OWNER, "s3:GetObject", bucket=here, object_acl=obj("bucket-owner-read", owner="alt"))
    assert not authorize(OWNER, "s3:PutObjectAcl", bucket=here, object_acl=obj(owner="alt"))
    assert authorize(OWNER, "s3:DeleteObject", bucket=here, object_acl=obj(owner="alt"))
    assert authorize(ALT, "s3:GetObject", bucket=here, object_acl=obj(owner="alt"))
    assert authorize(ALT, "s3:PutObjectTagging", bucket=here, object_acl=obj(owner="alt"))
    assert authorize(OWNER, "s3:GetObjectTagging", bucket=here, object_acl=obj(owner="alt"))


@pytest.mark.parametrize("permission", ["READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"])
def test_a_grant_on_a_bucket(permission: str) -> None:
    here = bucket(acl=Acl("owner", (Grant("alt", permission),)))
    wanted = {
        "s3:ListBucket": "READ",
        "s3:PutObject": "WRITE",
        "s3:GetBucketAcl": "READ_ACP",
        "s3:PutBucketAcl": "WRITE_ACP",
    }
    for action, needed in wanted.items():
        assert authorize(ALT, action, bucket=here) == (permission in (needed, "FULL_CONTROL"))
    assert authorize(OWNER, "s3:PutBucketAcl", bucket=here)


@pytest.mark.parametrize(("who", "may"), [(ANONYMOUS, False), (ALT, True), (ROOT, True)])
def test_the_service(who: Identity, may: bool) -> None:
    for action in ("s3:ListAllMyBuckets", "s3:CreateBucket"):
        assert authorize(who, action, bucket=None) == may


@pytest.mark.parametrize(
    "action", ["s3:PutBucketPolicy", "s3:DeleteObjectVersion", "s3:DeleteBucket", "s3:Unheard"]
)
def test_actions_without_a_grant_are_for_the_owner(action: str) -> None:
    here = bucket(acl=Acl("owner", (Grant("alt", "FULL_CONTROL"),)))
    assert [authorize(who, action, bucket=here) for who in (OWNER, ALT, ANONYMOUS, ROOT)] == [
        True,
        False,
        False,
        True,
    ]
    assert not authorize(OWNER, action, bucket=None)


def test_nobody_is_not_an_owner() -> None:
    """An empty owner id must not make anonymous callers owners."""
    lost: Any = Bucket(1, "b", "", 0, "", Acl(""))
    for action in PERMISSIONS:
        assert not authorize(ANONYMOUS, action, bucket=lost, object_acl=Acl(""))
        assert not authorize(ANONYMOUS, action, bucket=lost)
    assert "s3:GetObject" in OBJECT_ACTIONS
