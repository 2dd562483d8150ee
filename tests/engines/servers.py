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

    def empty(self, url):
        """Forget every row of it, which takes a tenth of the time of making it again."""
        schema = schema_of(url)
        tables = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))
        deletes = [f"DELETE FROM {schema}.{name}" for (name,) in tables if name != "schema_version"]
        self.execute("; ".join(["SET session_replication_role = replica", *deletes]))  # no order needed

    def drop(self, url):
        self.execute(f"DROP SCHEMA {schema_of(url)} CASCADE")


class Replicated:
    """A primary and a stand-by that confirms each commit; ``url`` names both."""

    def __init__(self, directory):
        self.directory = directory
        self.primary, self.standby = (os.path.join(directory, name) for name in ("primary", "standby"))
        run("postgres.sh", "start", self.primary, "fsync=off")
        self.url = run("postgres.sh", "standby", self.primary, self.standby)
        self._running = [self.primary, self.standby]

    def kill_primary(self):
        run("postgres.sh", "kill", self.primary)
        self._running.remove(self.primary)

    def promote(self):
        run("postgres.sh", "promote", self.standby)

    def remove(self):
        for directory in self._running:
            run("postgres.sh", "stop", directory, "immediate")
        shutil.rmtree(self.directory)


def schema_of(url):
    return url.rpartition("%3D")[2]


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


class Engines:
    """What has been started, by its first user."""

    def __init__(self):
        self.pair = "sqlite+files"
        self._postgres = None
        self._ceph = None
        self._urls = {}
        self._spare = []

    @property
    def postgres(self):
        if self._postgres is None:
            self._postgres = Postgres(scratch_directory("postgres"), "fsync=off")  # no test cuts the power
        return self._postgres

    @property
    def ceph(self):
        if self._ceph is None:
            if not shutil.which("ceph-mon"):
                run("ceph.sh", "start", "/nonexistent")  # says what is missing, and skips or fails
            self._ceph = Ceph(scratch_directory("ceph"))
        return self._ceph

    def storage(self, data_dir):
        """The settings of the pair that ``--storage`` chose, the same whenever a directory is named again."""
        if str(data_dir) not in self._urls:
            index, _, kept = self.pair.partition("+")
            urls = {}
            if index == "postgres":
                urls["database_url"] = self._spare.pop() if self._spare else self.postgres.database()
            if kept == "rados":
                urls["blobs_url"] = self.ceph.namespace()
            self._urls[str(data_dir)] = urls
        return self._urls[str(data_dir)]

    def forget(self, data_dir):
        """What `storage` made is not needed any more."""
        urls = self._urls.pop(str(data_dir), {})
        if "database_url" in urls:
            self.postgres.empty(urls["database_url"])
            self._spare.append(urls["database_url"])

    def remove(self):
        for engine in (self._postgres, self._ceph):
            if engine is not None:
                engine.remove()


ENGINES = Engines()
