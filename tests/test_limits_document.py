"""docs/limits.md is in step: each limit has a test that is there, each setting that bounds a client its line."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from s3lite.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
ROWS = [
    line
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| What | Limit", "| Setting | Default"))
]

# Numbers of the sections that clients meet which bound none of them, and why.
NO_LIMITS = {
    "callback.breaker_pause_s": "named in the row of the failures",
    "outbox.poll_s": "how soon other processes are noticed",
    "outbox.lease_s": "how soon a dead process is replaced",
    "outbox.log_body_bytes": "what the log keeps of an attempt",
}


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0].strip("| `"))
def test_each_limit_names_a_test_that_is_there(row: str) -> None:
    named = re.findall(r"`([\w/]+)::(test_\w+)` \|$", row)
    assert named, "no test is named"
    for file, function in named:
        assert function in functions_of(file)


def test_each_setting_that_bounds_a_client_has_its_line() -> None:
    missing = []
    for section in ("limits", "callback", "outbox", "sessions", "http", "console"):
        values = getattr(Settings(), section)
        for item in fields(values):
            name, value = f"{section}.{item.name}", getattr(values, item.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and f"`{name}`" not in TEXT and name not in NO_LIMITS:
                missing.append(name)
    assert missing == []


def test_the_exceptions_are_settings() -> None:
    for name in NO_LIMITS:
        section, option = name.split(".")
        assert hasattr(getattr(Settings(), section), option)


def test_the_document_has_all_its_tables() -> None:
    assert len(ROWS) > 60
