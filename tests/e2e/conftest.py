"""A real gunicorn with the shipped configuration, and real clients."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from engines.servers import ENGINES
from leaks import LEAKS

from s3lite.callback.listen import Receiver

ROOT = Path(__file__).resolve().parent.parent.parent
ACCESS_KEY, SECRET_KEY = "e2e-access", "e2e-secret"


@dataclass
class Server:
    """A running gunicorn."""

    process: subprocess.Popen[bytes]
    endpoint: str
    data_dir: Path
    log: Path
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    def client(self, **config: object):
        """boto3 with its defaults, but for the retries that would hide faults."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}, **config),
        )

    def kill(self) -> None:
        """kill -9 to the master and all workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(data_dir: Path, port: int, **settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("S3LITE_", "AWS_"))}
    return clean | {
        "S3LITE_BIND": f"127.0.0.1:{port}",
        "S3LITE_DATA_DIR": str(data_dir),
        "S3LITE_ACCESS_KEY": ACCESS_KEY,
        "S3LITE_SECRET_KEY": SECRET_KEY,
        "S3LITE_CALLBACK_ALLOW": "127.0.0.1",
        "S3LITE_WORKERS": "2",
        "AWS_EC2_METADATA_DISABLED": "true",
        **{f"S3LITE_{name.upper()}": url for name, url in ENGINES.storage(data_dir).items()},
        **settings,
    }


def start(data_dir: Path, log: Path, port: int | None = None, **settings: str) -> Server:
    port = port or free_port()
    LEAKS.watch(log)
    LEAKS.note_environment(settings)
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi"],
            cwd=ROOT,
            env=environment(data_dir, port, **settings),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", data_dir, log)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{server.endpoint}/.s3lite/ready", timeout=1):
                return server
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


@contextmanager
def running(directory: Path, **settings: str) -> Iterator[Server]:
    server = start(directory / "data", directory / "server.log", **settings)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
            try:
                server.process.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
        LEAKS.note_data(server.data_dir)
        LEAKS.read_logs()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not harm it."""
    with running(tmp_path_factory.mktemp("server")) as live:
        yield live
    tracebacks = [line for line in live.log.read_text().splitlines() if "Traceback" in line]
    assert tracebacks == [], live.log.read_text()[-4000:]


@pytest.fixture
def bucket(server: Server, request: pytest.FixtureRequest) -> str:
    """A bucket of this test's own."""
    name = f"b-{abs(hash(request.node.nodeid)) % 10**10}"
    server.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening
