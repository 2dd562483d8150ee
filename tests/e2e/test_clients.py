"""aws-cli and requests against gunicorn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import requests

from .conftest import Server

MIB = 1 << 20


def aws(server: Server, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """aws-cli with its defaults and nothing of this machine's own configuration."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "HOME": str(tmp_path),
    }
    script = Path(sys.executable).parent / "aws"
    return subprocess.run(
        [sys.executable, str(script), "--endpoint-url", server.endpoint, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )


def test_sync_of_500_files_there_and_back(server: Server, bucket: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for i in range(500):
        file = source / f"dir {i % 7}" / f"file-{i}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"file {i}".encode() * (i % 50))
        os.utime(file, (1e9, 1e9))  # a file of the very second of its upload would count as newer
    aws(server, tmp_path, "s3", "sync", str(source), f"s3://{bucket}/tree")
    aws(server, tmp_path, "s3", "sync", f"s3://{bucket}/tree", str(target))
    files = {path.relative_to(source): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert {
        path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()
    } == files
    again = aws(server, tmp_path, "s3", "sync", str(source), f"s3://{bucket}/tree")
    assert "upload:" not in again.stdout


def test_cp_of_a_large_file_and_rm(server: Server, bucket: str, tmp_path: Path) -> None:
    source, target = tmp_path / "large", tmp_path / "back"
    source.write_bytes(os.urandom(20 * MIB))
    aws(server, tmp_path, "s3", "cp", str(source), f"s3://{bucket}/large")
    aws(server, tmp_path, "s3", "cp", f"s3://{bucket}/large", str(target))
    assert source.read_bytes() == target.read_bytes()
    assert "large" in aws(server, tmp_path, "s3", "ls", f"s3://{bucket}").stdout
    aws(server, tmp_path, "s3", "rm", f"s3://{bucket}", "--recursive")
    assert aws(server, tmp_path, "s3", "ls", f"s3://{bucket}", "--recursive").stdout == ""


def test_presign(server: Server, bucket: str, tmp_path: Path) -> None:
    server.client().put_object(Bucket=bucket, Key="key", Body=b"content")
    url = aws(server, tmp_path, "s3", "presign", f"s3://{bucket}/key").stdout.strip()
    assert requests.get(url, timeout=10).content == b"content"


def test_health_and_readiness(server: Server) -> None:
    assert requests.get(f"{server.endpoint}/.s3lite/health", timeout=10).text == "ok\n"
    assert requests.get(f"{server.endpoint}/.s3lite/ready", timeout=10).text == "ready\n"
