"""PostgreSQL's primary is lost and its stand-by takes over: nothing that was acknowledged is lost with it."""

from __future__ import annotations

import pytest
from engines.servers import Replicated, scratch_directory

from .nodes import Nodes, assert_all_there, assert_sound, finished, loads_on, settle

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def replicated():
    servers = Replicated(scratch_directory("replicated"))
    yield servers
    servers.remove()


@pytest.fixture
def nodes(replicated, tmp_path):
    (tmp_path / "shared").mkdir()
    nodes = Nodes(tmp_path, database_url=replicated.url, blobs_url=f"file://{tmp_path}/shared")
    yield nodes
    nodes.end()


def test_a_stand_by_takes_over_under_load(replicated, nodes):
    one, two = nodes.start(1), nodes.start(2)
    one.client().create_bucket(Bucket="bucket")
    loads = loads_on([node.client() for node in (one, one, two, two)])
    settle(1)
    replicated.kill_primary()
    settle(0.5)
    before = [len(load.acknowledged) for load in loads]
    replicated.promote()
    settle(2)
    acknowledged = finished(loads)
    assert all(len(load.acknowledged) > count for load, count in zip(loads, before, strict=True))
    refused = [failure for load in loads for failure in load.failures if "(SlowDown)" not in failure]
    assert refused == []
    assert_all_there(two.client(), acknowledged)
    assert_sound(nodes)
