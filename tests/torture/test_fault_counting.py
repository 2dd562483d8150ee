"""The quick part of the fault campaign; `make torture` runs the long one (docs/reliability.md)."""

from __future__ import annotations

import errno
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from torture import faults
from torture.crash import scratch
from torture.faults import CODES, PLAN, Bench, bench, exhaust
from torture.operations import OPERATIONS, PLAIN, described

from s3lite.model import BlobId


@pytest.fixture
def it() -> Iterator[Bench]:
    logging.getLogger("s3lite").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=scratch()) as directory, bench(Path(directory), seed=1) as made:
        yield made
    logging.getLogger("s3lite").setLevel(logging.NOTSET)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_whichever_call_fails_the_client_hears_it_and_all_goes_on(it: Bench, name: str) -> None:
    counts: Counter[str] = Counter()
    code = CODES[sorted(OPERATIONS).index(name) % len(CODES)]
    assert exhaust(it, name, code, counts, crash_share=0.03) == []
    it.settle()


def test_every_kind_of_call_was_made_to_fail(it: Bench) -> None:
    counts: Counter[str] = Counter()
    for name in ("put_large", "upkeep", "checkpoint"):
        assert exhaust(it, name, errno.EIO, counts, crash_share=0) == []
    kinds = {f"blob {call}" for call in ("open", "write", "fdatasync", "link", "fsync", "unlink")}
    assert kinds | {"index write", "index sync", "index open"} <= set(counts)


def test_a_commit_whose_sync_failed_may_come_true_after_a_crash_and_has_its_bytes(it: Bench) -> None:
    """Recovery takes what stands in the log for committed, so the bytes of a failed commit must stay."""
    body = b"x" * 9000
    number = 0
    while PLAN.hit != "index sync":
        number += 1
        PLAN.arm(number, errno.EIO)
        with it.world.changing({f"{PLAIN}/unknown": [described(body)]}):
            answer = it.world.s3.put(f"/{PLAIN}/unknown", body)
        PLAN.left = 0
        assert answer.status in (200, 500)
        if PLAN.hit != "index sync":
            it.settle()
            it.world.s3.delete(f"/{PLAIN}/unknown")
            it.settle()
    it.ledger.known.pop(f"{PLAIN}/unknown")
    it.ledger.in_flight["?"] = {f"{PLAIN}/unknown": [described(body)]}, True
    assert "look whether it was" in answer.message
    assert it.crashed() == []
    it.settle()


def test_a_lost_sync_of_a_new_directory_is_not_taken_for_done_later(tmp_path: Path) -> None:
    """After a failed sync Linux may call the next one a success, so the name has to be entered again."""
    made: list[str] = []

    class Disk(faults.CountedSystem):
        def mkdir(self, path: Path, mode: int) -> None:
            made.append(path.name)
            path.mkdir(mode)

    blobs = faults.LocalBlobs(tmp_path, durability="full", system=Disk())
    shard = tmp_path / "blobs" / "ab"
    PLAN.arm(2, errno.EIO)  # mkdir, then the sync
    with pytest.raises(OSError, match="Input/output"):
        blobs.directory(BlobId("0" * 30 + "ab"))
    PLAN.disarm()
    assert not shard.exists()
    blobs.directory(BlobId("0" * 30 + "ab"))
    assert made == ["ab", "ab"]
    blobs.close()
