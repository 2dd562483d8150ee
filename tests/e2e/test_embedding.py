"""s3lite inside other WSGI stacks: a prefix is part of what clients sign."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server

from s3lite.app import Application
from s3lite.testing import ACCESS_KEY, SECRET_KEY, LiveServer


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def serving(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def plain_prefix(app: Any, prefix: str) -> Any:
    """The least that mounting takes (PEP 3333): move the prefix from PATH_INFO to SCRIPT_NAME."""

    def mounted(environ: dict[str, Any], start_response: Any) -> Any:
        assert environ["PATH_INFO"].startswith(prefix)
        environ["SCRIPT_NAME"] += prefix
        environ["PATH_INFO"] = environ["PATH_INFO"][len(prefix) :]
        return app(environ, start_response)

    return mounted


def in_flask(app: Any) -> Any:
    flask = Flask("host")

    @flask.get("/hello")
    def hello() -> str:
        return "hello"

    flask.wsgi_app = DispatcherMiddleware(flask.wsgi_app, {"/storage": app})
    return flask


@pytest.mark.parametrize(
    "mount", [in_flask, lambda app: plain_prefix(app, "/storage")], ids=["flask", "plain"]
)
@pytest.mark.parametrize("signature", ["s3", "s3v4"])
def test_mounted_under_a_prefix(s3lite_app: Application, mount: Any, signature: str) -> None:
    with serving(mount(s3lite_app)) as base:
        s3 = boto3.client(
            "s3",
            endpoint_url=f"{base}/storage",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(
                signature_version=signature, retries={"max_attempts": 0}, s3={"addressing_style": "path"}
            ),
        )
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="a b/ä", Body=b"x" * 100_000)
        assert s3.get_object(Bucket="bucket", Key="a b/ä")["Body"].read() == b"x" * 100_000
        assert [row["Key"] for row in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["a b/ä"]
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "a b/ä"})
        assert requests.get(url, timeout=10).status_code == 200
        form = s3.generate_presigned_post("bucket", "form")
        assert (
            requests.post(form["url"], data=form["fields"], files={"file": b"y"}, timeout=10).status_code
            == 204
        )
        health = requests.get(f"{base}/storage/.s3lite/health", timeout=10)
        assert health.text == "ok\n"


def test_the_hook_hears_of_uploads(settings, tmp_path) -> None:
    from client import S3

    from s3lite.app import create_app

    heard: list[dict[str, Any]] = []

    def hook(event: Any) -> None:
        heard.append(dict(event))
        raise RuntimeError("the hook's own trouble")

    app = create_app(settings, on_event=hook)
    s3 = S3(app, "root-key", "root-secret")
    s3.put("/bucket")
    assert s3.put("/bucket/key", b"body").status == 200
    app.close()
    assert [(event["operation"], event["bucket"], event["key"], event["size"]) for event in heard] == [
        ("PutObject", "bucket", "key", 4)
    ]


def test_two_instances_in_one_process_share_nothing(settings, tmp_path) -> None:
    from dataclasses import replace

    from client import S3

    from s3lite.app import create_app

    one, two = create_app(settings), create_app(replace(settings, data_dir=str(tmp_path / "two")))
    S3(one, "root-key", "root-secret").put("/bucket")
    assert S3(two, "root-key", "root-secret").get("/").texts("Buckets/Bucket/Name") == []
    one.close()
    two.close()


def test_the_live_server_fixture(s3lite_server: LiveServer) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=s3lite_server.endpoint,
        aws_access_key_id=s3lite_server.access_key,
        aws_secret_access_key=s3lite_server.secret_key,
        region_name="us-east-1",
    )
    s3.create_bucket(Bucket="bucket")
    s3.upload_fileobj(__import__("io").BytesIO(b"z" * (9 << 20)), "bucket", "key")
    assert s3.head_object(Bucket="bucket", Key="key")["ContentLength"] == 9 << 20


def test_a_refusal_after_the_body_was_read_does_not_wait_for_more(s3lite_server: LiveServer) -> None:
    """Servers like werkzeug's give a `wsgi.input` without an end: reading it twice would hang."""
    s3 = boto3.client(
        "s3",
        endpoint_url=s3lite_server.endpoint,
        aws_access_key_id=s3lite_server.access_key,
        aws_secret_access_key=s3lite_server.secret_key,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}, read_timeout=5),
    )
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=b"x")
    tags = [{"Key": f"k{i}", "Value": "v"} for i in range(11)]
    with pytest.raises(ClientError, match="InvalidTag"):
        s3.put_object_tagging(Bucket="bucket", Key="key", Tagging={"TagSet": tags})
