"""The quick benchmark: s3lite's main rates beside what this machine could do at most, in under a minute.

    .venv/bin/python bench/quick.py [--rounds 3] [--seconds 0.8] [--json FILE]

Starts s3lite as shipped (durability full) and a hello-world gunicorn with as many workers, both on
free loopback ports. Each rate is measured next to its limit, several times; the table has medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

import harness
from figures import (
    BIG,
    CONNECTIONS,
    Figure,
    Figures,
    copy_rate,
    hello_rate,
    interleaved,
    md5_rate,
    median_ratio,
    sendfile_rate,
    sync_rate,
)
from harness import Gunicorn, Signer

HELLO_EMPTY, HELLO_4K, HELLO_PAGE = "hello, empty", "hello, 4 KiB", "hello, 280 KB"
MD5, SYNC, COPY, SENDFILE, NGINX = "MD5, one core", "fdatasync 4 KiB", "copy + sync", "sendfile", "nginx"

# Figure: (its limit, the ratio that is aimed at); docs/performance.md has the reasons.
GOALS = {
    "PUT 4 KiB": (SYNC, None),
    "GET 4 KiB": (HELLO_4K, 0.6),
    "HEAD": (HELLO_EMPTY, 0.6),
    "DELETE": (SYNC, None),
    "LIST 1000": (HELLO_PAGE, None),
    "LIST 100 prefixes": (HELLO_4K, None),
    "PUT 64 MiB": (MD5, 0.9),
    "GET 64 MiB": (SENDFILE, 0.8),
    "form POST 64 MiB": (MD5, 0.85),
}
LIST_PAGE_BYTES = 280_000
_SLOW = ("MiB", "MD5", "copy", "sendfile")


def unit(name: str) -> str:
    """What a figure is counted in."""
    return "MiB/s" if any(word in name for word in _SLOW) and "4 KiB" not in name else "/s"


class CpuMeter:
    """Wraps figures to note the server's CPU seconds; `per` gives it per unit of the rate."""

    def __init__(self, server: Gunicorn) -> None:
        self._server = server
        self._used: dict[str, list[float]] = {}

    def wrap(self, name: str, measure: Figure) -> Figure:
        """``measure``, watched."""

        def watched(seconds: float) -> float:
            before, begun = self._server.cpu_s(), harness.time.perf_counter()
            rate = measure(seconds)
            took = harness.time.perf_counter() - begun
            self._used.setdefault(name, []).append((self._server.cpu_s() - before) / (rate * took))
            return rate

        return watched

    def per(self, name: str) -> float:
        """Median CPU ms per request, or per 64 MiB."""
        scale = 64 if unit(name) == "MiB/s" else 1
        return statistics.median(self._used[name]) * 1000 * scale


def measure(options: argparse.Namespace) -> dict[str, dict[str, float | str | None]]:
    """All rates with their limits."""
    workers = options.workers or min(os.cpu_count() or 1, 8)
    with ExitStack() as stack:
        directory = stack.enter_context(harness.scratch(options.dir))
        server = stack.enter_context(
            harness.s3lite(directory, S3LITE_WORKERS=str(workers), S3LITE_DURABILITY=options.durability)
        )
        other = stack.enter_context(harness.hello(directory, workers, 32))
        bench = Figures(Signer(server.address), big=options.big, keys=options.keys)
        stack.callback(bench.close)
        bench.prepare()
        limits: dict[str, Figure] = {
            HELLO_4K: hello_rate(other.address, 4096, CONNECTIONS),
            HELLO_EMPTY: hello_rate(other.address, 0, CONNECTIONS),
            HELLO_PAGE: hello_rate(other.address, LIST_PAGE_BYTES, 1),
            MD5: md5_rate,
            SYNC: sync_rate(directory),
            COPY: copy_rate(directory, options.big),
            SENDFILE: stack.enter_context(sendfile_rate(directory, options.big)),
        }
        meter = CpuMeter(server)
        figures = {name: meter.wrap(name, each) for name, each in bench.all().items()}
        order: dict[str, Figure] = {}
        for name, each in figures.items():  # each limit right before the figures that it bounds
            limit = GOALS[name][0]
            order.setdefault(limit, limits[limit])
            order[name] = each
        order[COPY] = limits[COPY]
        found = interleaved(order, options.rounds, options.seconds)
        return {name: row(name, found, meter) for name in found}


def row(name: str, found: dict[str, list[float]], meter: CpuMeter) -> dict[str, float | str | None]:
    """A figure's line of the table."""
    line: dict[str, float | str | None] = {"rate": statistics.median(found[name]), "unit": unit(name)}
    if name in GOALS:
        limit, aim = GOALS[name]
        ratio = median_ratio(found[name], found[limit])
        line |= {"limit": limit, "ratio": ratio, "aim": aim, "cpu_ms": meter.per(name)}
    return line


def show(found: dict[str, dict[str, float | str | None]]) -> None:
    """Print the table."""
    print(f"{'':<18}{'rate':>10}       {'of its limit':>12}  {'aim':>5}  {'server CPU ms':>13}")
    for name, line in found.items():
        text = f"{name:<18}{line['rate']:>10,.0f} {line['unit']:<6}"
        if "limit" in line:
            aim = f"{line['aim']:.2f}" if line["aim"] else ""
            text += f"{line['ratio']:>12.2f}  {aim:>5}  {line['cpu_ms']:>13.2f}   {line['limit']}"
        else:
            text += "   (limit)"
        print(text)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="per figure and round")
    parser.add_argument("--workers", type=int, default=0, help="of both servers; 0: one per core")
    parser.add_argument("--durability", choices=("full", "relaxed"), default="full")
    parser.add_argument("--big", type=int, default=BIG, help="bytes of the large object")
    parser.add_argument("--keys", type=int, default=10_000, help="objects in the bucket")
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    found = measure(options)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
