"""Crash at every step: record a real run, cut its power wherever one likes, and look at what is left.

Invariants, named as in docs/reliability.md: I1 every row has its whole bytes; I2 what was acknowledged
is there; I3 what was not is there wholly or not at all; I4 what was refused changed nothing; I5 the sweep
removes nothing that is needed; I6 whoever was told of an upload finds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

from torture import trace
from torture.disk import Disk, Image, Node, Reader, Step
from torture.driver import settings
from torture.operations import Later, State, World, expect, md5

from s3lite.app import Application, create_app
from s3lite.catalog.questions import Chosen
from s3lite.core import read
from s3lite.core.check import Check
from s3lite.core.sweep import sweep
from s3lite.model import ObjectVersion

HOW = ("lost", "kept", "ordered", "any")
_STATE_S = 0.06  # what a state takes about, to spread a short time over a whole recording
TESTS = Path(__file__).resolve().parent.parent


@dataclass
class Ledger:
    """What the client knows at some moment: states that were acknowledged, changes that are on their way."""

    known: dict[str, State] = field(default_factory=dict)
    in_flight: dict[str, tuple[dict[str, State], bool]] = field(default_factory=dict)
    acknowledged: int = 0

    def take(self, text: str) -> None:
        """A mark of the driver: begin, told (the callback's receiver has it) or ack."""
        word, _, rest = text.partition(" ")
        name, _, more = rest.partition(" ")
        if word == "begin":
            changes, atomic = json.loads(more)
            self.in_flight[name] = changes, atomic
        elif name in self.in_flight:
            self.known.update(self.in_flight.pop(name)[0])
            self.acknowledged += 1

    def compare(self, actual: dict[str, State]) -> Iterator[str]:
        """What is neither the old state nor the new one."""
        open_changes = {
            name: state for changes, _ in self.in_flight.values() for name, state in changes.items()
        }
        for name in sorted(set(actual) | set(self.known) | set(open_changes)):
            seen, old = actual.get(name, []), self.known.get(name, [])
            if seen != old and (name not in open_changes or seen != open_changes[name]):
                yield f"{name}: is {seen}, acknowledged {old}, in flight {open_changes.get(name)}"
        for changes, atomic in self.in_flight.values():
            done = [actual.get(n, []) == new for n, new in changes.items() if new != self.known.get(n, [])]
            if atomic and any(done) and not all(done):
                yield f"half done: {changes}"


@dataclass(frozen=True, repr=False, slots=True)  # a repr would follow every node from every step
class Recording:
    """The steps of one run, and the directory that they are about."""

    steps: list[Step]
    root: Node
    before: Ledger  # what was known when it began

    @classmethod
    def make(
        cls,
        directory: Path,
        *,
        seed: int,
        rounds: int = 1,
        durability: str = "full",
        found: tuple[Image, Ledger] | None = None,
    ) -> Recording:
        """Run the driver under strace, on what a crash left if that is given. Raises RuntimeError."""
        home = Path(tempfile.mkdtemp(dir=directory))
        if found is not None:
            found[0].write(home)
        reader = Reader(home)
        command = [sys.executable, "-m", "torture.driver", str(home / "data"), "--seed", str(seed)]
        command += ["--rounds", str(rounds), "--durability", durability]
        trace.record(
            [*command, "--recover"] if found else command,
            directory / "trace",
            cwd=TESTS,
            environ=os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
        )
        steps = list(reader.steps(trace.calls(directory / "trace")))
        return cls(steps, reader.root, found[1] if found else Ledger())

    def nodes(self) -> Iterator[Node]:
        """Every file and directory that there ever was."""
        yield self.root
        for step in self.steps:
            yield from (node for node in (step.node, step.target) if node is not None)
        yield from _below(self.root)

    def until(self, number: int, how: str, chance: random.Random) -> tuple[Image, Ledger]:
        """What a crash before a step left, and what was known then."""
        disk, ledger = self.begin()
        for step in self.steps[:number]:
            ledger.take(step.text) if step.kind == "mark" else disk.take(step)
        return disk.cut(how, chance), ledger

    def begin(self, ignored: Callable[[Step], bool] = lambda step: False) -> tuple[Disk, Ledger]:
        """Disk and ledger before the first step."""
        for node in list(self.nodes()):
            node.forget()
        return Disk(self.root, ignored=ignored), deepcopy(self.before)


def survey(app: Application) -> dict[str, State]:
    """The states of everything, read back byte by byte."""
    store, found = app.services.store, {}
    with store.catalog.read() as tx:
        buckets = {bucket.id: bucket for bucket in tx.buckets(owner_id=None)}
        for bucket in buckets.values():
            found[f"bucket/{bucket.name}"] = [bucket.versioning]
            for upload in tx.list_uploads(bucket.id, lower=b"", upper=None, limit=10_000):
                rows = [f"{p.part_number} {p.etag}" for p in tx.parts(upload.row)]
                found[f"upload/{bucket.name}/{upload.key}"] = ["open", *rows]
        for message in tx.outbox_entries(Chosen(), dead=False, limit=10_000):
            found[f"outbox/{message.body.decode()}"] = ["waits"]
    for version in store.catalog.iter_versions():
        name = f"{buckets[version.bucket_id].name}/{version.key}"
        found.setdefault(name, []).insert(0, "marker" if version.is_delete_marker else _row(app, version))
    return found


def _row(app: Application, version: ObjectVersion) -> str:
    whole = hashlib.md5()
    size = 0
    for piece in read.read(app.services.store, version, offset=0, length=version.size):
        whole.update(piece)
        size += len(piece)
    tags = ",".join("=".join(tag) for tag in version.head.tags)
    return f"{whole.hexdigest()} {size} {version.head.metadata.get('mark', '')} {tags}"


def judge(directory: Path, ledger: Ledger, *, durability: str = "full") -> list[str]:
    """Open a data directory as a crash left it; what is wrong with it."""
    try:
        # Late enough for the leases of whoever died to be over.
        app = create_app(replace(settings(directory), durability=durability), clock=Later(200))
    except Exception as error:  # whatever it is, it is the finding
        return [f"does not open: {error!r}"]
    try:
        return list(_faults(app, ledger, is_full=durability == "full"))
    except Exception as error:
        return [f"fails: {error!r}"]
    finally:
        app.close()


def _faults(app: Application, ledger: Ledger, *, is_full: bool) -> Iterator[str]:
    store = app.services.store
    if not is_full:  # the index is sound, whatever it has forgotten
        yield from store.catalog.quick_check()
        with store.catalog.read() as tx:
            yield from tx.reference_faults(limit=10)
        return
    yield from ledger.compare(survey(app))
    ahead = replace(store, clock=Later(320))  # no gate waits any more
    sweep(ahead, rules=False)
    yield from (f"check: {fault}" for fault in Check(ahead, deep=True).faults())
    yield from (f"after the sweep: {fault}" for fault in ledger.compare(survey(app)))
    left = sum(1 for _ in store.blobs.scan())
    with store.catalog.read() as tx:
        counts = tx.counts()
    if left != counts["blobs"] - counts["inline"]:
        yield f"{left} files for {counts}"
    yield from _goes_on(app)


def _goes_on(app: Application) -> Iterator[str]:
    """It works as if nothing had been."""
    world = World(app, random.Random(0))
    expect(world.s3.put("/afterwards"), 200)
    for body in (b"small", bytes(9000)):
        expect(world.s3.put("/afterwards/key", body), 200)
        if md5(world.s3.get("/afterwards/key").body) != md5(body):
            yield "a new object is not what was put"
    expect(world.s3.delete("/afterwards/key"), 204)


@dataclass
class Campaign:
    """Tries states of one recording until time is up; ``counts`` says how many of which kind."""

    recording: Recording
    seed: int
    durability: str = "full"
    ignored: Callable[[Step], bool] = lambda step: False
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    most_findings: int = 5
    _seen: set[bytes] = field(default_factory=set)

    def every(self, how: str, *, share: float = 1.0, deadline: float = float("inf")) -> None:
        """Crash before each step (or, by chance, a share of them). "lost" only where a sync changes it."""
        chance = random.Random(f"{self.seed} {how}")
        disk, ledger = self.recording.begin(self.ignored)
        for number, step in enumerate(self.recording.steps):
            if how != "lost" or step.kind == "sync" or step.text == "end":
                if chance.random() < share:
                    self._try(
                        disk.cut(how, chance), ledger, f"{how} before step {number} ({step.kind} {step.text})"
                    )
                if time.monotonic() > deadline or len(self.findings) >= self.most_findings:
                    return
            if step.kind == "mark":
                ledger.take(step.text)
            else:
                disk.take(step)

    def _try(self, image: Image, ledger: Ledger, where: str) -> None:
        digest = image.digest() + repr((ledger.acknowledged, sorted(ledger.in_flight))).encode()
        if digest in self._seen:
            return
        self._seen.add(digest)
        self.counts[where.partition(" ")[0]] += 1
        directory = Path(tempfile.mkdtemp(prefix="s3lite-torture-", dir=scratch()))
        try:
            image.write(directory)
            if (directory / "data").is_dir() or not ledger.known or self.durability != "full":
                found = judge(directory / "data", ledger, durability=self.durability)
            else:
                found = ["the data directory is gone"]
            self.findings += [f"seed {self.seed}, {where}: {text}" for text in found[:3]]
        finally:
            shutil.rmtree(directory)


def _below(directory: Node) -> Iterator[Node]:
    for node in directory.first[1].values():
        yield node
        yield from _below(node)


def scratch() -> str | None:
    """Memory, where there is some: thousands of directories come and go."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def campaign(seed: int, deadline: float, counts: Counter[str]) -> list[str]:
    """New recordings until time is up: every state of each, then crashes while recovering from some."""
    if reason := trace.missing():
        return [f"not run: {reason}"]
    findings: list[str] = []
    while time.monotonic() < deadline and not findings:
        chance = random.Random(seed)
        with tempfile.TemporaryDirectory() as directory:
            recording = Recording.make(Path(directory), seed=seed, rounds=2)
            counts["recordings"] += 1
            counts["steps"] += len(recording.steps)
            findings += _exhaust(recording, seed, deadline, counts)
            for how in HOW:
                left = recording.until(chance.randrange(len(recording.steps)), how, chance)
                if not any(path == "data" for path, _ in left[0].files()):
                    continue
                again = Recording.make(Path(directory), seed=seed, found=left)
                counts["recoveries"] += 1
                findings += _exhaust(again, seed, deadline, counts)
        seed += 1000
    return findings


def _exhaust(recording: Recording, seed: int, deadline: float, counts: Counter[str]) -> list[str]:
    tried = Campaign(recording, seed)
    left_s = deadline - time.monotonic()
    share = min(1.0, left_s / (len(recording.steps) * len(HOW) * _STATE_S))
    for how in HOW:
        tried.every(how, share=share, deadline=deadline)
    counts.update(tried.counts)
    return tried.findings
