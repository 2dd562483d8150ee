"""The search of logs for secrets finds those that are planted; the search itself is the plugin `leaks`."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from leaks import LEAKS, Leaks

ROOT = Path(__file__).resolve().parent.parent
SIGNATURE = "9f" * 32
KEY = bytes(range(32))


def found(note, text: str) -> list[str]:
    leaks = Leaks()
    note(leaks)
    leaks.read("an innocent line\n" + text + "\nanother", "somewhere")
    return leaks.findings()


@pytest.mark.parametrize(
    "text",
    [
        "secret is wJalrXUt/nFEMI+K7",
        '{"caller": "wJalrXUt/nFEMI+K7"}',
        "key=wJalrXUt%2FnFEMI%2BK7&x",
        "xwJalrXUt/nFEMI+K7x",
    ],
)
def test_a_secret_is_found_however_it_is_written(text: str) -> None:
    (finding,) = found(lambda leaks: leaks.note_setting("wJalrXUt/nFEMI+K7", "secret key"), text)
    assert finding == "secret key (wJal…, 17 characters) in somewhere"


@pytest.mark.parametrize("form", [KEY.hex(), base64.b64encode(KEY).decode(), repr(KEY)])
def test_a_binary_key_is_found_in_each_form(form: str) -> None:
    assert found(lambda leaks: leaks.note(KEY, "key"), f"opened with {form}.")


def test_parts_of_requests_are_secrets() -> None:
    def request(leaks: Leaks) -> None:
        leaks.note_headers(
            [
                (
                    "HTTP_AUTHORIZATION",
                    f"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature={SIGNATURE}",
                ),
                ("HTTP_X_AMZ_SECURITY_TOKEN", "token-of-a-session"),
                ("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_CUSTOMER_KEY", "customers-key-in-base64="),
                ("HTTP_X_AMZ_DATE", "20260101T000000Z"),
            ]
        )
        leaks.note_query("X-Amz-Signature=presigned-signature&X-Amz-Credential=public-name")
        leaks.note_fields({"Policy": "eyJjb25kaXRpb25zIjpbXX0=", "key": "a-public-name"})

    assert (
        len(found(request, f"{SIGNATURE} token-of-a-session customers-key-in-base64= presigned-signature"))
        == 4
    )
    assert len(found(request, '"policy": "eyJjb25kaXRpb25zIjpbXX0="')) == 1
    assert found(request, "20260101T000000Z public-name a-public-name") == []


def test_a_log_is_read_as_it_grows(tmp_path: Path) -> None:
    leaks, log = Leaks(), tmp_path / "server.log"
    log.write_text("started\n")
    leaks.watch(log)
    leaks.read_logs()
    leaks.note("late-secret", "secret")
    assert leaks.findings() == []
    with log.open("a") as file:
        file.write("late-secret\n")
    leaks.read_logs()
    assert leaks.findings() == ["secret (late…, 11 characters) in server.log"]


PLANTED = """
import logging, sys
from client import S3
from s3lite.app import create_app
from s3lite.testing import throw_away_settings

def test_that_passes(tmp_path):
    app = create_app(throw_away_settings(tmp_path))
    s3 = S3(app, "test-access-key", "test-secret-key")
    assert s3.put("/bucket").status == 200
    signature = []
    real = app._authenticate
    def authenticate(environ, head, route):
        {leak}
        return real(environ, head, route)
    app._authenticate = authenticate
    assert s3.get("/bucket").status == 200
    app.close()
"""
LEAKING = {
    "signature": 'logging.getLogger("s3lite").warning("refused %s", head.headers["authorization"])',
    "secret": 'sys.stderr.write(f"{app.services.settings.secret_key}\\n")',
    "none": 'logging.getLogger("s3lite").warning("by %s", "test-access-key")',
}


@pytest.mark.parametrize("leak", LEAKING)
def test_a_run_with_a_planted_leak_fails_although_its_tests_pass(tmp_path: Path, leak: str) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED.replace("{leak}", LEAKING[leak]))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "leaks", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(
        [*command, "test_planted.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout
    assert done.returncode == (0 if leak == "none" else 1)
    assert ("secrets in logs" in done.stdout) == (leak != "none")
    assert "test-secret-key" not in done.stdout  # what tells of a leak is none


def test_the_plugin_is_at_work_here(s3) -> None:
    s3.get("/bucket")
    assert {"alice-secret", "root-secret"} <= LEAKS.secrets.keys()
    assert "signature" in LEAKS.secrets.values()
