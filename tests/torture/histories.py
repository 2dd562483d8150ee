"""Many clients, several worker processes, few keys: who saw what, and whether an order explains it.

Registers hold ETags. Every content is a token of 16 bytes over and over, so that any range that begins and
ends between tokens shows whether it is torn, and whose it is. The sweeper runs all the while, with a grace
period of a second.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from e2e.conftest import ROOT, Server, environment, running
from torture.linear import OPEN, Op, is_linearizable

TOKEN = 16
SIZES = (8 * TOKEN, 6_000 * TOKEN, 90_000 * TOKEN)  # in the index; a file; a file of several pieces
KINDS = {
    "get": 6, "range": 4, "put": 4, "create": 2, "swap": 3, "delete": 2, "drop": 2,
    "copy": 3, "copy_part": 2, "upload": 4, "complete": 4, "abort": 4,
}  # fmt: skip
REFUSED = ("NoSuchKey", "PreconditionFailed", "NoSuchUpload", "404", "412")
SERVER = {
    "S3LITE_WORKERS": "3",
    "S3LITE_LIMITS_PART_MIN_BYTES": "1",
    "S3LITE_SWEEP_INTERVAL_S": "0.1",
    "S3LITE_STORAGE_GARBAGE_GRACE_S": "1",
}


def content(name: str, size: int) -> bytes:
    """The bytes of a name: a token of its own, repeated."""
    return name.encode().ljust(TOKEN, b".") * (size // TOKEN)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Offer:
    """An open upload that anybody may complete or abort."""

    key: str
    upload_id: str
    parts: list[dict[str, object]]
    etag: str  # of what completing it makes


@dataclass
class Board:
    """What the clients of one round share."""

    known: dict[str, tuple[str, int]] = field(default_factory=dict)  # ETag: name and size of its content
    offers: list[Offer] = field(default_factory=list)
    seen: dict[str, list[Op]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, where: str, op: Op) -> None:
        with self.lock:
            self.seen[where].append(op)

    def histories(self) -> Iterator[tuple[str, str | None, list[Op]]]:
        """Register, what it held at first, and all that was done to it.

        Several completions of one upload are one change of its key: after the first of them was asked for,
        and before the first answer.
        """
        made: dict[tuple[str, str], list[Op]] = defaultdict(list)
        for where, ops in self.seen.items():
            kind, _, name = where.partition(" ")
            if kind == "upload":
                yield where, OPEN, ops
                for op in ops:
                    if op.kind == "complete" and op.result is True:
                        made[name.split(" ")[0], str(op.value)].append(op)
        for where, ops in self.seen.items():
            kind, _, key = where.partition(" ")
            if kind == "key":
                completed = [
                    Op("put", etag, True, min(op.called for op in done), min(op.returned for op in done))
                    for (name, etag), done in made.items()
                    if name == key
                ]
                yield where, None, ops + completed


class Client(threading.Thread):
    """Does random things to few keys, and writes down what it saw. ``fault`` says what went wrong, if anything."""

    def __init__(
        self, server: Server, board: Board, number: int, seed: int, keys: list[str], steps: int
    ) -> None:
        super().__init__()
        self.s3, self.board, self.chance = server.client(), board, random.Random(seed)
        self.number, self.keys, self.steps = number, keys, steps
        self.counts: Counter[str] = Counter()
        self.last: dict[str, str] = {}  # the ETag that this client last saw under a key
        self.fault = ""

    def run(self) -> None:
        for step in range(self.steps):
            kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
            key = self.chance.choice(self.keys)
            self.counts[kind] += 1
            try:
                getattr(self, f"do_{kind}")(key, f"{self.number}-{step}")
            except Exception as error:
                self.fault = f"{kind} {key}: {type(error).__name__}: {error}"
                return

    def _new(self, name: str) -> tuple[bytes, str]:
        data = content(name, self.chance.choice(SIZES))
        etag = md5(data)
        self.board.known[etag] = (name, len(data))
        return data, etag

    def _change(self, kind: str, key: str, value: str | None, call: Any, expected: str | None = None) -> None:
        """A request that changes a key, and whether it was accepted."""
        called = time.monotonic()
        accepted = answered(call) is not None
        self.board.note(f"key {key}", Op(kind, value, accepted, called, time.monotonic(), expected))

    # -- readers

    def do_get(self, key: str, name: str) -> None:
        self._read(key, lambda data: data)

    def do_range(self, key: str, name: str) -> None:
        """A suffix, because it is there whatever the size; what begins elsewhere is only in larger ones."""
        tokens = self.chance.choice((1, 8, 5_000))
        if self.chance.random() < 0.5:
            self._read(key, lambda data: data[-tokens * TOKEN :], f"bytes=-{tokens * TOKEN}")
        else:
            self._read(key, lambda data: data[2 * TOKEN : 7 * TOKEN], f"bytes={2 * TOKEN}-{7 * TOKEN - 1}")

    def _read(self, key: str, part: Any, range_: str = "") -> None:
        more = {"Range": range_} if range_ else {}
        called = time.monotonic()
        answer = answered(lambda: self.s3.get_object(Bucket="bucket", Key=key, **more))
        etag = answer["ETag"].strip('"') if answer else None
        if answer is not None:
            pieces = []
            for piece in answer["Body"].iter_chunks(256 << 10):
                pieces.append(piece)
                if len(pieces) > 1 and self.chance.random() < 0.3:
                    time.sleep(0.02)  # a slow reader, overtaken by writers and the sweeper
            if etag not in self.board.known:
                raise AssertionError(f"foreign: nobody made {etag}")
            if b"".join(pieces) != part(content(*self.board.known[etag])):
                raise AssertionError(f"torn: {etag} {range_}")
            self.last[key] = etag
        self.board.note(f"key {key}", Op("get", None, etag, called, time.monotonic()))

    # -- writers

    def do_put(self, key: str, name: str) -> None:
        data, etag = self._new(name)
        self._change("put", key, etag, lambda: self.s3.put_object(Bucket="bucket", Key=key, Body=data))

    def do_create(self, key: str, name: str) -> None:
        data, etag = self._new(name)
        self._change(
            "create",
            key,
            etag,
            lambda: self.s3.put_object(Bucket="bucket", Key=key, Body=data, IfNoneMatch="*"),
        )

    def do_swap(self, key: str, name: str) -> None:
        data, etag = self._new(name)
        old = self.last.get(key, "0" * 32)
        self._change(
            "swap",
            key,
            etag,
            lambda: self.s3.put_object(Bucket="bucket", Key=key, Body=data, IfMatch=f'"{old}"'),
            old,
        )

    def do_delete(self, key: str, name: str) -> None:
        self._change("delete", key, None, lambda: self.s3.delete_object(Bucket="bucket", Key=key))

    def do_drop(self, key: str, name: str) -> None:
        old = self.last.get(key, "0" * 32)
        self._change(
            "drop",
            key,
            None,
            lambda: self.s3.delete_object(Bucket="bucket", Key=key, IfMatch=f'"{old}"'),
            old,
        )

    # -- copies: a read of one key and a change of another, both within the request

    def do_copy(self, key: str, name: str) -> None:
        source = self.chance.choice([each for each in self.keys if each != key])
        called = time.monotonic()
        answer = answered(
            lambda: self.s3.copy_object(Bucket="bucket", Key=key, CopySource=f"bucket/{source}")
        )
        returned = time.monotonic()
        etag = answer["CopyObjectResult"]["ETag"].strip('"') if answer else None
        self.board.note(f"key {source}", Op("get", None, etag, called, returned))
        if etag is not None:
            self.board.note(f"key {key}", Op("put", etag, True, called, returned))

    def do_copy_part(self, key: str, name: str) -> None:
        """An object as the one part of an upload, under the condition that it is still what was last seen."""
        source = self.chance.choice(self.keys)
        seen = self.last.get(source)
        if seen is None:
            return
        upload_id = self.s3.create_multipart_upload(Bucket="bucket", Key=key)["UploadId"]
        called = time.monotonic()
        answer = answered(
            lambda: self.s3.upload_part_copy(
                Bucket="bucket",
                Key=key,
                UploadId=upload_id,
                PartNumber=1,
                CopySource=f"bucket/{source}",
                CopySourceIfMatch=f'"{seen}"',
            )
        )
        if answer is None:
            self.s3.abort_multipart_upload(Bucket="bucket", Key=key, UploadId=upload_id)
            return
        self.board.note(f"key {source}", Op("get", None, seen, called, time.monotonic()))
        part = answer["CopyPartResult"]["ETag"].strip('"')
        if part != md5(content(*self.board.known[seen])):
            raise AssertionError(f"torn: the copied part of {seen}")
        self._offer(key, upload_id, [part], *self.board.known[seen])

    # -- uploads, which anybody may complete or abort

    def do_upload(self, key: str, name: str) -> None:
        data, _ = self._new(name)
        upload_id = self.s3.create_multipart_upload(Bucket="bucket", Key=key)["UploadId"]
        cut = len(data) // TOKEN // 3 * TOKEN
        parts = [data[:cut], data[cut:]]
        for number, part in enumerate(parts, start=1):
            self.s3.upload_part(Bucket="bucket", Key=key, UploadId=upload_id, PartNumber=number, Body=part)
        self._offer(key, upload_id, [md5(part) for part in parts], name, len(data))

    def _offer(self, key: str, upload_id: str, parts: list[str], name: str, size: int) -> None:
        etag = f"{md5(b''.join(map(bytes.fromhex, parts)))}-{len(parts)}"
        self.board.known[etag] = (name, size)
        listed: list[dict[str, object]] = [
            {"PartNumber": number, "ETag": part} for number, part in enumerate(parts, start=1)
        ]
        self.board.offers.append(Offer(key, upload_id, listed, etag))

    def do_complete(self, key: str, name: str) -> None:
        self._finish("complete")

    def do_abort(self, key: str, name: str) -> None:
        self._finish("abort")

    def _finish(self, kind: str) -> None:
        """Mostly of the latest uploads, so that others do the same at the same time."""
        offers = self.board.offers[-3:]
        if not offers:
            return
        offer = self.chance.choice(offers)
        where = {"Bucket": "bucket", "Key": offer.key, "UploadId": offer.upload_id}
        called = time.monotonic()
        if kind == "complete":
            done = answered(
                lambda: self.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": offer.parts})
            )
            if done is not None and done["ETag"].strip('"') != offer.etag:
                raise AssertionError(f"{offer.upload_id} became {done['ETag']}, not {offer.etag}")
        else:
            done = answered(lambda: self.s3.abort_multipart_upload(**where))
        op = Op(kind, offer.etag, done is not None, called, time.monotonic())
        self.board.note(f"upload {offer.key} {offer.upload_id}", op)


def answered(call: Any) -> Any:
    """The answer, or None for one of the refusals that races bring about."""
    try:
        return call()
    except ClientError as error:
        if error.response["Error"]["Code"] in REFUSED:
            return None
        raise


@contextmanager
def raced(directory: Path) -> Iterator[Server]:
    """A server of several worker processes whose sweeper is in a hurry."""
    with running(directory, **SERVER) as server:
        server.client().create_bucket(Bucket="bucket")
        yield server


def checked(directory: Path) -> str:
    """What `check --deep` finds in the data of a server that has ended; "" when it is clean."""
    done = subprocess.run(
        [sys.executable, "-m", "s3lite", "check", "--deep"],
        cwd=ROOT,
        env=environment(directory / "data", 1),
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def play(
    server: Server, seed: int, *, clients: int, keys: int, steps: int, counts: Counter[str]
) -> tuple[Board, list[str]]:
    """One round on keys of its own: what was seen, and what should not have been."""
    board = Board()
    names = [f"{seed}/k{number}" for number in range(keys)]
    threads = [Client(server, board, number, seed * 100 + number, names, steps) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        counts.update(thread.counts)
    findings = [thread.fault for thread in threads if thread.fault]
    for where, first, ops in board.histories():
        counts["histories"] += 1
        if not is_linearizable(ops, first):
            findings.append(f"no order explains {where}: {sorted(ops, key=lambda op: op.called)}")
    return board, findings


def campaign(seed: int, deadline: float, counts: Counter[str]) -> list[str]:
    """Rounds on one server until time is up, then the check of every byte."""
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        with raced(Path(directory)) as server:
            while time.monotonic() < deadline and not findings:
                _, found = play(server, seed, clients=8, keys=4, steps=60, counts=counts)
                findings = [f"seed {seed}: {finding}" for finding in found]
                counts["rounds"] += 1
                seed += 1000
        damage = checked(Path(directory))
        log = server.log.read_text()
    if damage:
        findings.append(f"after seed {seed}: {damage}")
    if "Traceback" in log:
        findings.append(log[log.index("Traceback") - 500 :][:6000])
    return findings
