"""The newcomer's path of docs/first-upload.md, from an empty directory to a delivered callback, in a real browser.

``S3LITE_SCREENSHOTS=docs/images`` makes the pictures of that page anew.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, Server, free_port, start
from .test_browser import Browser, browser
from .test_console_browser import CONSOLE, picture

__all__ = ["browser"]

PAGE = (ROOT / "docs" / "first-upload.md").read_text()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def newcomer(tmp_path: Path, data_dir: Path) -> Iterator[Server]:
    """What ``make serve`` starts, with nothing but the settings that the page names; the ports are free ones."""
    named = dict(re.findall(r"(S3LITE_[A-Z_]+)=(\S+)", PAGE.split("make serve")[0].rpartition("```sh")[2]))
    assert named
    generated = {"S3LITE_ACCESS_KEY": "", "S3LITE_SECRET_KEY": ""}
    live = start(
        data_dir, tmp_path / "server.log", **named | generated | {"S3LITE_CALLBACK_ALLOW": "127.0.0.1"}
    )
    try:
        yield live
    finally:
        live.process.terminate()
        live.process.wait(15)


@pytest.fixture
def application(newcomer: Server, data_dir: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """What ``s3lite callback listen`` plays: its address, and what it prints."""
    port, printed = free_port(), tmp_path / "application.log"
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "s3lite", "callback", "listen", "--bind", f"127.0.0.1:{port}"],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "S3LITE_DATA_DIR": str(data_dir)},
            stdout=out,
            stderr=out,
        )
    try:
        yield f"http://127.0.0.1:{port}/uploaded", printed
    finally:
        process.terminate()
        process.wait(15)


def test_from_nothing_to_a_delivered_callback(
    newcomer: Server, application: tuple[str, Path], browser: Browser, data_dir: Path, tmp_path: Path
) -> None:
    url, printed = application
    credential = json.loads((data_dir / "root-credentials.json").read_text())
    assert credential["access_key"] in newcomer.log.read_text()  # it was printed at the start

    browser.open(newcomer.endpoint + CONSOLE)
    browser.type("input[name=access_key]", credential["access_key"])
    browser.type("input[name=secret_key]", credential["secret_key"])
    picture(browser, "first-upload-1", width=700, height=520)
    browser.click("button.primary")

    browser.wait_for(lambda text: "There is no bucket yet." in text)
    browser.type("input[name=name]", "photos")
    picture(browser, "first-upload-2", height=420)
    browser.click("main button.primary")
    browser.wait_for(lambda text: "Made photos." in text)

    browser.open(newcomer.endpoint + CONSOLE + "composer?bucket=photos&url=" + url)
    browser.click("main button.primary")
    browser.wait_for(lambda text: "Use it for a bucket" in text)
    picture(browser, "first-upload-3", height=1000)
    browser.click("section form button.primary")
    browser.wait_for(lambda text: "Uploads to photos now report to" in text)

    file = tmp_path / "beach.jpg"
    file.write_bytes(b"\xff\xd8\xff" + b"sand" * 10_000)
    browser.type("#files", str(file))
    browser.wait_for(lambda text: "The application was told of it." in text)
    picture(browser, "first-upload-4", height=520)

    browser.open(newcomer.endpoint + CONSOLE + "deliveries?bucket=photos")
    browser.wait_for(lambda text: "delivered" in text and "photos/beach.jpg" in text)
    picture(browser, "first-upload-5", height=620)
    browser.click("tbody a")
    browser.wait_for(lambda text: "key=beach.jpg&size=40003" in text and '{"Status":"OK"}' in text)
    picture(browser, "first-upload-6", height=720)
    assert "key=beach.jpg&size=40003&type=image%2Fjpeg&user=42" in printed.read_text()


def test_the_page_shows_each_step() -> None:
    shown = re.findall(r"\(images/(first-upload-\d)\.png\)", PAGE)
    assert shown == [f"first-upload-{number}" for number in range(1, 7)]
    assert all((ROOT / "docs" / "images" / f"{name}.png").exists() for name in shown)
