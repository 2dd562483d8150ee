"""Latency of small GETs while the same server is busy with large things.

    .venv/bin/python bench/tail.py [--big BYTES] [--keys 1000000] [--json FILE]

Idle, then beside four uploads, beside a lifecycle sweep over many keys, beside the removal of a large
object's parts and a checkpoint, and beside all of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import growth
import harness
from figures import Figures
from harness import GIB, MIB, Client, Load, Signer, expect, pattern

_UPLOADS = 4
_LIFECYCLE = b"""<LifecycleConfiguration><Rule><ID>all</ID><Filter><Prefix>many/</Prefix></Filter>
<Status>Enabled</Status><Expiration><Days>36500</Days></Expiration></Rule></LifecycleConfiguration>"""


def _upload(address: tuple[str, int], bucket: str, number: int, size: int) -> None:
    """A process of its own: uploads one object after the other until it is ended."""
    client = Client(Signer(address))
    while True:
        expect(client.stream("PUT", f"/{bucket}/upload-{number}", pattern(size), size), 200)


@contextmanager
def uploads(address: tuple[str, int], bucket: str, size: int) -> Iterator[None]:
    """Four at once."""
    processes = [
        multiprocessing.Process(target=_upload, args=(address, bucket, number, size), daemon=True)
        for number in range(_UPLOADS)
    ]
    for process in processes:
        process.start()
    time.sleep(0.5)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def latencies(address: tuple[str, int], bucket: str, signer: Signer, seconds: float) -> dict[str, float]:
    """Of GETs of 4 KiB at four connections."""
    load = Load(address, 4)
    heads = [signer.head("GET", f"/{bucket}/list/{number:06}") for number in range(0, 1000, 7)]
    done, took = load.run(itertools.cycle(heads), seconds)
    return {
        "rate": done / took,
        **{f"p{share * 100:g}_ms": load.latency_ms(share) for share in (0.5, 0.9, 0.99, 0.999)},
    }


def measure(directory: Path, *, big: int, keys: int, seconds: float = 4.0) -> dict[str, dict[str, float]]:
    """By what goes on beside the GETs."""
    directory = directory / "tail"
    directory.mkdir()
    found: dict[str, dict[str, float]] = {}
    with harness.s3lite(directory, S3LITE_SWEEP_INTERVAL_S="3600") as server:
        signer = Signer(server.address)
        bench = Figures(signer, big=MIB, keys=1000)
        bench.prepare()
        bucket = bench.bucket
        found["idle"] = latencies(server.address, bucket, signer, seconds)
        with uploads(server.address, bucket, big):
            found[f"{_UPLOADS} uploads"] = latencies(server.address, bucket, signer, seconds)
        growth.fill(directory / "data", bucket, 0, keys)
        client = Client(signer)
        expect(client.call("PUT", f"/{bucket}?lifecycle=", _LIFECYCLE, extra=_md5(_LIFECYCLE)), 200)
        client.close()
    # Upkeep at once and without a pause: rules that match no age walk over every key.
    busy = {"S3LITE_SWEEP_INTERVAL_S": "0.01", "S3LITE_LIFECYCLE_DAY_SECONDS": "1"}
    with harness.s3lite(directory, **busy) as server:
        signer = Signer(server.address)
        time.sleep(1)
        found["lifecycle sweep"] = latencies(server.address, bucket, signer, seconds)
        with uploads(server.address, bucket, big):
            found["both"] = latencies(server.address, bucket, signer, seconds)
    return found


def _md5(document: bytes) -> dict[str, str]:
    import base64
    import hashlib

    return {"content-md5": base64.b64encode(hashlib.md5(document).digest()).decode()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--big", type=int, default=GIB, help="bytes of each upload")
    parser.add_argument("--keys", type=int, default=1_000_000, help="that the sweep walks over")
    parser.add_argument("--seconds", type=float, default=4.0, help="per line")
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with harness.scratch(options.dir) as directory:
        found: dict[str, Any] = measure(
            directory, big=options.big, keys=options.keys, seconds=options.seconds
        )
    for name, line in found.items():
        print(f"{name:<18}", *(f"{key} {value:,.2f}" for key, value in line.items()), sep="  ")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
