"""One, two and three s3lite nodes over the same PostgreSQL and Ceph cluster, with a worker process each.

    .venv/bin/python bench/nodes.py [--nodes 1 2 3] [--rounds 3] [--seconds 2] [--renew] [--json FILE]

All nodes run all the time; what changes is how many of them the requests go to, in turn, one connection after
another. CPU is that of all server processes, those of the engines included. On one machine the cores end what
nodes can add, so the line to read is the CPU per request: it must not rise with the number of nodes. Prints a
Markdown table; ``--renew`` puts it into docs/scaling.md. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import harness
import report
import storage
from engines import DOCUMENT
from figures import Figures
from harness import Gunicorn, Signer

_TITLES = {"put": "PUT 4 KiB", "get": "GET 4 KiB", "delete": "DELETE"}  # by methods of `Figures`
Lines = dict[str, dict[int, dict[str, float]]]


def start_nodes(
    stack: ExitStack, directory: Path, count: int, engines: list[storage.Engine]
) -> list[Gunicorn]:
    """Nodes with a worker each and a key file that they share."""
    database, cluster = engines
    nodes = []
    for number in range(1, count + 1):
        place = directory / f"node{number}"
        place.mkdir()
        node = harness.s3lite(
            place,
            S3LITE_WORKERS="1",
            S3LITE_DATABASE_URL=database.url,
            S3LITE_BLOBS_URL=cluster.url,
            S3LITE_KEY_FILE=str(directory / "secret.key"),
        )
        nodes.append(stack.enter_context(node))
    return nodes


def measure(options: argparse.Namespace) -> Lines:
    """Medians by figure and number of nodes."""
    with ExitStack() as stack:
        directory = stack.enter_context(harness.scratch(options.dir))
        engines = [stack.enter_context(storage.postgres()), stack.enter_context(storage.ceph())]
        nodes = start_nodes(stack, directory, max(options.nodes), engines)
        first = Figures(Signer(nodes[0].address), big=4096, keys=options.keys)
        first.prepare()
        samples: dict[str, dict[int, list[dict[str, float]]]] = {}
        for _ in range(options.rounds):
            for count in options.nodes:
                roots = [pid for engine in engines for pid in engine.roots()]
                roots += [node.process.pid for node in nodes[:count]]
                for name in _TITLES:  # what is put is deleted
                    line = one(name, nodes[:count], first, roots, options)
                    samples.setdefault(name, {}).setdefault(count, []).append(line)
                    time.sleep(options.settle)
    return {
        name: {
            count: {key: statistics.median([line[key] for line in lines]) for key in lines[0]}
            for count, lines in by_count.items()
        }
        for name, by_count in samples.items()
    }


def one(
    name: str, nodes: list[Gunicorn], figures: Figures, roots: list[int], options: argparse.Namespace
) -> dict[str, float]:
    """One figure once, its connections spread over ``nodes``."""
    first, *more = [node.address for node in nodes]
    figures.load = harness.Load(first, options.connections, more=more)
    cpu_s, begun = storage.tree_cpu_s(roots), time.perf_counter()
    rate = getattr(figures, name)(options.seconds)
    moved = rate * (time.perf_counter() - begun)
    return {
        "per_s": rate,
        "cpu_ms": (storage.tree_cpu_s(roots) - cpu_s) / moved * 1000,
        "p99_ms": figures.load.latency_ms(0.99),
    }


def table(found: Lines, options: argparse.Namespace) -> str:
    """The Markdown table, with a line that says what it is of."""
    lines = [
        "| | " + " | ".join(f"{count} node{'s' * (count > 1)}" for count in options.nodes) + " |",
        "|---|" + "---:|" * len(options.nodes),
    ]
    for name, by_count in found.items():
        cells = [
            f"{line['per_s']:,.0f}/s, {line['cpu_ms']:.1f} ms CPU, p99 {line['p99_ms']:.0f} ms"
            for line in by_count.values()
        ]
        lines.append(f"| {_TITLES[name]}, {options.connections} clients | " + " | ".join(cells) + " |")
    about = (
        f"`bench/nodes.py`, {time.strftime('%d %B %Y')}, {os.cpu_count()} cores, {options.rounds} rounds, medians: "
        "nodes with one worker process each, PostgreSQL, the Ceph cluster and the client on one machine, whose cores "
        "all of them share; the client goes round the nodes. CPU is that of all server processes for one operation."
    )
    return f"{about}\n\n" + "\n".join(lines) + "\n"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3], help="numbers of nodes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per figure, number of nodes and round")
    parser.add_argument("--settle", type=float, default=0.3, help="seconds between two measurements")
    parser.add_argument(
        "--connections", type=int, default=12, help="of the client: a multiple of each number"
    )
    parser.add_argument("--keys", type=int, default=1000, help="objects that are read")
    parser.add_argument("--dir", default=None, help="where to make the nodes' directories")
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
        report.splice(DOCUMENT, text, by="bench/nodes.py")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
