"""What a newcomer reads is true: generated parts are fresh, links lead somewhere, examples run.

Commands and snippets are run by tests/snippets.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path

import click
import pytest
from e2e.conftest import free_port

from s3lite.cli.main import cli
from s3lite.routes import ROUTES
from s3lite.settings import Settings
from s3lite.testing import ACCESS_KEY, SECRET_KEY, LiveServer, live_server, throw_away_settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
_NOT_SETTINGS = {
    "default",
    "script",
    "wait",
    "py",
    "listen",
    "services",
}  # attributes in testing.md and embedding.md
EVERYTHING = "\n".join(TEXTS.values())


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---------------------------------------------------------------- the text


def test_generated_parts_are_fresh() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, f"run docs/generate.py: {done.stdout.decode()}{done.stderr.decode()}"


def settings() -> Iterator[str]:
    for item in fields(Settings):
        value = getattr(Settings(), item.name)
        if is_dataclass(value):
            yield from (f"S3LITE_{item.name}_{inner.name}".upper() for inner in fields(value))
        else:
            yield f"S3LITE_{item.name}".upper()


def test_every_setting_has_its_line_and_no_other_is_named() -> None:
    known = set(settings())
    assert {each for each in known if f"| `{each}` |" not in TEXTS[ROOT / "docs/settings.md"]} == set()
    mentioned = set(re.findall(r"S3LITE_[A-Z_]+[A-Z]", EVERYTHING))
    assert mentioned - known == {"S3LITE_CONFIG", "S3LITE_SECTION_NAME"}


def test_dotted_names_are_settings() -> None:
    """`callback.allow` and its like, wherever the documents name them."""
    sections = {item.name: getattr(Settings(), item.name) for item in fields(Settings)}
    for section, option in re.findall(
        r"`(callback|outbox|limits|storage|sweep|lifecycle|encryption|sessions|http)\.(\w+)", EVERYTHING
    ):
        if option not in _NOT_SETTINGS:
            assert hasattr(sections[section], option), f"{section}.{option}"


def commands(group: click.Group, path: str = "s3lite") -> Iterator[str]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {word}")
        else:
            yield f"{path} {word}"


@pytest.mark.parametrize("command", list(commands(cli)))
def test_every_command_is_shown(command: str) -> None:
    assert re.search(rf"python -m {command}\b", EVERYTHING)


def test_every_reserved_path_is_named() -> None:
    source = (ROOT / "s3lite/reserved.py").read_text()
    paths = re.findall(r'case "([\w.-]+)"', source)
    assert len(paths) >= 4
    for path in paths:
        assert f"/.s3lite/{path}`" in TEXTS[ROOT / "docs/operations.md"]


def anchors(text: str) -> set[str]:
    """As GitHub makes them: lower case, punctuation gone, spaces to hyphens."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_resolve(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[path]):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), target


def test_compatibility_says_of_each_operation_what_it_answers_and_how_it_differs() -> None:
    text = TEXTS[ROOT / "docs/compatibility.md"]
    rows = re.findall(r"^\| (\w+) \| (offered|not configured|501) \|(.*)\|$", text, re.MULTILINE)
    assert {name for name, _, _ in rows} == {route.operation for route in ROUTES}
    cells = {name: more.split(" | ") for name, _, more in rows}
    assert "BucketNotEmpty" in cells["DeleteBucket"][1]
    assert "MFA delete" in cells["PutBucketVersioning"][2]
    assert "`-N`" in cells["CopyObject"][2]


@pytest.mark.parametrize(
    "claim", sorted(set(re.findall(r"`(tests/[a-z0-9_/.]+\.py)(?:::(\w+))?`", EVERYTHING))), ids="::".join
)
def test_tests_that_documents_name_exist(claim: tuple[str, str]) -> None:
    file, test = claim
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text


def test_claims_of_the_comparison_name_a_test_and_what_is_said_of_others_a_source() -> None:
    text = TEXTS[ROOT / "docs/comparison.md"]
    claims = text[text.index("## What s3lite has") : text.index("## Figures")].splitlines()
    rows = [line.split(" | ") for line in claims if line.startswith("| ") and not line.startswith("| |")]
    assert len(rows) > 10
    for what, shown, others in rows:
        assert "`tests/" in shown, what
        assert re.search(r"https://|^ ?\|?$|none known|Ceph", others), what


# ---------------------------------------------------------------- examples, run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(throw_away_settings(tmp_path / "server")) as live:
        yield live


def run(words: list[str], server: LiveServer, cwd: Path, **more: str) -> str:
    """Standard output of a Python program that must succeed, with nothing of this machine's settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("S3LITE_", "AWS_"))}
    clean |= {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=clean | more, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_bucket(server: LiveServer, tmp_path: Path) -> None:
    run(["-c", "import boto3; boto3.client('s3').create_bucket(Bucket='photos')"], server, tmp_path)


@contextmanager
def example_application(server: LiveServer) -> Iterator[str]:
    """examples/app.py, knowing the secret of the server's key; its address."""
    with server.app.services.store.catalog.read() as tx:
        key = tx.access_key(ACCESS_KEY)
    assert key is not None
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "examples/app.py", str(port)],
        cwd=ROOT,
        env=os.environ | {"WEBHOOK_SECRET": key.webhook_secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "waiting for callbacks" in process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)
        process.stdout.close()


def test_the_examples_work_together(server: LiveServer, tmp_path: Path) -> None:
    make_bucket(server, tmp_path)
    small, large = tmp_path / "small.txt", tmp_path / "large.bin"
    small.write_bytes(b"hello")
    large.write_bytes(b"x" * (9 << 20))  # upload_file makes it a multipart upload
    with example_application(server) as application:
        for file in (small, large):
            out = run(
                [str(ROOT / "examples/upload.py"), "photos", str(file)],
                server,
                tmp_path,
                CALLBACK_URL=application + "/uploaded",
            )
            assert "'accepted': True" in out
            assert f"stored copy/{file.name}" in out
        url = run(
            [str(ROOT / "examples/presign.py"), "photos", "a dir/ü+.txt"],
            server,
            tmp_path,
            CALLBACK_URL=application + "/uploaded",
        ).strip()
        request = urllib.request.Request(url, b"presigned", {"Content-Type": "text/plain"}, method="PUT")
        with urllib.request.urlopen(request, timeout=20) as answer:
            told = json.load(answer)
        assert told == {
            "accepted": True, "number": 5,
            "key": "a dir/ü+.txt", "size": "9", "type": "text/plain", "user": "42",
        }  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(application, b"forged=1", timeout=20)
        assert refused.value.code == 403
        refused.value.close()


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.py")), ids=name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


# ---------------------------------------------------------------- the container and CI


def instructions(word: str) -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(word + " ")]


def test_the_image_is_made_of_files_that_are_there() -> None:
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in instructions("COPY"):
        words = shlex.split(line)
        if not words[0].startswith("--from"):
            copied |= set(words[:-1])
    assert {each for each in copied if not (ROOT / each).exists()} == set()
    assert copied == shown


def test_the_image_runs_what_make_serve_runs() -> None:
    (command,) = instructions("CMD")
    assert json.loads(command) == ["gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi"]
    assert " ".join(json.loads(command)) in (ROOT / "Makefile").read_text()
    assert instructions("USER") == ["10001"]
    assert instructions("VOLUME") == ["/data"]


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(
        [Path(sys.prefix) / "bin/hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_ci_script_is_sound() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True)


# ---------------------------------------------------------------- the site


def test_every_page_has_one_place_in_the_site() -> None:
    namespace = runpy.run_path(str(ROOT / "docs/site/build.py"))
    placed = [page for pages in namespace["SECTIONS"].values() for page in pages]
    beside = {Path(page).stem for page in namespace["BESIDE"]}
    assert sorted(placed) == sorted({path.stem for path in ROOT.glob("docs/*.md")} - {"index"} | beside)


def test_the_site_is_laid_out_with_links_that_lead_into_it(tmp_path: Path) -> None:
    """Sphinx, which `make docs` asks, looks at the links between pages; this looks at those to other files."""
    runpy.run_path(str(ROOT / "docs/site/build.py"))["lay_out"](tmp_path)
    for page in tmp_path.glob("*.md"):
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (tmp_path / target).is_file(), f"{page.name}: {target}"


def test_every_attack_has_tests_and_they_are_there() -> None:
    rows = [line for line in TEXTS[ROOT / "docs/attacks.md"].splitlines() if "](../tests/" in line]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)", row)
        assert named, row
        for test, path in named:
            assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {test}"
