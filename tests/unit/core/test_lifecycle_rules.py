"""Rules against objects: what is due, and when. No storage, no clock."""

from __future__ import annotations

import pytest

from s3lite.core.lifecycle import Expiry, Subject, abort_ms, due_ms, expiry, is_due
from s3lite.wire.lifecycle import Filter, Rule

DAY = 86_400_000
T0 = 20_000 * DAY  # a midnight


def rule(where: Filter | None = None, *, name: str = "r", **actions: object) -> Rule:
    return Rule(name, True, where or Filter(), **actions)


def subject(**values: object) -> Subject:
    return Subject(**{"key": "a/k", "size": 10, "tags": (), "modified_ms": T0} | values)


def due(rules: list[Rule], seen: Subject, now_ms: int) -> bool:
    return is_due(rules, seen, now_ms=now_ms, day_seconds=86_400)


@pytest.mark.parametrize(
    ("from_ms", "day_seconds", "expected"),
    [(T0, 86_400, T0 + DAY), (T0 + 1, 86_400, T0 + 2 * DAY), (T0 + 1, 10, T0 + 10_001)],
)
def test_a_day_ends_at_midnight_unless_it_is_shortened(from_ms: int, day_seconds: int, expected: int) -> None:
    assert due_ms(from_ms, 1, day_seconds) == expected


def test_days_and_dates() -> None:
    assert not due([rule(expire_days=2)], subject(), T0 + 2 * DAY - 1)
    assert due([rule(expire_days=2)], subject(), T0 + 2 * DAY)
    assert due([rule(expire_at_ms=T0)], subject(), T0)
    assert not due([rule(expire_at_ms=T0 + DAY)], subject(), T0)
    assert not due([rule(noncurrent_days=1, abort_days=1)], subject(), T0 + 9 * DAY)


def test_the_earliest_rule_wins() -> None:
    rules = [rule(name="late", expire_days=9), rule(name="early", expire_days=2), rule(name="none")]
    assert expiry(rules, subject(), day_seconds=86_400) == Expiry(T0 + 2 * DAY, "early")
    assert expiry(rules[2:], subject(), day_seconds=86_400) is None


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter("a/"), True),
        (Filter("b"), False),
        (Filter(tags=(("t", "1"),)), True),
        (Filter(tags=(("t", "1"), ("u", "2"))), False),
        (Filter(tags=(("t", "2"),)), False),
        (Filter(size_above=9), True),
        (Filter(size_above=10), False),
        (Filter(size_below=11), True),
        (Filter(size_below=10), False),
    ],
)
def test_filters(where: Filter, expected: bool) -> None:
    assert due([rule(where, expire_days=1)], subject(tags=(("t", "1"), ("x", ""))), T0 + DAY) is expected


def test_tags_not_looked_up_are_taken_to_match() -> None:
    assert due([rule(Filter(tags=(("t", "1"),)), expire_days=1)], subject(tags=None), T0 + DAY)


def test_noncurrent_versions_count_from_their_successor() -> None:
    old = subject(superseded_ms=T0 + 5 * DAY)
    assert not due([rule(noncurrent_days=1)], old, T0 + 6 * DAY - 1)
    assert due([rule(noncurrent_days=1)], old, T0 + 6 * DAY)
    assert not due([rule(expire_days=1, expires_markers=True)], old, T0 + 60 * DAY)


def test_newer_noncurrent_versions_are_kept() -> None:
    rules = [rule(noncurrent_days=1, noncurrent_kept=2)]
    found = [due(rules, subject(superseded_ms=T0, newer_noncurrent=newer), T0 + DAY) for newer in range(4)]
    assert found == [False, False, True, True]


def test_delete_markers_go_when_nothing_else_is_left() -> None:
    lone = subject(is_delete_marker=True, size=0, is_alone=True)
    above = subject(is_delete_marker=True, size=0)
    assert due([rule(expires_markers=True)], lone, T0)
    assert not due([rule(expires_markers=True)], above, T0)
    assert not due([rule(expire_days=1)], lone, T0)
    assert due([rule(expire_days=1)], lone, T0 + DAY)
    assert not due([rule(expire_days=1)], above, T0 + DAY)
    assert not due([rule(Filter(size_below=5), expire_days=1)], lone, T0 + DAY)
    assert due([rule(noncurrent_days=1)], subject(is_delete_marker=True, superseded_ms=T0), T0 + DAY)


def test_uploads() -> None:
    rules = [rule(Filter("a/"), name="a", abort_days=3), rule(name="all", abort_days=5)]
    assert abort_ms(rules, "a/k", T0, day_seconds=86_400) == Expiry(T0 + 3 * DAY, "a")
    assert abort_ms(rules, "b", T0, day_seconds=86_400) == Expiry(T0 + 5 * DAY, "all")
    assert abort_ms([rule(expire_days=1)], "b", T0, day_seconds=86_400) is None
