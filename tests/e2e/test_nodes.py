"""Two nodes over PostgreSQL and Ceph: one store, and nothing acknowledged is lost whatever stops."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError
from engines.servers import ENGINES

from .conftest import Server, free_port
from .nodes import SIZES, Nodes, assert_all_there, assert_sound, finished, loads_on, settle

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def nodes(tmp_path):
    database_url = ENGINES.postgres.database()
    nodes = Nodes(tmp_path, database_url=database_url, blobs_url=ENGINES.ceph.namespace())
    yield nodes
    nodes.end()
    ENGINES.postgres.drop(database_url)


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
