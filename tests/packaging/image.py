"""Do the steps of the Dockerfile in a clean Debian, then run what they made: ``python tests/packaging/image.py``.

For machines without a Docker daemon. Needs root, mmdebstrap, and the package index that pip uses here. Each stage is
a fresh root with Debian's Python under the name that the official image has; instructions are done in order by
chroot. Then the command starts as the image's user with the image's variables, the health check and an upload must
succeed, and SIGTERM must end it well. It says what it does on standard output; exit code 0 when all of it went well.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from e2e.conftest import ACCESS_KEY, SECRET_KEY, Server, free_port  # noqa: E402

PACKAGES = "python3,python3-venv,ca-certificates"
IN_A_NAMESPACE = "IMAGE_MOUNTS_ARE_OURS"


def run(*words: object, **more: object) -> None:
    subprocess.run([str(word) for word in words], check=True, **more)  # type: ignore[call-overload]


class Stage:
    """One FROM: a root of its own, and what its instructions have set."""

    def __init__(self, root: Path, base: Path) -> None:
        self.root, self.directory = root, "/"
        self.user = "0"
        self.command: list[str] = []
        self.health: list[str] = []
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        root.mkdir()
        run("tar", "xf", base, "-C", root)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for system in ("dev", "proc"):
            run("mount", "--rbind", f"/{system}", root / system)
        for file in ("/etc/resolv.conf", "/etc/pip.conf", os.environ.get("PIP_CERT", "")):
            if file and Path(file).exists():
                (root / file.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, root / file.lstrip("/"))

    def started(self, words: list[str], **more: str) -> list[str]:
        """The command line that runs ``words`` in here as the user of the moment."""
        variables = [f"{name}={value}" for name, value in (self.environment | more).items()]
        inside = ["sh", "-c", f'cd {self.directory} && exec "$@"', "-", *words]
        return [
            "chroot",
            f"--userspec={self.user}:{self.user}",
            str(self.root),
            "env",
            "-i",
            *variables,
            *inside,
        ]

    def copy(self, words: list[str], stages: dict[str, Stage]) -> None:
        source = ROOT
        if words[0].startswith("--from="):
            source = stages[words.pop(0).partition("=")[2]].root
        *files, target = words
        there = self.root / os.path.normpath(f"{self.directory}/{target}").lstrip("/")
        is_folder = target.endswith("/") or len(files) > 1
        (there if is_folder else there.parent).mkdir(parents=True, exist_ok=True)
        for file in files:
            path = source / file.lstrip("/")
            if path.is_dir():
                there.mkdir(parents=True, exist_ok=True)
                run("cp", "-a", f"{path}/.", there)
            else:
                shutil.copy2(path, there / path.name if is_folder else there)


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def build(scratch: Path, base: Path) -> Stage:
    """All stages; the last one."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    for word, rest in instructions():
        print(f"{word} {rest[:110]}", flush=True)
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "image"
            stage = stages[name] = Stage(scratch / name, base)
            continue
        assert stage is not None
        if word == "RUN":
            run(*stage.started(["sh", "-c", rest], **index), stdout=subprocess.DEVNULL)
        elif word == "COPY":
            stage.copy(shlex.split(rest), stages)
        elif word == "ENV":
            for name, _, value in (pair.partition("=") for pair in shlex.split(rest)):
                stage.environment[name] = value.replace("$PATH", stage.environment["PATH"])
        elif word == "WORKDIR":
            stage.directory = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word == "HEALTHCHECK":
            stage.health = json.loads(rest.partition("CMD ")[2])
        elif word == "CMD":
            stage.command = json.loads(rest)
        else:
            assert word in ("VOLUME", "EXPOSE"), word
    assert stage is not None
    return stage


def serve(image: Stage, log: Path) -> None:
    """Start it, ask it, end it."""
    port = free_port()
    given = {
        "S3LITE_BIND": f"127.0.0.1:{port}",
        "S3LITE_ACCESS_KEY": ACCESS_KEY,
        "S3LITE_SECRET_KEY": SECRET_KEY,
        "S3LITE_BUCKETS": "photos",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(image.started(image.command, **given), stdout=out, stderr=out)
    server = Server(process, f"http://127.0.0.1:{port}", image.root / "data", log)
    try:
        deadline = time.monotonic() + 20
        while subprocess.run(
            image.started(image.health, **given), check=False, stderr=subprocess.DEVNULL
        ).returncode:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        print("the health check succeeds", flush=True)
        server.client().put_object(Bucket="photos", Key="k", Body=b"1" * 100_000)
        assert len(server.client().get_object(Bucket="photos", Key="k")["Body"].read()) == 100_000
        owner = (server.data_dir / "index.db").stat().st_uid
        assert owner == int(image.user) != 0
        print(f"an upload is stored, by user {owner}", flush=True)
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
        print("SIGTERM ends it with exit code 0", flush=True)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def main() -> int:
    """``image.py [BASE.tar]``: an earlier run's base, or where to keep one."""
    if IN_A_NAMESPACE not in os.environ:  # mounts end with this process, whatever happens
        os.environ[IN_A_NAMESPACE] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        base = Path(sys.argv[1]) if len(sys.argv) > 1 else scratch / "base.tar"
        if not base.exists():
            run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", base)
        try:
            serve(build(scratch, base), scratch / "log")
        finally:
            for system in sorted(scratch.glob("*/dev")) + sorted(scratch.glob("*/proc")):
                subprocess.run(["umount", "--recursive", "--lazy", system], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
