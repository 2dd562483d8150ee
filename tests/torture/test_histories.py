"""Many clients, several worker processes, few keys: what everybody saw has an order that explains it."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from botocore.exceptions import ClientError
from e2e.conftest import Server, running
from torture.linear import Op, is_linearizable

CLIENTS, KEYS, STEPS = 6, 4, 25


def test_the_checker_accepts_what_overlaps_and_refuses_what_does_not() -> None:
    put = Op("put", "a", None, 0, 3)
    assert is_linearizable([put, Op("get", None, None, 1, 2), Op("get", None, "a", 2, 4)])
    assert not is_linearizable([put, Op("get", None, "a", 1, 2), Op("get", None, None, 2.5, 4)])
    assert not is_linearizable([put, Op("get", None, None, 4, 5)])
    assert not is_linearizable([Op("create", v, True, 0, 1) for v in "ab"])
    assert is_linearizable([Op("put", "a", None, 0), Op("get", None, None, 5, 6), Op("get", None, "a", 7, 8)])
    assert not is_linearizable([Op("put", "a", None, 0, 1), Op("get", None, "foreign", 2, 3)])


class Client(threading.Thread):
    """Does random things to few keys, and writes down what it saw."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__()
        self.s3, self.chance, self.number = server.client(), random.Random(number), number
        self.seen: list[tuple[str, Op]] = []

    def run(self) -> None:
        for step in range(STEPS):
            key = f"k{self.chance.randrange(KEYS)}"
            kind = self.chance.choices(("put", "get", "delete", "create"), (3, 5, 2, 2))[0]
            value = f"{self.number}-{step}" if kind in ("put", "create") else None
            called = time.monotonic()
            result = self._do(kind, key, value)
            self.seen.append((key, Op(kind, value, result, called, time.monotonic())))

    def _do(self, kind: str, key: str, value: str | None) -> object:
        where = {"Bucket": "bucket", "Key": key}
        try:
            if kind == "get":
                body = self.s3.get_object(**where)["Body"].read()
                name = bytes(body).partition(b" ")[0]
                assert body == name + b" " * (len(body) - len(name)), "torn"
                return name.decode()
            if kind == "delete":
                self.s3.delete_object(**where)
                return None
            size = self.chance.choice((100, 100_000))  # in the index, or a file
            more = {"IfNoneMatch": "*"} if kind == "create" else {}
            self.s3.put_object(**where, Body=(value or "").encode().ljust(size), **more)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "PreconditionFailed"):
                return None if kind == "get" else False
            raise
        return True


def test_each_key_is_linearizable_over_worker_processes(tmp_path: Path) -> None:
    with running(tmp_path, S3LITE_WORKERS="3") as server:
        server.client().create_bucket(Bucket="bucket")
        clients = [Client(server, number) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    seen = [entry for client in clients for entry in client.seen]
    assert len(seen) == CLIENTS * STEPS  # nobody was stopped by an error
    for key in sorted({key for key, _ in seen}):
        assert is_linearizable([op for name, op in seen if name == key]), key
