"""The settings of [compat]: Ceph's answers where they differ from S3's, and buckets with open uploads."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from client import S3
from conftest import ROOT_KEY, ROOT_SECRET, add_user
from ssekit import customer_headers

from s3lite.app import Application, create_app
from s3lite.core import access_log
from s3lite.settings import CompatSettings, LoggingSettings, Settings

CUSTOMER = customer_headers()


@pytest.fixture(params=[False, True], ids=["s3", "ceph"])
def is_ceph(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def app(settings: Settings, is_ceph: bool) -> Iterator[Application]:
    """In another region than us-east-1, where S3 refuses to make a bucket again."""
    application = create_app(replace(settings, region="eu-west-1", compat=CompatSettings(ceph=is_ceph)))
    yield application
    application.close()


@pytest.fixture
def root(app: Application) -> S3:
    return S3(app, ROOT_KEY, ROOT_SECRET)


def test_create_bucket_again_with_the_same_acl(root: S3, is_ceph: bool) -> None:
    assert root.put("/bucket").status == 200
    answer = root.put("/bucket")
    if is_ceph:
        assert answer.status == 200
    else:
        assert (answer.status, answer.code) == (409, "BucketAlreadyOwnedByYou")


def test_create_bucket_again_with_another_acl(root: S3, is_ceph: bool) -> None:
    root.put("/bucket")
    answer = root.put("/bucket", headers={"x-amz-acl": "public-read"})
    assert (answer.status, answer.code) == (
        409,
        "BucketAlreadyExists" if is_ceph else "BucketAlreadyOwnedByYou",
    )


def test_metadata_beyond_ascii(root: S3, is_ceph: bool) -> None:
    root.put("/bucket", headers={"x-amz-acl": "public-read-write"})
    raw = "Grüße".encode().decode("latin-1")
    assert S3(root.wsgi, None).put("/bucket/key", b"x", {"x-amz-meta-a": raw}).status == 200
    encoded = base64.b64encode("Grüße".encode()).decode()
    assert root.get("/bucket/key").headers["x-amz-meta-a"] == (raw if is_ceph else f"=?UTF-8?B?{encoded}?=")


def test_complete_of_a_customers_upload_without_the_key(root: S3, is_ceph: bool) -> None:
    root.put("/bucket")
    upload_id = root.start_upload("/bucket/key", CUSTOMER)
    part = root.put(f"/bucket/key?partNumber=1&uploadId={upload_id}", b"x" * 2000, CUSTOMER)
    etag = part.headers["etag"]
    document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>".encode()
    answer = root.post(f"/bucket/key?uploadId={upload_id}", document)
    if is_ceph:
        assert (answer.status, answer.code) == (400, "InvalidRequest")
        answer = root.post(f"/bucket/key?uploadId={upload_id}", document, CUSTOMER)
    assert answer.status == 200
    assert root.request("GET", "/bucket/key", headers=CUSTOMER).body == b"x" * 2000


def test_a_tenant_before_the_bucket(app: Application, is_ceph: bool) -> None:
    of_tenant, plain = add_user(app, "acme$carol"), add_user(app, "dave")
    of_tenant.put("/carols")
    of_tenant.put("/carols/key", b"carol")
    plain.put("/daves")
    plain.put("/daves/key", b"dave")
    carol, dave = of_tenant.get("/acme:carols/key"), plain.get("/:daves/key")
    if not is_ceph:
        assert {carol.code, dave.code} == {"NoSuchBucket"}
        return
    assert (carol.body, dave.body) == (b"carol", b"dave")
    for path in ("/acme:daves/key", "/:carols/key", "/other:carols/key", "/acme:/key", "/::carols/key"):
        assert of_tenant.get(path).code == "NoSuchBucket"
        assert plain.get(path).code == "NoSuchBucket"
    assert plain.get("/acme:carols/key").code == "AccessDenied"
    assert of_tenant.put("/acme:new").code == "InvalidBucketName"


def logging_to(target: str) -> bytes:
    inner = f"<TargetBucket>{target}</TargetBucket><TargetPrefix>log/</TargetPrefix>"
    return f"<BucketLoggingStatus><LoggingEnabled>{inner}</LoggingEnabled></BucketLoggingStatus>".encode()


def let_logging_write(owner: S3, target: str, account: str) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{target}/*",
        "Condition": {"StringEquals": {"aws:SourceAccount": account}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert owner.put(f"/{target}?policy", policy.encode()).status == 204


def test_logging_refuses_in_cephs_words(app: Application, is_ceph: bool) -> None:
    alice = add_user(app, "alice")
    for name in ("source", "target", "chained", "sealed"):
        assert alice.put(f"/{name}").status == 200
        let_logging_write(alice, name, "alice")
    rule = "<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>"
    document = f"<ServerSideEncryptionConfiguration><Rule>{rule}</Rule></ServerSideEncryptionConfiguration>"
    assert alice.put("/sealed?encryption", document.encode()).status == 200
    assert alice.put("/chained?logging", logging_to("target")).status == 200

    def answer(target: str) -> str:
        got = alice.put("/source?logging", logging_to(target))
        return "taken" if got.status == 200 else got.code

    alice.put("/mute")
    told = [answer(name) for name in ("nowhere", "mute", "source", "chained", "sealed")]
    if is_ceph:
        assert told == ["NoSuchKey", "AccessDenied", *["InvalidArgument"] * 3]
    else:
        assert told == [*["InvalidTargetBucketForLogging"] * 2, *["taken"] * 3]


def test_logging_into_another_accounts_bucket(app: Application, is_ceph: bool) -> None:
    alice, bob = add_user(app, "alice"), add_user(app, "bob")
    assert alice.put("/source").status == 200
    assert bob.put("/target", headers={"x-amz-acl": "log-delivery-write"}).status == 200
    assert alice.put("/source?logging", logging_to("target")).status != 200  # an ACL names no source
    let_logging_write(bob, "target", "carol")
    assert alice.put("/source?logging", logging_to("target")).status != 200
    let_logging_write(bob, "target", "alice")
    assert (alice.put("/source?logging", logging_to("target")).status == 200) is is_ceph
    if is_ceph:
        alice.get("/source")
        app._access_log.flush()
        assert [line.split()[7] for line in delivered(app, bob)] == ["REST.GET.BUCKET"]


def delivered(app: Application, owner: S3) -> list[str]:
    """Lines of what a sweep has made of them by now."""
    store = app.services.store
    access_log.deliver(replace(store, settings=replace(store.settings, logging=LoggingSettings(deliver_s=0))))
    keys = owner.get("/target?list-type=2").texts("Contents/Key")
    return [line for key in keys for line in owner.get(f"/target/{key}").body.decode().splitlines()]


def test_open_uploads_keep_a_bucket_if_the_operator_wishes(settings: Settings) -> None:
    app = create_app(replace(settings, compat=CompatSettings(delete_with_uploads=False)))
    root = S3(app, ROOT_KEY, ROOT_SECRET)
    root.put("/bucket")
    upload_id = root.start_upload("/bucket/key")
    answer = root.delete("/bucket")
    assert (answer.status, answer.code) == (409, "BucketNotEmpty")
    assert "abort" in answer.message
    assert root.delete(f"/bucket/key?uploadId={upload_id}").status == 204
    assert root.delete("/bucket").status == 204
    app.close()
