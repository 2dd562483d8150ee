"""The fenced blocks of a Markdown page, each with what the page says about how it is tried.

A block is tried by its language (`snippets.page`). An HTML comment right before its fence, which readers do
not see, says otherwise:

``<!-- not run: WHY -->``      it cannot be run here; `test_what_is_not_run_is_known` counts these
``<!-- tested by PATH -->``    another test runs it: a file of tests, or ``FILE::TEST``
``<!-- background -->``        a program that goes on, while the following blocks run
``<!-- file: NAME -->``        the reader saves it under that name; later blocks use it
``<!-- then: PYTHON -->``      a line to run behind a block that only defines something
``<!-- continues -->``         the script of the block before it goes on
``<!-- output -->``            what the blocks before it have printed

Blocks that run nothing but this suite, its long campaigns and the benchmarks are not run a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

KINDS = ("not run", "tested by", "background", "file", "then", "continues", "output")
_COMMENT = re.compile(r"<!-- (.*?) -->", re.DOTALL)
_SUITE = re.compile(r"$|(\w+=\S+ )*(make (test|lint|docs|torture|bench)\b|\.venv/bin/python (bench|docs)/)")
_FENCE = re.compile(r"(`{3,})(\S*)\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where it begins, its language, its lines, and its marks by kind."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def is_of_the_suite(self) -> bool:
        """True when every line of it is `make test`, a campaign, or a benchmark."""
        return self.language == "sh" and all(map(_SUITE.match, self.text.splitlines()))

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order."""
    marks: dict[str, str] = {}
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        if fence := _FENCE.match(line):
            text = []
            for _, inner in lines:
                if inner == fence[1]:
                    break
                text.append(inner + "\n")
            yield Block(page, number, fence[2], "".join(text), marks)
            marks = {}
        elif comment := _COMMENT.fullmatch(line):
            marks |= _mark(comment[1])
        elif line:
            marks = {}


def _mark(comment: str) -> dict[str, str]:
    for kind in KINDS:
        if re.match(rf"{kind}(:| |$)", comment):
            return {kind: comment[len(kind) :].lstrip(": ")}
    return {}
