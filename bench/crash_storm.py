"""kill -9 of the whole server under load, again and again: nothing acknowledged is lost, nothing half is shown.

    .venv/bin/python bench/crash_storm.py --rounds 50 [--seed N]

Each round loads a running s3lite (PUTs of several sizes, overwrites of own and of shared keys, multipart
uploads, forms, copies, deletes), kills its process group at a random moment, starts it again on the same
data and compares every key with its history: it must hold a value that was in flight, or an acknowledged
one that no later acknowledged write replaced, byte for byte, and be listed with that size, or not at all.
At the end, with the server down, ``s3lite sweep`` and ``s3lite check --deep`` must find nothing wrong.
Exit code 1 on any violation. The kernel survives these crashes; a power cut is another test.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import harness
from harness import KIB, MIB, ROOT, Answer, Client, Gunicorn, Signer, path_of

BUCKET = "storm"
WRITERS = 6
OWN_KEYS = 12
SHARED_KEYS = 6
SIZES = (0, 10, 5_000, 32 * KIB, 32 * KIB + 1, 100_000, 3 * MIB)
SETTINGS = {"S3LITE_LIMITS_PART_MIN_BYTES": "1024"}
ABSENT = None  # the value of a key that is not there


@dataclass
class Write:
    """One attempt to give a key a value: a digest and a size, or `ABSENT`. Without ``end`` it was in flight."""

    value: tuple[str, int] | None
    begin: float
    end: float | None = None


class History:
    """What was tried on each key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes: dict[str, list[Write]] = {}
        self.counts: Counter[str] = Counter()

    def begin(self, key: str, value: tuple[str, int] | None) -> Write:
        """Before a request goes out."""
        write = Write(value, time.monotonic())
        with self._lock:
            self._writes.setdefault(key, [Write(ABSENT, 0, 0)]).append(write)
        return write

    def acknowledge(self, kind: str, write: Write) -> None:
        """The server said that it is done."""
        write.end = time.monotonic()
        with self._lock:
            self.counts[kind] += 1

    def allowed(self, key: str) -> list[tuple[str, int] | None]:
        """Values that the key may hold now that nobody writes."""
        writes = self._writes[key]
        last_begin = max(write.begin for write in writes if write.end is not None)
        return [write.value for write in writes if write.end is None or write.end >= last_begin]

    def settle(self, key: str, value: tuple[str, int] | None) -> None:
        """The key was seen to hold ``value``: nothing older can come back."""
        self._writes[key] = [Write(value, 0, 0)]

    def keys(self) -> list[str]:
        """Every key that was ever tried."""
        return list(self._writes)


class Writer(threading.Thread):
    """Does one thing after the other until the server dies."""

    def __init__(self, signer: Signer, number: int, history: History, seed: int) -> None:
        super().__init__(daemon=True)
        self._client = Client(signer, timeout_s=20)
        self._number = number
        self._history = history
        self._random = random.Random(seed)
        self._own: dict[str, tuple[str, int]] = {}  # acknowledged in this round, for copies
        self.fault = ""

    def run(self) -> None:
        steps: list[Callable[[str, bytes], None]] = [self._put, self._post, self._multipart]
        try:
            while True:
                chance = self._random.random()
                key = self._key()
                if chance < 0.12:
                    self._remove(key)
                elif chance < 0.24 and self._own:
                    self._copy(key)
                else:
                    body = self._random.randbytes(self._random.choice(SIZES))
                    self._random.choices(steps, (6, 2, 2))[0](key, body)
        except (OSError, http.client.HTTPException):
            pass  # the server is gone
        except RuntimeError as error:
            self.fault = str(error)
        finally:
            self._client.close()

    def _key(self) -> str:
        if self._random.random() < 0.25:
            return f"shared/{self._random.randrange(SHARED_KEYS)}"
        return f"own {self._number}/{self._random.randrange(OWN_KEYS)}"

    def _attempt(
        self, kind: str, key: str, value: tuple[str, int] | None, request: Callable[[], Answer]
    ) -> None:
        write = self._history.begin(key, value)
        harness.expect(request(), 200, 204)
        self._history.acknowledge(kind, write)
        if key.startswith("own"):
            if value is None:
                self._own.pop(key, None)
            else:
                self._own[key] = value

    def _put(self, key: str, body: bytes) -> None:
        self._attempt("PUT", key, digest(body), lambda: self._client.call("PUT", path_of(BUCKET, key), body))

    def _post(self, key: str, body: bytes) -> None:
        self._attempt(
            "form POST", key, digest(body), lambda: self._client.post_form(BUCKET, key, [body], len(body))
        )

    def _remove(self, key: str) -> None:
        self._attempt("DELETE", key, ABSENT, lambda: self._client.call("DELETE", path_of(BUCKET, key)))

    def _copy(self, key: str) -> None:
        source, value = self._random.choice(list(self._own.items()))
        if source == key:
            return
        extra = {"x-amz-copy-source": path_of(BUCKET, source)}
        self._attempt("copy", key, value, lambda: self._client.call("PUT", path_of(BUCKET, key), extra=extra))

    def _multipart(self, key: str, body: bytes) -> None:
        target = path_of(BUCKET, key)
        begun = harness.expect(self._client.call("POST", f"{target}?uploads="), 200).body.decode()
        upload = begun.partition("<UploadId>")[2].partition("<")[0]
        cut = max(len(body) // 2, 1024)
        rows = ""
        for number, piece in enumerate((body[:cut], body[cut:]) if len(body) > cut else (body,), 1):
            part = f"{target}?partNumber={number}&uploadId={upload}"
            etag = harness.expect(self._client.call("PUT", part, piece), 200).etag
            rows += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        self._attempt(
            "multipart",
            key,
            digest(body),
            lambda: self._client.call("POST", f"{target}?uploadId={upload}", document),
        )


def digest(body: bytes) -> tuple[str, int]:
    """What is remembered of a body."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest(), len(body)


def listed(client: Client) -> Iterator[tuple[str, int]]:
    """Key and size of every object that the server lists."""
    token = ""
    while True:
        after = f"continuation-token={harness.quote(token, safe='')}&" if token else ""
        query = f"{after}list-type=2"
        document = ElementTree.fromstring(harness.expect(client.call("GET", f"/{BUCKET}?{query}"), 200).body)
        space = document.tag.partition("}")[0] + "}"
        for row in document.iter(f"{space}Contents"):
            yield row.findtext(f"{space}Key", ""), int(row.findtext(f"{space}Size", "-1"))
        token = document.findtext(f"{space}NextContinuationToken", "")
        if not token:
            return


def verify(server: Gunicorn, history: History) -> list[str]:
    """What is wrong; afterwards the history of each key is what was seen."""
    client = Client(Signer(server.address))
    faults = []
    sizes = dict(listed(client))
    known = history.keys()
    faults += [f"{key}: listed, and nobody wrote it" for key in sizes if key not in known]
    for key in known:
        answer = harness.expect(client.call("GET", path_of(BUCKET, key)), 200, 404)
        seen = digest(answer.body) if answer.status == 200 else ABSENT
        allowed = history.allowed(key)
        if seen not in allowed:
            faults.append(f"{key}: holds {seen}, allowed {allowed}")
        if sizes.get(key) != (seen and seen[1]):
            faults.append(f"{key}: listed with {sizes.get(key)}, holds {seen}")
        history.settle(key, seen)
        history.counts["objects compared"] += 1
    client.close()
    return faults


def storm(directory: Path, options: argparse.Namespace, history: History) -> list[str]:
    """All rounds."""
    chance = random.Random(options.seed)
    settings = SETTINGS | {"S3LITE_DURABILITY": options.durability}
    port = harness.free_port()
    server = harness.start_s3lite(directory, port=port, **settings)
    faults: list[str] = []
    try:
        harness.expect(Client(Signer(server.address)).call("PUT", f"/{BUCKET}"), 200)
        for number in range(options.rounds):
            writers = [
                Writer(Signer(server.address), i, history, chance.randrange(1 << 30)) for i in range(WRITERS)
            ]
            for writer in writers:
                writer.start()
            time.sleep(chance.uniform(0.1, options.most_seconds))
            server.kill()
            for writer in writers:
                writer.join(30)
            server = harness.start_s3lite(directory, port=port, **settings)
            wrong = [f"while up: {writer.fault}" for writer in writers if writer.fault]
            wrong += verify(server, history)
            faults += [f"round {number + 1}: {fault}" for fault in wrong]
            done = sum(history.counts.values()) - history.counts["objects compared"]
            print(f"round {number + 1}: {done} writes acknowledged, {len(faults)} faults", flush=True)
    finally:
        server.kill()
    return faults


def tidy(directory: Path) -> list[str]:
    """Sweep and check with the server down; what is wrong."""
    env = harness.server_environment(
        directory / "data",
        0,
        S3LITE_SWEEP_ORPHAN_AGE_S="0",
        S3LITE_SWEEP_UPLOAD_EXPIRY_S="0.001",
        S3LITE_STORAGE_GARBAGE_GRACE_S="0",
    )
    faults = []
    for words in (["sweep", "--json"], ["check", "--deep", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "s3lite", *words], cwd=ROOT, env=env, capture_output=True, text=True
        )
        print(f"s3lite {' '.join(words)}: exit {done.returncode}: {' '.join(done.stdout.split())[:600]}")
        if done.returncode:
            faults.append(f"s3lite {words[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    log = (directory / "server.log").read_text()
    if "Traceback" in log:
        faults.append("traceback in the log:" + log[log.index("Traceback") - 300 :][:3000])
    return faults


def main() -> int:
    """Storm, then tidy up, then judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--most-seconds", type=float, default=2.0, help="of load before a kill")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--durability", choices=("full", "relaxed"), default="full")
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write counts and faults to this file, too")
    options = parser.parse_args()
    history = History()
    with harness.scratch(options.dir) as directory:
        faults = storm(directory, options, history) + tidy(directory)
    print(f"seed {options.seed}, {options.rounds} kills, durability {options.durability}")
    for kind, count in sorted(history.counts.items()):
        print(f"  {kind:<18} {count:>8}")
    for fault in faults:
        print(f"FAULT {fault}")
    if options.json:
        options.json.write_text(json.dumps({"counts": history.counts, "faults": faults}, indent=1) + "\n")
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
