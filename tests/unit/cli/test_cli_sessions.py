"""`s3lite session create`: what it prints works, and only so far."""

from __future__ import annotations

import json

import pytest
from client import S3

from s3lite.app import create_app
from s3lite.settings import load


@pytest.fixture
def bucket(data_dir):
    """The server on the same installation, with a bucket of root's."""
    app = create_app(load())
    root = S3(app, "root-key", "root-secret")
    root.put("/bucket")
    root.put("/bucket/in/a", b"x")
    root.put("/bucket/out", b"x")
    yield root
    app.close()


def session(run, root: S3, *arguments: str) -> S3:
    made = json.loads(run("session", "create", "root-key", *arguments, "--json").stdout)
    assert made["Version"] == 1
    return S3(root.wsgi, made["AccessKeyId"], made["SecretAccessKey"], token=made["SessionToken"])


def test_a_session_that_uploads(run, bucket):
    client = session(run, bucket, "--upload-to", "bucket/in/")
    assert client.put("/bucket/in/b", b"x").status == 200
    assert client.put("/bucket/out", b"x").status == 403
    assert client.get("/bucket/in/a").status == 403


def test_a_session_that_reads(run, bucket):
    client = session(run, bucket, "--read-from", "bucket/in/")
    assert client.get("/bucket/in/a").status == 200
    assert client.keys("bucket", "&prefix=in%2F") == ["in/a"]
    assert client.get("/bucket?list-type=2").status == client.get("/bucket/out").status == 403
    assert session(run, bucket, "--read-from", "bucket").keys("bucket") == ["in/a", "out"]


def test_a_session_with_a_policy(run, bucket, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text('{"Statement": {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}}')
    client = session(run, bucket, "--policy", str(path))
    assert client.get("/").status == 200
    assert client.get("/bucket/out").status == 403


def test_credentials_as_environment_variables(run, bucket):
    lines = run("session", "create", "root-key", "--duration", "15m").stdout.splitlines()
    assert [line.partition("=")[0] for line in lines[:3]] == [
        "export AWS_ACCESS_KEY_ID",
        "export AWS_SECRET_ACCESS_KEY",
        "export AWS_SESSION_TOKEN",
    ]
    assert lines[3].startswith("# until 2")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("--duration", "13h"), 1, "43200 seconds"),
        (("--duration", "1d"), 2, "a number of seconds, or 15m"),
        (("--upload-to", "bucket/*"), 2, "without wildcards"),
        (("--upload-to", "BUCKET"), 2, "is not BUCKET/PREFIX"),
        (("--name", "a b"), 2, "2 to 64 letters"),
        (("--upload-to", "bucket/" + "a" * 2048), 1, "2048 bytes"),
    ],
)
def test_what_is_refused(run, data_dir, arguments, exit_code, message):
    result = run("session", "create", "root-key", *arguments, exit_code=exit_code)
    assert message in result.stderr


def test_no_sessions_of_keys_that_are_disabled_or_unknown(run, data_dir):
    assert "There is no access key" in run("session", "create", "nobody", exit_code=1).stderr
    key = json.loads(run("user", "add", "alice", "--json").stdout)["access_key"]
    run("key", "disable", key)
    assert "is disabled" in run("session", "create", key, exit_code=1).stderr
