"""The workers of one server count together, and a worker that is gone leaves its counts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from .conftest import Server, running


def sample(server: Server, name: str, **labels: str) -> float:
    text = requests.get(f"{server.endpoint}/.s3lite/metrics", timeout=10).text
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            if each.name == name and all(each.labels[label] == value for label, value in labels.items()):
                return each.value
    return 0.0


def lists(server: Server) -> float:
    return sample(server, "s3lite_requests_total", operation="ListBuckets", status="200")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_workers_count_together_and_survive_one_another(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        for _ in range(20):
            server.client().list_buckets()  # a connection of its own each time
        wait_for(lambda: lists(server) == 20)  # the other worker counts twice a second
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        wait_for(lambda: sample(server, "s3lite_requests_in_progress") == 1)
        server.client().list_buckets()
        wait_for(lambda: lists(server) == 21)
