"""The console in a real browser: sign in, upload small and large, look, compose a callback.

``S3LITE_SCREENSHOTS=docs/images`` makes the pictures of docs/console.md anew.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3lite.callback.listen import Answer, Receiver

from .conftest import ACCESS_KEY, SECRET_KEY, Server, running
from .test_browser import Browser, browser

__all__ = ["browser"]

CONSOLE = "/.s3lite/console/"
PICTURES = os.environ.get("S3LITE_SCREENSHOTS", "")
DARK = [{"name": "prefers-color-scheme", "value": "dark"}]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, so that pages show what these tests made."""
    settings = {"S3LITE_BUCKETS": "photos,backups", "S3LITE_CALLBACK_ALLOW": "127.0.0.1"}
    with running(tmp_path_factory.mktemp("console"), **settings) as live:
        yield live


@pytest.fixture
def console(own_server: Server, browser: Browser) -> Browser:
    """Signed in as the operator."""
    browser.open(own_server.endpoint + CONSOLE)
    if "Secret key" in browser.text():
        browser.type("input[name=access_key]", ACCESS_KEY)
        browser.type("input[name=secret_key]", SECRET_KEY)
        browser.click("button.primary")
    browser.wait_for(lambda text: "Sign out" in text)
    return browser


def picture(browser: Browser, name: str, *, width: int = 1200, height: int = 800, dark: bool = False) -> None:
    """Keep what the browser shows, when pictures were asked for."""
    if not PICTURES:
        return
    browser.command("Emulation.setEmulatedMedia", features=DARK if dark else [])
    browser.command(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
    )
    data = base64.b64decode(browser.screenshot())
    Path(PICTURES).mkdir(exist_ok=True)
    (Path(PICTURES) / f"{name}.png").write_bytes(data)


def test_a_wrong_secret_is_explained(own_server: Server, browser: Browser) -> None:
    browser.open(own_server.endpoint + CONSOLE)
    browser.type("input[name=access_key]", ACCESS_KEY)
    browser.type("input[name=secret_key]", "not the secret")
    picture(browser, "console-sign-in", width=700, height=520)
    browser.click("button.primary")
    browser.wait_for(lambda text: "do not belong together" in text)


def test_files_are_uploaded_with_progress(own_server: Server, console: Browser, tmp_path: Path) -> None:
    small, large = tmp_path / "Übung 1+1.txt", tmp_path / "large.bin"
    small.write_text("a small file\n" * 20)
    large.write_bytes(os.urandom(17 << 20))
    console.open(own_server.endpoint + CONSOLE + "b/photos?prefix=2026/11/")
    console.type("#files", f"{small}\n{large}")
    console.wait_for(lambda text: "17.0 MiB" in text and "Übung 1+1.txt" in text, 60)
    stored = own_server.client().get_object(Bucket="photos", Key="2026/11/large.bin")
    assert stored["ETag"].endswith('-2"')
    assert stored["Body"].read() == large.read_bytes()
    picture(console, "console-objects")


def test_an_object_page_previews_and_removes(own_server: Server, console: Browser) -> None:
    client = own_server.client()
    client.put_bucket_versioning(Bucket="photos", VersioningConfiguration={"Status": "Enabled"})
    for text in ("first draft\n", "Meet at the lighthouse at noon.\nBring the kite.\n"):
        client.put_object(
            Bucket="photos",
            Key="notes/plan.txt",
            Body=text.encode(),
            ContentType="text/plain",
            Metadata={"author": "alice"},
            Tagging="team=coast&status=final",
        )
    console.open(own_server.endpoint + CONSOLE + "o/photos/notes/plan.txt")
    text = console.wait_for(lambda text: "lighthouse" in text)
    assert "alice" in text
    picture(console, "console-object", height=900)
    console.accept_questions()
    console.click("form[data-confirm] button")
    console.wait_for(lambda text: "Removed notes/plan.txt." in text)


def test_a_stored_page_cannot_reach_the_console(own_server: Server, console: Browser) -> None:
    script = f"<script>fetch('{CONSOLE}buckets').then(r => r.text()).then(t => document.title = t, e => document.title = 'kept out')</script>"
    own_server.client().put_object(
        Bucket="photos", Key="page.html", Body=script.encode(), ContentType="text/html"
    )
    console.open(own_server.endpoint + CONSOLE + "o/photos/page.html")
    link = console.script(
        "return [...document.querySelectorAll('a')].find(a => a.textContent == 'Download').href"
    )
    url = own_server.client().generate_presigned_url("get_object", {"Bucket": "photos", "Key": "page.html"})
    assert link
    console.open(url)
    console.wait_for_title("kept out")


def test_the_composer_shows_request_and_snippets(own_server: Server, console: Browser) -> None:
    console.open(own_server.endpoint + CONSOLE + "composer")
    console.click("main button.primary")
    text = console.wait_for(lambda text: "webhook-signature" in text)
    assert "boto3" in text
    picture(console, "console-composer", height=1100)


def test_settings_explain_what_is_wrong(own_server: Server, console: Browser) -> None:
    console.open(own_server.endpoint + CONSOLE + "settings/photos?tab=notification")
    console.click("[data-fill]")
    console.click("main button.primary")
    console.wait_for(lambda text: "not among this server's notifications.targets" in text)
    picture(console, "console-settings", height=900, dark=True)


def test_deliveries_are_followed_live(own_server: Server, console: Browser) -> None:
    console.open(own_server.endpoint + CONSOLE + "deliveries")
    with Receiver() as receiver:
        for number in range(12):
            receiver.default = Answer(status=500) if number % 5 == 4 else Answer(delay_s=0.01 * number)
            _upload(own_server, f"in/photo-{number}.jpg", receiver.url("/uploaded"))
        console.wait_for(lambda text: "in/photo-11.jpg" in text and "Error status : 500." in text)
    picture(console, "console-deliveries", height=900)


def test_health_is_plotted(own_server: Server, console: Browser) -> None:
    console.open(own_server.endpoint + CONSOLE + "health")
    client = own_server.client()
    for turn in range(100 if PICTURES else 5):
        for number in range(1 + turn * turn % 7):
            client.put_object(Bucket="backups", Key=f"k{number}", Body=b"x" * 50_000)
        client.get_object(Bucket="backups", Key="k0")["Body"].read()
        time.sleep(0.6)
    console.wait_for(lambda text: "KiB" in text.split("What is stored")[0])
    points = (
        "return document.querySelector('[data-plot=disk] polyline').getAttribute('points').split(' ').length"
    )
    assert console.script(points) >= 2
    picture(console, "console-health")


def test_a_user_gets_a_key(own_server: Server, console: Browser) -> None:
    console.open(own_server.endpoint + CONSOLE + "users")
    console.type("input[name=id]", "alice")
    console.type("input[name=display_name]", "Alice")
    console.click("main form.row button.primary")
    console.wait_for(lambda text: "The secret is shown only now." in text)


def _upload(server: Server, key: str, url: str) -> None:
    callback = {"callbackUrl": url, "callbackBody": "key=${object}", "callbackReply": "standard"}
    metadata = {"callback": base64.b64encode(json.dumps(callback).encode()).decode()}
    server.client().put_object(Bucket="photos", Key=key, Body=b"x", Metadata=metadata)


TAB, ENTER = "\ue004", "\ue007"  # WebDriver, 17.4.2


def test_the_keyboard_is_enough(own_server: Server, console: Browser) -> None:
    console.open(own_server.endpoint + CONSOLE + "buckets")
    console.press(TAB)
    assert console.script("return document.activeElement.textContent") == "Skip to content"
    for _ in range(30):
        if console.script("return document.activeElement.name") == "name":
            break
        console.press(TAB)
        assert console.script("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    console.press(*"by-keyboard", ENTER)
    console.wait_for(lambda text: "Made by-keyboard." in text)


PLACES = (
    "buckets", "b/photos", "o/photos/page.html", "settings/photos", "settings/photos?tab=callback",
    "composer", "deliveries", "users", "health",
)  # fmt: skip


def test_pages_are_fit_for_phones_and_the_dark(own_server: Server, console: Browser) -> None:
    console.command(
        "Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True
    )
    for place in PLACES:
        console.open(own_server.endpoint + CONSOLE + place)
        assert console.script("return document.documentElement.scrollWidth") <= 400, place
    console.open(own_server.endpoint + CONSOLE + "deliveries")
    assert console.script("return document.querySelector('.stack tbody').scrollWidth") <= 400
    console.open(own_server.endpoint + CONSOLE + "b/photos")
    picture(console, "console-phone", width=400, height=760, dark=True)
    console.command("Emulation.clearDeviceMetricsOverride")
