"""s3lite over PostgreSQL and Ceph RADOS, radosgw over the same Ceph cluster, s3lite over SQLite and files.

    .venv/bin/python bench/engines.py [--rounds 3] [--seconds 1] [--keys 100000] [--renew] [--json FILE]

Starts the engines by the scripts of tests/engines and all three servers on loopback, and measures each
figure on each server in turn, round after round. CPU is that of all processes that serve a request, those
of the engines included. Prints a Markdown table; ``--renew`` puts it into docs/scaling.md. radosgw (Debian's
package of that name) is left out where it is missing. Takes about six minutes, most of them to fill radosgw's
bucket.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import cycle, repeat
from pathlib import Path

import harness
import report
import storage
from bodies import Bodies
from figures import BIG, Figure, Figures
from growth import PER_DIRECTORY, fill
from harness import MIB, Client, Load, Signer, expect

PAIR, RADOSGW, EMBEDDED = "PostgreSQL + RADOS", "radosgw", "SQLite + files"
BUCKET = "listed"
DOCUMENT = harness.ROOT / "docs" / "scaling.md"
_COMPLETE = "CompleteMultipartUpload of them"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what is measured, and how many units of its rate make the operation that CPU is for."""

    figure: Figure
    unit: str
    per: float = 1.0


class Subject:
    """A server that is measured, and the roots of all processes that serve it."""

    def __init__(self, server: str, roots: Callable[[], list[int]], options: argparse.Namespace) -> None:
        host, port = server.removeprefix("http://").split(":")
        self._signer = Signer((host, int(port)))
        self._address = (host, int(port))
        self._roots = roots
        self._keys = options.keys
        small = Figures(self._signer, big=options.big, keys=1000)
        small.prepare()
        self._bodies = Bodies(self._signer, small.bucket, size=options.part, parts=options.parts)
        big, whole = options.big / MIB, options.part * options.parts / MIB
        parts = self._bodies.all()["multipart 512 MiB, 4 at a time"]
        self.rows = {
            "PUT 4 KiB, 8 clients": Row(small.put, "/s"),
            "GET 4 KiB, 8 clients": Row(small.get, "/s"),
            "DELETE, 8 clients": Row(small.delete, "/s"),
            f"PUT {big:.0f} MiB": Row(small.put_big, " MiB/s", big),
            f"GET {big:.0f} MiB": Row(small.get_big, " MiB/s", big),
            f"{whole:.0f} MiB in {options.parts} parts, 4 at a time": Row(parts, " MiB/s", whole),
            "page of 1,000 keys": Row(self._list, "/s"),
            f"page of {-(-self._keys // PER_DIRECTORY)} common prefixes": Row(self._list_prefixes, "/s"),
        }

    def make_bucket(self) -> None:
        """The one whose pages are measured."""
        with closing(Client(self._signer)) as client:
            expect(client.call("PUT", f"/{BUCKET}"), 200)

    def fill_by_requests(self) -> None:
        """What `growth.fill` enters into an index, where that is not ours."""

        def puts() -> Iterator[bytes]:
            for number in range(self._keys):
                target = f"/{BUCKET}/many/{number // PER_DIRECTORY:05}/{number:08}"
                yield self._signer.head("PUT", target, length=0)

        done, _ = Load(self._address, 32).run(puts(), 3600)
        if done != self._keys:
            raise RuntimeError(f"{done} of {self._keys} keys")

    def _pages(self, targets: Iterator[str], seconds: float) -> float:
        heads = (self._signer.head("GET", target) for target in targets)
        done, took = Load(self._address, 1).run(heads, seconds)
        return done / took

    def _list(self, seconds: float) -> float:
        """Pages of 1,000 keys from all over the bucket, one connection."""
        starts = range(0, max(self._keys - PER_DIRECTORY, 1), PER_DIRECTORY)
        return self._pages(
            cycle(
                f"/{BUCKET}?list-type=2&start-after=many%2F{at // PER_DIRECTORY:05}%2F{at:08}"
                for at in starts
            ),
            seconds,
        )

    def _list_prefixes(self, seconds: float) -> float:
        """All common prefixes of the bucket, one connection."""
        return self._pages(repeat(f"/{BUCKET}?delimiter=%2F&list-type=2&prefix=many%2F"), seconds)

    def measure(self, name: str, seconds: float) -> dict[str, float]:
        """One figure once: its rate, and the CPU ms of one operation."""
        row = self.rows[name]
        cpu_s, begun = storage.tree_cpu_s(self._roots()), time.perf_counter()
        rate = row.figure(seconds)
        operations = rate * (time.perf_counter() - begun) / row.per
        return {"rate": rate, "cpu_ms": (storage.tree_cpu_s(self._roots()) - cpu_s) / operations * 1000}

    def complete_ms(self) -> float:
        """Median of the CompleteMultipartUpload requests so far."""
        return statistics.median(self._bodies.complete_ms)


def subjects(stack: ExitStack, options: argparse.Namespace) -> dict[str, Subject]:
    """All servers, running and filled."""
    directory = stack.enter_context(harness.scratch(options.dir))
    database, cluster = stack.enter_context(storage.postgres()), stack.enter_context(storage.ceph())
    pair = {
        "S3LITE_DATABASE_URL": database.url,
        "S3LITE_BLOBS_URL": cluster.url,
        "S3LITE_KEY_FILE": str(directory / "secret.key"),
    }
    workers = str(options.workers or min(os.cpu_count() or 1, 8))
    found: dict[str, Subject] = {}
    for name, settings, engines in ((PAIR, pair, (database, cluster)), (EMBEDDED, {}, ())):
        (directory / name).mkdir()
        server = stack.enter_context(harness.s3lite(directory / name, S3LITE_WORKERS=workers, **settings))

        def roots(
            server: harness.Gunicorn = server, engines: tuple[storage.Engine, ...] = engines
        ) -> list[int]:
            return [server.process.pid, *(pid for engine in engines for pid in engine.roots())]

        host, port = server.address
        found[name] = Subject(f"{host}:{port}", roots, options)
        found[name].make_bucket()
        with _timed(f"{name} filled"):
            fill(directory / name / "data", BUCKET, 0, options.keys, **settings)
    if not storage.has_radosgw():
        print("radosgw is left out: apt install radosgw", file=sys.stderr)
        return found
    gateway = stack.enter_context(storage.radosgw(cluster))
    other = Subject(gateway.url, lambda: [*gateway.roots(), *cluster.roots()], options)
    other.make_bucket()
    with _timed(f"{RADOSGW} filled"):
        other.fill_by_requests()
    return {PAIR: found[PAIR], RADOSGW: other, EMBEDDED: found[EMBEDDED]}


@contextmanager
def _timed(what: str) -> Iterator[None]:
    """Says what has been done, and in which time: filling takes minutes."""
    begun = time.monotonic()
    yield
    print(f"{what} in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def measure(options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by line of the table and server."""
    with ExitStack() as stack:
        servers = subjects(stack, options)
        first = next(iter(servers.values()))
        samples: dict[str, dict[str, list[dict[str, float]]]] = {
            row: {name: [] for name in servers} for row in first.rows
        }
        for _ in range(options.rounds):
            for row, by_server in samples.items():
                for name, server in servers.items():
                    by_server[name].append(server.measure(row, options.seconds))
                    time.sleep(options.settle)
        found = {
            row: {name: _medians(each) for name, each in by_server.items()}
            for row, by_server in samples.items()
        }
        found[_COMPLETE] = {name: {"ms": server.complete_ms()} for name, server in servers.items()}
        units = {row: line.unit for row, line in first.rows.items()}
    for row, unit in units.items():
        for line in found[row].values():
            line["per_s"] = line.pop("rate")
            if "MiB" in unit:
                line["mib_per_s"] = line.pop("per_s")
    return found


def _medians(samples: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median([sample[key] for sample in samples]) for key in samples[0]}


def table(found: dict[str, dict[str, dict[str, float]]], options: argparse.Namespace) -> str:
    """The Markdown table, with a line that says what it is of."""
    names = list(next(iter(found.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    lines += [
        f"| {row} | " + " | ".join(_cell(by_server[name]) for name in names) + " |"
        for row, by_server in found.items()
    ]
    version = f"radosgw {storage.radosgw_version()} serves the same cluster; " if RADOSGW in names else ""
    about = (
        f"`bench/engines.py`, {time.strftime('%d %B %Y')}, {os.cpu_count()} cores, {options.rounds} rounds, medians: "
        "client, servers and engines on one machine, Ceph with a monitor and three OSDs and three copies of each "
        f"object, PostgreSQL and files synced; {version}"
        f"{options.keys:,} keys in the bucket that is listed. "
        "CPU is that of all server processes, Ceph's and PostgreSQL's included, for one operation."
    )
    return f"{about}\n\n" + "\n".join(lines) + "\n"


def _cell(line: dict[str, float]) -> str:
    if "ms" in line:
        return f"{line['ms']:.1f} ms"
    rate = f"{line['per_s']:,.0f}/s" if "per_s" in line else f"{line['mib_per_s']:,.0f} MiB/s"
    digits = 1 if line["cpu_ms"] < 100 else 0
    return f"{rate}, {line['cpu_ms']:,.{digits}f} ms CPU"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure, server and round")
    parser.add_argument("--settle", type=float, default=0.3, help="seconds between two measurements")
    parser.add_argument("--workers", type=int, default=0, help="of each s3lite; 0: one per core")
    parser.add_argument("--big", type=int, default=BIG, help="bytes of the large object")
    parser.add_argument("--part", type=int, default=16 * MIB, help="bytes of each part")
    parser.add_argument("--parts", type=int, default=32, help="of the object that is uploaded in parts")
    parser.add_argument("--keys", type=int, default=100_000, help="in the bucket that is listed")
    parser.add_argument("--dir", default=None, help="where to make s3lite's data directories")
    parser.add_argument("--renew", action="store_true", help="put the table into docs/scaling.md")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    if problems := storage.missing():
        sys.exit("\n".join(problems))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and so end the servers
    found = measure(options)
    text = table(found, options)
    print(text)
    if options.renew:
        report.splice(DOCUMENT, text, by="bench/engines.py")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
