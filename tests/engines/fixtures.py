"""The engines of more than one machine, started once per session as plain processes on loopback.

Tests that need one which is not installed are skipped; with CI=true they fail instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest

HERE = Path(__file__).parent
_NOT_INSTALLED = 3


def run(script, *arguments):
    """One of the scripts beside this file; what it printed. Skips, or in CI fails, without the engine."""
    done = subprocess.run([HERE / script, *arguments], capture_output=True, text=True)
    if done.returncode == _NOT_INSTALLED:
        if os.environ.get("CI") == "true":
            pytest.fail(done.stderr)
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Postgres:
    """A server that tests may also stop, kill and start again."""

    def __init__(self, directory, *settings):
        self.directory = directory
        self.url = run("postgres.sh", "start", directory, *settings)

    def start(self):
        run("postgres.sh", "start", self.directory)

    def stop(self, mode="fast"):
        run("postgres.sh", "stop", self.directory, mode)

    def remove(self):
        self.stop("immediate")
        shutil.rmtree(self.directory)

    def execute(self, sql, values=None):
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def database(self):
        """The URL of an empty place of its own: a schema, which is made in milliseconds."""
        schema = f"t{uuid.uuid4().hex}"
        self.execute(f"CREATE SCHEMA {schema}")
        return f"{self.url}?options={quote(f'-csearch_path={schema}')}"

    def drop(self, url):
        self.execute(f"DROP SCHEMA {url.rpartition('%3D')[2]} CASCADE")


class Ceph:
    """A cluster of one monitor and three OSDs."""

    def __init__(self, directory):
        self.directory = directory
        self.url = run("ceph.sh", "start", directory)

    def start(self):
        run("ceph.sh", "start", self.directory)

    def kill(self, daemon):
        run("ceph.sh", "kill", self.directory, daemon)

    def admin(self, *arguments):
        return run("ceph.sh", "admin", self.directory, *arguments)

    def namespace(self):
        """The URL of an empty namespace."""
        return f"{self.url}&namespace=t{uuid.uuid4().hex}"

    def remove(self):
        run("ceph.sh", "stop", self.directory, "KILL")
        shutil.rmtree(self.directory)


def scratch_directory(name):
    """Not below pytest's own, which the engine's user may not enter."""
    directory = tempfile.mkdtemp(prefix=f"s3lite-{name}-")
    os.chmod(directory, 0o755)
    return directory


@pytest.fixture(scope="session")
def postgres_server():
    server = Postgres(scratch_directory("postgres"), "fsync=off")  # no test here cuts the power
    yield server
    server.remove()


@pytest.fixture
def postgres_url(postgres_server):
    """The URL of an empty database."""
    url = postgres_server.database()
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session")
def ceph_cluster():
    if not shutil.which("ceph-mon"):
        run("ceph.sh", "start", "/nonexistent")  # says what is missing, and skips or fails
    cluster = Ceph(scratch_directory("ceph"))
    yield cluster
    cluster.remove()


@pytest.fixture
def rados_url(ceph_cluster):
    """The URL of an empty namespace of a pool."""
    return ceph_cluster.namespace()
