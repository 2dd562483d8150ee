"""Encryption with boto3 against gunicorn: large uploads, two workers with one keyring, damage, rotation."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from botocore.exceptions import BotoCoreError, ClientError

from .conftest import ROOT, Server, environment, running

MIB = 1 << 20
CUSTOMER = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": os.urandom(32)}
ARGUMENTS = {
    "sse-s3": {"ServerSideEncryption": "AES256"},
    "sse-kms": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "payroll"},
    "sse-c": CUSTOMER,
}


def keyring(server: Server, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "s3lite", "keyring", *arguments, "--json"],
        cwd=ROOT, env=environment(server.data_dir, 1), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def named(server: Server) -> Server:
    """The server with a key ``payroll``, made while it runs."""
    keyring(server, "add", "payroll")
    return server


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_transfer_manager(named: Server, bucket: str, tmp_path: Path, kind: str) -> None:
    s3, extra = named.client(), ARGUMENTS[kind]
    marker = os.urandom(64)
    body = marker + os.urandom(21 * MIB) + marker
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(body)
    s3.upload_file(str(source), bucket, "key", ExtraArgs=extra)
    reading = extra if kind == "sse-c" else {}
    s3.download_file(bucket, "key", str(target), ExtraArgs=reading)
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(body).digest()
    told = s3.head_object(Bucket=bucket, Key="key", **reading)
    assert told["ContentLength"] == len(body)
    assert {told.get("ServerSideEncryption"), told.get("SSECustomerAlgorithm")} & {"AES256", "aws:kms"}
    ranged = s3.get_object(Bucket=bucket, Key="key", Range="bytes=8388600-8388700", **reading)
    assert ranged["Body"].read() == body[8388600:8388701]
    files = [path for path in named.data_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if marker in path.read_bytes()]
    s3.delete_object(Bucket=bucket, Key="key")


def test_copies_and_keys_of_customers(named: Server, bucket: str) -> None:
    s3, body = named.client(), os.urandom(6 * MIB)
    s3.put_object(Bucket=bucket, Key="key", Body=body, **CUSTOMER)
    with pytest.raises(ClientError, match="400"):
        s3.head_object(Bucket=bucket, Key="key")
    with pytest.raises(ClientError, match="InvalidRequest"):
        s3.get_object(Bucket=bucket, Key="key", **CUSTOMER | {"SSECustomerKey": os.urandom(32)})
    source = {"Bucket": bucket, "Key": "key"}
    own = {f"CopySource{name}": value for name, value in CUSTOMER.items()}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, **own, **ARGUMENTS["sse-kms"])
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == body


def test_presigned_urls_carry_what_the_upload_asks_for(named: Server, bucket: str) -> None:
    s3 = named.client(signature_version="s3v4")
    params = {"Bucket": bucket, "Key": "key", "ServerSideEncryption": "AES256"}
    url = s3.generate_presigned_url("put_object", Params=params)
    assert requests.put(url, b"body", timeout=20).status_code == 403
    answer = requests.put(url, b"body", headers={"x-amz-server-side-encryption": "AES256"}, timeout=20)
    assert (answer.status_code, answer.headers["x-amz-server-side-encryption"]) == (200, "AES256")


def test_a_buckets_default_as_the_sdk_reads_it(named: Server, bucket: str) -> None:
    s3 = named.client()
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "payroll"},
        "BucketKeyEnabled": True,
        "BlockedEncryptionTypes": {"EncryptionType": ["SSE-C"]},
    }
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    shown = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert shown == {"Rules": [rule]}
    assert s3.put_object(Bucket=bucket, Key="key", Body=b"x")["SSEKMSKeyId"] == "payroll"
    s3.update_object_encryption(
        Bucket=bucket, Key="key", ObjectEncryption={"SSEKMS": {"KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/payroll"}}
    )  # fmt: skip
    assert s3.head_object(Bucket=bucket, Key="key")["SSEKMSKeyId"].startswith("arn:")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket=bucket, Key="key", Body=b"x", **CUSTOMER)


def test_damage_further_on_breaks_the_connection(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        s3, body = server.client(), os.urandom(8 * MIB)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="key", Body=body, ServerSideEncryption="AES256")
        (path,) = (path for path in (server.data_dir / "blobs").rglob("*") if path.is_file())
        kept = bytearray(path.read_bytes())
        kept[-1000] ^= 1
        path.write_bytes(kept)
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
        seen: list[bytes] = []
        with requests.get(url, stream=True, timeout=20) as answer:
            assert answer.status_code == 200
            with pytest.raises(requests.exceptions.RequestException):
                seen.extend(answer.iter_content(1 << 16))
        assert body.startswith(b"".join(seen))
        assert sum(map(len, seen)) < len(body)
        assert "is damaged, or was changed" in server.log.read_text()


def test_rotations_while_clients_read_and_write(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        s3, body = server.client(), os.urandom(2 * MIB)
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="key", Body=body, ServerSideEncryption="AES256")
        ended, faults, written = threading.Event(), [], []

        def work(worker: int) -> None:
            client = server.client()
            for number in itertools.count():
                name = f"new-{worker}-{number}"
                try:
                    assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == body
                    client.put_object(Bucket="bucket", Key=name, Body=body, ServerSideEncryption="AES256")
                except (AssertionError, BotoCoreError, ClientError) as error:
                    faults.append(error)
                    return
                written.append(name)
                if ended.is_set():
                    return

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            assert keyring(server, "rotate", "sse-s3")["failed"] == []
        ended.set()
        for thread in threads:
            thread.join()
        assert faults == []
        assert written
        for name in written:
            assert s3.get_object(Bucket="bucket", Key=name)["Body"].read() == body
        assert keyring(server, "rekey", "sse-s3")["failed"] == []
        rows = keyring(server, "list")
        assert [row["objects"] for row in rows if not row["seals"]] == [0, 0, 0]
