"""The testing kit does what it says: a clock that is moved, faults that meet the chosen requests, nothing faked."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import botocore.exceptions
import pytest

from s3lite.callback.listen import Answer, Receiver
from s3lite.testing import Faults, LiveServer, StillClock, live_server, throw_away_settings

NO_RETRIES = {"retries": {"max_attempts": 0}}


def lifecycle(days: int) -> dict[str, object]:
    rule = {"ID": "r", "Filter": {"Prefix": ""}, "Status": "Enabled", "Expiration": {"Days": days}}
    return {"Rules": [rule]}


def test_time_passes_when_the_test_says_so(
    s3lite_clock: StillClock, s3lite_server: LiveServer, s3lite_bucket: str
) -> None:
    client = s3lite_server.client()
    client.put_bucket_lifecycle_configuration(Bucket=s3lite_bucket, LifecycleConfiguration=lifecycle(7))
    client.put_object(Bucket=s3lite_bucket, Key="key", Body=b"data")
    s3lite_clock.advance(days=6)
    assert s3lite_server.sweep().expired == 0
    s3lite_clock.advance(days=2)
    assert s3lite_server.sweep().expired == 1
    assert client.list_objects_v2(Bucket=s3lite_bucket)["KeyCount"] == 0


def test_a_clock_goes_forward_only(s3lite_clock: StillClock) -> None:
    with pytest.raises(ValueError, match="forward"):
        s3lite_clock.advance(-1)


def test_a_failing_operation_fails_as_often_as_told(
    s3lite_server: LiveServer, s3lite_bucket: str, s3lite_faults: Faults
) -> None:
    s3lite_faults.fail(503, "SlowDown", operation="PutObject", times=1)
    client = s3lite_server.client(**NO_RETRIES)
    with pytest.raises(client.exceptions.ClientError) as refused:
        client.put_object(Bucket=s3lite_bucket, Key="key", Body=b"data")
    assert refused.value.response["Error"]["Code"] == "SlowDown"
    assert client.list_objects_v2(Bucket=s3lite_bucket)["KeyCount"] == 0
    client.put_object(Bucket=s3lite_bucket, Key="key", Body=b"data")


def test_a_client_that_retries_gets_over_a_fault(s3lite_server: LiveServer, s3lite_bucket: str) -> None:
    s3lite_server.faults.fail(500, "InternalError", operation="GetObject", times=2)
    client = s3lite_server.client(retries={"max_attempts": 3, "mode": "standard"})
    client.put_object(Bucket=s3lite_bucket, Key="key", Body=b"data")
    assert client.get_object(Bucket=s3lite_bucket, Key="key")["Body"].read() == b"data"


def test_a_torn_answer_is_an_error_in_the_client(s3lite_server: LiveServer, s3lite_bucket: str) -> None:
    client = s3lite_server.client(**NO_RETRIES)
    client.put_object(Bucket=s3lite_bucket, Key="key", Body=b"x" * 200_000)
    s3lite_server.faults.tear(1000, key="k*")
    body = client.get_object(Bucket=s3lite_bucket, Key="key")["Body"]
    with pytest.raises((botocore.exceptions.IncompleteReadError, botocore.exceptions.ResponseStreamingError)):
        body.read()


def test_a_lost_answer_leaves_the_object_stored(s3lite_server: LiveServer, s3lite_bucket: str) -> None:
    client = s3lite_server.client(**NO_RETRIES)
    s3lite_server.faults.lose_answer(operation="PutObject", times=1)
    with pytest.raises(botocore.exceptions.ConnectionClosedError):
        client.put_object(Bucket=s3lite_bucket, Key="key", Body=b"data")
    assert client.get_object(Bucket=s3lite_bucket, Key="key")["Body"].read() == b"data"


def test_a_slow_operation_waits(s3lite_server: LiveServer, s3lite_bucket: str) -> None:
    s3lite_server.faults.slow(0.3, operation="ListObjectsV2", times=1)
    started = time.monotonic()
    s3lite_server.client().list_objects_v2(Bucket=s3lite_bucket)
    assert time.monotonic() - started >= 0.3
    s3lite_server.faults.clear()


def test_an_unknown_operation_is_a_mistake_of_the_test() -> None:
    with pytest.raises(ValueError, match="PutObjekt"):
        Faults().fail(operation="PutObjekt")


def test_a_failing_application_fails_the_callback(
    s3lite_server: LiveServer, s3lite_bucket: str, s3lite_callbacks: Receiver
) -> None:
    s3lite_callbacks.default = Answer(b"", status=500)
    callback = {
        "callbackUrl": s3lite_callbacks.url("/uploaded"),
        "callbackBody": "key=${object}",
        "callbackReply": "standard",
        "callbackOnFailure": "error",
    }
    client = s3lite_server.client(**NO_RETRIES)
    with pytest.raises(client.exceptions.ClientError, match="CallbackFailed"):
        client.put_object(
            Bucket=s3lite_bucket,
            Key="key",
            Body=b"data",
            Metadata={"callback": base64.b64encode(json.dumps(callback).encode()).decode()},
        )


def test_a_wrong_secret_is_refused(s3lite_server: LiveServer, s3lite_bucket: str) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3lite_server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3lite_server.access_key,
        aws_secret_access_key="wrong",
    )
    with pytest.raises(client.exceptions.ClientError, match="SignatureDoesNotMatch"):
        client.list_objects_v2(Bucket=s3lite_bucket)


def test_two_buckets_are_two(s3lite_server: LiveServer) -> None:
    assert s3lite_server.bucket() != s3lite_server.bucket()


def test_a_server_is_there_in_no_time(tmp_path: Path) -> None:
    """The quickest of some starts: what else this machine does is not the kit's."""

    def start(number: int) -> float:
        began = time.perf_counter()
        with live_server(throw_away_settings(tmp_path / str(number))):
            return time.perf_counter() - began

    assert min(map(start, range(8))) < 0.3
