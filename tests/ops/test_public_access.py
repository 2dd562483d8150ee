"""Public access blocks: what they keep the public from."""

from __future__ import annotations

import json

import pytest
from client import S3
from forms import CONTENT_TYPE, body, v4_fields

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
SETTINGS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
PUBLIC = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}


def block(s3: S3, *names: str) -> None:
    flags = "".join(f"<{name}>true</{name}>" for name in names)
    document = f"<PublicAccessBlockConfiguration>{flags}</PublicAccessBlockConfiguration>"
    assert s3.put("/bucket?publicAccessBlock", document.encode()).status == 200


def policy(**changed: object) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": [{**PUBLIC, **changed}]}).encode()


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_kept(s3: S3, name: str) -> None:
    block(s3, name)
    answer = s3.get("/bucket?publicAccessBlock")
    assert {each: answer.text(each) for each in SETTINGS} == {
        each: "true" if each == name else "false" for each in SETTINGS
    }
    assert s3.delete("/bucket?publicAccessBlock").status == 204
    assert s3.get("/bucket?publicAccessBlock").code == "NoSuchPublicAccessBlockConfiguration"
    assert s3.delete("/bucket?publicAccessBlock").status == 204


@pytest.mark.parametrize(
    "document",
    [
        b"<PublicAccessBlockConfiguration>",
        b"<PublicAccessBlockConfiguration><BlockPublicAcls>1</BlockPublicAcls></PublicAccessBlockConfiguration>",
        b"<Other/>",
    ],
)
def test_other_documents_are_refused(s3: S3, document: bytes) -> None:
    assert s3.put("/bucket?publicAccessBlock", document).code == "MalformedXML"


@pytest.mark.parametrize("acl", ["public-read", "public-read-write", "authenticated-read"])
def test_public_acls_are_refused(s3: S3, acl: str) -> None:
    s3.put("/bucket/key", b"x")
    s3.put("/bucket/source", b"x")
    block(s3, "BlockPublicAcls")
    headers = {"x-amz-acl": acl}
    for path in ("/bucket?acl", "/bucket/key?acl", "/bucket/new"):
        assert s3.put(path, headers=headers).code == "AccessDenied"
    assert s3.post("/bucket/new?uploads", headers=headers).code == "AccessDenied"
    assert (
        s3.put("/bucket/new", headers={**headers, "x-amz-copy-source": "/bucket/source"}).code
        == "AccessDenied"
    )
    assert s3.put("/bucket/new", b"x", {"x-amz-acl": "private"}).status == 200


def test_public_grants_and_forms_are_refused_alike(s3: S3) -> None:
    block(s3, "BlockPublicAcls")
    assert s3.put("/bucket/new", b"x", {"x-amz-grant-read": f'uri="{ALL_USERS}"'}).code == "AccessDenied"
    xsi = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    grantee = f'<Grantee {xsi} xsi:type="Group"><URI>{ALL_USERS}</URI></Grantee>'
    document = (
        "<AccessControlPolicy><AccessControlList>"
        f"<Grant>{grantee}<Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>"
    )
    assert s3.put("/bucket?acl", document.encode()).code == "AccessDenied"
    assert s3.credentials is not None
    sent = {"key": "k", "acl": "public-read"}
    conditions = [{"bucket": "bucket"}, *({name: value} for name, value in sent.items())]
    signed = v4_fields(s3.credentials.access_key, s3.credentials.secret_key, conditions)
    form = body([*sent.items(), *signed.items()])
    assert s3.anonymous().post("/bucket", form, {"Content-Type": CONTENT_TYPE}).code == "AccessDenied"


def test_public_acls_are_ignored(s3: S3, other: S3, anonymous: S3) -> None:
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read"})
    s3.put("/bucket/key", b"x", {"x-amz-acl": "public-read"})
    s3.put("/bucket/bobs", b"x", {"x-amz-grant-read": f'id="bob", uri="{ALL_USERS}"'})
    block(s3, "IgnorePublicAcls")
    for client in (other, anonymous):
        assert client.get("/bucket").status == 403
        assert client.get("/bucket/key").status == 403
    assert other.get("/bucket/bobs").status == 200
    assert s3.get("/bucket?policyStatus").text("IsPublic") == "false"
    assert s3.put("/bucket?acl", headers={"x-amz-acl": "public-read"}).status == 200
    s3.delete("/bucket?publicAccessBlock")
    assert anonymous.get("/bucket/key").status == 200


def test_public_policies_are_refused(s3: S3) -> None:
    block(s3, "BlockPublicPolicy")
    assert s3.put("/bucket?policy", policy()).code == "AccessDenied"
    assert s3.put("/bucket?policy", policy(Principal={"AWS": "bob"})).status == 204


def test_public_buckets_are_restricted_to_their_account(s3: S3, other: S3, anonymous: S3, root: S3) -> None:
    s3.put("/bucket/key", b"x")
    s3.put("/bucket?policy", policy())
    assert anonymous.get("/bucket/key").status == 200
    block(s3, "RestrictPublicBuckets")
    assert [client.get("/bucket/key").status for client in (anonymous, other, s3, root)] == [
        403,
        403,
        200,
        200,
    ]
    assert s3.get("/bucket?policyStatus").text("IsPublic") == "false"
    s3.put("/bucket?policy", policy(Principal={"AWS": "bob"}))
    assert other.get("/bucket/key").status == 200
