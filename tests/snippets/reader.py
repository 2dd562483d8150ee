"""Somebody who reads a page in a fresh clone and does what it says, in order, against real servers.

The clone is a scratch directory with links to this one's files and an environment of its own, so that
``make serve``, ``data/`` and everything a page writes stay in there. What cannot be the same here as for the
reader is exchanged by `Reader.here`, and nothing else is: ports, credentials, and names of other machines.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from e2e.conftest import free_port
from snippets.blocks import ROOT, Block

from s3lite.testing import ACCESS_KEY, SECRET_KEY

_NOT_IN_A_CLONE = {".git", ".venv", "data", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
_PORTS = (8000, 9000, 9001)  # the server's, the application's, that of examples/browser_keys.py

# Commands that listen on a default port, with the argument that says so.
_DEFAULTS = {"s3lite callback listen": "--bind 127.0.0.1:9000", "examples/browser_keys.py photos": "9001"}


def program(name: str) -> str:
    """The path of a program; without it the test is skipped, and with CI=true it fails."""
    found = shutil.which(name)
    if not found:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
    return str(found)


class Reader:
    """Runs blocks; ``output`` is all that they have printed, programs in the background included."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "page.log"
        self.ports = {port: free_port() for port in _PORTS}
        self.places = {f"127.0.0.1:{port}": f"127.0.0.1:{here}" for port, here in self.ports.items()}
        self.script = ""  # the last one in Python
        self.running: list[subprocess.Popen[bytes]] = []
        self.environment = {
            "PATH": f"{directory / '.venv/bin'}:{os.environ['PATH']}",
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PIP_NO_INDEX": "1",  # what a page installs is in the tests' environment already
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "S3LITE_BIND": self.places["127.0.0.1:8000"],
            "S3LITE_WORKERS": "1",
            "S3LITE_DURABILITY": "relaxed",
        }
        self._clone()

    def _clone(self) -> None:
        for entry in ROOT.iterdir():
            if entry.name not in _NOT_IN_A_CLONE:
                (self.directory / entry.name).symlink_to(entry)
        environment = self.directory / ".venv"
        environment.mkdir()
        for entry in Path(sys.prefix).iterdir():
            if not entry.name.startswith("."):
                (environment / entry.name).symlink_to(entry)
        for stamp in (".server", ".tests", ".bench"):  # make: everything is installed
            (environment / stamp).touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        while self.running:
            self.end()

    def end(self) -> None:
        """End the program that was begun last."""
        process = self.running.pop()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(15)

    # ---------------------------------------------------------------- what differs here

    def credential(self) -> None:
        """From now on the server's credential is chosen, and clients have it."""
        self.environment |= {
            "S3LITE_ACCESS_KEY": ACCESS_KEY,
            "S3LITE_SECRET_KEY": SECRET_KEY,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": f"http://{self.places['127.0.0.1:8000']}",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def here(self, text: str) -> str:
        """A block's text with this machine's ports and credentials in it."""
        generated = self.directory / "data/root-credentials.json"
        if "AWS_ACCESS_KEY_ID" not in self.environment and generated.exists():
            root = json.loads(generated.read_text())
            given = {"AWS_ACCESS_KEY_ID": root["access_key"], "AWS_SECRET_ACCESS_KEY": root["secret_key"]}
        else:
            given = {
                name: self.environment.get(name, "")
                for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            }
        for name, value in given.items():
            text = text.replace(f"{name}=…", f"{name}={value}")
        for command, default in _DEFAULTS.items():
            text = text.replace(f"{command}\n", f"{command} {default}\n")
        arguments = {"9001": f"{self.ports[9001]}", "port=9000": f"port={self.ports[9000]}"}
        for place, actual in (self.places | arguments).items():
            text = re.sub(rf"(?<!\w){re.escape(place)}(?!\w)", lambda _, actual=actual: actual, text)
        return text

    # ---------------------------------------------------------------- doing it

    @property
    def allowed(self) -> list[str]:
        """Where applications of the pages listen: what ``callback.allow`` has to name."""
        ours = [self.places[f"127.0.0.1:{port}"] for port in _PORTS[1:]]
        return ours + [place.removeprefix("http://") for place in self.places.values() if "://" in place]

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def run(self, words: list[str], what: object, *, timeout_s: float = 60) -> str:
        """A program that must succeed; what it printed."""
        with self.log.open("ab") as log:
            before = log.tell()
            done = subprocess.run(
                words, cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, timeout=timeout_s, check=False,
            )  # fmt: skip
        printed = self.log.read_bytes()[before:].decode(errors="replace")
        assert done.returncode == 0, f"{what}: exit code {done.returncode}\n{printed}"
        return printed

    def sh(self, text: str, what: object) -> str:
        """A block of a shell, each line of which must succeed."""
        return self.run(["bash", "-euo", "pipefail", "-c", self.here(text)], what)

    def python(self, text: str, what: object) -> str:
        """A script of its own."""
        script = self.save("snippet.py", text)
        return self.run(["python", str(script)], what)

    def save(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.here(text), encoding="utf-8")
        return path

    def begin(self, text: str, what: object) -> None:
        """A program that goes on; returns when it listens on one of the pages' ports."""
        before = self._listening()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-euc", self.here(text)], cwd=self.directory, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        deadline = time.monotonic() + 20
        while self._listening() == before:
            assert process.poll() is None, f"{what}: ended\n{self.output[-4000:]}"
            assert time.monotonic() < deadline, f"{what}: listens nowhere\n{self.output[-4000:]}"
            time.sleep(0.05)

    def _listening(self) -> set[int]:
        found = set()
        for port in self.ports.values():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    found.add(port)
        return found

    def read(self, block: Block) -> None:
        """One block of shell or Python as its marks say."""
        if "file" in block.marks:
            self.save(block.marks["file"], block.text)
        elif "output" in block.marks:
            self.expect(block)
        elif "background" in block.marks:
            self.begin(block.text, block)
        elif block.language == "python":
            self.script = (self.script if "continues" in block.marks else "") + block.text
            self.python(f"{self.script}\n{block.marks.get('then', '')}\n", block)
        else:
            self.sh(block.text, block)

    def expect(self, block: Block) -> None:
        """Each line has been printed, in this order; ``…`` stands for any others."""
        rest = self.output
        for line in self.here(block.text).splitlines():
            if line.strip() != "…":
                assert line.strip() in rest, f"{block}: {line!r} was not printed\n{self.output[-4000:]}"
                rest = rest.partition(line.strip())[2]
