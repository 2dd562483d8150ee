"""Conditional writes under a race: sixteen writers in four processes against several workers, one winner."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from .conftest import Server

_PROCESSES, _THREADS, _ROUNDS = 4, 4, 5

# Waits for a line on standard input, so that all processes begin a round together.
_WRITER = """
import json, sys, threading
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, access_key, secret_key, bucket, name, threads = sys.argv[1:]
config = Config(retries={"max_attempts": 0}, max_pool_connections=int(threads))
s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=access_key, aws_secret_access_key=secret_key,
                  region_name="us-east-1", config=config)
s3.list_objects_v2(Bucket=bucket)
print("ready", flush=True)
for line in sys.stdin:
    task = json.loads(line)
    results, gate = [], threading.Barrier(int(threads))

    def write(number):
        body = f"{task['turn']}-{name}-{number}"
        gate.wait()
        try:
            s3.put_object(Bucket=bucket, Key=task["key"], Body=body.encode(), **task["condition"])
            results.append([200, body])
        except ClientError as error:
            results.append([error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]])

    writers = [threading.Thread(target=write, args=(n,)) for n in range(int(threads))]
    for writer in writers: writer.start()
    for writer in writers: writer.join()
    print(json.dumps(results), flush=True)
"""


@pytest.fixture
def writers(server: Server, bucket: str):
    words = [server.endpoint, server.access_key, server.secret_key, bucket]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, *words, str(number), str(_THREADS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(_PROCESSES)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    yield processes
    for process in processes:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def race(processes: list[Any], key: str, turn: int, **condition: str) -> list[list[Any]]:
    """What all sixteen writers were told. Bytes differ by ``turn``: equal ones would have equal ETags."""
    for process in processes:
        process.stdin.write(json.dumps({"key": key, "turn": turn, "condition": condition}) + "\n")
    for process in processes:
        process.stdin.flush()
    return [result for process in processes for result in json.loads(process.stdout.readline())]


def winner(server: Server, bucket: str, key: str, results: list[list[Any]]) -> None:
    """Exactly one was accepted, the others were refused, and its body is what is stored."""
    assert len(results) == _PROCESSES * _THREADS
    won = [body for status, body in results if status == 200]
    assert len(won) == 1, results
    assert {status for status, _ in results} == {200, 412}
    assert server.client().get_object(Bucket=bucket, Key=key)["Body"].read().decode() == won[0]


def test_creation_has_one_winner(server: Server, bucket: str, writers: list[Any]) -> None:
    for turn in range(_ROUNDS):
        winner(server, bucket, f"key-{turn}", race(writers, f"key-{turn}", turn, IfNoneMatch="*"))


def test_replacement_has_one_winner_each_time(server: Server, bucket: str, writers: list[Any]) -> None:
    etag = server.client().put_object(Bucket=bucket, Key="key", Body=b"first")["ETag"]
    for turn in range(_ROUNDS):
        winner(server, bucket, "key", race(writers, "key", turn, IfMatch=etag))
        etag = server.client().head_object(Bucket=bucket, Key="key")["ETag"]
