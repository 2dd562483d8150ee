"""The package as it is installed: a wheel is built, put into a fresh environment, and serves from there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

import s3lite

from .conftest import ACCESS_KEY, ROOT, SECRET_KEY, Server, free_port


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools leaves its work beside what it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "s3lite"):
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    words = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
        str(source),
    ]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel; what it depends on is that of the tests."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    words = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), *words], check=True
    )
    packages = next((environment / "lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin"


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("s3lite/")}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "s3lite").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there


def clean(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | more


def test_the_command_knows_its_version(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "s3lite", "--version"],
        cwd=tmp_path, env=clean(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"s3lite {s3lite.__version__}\n"


def test_the_fixtures_are_a_pytest_plugin(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it(s3lite_client, s3lite_bucket):\n"
        "    s3lite_client.put_object(Bucket=s3lite_bucket, Key='k', Body=b'1')\n"
    )
    done = subprocess.run(
        [installed / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=clean(AWS_EC2_METADATA_DISABLED="true"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.fixture
def serving(installed: Path, tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    environment = clean(
        S3LITE_ACCESS_KEY=ACCESS_KEY,
        S3LITE_SECRET_KEY=SECRET_KEY,
        S3LITE_WORKERS="1",
        S3LITE_BUCKETS="photos",
    )
    words = [installed / "s3lite", "serve", "--bind", f"127.0.0.1:{port}", "--data-dir", "kept"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    server = Server(process, f"http://127.0.0.1:{port}", tmp_path / "kept", tmp_path / "log")
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"{server.endpoint}/.s3lite/ready", timeout=2):
                break
        except OSError:
            assert process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield server
    if process.poll() is None:
        process.kill()
        process.wait()


def test_it_serves_uploads_and_its_console(serving: Server) -> None:
    s3 = serving.client()
    s3.put_object(Bucket="photos", Key="k", Body=b"from a wheel")
    assert s3.get_object(Bucket="photos", Key="k")["Body"].read() == b"from a wheel"
    with urllib.request.urlopen(f"{serving.endpoint}/.s3lite/console/", timeout=10) as page:
        assert b"<form" in page.read()
    assert (serving.data_dir / "index.db").exists()
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(20) == 0
    with pytest.raises(EndpointConnectionError):
        s3.list_buckets()


def test_settings_that_cannot_be_are_told_without_a_server(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "s3lite", "serve"],
        cwd=tmp_path, env=clean(S3LITE_WORKERZ="1"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "S3LITE_WORKERZ: no such setting" in done.stderr


# What each shell is asked to complete, and prints: `s3lite ke` and the choices of an option.
COMPLETERS = {
    "bash": [
        "bash", "--norc", "-c",
        'eval "$(s3lite completion bash)"; COMP_WORDS=(s3lite $1); COMP_CWORD=$2; _s3lite_completion s3lite;'
        ' printf "%s\\n" "${COMPREPLY[@]}"', "-",
    ],
    "zsh": [
        "zsh", "-f", "-c",
        'compadd() { print -l -- $completions; };'
        ' _describe() { print -l -- ${completions_with_descriptions%%:*}; };'
        ' compdef() { :; }; eval "$(s3lite completion zsh)"; words=(s3lite "${(@s: :)1}"); CURRENT=$(($2 + 1));'
        " response=(); _s3lite_completion", "-",
    ],
    "fish": ["fish", "--no-config", "-c", 's3lite completion fish | source; complete -C "s3lite $argv[1]"'],
}  # fmt: skip


@pytest.mark.parametrize("shell", COMPLETERS)
@pytest.mark.parametrize(
    ("typed", "at", "offered"),
    [
        ("ke", 1, {"key", "keyring"}),
        ("completion ", 2, {"bash", "zsh", "fish"}),
        ("check --re", 2, {"--repair"}),
    ],
)
def test_shells_complete(
    shell: str, typed: str, at: int, offered: set[str], installed: Path, tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{shell} is not installed")
    done = subprocess.run(
        [*COMPLETERS[shell], typed, str(at)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=clean(HOME=str(tmp_path)) | {"PATH": f"{installed}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert {line.split("\t")[0] for line in done.stdout.split("\n")} - {""} == offered, done.stderr
