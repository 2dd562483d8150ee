"""`s3lite check` and `s3lite sweep`: what they find, and what they must not."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from s3lite.core import check as core_check
from s3lite.core.check import Check
from s3lite.core.sweep import Swept
from s3lite.model import BlobId
from s3lite.times import Clock

BIG = b"0123456789" * 500
ORPHAN = "0" * 30 + "ab"


def kinds(store, **how) -> list[tuple[str, str]]:
    return [(fault.kind, fault.subject) for fault in Check(store, **how).faults()]


def make_orphan(objects, *, blob: str = ORPHAN) -> Path:
    path = objects.path(blob)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"left over")
    return path


@pytest.fixture
def impatient(objects):
    """A store whose files are old at once."""
    sweep = replace(objects.store.settings.sweep, orphan_age_s=-1.0)
    return replace(objects.store, settings=replace(objects.store.settings, sweep=sweep))


@pytest.fixture
def filled(objects):
    """Objects of every form of storage."""
    objects.put("inline.txt", b"small")
    objects.put("empty", b"")
    objects.put("big", BIG)
    objects.multipart("composite", [BIG, b"tail"], algorithm="SHA256", kind="COMPOSITE")
    objects.multipart("full", [BIG, BIG + b"x", b""], algorithm="CRC64NVME", kind="FULL_OBJECT")
    return objects


# ---------------------------------------------------------------- clean


def test_a_sound_store_is_clean_also_when_read_in_full(filled, run):
    result = run("check", "--deep")
    assert result.stdout.strip().endswith("clean")
    document = json.loads(run("check", "--deep", "--json").stdout)
    assert document["clean"] is True
    assert document["faults"] == []
    assert document["checked"]["versions"] == 5
    assert document["checked"]["files"] == 4
    assert document["checked"]["content_bytes"] == 5 + 4 * len(BIG) + 4 + 1


def test_a_missing_installation_is_not_made(run, environment):
    for command in ("check", "sweep"):
        assert "There is no installation" in run(command, exit_code=2).stderr
    assert not environment.exists()


def test_progress_is_reported_for_each_stage(filled):
    seen = []
    list(Check(filled.store, deep=True, progress=lambda *step: seen.append(step)).faults())
    assert {stage for stage, _, _ in seen} == {"index", "files", "content"}
    assert all(done <= total for _, done, total in seen)


def test_a_terminal_gets_a_bar_and_standard_output_stays_clean(filled, run, terminal):
    result = run("check", "--deep")
    assert "content" in result.stderr
    assert result.stdout.count("\n") == 1


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    "command", ["backup {0}", "restore {1}", "keyring rotate payroll", "migrate --to-blobs-url file://{0}"]
)
def test_other_long_work_shows_a_bar_as_well(filled, run, environment, terminal, tmp_path, command):
    run("keyring", "add", "payroll")
    run("backup", str(tmp_path / "earlier"))
    if command.startswith("restore"):
        shutil.rmtree(environment)
    result = run(*command.format(tmp_path / "later", tmp_path / "earlier").split())
    assert re.search(r"bytes|objects", result.stderr)
    assert "%" in result.stderr


def test_a_missing_file_is_found_and_its_objects_are_named(filled, run):
    version = filled.put("lost/a.bin", BIG)
    filled.path(version.blob).unlink()
    result = run("check", exit_code=1)
    assert f"missing     {version.blob}" in result.stdout
    assert "needed by bucket/lost/a.bin" in result.stdout
    assert "backup" in result.stderr
    document = json.loads(run("check", "--deep", "--json", exit_code=1).stdout)
    assert [fault["kind"] for fault in document["faults"]] == ["missing"]
    assert document["clean"] is False


def test_a_missing_part_is_found(filled):
    version = filled.multipart("parts", [BIG, BIG + b"2"], algorithm="CRC32", kind="COMPOSITE")
    with filled.store.catalog.read() as tx:
        second = tx.segments(version.row)[1]
    filled.path(second.blob).unlink()
    (fault,) = Check(filled.store, deep=True).faults()
    assert (fault.kind, fault.subject) == ("missing", second.blob)
    assert "bucket/parts" in fault.message


@pytest.mark.parametrize("size", [0, len(BIG) - 1, len(BIG) + 1])
def test_a_file_of_the_wrong_size_is_found(filled, size):
    version = filled.put("cut", BIG)
    os.truncate(filled.path(version.blob), size)
    assert kinds(filled.store, deep=True) == [("size", version.blob)]


def test_a_flipped_bit_is_found_by_reading(filled, run):
    version = filled.put("rotten", BIG)
    path = filled.path(version.blob)
    path.write_bytes(b"1" + BIG[1:])
    run("check")
    assert kinds(filled.store, deep=True) == [("content", "bucket/rotten"), ("checksum", "bucket/rotten")]
    assert "content " in run("check", "--deep", exit_code=1).stdout


def test_a_flipped_bit_in_a_part_is_found(filled):
    version = filled.multipart("parts", [b"2" + BIG, b"end"], algorithm="CRC64NVME", kind="FULL_OBJECT")
    with filled.store.catalog.read() as tx:
        first = tx.segments(version.row)[0]
    filled.path(first.blob).write_bytes(b"3" + BIG)
    faults = list(Check(filled.store, deep=True).faults())
    assert [fault.kind for fault in faults] == ["content", "checksum"]
    assert all(fault.message.startswith("part 1: ") for fault in faults)


def test_a_multipart_object_must_be_what_its_parts_make(filled, monkeypatch):
    monkeypatch.setattr(core_check.checksums, "multipart_etag", lambda etags: "other-2")
    monkeypatch.setattr(core_check.checksums, "composite", lambda algorithm, values: "other")
    assert kinds(filled.store, deep=True) == [
        ("content", "bucket/composite"),
        ("checksum", "bucket/composite"),
        ("content", "bucket/full"),
    ]


def test_an_orphan_is_found_once_it_is_old(objects, impatient):
    path = make_orphan(objects)
    assert kinds(objects.store) == []
    assert kinds(impatient) == [("orphan", ORPHAN)]
    assert path.exists()


def test_repair_removes_orphans_and_nothing_else(filled, impatient):
    path = make_orphan(filled)
    version = filled.put("lost", BIG)
    filled.path(version.blob).unlink()
    before = sum(1 for _ in filled.store.blobs.scan())
    faults = {fault.kind: fault.is_repaired for fault in Check(impatient, repair=True).faults()}
    assert faults == {"orphan": True, "missing": False}
    assert not path.exists()
    assert sum(1 for _ in filled.store.blobs.scan()) == before - 1


def test_repair_says_what_it_did_and_ends_well(objects, run, monkeypatch):
    path = make_orphan(objects)
    monkeypatch.setenv("S3LITE_SWEEP_ORPHAN_AGE_S", "0")
    assert "orphan" in run("check", exit_code=1).stdout
    result = run("check", "--repair")
    assert "(removed)" in result.stdout
    assert result.stdout.strip().endswith(": 1 fault, 1 repaired")
    assert not path.exists()
    assert json.loads(run("check", "--repair", "--json").stdout)["checked"]["repaired"] == 0


def test_a_contradiction_in_the_index_is_found(filled, monkeypatch):
    with filled.store.catalog.read() as tx:
        reader = type(tx)
    monkeypatch.setattr(reader, "reference_faults", lambda self, limit: ["blob 1: counts 2, has 1"])
    assert kinds(filled.store) == [("reference", "blob 1")]


def test_an_index_that_cannot_be_read_is_a_fault_and_ends_the_check(filled, monkeypatch):
    def broken(self):
        raise OSError("index: malformed")

    monkeypatch.setattr(type(filled.store.catalog), "quick_check", broken)
    assert kinds(filled.store, deep=True) == [("index", "index")]


# ---------------------------------------------------------------- beside a server


def test_garbage_without_its_file_is_no_fault(filled, run):
    version = filled.put("replaced", BIG)
    filled.put("replaced", b"now")
    filled.path(version.blob).unlink()
    run("check", "--deep")


def test_an_upload_between_scan_and_index_is_no_fault(filled, monkeypatch):
    real = type(filled.store.blobs).scan

    def scan(self):
        yield from real(self)
        filled.put("late", BIG)

    monkeypatch.setattr(type(filled.store.blobs), "scan", scan)
    assert kinds(filled.store, deep=True) == []


def test_an_object_deleted_while_it_is_read_is_no_fault(filled, monkeypatch):
    real = type(filled.store.catalog).iter_versions

    def iter_versions(self):
        for version in real(self):
            filled.store.catalog.write(lambda tx, gone=version: tx.remove_version(gone))
            if version.blob is not None:
                filled.store.blobs.delete(version.blob)
            yield version

    monkeypatch.setattr(type(filled.store.catalog), "iter_versions", iter_versions)
    assert kinds(filled.store, deep=True) == []


def test_an_orphan_that_the_sweeper_took_meanwhile_is_no_fault(objects, impatient, monkeypatch):
    path = make_orphan(objects)
    real = type(objects.store.blobs).scan

    def scan(self):
        yield from real(self)
        path.unlink()

    monkeypatch.setattr(type(objects.store.blobs), "scan", scan)
    assert kinds(impatient) == []


# ---------------------------------------------------------------- the merge


def test_many_files_are_sorted_on_disk(monkeypatch):
    monkeypatch.setattr(core_check, "_RUN", 7)
    files = [(BlobId(f"{number * 7919 % 100:032x}"), number, number / 3) for number in range(100)]
    assert list(core_check._by_name(files)) == sorted(files)


def test_rows_and_files_are_joined_by_name():
    rows = iter([(BlobId("a"), 1), (BlobId("c"), 3), (BlobId("d"), 4)])
    files = iter([(BlobId("b"), 2, 0.0), (BlobId("c"), 3, 0.0), (BlobId("e"), 5, 0.0)])
    assert [(blob, size, file and file[1]) for blob, size, file in core_check._joined(rows, files)] == [
        ("a", 1, None),
        ("b", None, 2),
        ("c", 3, 3),
        ("d", 4, None),
        ("e", None, 5),
    ]


# ---------------------------------------------------------------- sweep


def test_sweep_removes_what_is_due_and_says_so(filled, run, monkeypatch):
    version = filled.put("gone", BIG)
    filled.store.catalog.write(lambda tx: tx.remove_version(version))
    make_orphan(filled)
    monkeypatch.setattr(Clock, "time", lambda self, real=Clock.time: real(self) + 1)
    monkeypatch.setenv("S3LITE_STORAGE_GARBAGE_GRACE_S", "0")
    monkeypatch.setenv("S3LITE_SWEEP_ORPHAN_AGE_S", "0")
    size = len(BIG) + len(b"left over")
    told = f"Removed: 1 released blob, 1 orphan file; gave back {size} bytes in 2 files and the index.\n"
    assert run("sweep").stdout == told
    assert json.loads(run("sweep", "--json").stdout) == asdict(Swept())
    assert run("sweep").stdout == "Nothing to remove.\n"
    run("check", "--deep")
