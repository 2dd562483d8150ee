"""A real browser with the page that ``s3lite form`` prints: choose a file, submit, read the application's answer.

Chromium is driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/) by the few requests
that this takes. Debian: ``apt-get install chromium chromium-driver``. Without them the tests are
skipped, but not where CI is set: there they fail.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

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

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

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


# ---------------------------------------------------------------- a page of another origin, with fetch

PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>upload</title><pre id="seen">waiting</pre>
<script>
fetch(URL_OF_UPLOAD, {method: "PUT", body: new Blob(["from a page"], {type: "text/plain"})})
  .then(async answer => ({
    status: answer.status,
    etag: answer.headers.get("ETag"),
    callback: answer.headers.get("x-s3lite-callback-status"),
    body: await answer.text(),
  }))
  .catch(error => ({error: String(error)}))
  .then(seen => { document.getElementById("seen").textContent = JSON.stringify(seen); });
</script>"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The origin of a page that is not s3lite's; it serves ``tmp_path``."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{pages.server_address[1]}"
        pages.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def seen_by_a_page(
    server: Server, browser: Browser, bucket: str, directory: Path, site: str, callback: dict[str, str]
) -> dict[str, Any]:
    """What a page of ``site`` sees of its upload by a presigned URL that carries ``callback``."""
    value = base64.b64encode(json.dumps(callback).encode()).decode()
    credentials = Credentials(server.access_key, server.secret_key)
    query = f"callback={quote(value, safe='')}"
    request = AWSRequest(method="PUT", url=f"{server.endpoint}/{bucket}/page.txt?{query}")
    S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60).add_auth(request)
    (directory / "page.html").write_text(PAGE.replace("URL_OF_UPLOAD", json.dumps(request.url)))
    browser.open(f"{site}/page.html")
    return json.loads(browser.wait_for(lambda text: text.startswith("{")))


@pytest.fixture
def shared(server: Server, bucket: str, site: str) -> str:
    """A bucket that pages of ``site`` may upload to."""
    rule = {
        "AllowedOrigins": [site],
        "AllowedMethods": ["PUT"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag", "x-s3lite-callback-status"],
    }
    server.client().put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    return bucket


def test_a_page_of_another_origin_reads_the_applications_answer(
    server: Server, browser: Browser, shared: str, site: str, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.default = Answer(b'{"id": 7}', headers={"Access-Control-Allow-Origin": "http://evil.example"})
    callback = {"callbackUrl": receiver.url(), "callbackBody": "key=${object}"}
    seen = seen_by_a_page(server, browser, shared, tmp_path, site, callback)
    assert (seen["status"], seen["body"], seen["callback"]) == (200, '{"id": 7}', "ok")
    stored = server.client().head_object(Bucket=shared, Key="page.txt")
    assert (seen["etag"], stored["ContentLength"]) == (stored["ETag"], 11)


def test_a_page_of_another_origin_reads_203_and_why(
    server: Server, browser: Browser, shared: str, site: str, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.default = Answer(b"broken", status=502)
    callback = {"callbackUrl": receiver.url(), "callbackBody": "key=${object}"}
    seen = seen_by_a_page(server, browser, shared, tmp_path, site, callback)
    assert (seen["status"], seen["callback"]) == (203, "failed")
    assert "<Code>CallbackFailed</Code><Message>Error status : 502.</Message>" in seen["body"]
    assert "broken" not in seen["body"]
    assert server.client().head_object(Bucket=shared, Key="page.txt")["ETag"] == seen["etag"]


def test_a_page_of_another_origin_reads_why_a_gate_says_no(
    server: Server, browser: Browser, shared: str, site: str, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.default = Answer(b'{"message": "no cats please"}', status=422)
    callback = {"callbackUrl": receiver.url(), "callbackBody": "key=${object}", "callbackMode": "gate"}
    seen = seen_by_a_page(server, browser, shared, tmp_path, site, callback)
    assert seen["status"] == 403
    assert "<Code>CallbackRejected</Code><Message>no cats please</Message>" in seen["body"]
    assert server.client().list_objects_v2(Bucket=shared)["KeyCount"] == 0
