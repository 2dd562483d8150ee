"""A damaged file under a real server: what of it reaches a client."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError
from e2e.conftest import running
from engines.servers import ENGINES

LARGE, SMALL = os.urandom(5 << 20), os.urandom(200_000)


def test_verified_reads_cut_the_connection_or_answer_500(tmp_path: Path) -> None:
    if "blobs_url" in ENGINES.storage(tmp_path / "none"):
        pytest.skip("bits are flipped in files")
    with running(tmp_path, S3LITE_STORAGE_VERIFY_READS="true", S3LITE_WORKERS="1") as server:
        s3 = server.client()
        s3.create_bucket(Bucket="bucket")
        for key, data in (("large", LARGE), ("small", SMALL)):
            s3.put_object(Bucket="bucket", Key=key, Body=data)
        for path in (tmp_path / "data/blobs").glob("??/*"):
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        s3.put_object(Bucket="bucket", Key="sound", Body=LARGE)
        assert s3.get_object(Bucket="bucket", Key="sound")["Body"].read() == LARGE
        with pytest.raises(ClientError, match="damaged"):
            s3.get_object(Bucket="bucket", Key="small")
        with pytest.raises(ResponseStreamingError, match="IncompleteRead"):
            s3.get_object(Bucket="bucket", Key="large")["Body"].read()
        with pytest.raises(ClientError, match="damaged"):
            s3.get_object(Bucket="bucket", Key="large", Range="bytes=0-99")
        assert "is damaged: its MD5 is another" in server.log.read_text()
