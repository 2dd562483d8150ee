"""Many clients, several worker processes, few keys: what everybody saw has an order that explains it."""

from __future__ import annotations

import re
import time
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from e2e.conftest import Server
from torture.histories import KINDS, checked, play, raced
from torture.linear import ABORTED, COMPLETED, OPEN, Op, is_linearizable


def test_the_checker_accepts_what_overlaps_and_refuses_what_does_not() -> None:
    put = Op("put", "a", True, 0, 3)
    assert is_linearizable([put, Op("get", None, None, 1, 2), Op("get", None, "a", 2, 4)])
    assert not is_linearizable([put, Op("get", None, "a", 1, 2), Op("get", None, None, 2.5, 4)])
    assert not is_linearizable([put, Op("get", None, None, 4, 5)])
    assert not is_linearizable([Op("create", v, True, 0, 1) for v in "ab"])
    assert is_linearizable([Op("put", "a", None, 0), Op("get", None, None, 5, 6), Op("get", None, "a", 7, 8)])
    assert not is_linearizable([Op("put", "a", True, 0, 1), Op("get", None, "foreign", 2, 3)])


PUT = Op("put", "a", True, 0, 1)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (  # an overwrite on condition that was accepted although something else was there
            [PUT, Op("swap", "b", True, 2, 3, "a")],
            [PUT, Op("swap", "b", True, 2, 3, "old")],
        ),
        (  # two of them on the same condition, both accepted
            [PUT, Op("swap", "b", True, 2, 4, "a"), Op("swap", "c", False, 2, 4, "a")],
            [PUT, Op("swap", "b", True, 2, 4, "a"), Op("swap", "c", True, 2, 4, "a")],
        ),
        (  # … refused although it held
            [Op("swap", "b", False, 2, 3, "a")],
            [PUT, Op("swap", "b", False, 2, 3, "a")],
        ),
        (  # a delete on condition that took what was not meant
            [PUT, Op("drop", None, False, 2, 3, "old"), Op("get", None, "a", 4, 5)],
            [PUT, Op("drop", None, True, 2, 3, "old"), Op("get", None, None, 4, 5)],
        ),
        (  # a copy of what had been overwritten before it was asked for
            [PUT, Op("put", "b", True, 2, 3), Op("get", None, "b", 4, 5)],
            [PUT, Op("put", "b", True, 2, 3), Op("get", None, "a", 4, 5)],
        ),
        (  # a lost write
            [PUT, Op("delete", None, True, 0.5, 3), Op("get", None, None, 4, 5)],
            [PUT, Op("get", None, None, 4, 5)],
        ),
        (  # a deleted object that comes back
            [PUT, Op("delete", None, True, 2, 3), Op("get", None, None, 4, 5)],
            [PUT, Op("delete", None, True, 2, 3), Op("get", None, None, 4, 5), Op("get", None, "a", 6, 7)],
        ),
    ],
    ids=("swap", "double-swap", "refused-swap", "drop", "stale-copy", "lost", "undead"),
)
def test_the_checker_refuses_a_wrong_history(right: list[Op], wrong: list[Op]) -> None:
    assert is_linearizable(right)
    assert not is_linearizable(wrong)


def test_an_upload_is_completed_or_aborted_but_never_both() -> None:
    complete, abort = Op("complete", "e", True, 0, 5), Op("abort", None, True, 0, 5)
    refused = {op: replace(op, result=False) for op in (complete, abort)}
    assert is_linearizable([complete, refused[abort]], OPEN)
    assert is_linearizable([refused[complete], abort], OPEN)
    assert is_linearizable([complete, replace(complete, called=6, returned=7)], OPEN)  # a repeat
    assert not is_linearizable([complete, abort], OPEN)
    assert not is_linearizable([refused[complete], refused[abort]], OPEN)
    assert is_linearizable([refused[abort]], COMPLETED)
    assert not is_linearizable([complete], ABORTED)


def swept_files(server: Server) -> int:
    with urllib.request.urlopen(f"{server.endpoint}/.s3lite/metrics") as answer:
        found = re.search(r"^s3lite_swept_files_total (\S+)", answer.read().decode(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def test_each_register_is_linearizable_over_worker_processes(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    with raced(tmp_path) as server:
        board, findings = play(server, 1, clients=6, keys=3, steps=45, counts=counts)
        assert findings == []
        assert set(counts) - {"histories"} == set(KINDS)
        deadline = time.monotonic() + 10
        while not swept_files(server) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert swept_files(server)  # the sweeper was there, too
    assert checked(tmp_path) == ""
    for where, first, ops in board.histories():
        if where.startswith("key"):
            # One more read at the end: some answers are explained, and all others would have been a finding.
            end = max(op.returned for op in ops)
            answers = [Op("get", None, value, end + 1, end + 2) for value in {op.value for op in ops}]
            assert {is_linearizable([*ops, answer], first) for answer in answers} == {True, False}
