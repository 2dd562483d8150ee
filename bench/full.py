"""The full benchmark: every row of the targets, s3lite beside peers and beside what the machine could do.

    make bench-full                  # a quarter of an hour; renews docs/performance.md
    .venv/bin/python bench/full.py --rounds 1 --seconds 0.3 --no-peers --out DIR

All servers run at once and are measured in turn, round after round, so that whatever else the machine
does falls on all of them alike. What a peer refuses is left out of its medians and said on standard error. Then s3lite alone: growth with object size, connections and keys, tail
latency, many connections. Writes figures.json, tables.md and, where matplotlib is, plots.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import connections
import growth
import harness
import peers
import report
import tail
from bodies import Bodies
from figures import BIG, Figure, Figures, hello_rate, md5_rate, nginx_rate, sendfile_rate, sync_rate
from harness import Load, Signer
from quick import HELLO_4K, HELLO_EMPTY, HELLO_PAGE, LIST_PAGE_BYTES, MD5, NGINX, SENDFILE, SYNC

OUT = Path(__file__).resolve().parent.parent / "docs" / "performance"
S3LITE = "s3lite"


class Subject:
    """A server that is measured: what to measure, and where to read its CPU and memory."""

    def __init__(
        self, server: Any, signer: Signer, options: argparse.Namespace, *, form: bool = True
    ) -> None:
        self.server = server
        self.order: dict[str, tuple[Figure, Load | None]] = {}
        bench = self.bench = Figures(signer, big=options.big, keys=options.keys)
        bench.prepare()
        for name, measure in bench.all(form=form).items():
            if name != "PUT 64 MiB":  # of the bodies below
                is_small = "MiB" not in name and "LIST" not in name
                self.order[f"{name}, 8" if is_small else name] = (measure, bench.load if is_small else None)
        for count in (1, 32):
            other = Figures(signer, big=options.big, keys=options.keys, connections=count)
            other.bucket = bench.bucket
            self.order[f"PUT 4 KiB, {count}"] = (other.put, other.load)
            self.order[f"GET 4 KiB, {count}"] = (other.get, other.load)
        self.bodies = Bodies(signer, bench.bucket, size=options.big)
        for name, measure in self.bodies.all().items():
            self.order[name] = (measure, None)

    def ask(self, application: tuple[str, int]) -> None:
        """Measure uploads with a callback, too."""
        self.order[report.CALLED] = (self.bench.put_with_callback(application), self.bench.load)

    def measure(self, name: str, seconds: float) -> dict[str, float]:
        """One figure once: rate, CPU ms per request or per 64 MiB, latencies in ms."""
        measure, load = self.order[name]
        if load is not None:
            load.latencies_s.clear()
        cpu_s, begun = self.server.cpu_s(), time.perf_counter()
        rate = measure(seconds)
        moved = rate * (time.perf_counter() - begun)
        scale = 64_000 if "MiB" in name else 1000
        found = {"rate": rate, "cpu_ms": (self.server.cpu_s() - cpu_s) / moved * scale}
        if load is not None:
            found |= {"p50_ms": load.latency_ms(0.5), "p99_ms": load.latency_ms(0.99)}
        return found


def compared(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """All servers and limits in turn; medians by server and figure."""
    workers = min(os.cpu_count() or 1, 8)
    with ExitStack() as stack:
        other = stack.enter_context(harness.hello(directory, workers, 32))
        limits: dict[str, Figure] = {
            HELLO_4K: hello_rate(other.address, 4096, 8),
            HELLO_EMPTY: hello_rate(other.address, 0, 8),
            HELLO_PAGE: hello_rate(other.address, LIST_PAGE_BYTES, 1),
            MD5: md5_rate,
            SYNC: sync_rate(directory),
            SENDFILE: stack.enter_context(sendfile_rate(directory, options.big)),
        }
        nginx = stack.enter_context(nginx_rate(directory, options.big))
        limits[NGINX] = nginx or limits[SENDFILE]
        server = stack.enter_context(harness.s3lite(directory, S3LITE_CALLBACK_ALLOW="127.0.0.1"))
        idle_mib = server.memory_mib()
        subjects = {S3LITE: Subject(server, Signer(server.address), options)}
        subjects[S3LITE].ask(other.address)
        durability = {S3LITE: "bytes and index synced (`full`)"}
        for name in () if options.no_peers else peers.found():
            peer = stack.enter_context(peers.running(name, directory))
            subjects[name] = Subject(peer, peer.signer, options, form=peer.takes_forms)
            durability[name] = peer.durability
        found: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
        for _ in range(options.rounds):
            for figure in subjects[S3LITE].order:
                for limit in report.limits_of(figure):
                    found[limit]["limit"].append({"rate": limits[limit](options.seconds / 2)})
                for name, subject in subjects.items():
                    if figure not in subject.order:
                        continue
                    try:
                        found[figure][name].append(subject.measure(figure, options.seconds))
                    except RuntimeError as error:
                        if name == S3LITE:
                            raise
                        print(f"{name}, {figure}: {error}"[:300], file=sys.stderr)
        memory = {name: subject.server.memory_mib() for name, subject in subjects.items()}
        complete = {
            name: statistics.median(subject.bodies.complete_ms or [float("nan")])
            for name, subject in subjects.items()
        }
    return {
        "rows": {
            figure: {name: _medians(samples) for name, samples in each.items()}
            for figure, each in found.items()
        },
        "complete_ms": complete,
        "memory_mib": memory,
        "idle_mib": idle_mib,
        "durability": durability,
    }


def _medians(samples: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median([sample[key] for sample in samples]) for key in samples[0]}


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure and round")
    parser.add_argument("--big", type=int, default=BIG, help="bytes of the large object")
    parser.add_argument("--keys", type=int, default=10_000, help="objects in the bucket")
    parser.add_argument("--grow-to", type=int, default=1_000_000, help="keys of the largest bucket")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--dir", default=None, help="where to make the data directories")
    parser.add_argument("--out", type=Path, default=OUT, help="directory of the results")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and so end the servers
    with harness.scratch(options.dir) as directory:
        found = compared(options, directory)
        found["growth"] = growth.measure(directory, seconds=options.seconds, keys=options.grow_to)
        found["tail"] = tail.measure(
            directory, big=options.big * 16, keys=options.grow_to, seconds=4 * options.seconds
        )
        found["connections"] = connections.measure(directory, seconds=2 * options.seconds)
    text = json.dumps(found, indent=1) + "\n"
    for path in (options.out / "figures.json", options.json):
        if path:
            path.write_text(text)
    tables = f"{time.strftime('%d %B %Y')}, {options.rounds} rounds.\n\n{report.tables(found)}"
    (options.out / "tables.md").write_text(tables)
    print(tables)
    if options.out == OUT:
        report.splice(OUT.with_suffix(".md"), tables, by="bench/full.py")
        (OUT / "tables.md").unlink()
    report.plots(found, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
