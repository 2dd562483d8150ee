"""`s3lite callback test`: a signed sample, and a verdict that says what to do."""

from __future__ import annotations

import json
import socket

import pytest

from s3lite.callback.listen import Answer, Receiver

COMMAND = ("callback", "test")


@pytest.fixture(autouse=True)
def allowed(monkeypatch, data_dir):
    monkeypatch.setenv("S3LITE_CALLBACK_ALLOW", "127.0.0.1")


def secret(run, *words):
    return run(*words).stdout.split()


def test_a_good_answer(run):
    with Receiver(secrets=secret(run, "key", "webhook-secret", "root-key")) as receiver:
        shown = run(*COMMAND, receiver.url("/hook")).stdout
    assert 'An uploader would see: 200 application/json {"Status":"OK"}' in shown
    (got,) = receiver.requests
    assert (got.webhook, got.target) == ("valid", "/hook")
    assert b"key=sample%2Fkey.txt&size=8" in got.body


def test_json_is_for_programs(run):
    with Receiver(default=Answer(b"", status=500)) as receiver:
        document = json.loads(run(*COMMAND, receiver.url(), "--json", exit_code=1).stdout)
    assert (document["ok"], document["attempts"][0]["status"]) == (False, 500)
    assert document["uploader_sees"] == "203 CallbackFailed: Error status : 500."


VERDICTS = [
    (Answer(b"OK"), (), "Answer JSON"),
    (Answer(b"{}", status=201), (), "exactly 200"),
    (Answer(b"", status=301), (), "Redirects are not followed"),
    (Answer(b"", status=405), (), "nothing for POST"),
    (Answer(b"", status=403), (), "s3lite key webhook-secret root-key"),
    (Answer(b"", status=500), ("--reply", "standard"), "S3's usual answer, or 424"),
    (Answer(b'{"message": "no cats"}', status=422), ("--mode", "gate"), "403 CallbackRejected: no cats"),
    (Answer(b"", status=503), ("--mode", "gate"), "503 ServiceUnavailable"),
]


@pytest.mark.parametrize(("answer", "options", "verdict"), VERDICTS, ids=[each[2] for each in VERDICTS])
def test_the_verdict_says_what_to_look_at(run, answer, options, verdict):
    with Receiver(default=answer) as receiver:
        assert verdict in run(*COMMAND, receiver.url(), *options, exit_code=1).stdout


def test_a_gate_may_be_answered_with_any_yes(run):
    with Receiver(default=Answer(b"fine", status=202)) as receiver:
        shown = run(*COMMAND, receiver.url(), "--mode", "gate", "--body", "look=${pendingUrl}").stdout
    assert "An uploader would see: S3's usual answer" in shown
    assert b".s3lite%2Fpending%2F" in receiver.requests[0].body


def test_nothing_listens(run):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert "Nothing listens there" in run(*COMMAND, f"http://127.0.0.1:{port}/", exit_code=1).stdout


def test_a_slow_application(run, monkeypatch):
    monkeypatch.setenv("S3LITE_CALLBACK_TIMEOUT_S", "0.1")
    with Receiver(default=Answer(delay_s=0.5)) as receiver:
        assert "raise callback.timeout_s" in run(*COMMAND, receiver.url(), exit_code=1).stdout


def test_a_private_address_comes_with_the_line_to_add(run):
    result = run(*COMMAND, "http://10.1.2.3:8080/", exit_code=1)
    assert 'add "10.1.2.3:8080" to callback.allow' in result.stderr
    assert "Private address is forbidden to callback." in result.stderr


def test_a_sample_can_be_signed_as_by_policy(run, store, data_dir):
    secrets = json.loads(run("callback", "policy", "show", "bucket").stdout)["webhookSecrets"]
    with Receiver(secrets=secrets) as receiver:
        run(*COMMAND, receiver.url(), "--bucket", "bucket", "--as-policy")
    assert receiver.requests[0].webhook == "valid"
    run(*COMMAND, "http://127.0.0.1:1024/", "--bucket", "nope", "--as-policy", exit_code=1)


def test_keys_that_are_not_there(run):
    assert "no access key" in run(*COMMAND, "http://a.example/", "--access-key", "nope", exit_code=1).stderr
