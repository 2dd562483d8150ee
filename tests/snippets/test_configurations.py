"""Configurations that the docs show, each asked of the program that would read it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from e2e.conftest import free_port
from snippets.blocks import PAGES, Block, blocks
from snippets.reader import program

from s3lite.auth.policy import parse, parse_key
from s3lite.settings import load

BLOCKS = [block for page in PAGES for block in blocks(page)]
DIAGRAMS = ("flowchart", "sequenceDiagram")


def accepted(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("warning")) == (0, 0), done.stderr


def json_document(text: str, _directory: Path) -> None:
    """JSON; policies name actions, resources and conditions that there are."""
    document = json.loads(text)
    if any("Principal" in statement for statement in document.get("Statement", ())):
        parse(text.encode())
    elif "Statement" in document:
        parse_key(text.encode())


def toml(text: str, directory: Path) -> None:
    (directory / "s3lite.toml").write_text(text)
    load(directory / "s3lite.toml", {})


def ini(text: str, directory: Path) -> None:
    """A unit, or lines for the service section of one; the program that it starts has to be there."""
    home = directory / "opt"
    gunicorn = home / ".venv/bin/gunicorn"
    gunicorn.parent.mkdir(parents=True)
    gunicorn.symlink_to("/bin/true")
    if "ExecStart=" not in text:
        text = f"[Service]\nExecStart=/bin/true\n{text}"
    unit = directory / "s3lite.service"
    unit.write_text(text.replace("/opt/s3lite", str(home)))
    accepted(program("systemd-analyze"), "verify", str(unit))


def nginx(text: str, directory: Path) -> None:
    """A server, as it stands in a directory that nginx.conf includes."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    accepted("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=storage.example", "-keyout", str(key), "-out", str(certificate))  # fmt: skip
    text = re.sub(r"ssl_certificate .*;", f"ssl_certificate {certificate};", text)
    text = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {key};", text)
    text = text.replace("listen 443", f"listen 127.0.0.1:{free_port()}")
    (directory / "nginx.conf").write_text(
        f"pid {directory}/pid; error_log stderr; events {{}} http {{ access_log off;\n{text}\n}}"
    )
    accepted(program("nginx"), "-t", "-q", "-p", str(directory), "-c", str(directory / "nginx.conf"))


def haproxy(text: str, directory: Path) -> None:
    text = text.replace("/run/haproxy", str(directory))
    text = re.sub(r"\bnode\d:", "127.0.0.1:", text)
    (directory / "haproxy.cfg").write_text(text)
    accepted(program("haproxy"), "-c", "-q", "-f", str(directory / "haproxy.cfg"))


def caddy(text: str, directory: Path) -> None:
    (directory / "Caddyfile").write_text(text)
    done = subprocess.run(
        [program("caddy"), "validate", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")],
        capture_output=True, text=True, check=False, env=os.environ | {"HOME": str(directory)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def yaml_document(text: str, directory: Path) -> None:
    """YAML, and what its schema says where it is a compose file."""
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    if "services" in document:
        (directory / "compose.yaml").write_text(text)
        check = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
        accepted(sys.executable, *check, str(directory / "compose.yaml"))


def mermaid(text: str, _directory: Path) -> None:
    assert text.split()[0] in DIAGRAMS


READERS: dict[str, Callable[[str, Path], None]] = {
    "json": json_document,
    "toml": toml,
    "ini": ini,
    "nginx": nginx,
    "haproxy": haproxy,
    "caddy": caddy,
    "yaml": yaml_document,
    "mermaid": mermaid,
}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in READERS], ids=str)
def test_configuration(block: Block, tmp_path: Path) -> None:
    READERS[block.language](block.text, tmp_path)


def test_every_block_is_tried_somehow() -> None:
    """Or says why not."""
    tried = {"sh", "python", *READERS}
    tried.add("text")  # examples of docs/commands.md: test_pages.py
    told = {"not run", "tested by", "output"}
    left = [
        f"{each} {each.language}"
        for each in BLOCKS
        if each.language not in tried and not told & each.marks.keys()
    ]
    assert left == []
