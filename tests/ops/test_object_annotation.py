"""Annotations: put, read, listed, deleted; what they follow, and what they refuse."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from client import S3
from conftest import ROOT_KEY, ROOT_SECRET

from s3lite.app import Application, create_app
from s3lite.core.check import Check
from s3lite.core.rekey import rekey
from s3lite.core.sweep import sweep
from s3lite.crypto.keyring import SSE_S3
from s3lite.settings import Settings

PATH = "/bucket/key?annotation&annotationName=ml.labels"


@pytest.fixture
def noted(s3: S3) -> S3:
    """Alice, with an object that has an annotation."""
    s3.put("/bucket/key", b"bytes")
    assert s3.put(PATH, b'{"cat": 1}').status == 200
    return s3


def names(client: S3, path: str = "/bucket/key", query: str = "") -> list[str]:
    return client.get(f"{path}?annotation{query}").texts("Annotations/AnnotationEntry/AnnotationName")


def faults(app: Application) -> list[object]:
    return list(Check(app.services.store, deep=True).faults())


# ---------------------------------------------------------------- the four operations


def test_put_and_get(s3: S3) -> None:
    s3.put("/bucket/key", b"bytes")
    before = s3.head("/bucket/key").headers
    text = '{"cat": "ä"}'.encode()
    put = s3.put(PATH, text)
    assert (put.text("Key"), put.text("AnnotationName")) == ("key", "ml.labels")
    assert put.headers["ETag"] == f'"{hashlib.md5(text, usedforsecurity=False).hexdigest()}"'
    got = s3.get(PATH, x_amz_checksum_mode="ENABLED")
    assert (got.body, got.headers["ETag"]) == (text, put.headers["ETag"])
    assert got.headers["x-amz-checksum-crc64nvme"] == put.headers["x-amz-checksum-crc64nvme"]
    assert got.headers["Content-Type"] == "application/octet-stream"
    after = s3.head("/bucket/key").headers
    assert (after["ETag"], after["Last-Modified"]) == (before["ETag"], before["Last-Modified"])


def test_a_repeated_name_replaces(noted: S3) -> None:
    noted.put(PATH, b"two")
    assert noted.get(PATH).body == b"two"
    assert names(noted) == ["ml.labels"]


def test_delete_is_for_good_and_repeatable(noted: S3) -> None:
    assert noted.delete(PATH).status == 204
    assert noted.delete(PATH).status == 204
    assert (noted.get(PATH).status, noted.get(PATH).code) == (404, "NoSuchAnnotation")
    assert noted.get("/bucket/key").body == b"bytes"


def test_lists_go_by_name_in_pages(noted: S3) -> None:
    for name in ("b", "a", "ml.x", "Z"):
        noted.put(f"/bucket/key?annotation&annotationName={name}", name.encode())
    first = noted.get("/bucket/key?annotation&max-annotation-results=3")
    assert first.texts("Annotations/AnnotationEntry/AnnotationName") == ["Z", "a", "b"]
    assert (first.text("AnnotationCount"), first.text("MaxAnnotationResults")) == ("3", "3")
    token = first.text("NextContinuationToken")
    rest = noted.get(f"/bucket/key?annotation&continuation-token={token}")
    assert rest.texts("Annotations/AnnotationEntry/AnnotationName") == ["ml.labels", "ml.x"]
    assert rest.text("NextContinuationToken") is None
    assert names(noted, query="&annotation-prefix=ml.") == ["ml.labels", "ml.x"]


REFUSED = {
    "a space": ("a%20b", b"x", "InvalidAnnotationName"),
    "no name": ("", b"x", "InvalidAnnotationName"),
    "aws": ("AWS.x", b"x", "InvalidAnnotationName"),
    "s3": ("s3-x", b"x", "InvalidAnnotationName"),
    "a long name": ("n" * 513, b"x", "AnnotationNameTooLong"),
    "nothing": ("n", b"", "InvalidRequest"),
    "no text": ("n", b"\xff", "UnsupportedMediaType"),
}


@pytest.mark.parametrize(("name", "body", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_not_kept(noted: S3, name: str, body: bytes, code: str) -> None:
    assert noted.put(f"/bucket/key?annotation&annotationName={name}", body).code == code
    assert names(noted) == ["ml.labels"]


@pytest.mark.parametrize("name", ["n" * 512, "%C3%A4_1.-", "awe", "x.s3"])
def test_names_in_rule_are_taken(noted: S3, name: str) -> None:
    assert noted.put(f"/bucket/key?annotation&annotationName={name}", b"x").status == 200


def test_a_checksum_that_does_not_match_stores_nothing(noted: S3) -> None:
    answer = noted.put(PATH, b"other", {"x-amz-checksum-crc32": "AAAAAA=="})
    assert answer.code == "BadDigest"
    assert noted.get(PATH).body == b'{"cat": 1}'


def test_conditions_are_about_the_object(noted: S3) -> None:
    etag = noted.head("/bucket/key").headers["ETag"]
    assert noted.put(PATH, b"x", {"x-amz-object-if-match": '"other"'}).code == "PreconditionFailed"
    assert noted.delete(PATH, {"x-amz-object-if-match": '"other"'}).code == "PreconditionFailed"
    assert noted.put(PATH, b"x", {"x-amz-object-if-match": etag}).status == 200
    assert noted.delete(PATH, {"x-amz-object-if-match": etag}).status == 204


@pytest.mark.parametrize(
    "query", ["max-annotation-results=0", "max-annotation-results=1001", "continuation-token=zz"]
)
def test_bad_arguments_of_lists(noted: S3, query: str) -> None:
    assert noted.get(f"/bucket/key?annotation&{query}").code == "InvalidArgument"


def test_a_prefix_longer_than_a_name(noted: S3) -> None:
    assert noted.get(f"/bucket/key?annotation&annotation-prefix={'x' * 513}").code == "InvalidPrefix"


def test_of_what_is_not_there(s3: S3) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert s3.request(method, PATH, b"x" if method == "PUT" else b"").code == "NoSuchKey"
    assert s3.get("/bucket/key?annotation").code == "NoSuchKey"


def test_limits_at_their_edge(settings: Settings) -> None:
    limits = replace(settings.limits, annotations=2, annotation_bytes=5000)
    app = create_app(replace(settings, limits=limits))
    root = S3(app, ROOT_KEY, ROOT_SECRET)
    root.put("/bucket")
    root.put("/bucket/key", b"x")
    large = "/bucket/key?annotation&annotationName=large"
    assert root.put(large, b"x" * 5001).code == "EntityTooLarge"
    assert root.put(large, b"x" * 5000).status == 200
    assert root.get(large).body == b"x" * 5000
    assert root.put("/bucket/key?annotation&annotationName=b", b"x").status == 200
    assert root.put("/bucket/key?annotation&annotationName=c", b"x").code == "AnnotationLimitExceeded"
    assert root.put("/bucket/key?annotation&annotationName=b", b"y").status == 200
    app.close()


# ---------------------------------------------------------------- who may


def test_annotations_are_the_owners(noted: S3, other: S3, anonymous: S3) -> None:
    for client in (other, anonymous):
        for method, path in (
            ("GET", PATH),
            ("GET", "/bucket/key?annotation"),
            ("PUT", PATH),
            ("DELETE", PATH),
        ):
            assert client.request(method, path, b"x" if method == "PUT" else b"").code == "AccessDenied"
    assert noted.get(PATH).body == b'{"cat": 1}'


def test_a_policy_gives_each_right_by_name(noted: S3, other: S3) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "bob"},
        "Action": "s3:GetObjectAnnotation",
        "Resource": "arn:aws:s3:::bucket/*",
    }
    noted.put("/bucket?policy", json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode())
    assert other.get(PATH).status == 200
    assert other.put(PATH, b"x").code == "AccessDenied"
    assert other.get("/bucket/key?annotation").code == "AccessDenied"


# ---------------------------------------------------------------- what they follow


def test_they_belong_to_a_version(noted: S3) -> None:
    noted.put(
        "/bucket?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    new = noted.put("/bucket/key", b"new").headers["x-amz-version-id"]
    assert names(noted) == []
    noted.put(PATH, b"of new")
    assert noted.get(f"{PATH}&versionId=null").body == b'{"cat": 1}'
    answer = noted.get(f"{PATH}&versionId={new}")
    assert (answer.body, answer.headers["x-amz-object-version-id"]) == (b"of new", new)
    noted.delete(f"/bucket/key?versionId={new}")
    assert noted.get(PATH).body == b'{"cat": 1}'


def test_they_go_with_the_object(app: Application, noted: S3) -> None:
    noted.put(PATH, b"x" * 9000)
    noted.put("/bucket/key", b"overwritten")
    assert names(noted) == []
    noted.put(PATH, b"y" * 9000)
    noted.delete("/bucket/key")
    noted.put("/bucket/key", b"again")
    assert names(noted) == []
    sweep(app.services.store)
    with app.services.store.catalog.read() as tx:
        assert tx.counts()["garbage"] == 0
    assert list(app.services.store.blobs.scan()) == []
    assert faults(app) == []


@pytest.mark.parametrize("directive", ["", "COPY", "EXCLUDE"])
def test_copies_take_them_along_unless_told_not_to(app: Application, noted: S3, directive: str) -> None:
    headers = {"x-amz-copy-source": "/bucket/key"}
    if directive:
        headers["x-amz-object-annotation-directive"] = directive
    assert noted.put("/bucket/copy", headers=headers).status == 200
    assert names(noted, "/bucket/copy") == ([] if directive == "EXCLUDE" else ["ml.labels"])
    noted.delete("/bucket/key")
    sweep(app.services.store)
    if directive != "EXCLUDE":
        assert noted.get(PATH.replace("key", "copy", 1)).body == b'{"cat": 1}'
    assert faults(app) == []


def test_a_copy_onto_itself_keeps_them(app: Application, noted: S3) -> None:
    headers = {"x-amz-copy-source": "/bucket/key", "x-amz-metadata-directive": "REPLACE"}
    assert noted.put("/bucket/key", headers=headers).status == 200
    assert noted.get(PATH).body == b'{"cat": 1}'
    assert faults(app) == []


def test_a_copy_needs_the_right_to_read_them(noted: S3, other: S3) -> None:
    noted.put("/bucket/key?acl", headers={"x-amz-acl": "public-read"})
    other.put("/bobs")
    headers = {"x-amz-copy-source": "/bucket/key"}
    assert other.put("/bobs/copy", headers=headers).code == "AccessDenied"
    headers["x-amz-object-annotation-directive"] = "EXCLUDE"
    assert other.put("/bobs/copy", headers=headers).status == 200
    assert other.put("/bobs/copy", headers=headers | {"x-amz-object-annotation-directive": "X"}).code == (
        "InvalidArgument"
    )


def test_a_rename_keeps_them(app: Application, noted: S3) -> None:
    assert noted.put("/bucket/new?renameObject", headers={"x-amz-rename-source": "key"}).status == 200
    assert noted.get(PATH.replace("key", "new", 1)).body == b'{"cat": 1}'
    assert faults(app) == []


def test_a_deep_check_reads_them(app: Application, noted: S3, embedded: None) -> None:
    noted.put(PATH, b"x" * 9000)
    ((blob, _, _),) = app.services.store.blobs.scan()
    (file,) = Path(app.services.settings.data_dir).glob(f"blobs/*/{blob}*")
    file.chmod(0o600)
    file.write_bytes(b"y" * 9000)
    (fault,) = faults(app)
    assert "annotation ml.labels" in fault.message


# ---------------------------------------------------------------- encryption and locks


@pytest.mark.parametrize("size", [10, 9000])
def test_they_are_encrypted_as_their_object_is(app: Application, s3: S3, size: int) -> None:
    text = b"secret words " * (size // 10)
    s3.put("/bucket/key", b"bytes", {"x-amz-server-side-encryption": "AES256"})
    assert s3.put(PATH, text).headers["x-amz-server-side-encryption"] == "AES256"
    assert s3.get(PATH).body == text
    kept = b"".join(
        b"".join(app.services.store.blobs.read(blob, offset=0, length=length))
        for blob, length, _ in app.services.store.blobs.scan()
    )
    assert b"secret" not in kept
    assert s3.put("/bucket/copy", headers={"x-amz-copy-source": "/bucket/key"}).status == 200
    assert s3.get(PATH.replace("key", "copy", 1)).body == text
    assert faults(app) == []


def test_an_encrypted_copy_of_a_plain_object_encrypts_them(app: Application, noted: S3) -> None:
    headers = {"x-amz-copy-source": "/bucket/key", "x-amz-server-side-encryption": "AES256"}
    assert noted.put("/bucket/copy", headers=headers).status == 200
    answer = noted.get(PATH.replace("key", "copy", 1))
    assert (answer.body, answer.headers["x-amz-server-side-encryption"]) == (b'{"cat": 1}', "AES256")
    assert faults(app) == []


@pytest.mark.parametrize("size", [10, 9000])
def test_a_rotation_of_the_keyring_leaves_them_readable(app: Application, s3: S3, size: int) -> None:
    store = app.services.store
    store.keyring.add("payroll")
    text = b"secret words " * (size // 10)
    s3.put("/bucket/key", b"bytes", {"x-amz-server-side-encryption": "AES256"})
    assert s3.put(PATH, text).status == 200
    before = {blob for blob, *_ in store.blobs.scan()}
    store.keyring.rotate(SSE_S3)
    assert s3.get(PATH).body == text
    assert rekey(store, SSE_S3).sealed == 1
    assert s3.get(PATH).body == text
    assert {blob for blob, *_ in store.blobs.scan()} == before
    other = b"<ObjectEncryption><SSE-KMS><KMSKeyArn>payroll</KMSKeyArn></SSE-KMS></ObjectEncryption>"
    assert s3.put("/bucket/key?encryption", other).status == 200
    store.keyring.rotate("payroll")
    assert rekey(store, "payroll").sealed == 1
    assert s3.get(PATH).body == text
    assert faults(app) == []


@pytest.mark.parametrize("lock", ["legal hold", "governance"])
def test_a_locked_version_keeps_them(s3: S3, lock: str) -> None:
    s3.put("/locked", headers={"x-amz-bucket-object-lock-enabled": "true"})
    s3.put(
        "/locked/key",
        b"x",
        {"x-amz-object-lock-legal-hold": "ON"}
        if lock == "legal hold"
        else {
            "x-amz-object-lock-mode": "GOVERNANCE",
            "x-amz-object-lock-retain-until-date": "2099-01-01T00:00:00Z",
        },
    )
    path = "/locked/key?annotation&annotationName=n"
    assert s3.put(path, b"one").status == 200
    assert s3.put(path, b"two").code == "AccessDenied"
    assert s3.delete(path).code == "AccessDenied"
    bypass = s3.delete(path, {"x-amz-bypass-governance-retention": "true"})
    assert bypass.status == (403 if lock == "legal hold" else 204)
