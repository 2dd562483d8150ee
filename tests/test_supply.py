"""The supply chain: what is installed is what is pinned, down to the hash; advisories and bill of materials."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "build/tools/bin/cyclonedx-py"
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^]]+\])?==([^\s;]+)", re.MULTILINE)


def name_of(text: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", text).lower()


def pins(file: str) -> dict[str, str]:
    return {name_of(name): pinned for name, pinned in _PIN.findall((ROOT / file).read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", ["requirements", "supply/tools"])
def test_the_lock_is_that_of_the_pins_and_has_hashes_of_everything(name: str) -> None:
    wanted, locked = pins(f"{name}.in"), pins(f"{name}.txt")
    assert {each: locked.get(each) for each in wanted} == wanted, "run make lock"
    text = (ROOT / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked)
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert "://" not in re.sub(r"#.*", "", text)  # no index, no link: names and hashes alone


def test_every_pin_says_why() -> None:
    for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines():
        assert "#" in line, line


def test_what_runs_here_is_what_is_pinned() -> None:
    locked = pins("requirements.txt")
    assert {name: version(name) for name in locked} == locked


def test_the_package_asks_for_no_more_and_no_less_than_the_server() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {name_of(re.split(r"[\[<>=!~ ;]", each, maxsplit=1)[0]) for each in project["dependencies"]}
    assert asked == set(pins("requirements.in"))


def test_installing_checks_the_hashes() -> None:
    for file in ("Makefile", "Dockerfile"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert "--require-hashes" in text or "PIP_REQUIRE_HASHES=1" in text
    assert re.search(r"--require-hashes -r requirements.txt", (ROOT / "Makefile").read_text(encoding="utf-8"))


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    """pip itself: a wheel whose bytes are not those that were pinned."""
    (tmp_path / "setup-less-1.0-py3-none-any.whl").write_bytes(b"not what was pinned")
    wrong = tmp_path / "requirements.txt"
    wheel = (tmp_path / "setup-less-1.0-py3-none-any.whl").as_uri()
    wrong.write_text(f"{wheel} --hash=sha256:{'0' * 64}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-index",
        "--require-hashes",
        "-r",
        wrong,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


# ---------------------------------------------------------------- advisories


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / "supply/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOUND = {"name": "click", "version": "8.5.1", "vulns": []}
SKIPPED = {
    "name": "lxml",
    "skip_reason": "Dependency not found on PyPI and could not be audited: lxml (6.1.3)",
}
BAD = {
    "name": "jinja2",
    "version": "3.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1"], "aliases": []}],
}


@pytest.mark.parametrize(
    ("found", "code", "told"),
    [
        ([SOUND, SOUND], 0, "2 releases, no advisory"),
        ([SOUND, SKIPPED], 0, "nothing is known of lxml"),
        ([SKIPPED, SKIPPED], 0, "cannot be reached"),
        ([], 0, "cannot be reached"),
        ([SOUND, BAD, SKIPPED], 1, "jinja2 3.0: PYSEC-1, fixed by 3.1"),
    ],
)
def test_an_advisory_fails_the_audit_and_an_absent_service_does_not(audit, found, code, told) -> None:
    exit_code, lines = audit.judge({"dependencies": found})
    assert exit_code == code
    assert told in lines[0]


@pytest.mark.parametrize("program", ["/no/such/pip-audit", "/bin/true"])
def test_an_audit_that_cannot_run_says_so(audit, program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(program, str(ROOT / "requirements.txt")) == 0
    assert "nothing was audited" in capsys.readouterr().out


def test_an_audit_with_findings_ends_with_1(audit, tmp_path: Path) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'dependencies': [BAD]})}'\nexit 1\n")
    program.chmod(0o755)
    assert audit.main(str(program), str(ROOT / "requirements.txt")) == 1


# ---------------------------------------------------------------- bill of materials


def test_the_bill_of_materials_has_everything_that_is_pinned(tmp_path: Path) -> None:
    if not TOOL.exists():
        if os.environ.get("CI"):
            pytest.fail("build/tools is missing: make audit makes it")
        pytest.skip("build/tools is missing: make sbom makes it")
    target = tmp_path / "s3lite.cdx.json"
    command = [sys.executable, "supply/sbom.py", str(TOOL), sys.executable, str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    document = json.loads(target.read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    component = document["metadata"]["component"]
    assert (component["name"], component["version"], component["type"]) == ("s3lite", "0.1.0", "application")
    listed = {name_of(each["name"]): each["version"] for each in document["components"]}
    locked = pins("requirements.txt")
    assert {name: listed.get(name) for name in locked} == locked
    assert all(each["purl"].startswith("pkg:pypi/") for each in document["components"])


def test_the_image_carries_its_bill_of_materials() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    made = re.search(r"supply/sbom\.py \S+ /venv/bin/python (\S+)", text)
    assert made is not None
    assert f"COPY --from=build {made[1]} /usr/share/doc/s3lite/" in text
