"""The quick part of the crash campaign; `make torture` runs the long one (docs/reliability.md)."""

from __future__ import annotations

import random

import pytest
from torture import trace
from torture.crash import HOW, Campaign, Recording
from torture.disk import Disk, Node, Step
from torture.operations import OPERATIONS

pytestmark = pytest.mark.skipif(bool(trace.missing()), reason=trace.missing() or "strace works")
SEED = 1


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return Recording.make(tmp_path_factory.mktemp("crash"), seed=SEED)


@pytest.mark.parametrize("how", HOW)
def test_every_crash_leaves_old_or_new(recording: Recording, how: str) -> None:
    campaign = Campaign(recording, SEED)
    campaign.every(how, share=1 if how == "lost" else 0.06)
    assert campaign.findings == []
    assert campaign.counts[how] > 50


def test_a_crash_while_recovering_from_a_crash(recording: Recording, tmp_path) -> None:
    chance = random.Random(SEED)
    for how in ("kept", "any"):
        left = recording.until(chance.randrange(len(recording.steps) // 2, len(recording.steps)), how, chance)
        again = Recording.make(tmp_path, seed=SEED, found=left)
        campaign = Campaign(again, SEED)
        campaign.every("lost")
        campaign.every("any", share=0.1)
        assert campaign.findings == []


def test_relaxed_loses_but_never_breaks_the_index(tmp_path) -> None:
    campaign = Campaign(Recording.make(tmp_path, seed=SEED, durability="relaxed"), SEED, durability="relaxed")
    for how in HOW:
        campaign.every(how, share=0.02)
    assert campaign.findings == []


@pytest.mark.parametrize(
    ("sync", "how"),
    [
        ("blob", "lost"),  # the bytes of files
        ("shard", "lost"),  # the names of files
        ("data", "lost"),  # the names of the index and the key
        ("index.db-wal", "lost"),  # commits
        ("index.db", "lost"),  # checkpoints
        ("index.db-wal", "any"),
    ],
)
def test_a_missing_sync_would_be_noticed(recording: Recording, sync: str, how: str) -> None:
    """The mutation that shows that this campaign can fail: syncs that are recorded and do nothing."""

    def ignored(step: Step) -> bool:
        kind = step.text.removeprefix("directory ")
        return kind == sync or (sync == "shard" and step.text.startswith("directory") and len(kind) == 2)

    campaign = Campaign(recording, SEED, ignored=ignored, most_findings=1)
    campaign.every(how)
    assert campaign.findings != []


def test_the_recording_has_every_operation(recording: Recording) -> None:
    syncs = {step.text for step in recording.steps if step.kind == "sync"}
    assert {"blob", "index.db-wal", "index.db", "directory data", "directory blobs"} <= syncs
    begun = sum(step.text.startswith("begin") for step in recording.steps)
    done = sum(step.text.startswith("ack") for step in recording.steps)
    assert begun == done > 3 * len(OPERATIONS)
    assert any(step.text.startswith("told") for step in recording.steps)


# ---------------------------------------------------------------- the model itself


def node_with(*writes: tuple[int, bytes]) -> tuple[Disk, Node]:
    """A disk with one named, synced, empty file, and writes to it that are pending."""
    root, file = Node(0, True), Node(1, False)
    disk = Disk(root)
    disk.take(Step("name", 0, root, name="file", target=file))
    disk.take(Step("sync", 1, root, begun=1))
    for position, (offset, data) in enumerate(writes, 2):
        disk.take(Step("data", position, file, offset=offset, data=data))
    return disk, file


def contents(disk: Disk, how: str, seed: int = 0) -> dict[str, bytes]:
    return {path: bytes(data or b"") for path, data in disk.cut(how, random.Random(seed)).files()}


def test_what_is_not_synced_can_be_lost_or_kept() -> None:
    disk, _ = node_with((0, b"a" * 600))
    assert (contents(disk, "lost"), contents(disk, "kept")) == ({"file": b""}, {"file": b"a" * 600})


def test_a_sync_covers_only_what_had_ended_when_it_began() -> None:
    disk, file = node_with((0, b"old"), (0, b"new"))
    disk.take(Step("sync", 9, file, begun=3))
    assert contents(disk, "lost") == {"file": b"old"}


def test_writes_tear_at_sectors_and_come_in_any_order() -> None:
    disk, _ = node_with((0, b"a" * 1024), (1024, b"b" * 1024))
    seen = {contents(disk, "any", seed)["file"] for seed in range(200)}
    pieces = {data[at : at + 512] for data in seen for at in range(0, len(data), 512)}
    assert pieces == {b"a" * 512, b"b" * 512, bytes(512)}
    assert len(seen) > 8


def test_a_rename_is_at_once_and_a_name_needs_its_directory() -> None:
    disk, file = node_with()
    disk.take(Step("name", 5, disk.root, name="new", target=file, also=(disk.root, "file")))
    assert {tuple(contents(disk, how, seed)) for how in ("any", "ordered") for seed in range(20)} == {
        ("file",), ("new",),
    }  # fmt: skip
    disk.take(Step("sync", 7, disk.root, begun=6))
    assert tuple(contents(disk, "lost")) == ("new",)
