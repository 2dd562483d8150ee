"""Engines of a benchmark's own: PostgreSQL, a Ceph cluster, and radosgw on the same cluster.

The first two are started by the scripts of ``tests/engines``, as they are installed: PostgreSQL syncs, and
each object has three copies. All of them are plain processes on loopback, ended by pid however a run ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness import ACCESS_KEY, ROOT, SECRET_KEY, TICKS, Client, Signer, free_port

_SCRIPTS = ROOT / "tests" / "engines"


@dataclass(frozen=True, slots=True)
class Engine:
    """Something that runs: where to reach it, and the pids at the roots of its processes."""

    url: str
    directory: Path
    roots: Callable[[], list[int]]


def missing() -> list[str]:
    """What has to be installed before `postgres` and `ceph` can start."""
    has_postgres = any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb")
    return [
        f"{name} is not installed: tests/engines/{script} install"
        for name, script, is_there in (
            ("PostgreSQL", "postgres.sh", has_postgres),
            ("Ceph", "ceph.sh", shutil.which("ceph-osd") and shutil.which("ceph-mon")),
        )
        if not is_there
    ]


def _script(name: str, *arguments: str | Path, **environment: str) -> str:
    """What a script of tests/engines printed. Raises RuntimeError."""
    process = subprocess.Popen(
        [_SCRIPTS / name, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, problem = process.communicate()
    except BaseException:  # what it has begun in the background would start more after its end
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"{name} {arguments[0]}: {problem.strip()}")
    return printed.strip()


@contextmanager
def _place(name: str) -> Iterator[Path]:
    """A directory that PostgreSQL's user may enter, too; removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix=f"s3lite-bench-{name}-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[Engine]:
    """A server with an empty database."""
    with _place("postgres") as directory:
        try:
            url = _script("postgres.sh", "start", directory)
            pid = int((directory / "data" / "postmaster.pid").read_text().split()[0])
            yield Engine(url, directory, lambda: [pid])
        finally:
            with suppress(RuntimeError):  # it may not have started
                _script("postgres.sh", "stop", directory, "immediate")


@contextmanager
def ceph() -> Iterator[Engine]:
    """A monitor, three OSDs, an empty pool with three copies of each object."""
    with _place("ceph") as directory:
        try:
            url = _script("ceph.sh", "start", directory, CEPH_OSD_GIB="32")
            pids = [int(path.read_text()) for path in directory.glob("*.pid")]
            yield Engine(url, directory, lambda: pids)
        finally:
            _script("ceph.sh", "stop", directory, "KILL")


def ceph_command(cluster: Engine, *arguments: str) -> str:
    """What the command ``ceph`` says as client.admin."""
    return _script("ceph.sh", "admin", cluster.directory, *arguments)


def tree_cpu_s(roots: Iterable[int]) -> float:
    """CPU seconds of these processes and of all below them, those that have ended included."""
    parents: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, fields = path.read_text().partition(" (")
            words = fields.rpartition(")")[2].split()
            parents.setdefault(int(words[1]), []).append(int(pid))
            used[int(pid)] = sum(int(ticks) for ticks in words[11:15])  # its own, and of children waited for
    total, todo = 0, list(roots)
    while todo:
        pid_ = todo.pop()
        total += used.get(pid_, 0)
        todo += parents.get(pid_, [])
    return total / TICKS


# ---------------------------------------------------------------- radosgw


def has_radosgw() -> bool:
    """Whether Debian's package radosgw is installed."""
    return bool(shutil.which("radosgw") and shutil.which("radosgw-admin"))


def radosgw_version() -> str:
    """Its number, as "16.2.15"."""
    done = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[2]


@contextmanager
def radosgw(cluster: Engine) -> Iterator[Engine]:
    """radosgw with pools of its own in ``cluster``; its user has the benchmarks' keys."""
    directory, port = cluster.directory, free_port()
    keyring = directory / "radosgw.keyring"
    ceph_command(
        cluster, "auth", "get-or-create", "client.rgw", "mon", "allow rw", "osd", "allow rwx",
        "-o", str(keyring),
    )  # fmt: skip
    common = ["-n", "client.rgw", "--conf", str(directory / "ceph.conf"), "--keyring", str(keyring)]
    log = directory / "log" / "radosgw.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["radosgw", "-f", *common, f"--rgw-data={directory / 'rgw'}",
             f"--rgw-frontends=beast endpoint=127.0.0.1:{port} tcp_nodelay=1"],
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(port, process, log)
        made = subprocess.run(
            ["radosgw-admin", *common, "user", "create", "--uid=bench", "--display-name=bench",
             f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"radosgw-admin: {made.stderr.strip()}")
        yield Engine(f"http://127.0.0.1:{port}", directory, lambda: [process.pid])
    finally:
        process.kill()  # in order it would wait for its idle connections
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers; it makes its pools first. Raises RuntimeError."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        client = Client(Signer(("127.0.0.1", port)), timeout_s=5)
        try:
            if client.call("GET", "/").status in (200, 403):
                return
        except OSError:
            pass
        finally:
            client.close()
        time.sleep(0.3)
    raise RuntimeError(f"radosgw did not start:\n{log.read_text(errors='replace')[-3000:]}")
