"""The system calls of a real process, whole payloads included, as strace saw them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,"
    "fallocate,fsync,fdatasync,rename,renameat,renameat2,link,linkat,symlink,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,copy_file_range,sendfile"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?: ([A-Z]+))?")
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A call that succeeded. ``begun`` and ``ended`` are positions in the recording.

    Another call's effect is surely before this one's only if it ended before this one began.
    """

    name: str
    arguments: tuple[bytes | str, ...]  # strings as bytes, everything else as strace writes it
    result: int
    begun: int
    ended: int


def missing() -> str:
    """Why nothing can be recorded here; "" when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True)
    return f"strace does not work here: {done.stderr.strip()[:200]}" if done.returncode else ""


def record(command: Sequence[str], into: Path, *, cwd: Path, environ: dict[str, str]) -> None:
    """Run a program under strace. Raises RuntimeError when it fails."""
    strace = ["strace", "-f", "--seccomp-bpf", "-xx", "-s", "16777216", "-e", f"trace={CALLS}"]
    done = subprocess.run(
        [*strace, "-e", "signal=none", "-o", str(into), *command],
        cwd=cwd, env=environ, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the recorded program failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def calls(path: Path) -> Iterator[Call]:
    """The calls of a recording in the order in which they ended; those that failed are left out."""
    begun: dict[str, tuple[int, str]] = {}
    with path.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            line, start = line.rstrip("\n"), number
            if unfinished := _BEGUN.match(line):
                if unfinished[2] == "close":  # the number is free for others as soon as this begins
                    yield Call("close", _arguments(unfinished[3]), 0, number, number)
                begun[unfinished[1]] = number, line.removesuffix(" <unfinished ...>")
                continue
            if resumed := _RESUMED.match(line):
                start, head = begun.pop(resumed[1])
                if resumed[2].startswith(")") and " close(" in head:
                    continue
                line = head + resumed[2]
            found = _LINE.match(line)
            if found and int(found[4]) >= 0:
                yield Call(found[2], _arguments(found[3]), int(found[4]), start, number)


def _arguments(text: str) -> tuple[bytes | str, ...]:
    return tuple(_value(part) for part in text.split(", "))


def _value(text: str) -> bytes | str:
    if not text.startswith('"'):
        return text
    if not text.endswith('"'):
        raise ValueError(f"a payload was cut: {text[-40:]}")
    return bytes.fromhex(text[1:-1].replace("\\x", ""))
