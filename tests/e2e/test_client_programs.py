"""Programs and libraries that people own already, against gunicorn. tests/clients/prepare.sh installs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from s3lite.testing import LiveServer

from .conftest import ROOT, Server

CLIENTS = Path(os.environ.get("CLIENTS_DIR") or ROOT / ".venv" / "clients")
LARGE = os.urandom(21 << 20)


def program(kind: str, name: str) -> str:
    """A program of a set of clients. Without it the test is skipped; with CI=true it fails."""
    path = CLIENTS / kind / "bin" / name
    return str(path) if path.exists() else missing(f"{path} is missing: run tests/clients/prepare.sh")


def missing(why: str) -> str:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def runner(server: Server | LiveServer, bucket: str, directory: Path) -> Callable[..., str]:
    """Runs a program with the server's credential and nothing of this machine's own configuration."""
    clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = clean | {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "LC_ALL": "C.UTF-8",
        "HOME": str(directory),
        "S3_ENDPOINT": server.endpoint,
        "S3_BUCKET": bucket,
    }

    def call(*words: str, **more: str) -> str:
        done = subprocess.run(
            words, env=environment | more, cwd=directory, capture_output=True, text=True, timeout=110
        )
        assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return call


@pytest.fixture
def run(server: Server, bucket: str, tmp_path: Path) -> Callable[..., str]:
    return runner(server, bucket, tmp_path)


SCENARIO = str(ROOT / "tests" / "clients" / "scenario.py")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("old", "boto3_old"), ("libraries", "minio"), ("libraries", "s3fs"), ("libraries", "pyarrow")],
)
def test_libraries(run, kind: str, name: str) -> None:
    run(program(kind, "python"), SCENARIO, name)


@pytest.mark.parametrize("name", ["aiobotocore", "s3fs", "pyarrow", "minio"])
def test_libraries_reach_the_testing_kits_server(
    s3lite_server: LiveServer, s3lite_bucket: str, tmp_path: Path, name: str
) -> None:
    """docs/testing.md: a real server, for clients that no patch of botocore reaches."""
    runner(s3lite_server, s3lite_bucket, tmp_path)(program("libraries", "python"), SCENARIO, name)


@pytest.mark.parametrize("signature", ["v4", "v2"])
def test_s3cmd(run, server: Server, bucket: str, tmp_path: Path, signature: str) -> None:
    host = server.endpoint.removeprefix("http://")
    s3cmd = [
        program("tools", "s3cmd"),
        "--no-ssl",
        f"--host={host}",
        f"--host-bucket={host}",
        "--no-progress",
    ]
    s3cmd += ["--signature-v2"] if signature == "v2" else []
    tree = make_tree(tmp_path)
    run(*s3cmd, "sync", f"{tree}/", f"s3://{bucket}/tree/")
    run(*s3cmd, "cp", f"s3://{bucket}/tree/large", f"s3://{bucket}/copied")
    assert run(*s3cmd, "ls", "--recursive", f"s3://{bucket}").count("\n") == 4
    run(*s3cmd, "sync", f"s3://{bucket}/tree/", f"{tmp_path}/back/")
    assert contents(tmp_path / "back") == contents(tree)
    run(*s3cmd, "del", "--recursive", "--force", f"s3://{bucket}")
    assert run(*s3cmd, "ls", f"s3://{bucket}") == ""


@pytest.mark.parametrize("v2", ["false", "true"])
def test_rclone(run, server: Server, bucket: str, tmp_path: Path, v2: str) -> None:
    remote = {
        "RCLONE_CONFIG_R_TYPE": "s3",
        "RCLONE_CONFIG_R_PROVIDER": "Other",
        "RCLONE_CONFIG_R_ACCESS_KEY_ID": server.access_key,
        "RCLONE_CONFIG_R_SECRET_ACCESS_KEY": server.secret_key,
        "RCLONE_CONFIG_R_ENDPOINT": server.endpoint,
        "RCLONE_CONFIG_R_V2_AUTH": v2,
        "RCLONE_S3_CHUNK_SIZE": "5Mi",
        "RCLONE_S3_UPLOAD_CUTOFF": "5Mi",
    }
    rclone, tree = program("tools", "rclone"), make_tree(tmp_path)
    run(rclone, "sync", str(tree), f"r:{bucket}/tree", **remote)
    run(rclone, "check", "--download", str(tree), f"r:{bucket}/tree", **remote)
    run(rclone, "moveto", f"r:{bucket}/tree/large", f"r:{bucket}/moved", **remote)
    run(rclone, "copy", f"r:{bucket}", f"{tmp_path}/back", **remote)
    assert (tmp_path / "back" / "moved").read_bytes() == LARGE
    run(rclone, "purge", f"r:{bucket}/tree", **remote)
    assert run(rclone, "lsf", "--recursive", f"r:{bucket}", **remote).split() == ["moved"]


def test_restic(run, server: Server, bucket: str, tmp_path: Path) -> None:
    restic = shutil.which("restic") or missing("restic is missing: install the Debian package")
    secret = {"RESTIC_REPOSITORY": f"s3:{server.endpoint}/{bucket}/backup", "RESTIC_PASSWORD": "a password"}
    tree = make_tree(tmp_path)
    run(restic, "init", **secret)
    run(restic, "backup", str(tree), **secret)
    (tree / "small").write_bytes(b"changed")
    run(restic, "backup", str(tree), **secret)
    run(restic, "check", "--read-data", **secret)
    run(restic, "restore", "latest", "--target", str(tmp_path / "back"), **secret)
    assert contents(tmp_path / "back" / tree.relative_to("/")) == contents(tree)
    run(restic, "forget", "--keep-last", "1", "--prune", **secret)
    run(restic, "check", "--read-data", **secret)


def make_tree(tmp_path: Path) -> Path:
    """A small file, one with a name that needs care, and one of several parts."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "small").write_bytes(b"small")
    (tree / "folder" / "a +%ü&.txt").write_bytes(b"named")
    (tree / "large").write_bytes(LARGE)
    return tree


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
