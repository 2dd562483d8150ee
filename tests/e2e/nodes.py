"""Nodes over one storage, and a load that remembers what was acknowledged to it."""

from __future__ import annotations

import hashlib
import random
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from s3lite.app import create_app
from s3lite.core.check import Check
from s3lite.settings import Settings, SweepSettings

from .conftest import Server, free_port, start

SIZES = (10, 5000, 100_000, 3 << 20)


class Nodes:
    """Nodes with directories of their own and one storage; ``key_file`` is what they share beside it."""

    def __init__(self, directory, **settings):
        self.directory = directory
        self.settings = settings | {"key_file": str(directory / "secret.key")}
        self.running: dict[int, Server] = {}
        self.ports = {number: free_port() for number in (1, 2)}

    def start(self, number, **more):
        chosen = {"workers": "1", "database_wait_s": "20"} | self.settings | more
        environment = {f"S3LITE_{name.upper()}": value for name, value in chosen.items()}
        directory = self.directory / f"node{number}"
        directory.mkdir(exist_ok=True)
        self.running[number] = start(directory / "data", directory / "log", self.ports[number], **environment)
        return self.running[number]

    def end(self):
        for node in self.running.values():
            if node.process.poll() is None:
                node.kill()


class Load(threading.Thread):
    """Puts objects with new names and reads some back; remembers what was acknowledged, and what failed."""

    def __init__(self, client, name, **more):
        super().__init__(daemon=True)
        self.client, self.label, self.more = client, name, more
        self.random = random.Random(name)
        self.acknowledged: dict[str, str] = {}
        self.failures: list[str] = []
        self.stop = threading.Event()

    def run(self):
        number = 0
        while not self.stop.is_set():
            number += 1
            body = self.random.randbytes(self.random.choice(SIZES))
            key = f"{self.label}/{number}"
            try:
                self.client.put_object(Bucket="bucket", Key=key, Body=body, **self.more)
                self.acknowledged[key] = hashlib.md5(body).hexdigest()
                back = self.random.choice(list(self.acknowledged))
                self.check(back, self.client.get_object(Bucket="bucket", Key=back)["Body"].read())
            except (BotoCoreError, ClientError, OSError) as error:
                self.failures.append(f"{key}: {error}")

    def check(self, key, body):
        if hashlib.md5(body).hexdigest() != self.acknowledged[key]:
            self.failures.append(f"{key}: holds something else")


def loads_on(clients, **more):
    """``more`` are arguments of every put_object."""
    loads = [Load(client, f"w{number}", **more) for number, client in enumerate(clients)]
    for load in loads:
        load.start()
    return loads


def finished(loads):
    for load in loads:
        load.stop.set()
    for load in loads:
        load.join(60)
        assert not load.is_alive()
    return {key: digest for load in loads for key, digest in load.acknowledged.items()}


def assert_all_there(client, acknowledged):
    for key, digest in acknowledged.items():
        body = client.get_object(Bucket="bucket", Key=key)["Body"].read()
        assert hashlib.md5(body).hexdigest() == digest, key


def settle(seconds):
    time.sleep(seconds)


def assert_sound(nodes):
    """Index and bytes agree; what was in flight when a node died is at most litter that is known as such."""
    app = create_app(
        Settings(
            **nodes.settings,
            data_dir=str(nodes.directory / "check"),
            sweep=SweepSettings(enabled=False, orphan_age_s=3600),
        )
    )
    try:
        assert list(Check(app.services.store, deep=True).faults()) == []
    finally:
        app.close()
