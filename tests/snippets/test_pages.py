"""Every command and every Python snippet of the README and the docs is run, page by page and in order."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pytest
from snippets.blocks import PAGES, ROOT, Block, blocks
from snippets.reader import Reader, program

from s3lite.callback.listen import Answer, Receiver
from s3lite.cli.main import cli
from s3lite.testing import ACCESS_KEY, SECRET_KEY

BLOCKS = [block for page in PAGES for block in blocks(page)]

# How many blocks of a page are not run, and say why. A new one needs a reason that would convince a reader.
NOT_RUN = {
    "CONTRIBUTING.md": 1,
    "docs/operations.md": 1,
}


def runs(block: Block) -> bool:
    """True when the block is run by `test_page`, or saved for a later one."""
    if block.is_of_the_suite or {"not run", "tested by"} & block.marks.keys():
        return False
    return block.language in ("sh", "python") or bool({"file", "output"} & block.marks.keys())


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


BY_BROWSER = ROOT / "docs/tutorial.md"  # test_tutorial.py
RUN = [page for page in PAGES if page != BY_BROWSER and any(runs(block) for block in blocks(page))]


# ---------------------------------------------------------------- what a page takes for granted


class Visit:
    """A page being read: its reader, and what is to end with it."""

    def __init__(self, reader: Reader, stack: ExitStack) -> None:
        self.reader, self.stack = reader, stack

    def server(self, *buckets: str, **settings: str) -> None:
        """A server at work, its root credential in the environment, and buckets of root's."""
        self.reader.credential()
        self.reader.environment |= {f"S3LITE_{name.upper()}": value for name, value in settings.items()}
        self.reader.environment["S3LITE_BUCKETS"] = ",".join(buckets)
        self.reader.environment["S3LITE_CALLBACK_ALLOW"] = ",".join(self.reader.allowed)
        self.reader.begin("exec gunicorn -c conf/gunicorn.conf.py wsgi", "the server")

    def application(self, answer: Answer) -> Receiver:
        """An application that has long been there; ``https://app.example`` is its name."""
        receiver = self.stack.enter_context(Receiver())
        receiver.default = answer
        place = receiver.url("").rstrip("/")
        self.reader.places |= {"https://app.example": place, "https://scanner.example": place}
        return receiver

    def s3lite(self, words: str) -> Any:
        """A command, and the JSON that it prints."""
        command = [sys.executable, "-m", "s3lite", *shlex.split(words), "--json"]
        done = subprocess.run(
            command, cwd=self.reader.directory, env=self.reader.environment, capture_output=True, check=True
        )
        return json.loads(done.stdout)

    def user(self, who: str) -> str:
        """A further user; the access key."""
        return str(self.s3lite(f"user add {who}")["access_key"])


def served(visit: Visit) -> None:
    visit.server("photos")


def nothing(visit: Visit) -> None:
    """The page begins at the beginning."""


def access(visit: Visit) -> None:
    served(visit)
    visit.reader.places["ACCESS_KEY"] = visit.user("bob")


def callbacks(visit: Visit) -> None:
    """Two dead messages in the log, a photo, and a key to change."""
    application = visit.application(Answer(b"", status=410))
    visit.server("photos")
    dead = {"callbackUrl": "https://app.example/hook", "callbackBody": "k=${object}", "callbackMode": "async"}
    uploads = [dead, dead, dead | {"callbackUrl": "http://127.0.0.1:7777/"}]
    with pytest.raises(AssertionError, match="Private address"):
        visit.reader.python(UPLOADS.format(uploads), "the last callback is refused")
    while not (messages := visit.s3lite("callback list --status dead")):
        pass
    visit.reader.places["msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"] = messages[0]["id"]
    application.default = Answer(b'{"Status":"OK"}')
    visit.user("alice")
    visit.reader.places["S3L0123456789ABCDEFG"] = visit.user("dave")
    (visit.reader.directory / "a.jpg").write_bytes((ROOT / "docs/images/console-phone.png").read_bytes())


def embedding(visit: Visit) -> None:
    """A Django project, and credentials for the instances."""
    visit.reader.credential()
    visit.reader.save("mysite/settings.py", "SECRET_KEY = 'x'\nROOT_URLCONF = 'mysite.urls'\n")


def encryption(visit: Visit) -> None:
    """The server's own key is there once something has been encrypted under it."""
    served(visit)
    visit.reader.sh("aws s3 cp README.md s3://photos/ --sse AES256", "encrypted")


def logging(visit: Visit) -> None:
    """Alice, who owns both buckets."""
    visit.server()
    made = visit.s3lite("user add alice")
    visit.reader.environment |= {
        "AWS_ACCESS_KEY_ID": made["access_key"], "AWS_SECRET_ACCESS_KEY": made["secret_key"],
    }  # fmt: skip
    visit.reader.sh("aws s3 mb s3://photos && aws s3 mb s3://logs", "buckets")


def notifications(visit: Visit) -> None:
    visit.application(Answer(b"{}"))
    target = visit.reader.here("hook=https://app.example/s3-events")
    visit.server("photos", notifications_targets=target)


def operations(visit: Visit) -> None:
    """A key to change, and the backups of yesterday and the day before."""
    served(visit)
    visit.reader.places["ACCESS_KEY"] = visit.user("bob")
    visit.reader.places["/backups"] = str(visit.reader.directory / "backups")
    visit.reader.places["/var/lib/new"] = str(visit.reader.directory / "new")
    visit.reader.sh("python -m s3lite backup /backups/monday", "a backup")


def oss(visit: Visit) -> None:
    served(visit)
    visit.reader.places |= {"ACCESS_KEY": ACCESS_KEY, "SECRET_KEY": SECRET_KEY}


def observability(visit: Visit) -> None:
    served(visit)
    visit.reader.places["journalctl -u s3lite -o cat"] = "cat page.log"


PREPARATIONS: dict[str, Callable[[Visit], None]] = {
    "README.md": nothing,
    "docs/access.md": access,
    "docs/callbacks.md": callbacks,
    "docs/embedding.md": embedding,
    "docs/encryption.md": encryption,
    "docs/logging.md": logging,
    "docs/notifications.md": notifications,
    "docs/observability.md": observability,
    "docs/operations.md": operations,
    "docs/oss.md": oss,
    "docs/first-upload.md": nothing,
    "docs/testing.md": nothing,
}

UPLOADS = """
import base64, json, boto3

for callback in {}:
    document = base64.b64encode(json.dumps(callback).encode()).decode()
    boto3.client("s3").put_object(Bucket="photos", Key="a", Body=b"1", Metadata=dict(callback=document))
"""


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Visit]:
    with ExitStack() as stack:
        yield Visit(stack.enter_context(Reader(tmp_path)), stack)


@pytest.mark.parametrize("page", RUN, ids=name)
def test_page(page: Path, visit: Visit) -> None:
    commands = " ".join(block.text for block in blocks(page) if block.language == "sh")
    for needed in ("curl", "jq"):
        if re.search(rf"\b{needed}\b", commands):
            program(needed)
    PREPARATIONS.get(name(page), served)(visit)
    tests = []
    for block in filter(runs, blocks(page)):
        if "def test_" in block.text:
            tests.append(visit.reader.save(f"tests_of_page/test_{block.line}.py", block.text))
        else:
            visit.reader.read(block)
    if tests:
        words = ["-q", "-p", "s3lite.testing", "-p", "no:cacheprovider", "--rootdir=.", "--basetemp=tmp"]
        visit.reader.run(["python", "-m", "pytest", *words, "tests_of_page"], page)


# ---------------------------------------------------------------- what is not run


def test_what_is_not_run_is_known() -> None:
    found: dict[str, int] = {}
    for block in BLOCKS:
        if "not run" in block.marks:
            assert len(block.marks["not run"]) > 20, f"{block}: say why"
            found[name(block.page)] = found.get(name(block.page), 0) + 1
    assert found == NOT_RUN


@pytest.mark.parametrize("block", [block for block in BLOCKS if "tested by" in block.marks], ids=str)
def test_tests_that_blocks_name_are_there(block: Block) -> None:
    file, _, test = block.marks["tested by"].partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "sh" and not runs(block)], ids=str
)
def test_commands_that_are_not_run_are_possible(block: Block) -> None:
    """Files that they name are there, make knows its targets, and options of s3lite are its own."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for path in " ".join(words).replace("=", " ").split():
            if re.match(r"(tests|bench|docs|conf|examples)/", path):
                assert (ROOT / path).exists(), f"{block}: {path}"
        if "make" in words:
            make = words[words.index("make") :]
            subprocess.run([*make, "--dry-run"], cwd=ROOT, check=True, capture_output=True)
        if "s3lite" in words[:4] and "-m" in words[:4]:
            parsed(words[words.index("s3lite") + 1 :])


_HELP = (ROOT / "docs/commands.md").read_text(encoding="utf-8").replace("\\\n", " ")
# A line each, or the lines over which a quoted argument goes.
EXAMPLES = re.findall(r"^s3lite [a-z](?:[^\n']|'[^']*')*", _HELP, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_command_line_are_possible(example: str) -> None:
    """As the help shows them: a command, perhaps a pipe, perhaps what it is for behind it."""
    command = re.split(r"(?<=\S) {2,}(?=\w)|\s[|>]\s", example)[0]
    parsed(shlex.split(command, comments=True)[1:])


def parsed(words: list[str]) -> None:
    """A command line, as far as click gets before doing anything."""
    command: click.Command = cli
    context = None
    while True:
        try:
            context = command.make_context(words[0], words[1:] if context else list(words), parent=context)
        except click.BadParameter as fault:  # the file or directory is the reader's
            if re.search("does not exist|No such file", str(fault)):
                return
            raise
        if not isinstance(command, click.Group):
            return
        rest = [*context._protected_args, *context.args]
        _, command, words = command.resolve_command(context, rest)  # type: ignore[assignment]
        words = [rest[0], *words]
