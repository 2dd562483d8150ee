"""kill -9 while a gate's application is asked: nothing becomes visible, and the repeat is known as one."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from s3lite.callback.listen import Receiver

from .conftest import Server, start

BODY = b"decided or not" * 5000


def gate(receiver: Receiver) -> dict[str, str]:
    document = {
        "callbackUrl": receiver.url(),
        "callbackBody": "k=${object}",
        "callbackMode": "gate",
        "callbackReply": "standard",
    }
    return {"callback": base64.b64encode(json.dumps(document).encode()).decode()}


def started(tmp_path: Path) -> Server:
    return start(tmp_path / "data", tmp_path / "server.log", S3LITE_CALLBACK_GATE_TIMEOUT_S="6")


def put(server: Server, sent: dict[str, str]) -> None:
    client = server.client(connect_timeout=5, read_timeout=20)
    client.put_object(Bucket="bucket", Key="single", Body=BODY, Metadata=sent)


def complete(server: Server, upload: str, etag: str, sent: dict[str, str]) -> None:
    client = server.client(connect_timeout=5, read_timeout=20)
    events = client.meta.events

    def add(request, **_: object) -> None:
        request.headers["x-amz-meta-callback"] = sent["callback"]

    events.register("before-sign.s3.CompleteMultipartUpload", add)
    client.complete_multipart_upload(
        Bucket="bucket", Key="parts", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
    )  # fmt: skip


def test_a_gate_survives_kill_9(tmp_path: Path) -> None:
    release = threading.Event()
    server = started(tmp_path)
    with Receiver(on_request=lambda _received: release.wait(15) and None) as receiver:
        s3 = server.client()
        s3.create_bucket(Bucket="bucket")
        sent = gate(receiver)
        upload = s3.create_multipart_upload(Bucket="bucket", Key="parts")["UploadId"]
        etag = s3.upload_part(Bucket="bucket", Key="parts", UploadId=upload, PartNumber=1, Body=BODY)["ETag"]
        asking = [
            threading.Thread(target=refused, args=(put, server, sent)),
            threading.Thread(target=refused, args=(complete, server, upload, etag, sent)),
        ]
        for thread in asking:
            thread.start()
        before = {got.body: got.headers["webhook-id"] for got in receiver.wait(2, timeout_s=15)}
        server.kill()
        release.set()
        for thread in asking:
            thread.join()

        server = started(tmp_path)
        try:
            s3 = server.client()
            assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 0
            assert len(s3.list_parts(Bucket="bucket", Key="parts", UploadId=upload)["Parts"]) == 1
            put(server, sent)
            complete_when_free(server, upload, etag, sent)
            after = {got.body: got.headers["webhook-id"] for got in receiver.requests[2:]}
            assert after == before
            for key in ("single", "parts"):
                assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == BODY
        finally:
            server.process.terminate()
            server.process.wait(20)


def refused(work, *arguments: object) -> None:
    with pytest.raises(BotoCoreError):
        work(*arguments)


def complete_when_free(server: Server, upload: str, etag: str, sent: dict[str, str]) -> None:
    """The killed server's question stands until its time is over; clients are told to come again."""
    for _ in range(60):
        with suppress(ClientError):
            complete(server, upload, etag, sent)
            return
        threading.Event().wait(0.5)
    complete(server, upload, etag, sent)
