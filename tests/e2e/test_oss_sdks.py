"""Alibaba Cloud's own Python SDKs against gunicorn: code written for OSS runs unchanged."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alibabacloud_oss_v2 as oss_v2
import oss2
import pytest
import requests

from s3lite.callback.listen import Receiver

from .conftest import Server

MIB = 1 << 20


@pytest.fixture(params=["v1", "v4"])
def oss2_bucket(server: Server, bucket: str, request: pytest.FixtureRequest) -> oss2.Bucket:
    kind = {"v1": oss2.Auth, "v4": oss2.AuthV4}[request.param]
    auth = kind(server.access_key, server.secret_key)
    return oss2.Bucket(auth, server.endpoint, bucket, is_path_style=True, region="us-east-1")


@pytest.fixture(params=["v1", "v4"])
def v2_client(server: Server, request: pytest.FixtureRequest) -> oss_v2.Client:
    config = oss_v2.config.load_default()
    config.credentials_provider = oss_v2.credentials.StaticCredentialsProvider(
        server.access_key, server.secret_key
    )
    config.region = "us-east-1"
    config.endpoint = server.endpoint
    config.use_path_style = True
    config.retry_max_attempts = 1
    config.signature_version = request.param
    return oss_v2.Client(config)


def encode(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_oss2_awkward_keys_there_and_back(oss2_bucket: oss2.Bucket) -> None:
    keys = ["sp ace/two  spaces", "plus+a&b=c", "per%cent", "日本/ü", "a//b", "quote'\"()*!~"]
    for key in keys:
        oss2_bucket.put_object(key, key.encode())
    assert [oss2_bucket.get_object(key).read().decode() for key in keys] == keys
    listed = [entry.key for entry in oss2.ObjectIteratorV2(oss2_bucket, max_keys=2)]
    assert sorted(listed) == sorted(keys)
    assert oss2_bucket.batch_delete_objects(keys).deleted_keys == keys


def test_oss2_resumable_upload_and_download(oss2_bucket: oss2.Bucket, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * (12 * MIB // 256))
    store = oss2.ResumableStore(root=str(tmp_path))
    oss2.resumable_upload(
        oss2_bucket,
        "big",
        str(source),
        multipart_threshold=MIB,
        part_size=5 * MIB,
        num_threads=2,
        store=store,
    )
    assert oss2_bucket.head_object("big").headers["x-oss-object-type"] == "Multipart"
    oss2_bucket.get_object_to_file("big", str(target))
    assert target.read_bytes() == source.read_bytes()


def test_oss2_callback_of_put_and_complete(oss2_bucket: oss2.Bucket) -> None:
    with Receiver() as receiver:
        headers = {
            "x-oss-callback": encode({"callbackUrl": receiver.url(), "callbackBody": "s=${size}&u=${x:u}"}),
            "x-oss-callback-var": encode({"x:u": "42"}),
        }
        put = oss2_bucket.put_object("one", b"data", headers=headers)
        assert put.resp.read() == b'{"Status":"OK"}'
        upload_id = oss2_bucket.init_multipart_upload("two").upload_id
        part = oss2_bucket.upload_part("two", upload_id, 1, b"more data")
        parts = [oss2.models.PartInfo(1, part.etag)]
        done = oss2_bucket.complete_multipart_upload("two", upload_id, parts, headers=headers)
        assert done.resp.read() == b'{"Status":"OK"}'
        assert [each.body for each in receiver.requests] == [b"s=4&u=42", b"s=9&u=42"]


def test_oss2_signed_url_with_a_callback(oss2_bucket: oss2.Bucket) -> None:
    with Receiver() as receiver:
        params = {"callback": encode({"callbackUrl": receiver.url(), "callbackBody": "k=${object}"})}
        url = oss2_bucket.sign_url("PUT", "dir/key", 300, slash_safe=True, params=params)
        assert requests.put(url, data=b"data", timeout=10).json() == {"Status": "OK"}
        other = url.replace("callback=eyJ", "callback=eyK")
        assert requests.put(other, data=b"x", timeout=10).status_code == 403
        assert len(receiver.requests) == 1


def test_oss2_errors_are_its_own_exceptions(oss2_bucket: oss2.Bucket) -> None:
    with pytest.raises(oss2.exceptions.NoSuchKey):
        oss2_bucket.get_object("missing")
    assert oss2_bucket.object_exists("missing") is False
    with pytest.raises(oss2.exceptions.NoSuchCors):
        oss2_bucket.get_bucket_cors()


def test_oss2_reads_bucket_info_acl_and_service(oss2_bucket: oss2.Bucket) -> None:
    assert oss2_bucket.get_bucket_info().acl.grant == "private"
    oss2_bucket.put_object("k", b"")
    oss2_bucket.put_object_acl("k", oss2.OBJECT_ACL_PUBLIC_READ)
    assert oss2_bucket.get_object_acl("k").acl == "public-read"
    service = oss2.Service(oss2_bucket.auth, oss2_bucket.endpoint, region="us-east-1")
    assert oss2_bucket.bucket_name in [each.name for each in oss2.BucketIterator(service)]


def test_v2_sdk_uploader_and_paginator(v2_client: oss_v2.Client, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * (11 * MIB))
    uploader = v2_client.uploader(part_size=5 * MIB, parallel_num=2)
    uploader.upload_file(oss_v2.PutObjectRequest(bucket=bucket, key="big"), str(source))
    for number in range(3):
        v2_client.put_object(oss_v2.PutObjectRequest(bucket=bucket, key=f"k{number}", body=b"data"))
    pages = v2_client.list_objects_v2_paginator(limit=2).iter_page(oss_v2.ListObjectsV2Request(bucket=bucket))
    assert [each.key for page in pages for each in page.contents or []] == ["big", "k0", "k1", "k2"]


def test_v2_sdk_callback(v2_client: oss_v2.Client, bucket: str) -> None:
    with Receiver() as receiver:
        callback = encode({"callbackUrl": receiver.url(), "callbackBody": "k=${object}"})
        request = oss_v2.PutObjectRequest(bucket=bucket, key="key", body=b"data", callback=callback)
        assert v2_client.put_object(request).callback_result == '{"Status":"OK"}'
        assert receiver.requests[0].body == b"k=key"


def test_oss2_appends_and_is_told_where(oss2_bucket: oss2.Bucket) -> None:
    first = oss2_bucket.append_object("app.log", 0, b"one", init_crc=0)
    second = oss2_bucket.append_object("app.log", first.next_position, b"two", init_crc=first.crc)
    assert (second.next_position, oss2_bucket.get_object("app.log").read()) == (6, b"onetwo")
    with pytest.raises(oss2.exceptions.PositionNotEqualToLength) as refused:
        oss2_bucket.append_object("app.log", 3, b"x")
    assert refused.value.next_position == 6
    oss2_bucket.put_object("plain", b"one")
    with pytest.raises(oss2.exceptions.ObjectNotAppendable):
        oss2_bucket.append_object("plain", 3, b"x")
    listed = oss2_bucket.list_objects().object_list
    assert [(each.key, each.type) for each in listed] == [("app.log", "Appendable"), ("plain", "Normal")]


def test_oss2_notices_an_append_that_its_checksum_does_not_fit(oss2_bucket: oss2.Bucket) -> None:
    oss2_bucket.append_object("app.log", 0, b"one", init_crc=0)
    with pytest.raises(oss2.exceptions.InconsistentError):
        oss2_bucket.append_object("app.log", 3, b"two", init_crc=0)  # not that of b"one"


def test_v2_sdk_appends(v2_client: oss_v2.Client, bucket: str) -> None:
    def append(position: int, body: bytes) -> oss_v2.AppendObjectResult:
        return v2_client.append_object(
            oss_v2.AppendObjectRequest(bucket=bucket, key="app.log", position=position, body=body)
        )

    first = append(0, b"x" * MIB)
    second = append(first.next_position, b"two")
    assert second.next_position == MIB + 3
    head = v2_client.head_object(oss_v2.HeadObjectRequest(bucket=bucket, key="app.log"))
    assert (head.object_type, head.next_append_position) == ("Appendable", MIB + 3)
    assert head.hash_crc64 == second.hash_crc64
    with v2_client.append_file(bucket, "app.log") as file:
        file.write(b"three")
    got = v2_client.get_object(oss_v2.GetObjectRequest(bucket=bucket, key="app.log"))
    assert got.body.content == b"x" * MIB + b"twothree"


def test_appends_at_one_position_have_one_winner(oss2_bucket: oss2.Bucket) -> None:
    oss2_bucket.append_object("app.log", 0, b"start ")

    def append(number: int) -> bytes:
        try:
            oss2_bucket.append_object("app.log", 6, b"%d" % number)
        except oss2.exceptions.PositionNotEqualToLength:
            return b""
        return b"%d" % number

    with ThreadPoolExecutor(8) as pool:
        won = [found for found in pool.map(append, range(10, 42)) if found]
    assert len(won) == 1
    assert oss2_bucket.get_object("app.log").read() == b"start " + won[0]
