"""What encryption costs: the same requests to a plain bucket and to one that encrypts, beside cipher and MD5.

    .venv/bin/python bench/encryption.py [--rounds 3] [--seconds 0.8] [--json FILE]

Starts s3lite as shipped (durability full) on a free loopback port. Rates are medians of the rounds, in
which plain and encrypted take turns; the ratio is that of medians.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import harness
from figures import BIG, Figure, Figures, interleaved, md5_rate
from harness import MIB, Client, Signer, expect

sys.path.insert(0, str(harness.ROOT))

from s3lite.crypto.aead import new_key
from s3lite.crypto.segments import Sealer, open_range, sealed_size

CIPHERS = ("seal", "open", "MD5")
_DEFAULT = (
    b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256"
    b"</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
)
_SHOWN = ("PUT 4 KiB", "GET 4 KiB", "PUT 64 MiB", "GET 64 MiB")
_RANGE = "GET 64 KiB of 64 MiB"


def seal_rate(seconds: float) -> float:
    """MiB/s of one core sealing an upload's pieces."""
    sealer, piece = Sealer(new_key()), secrets.token_bytes(MIB // 2)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        sealer.update(piece)
        count += 1
    return count / 2 / (time.perf_counter() - begun)


def open_rate(seconds: float) -> float:
    """MiB/s of one core opening a download's pieces."""
    size, key = 32 * MIB, new_key()
    sealer = Sealer(key)
    kept = sealer.update(bytes(size)) + sealer.finish()
    assert len(kept) == sealed_size(size)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        pieces = open_range(
            key, size=size, offset=0, length=size,
            read=lambda start, length: (kept[at : at + MIB] for at in range(start, start + length, MIB)),
        )  # fmt: skip
        count += sum(map(len, pieces))
    return count / MIB / (time.perf_counter() - begun)


def range_rate(client: Client, bucket: str, size: int) -> Figure:
    """Ranges of 64 KiB in random places of the large object, per second, one connection."""

    def measure(seconds: float) -> float:
        count, begun = 0, time.perf_counter()
        while count == 0 or time.perf_counter() < begun + seconds:
            start = secrets.randbelow(max(size - 65_536, 1))
            wanted = {"range": f"bytes={start}-{start + 65_535}"}
            expect(client.call("GET", f"/{bucket}/big", extra=wanted), 206)
            count += 1
        return count / (time.perf_counter() - begun)

    return measure


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Rates by figure: plain, encrypted, and their ratio; of the ciphers one rate."""
    with ExitStack() as stack:
        directory = stack.enter_context(harness.scratch(options.dir))
        server = stack.enter_context(harness.s3lite(directory))
        order: dict[str, Figure] = {"seal": seal_rate, "open": open_rate, "MD5": md5_rate}
        by_kind: dict[str, dict[str, Figure]] = {}
        for kind in ("plain", "encrypted"):
            signer = Signer(server.address)
            bench, client = Figures(signer, big=options.big, keys=options.keys), Client(signer)
            stack.callback(bench.close)
            stack.callback(client.close)
            expect(client.call("PUT", f"/{bench.bucket}"), 200)
            if kind == "encrypted":
                expect(client.call("PUT", f"/{bench.bucket}?encryption=", _DEFAULT), 200)
            bench.prepare()
            figures = {name: each for name, each in bench.all().items() if name in _SHOWN}
            by_kind[kind] = figures | {_RANGE: range_rate(client, bench.bucket, options.big)}
        for name in by_kind["plain"]:
            order |= {f"{name} {kind}": figures[name] for kind, figures in by_kind.items()}
        found = interleaved(order, options.rounds, options.seconds)
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    lines: dict[str, dict[str, float]] = {name: {"rate": medians[name]} for name in CIPHERS}
    for name in by_kind["plain"]:
        plain, encrypted = medians[f"{name} plain"], medians[f"{name} encrypted"]
        lines[name] = {"plain": plain, "encrypted": encrypted, "ratio": encrypted / plain}
    return lines


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.8, help="per figure and round")
    parser.add_argument("--big", type=int, default=BIG, help="bytes of the large object")
    parser.add_argument("--keys", type=int, default=1000, help="objects in each bucket")
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    found = measure(options)
    for name, line in found.items():
        if "ratio" in line:
            print(f"{name:<22}{line['plain']:>10,.0f}{line['encrypted']:>10,.0f}   {line['ratio']:.2f}")
        else:
            print(f"{name:<22}{line['rate']:>10,.0f} MiB/s, one core")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
