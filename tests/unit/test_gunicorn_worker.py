"""Answers as our worker sends them, and gunicorn's configuration as it is shipped."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.http.wsgi import FileWrapper

from s3lite.gunicorn_worker import _Response

_ROOT = Path(__file__).resolve().parents[2]
_CONF = _ROOT / "conf/gunicorn.conf.py"


def test_the_shipped_configuration_sends_by_sendfile(tmp_path, monkeypatch):
    """In a process of its own: reading it decides where that process counts."""
    script = (
        "import runpy\n"
        "from gunicorn.config import Config\n"
        "cfg = Config()\n"
        f"for name, value in runpy.run_path({str(_CONF)!r}).items():\n"
        "    if name in cfg.settings:\n"
        "        cfg.set(name, value)\n"
        "print(cfg.sendfile, cfg.worker_class_str)"
    )
    monkeypatch.setenv("S3LITE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=_ROOT
    )
    assert done.stdout.split() == ["True", "s3lite.gunicorn_worker.Worker"]


@pytest.mark.parametrize("is_ssl", [False, True])
@pytest.mark.parametrize("length", [10, 65_536, 100_000])
def test_of_a_file_no_more_is_read_than_is_sent(tmp_path, is_ssl, length):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096)
    ours, theirs = socket.socketpair()
    cfg = Config()
    if is_ssl:
        cfg.set("certfile", "some.pem")  # what leaves by sendfile elsewhere is read here
    request = SimpleNamespace(version=(1, 1), method="GET", should_close=lambda: False)
    response = _Response(request, ours, cfg)
    response.start_response("206 Partial Content", [("Content-Length", str(length))])
    with path.open("rb") as file, ours, theirs:
        file.seek(5)
        response.write_file(FileWrapper(file, 16_384))
        assert file.tell() <= 5 + length + 16_384
        ours.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: theirs.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 206 ")
    assert body == path.read_bytes()[5 : 5 + length]
