"""Exit codes: 0 done, 1 refused or faults found, 2 could not run; and what `check --repair` touches."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from s3lite.core.check import Fault

BIG = b"0123456789" * 500
ORPHAN = "0" * 30 + "ab"
ROOT = Path(__file__).resolve().parents[3]


def damage(objects) -> None:
    """One fault of each kind that a disk, a crash or an operator's mistake can make."""
    for name in ("missing", "size", "content"):
        version = objects.put(name, BIG + name.encode())
        path = objects.path(version.blob)
        if name == "missing":
            path.unlink()
        elif name == "size":
            path.write_bytes(BIG)
        else:
            path.write_bytes(b"x" * (len(BIG) + len(name)))
    orphan = objects.path(ORPHAN)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left over")
    bucket = objects.bucket
    objects.store.catalog.write(lambda tx: tx.put_bucket_quota(bucket, max_bytes=1 << 30, max_objects=None))
    objects.store.catalog.write(lambda tx: tx._session.run("UPDATE quotas SET bytes = bytes + 7"))


def everything(data_dir: Path) -> tuple[set[str], dict[str, bytes]]:
    """The index, a line per row, and the bytes of every blob's file."""
    index = sqlite3.connect(data_dir / "index.db")
    rows = set(index.iterdump())
    index.close()
    files = {path.name: path.read_bytes() for path in (data_dir / "blobs").glob("??/*")}
    return rows, files


def kinds(text: str) -> dict[str, bool]:
    return {fault["kind"]: fault["is_repaired"] for fault in json.loads(text)["faults"]}


def test_repair_changes_orphans_and_counters_and_nothing_else(objects, run, data_dir, monkeypatch) -> None:
    monkeypatch.setenv("S3LITE_SWEEP_ORPHAN_AGE_S", "0")
    objects.put("sound", BIG)
    damage(objects)
    before_rows, before_files = everything(data_dir)
    found = kinds(run("check", "--deep", "--json", exit_code=1).stdout)
    assert set(found) == {"missing", "size", "content", "checksum", "orphan", "quota"}
    assert not any(found.values())
    assert everything(data_dir) == (before_rows, before_files)  # without --repair a check only looks

    told = run("check", "--deep", "--repair", exit_code=1)
    assert told.stdout.count("(removed)") == told.stdout.count("(counted anew)") == 1
    after_rows, after_files = everything(data_dir)
    assert {name: data for name, data in before_files.items() if name != ORPHAN} == after_files
    changed = before_rows ^ after_rows
    assert len(changed) == 2
    assert all(row.startswith('INSERT INTO "quotas"') for row in changed)

    left = kinds(run("check", "--deep", "--repair", "--json", exit_code=1).stdout)
    assert left == {"missing": False, "size": False, "content": False, "checksum": False}
    assert everything(data_dir) == (after_rows, after_files)


def test_repaired_and_clean_are_the_same_exit_code(objects, run, monkeypatch) -> None:
    monkeypatch.setenv("S3LITE_SWEEP_ORPHAN_AGE_S", "0")
    path = objects.path(ORPHAN)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left over")
    run("check", exit_code=1)
    run("check", "--repair", exit_code=0)
    run("check", exit_code=0)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check"], 0),
        (["sweep"], 0),
        (["user", "list"], 0),
        (["--help"], 0),
        (["user", "remove", "nobody"], 1),
        (["key", "disable", "no-such-key"], 1),
        (["bucket", "show", "no-such-bucket"], 1),
        (["restore", "{tmp}"], 1),
        (["check", "--no-such-option"], 2),
        (["no-such-command"], 2),
        (["check", "--config", "{tmp}/none.toml"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_exit_codes(objects, run, tmp_path: Path, arguments: list[str], code: int) -> None:
    run(*(word.format(tmp=tmp_path) for word in arguments), exit_code=code)


def test_what_keeps_a_command_from_running_is_2(objects, run, data_dir, monkeypatch) -> None:
    monkeypatch.setenv("S3LITE_NO_SUCH_SETTING", "1")
    assert "no such setting" in run("check", exit_code=2).stderr
    monkeypatch.delenv("S3LITE_NO_SUCH_SETTING")
    (data_dir / "secret.key").write_bytes(b"short")
    run("user", "list", exit_code=2)


def test_the_documents_have_a_line_for_each_kind_of_fault() -> None:
    documented = (ROOT / "docs/operations.md").read_text()
    named = Fault.__doc__ or ""
    for kind in (
        "index",
        "reference",
        "missing",
        "size",
        "unreadable",
        "orphan",
        "content",
        "checksum",
        "quota",
        "key",
    ):
        assert f"`{kind}`" in documented
        assert kind in named
