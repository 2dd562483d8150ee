"""``s3lite check`` and ``s3lite sweep``: is everything there, and what can go."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from s3lite.cli.base import app, note, printable, shared_options
from s3lite.ids import Ids
from s3lite.times import Clock

if TYPE_CHECKING:
    from s3lite.bootstrap import Storage
    from s3lite.core.check import Checked, Fault, Progress
    from s3lite.core.store import Store

_ADVICE = {
    "index": "The index is damaged. Stop the server and restore the index from a backup.",
    "reference": "The index contradicts itself, which it never should: please report it, with these lines.",
    "missing": "Missing bytes come back from a backup only; upload these objects again, or delete them.",
    "size": "Damaged bytes come back from a backup only; upload these objects again, or delete them.",
    "unreadable": "The disk could not read these bytes: look at the system's log before anything else.",
    "orphan": "Orphans are harmless. `s3lite check --repair` or the next sweep removes them.",
    "quota": "A quota's counter is off: please report it. `s3lite check --repair` counts anew.",
    "key": "Put back the keyring that has the key. Without it these objects cannot be read.",
    "content": "Damaged bytes come back from a backup only; upload these objects again, or delete them.",
    "checksum": "Damaged bytes come back from a backup only; upload these objects again, or delete them.",
}


@click.command()
@click.option(
    "--deep", is_flag=True, help="Also read every object and compare it with its ETag and checksum."
)
@click.option(
    "--repair", is_flag=True, help="Remove orphan files and count quotas anew. Nothing else is ever changed."
)
@shared_options
def check(deep: bool, repair: bool) -> None:
    """Prove index and bytes against each other (fsck).

    Every blob must have its file of the right size, every file must be known to the index or young,
    references must add up, and the database must be sound. --deep reads all bytes. The server may
    be running; uploads in flight and bytes that wait for removal are no faults. Of objects under
    customers' keys (SSE-C) --deep compares the encrypted bytes.

    \b
    s3lite check
    s3lite check --deep --json | jq .faults

    Exit code: 0 clean, or everything found was repaired; 1 faults remain; 2 could not run.
    """
    from s3lite.core.check import Check

    with app().storage(create=False) as storage, progress_bars("index", "files") as progress:
        run = Check(store_of(storage), deep=deep, repair=repair, progress=progress)
        faults = []
        for fault in run.faults():
            faults.append(fault)
            if not app().as_json:
                click.echo(_line(fault))
    remaining = [fault for fault in faults if not fault.is_repaired]
    document = {
        "clean": not remaining,
        "deep": deep,
        "checked": asdict(run.checked),
        "faults": [asdict(fault) for fault in faults],
    }
    app().emit(document, _summary(run.checked, deep=deep))
    for advice in dict.fromkeys(_ADVICE[fault.kind] for fault in remaining):
        note(advice)
    if remaining:
        raise SystemExit(1)


@click.command()
@shared_options
def sweep() -> None:
    """Do the upkeep now, once.

    The server does the same by itself every minute.

    Removes released bytes whose grace period is over, orphan files and temporaries of crashes, and
    expired multipart uploads, applies the lifecycle rules of buckets, and delivers access logs that are due.
    Settings: [sweep], [lifecycle], [logging] and storage.garbage_grace_s.
    """
    from s3lite.core.sweep import sweep as run_sweep

    with app().storage(create=False) as storage:
        swept = asdict(run_sweep(store_of(storage)))
    nouns = {
        "uploads": "expired upload",
        "blobs": "released blob",
        "orphans": "orphan file",
        "temporaries": "temporary file",
        "completions": "remembered completion",
        "undecided": "upload that its gate left undecided",
        "messages": "dead message",
        "deliveries": "logged attempt",
        "expired": "expired object",
        "removed": "old version",
    }
    done = ", ".join(
        _count(number, nouns[name]) for name, number in swept.items() if number and name in nouns
    )
    if swept["freed_bytes"]:
        freed = (
            f"{_count(swept['freed_bytes'], 'byte')} in {_count(swept['freed_files'], 'file')} and the index"
        )
        done += f"; gave back {freed}"
    logs = f" Delivered: {_count(swept['logs'], 'access log')}." if swept["logs"] else ""
    app().emit(swept, (f"Removed: {done}." if done else "Nothing to remove.") + logs)


def store_of(storage: Storage) -> Store:
    """What core works on."""
    from s3lite.core.store import Store

    return Store(
        storage.catalog,
        storage.blobs,
        Clock(),
        Ids(),
        app().settings,
        storage.keyring,
        reserve=storage.reserve,
    )


def _line(fault: Fault) -> str:
    done = ("  (counted anew)" if fault.kind == "quota" else "  (removed)") if fault.is_repaired else ""
    return f"{fault.kind:<10}  {printable(fault.subject)}  {printable(fault.message)}{done}"


def _summary(checked: Checked, *, deep: bool) -> str:
    seen = f"{_count(checked.blobs, 'blob')} ({checked.inline} in the index), {_count(checked.files, 'file')}"
    if deep:
        seen += f", {_count(checked.versions, 'version')} with {_count(checked.content_bytes, 'byte')} read"
        if checked.without_key:
            seen += f" ({checked.without_key} under customers' keys, whose encrypted bytes were compared)"
    found = _count(checked.faults, "fault") if checked.faults else "clean"
    return f"{seen}: {found}" + (f", {checked.repaired} repaired" if checked.repaired else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


@contextmanager
def progress_bars(*stages: str) -> Iterator[Progress | None]:
    """A bar on standard error, when somebody is looking at it."""
    if app().as_json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # faults go above the bar, or into the file they are sent to
    )
    with bars:
        tasks = {name: bars.add_task(name, total=None) for name in stages}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield advance
