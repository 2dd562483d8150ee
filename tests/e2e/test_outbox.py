"""Callbacks that survive kill -9, with real processes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from s3lite.callback.listen import Answer, Receiver

from .conftest import ROOT, environment, free_port, start


def callback(receiver: Receiver, mode: str = "async") -> dict[str, str]:
    document = {
        "callbackUrl": receiver.url("/hook"), "callbackBody": "id=${callbackId}&key=${object}", "callbackMode": mode,
        "callbackReply": "standard",
    }  # fmt: skip
    return {"callback": base64.b64encode(json.dumps(document).encode()).decode()}


def test_a_server_killed_between_commit_and_delivery_delivers_after_its_restart(
    tmp_path: Path, receiver: Receiver
) -> None:
    port = free_port()
    server = start(tmp_path / "data", tmp_path / "log", port, S3LITE_OUTBOX_ENABLED="false")
    server.client().create_bucket(Bucket="bucket")
    answer = server.client().put_object(Bucket="bucket", Key="key", Body=b"data", Metadata=callback(receiver))
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-s3lite-callback-status"] == "queued"
    server.kill()
    assert receiver.requests == []
    server = start(tmp_path / "data", tmp_path / "log", port)
    try:
        (got,) = receiver.wait(1, timeout_s=20)
    finally:
        server.kill()
    assert got.body == f"id={headers['x-s3lite-callback-id']}&key=key".encode()


@pytest.mark.parametrize("mode", ["async", "sync-retry"])
def test_a_server_killed_while_it_is_answered_sends_again_after_the_lease(
    tmp_path: Path, receiver: Receiver, mode: str
) -> None:
    port = free_port()
    settings = {
        "S3LITE_OUTBOX_LEASE_S": "7", "S3LITE_CALLBACK_TIMEOUT_S": "2", "S3LITE_CALLBACK_TOTAL_TIMEOUT_S": "2",
    }  # fmt: skip
    server = start(tmp_path / "data", tmp_path / "log", port, **settings)
    s3 = server.client(read_timeout=5)
    s3.create_bucket(Bucket="bucket")
    receiver.script.append(Answer(delay_s=1.5))
    uploader = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, server.endpoint, json.dumps(callback(receiver, mode))],
        env=environment(tmp_path, port), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    receiver.wait(1, timeout_s=20)
    server.kill()
    uploader.wait(20)
    server = start(tmp_path / "data", tmp_path / "log", port, **settings)
    try:
        one, two = receiver.wait(2, timeout_s=30)
    finally:
        server.kill()
    assert one.body == two.body
    assert one.headers["webhook-id"] == two.headers["webhook-id"]


UPLOAD = """
import boto3, json, sys
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=sys.argv[1], aws_access_key_id="e2e-access",
                  aws_secret_access_key="e2e-secret", region_name="us-east-1",
                  config=Config(retries={"max_attempts": 0}))
s3.put_object(Bucket="bucket", Key="key", Body=b"data", Metadata=json.loads(sys.argv[2]))
"""


@pytest.mark.timeout(300)
def test_a_storm_of_kills_loses_no_callback(tmp_path: Path) -> None:
    """The long run: bench/callback_storm.py --uploads 2000."""
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "bench/callback_storm.py", "--uploads", "150", "--dir", str(tmp_path),
         "--durability", "relaxed", "--json", str(figures)],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(figures.read_text())["counts"]
    assert counts["kills"] >= 1
    assert counts["stored"] >= 50
    assert counts["failed by the application"] > 0
