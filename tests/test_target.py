"""The request line: targets by path and host, mount prefixes, proxies."""

from __future__ import annotations

import io
from typing import Any

import pytest
from client import S3

from s3lite.app import create_app
from s3lite.errors import S3Error
from s3lite.settings import HttpSettings, Settings
from s3lite.target import request_head


def environ(raw: str | None, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "wsgi.input": io.BytesIO(),
        "SERVER_NAME": "s",
        "SERVER_PORT": "80",
    }
    if raw is not None:
        path = raw.partition("?")[0]
        base |= {"RAW_URI": raw, "PATH_INFO": _decoded(path), "SCRIPT_NAME": ""}
    return base | more


def _decoded(path: str) -> str:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path).decode("latin-1")


@pytest.mark.parametrize(
    ("raw", "bucket", "key"),
    [
        ("/", "", ""),
        ("/b", "b", ""),
        ("/b/", "b", ""),
        ("/b/k", "b", "k"),
        ("/b//k", "b", "/k"),
        ("/b/a/../k", "b", "a/../k"),
        ("/b/a%2Fb%20c+d", "b", "a/b c+d"),
        ("/b/%E7%85%A7", "b", "照"),
    ],
)
def test_path_style(raw: str, bucket: str, key: str) -> None:
    target = request_head(environ(raw)).target
    assert (target.bucket, target.key, target.virtual_host) == (bucket, key, False)


@pytest.mark.parametrize("raw", ["/b/%FF", "/b/k?prefix=%FF"])
def test_what_is_not_utf_8_is_refused(raw: str) -> None:
    with pytest.raises(S3Error) as caught:
        request_head(environ(raw))
    assert caught.value.code.name == "InvalidURI"


@pytest.mark.parametrize(
    ("host", "bucket", "key"),
    [
        ("my.bucket.s3.test", "my.bucket", "a/b"),
        ("B.S3.TEST:9000", "b", "a/b"),
        ("s3.test", "a", "b"),
        ("elsewhere", "a", "b"),
        ("[::1]:80", "a", "b"),
    ],
)
def test_virtual_hosts(host: str, bucket: str, key: str) -> None:
    target = request_head(environ("/a/b", HTTP_HOST=host), ["s3.test"]).target
    assert (target.bucket, target.key) == (bucket, key)


@pytest.mark.parametrize("prefix", ["/storage", "/a b/ä"])
def test_mount_prefixes(prefix: str) -> None:
    from urllib.parse import quote

    script = prefix.encode().decode("latin-1")
    head = request_head(
        environ(None, RAW_URI=quote(prefix) + "/b/k%2Fx", SCRIPT_NAME=script, PATH_INFO="/b/k/x")
    )
    assert (head.target.bucket, head.target.key, head.mount_prefix) == ("b", "k/x", quote(prefix))


def test_a_rewritten_path_wins_over_the_request_line() -> None:
    head = request_head(
        environ(None, RAW_URI="/outside/b/k", SCRIPT_NAME="", PATH_INFO="/b/k", QUERY_STRING="x=1")
    )
    assert (head.path, head.query) == ("/b/k", "x=1")


def test_absolute_form() -> None:
    head = request_head(environ(None, RAW_URI="http://h/b/k?x", SCRIPT_NAME="", PATH_INFO="/b/k"))
    assert (head.target.bucket, head.target.key, head.query) == ("b", "k", "x")


def test_proxies_are_believed_only_when_trusted() -> None:
    said = {
        "HTTP_HOST": "internal:8000",
        "HTTP_X_FORWARDED_HOST": "b.s3.test",
        "HTTP_X_FORWARDED_PROTO": "https",
    }
    trusted = request_head(environ("/k", **said), ["s3.test"], behind_proxy=True)
    assert (trusted.target.bucket, trusted.origin) == ("b", "https://b.s3.test")
    stranger = request_head(environ("/k", **said), ["s3.test"])
    assert (stranger.target.bucket, stranger.origin) == ("k", "http://internal:8000")


def test_a_signature_survives_a_trusted_proxy(settings: Settings) -> None:
    from dataclasses import replace

    behind = replace(settings, http=HttpSettings(access_log=False, trusted_proxies=("10.0.0.0/8",)))
    app = create_app(behind)

    def proxy(peer: str) -> Any:
        def through(environ: dict[str, Any], start_response: Any) -> Any:
            environ["HTTP_X_FORWARDED_HOST"] = environ["HTTP_HOST"]
            environ |= {"HTTP_HOST": "backend:1", "REMOTE_ADDR": peer}
            return app(environ, start_response)

        return through

    assert S3(proxy("10.1.2.3"), "root-key", "root-secret").put("/bucket").status == 200
    assert S3(proxy("192.0.2.1"), "root-key", "root-secret").put("/bucket").code == "SignatureDoesNotMatch"
    app.close()
