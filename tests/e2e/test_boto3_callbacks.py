"""Callbacks through boto3 as people use it: what it makes of each answer, and how often it uploads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from s3lite.callback.listen import Answer, Receiver

from .conftest import Server

MIB = 1 << 20
IN_PARTS = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=2)
FAILURES = {
    "500": Answer(b"", status=500),
    "redirect": Answer(b"", status=302, headers={"Location": "http://127.0.0.1:1/"}),
    "cut": Answer(b"{}", headers={"Content-Length": "9"}),
}


def encode(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def metadata(url: str, **more: Any) -> dict[str, str]:
    return {"callback": encode({"callbackUrl": url, "callbackBody": "k=${object}", **more})}


def client(server: Server):
    """With boto3's own retries: they are the point."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(retries={"mode": "standard"}),
    )


def stored(server: Server, bucket: str) -> int:
    return server.client().list_objects_v2(Bucket=bucket)["KeyCount"]


@pytest.mark.parametrize("cause", FAILURES)
def test_put_object(server: Server, bucket: str, receiver: Receiver, cause: str) -> None:
    """`accept` tells in a header, `error` raises; both upload once and call back once."""
    receiver.default = FAILURES[cause]
    accept = metadata(receiver.url(), callbackReply="standard")
    done = client(server).put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=accept)
    assert done["ResponseMetadata"]["HTTPHeaders"]["x-s3lite-callback-status"] == "failed"
    assert (len(receiver.requests), done["ResponseMetadata"]["RetryAttempts"]) == (1, 0)
    error = metadata(receiver.url(), callbackReply="standard", callbackOnFailure="error")
    with pytest.raises(ClientError, match="CallbackFailed") as caught:
        client(server).put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=error)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert (len(receiver.requests), stored(server, bucket)) == (2, 1)


def test_passthrough_is_taken_for_a_broken_answer_and_uploads_again(
    server: Server, bucket: str, receiver: Receiver
) -> None:
    """Why SDKs need `standard`: the object is there, and the callback was sent three times."""
    with pytest.raises(ClientError):
        client(server).put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata(receiver.url()))
    assert (len(receiver.requests), stored(server, bucket)) == (3, 1)


def test_203_passes_for_success(server: Server, bucket: str, receiver: Receiver) -> None:
    receiver.default = FAILURES["500"]
    done = client(server).put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata(receiver.url()))
    assert done["ResponseMetadata"]["HTTPStatusCode"] == 203
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("on_failure", ["accept", "error"])
@pytest.mark.parametrize("size", [100, 6 * MIB], ids=["small", "in parts"])
def test_upload_file(
    server: Server, bucket: str, receiver: Receiver, tmp_path: Path, size: int, on_failure: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"u" * size)
    sent = metadata(receiver.url(), callbackReply="standard", callbackOnFailure=on_failure)

    def upload() -> None:
        client(server).upload_file(str(source), bucket, "k", ExtraArgs={"Metadata": sent}, Config=IN_PARTS)

    upload()
    assert len(receiver.requests) == 1
    receiver.default = FAILURES["500"]
    if on_failure == "accept":
        upload()
    else:
        with pytest.raises((S3UploadFailedError, ClientError), match="CallbackFailed"):
            upload()
    assert len(receiver.requests) == 2
    assert server.client().head_object(Bucket=bucket, Key="k")["ContentLength"] == size


def test_complete_repeated_and_abort_after_failure(server: Server, bucket: str, receiver: Receiver) -> None:
    """What a transfer manager does when Complete fails: the object it made is not touched."""
    s3 = client(server)
    receiver.script.append(FAILURES["500"])
    sent = metadata(receiver.url(), callbackReply="standard", callbackOnFailure="error")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", Metadata=sent)["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"p")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    with pytest.raises(ClientError, match="CallbackFailed"):
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    again = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert again["ResponseMetadata"]["HTTPHeaders"]["x-s3lite-callback-status"] == "ok"
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert len(receiver.requests) == 2
    assert len({got.headers["webhook-id"] for got in receiver.requests}) == 1
    assert server.client().head_object(Bucket=bucket, Key="k")["ContentLength"] == 1


# ---------------------------------------------------------------- gates


def test_a_gates_no_is_an_error_at_once(server: Server, bucket: str, receiver: Receiver) -> None:
    receiver.default = Answer(b'{"message": "infected"}', status=422)
    sent = metadata(receiver.url(), callbackReply="standard", callbackMode="gate")
    with pytest.raises(ClientError, match=r"CallbackRejected.*infected"):
        client(server).put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=sent)
    assert (len(receiver.requests), stored(server, bucket)) == (1, 0)


def test_an_undecided_gate_is_tried_again_under_the_same_id(
    server: Server, bucket: str, receiver: Receiver
) -> None:
    receiver.script += [Answer(b"", status=503), Answer(b"", status=503)]
    sent = metadata(receiver.url(), callbackReply="standard", callbackMode="gate")
    done = client(server).put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=sent)
    assert done["ResponseMetadata"]["RetryAttempts"] == 2
    assert (len(receiver.requests), stored(server, bucket)) == (3, 1)
    assert len({got.headers["webhook-id"] for got in receiver.requests}) == 1


@pytest.mark.parametrize("size", [100, 6 * MIB], ids=["small", "in parts"])
def test_a_gate_fetches_what_boto3_uploads(
    server: Server, bucket: str, receiver: Receiver, tmp_path: Path, size: int
) -> None:
    import urllib.request

    source = tmp_path / "source"
    source.write_bytes(content := bytes(range(256)) * (size // 256 + 1))
    looks: list[bytes] = []

    def look(received) -> None:
        with urllib.request.urlopen(received.body.decode().strip('"'), timeout=10) as pending:
            looks.append(pending.read())

    receiver._on_request = look
    body = {"callbackBody": "${pendingUrl}", "callbackBodyType": "application/json"}
    sent = metadata(receiver.url(), callbackReply="standard", callbackMode="gate", **body)
    client(server).upload_file(str(source), bucket, "k", ExtraArgs={"Metadata": sent}, Config=IN_PARTS)
    assert looks == [content]
    assert server.client().get_object(Bucket=bucket, Key="k")["Body"].read() == content
