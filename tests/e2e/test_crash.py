"""kill -9 of the whole server under load: what was acknowledged is there, whole, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from engines.servers import ENGINES

from s3lite.app import create_app
from s3lite.core.check import Check
from s3lite.core.sweep import sweep
from s3lite.settings import Settings, StorageSettings, SweepSettings

from .conftest import Server, free_port, start

ROUNDS = int(os.environ.get("S3LITE_TEST_CRASHES", "4"))  # a long run: 50
SIZES = [10, 5000, 100_000, 3 << 20]


class Writer(threading.Thread):
    """Puts objects, single and multipart, until the server dies; remembers what was acknowledged."""

    def __init__(self, server: Server, name: str, acknowledged: dict[str, str], seed: int) -> None:
        super().__init__(daemon=True)
        self.s3 = server.client(connect_timeout=2, read_timeout=10)
        self.label = name
        self.acknowledged = acknowledged
        self.random = random.Random(seed)

    def run(self) -> None:
        for number in range(100_000):
            key = f"{self.label}/{number % 20}"  # overwrites, too: an object is old or new, never mixed
            body = self.random.randbytes(self.random.choice(SIZES))
            pending = hashlib.md5(body).hexdigest()
            self.acknowledged.setdefault(key, "")
            before = self.acknowledged[key]
            self.acknowledged[key] = f"{before.split('|')[0]}|{pending}"
            try:
                self._put(key, body, number)
            except (BotoCoreError, ClientError, OSError):
                return
            self.acknowledged[key] = pending

    def _put(self, key: str, body: bytes, number: int) -> None:
        if number % 4:
            self.s3.put_object(Bucket="bucket", Key=key, Body=body)
            return
        upload = self.s3.create_multipart_upload(Bucket="bucket", Key=key)["UploadId"]
        part = self.s3.upload_part(Bucket="bucket", Key=key, UploadId=upload, PartNumber=1, Body=body)
        self.s3.complete_multipart_upload(
            Bucket="bucket", Key=key, UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )  # fmt: skip


@pytest.mark.timeout(900)
def test_kill_9_under_load(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    port = free_port()
    chance = random.Random(7)
    server = start(tmp_path / "data", tmp_path / "log", port)
    server.client().create_bucket(Bucket="bucket")
    for round_number in range(ROUNDS):
        writers = [Writer(server, f"w{i}", acknowledged, round_number * 10 + i) for i in range(4)]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.2, 1.0))
        server.kill()
        for writer in writers:
            writer.join(30)
        server = start(tmp_path / "data", tmp_path / "log", port)
        verify(server, acknowledged)
    server.kill()
    assert_sound(tmp_path / "data")


def verify(server: Server, acknowledged: dict[str, str]) -> None:
    """Each key holds what was acknowledged last, or what was in flight; then that is what it holds."""
    s3 = server.client()
    listed = {
        row["Key"]: row
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="bucket")
        for row in page.get("Contents", [])
    }
    for key, digests in acknowledged.items():
        allowed = digests.split("|")
        if key not in listed:
            assert allowed[0] == "", f"{key} was acknowledged and is gone"
            continue
        body = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        digest = hashlib.md5(body).hexdigest()
        assert digest in allowed, f"{key} holds something else"
        assert len(body) == listed[key]["Size"]
        acknowledged[key] = digest
    assert set(listed) <= set(acknowledged)


def assert_sound(data_dir: Path) -> None:
    settings = Settings(
        **ENGINES.storage(data_dir),
        data_dir=str(data_dir),
        sweep=SweepSettings(enabled=False, orphan_age_s=0),
        storage=StorageSettings(garbage_grace_s=0),
    )
    app = create_app(settings)
    try:
        time.sleep(0.05)
        sweep(app.services.store)
        assert list(Check(app.services.store, deep=True).faults()) == []
    finally:
        app.close()
