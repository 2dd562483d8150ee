"""How s3lite's rates change with the size of objects, the number of connections and the number of keys.

.venv/bin/python bench/growth.py [--seconds 1] [--keys 1000000] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness
from figures import Figures
from harness import KIB, MIB, Client, Load, Signer, expect, pattern

from s3lite import bootstrap
from s3lite.catalog.base import Tx
from s3lite.ids import Ids
from s3lite.model import Acl, ObjectHead
from s3lite.settings import load
from s3lite.times import Clock

SIZES = (4 * KIB, 32 * KIB, 256 * KIB, 2 * MIB, 16 * MIB, 128 * MIB)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BATCH = 2000
PER_DIRECTORY = 1000  # keys that `fill` makes under each common prefix


def fill(data_dir: Path, bucket: str, first: int, last: int, *, under: str = "many", **settings: str) -> None:
    """Enter empty objects straight into the index: ``under/00000/00000000`` and on."""
    environment = harness.server_environment(data_dir, 0, **settings)
    loaded = load(environ={**environment, "S3LITE_DURABILITY": "relaxed"})
    storage = bootstrap.prepare(loaded, clock=Clock(), ids=Ids())
    acl, head = Acl("root"), ObjectHead()

    def work(tx: Tx, numbers: range) -> None:
        found = tx.bucket(bucket)
        assert found is not None
        for number in numbers:
            tx.insert_version(
                bucket_id=found.id, key=f"{under}/{number // PER_DIRECTORY:05}/{number:08}", version_id="null", size=0,
                etag="d41d8cd98f00b204e9800998ecf8427e", modified_ms=1_700_000_000_000 + number,
                owner_id="root", head=head, acl=acl,
            )  # fmt: skip

    for at in range(first, last, _BATCH):
        numbers = range(at, min(at + _BATCH, last))
        storage.catalog.write(lambda tx, numbers=numbers: work(tx, numbers))
    storage.catalog.close()
    storage.blobs.close()


def _rate(seconds: float, work: Callable[[], object]) -> float:
    begun, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() < begun + seconds:
        work()
        count += 1
    return count / (time.perf_counter() - begun)


def by_size(signer: Signer, bucket: str, seconds: float) -> list[dict[str, float]]:
    """PUT and GET of one connection, in MiB/s."""
    client = Client(signer)
    found = []
    for size in SIZES:
        target = f"/{bucket}/size-{size}"

        def put(target: str = target, size: int = size) -> None:
            expect(client.stream("PUT", target, pattern(size), size), 200)

        def get(target: str = target) -> None:
            expect(client.call("GET", target, sink=lambda _: None), 200)

        found.append(
            {"bytes": size, "put": _rate(seconds, put) * size / MIB, "get": _rate(seconds, get) * size / MIB}
        )
    client.close()
    return found


def by_connections(signer: Signer, bucket: str, seconds: float) -> list[dict[str, float]]:
    """Rates and 99th percentiles of small requests."""
    found = []
    for count in CONNECTIONS:
        bench = Figures(signer, keys=1000, connections=count)
        bench.bucket = bucket
        line: dict[str, float] = {"connections": count}
        for name, measure in (("get", bench.get), ("put", bench.put)):
            bench.load.latencies_s.clear()
            line[name] = measure(seconds)
            line[f"{name}_p99_ms"] = bench.load.latency_ms(0.99)
        bench.close()
        found.append(line)
    return found


def by_keys(signer: Signer, data_dir: Path, bucket: str, seconds: float, most: int) -> list[dict[str, float]]:
    """Pages per second, and small requests, in a bucket that grows tenfold each time."""
    found = []
    have = 0
    for keys in itertools.takewhile(lambda keys: keys <= most, (10**power for power in range(4, 9))):
        fill(data_dir, bucket, have, keys)
        have = keys
        host, port = signer.host.rsplit(":", 1)
        one = Load((host, int(port)), 1)

        def pages(query: str, one: Load = one, keys: int = keys) -> float:
            starts = [secrets.randbelow(max(keys - 100_000, 1)) for _ in range(50)]
            heads = [
                signer.head("GET", f"/{bucket}?{query}%2F{start // 1000:05}%2F{start:08}") for start in starts
            ]
            done, took = one.run(itertools.cycle(heads), seconds)
            return done / took

        numbers = [secrets.randbelow(keys) for _ in range(1000)]
        heads = [signer.head("HEAD", f"/{bucket}/many/{n // 1000:05}/{n:08}") for n in numbers]
        done, took = Load((host, int(port)), 8).run(itertools.cycle(heads), seconds, head=True)
        found.append(
            {
                "keys": keys,
                "list": pages("list-type=2&start-after=many"),
                "prefixes": pages("delimiter=%2F&list-type=2&max-keys=100&prefix=many%2F&start-after=many"),
                "head": done / took,
            }
        )
    return found


def measure(directory: Path, *, seconds: float, keys: int) -> dict[str, Any]:
    """All three, on a server of its own."""
    directory = directory / "growth"
    directory.mkdir()
    with harness.s3lite(directory) as server:
        signer = Signer(server.address)
        bench = Figures(signer, big=MIB, keys=1000)
        bench.prepare()
        return {
            "size": by_size(signer, bench.bucket, seconds),
            "connections": by_connections(signer, bench.bucket, seconds),
            "keys": by_keys(signer, directory / "data", bench.bucket, seconds, keys),
        }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    parser.add_argument("--keys", type=int, default=1_000_000, help="of the largest bucket")
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with harness.scratch(options.dir) as directory:
        found = measure(directory, seconds=options.seconds, keys=options.keys)
    for name, lines in found.items():
        for line in lines:
            print(name, *(f"{key} {value:,.1f}" for key, value in line.items()), sep="  ")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
