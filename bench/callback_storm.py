"""kill -9 of the whole server while it owes callbacks: every stored object is reported, repeats have one id.

    .venv/bin/python bench/callback_storm.py --uploads 2000 [--seed N]

Writers upload objects under keys of their own, never twice (PUTs and multipart uploads whose callback was
kept from their creation; modes async and sync-retry), while the server's process group is killed at random
moments and started again on the same data. The application answers a third of its callbacks with 500 or
503. When all are uploaded and the outbox is empty, what the server lists is compared with what the
application heard: each listed key at least once with a 2xx, all its reports under one webhook-id and with a
valid signature, and no key that is not listed. Exit code 1 on any violation.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import harness
from harness import ROOT, Client, Gunicorn, Signer, path_of

sys.path.insert(0, str(ROOT))

from s3lite.callback.listen import Answer, Received, Receiver

BUCKET = "storm"
SETTINGS = {
    "S3LITE_BUCKETS": BUCKET,
    "S3LITE_CALLBACK_ALLOW": "127.0.0.1",
    "S3LITE_CALLBACK_TIMEOUT_S": "1",
    "S3LITE_CALLBACK_TOTAL_TIMEOUT_S": "1",
    # As many attempts as make a dead message unthinkable, and leases as short as may be.
    "S3LITE_OUTBOX_SCHEDULE_S": ",".join(["0", *["0.3"] * 40]),
    "S3LITE_OUTBOX_LEASE_S": "6",
}
SHARE_FAILING = 1 / 3


class Application:
    """What receives callbacks: fails a third of the time, and remembers all it heard."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.ids: defaultdict[str, set[str]] = defaultdict(set)
        self.accepted: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def take(self, received: Received) -> Answer | None:
        """Judge one callback and choose its answer."""
        told = json.loads(received.body)
        with self._lock:
            fails = self._random.random() < SHARE_FAILING
            self.counts["reports"] += 1
            self.counts["failed by the application"] += fails
            if received.webhook != "valid":
                self.faults.append(f"{told['key']}: signature: {received.webhook}")
            if told["id"] != received.headers["webhook-id"]:
                self.faults.append(f"{told['key']}: body and header name different ids")
            self.ids[told["key"]].add(told["id"])
            if not fails:
                self.counts["repeats after a success"] += told["key"] in self.accepted
                self.accepted.add(told["key"])
            return Answer(b"{}", self._random.choice((500, 503))) if fails else None


class Writer(threading.Thread):
    """Uploads what it is given, each key once: what a kill interrupts is not tried again."""

    def __init__(
        self, signer: Signer, work: queue.SimpleQueue[int], callback: str, up: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self._signer = signer
        self._work = work
        self._callback = callback
        self._up = up
        self.acknowledged: list[str] = []
        self.fault = ""

    def run(self) -> None:
        client = Client(self._signer, timeout_s=20)
        while True:
            self._up.wait()
            try:
                number = self._work.get_nowait()
            except queue.Empty:
                break
            key = f"k{number:06}"
            try:
                (self._multipart if number % 10 == 0 else self._put)(client, key, number)
                self.acknowledged.append(key)
            except (OSError, http.client.HTTPException):
                client.close()
                client = Client(self._signer, timeout_s=20)
            except RuntimeError as error:
                self.fault = str(error)
        client.close()

    def _headers(self, number: int) -> dict[str, str]:
        document = {
            "callbackUrl": self._callback,
            "callbackBody": '{"key":${object},"id":${callbackId},"size":${size}}',
            "callbackBodyType": "application/json",
            "callbackMode": "sync-retry" if number % 5 == 1 else "async",
            "callbackReply": "standard",
        }
        return {"x-amz-meta-callback": base64.b64encode(json.dumps(document).encode()).decode()}

    def _put(self, client: Client, key: str, number: int) -> None:
        harness.expect(client.call("PUT", path_of(BUCKET, key), b"x" * 100, extra=self._headers(number)), 200)

    def _multipart(self, client: Client, key: str, number: int) -> None:
        target = path_of(BUCKET, key)
        begun = harness.expect(client.call("POST", f"{target}?uploads=", extra=self._headers(number)), 200)
        upload = begun.body.decode().partition("<UploadId>")[2].partition("<")[0]
        part = harness.expect(client.call("PUT", f"{target}?partNumber=1&uploadId={upload}", b"part"), 200)
        row = f"<Part><PartNumber>1</PartNumber><ETag>{part.etag}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{row}</CompleteMultipartUpload>".encode()
        harness.expect(client.call("POST", f"{target}?uploadId={upload}", body), 200)


def listed(address: tuple[str, int]) -> set[str]:
    """Every key that is there."""
    client, token, keys = Client(Signer(address)), "", set()
    while True:
        after = f"continuation-token={quote(token, safe='')}&" if token else ""
        answer = harness.expect(client.call("GET", f"/{BUCKET}?{after}list-type=2"), 200)
        document = ElementTree.fromstring(answer.body)
        space = document.tag.partition("}")[0] + "}"
        keys |= {row.findtext(f"{space}Key", "") for row in document.iter(f"{space}Contents")}
        token = document.findtext(f"{space}NextContinuationToken", "")
        if not token:
            client.close()
            return keys


def command(directory: Path, *words: str) -> str:
    """Run the command line on the server's data."""
    env = harness.server_environment(directory / "data", 0, **SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "s3lite", *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def public_keys(address: tuple[str, int]) -> list[str]:
    """What signatures are verified with."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", "/.s3lite/callback-keys.json")
    found: list[str] = json.load(connection.getresponse())["keys"]
    connection.close()
    return found


def storm(
    directory: Path, options: argparse.Namespace, chance: random.Random, counts: Counter[str]
) -> list[str]:
    """Upload and kill until all is uploaded, wait until all is told, compare."""
    application = Application(options.seed)
    port = harness.free_port()
    settings = SETTINGS | {"S3LITE_DURABILITY": options.durability}
    server: Gunicorn = harness.start_s3lite(directory, port=port, **settings)
    up = threading.Event()
    work: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(options.uploads):
        work.put(number)
    try:
        keys = public_keys(server.address)
        with Receiver(public_keys=keys, on_request=application.take) as receiver:
            writers = [
                Writer(Signer(server.address), work, receiver.url("/cb"), up) for _ in range(options.writers)
            ]
            for writer in writers:
                writer.start()
            up.set()
            while any(writer.is_alive() for writer in writers):
                time.sleep(chance.uniform(0.1, options.most_seconds))
                up.clear()
                server.kill()
                counts["kills"] += 1
                server = harness.start_s3lite(directory, port=port, **settings)
                up.set()
            for writer in writers:
                writer.join()
            began = time.monotonic()
            faults = _wait_until_told(directory, options.patience_s)
            counts["seconds until all was told"] = round(time.monotonic() - began)
            there = listed(server.address)
    finally:
        server.kill()
    counts["acknowledged"] = sum(len(writer.acknowledged) for writer in writers)
    counts["stored"] = len(there)
    counts.update(application.counts)
    faults += [f"while up: {writer.fault}" for writer in writers if writer.fault]
    faults += [
        f"{key}: acknowledged and not there" for w in writers for key in w.acknowledged if key not in there
    ]
    faults += application.faults + compare(there, application)
    return faults


def _wait_until_told(directory: Path, patience_s: float) -> list[str]:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if (
            json.loads(command(directory, "callback", "list", "--status", "queued", "--limit", "1", "--json"))
            == []
        ):
            dead = json.loads(command(directory, "callback", "list", "--status", "dead", "--json"))
            return [f"{row['key']}: dead: {row['message']}" for row in dead]
        time.sleep(0.5)
    return [f"the outbox is not empty after {patience_s:g} s"]


def compare(there: set[str], application: Application) -> list[str]:
    """What the application should have heard, and has not; or should not have heard, and has."""
    faults = [f"{key}: stored and never reported with success" for key in there - application.accepted]
    faults += [f"{key}: reported and not stored" for key in set(application.ids) - there]
    faults += [f"{key}: reported as {ids}" for key, ids in application.ids.items() if len(ids) != 1]
    return faults


def main() -> int:
    """Storm, then judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uploads", type=int, default=2000)
    parser.add_argument("--writers", type=int, default=6)
    parser.add_argument("--most-seconds", type=float, default=0.6, help="between two kills")
    parser.add_argument("--patience-s", type=float, default=120, help="for the outbox to run empty")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--durability", choices=("full", "relaxed"), default="full")
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write counts and faults to this file, too")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with harness.scratch(options.dir) as directory:
        faults = storm(directory, options, random.Random(options.seed), counts)
        log = (directory / "server.log").read_text()
        if "Traceback" in log:
            faults.append("traceback in the log:" + log[log.index("Traceback") - 300 :][:3000])
    print(f"seed {options.seed}, {options.uploads} uploads, durability {options.durability}")
    for name, count in sorted(counts.items()):
        print(f"  {name:<28} {count:>8}")
    for fault in faults[:50]:
        print(f"FAULT {fault}")
    if options.json:
        options.json.write_text(json.dumps({"counts": counts, "faults": faults}, indent=1) + "\n")
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
