"""Signatures through the proxies of deploy/: nginx with TLS, Caddy and haproxy; and what a 403 says when one meddles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from .conftest import ROOT, Server, free_port, running

KEYS = ("plain.txt", "a b+c/ü!(x)*'~;=&$@,:.txt", "a//b", "../up", "a%2Fb", "?q#f", "trailing/")
HOST_LINE = "proxy_set_header Host $http_host;"


def program(name: str) -> str:
    """Without it the test is skipped; with CI=true it fails."""
    found = shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
    return str(found)


@contextmanager
def started(words: list[str], directory: Path, port: int) -> Iterator[None]:
    """A proxy that accepts connections, until the block ends."""
    with (directory / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=directory, stdout=log, stderr=log, env=os.environ | {"HOME": str(directory)}
        )
    deadline = time.monotonic() + 20
    try:
        while True:
            try:
                requests.get(f"http://localhost:{port}/", timeout=5)
                break
            except requests.ConnectionError:
                assert process.poll() is None, (directory / "proxy.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def nginx(
    directory: Path, server: Server, change: Callable[[str], str] = str, port: int = 0
) -> Iterator[str]:
    """deploy/nginx.conf as ``change`` leaves it, on a port of this machine; its URL."""
    port, inner = port or free_port(), server.endpoint.removeprefix("http://")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    subprocess.run(
        ["openssl", *words.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    text = (ROOT / "deploy/nginx.conf").read_text()
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace("127.0.0.1:8000", inner)
    text = re.sub(r"ssl_certificate .*;", f"ssl_certificate {certificate};", text)
    text = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {key};", text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    (directory / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {directory}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {paths}\n{change(text)}\n}}"
    )
    with started(
        [program("nginx"), "-p", str(directory), "-c", str(directory / "nginx.conf")], directory, port
    ):
        yield f"https://localhost:{port}"


@contextmanager
def caddy(directory: Path, server: Server) -> Iterator[str]:
    port = free_port()
    text = (ROOT / "deploy/Caddyfile").read_text().replace("storage.example", f"http://localhost:{port}")
    (directory / "Caddyfile").write_text(
        "{\nadmin off\n}\n" + text.replace("127.0.0.1:8000", server.endpoint.removeprefix("http://"))
    )
    with started(
        [program("caddy"), "run", "--adapter", "caddyfile", "--config", "Caddyfile"], directory, port
    ):
        yield f"http://localhost:{port}"


@contextmanager
def haproxy(directory: Path, server: Server) -> Iterator[str]:
    port, inner = free_port(), server.endpoint.removeprefix("http://")
    text = (ROOT / "deploy/haproxy.cfg").read_text()
    text = text.replace("/run/haproxy", str(directory)).replace("bind :8000", f"bind 127.0.0.1:{port}")
    (directory / "haproxy.cfg").write_text(re.sub(r"node\d:8000", inner, text))
    with started([program("haproxy"), "-db", "-f", "haproxy.cfg"], directory, port):
        yield f"http://localhost:{port}"


def client(server: Server, endpoint: str, directory: Path, signature: str = "s3v4") -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        verify=str(directory / "certificate.pem"),
        config=Config(
            signature_version=signature, retries={"max_attempts": 0}, s3={"addressing_style": "path"}
        ),
    )


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that trusts proxies of this machine."""
    with running(tmp_path_factory.mktemp("behind"), S3LITE_HTTP_TRUSTED_PROXIES="127.0.0.1") as server:
        yield server


@pytest.mark.parametrize("proxy", [nginx, caddy, haproxy])
def test_signatures_survive(proxy: Any, behind: Server, tmp_path: Path) -> None:
    with proxy(tmp_path, behind) as endpoint:
        s3, bucket = client(behind, endpoint, tmp_path), f"through-{proxy.__name__}"
        s3.create_bucket(Bucket=bucket)
        for key in KEYS:
            s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"a_b": "v"})
            got = s3.get_object(Bucket=bucket, Key=key)
            assert got["Body"].read() == key.encode(), key
            # Caddy writes names of headers as Go does: A_b.
            assert {name.lower(): value for name, value in got["Metadata"].items()} == {"a_b": "v"}
        assert {each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]} == set(KEYS)
        large = tmp_path / "large"
        large.write_bytes(os.urandom(17 << 20))  # beyond every proxy's default limit, and several parts
        s3.upload_file(str(large), bucket, "large")
        assert s3.get_object(Bucket=bucket, Key="large")["Body"].read() == large.read_bytes()
        session = requests.Session()
        session.trust_env = False
        session.verify = str(tmp_path / "certificate.pem") if endpoint.startswith("https") else False
        for version in ("s3v4", "s3"):
            signing, target = client(behind, endpoint, tmp_path, version), {"Bucket": bucket, "Key": KEYS[1]}
            put = signing.generate_presigned_url("put_object", target)
            assert session.put(put, data=version.encode()).status_code == 200
            assert session.get(signing.generate_presigned_url("get_object", target)).text == version
        form = s3.generate_presigned_post(bucket, "form")
        assert session.post(form["url"], form["fields"], files={"file": b"by form"}).status_code == 204
        session.close()


def refusal(s3: Any, **parameters: Any) -> dict[str, str]:
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket="bucket", Key="k", Body=b"1", **parameters)
    error: dict[str, str] = refused.value.response["Error"]
    assert error["Code"] == "SignatureDoesNotMatch"
    return error


def rewritten(text: str) -> str:
    """As some proxies do by default: the inner server's name instead of the client's, which is told apart."""
    assert HOST_LINE in text
    told = "proxy_set_header Host storage.internal; proxy_set_header X-Forwarded-Host $http_host;"
    return text.replace(HOST_LINE, told)


def test_a_rewritten_host_is_named_and_can_be_allowed(tmp_path: Path) -> None:
    with running(tmp_path) as server, nginx(tmp_path, server, rewritten) as endpoint:
        server.client().create_bucket(Bucket="bucket")
        error = refusal(client(server, endpoint, tmp_path))
        assert error["HeaderThatDiffers"] == "host"
        public = endpoint.removeprefix("https://")
        assert f"the host {public}" in error["Message"]
        assert "http.trusted_proxies" in error["Message"]
    trusting = {"S3LITE_HTTP_TRUSTED_PROXIES": "127.0.0.1"}
    for setting in (trusting, {"S3LITE_HTTP_ENDPOINT_ALIASES": public}):
        with (
            running(tmp_path, **setting) as server,
            nginx(tmp_path, server, rewritten, int(public.partition(":")[2])) as endpoint,
        ):
            s3 = client(server, endpoint, tmp_path)
            s3.put_object(Bucket="bucket", Key="k", Body=b"1")


def test_a_header_that_a_proxy_drops_is_named(behind: Server, tmp_path: Path) -> None:
    behind.client().create_bucket(Bucket="bucket")

    def change(text: str) -> str:
        return text.replace("underscores_in_headers on;", "")

    with nginx(tmp_path, behind, change) as endpoint:
        s3 = client(behind, endpoint, tmp_path)
        s3.put_object(Bucket="bucket", Key="k", Body=b"1", Metadata={"ab": "v"})
        error = refusal(s3, Metadata={"a_b": "v"})
        assert error["HeaderThatDiffers"] == "x-amz-meta-a_b"
        assert "did not arrive" in error["Message"]
