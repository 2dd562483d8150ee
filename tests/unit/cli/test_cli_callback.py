"""`s3lite callback render` and `s3lite callback listen`."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest

from s3lite import bootstrap
from s3lite.callback.listen import Receiver
from s3lite.callback.send import CallbackSender
from s3lite.callback.spec import RawCallback, parse
from s3lite.callback.verify import oss_signature_fits, verify
from s3lite.ids import Ids
from s3lite.settings import load
from s3lite.times import Clock

TEMPLATE = "bucket=${bucket}&filename=${object}&size=${size}&mimeType=${mimeType}&my_var=${x:var1}"
CALLBACK = json.dumps({"callbackUrl": "http://app.example:8080/a%20b?q=1", "callbackBody": TEMPLATE})
BASE = ("callback", "render", "--bucket", "test1", "--key", "obj.text")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def request(result) -> tuple[str, dict[str, str], bytes]:
    head, _, body = result.stdout_bytes.partition(b"\r\n\r\n")
    line, *lines = head.decode("ascii").split("\r\n")
    return line, dict(each.split(": ", 1) for each in lines), body


# ---------------------------------------------------------------- render


def test_render_prints_the_request_of_the_contracts_first_example(run, data_dir):
    variables = '{"x:var1": "value1", "x:var2": "value2"}'
    options = ("--size", "15", "--mime-type", "text/plain", "--callback-var", variables)
    line, headers, body = request(run(*BASE, "--callback", CALLBACK, *options))
    assert line == "POST /a%20b?q=1 HTTP/1.1"
    assert body == b"bucket=test1&filename=obj.text&size=15&mimeType=text%2Fplain&my_var=value1"
    assert headers["Host"] == "app.example:8080"
    assert headers["Content-MD5"] == "uelAVVt+e6n6Bt/vtQaunw=="
    assert headers["Content-Length"] == "74"
    assert headers["x-oss-requester"] == "root-key"


def test_base64_and_json_are_the_same(run, data_dir):
    plain = run(*BASE, "--callback", CALLBACK, "--callback-var", '{"x:var1":"1"}')
    packed = run(*BASE, "--callback", encoded(CALLBACK), "--callback-var", encoded('{"x:var1":"1"}'))
    assert request(plain)[2] == request(packed)[2]


def test_example_signatures_are_those_of_the_installation(run, data_dir):
    run("user", "add", "alice", "--access-key", "AKA")
    secret = run("key", "webhook-secret", "AKA").stdout.strip()
    line, headers, body = request(run(*BASE, "--callback", CALLBACK, "--access-key", "AKA"))
    assert verify(headers, body, secrets=[secret]) == headers["webhook-id"]
    storage = bootstrap.prepare(load(), clock=Clock(), ids=Ids())
    storage.catalog.close()
    storage.blobs.close()
    assert verify(headers, body, public_keys=storage.callback_keys.public_keys())
    pem = storage.callback_keys.public_pem()
    assert oss_signature_fits(line.split()[1], body, headers["Authorization"], pem)


def test_render_is_what_the_sender_sends(run, data_dir, monkeypatch):
    monkeypatch.setenv("S3LITE_CALLBACK_ALLOW", "127.0.0.1")
    monkeypatch.setattr(Ids, "message", lambda self: "msg_fixed")
    monkeypatch.setattr(Ids, "request", lambda self: "REQUEST")
    monkeypatch.setattr(Clock, "time", lambda self: 1_800_000_000.0)
    with Receiver() as receiver:
        callback = json.dumps({"callbackUrl": receiver.url("/hook?a=1"), "callbackBody": "k=${object}"})
        line, headers, body = request(run(*BASE, "--callback", callback))
        settings = load()
        storage = bootstrap.prepare(settings, clock=Clock(), ids=Ids())
        sender = CallbackSender(settings.callback, keys=storage.callback_keys)
        spec = parse(RawCallback("query", encoded(callback)))
        outcome = sender.deliver(
            spec,
            _event_like("test1", "obj.text"),
            requester=storage.root,
            pub_key_url="http://127.0.0.1:8000/.s3lite/callback-key.pem",
            reply="standard",
        )
        sender.close()
        storage.catalog.close()
        storage.blobs.close()
        (received,) = receiver.requests
    assert outcome.ok
    assert line == f"POST {received.target} HTTP/1.1"
    assert body == received.body
    assert [(name.lower(), value) for name, value in headers.items()] == list(received.headers.items())


def _event_like(bucket: str, key: str):
    from s3lite.callback.render import Event

    return Event(
        bucket=bucket,
        key=key,
        etag="",
        size=0,
        mime_type="",
        operation="PutObject",
        client_ip="",
        request_id="REQUEST",
        callback_id="msg_fixed",
        event_time="",
    )


def test_render_takes_what_a_file_says(run, data_dir, tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 640, 480, 8, 2, 0, 0, 0) + b"\0" * 99
    )
    body = (
        '{"e":${etag},"s":${size},"m":${mimeType},"i":${imageInfo},"5":${contentMd5},"o":${operation},'
        '"v":${versionId},"c":${clientIp},"t":${eventTime},"d":${callbackId},"r":${reqId}}'
    )
    document = {"callbackUrl": "http://a", "callbackBody": body, "callbackBodyType": "application/json"}
    result = run(*BASE, "--callback", json.dumps(document), "--file", str(image), "--json")
    emitted = json.loads(result.stdout)
    digest = hashlib.md5(image.read_bytes())
    told = json.loads(emitted["body"])
    assert told["e"] == digest.hexdigest()
    assert base64.b64decode(told["5"]) == digest.digest()
    assert (told["s"], told["m"]) == (len(image.read_bytes()), "image/png")
    assert told["i"] == {"width": 640, "height": 480, "format": "png"}
    assert (told["o"], told["v"], told["c"]) == ("PutObject", None, "127.0.0.1")
    assert emitted["urls"] == ["http://a/"]
    assert emitted["headers"]["Content-Type"] == "application/json"
    assert base64.b64decode(emitted["body_base64"]) == emitted["body"].encode()


def test_other_urls_are_named_on_standard_error(run, data_dir):
    document = {"callbackUrl": "http://one/a;https://two/b?c=d", "callbackBody": "x"}
    result = run(*BASE, "--callback", json.dumps(document))
    assert request(result)[0] == "POST /a HTTP/1.1"
    assert "https://two/b?c=d" in result.stderr


def test_render_works_without_an_installation(run, environment):
    result = run(*BASE, "--callback", CALLBACK)
    assert "fresh keys" in result.stderr
    assert "webhook-signature" in request(result)[1]
    assert not environment.exists()


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        ("***", "The callback configuration is not base64 encoded."),
        ("{not json", "The callback configuration is not json format."),
        ('{"callbackBody":"x"}', "The callback url configuration is invalid."),
        (
            '{"callbackUrl":"http://a","callbackBody":"$(object)"}',
            "Left brace must be adjacent to dollar sign.",
        ),
        ('{"callbackUrl":"http://a","callbackBody":"${nope}"}', "Unknown callback variable: nope."),
        ('{"callbackUrl":"http://a","callbackBody":"a","callbackBdy":"x"}', "callbackBdy"),
    ],
)
def test_a_fault_is_printed_as_the_uploader_sees_it(run, data_dir, callback, message):
    result = run(*BASE, "--callback", callback, exit_code=1)
    assert result.stdout == ""
    assert message in result.stderr
    assert "InvalidArgument" in result.stderr


def test_an_unknown_access_key_is_refused(run, data_dir):
    refusal = run(*BASE, "--callback", CALLBACK, "--access-key", "nobody", exit_code=1)
    assert "no access key nobody" in refusal.stderr


# ---------------------------------------------------------------- listen


@contextmanager
def listener(*arguments: str):
    """The command in a process of its own, and the URL that it says it listens on."""
    program = [sys.executable, "-m", "s3lite", "callback", "listen", "--bind", "127.0.0.1:0", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            notes = []
            for line in process.stderr:
                notes.append(line)
                if "Listening on" in line:
                    break
            yield process, notes[-1].split()[2], "".join(notes)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0


def send(url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    asked = urllib.request.Request(url.rstrip("/") + "/a%20b?q=1", data=body, headers=headers)
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return answer.status, answer.read()


def test_listen_finds_the_keys_and_verifies(run, data_dir):
    _, headers, body = request(run(*BASE, "--callback", CALLBACK))
    with listener("--reply", '{"a":1}', "--status", "201") as (process, url, _):
        assert send(url, headers, body) == (201, b'{"a":1}')
        assert send(url, headers, body[::-1])[0] == 201
        process.send_signal(signal.SIGINT)
        shown = process.stdout.read()
    good, bad = shown.split("\n\n")[:2]
    assert "POST /a%20b?q=1" in good
    assert "webhook signature: valid" in good
    assert "OSS signature: valid" in good
    assert body.decode() in good
    assert "webhook signature: no signature fits" in bad
    assert "OSS signature: no signature fits" in bad


def test_listen_takes_a_secret_and_prints_json(run, data_dir, monkeypatch, tmp_path):
    secret = run("key", "webhook-secret", "root-key").stdout.strip()
    _, headers, body = request(run(*BASE, "--callback", CALLBACK))
    monkeypatch.setenv("S3LITE_DATA_DIR", str(tmp_path / "elsewhere"))
    with listener("--secret", secret, "--json") as (process, url, _):
        assert send(url, headers, body)[1] == b'{"Status":"OK"}'
        first = json.loads(process.stdout.readline())
    assert (first["webhook_signature"], first["oss_signature"]) == ("valid", "not checked")
    assert first["body"].encode() == body
    assert first["headers"]["webhook-id"].startswith("msg_")


def test_a_given_secret_is_on_trial_alone(run, data_dir):
    _, headers, body = request(run(*BASE, "--callback", CALLBACK))
    with listener("--secret", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "--json") as (process, url, _):
        send(url, headers, body)
        first = json.loads(process.stdout.readline())
    assert (first["webhook_signature"], first["oss_signature"]) == ("no signature fits", "valid")


@pytest.mark.parametrize("arguments", [("--bind", "nowhere"), ("--bind", "h:99999"), ("--secret", "whsec_*")])
def test_listen_refuses_bad_options(run, arguments):
    assert "Invalid value" in run("callback", "listen", *arguments, exit_code=2).stderr


def test_an_address_in_use_is_exit_code_2(run):
    with Receiver() as receiver:
        host, port = receiver.address
        assert "in use" in run("callback", "listen", "--bind", f"{host}:{port}", exit_code=2).stderr
