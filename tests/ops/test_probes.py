"""What clients read of a bucket before they work, answered as a fresh bucket answers."""

from __future__ import annotations

import pytest
from client import S3

from s3lite.context import Level
from s3lite.dispatch import CARRIERS
from s3lite.routes import ROUTES

ABSENT = {
    "policy": "NoSuchBucketPolicy",
    "cors": "NoSuchCORSConfiguration",
    "lifecycle": "NoSuchLifecycleConfiguration",
    "website": "NoSuchWebsiteConfiguration",
    "encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "replication": "ReplicationConfigurationNotFoundError",
    "object-lock": "ObjectLockConfigurationNotFoundError",
    "publicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "ownershipControls": "OwnershipControlsNotFoundError",
    "tagging": "NoSuchTagSet",
}
EMPTY = {
    "accelerate": "AccelerateConfiguration",
    "logging": "BucketLoggingStatus",
    "versioning": "VersioningConfiguration",
    "location": "LocationConstraint",
}


@pytest.mark.parametrize(("word", "code"), list(ABSENT.items()))
def test_what_is_not_configured_is_404(s3: S3, word: str, code: str) -> None:
    answer = s3.get(f"/bucket?{word}")
    assert (answer.status, answer.code) == (404, code)


@pytest.mark.parametrize(("word", "root"), list(EMPTY.items()))
def test_what_is_empty_is_an_empty_document(s3: S3, word: str, root: str) -> None:
    answer = s3.get(f"/bucket?{word}")
    assert (answer.status, answer.xml.tag, len(answer.xml)) == (200, root, 0)


def test_the_owner_pays(s3: S3) -> None:
    assert s3.get("/bucket?requestPayment").text("Payer") == "BucketOwner"


WORDS = sorted({route.subresource for route in ROUTES if route.subresource})


@pytest.mark.parametrize("word", WORDS)
def test_a_word_never_deletes_a_bucket_or_an_object(s3: S3, word: str) -> None:
    s3.put("/empty")
    s3.put("/bucket/key", b"x")
    s3.delete(f"/empty?{word}")
    if word not in CARRIERS:  # of objects these are no words
        s3.delete(f"/bucket/key?{word}=name")
    assert s3.head("/empty").status == 200
    assert s3.get("/bucket/key").body == b"x"


NOT_OFFERED = [route for route in ROUTES if route.handler is None]


@pytest.mark.parametrize("route", NOT_OFFERED, ids=lambda route: route.operation)
def test_what_is_not_offered_is_501_by_name(s3: S3, route) -> None:
    s3.put("/bucket/key", b"x")
    path = {Level.SERVICE: "/", Level.BUCKET: "/bucket", Level.OBJECT: "/bucket/key"}[route.level]
    headers = {route.when: "x"} if route.when and route.when.startswith("x-") else None
    query = "&".join(
        filter(None, [route.subresource, f"{route.when}=5" if route.when and not headers else ""])
    )
    answer = s3.request(route.method, f"{path}?{query}" if query else path, headers=headers)
    assert (answer.status, answer.code, answer.text("Operation")) == (501, "NotImplemented", route.operation)
    assert s3.get("/bucket/key").body == b"x"
