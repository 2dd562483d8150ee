"""Temporary credentials as clients use them: boto3's own STS client, its tools, and a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from .conftest import ROOT, Server, free_port
from .test_browser import Browser, browser  # noqa: F401  # a fixture

ROLE = {"RoleArn": "arn:aws:iam::root:role/upload", "RoleSessionName": "e2e"}


def sts(server: Server, **more: str):
    return boto3.client(
        "sts",
        endpoint_url=server.endpoint,
        aws_access_key_id=more.get("AccessKeyId", server.access_key),
        aws_secret_access_key=more.get("SecretAccessKey", server.secret_key),
        aws_session_token=more.get("SessionToken"),
        region_name="us-east-1",
    )


def s3(server: Server, credentials: dict, **config: object):
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}, **config),
    )


@pytest.fixture
def uploader(server: Server, bucket: str) -> dict:
    """Credentials that may upload to one prefix."""
    statement = {
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
        "Resource": f"arn:aws:s3:::{bucket}/in/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    return sts(server).assume_role(**ROLE, Policy=policy, DurationSeconds=900)["Credentials"]


def test_boto3_assumes_a_role_and_knows_who_it_is(server: Server, uploader: dict) -> None:
    assert sts(server).get_caller_identity()["Arn"] == "arn:aws:iam::root:root"
    assert sts(server, **uploader).get_caller_identity()["Arn"].endswith("assumed-role/upload/e2e")
    assert sts(server).get_session_token()["Credentials"]["SessionToken"]
    with pytest.raises(ClientError, match="ValidationError"):
        sts(server).assume_role(**ROLE, DurationSeconds=100_000)


def test_every_worker_knows_a_session(server: Server, bucket: str, uploader: dict) -> None:
    for _ in range(20):  # a connection each: two workers take turns
        client = s3(server, uploader)
        client.put_object(Bucket=bucket, Key="in/key", Body=b"x")
        with pytest.raises(ClientError, match="AccessDenied"):
            client.put_object(Bucket=bucket, Key="out", Body=b"x")
        client.close()


def test_the_transfer_manager_in_a_session(
    server: Server, bucket: str, uploader: dict, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(os.urandom(20 << 20))
    client = s3(server, uploader)
    client.upload_file(str(tmp_path / "big"), bucket, "in/big")
    with pytest.raises(ClientError, match="403"):
        client.download_file(bucket, "in/big", str(tmp_path / "copy"))
    assert server.client().head_object(Bucket=bucket, Key="in/big")["ContentLength"] == 20 << 20


@pytest.mark.parametrize("signature", ["s3", "s3v4"])
def test_presigned_by_a_session(server: Server, bucket: str, uploader: dict, signature: str) -> None:
    client = s3(server, uploader, signature_version=signature)
    for key, status in (("in/key", 200), ("out", 403)):
        url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key})
        assert requests.put(url, data=b"x", timeout=10).status_code == status
        assert requests.put(url.replace("ecurity-", "ecurity_"), data=b"x", timeout=10).status_code == 403
        form = client.generate_presigned_post(bucket, key)
        sent = requests.post(form["url"], data=form["fields"], files={"file": b"x"}, timeout=10)
        assert sent.status_code == (204 if status == 200 else 403)


def test_aws_cli_by_credential_process(server: Server, bucket: str, tmp_path: Path) -> None:
    settings = {"S3LITE_DATA_DIR": str(server.data_dir), "S3LITE_ACCESS_KEY": server.access_key}
    settings["S3LITE_SECRET_KEY"] = server.secret_key
    command = f"{sys.executable} -m s3lite session create {server.access_key} --upload-to {bucket}/in/ --json"
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {command}\nregion = us-east-1\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3LITE_"))}
    environment = clean | settings | {"AWS_CONFIG_FILE": str(tmp_path / "config"), "PYTHONPATH": str(ROOT)}
    aws = [str(Path(sys.executable).with_name("aws")), "--endpoint-url", server.endpoint, "s3", "cp"]
    for key, code in (("in/key", 0), ("out", 1)):
        words = [*aws, str(tmp_path / "config"), f"s3://{bucket}/{key}"]
        assert subprocess.run(words, env=environment, capture_output=True).returncode == code


def test_a_page_uploads_with_keys_that_it_was_handed(
    server: Server,
    bucket: str,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The recipe of docs/access.md."""
    port = free_port()
    environment = os.environ | {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
    }
    words = [sys.executable, "examples/browser_keys.py", bucket, str(port)]
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("open ")
            (tmp_path / "Übung 1.txt").write_bytes(b"from a browser")
            browser.open(f"http://127.0.0.1:{port}/")
            browser.type("#file", str(tmp_path / "Übung 1.txt"))
            browser.click("#elsewhere")
            browser.wait_for(lambda text: "refused: 403" in text)
            browser.click("#upload")
            seen = browser.wait_for(lambda text: "stored users/" in text)
        finally:
            process.terminate()
    key = seen.partition("stored ")[2].strip()
    assert server.client().get_object(Bucket=bucket, Key=key)["Body"].read() == b"from a browser"
