"""Backups taken while the server writes, and what comes out of them."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from torture.crash import Ledger, judge, survey
from torture.driver import settings
from torture.operations import OPERATIONS, PLAIN, ROOT_KEY, ROOT_SECRET, World, set_up

from s3lite.app import Application, create_app
from s3lite.cli.main import cli
from s3lite.core.sweep import COLLECTING, sweep


@pytest.fixture
def world(tmp_path: Path):
    app = create_app(settings(tmp_path / "data"))
    made = World(app, random.Random(3))
    set_up(made)
    for name in ("put_small", "put_large", "multipart", "versioned_put", "versioned_delete", "copy"):
        OPERATIONS[name](made)
    yield made
    app.close()


def run(data_dir: Path, *words: object) -> Result:
    environ = {
        "S3LITE_DATA_DIR": str(data_dir), "S3LITE_ACCESS_KEY": ROOT_KEY, "S3LITE_SECRET_KEY": ROOT_SECRET,
        "S3LITE_STORAGE_INLINE_BYTES": "4096", "S3LITE_STORAGE_RESERVE_BYTES": "0",
    }  # fmt: skip
    return CliRunner().invoke(cli, [str(word) for word in words], env=environ)


def done(result: Result) -> dict[str, int]:
    assert result.exit_code == 0, result.output
    found: dict[str, int] = json.loads(result.stdout)
    return found


def restored(tmp_path: Path, backup: Path, name: str) -> Application:
    where = tmp_path / name
    assert done(run(where, "restore", backup, "--json"))["faults"] == []
    return create_app(settings(where))


def test_what_is_restored_is_what_was_backed_up(world: World, tmp_path: Path) -> None:
    before = survey(world.app)
    done(run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "backup", "--json"))
    OPERATIONS["put_large"](world)
    other = restored(tmp_path, tmp_path / "backup", "other")
    assert survey(other) == before
    other.close()
    assert judge(tmp_path / "other", Ledger(known=before)) == []


def test_a_backup_under_load_is_of_one_moment(world: World, tmp_path: Path) -> None:
    """Four clients write, delete and sweep meanwhile; every key is as it was at some time of its history."""
    ledger, lock, stop = Ledger(), threading.Lock(), threading.Event()
    history: dict[str, list[list[str]]] = {name: [[], state] for name, state in survey(world.app).items()}

    def client(number: int) -> None:
        mine = World(world.app, random.Random(number), note, f"t{number}-", is_alone=False)
        names = ("put_small", "put_large", "multipart", "delete", "rename", "copy", "upkeep", "abort")
        while not stop.is_set():
            OPERATIONS[mine.chance.choice(names)](mine)

    def note(text: str) -> None:
        with lock:
            if text.startswith("begin"):
                for name, state in json.loads(text.split(" ", 2)[2])[0].items():
                    history.setdefault(name, [[]]).append(state)
            ledger.take(text)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    counts = [
        done(run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "backup", "--json"))
        for _ in range(3)
    ]
    stop.set()
    for thread in threads:
        thread.join()
    assert counts[0]["blobs"] == counts[0]["copied"]
    assert counts[1]["copied"] < counts[1]["blobs"]
    other = restored(tmp_path, tmp_path / "backup", "other")
    for name, state in survey(other).items():
        assert state in history[name]
    other.close()
    assert run(tmp_path / "other", "check", "--deep").exit_code == 0


def test_an_earlier_backup_lends_its_files(world: World, tmp_path: Path) -> None:
    first = done(run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "monday", "--json"))
    OPERATIONS["put_large"](world)
    options = ("--base", tmp_path / "monday", "--json")
    second = done(run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "tuesday", *options))
    assert second["linked"] >= first["blobs"] - 1
    assert second["copied"] <= 1
    other = restored(tmp_path, tmp_path / "tuesday", "other")
    assert survey(other) == survey(world.app)
    other.close()


def test_a_renewed_backup_drops_what_is_no_longer_needed(world: World, tmp_path: Path) -> None:
    world.s3.put(f"/{PLAIN}/gone", bytes(9000))
    run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "backup")
    world.s3.delete(f"/{PLAIN}/gone")
    assert (
        done(run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "backup", "--json"))["removed"]
        == 1
    )


def test_released_bytes_stay_while_a_backup_is_made(world: World) -> None:
    catalog = world.app.services.store.catalog
    world.s3.put(f"/{PLAIN}/gone", bytes(9000))
    world.s3.delete(f"/{PLAIN}/gone")
    assert catalog.lease(COLLECTING, holder="a backup", ttl_s=60)
    assert sweep(world.app.services.store, orphans=False).blobs == 0
    catalog.lease(COLLECTING, holder="a backup", ttl_s=0)
    assert sweep(world.app.services.store, orphans=False).blobs >= 1


def test_an_interrupted_backup_leaves_the_one_before(world: World, tmp_path: Path) -> None:
    done(run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "backup", "--json"))
    before = survey(world.app)
    blobs = world.app.services.store.blobs
    world.s3.put(f"/{PLAIN}/damaged", bytes(9000))
    for blob, size, _time in list(blobs.scan()):
        if size == 9000 and not (tmp_path / "backup" / "blobs" / blob[-2:] / blob).exists():
            blobs.delete(blob)
    failed = run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "backup")
    assert (failed.exit_code, "are missing" in failed.output) == (1, True)
    other = restored(tmp_path, tmp_path / "backup", "other")
    assert survey(other) == before
    other.close()


def test_restore_never_overwrites(world: World, tmp_path: Path) -> None:
    run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "backup")
    refused = run(tmp_path / "data", "restore", tmp_path / "backup")
    assert (refused.exit_code, "not empty" in refused.output) == (1, True)
    (tmp_path / "nothing").mkdir()
    refused = run(tmp_path / "new", "restore", tmp_path / "nothing")
    assert (refused.exit_code, "is no backup" in refused.output) == (1, True)


def test_a_damaged_backup_is_noticed_when_it_is_restored(world: World, tmp_path: Path) -> None:
    run(tmp_path / "data", "backup", "--with-keyring", tmp_path / "backup")
    victim = next((tmp_path / "backup").glob("blobs/??/*"))
    victim.write_bytes(b"short")
    damaged = run(tmp_path / "other", "restore", tmp_path / "backup", "--json")
    assert damaged.exit_code == 1
    assert [fault["kind"] for fault in json.loads(damaged.stdout)["faults"]] == ["size"]


def test_keys_of_encrypted_objects_come_only_when_asked_for(world: World, tmp_path: Path) -> None:
    OPERATIONS["put_encrypted"](world)
    told = run(tmp_path / "data", "backup", tmp_path / "without")
    assert "keyring.json is not in the backup" in told.output
    run(tmp_path / "data", "backup", tmp_path / "with", "--with-keyring")
    assert not (tmp_path / "without" / "keyring.json").exists()
    assert (tmp_path / "with" / "keyring.json").stat().st_mode & 0o077 == 0
