"""Two nodes over PostgreSQL and Ceph: one store, and nothing acknowledged is lost whatever stops."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from engines.servers import ENGINES

from s3lite.app import create_app
from s3lite.core.check import Check
from s3lite.settings import Settings, SweepSettings

from .conftest import Server, free_port, start

SIZES = (10, 5000, 100_000, 3 << 20)
pytestmark = pytest.mark.timeout(300)


class Nodes:
    """Nodes with directories of their own and one storage; ``key_file`` is what they share beside it."""

    def __init__(self, directory):
        self.directory = directory
        self.settings = {
            "database_url": ENGINES.postgres.database(),
            "blobs_url": ENGINES.ceph.namespace(),
            "key_file": str(directory / "secret.key"),
        }
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
        ENGINES.postgres.drop(self.settings["database_url"])


@pytest.fixture
def nodes(tmp_path):
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.end()


@pytest.fixture
def pair(nodes):
    """Both nodes, and a bucket named ``bucket``."""
    first, second = nodes.start(1), nodes.start(2)
    first.client().create_bucket(Bucket="bucket")
    return first, second


def status(node, path="/.s3lite/ready"):
    try:
        with urllib.request.urlopen(node.endpoint + path, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_what_one_node_takes_the_other_has(pair):
    one, two = (node.client() for node in pair)
    for size in SIZES:
        one.put_object(Bucket="bucket", Key=f"k{size}", Body=bytes(size))
        assert two.get_object(Bucket="bucket", Key=f"k{size}")["Body"].read() == bytes(size)
    upload = one.create_multipart_upload(Bucket="bucket", Key="m")["UploadId"]
    target = {"Bucket": "bucket", "Key": "m", "UploadId": upload}
    part = two.upload_part(**target, PartNumber=1, Body=b"part")
    one.complete_multipart_upload(
        **target, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    assert two.get_object(Bucket="bucket", Key="m")["Body"].read() == b"part"
    assert two.list_objects_v2(Bucket="bucket")["KeyCount"] == 5


def test_a_condition_has_one_winner_on_all_nodes(pair):
    clients = [node.client(max_pool_connections=8) for node in pair for _ in range(4)]

    def create(client, key):
        try:
            client.put_object(Bucket="bucket", Key=key, Body=os.urandom(9), IfNoneMatch="*")
        except ClientError as error:
            assert error.response["Error"]["Code"] == "PreconditionFailed"  # noqa: PT017
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        for attempt in range(25):
            assert sum(pool.map(create, clients, [f"k{attempt}"] * 8)) == 1


def test_a_node_with_another_key_file_does_not_start(nodes, tmp_path):
    nodes.start(1)
    with pytest.raises(AssertionError, match="sealed with another key file"):
        nodes.start(2, key_file=str(tmp_path / "other.key"))


def test_nodes_are_ready_while_the_index_is(nodes):
    node = nodes.start(1, database_wait_s="1")
    assert status(node) == 200
    ENGINES.postgres.stop()
    try:
        assert status(node) == 503
        assert status(node, "/.s3lite/health") == 200
    finally:
        ENGINES.postgres.start()
    assert status(node) == 200


class Load(threading.Thread):
    """Puts objects with new names and reads some back; remembers what was acknowledged, and what failed."""

    def __init__(self, client, name):
        super().__init__(daemon=True)
        self.client, self.label = client, name
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
                self.client.put_object(Bucket="bucket", Key=key, Body=body)
                self.acknowledged[key] = hashlib.md5(body).hexdigest()
                back = self.random.choice(list(self.acknowledged))
                self.check(back, self.client.get_object(Bucket="bucket", Key=back)["Body"].read())
            except (BotoCoreError, ClientError, OSError) as error:
                self.failures.append(f"{key}: {error}")

    def check(self, key, body):
        if hashlib.md5(body).hexdigest() != self.acknowledged[key]:
            self.failures.append(f"{key}: holds something else")


def loads_on(clients):
    loads = [Load(client, f"w{number}") for number, client in enumerate(clients)]
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


def test_kill_a_node_an_osd_and_the_database_under_load(nodes, pair):
    one, two = pair
    quick = {"connect_timeout": 2, "read_timeout": 40}
    loads = loads_on([one.client(**quick), one.client(**quick), two.client(**quick), two.client(**quick)])
    settle(1)
    one.kill()
    settle(1)
    ENGINES.ceph.kill("osd.1")
    settle(1)
    ENGINES.postgres.stop("immediate")
    ENGINES.postgres.start()
    one = nodes.start(1)
    ENGINES.ceph.start()
    settle(1)
    acknowledged = finished(loads)
    assert all(load.acknowledged for load in loads)
    # Only those that spoke to the node that was killed have seen anything of it.
    assert [failure for load in loads[2:] for failure in load.failures] == []
    assert_all_there(one.client(), acknowledged)
    assert_sound(nodes)


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


HAPROXY = """
global
    stats socket {socket} mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    option http-server-close
    option redispatch
    retries 3
    retry-on conn-failure empty-response
frontend s3
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    balance roundrobin
    option httpchk GET /.s3lite/ready
    default-server check inter 200ms fall 2 rise 1
    server n1 127.0.0.1:{one}
    server n2 127.0.0.1:{two}
"""


class Balancer:
    """haproxy before both nodes."""

    def __init__(self, directory, ports):
        self.port = free_port()
        self.socket = directory / "admin.sock"
        (directory / "haproxy.cfg").write_text(
            HAPROXY.format(socket=self.socket, port=self.port, one=ports[1], two=ports[2])
        )
        self.process = subprocess.Popen(["haproxy", "-db", "-f", directory / "haproxy.cfg"])
        self.until(self.socket.exists)

    def tell(self, command):
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.socket))
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()

    def sessions(self, server):
        for line in self.tell("show stat").splitlines():
            if line.startswith(f"nodes,{server},"):
                return int(line.split(",")[4])
        raise AssertionError(server)

    def until(self, test):
        deadline = time.monotonic() + 60
        while not test():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def balancer(nodes, tmp_path):
    if not shutil.which("haproxy"):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("haproxy is not installed")
    balancer = Balancer(tmp_path, nodes.ports)
    yield balancer
    balancer.process.terminate()
    balancer.process.wait(10)


def test_a_rolling_restart_drops_no_request(nodes, pair, balancer):
    through = Server(pair[0].process, f"http://127.0.0.1:{balancer.port}", pair[0].data_dir, pair[0].log)
    balancer.until(lambda: balancer.tell("show stat").count(",UP,") >= 2)
    loads = loads_on([through.client() for _ in range(4)])
    for number in (1, 2):
        settle(0.5)
        balancer.tell(f"set server nodes/n{number} state drain")
        balancer.until(lambda number=number: balancer.sessions(f"n{number}") == 0)
        nodes.running[number].process.terminate()
        assert nodes.running[number].process.wait(60) == 0
        nodes.start(number)
        balancer.tell(f"set server nodes/n{number} state ready")
    settle(0.5)
    acknowledged = finished(loads)
    assert [failure for load in loads for failure in load.failures] == []
    assert len(acknowledged) > 20
    assert_all_there(through.client(), acknowledged)
