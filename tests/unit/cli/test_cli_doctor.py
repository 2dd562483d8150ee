"""``s3lite doctor`` and ``s3lite explain-signature``: what is broken, and what to do."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from botocore.auth import HmacV1Auth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .conftest import Run


@pytest.fixture(autouse=True)
def free_address(monkeypatch: pytest.MonkeyPatch) -> str:
    """No server of somebody else on this machine must matter."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("S3LITE_BIND", address)
    return address


def states(run: Run, exit_code: int = 0) -> dict[str, str]:
    output = run("doctor", "--json", exit_code=exit_code).stdout
    return {each["what"]: each["state"] for each in json.loads(output)}


def test_a_fresh_installation_is_well(run: Run, data_dir: Path) -> None:
    found = states(run)
    assert found["settings"] == found["index"] == found["bytes"] == found["clock"] == "ok"
    assert found["server"] == "warning"  # it does not run
    assert "fault" not in found.values()


def test_nothing_yet_is_no_fault(run: Run) -> None:
    assert states(run)["data"] == "warning"


def test_bad_settings_are_the_finding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3LITE_DURABILTY", "full")
    result = run("doctor", exit_code=1)
    assert "S3LITE_DURABILTY" in result.output


def test_open_key_files_are_noticed(run: Run, data_dir: Path) -> None:
    os.chmod(data_dir / "secret.key", 0o644)
    result = run("doctor")
    assert "open to others" in result.output
    assert "chmod 600" in result.output


def test_a_damaged_index_is_a_fault(run: Run, data_dir: Path) -> None:
    (data_dir / "index.db").write_bytes(b"not a database" * 1000)
    for name in ("index.db-wal", "index.db-shm"):
        (data_dir / name).unlink(missing_ok=True)
    assert "fault" in states(run, exit_code=1).values()


def test_names_that_do_not_resolve_are_noticed(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3LITE_CALLBACK_ALLOW", "10.0.0.0/8,app.invalid:8080,localhost")
    result = run("doctor")
    assert "! callbacks    app.invalid:8080" in result.output
    assert "localhost is allowed, and resolves" in result.output


# ---------------------------------------------------------------- explain-signature


def signed(
    signer: type = S3SigV4Auth, secret: str = "root-secret", *, method: str = "GET", url: str = ""
) -> str:
    request = AWSRequest(method=method, url=url or "http://127.0.0.1:8000/bucket/a%20b?tagging")
    credentials = Credentials("root-key", secret)
    if signer is S3SigV4Auth:
        signer(credentials, "s3", "us-east-1").add_auth(request)
    else:
        signer(credentials).add_auth(request)
    path = "/" + request.url.split("/", 3)[3]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {request.url.split('/')[2]}"]
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in request.headers.items())]) + "\n\n"


@pytest.fixture
def explain(run: Run, data_dir: Path, tmp_path: Path):
    def call(text: str, *words: str, exit_code: int = 0) -> str:
        (tmp_path / "request.txt").write_text(text)
        return run("explain-signature", str(tmp_path / "request.txt"), *words, exit_code=exit_code).output

    return call


@pytest.mark.parametrize("signer", [S3SigV4Auth, HmacV1Auth])
def test_a_right_signature_fits(explain, signer: type) -> None:
    assert "The signature fits" in explain(signed(signer))


def test_curls_marks_are_read(explain) -> None:
    marked = "* Trying…\n" + "".join(f"> {line}\r\n" for line in signed().splitlines()) + "< HTTP/1.1 403\n"
    assert "The signature fits" in explain(marked)


def test_what_does_not_fit_shows_both_texts_and_no_secret(explain) -> None:
    output = explain(signed(secret="wrong"), exit_code=1)
    assert "SignatureDoesNotMatch" in output
    assert "| AWS4-HMAC-SHA256" in output
    assert "| /bucket/a%20b" in output
    assert "root-secret" not in output


def test_a_secret_with_a_line_end_is_recognised(explain) -> None:
    assert "ends in '\\n'" in explain(signed(secret="root-secret\n"), exit_code=1)


def test_another_host_is_recognised(explain) -> None:
    text = signed(url="http://localhost/bucket/key").replace("Host: localhost", "Host: storage.example")
    assert "signed for the host localhost" in explain(text, exit_code=1)


def test_another_method_is_recognised(explain) -> None:
    text = signed(method="PUT").replace("PUT /", "GET /", 1)
    assert "signed for PUT" in explain(text, exit_code=1)


def test_an_unsigned_request_is_said_to_be_one(explain) -> None:
    assert "not signed at all" in explain("GET /bucket HTTP/1.1\nHost: x\n", exit_code=1)


def test_other_text_is_refused_with_an_example(explain) -> None:
    assert "GET /bucket/key HTTP/1.1" in explain("hello\n", exit_code=1)


def test_a_given_secret_is_tried_instead(explain) -> None:
    assert "fits" in explain(signed(secret="another"), "--secret-key", "another")
