"""Memory of the workers while objects of gigabytes pass through: PUT, form POST, multipart upload, GET.

    .venv/bin/python bench/memory.py [--gib 4]

Starts s3lite as shipped with a temporary data directory, notes each worker's idle memory, then sends and
fetches objects of that size, resetting the kernel's high-water mark before each. Exit code 1 when a
worker's peak exceeds its idle memory by more than 64 MiB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import harness
from figures import in_parallel
from harness import GIB, MIB, Client, Gunicorn, Signer, expect, pattern

LIMIT = 64 * MIB
PART = 64 * MIB
PARALLEL = 4


class Memory:
    """Resident memory of the workers, and its high-water mark since `reset`."""

    def __init__(self, server: Gunicorn) -> None:
        self._pids = server.workers()
        self.idle = self._read("VmRSS")

    def _read(self, field: str) -> dict[int, int]:
        found = {}
        for pid in self._pids:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(field):
                    found[pid] = int(line.split()[1]) << 10
        return found

    def reset(self) -> None:
        """Begin the high-water mark anew (proc(5), clear_refs)."""
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peaks(self) -> dict[int, int]:
        """Bytes by pid."""
        return self._read("VmHWM")


class Transfers:
    """The four ways of a large object in and out."""

    def __init__(self, signer: Signer, size: int) -> None:
        self._signer = signer
        self._client = Client(signer, timeout_s=600)
        self._size = size
        digest = hashlib.md5(usedforsecurity=False)
        for piece in pattern(size):
            digest.update(piece)
        self._etag = digest.hexdigest()
        expect(self._client.call("PUT", "/memory"), 200)

    def _check(self, key: str) -> None:
        answer = expect(self._client.call("HEAD", f"/memory/{key}"), 200)
        if answer.etag != self._etag or int(answer.headers["content-length"]) != self._size:
            raise RuntimeError(f"{key} is not what was sent: {answer.headers}")

    def put(self) -> None:
        """One PUT, payload unsigned."""
        expect(self._client.stream("PUT", "/memory/put", pattern(self._size), self._size), 200)
        self._check("put")

    def post(self) -> None:
        """One form with a signed policy."""
        answer = self._client.post_form("memory", "post", pattern(self._size), self._size)
        expect(answer, 200, 201, 204)
        self._check("post")

    def multipart(self) -> None:
        """Parts of 64 MiB, four at a time."""
        target = "/memory/multipart"
        text = expect(self._client.call("POST", f"{target}?uploads="), 200).body.decode()
        upload = text.partition("<UploadId>")[2].partition("<")[0]
        sizes = [min(PART, self._size - at) for at in range(0, self._size, PART)]
        etags = [""] * len(sizes)

        def some(lane: int) -> None:
            client = Client(self._signer, timeout_s=600)
            for number in range(lane, len(sizes), PARALLEL):
                part = f"{target}?partNumber={number + 1}&uploadId={upload}"
                answer = client.stream("PUT", part, pattern(sizes[number]), sizes[number])
                etags[number] = expect(answer, 200).etag
            client.close()

        in_parallel(PARALLEL, some)
        rows = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        expect(self._client.call("POST", f"{target}?uploadId={upload}", body), 200)

    def get(self, key: str) -> None:
        """All of an object, counted and thrown away."""
        received = 0

        def count(piece: memoryview) -> None:
            nonlocal received
            received += len(piece)

        expect(self._client.call("GET", f"/memory/{key}", sink=count), 200)
        if received != self._size:
            raise RuntimeError(f"{received} bytes of {key} came back")

    def remove(self) -> None:
        """Delete the objects."""
        for key in ("put", "post", "multipart"):
            expect(self._client.call("DELETE", f"/memory/{key}"), 204)
        self._client.close()


def measure(server: Gunicorn, size: int) -> list[dict[str, object]]:
    """A line for each transfer."""
    transfers = Transfers(Signer(server.address), size)
    time.sleep(1)
    memory = Memory(server)
    steps: dict[str, Callable[[], None]] = {
        "PUT": transfers.put,
        "form POST": transfers.post,
        "multipart, 4 parallel": transfers.multipart,
        "GET": lambda: transfers.get("put"),
        "GET of a multipart object": lambda: transfers.get("multipart"),
    }
    lines: list[dict[str, object]] = []
    for name, step in steps.items():
        memory.reset()
        begun = time.perf_counter()
        step()
        took = time.perf_counter() - begun
        workers = [
            {
                "idle_mib": round(memory.idle[pid] / MIB, 1),
                "over_mib": round((peak - memory.idle[pid]) / MIB, 1),
            }
            for pid, peak in memory.peaks().items()
        ]
        lines.append({"step": name, "mib_s": round(size / MIB / took), "workers": workers})
    transfers.remove()
    return lines


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=4.0, help="size of the objects")
    parser.add_argument("--durability", choices=("full", "relaxed"), default="full")
    parser.add_argument("--encryption", choices=("none", "AES256"), default="none", help="of all objects")
    parser.add_argument("--dir", default=None, help="where to make the data directory (needs 3 × the size)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with (
        harness.scratch(options.dir) as directory,
        harness.s3lite(
            directory, S3LITE_DURABILITY=options.durability, S3LITE_ENCRYPTION_DEFAULT=options.encryption
        ) as server,
    ):
        lines = measure(server, int(options.gib * GIB))
    most = 0.0
    print(f"{options.gib:g} GiB; memory of each worker: idle + peak above it, MiB")
    for line in lines:
        workers = line["workers"]
        assert isinstance(workers, list)
        most = max(most, *(worker["over_mib"] for worker in workers))
        text = ", ".join(f"{worker['idle_mib']} + {worker['over_mib']}" for worker in workers)
        print(f"  {line['step']:<28} {line['mib_s']:>6} MiB/s   {text}")
    if options.json:
        options.json.write_text(json.dumps(lines, indent=1) + "\n")
    print(f"at most {most:.1f} MiB above idle; allowed {LIMIT // MIB}")
    return 1 if most > LIMIT / MIB else 0


if __name__ == "__main__":
    sys.exit(main())
