"""boto3, current and with its defaults untouched, against gunicorn."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import boto3
import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from s3lite.callback.listen import Receiver

from .conftest import Server

MIB = 1 << 20


def test_put_get_head_delete(server: Server, bucket: str) -> None:
    s3 = server.client()
    for size in (0, 5, 100_000, 3 * MIB):
        body = os.urandom(size)
        put = s3.put_object(Bucket=bucket, Key="key", Body=body, Metadata={"a_b": "1"})
        assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        got = s3.get_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")
        assert got["Body"].read() == body
        assert got["Metadata"] == {"a_b": "1"}
        assert s3.head_object(Bucket=bucket, Key="key")["ContentLength"] == size
    s3.delete_object(Bucket=bucket, Key="key")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="key")


@pytest.mark.parametrize("size", [1 * MIB, 100 * MIB])
def test_transfer_manager(server: Server, bucket: str, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    s3 = server.client()
    s3.upload_file(str(source), bucket, "dir/key", ExtraArgs={"Metadata": {"a": "1"}})
    s3.download_file(bucket, "dir/key", str(target))
    assert source.read_bytes() == target.read_bytes()


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(server: Server, bucket: str, algorithm: str) -> None:
    s3 = server.client()
    body = os.urandom(2 * MIB)
    put = s3.put_object(Bucket=bucket, Key="key", Body=body, ChecksumAlgorithm=algorithm)
    field = f"Checksum{algorithm}"
    assert put[field] == s3.head_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")[field]
    assert s3.get_object(Bucket=bucket, Key="key", ChecksumMode="ENABLED")["Body"].read() == body


@pytest.mark.parametrize("signature", ["s3", "s3v4"])
def test_presigned_urls(server: Server, bucket: str, signature: str) -> None:
    s3 = server.client(signature_version=signature)
    params = {"Bucket": bucket, "Key": "a b+c/ä.txt"}
    url = s3.generate_presigned_url("put_object", Params=params)
    assert requests.put(url, data=b"body").status_code == 200
    url = s3.generate_presigned_url("get_object", Params=params | {"ResponseContentType": "text/x"})
    answer = requests.get(url)
    assert (answer.content, answer.headers["Content-Type"]) == (b"body", "text/x")
    assert requests.get(url + "&response-expires=0").status_code == 403
    assert requests.delete(url).status_code == 403
    expired = s3.generate_presigned_url("get_object", Params=params, ExpiresIn=-5 if signature == "s3" else 1)
    if signature == "s3":
        assert requests.get(expired).status_code == 403


@pytest.mark.parametrize("signature", ["s3", "s3v4"])
def test_presigned_post(server: Server, bucket: str, signature: str) -> None:
    s3 = server.client(signature_version=signature)
    form = s3.generate_presigned_post(bucket, "up/${filename}", Conditions=[["content-length-range", 1, 100]])
    answer = requests.post(form["url"], data=form["fields"], files={"file": ("photo.jpg", b"content")})
    assert answer.status_code == 204
    assert s3.get_object(Bucket=bucket, Key="up/photo.jpg")["Body"].read() == b"content"
    too_large = requests.post(form["url"], data=form["fields"], files={"file": ("big", b"x" * 101)})
    assert (too_large.status_code, "EntityTooLarge" in too_large.text) == (400, True)


def test_content_encoding_is_kept_without_aws_chunked(server: Server, bucket: str) -> None:
    s3 = server.client()
    s3.put_object(Bucket=bucket, Key="key", Body=b"x", ContentEncoding="gzip")
    assert s3.head_object(Bucket=bucket, Key="key")["ContentEncoding"] == "gzip"
    s3.put_object(Bucket=bucket, Key="plain", Body=b"x")
    assert "ContentEncoding" not in s3.head_object(Bucket=bucket, Key="plain")


def test_listing_pages(server: Server, bucket: str) -> None:
    s3 = server.client()
    keys = sorted(f"dir{i % 3}/k {i:04}" for i in range(60))
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key)
    for name in ("list_objects", "list_objects_v2"):
        pages = s3.get_paginator(name).paginate(Bucket=bucket, PaginationConfig={"PageSize": 7})
        assert [row["Key"] for page in pages for row in page["Contents"]] == keys
    found = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [row["Prefix"] for row in found["CommonPrefixes"]] == ["dir0/", "dir1/", "dir2/"]


def test_delete_objects_and_copy(server: Server, bucket: str) -> None:
    s3 = server.client()
    s3.put_object(Bucket=bucket, Key="a", Body=b"x" * MIB)
    s3.copy({"Bucket": bucket, "Key": "a"}, bucket, "b")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "none"}]})
    assert [row["Key"] for row in answer["Deleted"]] == ["a", "none"]
    assert s3.get_object(Bucket=bucket, Key="b")["ContentLength"] == MIB


def test_ranges(server: Server, bucket: str) -> None:
    s3 = server.client()
    body = os.urandom(2 * MIB)
    s3.put_object(Bucket=bucket, Key="key", Body=body)
    for spec, wanted in [("bytes=0-99", body[:100]), ("bytes=-7", body[-7:]), (f"bytes={MIB}-", body[MIB:])]:
        assert s3.get_object(Bucket=bucket, Key="key", Range=spec)["Body"].read() == wanted


def test_conditional_writes(server: Server, bucket: str) -> None:
    s3 = server.client()
    s3.put_object(Bucket=bucket, Key="lock", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=bucket, Key="lock", Body=b"2", IfNoneMatch="*")


# ---------------------------------------------------------------- callbacks


def carriers(url: str, **more: str) -> dict[str, str]:
    document = {"callbackUrl": url, "callbackBody": "k=${object}&s=${size}&v=${x:v}"} | more
    return {
        "callback": base64.b64encode(json.dumps(document).encode()).decode(),
        "callback-var": base64.b64encode(b'{"x:v": "1"}').decode(),
    }


@pytest.mark.parametrize("size", [100, 20 * MIB], ids=["small", "multipart"])
def test_upload_file_with_a_callback_in_its_metadata(
    server: Server, bucket: str, receiver: Receiver, tmp_path: Path, size: int
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    metadata = carriers(receiver.url(), callbackReply="standard") | {"kept": "yes"}
    server.client().upload_file(str(source), bucket, "key", ExtraArgs={"Metadata": metadata})
    assert [got.body for got in receiver.requests] == [f"k=key&s={size}&v=1".encode()]
    assert server.client().head_object(Bucket=bucket, Key="key")["Metadata"] == {"kept": "yes"}


def test_put_object_with_a_callback_that_fails(server: Server, bucket: str, receiver: Receiver) -> None:
    receiver.default = type(receiver.default)(b"", status=500)
    accepted = server.client().put_object(
        Bucket=bucket, Key="key", Body=b"x", Metadata=carriers(receiver.url(), callbackReply="standard")
    )
    assert accepted["ResponseMetadata"]["HTTPHeaders"]["x-s3lite-callback-status"] == "failed"
    with pytest.raises(ClientError, match="CallbackFailed"):
        server.client().put_object(
            Bucket=bucket,
            Key="key",
            Body=b"x",
            Metadata=carriers(receiver.url(), callbackReply="standard", callbackOnFailure="error"),
        )
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("signature", ["s3", "s3v4"])
def test_presigned_put_with_a_callback(
    server: Server, bucket: str, receiver: Receiver, signature: str
) -> None:
    s3 = server.client(signature_version=signature)
    metadata = carriers(receiver.url())
    url = s3.generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "key", "Metadata": metadata}
    )
    # SigV4 leaves metadata to be sent as headers; SigV2 moves it into the URL.
    headers = {f"x-amz-meta-{name}": value for name, value in metadata.items()} if signature == "s3v4" else {}
    answer = requests.put(url, data=b"body", headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"Status": "OK"})
    assert receiver.requests[0].body == b"k=key&s=4&v=1"


def test_multipart_of_many_threads(server: Server, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(40 * MIB))
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=8)
    server.client().upload_file(str(source), bucket, "key", Config=config)
    etag = server.client().head_object(Bucket=bucket, Key="key")["ETag"]
    assert etag.endswith('-8"')
    digest = hashlib.md5()
    for piece in server.client().get_object(Bucket=bucket, Key="key")["Body"].iter_chunks(MIB):
        digest.update(piece)
    assert digest.hexdigest() == hashlib.md5(source.read_bytes()).hexdigest()


def test_without_default_checksums(server: Server, bucket: str) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="eu-north-1",
        config=Config(
            request_checksum_calculation="when_required", response_checksum_validation="when_required"
        ),
    )
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"x"
