"""Callbacks that two nodes owe: a node and PostgreSQL are killed, and every stored object is reported, under one id."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict

import pytest
from engines.servers import ENGINES

from s3lite.callback.listen import Answer, Receiver

from .conftest import ROOT, environment
from .nodes import Nodes, finished, loads_on, settle

pytestmark = pytest.mark.timeout(180)

# As many attempts as make a dead message unthinkable, and leases as short as may be.
QUICK = {
    "callback_timeout_s": "1",
    "callback_total_timeout_s": "1",
    "outbox_schedule_s": ",".join(["0", *["0.3"] * 40]),
    "outbox_lease_s": "6",
}


class Application:
    """What receives callbacks: fails a third of the time, and remembers all it heard."""

    def __init__(self):
        self._random = random.Random(7)
        self._lock = threading.Lock()
        self.ids = defaultdict(set)
        self.accepted = set()
        self.verdicts = set()

    def take(self, received):
        told = json.loads(received.body)
        with self._lock:
            self.verdicts.add(received.webhook)
            self.ids[told["key"]] |= {told["id"], received.headers["webhook-id"]}
            if self._random.random() < 1 / 3:
                return Answer(b"{}", 503)
            self.accepted.add(told["key"])
        return None


@pytest.fixture
def nodes(postgres_server, tmp_path):
    (tmp_path / "shared").mkdir()
    database_url = postgres_server.database()
    nodes = Nodes(tmp_path, database_url=database_url, blobs_url=f"file://{tmp_path}/shared", **QUICK)
    yield nodes
    nodes.end()
    postgres_server.drop(database_url)


def upload_callback(url):
    document = {
        "callbackUrl": url,
        "callbackBody": '{"key":${object},"id":${callbackId}}',
        "callbackBodyType": "application/json",
        "callbackMode": "async",
        "callbackReply": "standard",
    }
    return base64.b64encode(json.dumps(document).encode()).decode()


def messages(nodes, status):
    """What the outbox holds, as the command line of a node says."""
    settings = {f"S3LITE_{name.upper()}": value for name, value in nodes.settings.items()}
    done = subprocess.run(
        [sys.executable, "-m", "s3lite", "callback", "list", "--status", status, "--json"],
        cwd=ROOT, env=environment(nodes.directory / "cli", 0, **settings), capture_output=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def keys(client):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket")
    return {entry["Key"] for page in pages for entry in page.get("Contents", ())}


def test_no_callback_is_lost_when_a_node_and_the_database_are_killed(nodes):
    one, two = nodes.start(1), nodes.start(2)
    one.client().create_bucket(Bucket="bucket")
    with urllib.request.urlopen(f"{one.endpoint}/.s3lite/callback-keys.json", timeout=10) as answer:
        public_keys = json.load(answer)["keys"]
    application = Application()
    with Receiver(public_keys=public_keys, on_request=application.take) as receiver:
        callback = {"callback": upload_callback(receiver.url("/cb"))}
        quick = {"connect_timeout": 2, "read_timeout": 40}
        loads = loads_on([node.client(**quick) for node in (one, one, two, two)], Metadata=callback)
        settle(1)
        one.kill()
        settle(0.5)
        ENGINES.postgres.stop("immediate")
        ENGINES.postgres.start()
        settle(0.5)
        one = nodes.start(1)
        settle(0.5)
        two.kill()  # and stays away: the other one sends what it owed
        acknowledged = finished(loads)
        deadline = time.monotonic() + 60
        while messages(nodes, "queued"):
            assert time.monotonic() < deadline
    stored = keys(one.client())
    assert len(acknowledged) > 20
    assert set(acknowledged) <= stored
    assert messages(nodes, "dead") == []
    assert application.accepted == set(application.ids) == stored
    assert {key: ids for key, ids in application.ids.items() if len(ids) != 1} == {}
    assert application.verdicts == {"valid"}
