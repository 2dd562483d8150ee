"""Object ownership: whose an upload is, and whether ACLs mean anything."""

from __future__ import annotations

import json

import pytest
from client import S3

TO_OWNER = {"x-amz-acl": "bucket-owner-full-control"}


def own(s3: S3, ownership: str) -> int:
    document = (
        f"<OwnershipControls><Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule></OwnershipControls>"
    )
    return s3.put("/bucket?ownershipControls", document.encode()).status


@pytest.fixture
def shared(s3: S3) -> S3:
    """Everyone with an account may do everything in ``bucket``."""
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "*",
        "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
    }
    assert s3.put("/bucket?policy", json.dumps({"Statement": statement}).encode()).status == 204
    return s3


def owner(client: S3, path: str) -> str | None:
    return client.get(f"{path}?acl").text("Owner/ID")


@pytest.mark.parametrize("ownership", ["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"])
def test_controls_are_kept(s3: S3, ownership: str) -> None:
    assert own(s3, ownership) == 200
    assert s3.get("/bucket?ownershipControls").text("Rule/ObjectOwnership") == ownership
    assert s3.delete("/bucket?ownershipControls").status == 204
    assert s3.get("/bucket?ownershipControls").code == "OwnershipControlsNotFoundError"
    assert s3.delete("/bucket?ownershipControls").status == 204
    assert s3.put("/made", headers={"x-amz-object-ownership": ownership}).status == 200
    assert s3.get("/made?ownershipControls").text("Rule/ObjectOwnership") == ownership


@pytest.mark.parametrize(
    "body",
    [
        b"<OwnershipControls/>",
        b"<OwnershipControls><Rule><ObjectOwnership>Mine</ObjectOwnership></Rule></OwnershipControls>",
        b"<OwnershipControls>"
        + b"<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>" * 2
        + b"</OwnershipControls>",
    ],
)
def test_other_controls_are_refused(s3: S3, body: bytes) -> None:
    assert s3.put("/bucket?ownershipControls", body).code == "MalformedXML"


def test_a_bucket_is_not_made_with_what_contradicts_itself(s3: S3) -> None:
    assert s3.put("/made", headers={"x-amz-object-ownership": "Mine"}).code == "InvalidArgument"
    headers = {"x-amz-object-ownership": "BucketOwnerEnforced", "x-amz-acl": "public-read"}
    assert s3.put("/made", headers=headers).code == "InvalidBucketAclWithObjectOwnership"
    assert s3.head("/made").status == 404


def test_an_acl_for_others_must_go_before_acls_do(s3: S3) -> None:
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read"})
    assert own(s3, "BucketOwnerEnforced") == 400
    s3.put("/bucket?acl", headers={"x-amz-acl": "private"})
    assert own(s3, "BucketOwnerEnforced") == 200


def test_under_enforcement_everything_is_the_bucket_owners(shared: S3, other: S3, anonymous: S3) -> None:
    other.put("/bucket/before", b"x", {"x-amz-acl": "public-read"})
    assert own(shared, "BucketOwnerEnforced") == 200
    assert other.put("/bucket/plain", b"x").status == 200
    assert other.put("/bucket/given", b"x", TO_OWNER).status == 200
    assert other.put("/bucket/copy", headers={"x-amz-copy-source": "/bucket/plain"}).status == 200
    assert other.put("/bucket/granted", b"x", {"x-amz-grant-full-control": "id=alice"}).status == 200
    for key in ("before", "plain", "given", "copy", "granted"):
        assert owner(shared, f"/bucket/{key}") == "alice"
        assert shared.get(f"/bucket/{key}").status == 200
    upload_id = other.start_upload("/bucket/parts")
    parts = other.get(f"/bucket/parts?uploadId={upload_id}")
    assert (parts.text("Owner/ID"), parts.text("Initiator/ID")) == ("alice", "bob")
    shared.delete("/bucket?policy")
    assert anonymous.get("/bucket/before").status == 403
    assert other.get("/bucket/plain").status == 403


@pytest.mark.parametrize(
    "headers", [{"x-amz-acl": "private"}, {"x-amz-acl": "public-read"}, {"x-amz-grant-read": "id=bob"}]
)
def test_under_enforcement_acls_are_refused(shared: S3, other: S3, headers: dict[str, str]) -> None:
    shared.put("/bucket/key", b"x")
    own(shared, "BucketOwnerEnforced")
    for path in ("/bucket?acl", "/bucket/key?acl", "/bucket/new"):
        answer = other.put(path, headers=headers)
        assert (answer.status, answer.code) == (400, "AccessControlListNotSupported")
    assert other.post("/bucket/new?uploads", headers=headers).code == "AccessControlListNotSupported"


def test_preferred_ownership_follows_the_acl(shared: S3, other: S3) -> None:
    own(shared, "BucketOwnerPreferred")
    other.put("/bucket/given", b"x", TO_OWNER)
    other.put("/bucket/plain", b"x")
    other.put("/bucket/private", b"x", {"x-amz-acl": "private"})
    assert [owner(other, f"/bucket/{key}") for key in ("given", "plain", "private")] == [
        "alice",
        "bob",
        "bob",
    ]


@pytest.mark.parametrize("ownership", ["", "ObjectWriter"])
def test_otherwise_the_writer_owns_it(shared: S3, other: S3, ownership: str) -> None:
    if ownership:
        own(shared, ownership)
    other.put("/bucket/given", b"x", TO_OWNER)
    assert owner(other, "/bucket/given") == "bob"
    assert shared.get("/bucket/given").status == 200
