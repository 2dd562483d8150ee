"""The recipes of docs/receivers.md, as they stand there, each asked by callbacks of a real upload's making."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from e2e.conftest import free_port

from s3lite.callback.signing import CallbackKeys, new_webhook_secret
from s3lite.times import Clock

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs/receivers.md").read_text(encoding="utf-8")
BODY = b"key=in%2Fphoto.jpg&size=15"
Ask = Callable[[bytes, dict[str, str]], tuple[int, bytes]]


def recipe(name: str) -> str:
    """The snippet whose first line names the file."""
    found = re.search(rf"^```\w+\n(?://|#) {re.escape(name)}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    made = new_webhook_secret()
    monkeypatch.setenv("WEBHOOK_SECRETS", f"{new_webhook_secret()} {made}")
    return made


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> Callable[[str], ModuleType]:
    """Loads a recipe beside a copy of the verifier, as its reader would have it."""
    shutil.copy(ROOT / "s3lite/callback/verify.py", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "verify", raising=False)

    def load(name: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(recipe(f"{name}.py"))
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        assert spec
        assert spec.loader
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, loaded)
        spec.loader.exec_module(loaded)
        return loaded

    yield load
    sys.modules.pop("verify", None)


@pytest.fixture(scope="session")
def keys() -> CallbackKeys:
    return CallbackKeys.generate()


def signed(keys: CallbackKeys, secret: str, body: bytes, *, age_s: int = 0) -> dict[str, str]:
    """The headers of a callback."""
    now = int(Clock().time()) - age_s
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": keys.webhook_signature("msg_1", now, body, [secret]),
    }


def check(ask: Ask, keys: CallbackKeys, secret: str) -> None:
    """Right callbacks are taken, also twice; forged, changed and old ones are not."""
    good = signed(keys, secret, BODY)
    for _ in range(2):
        status, answer = ask(BODY, good)
        assert (status, json.loads(answer)) == (200, {"stored": "in/photo.jpg"})
    assert ask(BODY + b"0", good)[0] == 403
    assert ask(BODY, signed(keys, new_webhook_secret(), BODY))[0] == 403
    assert ask(BODY, signed(keys, secret, BODY, age_s=600))[0] == 403
    assert ask(BODY, {"Content-Type": "application/x-www-form-urlencoded"})[0] == 403


def test_flask(module: Callable[[str], ModuleType], keys: CallbackKeys, secret: str) -> None:
    client = module("flask_receiver").app.test_client()

    def ask(body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        answer = client.post("/uploaded", data=body, headers=headers)
        return answer.status_code, answer.data

    check(ask, keys, secret)


def test_fastapi(module: Callable[[str], ModuleType], keys: CallbackKeys, secret: str) -> None:
    """Asked by ASGI itself: Starlette's test client would need yet another package."""
    app = module("fastapi_receiver").app

    def ask(body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/uploaded",
            "raw_path": b"/uploaded",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        asyncio.run(app(scope, receive, send))
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)

    check(ask, keys, secret)


def test_wsgi(module: Callable[[str], ModuleType], keys: CallbackKeys, secret: str) -> None:
    from webtest import TestApp

    client = TestApp(module("wsgi_receiver").application)

    def post(body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        answer = client.post("/", body, headers, expect_errors=True)
        return answer.status_int, answer.body

    assert post(BODY, signed(keys, secret, BODY)) == (200, b'{"id": "msg_1", "bytes": 12}')
    assert post(BODY + b"0", signed(keys, secret, BODY))[0] == 403


DJANGO = """
import json, sys
from django.conf import settings

settings.configure(ROOT_URLCONF="django_receiver", ALLOWED_HOSTS=["testserver"], MIDDLEWARE=[
    "django.middleware.csrf.CsrfViewMiddleware"])
import django
django.setup()
from django.test import Client
client = Client(enforce_csrf_checks=True)
for line in sys.stdin:
    asked = json.loads(line)
    answer = client.post("/uploaded", asked["body"].encode(), headers=asked["headers"],
                         content_type="application/x-www-form-urlencoded")
    print(json.dumps([answer.status_code, answer.content.decode()]), flush=True)
"""


def test_django(tmp_path: Path, keys: CallbackKeys, secret: str) -> None:
    """In a process of its own: Django's settings are the process's."""
    shutil.copy(ROOT / "s3lite/callback/verify.py", tmp_path)
    (tmp_path / "django_receiver.py").write_text(recipe("django_receiver.py"))
    with subprocess.Popen(
        [sys.executable, "-c", DJANGO], cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
            print(json.dumps({"body": body.decode(), "headers": headers}), file=process.stdin, flush=True)
            status, content = json.loads(process.stdout.readline())
            return status, content.encode()

        check(ask, keys, secret)
        process.stdin.close()


# ---------------------------------------------------------------- Node.js


@contextmanager
def node(directory: Path, name: str) -> Iterator[str]:
    """The recipe at work; its URL."""
    for file in ("verify.mjs", name):
        (directory / file).write_text(recipe(file))
    environment = {**os.environ, "PORT": str(free_port())}
    with subprocess.Popen(
        ["node", name], cwd=directory, env=environment, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/uploaded"
        finally:
            process.terminate()


def posting(url: str) -> Ask:
    def ask(body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return ask


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node (Debian: nodejs)")


@needs_node
def test_node(tmp_path: Path, keys: CallbackKeys, secret: str) -> None:
    with node(tmp_path, "node_receiver.mjs") as url:
        check(posting(url), keys, secret)
        cats = b"key=cat.jpg"
        status, answer = posting(url)(cats, signed(keys, secret, cats))
        assert (status, json.loads(answer)) == (422, {"message": "no cats please"})


def express() -> Any:
    """The directory of installed Node packages with express in it, from EXPRESS_DIR."""
    given = os.environ.get("EXPRESS_DIR", "")
    return given if given and (Path(given) / "node_modules/express").is_dir() else None


@needs_node
@pytest.mark.skipif(express() is None, reason="needs EXPRESS_DIR, where `npm install express` was run")
def test_express(tmp_path: Path, keys: CallbackKeys, secret: str) -> None:
    (tmp_path / "node_modules").symlink_to(Path(express()) / "node_modules")
    with node(tmp_path, "express_receiver.mjs") as url:
        check(posting(url), keys, secret)
