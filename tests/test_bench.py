"""The benchmarks run: tiny ones of each, so that they do not rot between releases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(
    path.name for path in (ROOT / "bench").glob("*.py") if "def main" in path.read_text(encoding="utf-8")
)


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, f"bench/{script}", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_explains_itself(script: str) -> None:
    assert "--json" in run(script, "--help")


def test_quick_measures_each_rate_beside_its_limit(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run(
        "quick.py", "--rounds", "1", "--seconds", "0.05", "--keys", "50", "--big", "1000000",
        "--dir", str(tmp_path), "--json", str(figures),
    )  # fmt: skip
    found = json.loads(figures.read_text())
    rates = [line for line in found.values() if "limit" in line]
    assert len(rates) == 9
    assert all(line["rate"] > 0 and line["ratio"] > 0 and line["limit"] in found for line in rates)


def test_encryption_is_measured_beside_plain(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run(
        "encryption.py", "--rounds", "1", "--seconds", "0.05", "--keys", "50", "--big", "1000000",
        "--dir", str(tmp_path), "--json", str(figures),
    )  # fmt: skip
    found = json.loads(figures.read_text())
    assert {"seal", "open", "MD5", "PUT 64 MiB", "GET 64 KiB of 64 MiB"} <= set(found)
    assert all(value > 0 for line in found.values() for value in line.values())


def test_callbacks_that_wait_are_measured_beside_none(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run(
        "callback_isolation.py", "--uploaders", "3", "--rounds", "1", "--seconds", "0.05", "--settle", "0.5",
        "--cases", "sync", "--dir", str(tmp_path), "--json", str(figures),
    )  # fmt: skip
    found = json.loads(figures.read_text())["sync"]["rates"]
    assert all(line["ratio"] > 0 for line in found.values())


def test_engines_are_measured_beside_one_another(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    try:
        text = run(
            "engines.py", "--rounds", "1", "--seconds", "0.05", "--settle", "0", "--keys", "1500",
            "--big", "100000", "--part", str(5 << 20), "--parts", "2", "--json", str(figures),
        )  # fmt: skip
    except AssertionError as error:
        if "is not installed" in str(error) and os.environ.get("CI") != "true":
            pytest.skip(str(error).strip())
        raise
    found = json.loads(figures.read_text())
    assert all({"PostgreSQL + RADOS", "SQLite + files"} <= set(line) for line in found.values())
    assert found["page of 2 common prefixes"]["PostgreSQL + RADOS"]["cpu_ms"] > 0
    assert "| CompleteMultipartUpload of them | " in text


def test_memory_of_workers(tmp_path: Path) -> None:
    assert "at most" in run("memory.py", "--gib", "0.02", "--dir", str(tmp_path))


def test_memory_of_many_uploads(tmp_path: Path) -> None:
    found = json.loads(run("many_uploads.py", "--uploads", "30", "--mib", "1", "--dir", str(tmp_path)))
    assert (found["refused"], found["wrong"]) == (0, 0)
    assert 0 < found["over_kib_each"] < 4096


def test_one_crash(tmp_path: Path) -> None:
    output = run("crash_storm.py", "--rounds", "1", "--most-seconds", "0.5", "--dir", str(tmp_path))
    assert output.endswith("0 faults\n")


def test_in_process(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run(
        "inprocess.py", "--seconds", "0.02", "--only", "head,get 4", "--keys", "300",
        "--durability", "relaxed", "--dir", str(tmp_path), "--json", str(figures),
    )  # fmt: skip
    assert set(json.loads(figures.read_text())) == {"GET 4 KiB", "HEAD"}


def test_full_writes_its_tables(tmp_path: Path) -> None:
    run(
        "full.py", "--rounds", "1", "--seconds", "0.05", "--keys", "200", "--big", str(5 << 20),
        "--grow-to", "10000", "--no-peers", "--dir", str(tmp_path), "--out", str(tmp_path / "out"),
    )  # fmt: skip
    tables = (tmp_path / "out" / "tables.md").read_text()
    assert "| GET 4 KiB, 8 | 0.60 | " in tables
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["connections"]["answered"] == {
        "uploads": 200,
        "callbacks": 200,
    }
