"""A real browser with the page that ``s3lite form`` prints: choose a file, submit, read the application's answer.

Chromium is driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/) by the few requests
that this takes. Debian: ``apt-get install chromium chromium-driver``. Without them the tests are
skipped, but not where CI is set: there they fail.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from s3lite.callback.listen import Answer, Receiver

from .conftest import ROOT, Server, environment, free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver, 12.2: the name under which references travel
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless=new",
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Browser:
    """One session of a WebDriver."""

    def __init__(self, driver: str, profile: Path) -> None:
        self._driver = driver
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        session = self._send("POST", "/session", {"capabilities": wanted})["sessionId"]
        self._driver += f"/session/{session}"

    def _send(self, method: str, path: str, document: object = None) -> Any:
        answer = requests.request(method, self._driver + path, json=document, timeout=60)
        assert answer.ok, answer.text
        return answer.json()["value"]

    def open(self, url: str) -> None:
        self._send("POST", "/url", {"url": url})

    def _find(self, css: str) -> str:
        return self._send("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def type(self, css: str, text: str) -> None:
        self._send("POST", f"/element/{self._find(css)}/value", {"text": text})

    def click(self, css: str) -> None:
        self._send("POST", f"/element/{self._find(css)}/click", {})

    def text(self) -> str:
        """What a person sees of the page."""
        return self.script("return document.body ? document.body.innerText : ''")

    def script(self, source: str) -> Any:
        """What a script in the page returns."""
        return self._send("POST", "/execute/sync", {"script": source, "args": []})

    def command(self, name: str, **parameters: object) -> None:
        """A command of Chromium's own protocol."""
        self._send("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def screenshot(self) -> str:
        """A PNG of what is to be seen, in Base64."""
        return self._send("GET", "/screenshot")

    def accept_questions(self) -> None:
        """Answer confirm() of this page with yes."""
        self.script("window.confirm = () => true")

    def wait_for_title(self, title: str, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while self.script("return document.title") != title:
            assert time.monotonic() < deadline, "the title is " + self.script("return document.title")
            time.sleep(0.05)

    def wait_for(self, done: Callable[[str], bool], timeout_s: float = 20) -> str:
        """The page's text, once ``done`` says so."""
        deadline = time.monotonic() + timeout_s
        while not done(text := self.text()):
            assert time.monotonic() < deadline, f"the page still reads:\n{text}"
            time.sleep(0.05)
        return text

    def close(self) -> None:
        self._send("DELETE", "")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None or CHROMEDRIVER is None:
        missing = "needs chromium and chromedriver (Debian: chromium, chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    home = tmp_path_factory.mktemp("browser")
    port = free_port()
    with (home / "chromedriver.log").open("wb") as log:
        driver = subprocess.Popen([CHROMEDRIVER, f"--port={port}"], stdout=log, stderr=log)
    try:
        wait_until_ready(driver, f"http://127.0.0.1:{port}/status")
        session = Browser(f"http://127.0.0.1:{port}", home / "profile")
        yield session
        session.close()
    finally:
        driver.terminate()
        driver.wait(15)


def wait_until_ready(driver: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            if requests.get(url, timeout=1).json()["value"]["ready"]:
                return
        except requests.ConnectionError:
            assert driver.poll() is None, "chromedriver ended"
        assert time.monotonic() < deadline, "chromedriver does not answer"
        time.sleep(0.05)


def make_page(server: Server, *words: str) -> str:
    """What ``s3lite form`` prints."""
    port = int(server.endpoint.rpartition(":")[2])
    done = subprocess.run(
        [sys.executable, "-m", "s3lite", "form", *words],
        cwd=ROOT,
        env=environment(server.data_dir, port),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("version", ["--v4", "--v2"])
def test_a_form_upload_shows_the_applications_answer(
    server: Server, bucket: str, receiver: Receiver, browser: Browser, tmp_path: Path, version: str
) -> None:
    page, file = tmp_path / "upload.html", tmp_path / "Übung 1+1.txt"
    file.write_bytes(content := os.urandom(300_000))
    receiver.default = Answer(json.dumps({"thanks": "for the file", "n": 7}).encode())
    page.write_text(
        make_page(
            server,
            version,
            *("--bucket", bucket, "--key", "in/${filename}", "--var", "x:user=42 & more"),
            *("--callback-url", receiver.url("/hook"), "--callback-body-type", "application/json"),
            *("--callback-body", '{"key":${object},"size":${size},"user":${x:user}}'),
        )
    )
    browser.open(page.as_uri())
    assert "Upload a file" in browser.text()
    browser.type("input[type=file]", str(file))
    browser.click("button[type=submit]")
    shown = browser.wait_for(lambda text: "thanks" in text or "Error" in text)
    assert json.loads(shown[shown.index("{") : shown.rindex("}") + 1]) == {"thanks": "for the file", "n": 7}
    (got,) = receiver.requests
    assert got.target == "/hook"
    assert json.loads(got.body) == {"key": "in/Übung 1+1.txt", "size": 300_000, "user": "42 & more"}
    assert server.client().get_object(Bucket=bucket, Key="in/Übung 1+1.txt")["Body"].read() == content


def test_a_browser_sees_why_a_large_file_is_refused(
    server: Server, bucket: str, receiver: Receiver, browser: Browser, tmp_path: Path
) -> None:
    page, file = tmp_path / "upload.html", tmp_path / "large.bin"
    file.write_bytes(b"x" * 200_000)
    page.write_text(
        make_page(
            server,
            *("--bucket", bucket, "--key", "in/${filename}", "--max-bytes", "100000"),
            *("--callback-url", receiver.url(), "--callback-body", "key=${object}"),
        )
    )
    browser.open(page.as_uri())
    browser.type("input[type=file]", str(file))
    browser.click("button[type=submit]")
    assert "EntityTooLarge" in browser.wait_for(lambda text: "EntityTooLarge" in text or "Error" in text)
    assert receiver.requests == []
    assert server.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0
