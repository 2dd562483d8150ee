"""The tutorial, followed to its end by a browser."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path

from e2e.test_browser import Browser, browser
from snippets.blocks import ROOT, blocks
from snippets.reader import Reader
from snippets.test_pages import runs

__all__ = ["browser"]  # a fixture


def test_tutorial(browser: Browser, tmp_path: Path) -> None:
    with Reader(tmp_path) as reader:
        for block in filter(runs, blocks(ROOT / "docs/tutorial.md")):
            reader.read(block)
        photo = shutil.copy(ROOT / "docs/images/console-phone.png", tmp_path / "photo.png")
        gallery = reader.here("http://127.0.0.1:9000/")
        for number in (1, 2):
            browser.open(gallery)
            browser.type("input[type=file]", str(photo))
            browser.click("button")
            answer = json.loads(browser.wait_for(lambda text: "number" in text))
            assert answer == {"key": "in/photo.png", "number": number}
        browser.open(gallery)
        size = photo.stat().st_size
        assert browser.text().count(f"in/photo.png ({size} bytes, by you)") == 2
        browser.open(gallery)
        reader.end()  # the application
        browser.type("input[type=file]", str(photo))
        browser.click("button")
        browser.wait_for(lambda text: "CallbackFailed" in text)
        console = reader.here("http://127.0.0.1:8000/.s3lite/console/")
        with urllib.request.urlopen(console, timeout=10) as answered:
            assert answered.status == 200
