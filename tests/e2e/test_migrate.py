"""`s3lite migrate` from files to PostgreSQL and RADOS, and back, beside a server that is read from."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from botocore.exceptions import ClientError
from engines.servers import ENGINES

from .conftest import ROOT, environment, free_port, start

pytestmark = pytest.mark.timeout(300)


def command(data_dir, *arguments, **settings):
    return subprocess.run(
        [sys.executable, "-m", "s3lite", *arguments, "--json"],
        cwd=ROOT,
        env=environment(data_dir, 1, **settings),
        capture_output=True,
        text=True,
    )


def named(urls):
    return {f"S3LITE_{name.upper()}": url for name, url in urls.items()}


def options(urls):
    return [f"--to-{name.replace('_', '-')}={url}" for name, url in urls.items()]


class Reader(threading.Thread):
    """Reads objects over and over, and remembers every fault."""

    def __init__(self, server, digests):
        super().__init__(daemon=True)
        self.s3, self.digests = server.client(), digests
        self.stop, self.faults, self.read = threading.Event(), [], 0

    def run(self):
        while not self.stop.is_set():
            for key, digest in self.digests.items():
                try:
                    body = self.s3.get_object(Bucket="bucket", Key=key)["Body"].read()
                except ClientError as error:
                    self.faults.append(str(error))
                    continue
                self.read += 1
                if hashlib.md5(body).hexdigest() != digest:
                    self.faults.append(f"{key}: holds something else")


def fill(s3):
    s3.create_bucket(Bucket="bucket")
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    digests = {}
    for number, size in enumerate((0, 10, 5000, 100_000, 3 << 20, 9 << 20) * 3):
        body = os.urandom(size)
        key = f"k{number % 12:02d}"
        s3.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"n": str(number)})
        digests[key] = hashlib.md5(body).hexdigest()
    upload = s3.create_multipart_upload(Bucket="bucket", Key="m")["UploadId"]
    target = {"Bucket": "bucket", "Key": "m", "UploadId": upload}
    parts = [os.urandom(5 << 20), os.urandom(7)]
    made = [s3.upload_part(**target, PartNumber=n, Body=body) for n, body in enumerate(parts, 1)]
    s3.complete_multipart_upload(
        **target,
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": p["ETag"]} for n, p in enumerate(made, 1)]},
    )
    digests["m"] = hashlib.md5(b"".join(parts)).hexdigest()
    return digests


def content(s3):
    """What a client sees of the bucket."""
    listed = s3.list_object_versions(Bucket="bucket")["Versions"]
    return [(row["Key"], row["VersionId"], row["ETag"], row["Size"], row["IsLatest"]) for row in listed]


def test_there_and_back_while_objects_are_read(tmp_path):
    here, port = tmp_path / "data", free_port()
    there = {"database_url": ENGINES.postgres.database(), "blobs_url": ENGINES.ceph.namespace()}
    server = start(here, tmp_path / "log", port)
    digests = fill(server.client())
    before = content(server.client())
    reader = Reader(server, digests)
    reader.start()
    moved = command(here, "migrate", *options(there))
    assert moved.returncode == 0, moved.stderr
    time.sleep(0.3)
    reader.stop.set()
    reader.join()
    assert reader.faults == []
    assert reader.read > 0
    with pytest.raises(ClientError, match="SlowDown"):
        server.client().put_object(Bucket="bucket", Key="late", Body=b"x")
    server.kill()

    server = start(here, tmp_path / "log", port, **named(there))
    assert content(server.client()) == before
    digests["after"] = hashlib.md5(b"after").hexdigest()
    server.client().put_object(Bucket="bucket", Key="after", Body=b"after")
    assert command(here, "check", "--deep", **named(there)).returncode == 0
    before = content(server.client())
    server.kill()

    back = {"database_url": f"sqlite:///{tmp_path}/back/index.db", "blobs_url": f"file://{tmp_path}/back"}
    moved = command(here, "migrate", *options(back), **named(there))
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)["blobs"] > 0
    server = start(here, tmp_path / "log", port, **named(back))
    assert content(server.client()) == before
    reader = Reader(server, digests)
    reader.stop.set()
    reader.run()
    assert reader.faults == []
    assert command(here, "check", "--deep", **named(back)).returncode == 0
    server.kill()


def test_a_run_that_was_killed_goes_on_and_copies_the_rest(tmp_path):
    here = tmp_path / "data"
    there = {"database_url": ENGINES.postgres.database(), "blobs_url": ENGINES.ceph.namespace()}
    server = start(here, tmp_path / "log")
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    for number in range(450):
        s3.put_object(Bucket="bucket", Key=f"k{number}", Body=os.urandom(40_000))
    first = subprocess.Popen(
        [sys.executable, "-m", "s3lite", "migrate", *options(there)], cwd=ROOT, env=environment(here, 1)
    )
    record = here / "migrate.new"
    while not (record.exists() and len(record.read_bytes()) > 100 * 33):
        assert first.poll() is None
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    s3.put_object(Bucket="bucket", Key="meanwhile", Body=os.urandom(40_000))
    moved = command(here, "migrate", *options(there))
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)["blobs"] <= 251
    server.kill()
    assert command(here, "check", "--deep", **named(there)).returncode == 0
    server = start(here, tmp_path / "log", **named(there))
    assert (
        len([*server.client().get_paginator("list_objects_v2").paginate(Bucket="bucket").search("Contents")])
        == 451
    )
    server.kill()


def test_an_index_in_use_is_refused_and_the_source_goes_on(tmp_path):
    used = {"database_url": f"sqlite:///{tmp_path}/used/index.db"}
    assert command(tmp_path / "used", "user", "add", "alice").returncode == 0
    server = start(tmp_path / "data", tmp_path / "log")
    refused = command(tmp_path / "data", "migrate", *options(used))
    assert (refused.returncode, "in use" in refused.stderr) == (1, True)
    server.client().create_bucket(Bucket="bucket")
    server.kill()


def test_thaw_takes_a_move_back(tmp_path):
    server = start(tmp_path / "data", tmp_path / "log")
    moved = command(tmp_path / "data", "migrate", f"--to-database-url=sqlite:///{tmp_path}/other/index.db")
    assert moved.returncode == 0, moved.stderr
    with pytest.raises(ClientError, match="SlowDown"):
        server.client().create_bucket(Bucket="bucket")
    assert command(tmp_path / "data", "migrate", "--thaw").returncode == 0
    server.client().create_bucket(Bucket="bucket")
    server.kill()
