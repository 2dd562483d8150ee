"""Peers that break HTTP or break off, on a real socket: nothing is smuggled, stored by halves, or left behind."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import forms
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .conftest import ACCESS_KEY, SECRET_KEY, Server, running
from .test_connections import workers
from .test_wire import answer, connect, head, presigned

SIZE = 200_000  # of the uploads that break off: beyond what is kept in the index
_LAST_CHUNK = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one worker that soon gives silent peers up, with an empty bucket."""
    settings = {"S3LITE_WORKERS": "1", "S3LITE_HTTP_IDLE_TIMEOUT_S": "1", "S3LITE_DOMAINS": "s3.test"}
    with running(tmp_path_factory.mktemp("hostile"), **settings) as server:
        server.client().create_bucket(Bucket="bucket")
        yield server
        assert "Traceback" not in server.log.read_text(), server.log.read_text()[-4000:]


def host(server: Server) -> bytes:
    return urlsplit(server.endpoint).netloc.encode()


def signed(server: Server, method: str, target: str, headers: dict[str, str] | None = None) -> str:
    """A presigned path and query whose signature covers these headers."""
    request = AWSRequest(method, server.endpoint + target, headers or {})
    S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1", expires=300).add_auth(request)
    return request.url.removeprefix(server.endpoint)


def statuses(received: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.[0-9] ([0-9]{3}) ", received)


def ask(server: Server, raw: bytes) -> tuple[list[bytes], bool]:
    """The statuses that come back, and whether the server then closes the connection."""
    received = b""
    with closing(connect(server)) as sock:
        try:
            sock.sendall(raw)
            while piece := sock.recv(65536):
                received += piece
                sock.settimeout(0.5)
        except TimeoutError:
            return statuses(received), False
        except ConnectionError:
            pass
    return statuses(received), True


def keys(server: Server) -> dict[str, int]:
    listed = server.client().list_objects_v2(Bucket="bucket")
    return {item["Key"]: item["Size"] for item in listed.get("Contents", [])}


def busy_s(server: Server) -> float:
    """Seconds of a core that the worker has had: what else the machine does is not counted."""
    (pid,) = workers(server)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(server: Server) -> int:
    """The most memory that the worker has had, in bytes."""
    (pid,) = workers(server)
    found = re.search(r"VmHWM:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) << 10


# ---------------------------------------------------------------- requests that can be read in two ways

AMBIGUOUS = {
    "length-and-chunked": (b"Content-Length: {length}", b"Transfer-Encoding: chunked"),
    "chunked-and-length": (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "two-lengths": (b"Content-Length: 5", b"Content-Length: {length}"),
    "two-equal-lengths": (b"Content-Length: 5", b"Content-Length: 5"),
    "list-of-lengths": (b"Content-Length: 5, 5",),
    "length-with-plus": (b"Content-Length: +5",),
    "length-below-zero": (b"Content-Length: -5",),
    "length-in-hex": (b"Content-Length: 0x5",),
    "length-with-underscore": (b"Content-Length: 0_5",),
    "length-in-other-digits": ("Content-Length: ٥".encode(),),
    "empty-length": (b"Content-Length: ",),
    "length-under-another-name": (b"Content_Length: 5",),
    "chunked-under-another-name": (b"Transfer_Encoding: chunked", b"Content-Length: 0"),
    "unknown-coding": (b"Transfer-Encoding: xchunked",),
    "coding-with-vertical-tab": (b"Transfer-Encoding: \x0bchunked",),
    "chunked-then-identity": (b"Transfer-Encoding: chunked, identity",),
    "identity-then-chunked": (b"Transfer-Encoding: identity, chunked",),
    "gzip-then-chunked": (b"Transfer-Encoding: gzip, chunked",),
    "chunked-twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "space-before-colon": (b"Content-Length : 5",),
    "folded-line": (b"Content-Length: 5", b"X-A: b", b" Transfer-Encoding: chunked"),
    "folded-first-line": (b" X-A: b", b"Content-Length: 5"),
    "bare-lf": (b"X-A: b\nContent-Length: 5",),
    "bare-cr": (b"X-A: b\rContent-Length: 5",),
    "nul": (b"X-A: b\0c", b"Content-Length: 5"),
    "line-without-colon": (b"X-A", b"Content-Length: 5"),
    "line-without-name": (b": b", b"Content-Length: 5"),
    "two-hosts": (b"Host: other.s3.test", b"Content-Length: 5"),
}  # fmt: skip


@pytest.mark.parametrize("lines", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_an_ambiguous_request_is_refused_and_nothing_after_it_is_read(
    alone: Server, lines: tuple[bytes, ...]
) -> None:
    smuggled = head(alone, "PUT", presigned(alone, "bucket", "smuggled"), "Content-Length: 1") + b"x"
    length = b"%d" % (len(_LAST_CHUNK) + len(smuggled))
    start = head(alone, "PUT", presigned(alone, "bucket", "outer"))[:-2]
    sent = start + b"".join(line.replace(b"{length}", length) + b"\r\n" for line in lines) + b"\r\n"
    found, is_closed = ask(alone, sent + _LAST_CHUNK + smuggled)
    assert found in ([b"400"], [b"501"])
    assert is_closed
    assert keys(alone) == {}


CHUNKS = {
    "size-in-c": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size-with-plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "size-below-zero": b"-5\r\nhello\r\n0\r\n\r\n",
    "line-feeds": b"5\nhello\n0\n\n",
    "no-line-end": b"5\r\nhelloXX0\r\n\r\n",
    "control-in-extension": b"5;\x01=\x02\r\nhello\r\n0\r\n\r\n",
    "line-feed-in-extension": b"5;a=b\nc\r\nhello\r\n0\r\n\r\n",
    "trailer-without-colon": b"5\r\nhello\r\n0\r\nabc\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_malformed_chunks_are_refused_and_nothing_after_them_is_read(alone: Server, chunks: bytes) -> None:
    smuggled = head(alone, "PUT", presigned(alone, "bucket", "smuggled"), "Content-Length: 1") + b"x"
    start = head(alone, "PUT", presigned(alone, "bucket", "outer"), "Transfer-Encoding: chunked")
    assert ask(alone, start + chunks + smuggled) == ([b"400"], True)
    assert keys(alone) == {}


def test_chunk_extensions_and_names_with_underscores_change_nothing(alone: Server) -> None:
    target = presigned(alone, "bucket", "extended")
    lines = ("Transfer-Encoding: chunked", "X_Length: 3", "Connection: close")
    assert ask(alone, head(alone, "PUT", target, *lines) + b'5;a=b;c="d"\r\nhello\r\n0\r\n\r\n') == (
        [b"200"],
        True,
    )
    assert keys(alone) == {"extended": 5}
    alone.client().delete_object(Bucket="bucket", Key="extended")


HEALTH = b"GET /.s3lite/health HTTP/1.1\r\n"
LINES = {
    "http-0.9": b"GET /bucket\r\n\r\n",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version-in-lower-case": b"GET /.s3lite/health http/1.1\r\nHost: a\r\n\r\n",
    "no-host": HEALTH + b"\r\n",
    "host-that-is-none": HEALTH + b"Host: a b\r\n\r\n",
    "host-with-path": HEALTH + b"Host: a/bucket\r\n\r\n",
    "host-with-user": HEALTH + b"Host: a@b\r\n\r\n",
    "absolute-form-of-another-host": b"GET http://bucket.s3.test/key HTTP/1.1\r\nHost: other.s3.test\r\n\r\n",
    "space-in-target": b"GET /bucket/a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "control-in-target": b"GET /bucket/a\x01b HTTP/1.1\r\nHost: a\r\n\r\n",
    "raw-utf-8-in-target": b"GET /bucket/\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "method-that-is-none": b"G@T /bucket HTTP/1.1\r\nHost: a\r\n\r\n",
    "method-in-lower-case": b"get /bucket HTTP/1.1\r\nHost: a\r\n\r\n",
    "two-empty-lines": b"\r\n\r\n" + HEALTH + b"Host: a\r\n\r\n",
    "line-feeds-only": b"GET /.s3lite/health HTTP/1.1\nHost: a\n\n\r\n\r\n",
}


@pytest.mark.parametrize("raw", LINES.values(), ids=LINES)
def test_a_request_line_or_host_that_is_none_is_refused(alone: Server, raw: bytes) -> None:
    assert ask(alone, raw) == ([b"400"], True)


def test_unusual_targets_name_what_they_say_and_nothing_else(alone: Server) -> None:
    own = host(alone)
    for line, expected in (
        (b"GET http://%s/.s3lite/health HTTP/1.1" % own, b"200"),  # absolute form of this host
        (b"GET //bucket HTTP/1.1", b"404"),
        (b"OPTIONS * HTTP/1.1", b"404"),
        (b"CONNECT a:80 HTTP/1.1", b"405"),
        (b"GET /bucket/../.s3lite/health HTTP/1.1", b"403"),
    ):
        assert ask(alone, line + b"\r\nHost: " + own + b"\r\n\r\n")[0] == [expected], line


def test_an_upgrade_is_not_taken(alone: Server) -> None:
    lines = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    assert ask(alone, HEALTH + b"Host: a\r\n" + lines)[0] == [b"200"]


def test_the_body_of_a_refused_upload_is_no_request(alone: Server) -> None:
    smuggled = head(alone, "PUT", presigned(alone, "bucket", "smuggled"), "Content-Length: 1") + b"x"
    for lines in (
        (f"Content-Length: {len(smuggled)}",),  # arrives whole
        (f"Content-Length: {len(smuggled) + 1000}",),  # does not
        ("Transfer-Encoding: chunked",),
    ):
        found, _ = ask(alone, head(alone, "PUT", "/bucket/anonymous", *lines) + smuggled)
        assert found == [b"403"]
        found, _ = ask(alone, head(alone, "GET", "/.s3lite/health", *lines) + smuggled)
        assert found == [b"200"]
    assert keys(alone) == {}


# ---------------------------------------------------------------- sizes at their edge


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"X%d: y" % number for number in range(199)], b"200"),  # and Host
        ([b"X%d: y" % number for number in range(200)], b"431"),
        ([b"X: " + b"y" * ((16 << 10) - 5)], b"200"),  # a field with its line end
        ([b"X: " + b"y" * ((16 << 10) - 2)], b"431"),
        ([b"X%d: " % number + b"y" * 16_000 for number in range(16)], b"200"),  # 256,000 bytes and some
        ([b"X%d: " % number + b"y" * 16_000 for number in range(17)], b"431"),
        ([b"X%d: " % number + b"y" * 16_000 for number in range(150)], b"431"),
    ],
    ids=["200-fields", "201-fields", "field", "field-too-long", "head", "head-too-long", "head-far-too-long"],
)
def test_heads_at_the_edge(alone: Server, lines: list[bytes], status: bytes) -> None:
    begun = busy_s(alone)
    found, is_closed = ask(alone, HEALTH + b"Host: a\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
    assert found == [status]
    assert is_closed is (status != b"200")
    assert busy_s(alone) - begun < 0.5  # reading 3 MiB of fields again and again took seconds


@pytest.mark.parametrize(("size", "status"), [(32 << 10, b"200"), ((32 << 10) + 1, b"414")])
def test_request_lines_at_the_edge(alone: Server, size: int, status: bytes) -> None:
    start, end = b"GET /.s3lite/health?", b" HTTP/1.1"
    line = start + b"a" * (size - len(start) - len(end)) + end
    assert ask(alone, line + b"\r\nHost: a\r\n\r\n")[0] == [status]


def test_a_form_of_thousands_of_fields_is_refused_at_once(alone: Server) -> None:
    body = forms.body([(f"f{number}", "") for number in range(5000)])
    lines = (f"Content-Type: {forms.CONTENT_TYPE}", f"Content-Length: {len(body)}", "Connection: close")
    with closing(connect(alone)) as sock:
        sock.sendall(head(alone, "POST", "/bucket", *lines) + body)
        received = answer(sock)
    assert statuses(received) == [b"400"]
    assert b"MaxPostPreDataLengthExceededError" in received


BOMBS = {
    "entities": b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, (b"&%c;" % (97 + n)) * 10) for n in range(9))
    + b"]><Delete><Object><Key>&j;</Key></Object></Delete>",
    "depth": b"<Delete>" + b"<a>" * 250_000 + b"</a>" * 250_000 + b"</Delete>",
    "width": b"<Delete>" + b"<a/>" * 500_000 + b"</Delete>",
    "attributes": b"<Delete " + b" ".join(b'a%d=""' % n for n in range(150_000)) + b"/>",
    "text": b"<Delete>" + b"a" * 2_000_000 + b"</Delete>",
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_xml_bomb_is_refused_quickly_in_bounded_memory(alone: Server, name: str) -> None:
    bomb = BOMBS[name]
    before, begun = peak(alone), busy_s(alone)
    md5 = base64.b64encode(hashlib.md5(bomb).digest()).decode()
    lines = (f"Content-Length: {len(bomb)}", f"Content-MD5: {md5}", "Connection: close")
    with closing(connect(alone)) as sock:
        sock.sendall(head(alone, "POST", signed(alone, "POST", "/bucket?delete="), *lines) + bomb)
        received = answer(sock)
    assert statuses(received) == [b"400"]
    assert b"<Code>MalformedXML</Code>" in received
    assert busy_s(alone) - begun < 2
    assert peak(alone) - before < 256 << 20


# ---------------------------------------------------------------- uploads that break off


def reset(sock: socket.socket) -> None:
    """Close so that the peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def half_close(sock: socket.socket) -> None:
    """Send no more, and read what comes."""
    sock.shutdown(socket.SHUT_WR)
    assert statuses(answer(sock)) in ([], [b"400"])
    sock.close()


def litter(server: Server) -> list[str]:
    """What an upload that was given up may have left: named files, and unnamed ones that are held open."""
    named = [
        path
        for folder in ("blobs", "tmp")
        for path in (server.data_dir / folder).rglob("*")
        if path.is_file()
    ]
    links = [link for pid in workers(server) for link in Path(f"/proc/{pid}/fd").iterdir()]
    opened = [str(link.readlink()) for link in links if link.is_symlink()]
    blobs = str(server.data_dir.resolve() / "blobs")
    return [str(path) for path in named] + [name for name in opened if name.startswith(blobs)]


def plain_put(server: Server, key: str) -> tuple[bytes, bytes]:
    target = presigned(server, "bucket", key)
    return head(server, "PUT", target, f"Content-Length: {SIZE}"), b"x" * SIZE


def chunked_put(server: Server, key: str) -> tuple[bytes, bytes]:
    pieces = b"".join(b"4e20\r\n" + b"x" * 20_000 + b"\r\n" for _ in range(SIZE // 20_000))
    return head(
        server, "PUT", presigned(server, "bucket", key), "Transfer-Encoding: chunked"
    ), pieces + _LAST_CHUNK


def aws_chunked_put(server: Server, key: str) -> tuple[bytes, bytes]:
    body = b"".join(b"4e20\r\n" + b"x" * 20_000 + b"\r\n" for _ in range(SIZE // 20_000)) + _LAST_CHUNK
    word = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    framing = {"x-amz-content-sha256": word, "x-amz-decoded-content-length": str(SIZE)}
    lines = [f"{name}: {value}" for name, value in framing.items()]
    return head(
        server,
        "PUT",
        signed(server, "PUT", f"/bucket/{key}", framing),
        *lines,
        f"Content-Length: {len(body)}",
    ), body


def form(server: Server, key: str) -> tuple[bytes, bytes]:
    fields = forms.v4_fields(ACCESS_KEY, SECRET_KEY, [{"bucket": "bucket"}, {"key": key}])
    body = forms.body([("key", key), *fields.items()], b"x" * SIZE)
    lines = (f"Content-Type: {forms.CONTENT_TYPE}", f"Content-Length: {len(body)}")
    return head(server, "POST", "/bucket", *lines), body


def part(server: Server, key: str) -> tuple[bytes, bytes]:
    client = server.client()
    upload = client.create_multipart_upload(Bucket="bucket", Key=key)["UploadId"]
    url = server.client(signature_version="s3v4").generate_presigned_url(
        "upload_part", Params={"Bucket": "bucket", "Key": key, "UploadId": upload, "PartNumber": 1}
    )
    parts = urlsplit(url)
    return head(server, "PUT", f"{parts.path}?{parts.query}", f"Content-Length: {SIZE}"), b"x" * SIZE


UPLOADS = [plain_put, chunked_put, aws_chunked_put, form, part]


@pytest.mark.parametrize("end", [half_close, reset], ids=["half-closed", "reset"])
@pytest.mark.parametrize("make", UPLOADS, ids=[make.__name__ for make in UPLOADS])
def test_an_upload_that_breaks_off_at_any_tenth_leaves_nothing(alone: Server, make, end) -> None:
    for tenth in range(10):
        start, body = make(alone, f"{make.__name__}-{tenth}")
        sock = connect(alone)
        sock.sendall(start + body[: len(body) * tenth // 10])
        end(sock)
    deadline = time.monotonic() + 5
    while (left := litter(alone)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
    assert keys(alone) == {}
    client = alone.client()
    for upload in client.list_multipart_uploads(Bucket="bucket").get("Uploads", []):
        named = {"Bucket": "bucket", "Key": upload["Key"], "UploadId": upload["UploadId"]}
        assert client.list_parts(**named).get("Parts", []) == []
        client.abort_multipart_upload(**named)
    assert (alone.data_dir / "reserve").stat().st_size == 32 << 20


@pytest.mark.parametrize("make", UPLOADS[:4], ids=[make.__name__ for make in UPLOADS[:4]])
def test_an_upload_whose_sender_then_closes_its_half_is_whole(alone: Server, make) -> None:
    start, body = make(alone, "whole")
    with closing(connect(alone)) as sock:
        sock.sendall(start + body)
        sock.shutdown(socket.SHUT_WR)
        assert statuses(answer(sock))[0] in (b"200", b"204")
    stored = alone.client().get_object(Bucket="bucket", Key="whole")["Body"].read()
    assert hashlib.md5(stored).digest() == hashlib.md5(b"x" * SIZE).digest()
    alone.client().delete_object(Bucket="bucket", Key="whole")


def test_an_upload_that_falls_silent_is_given_up(alone: Server) -> None:
    start, body = plain_put(alone, "silent")
    begun = time.monotonic()
    with closing(connect(alone)) as sock:
        sock.sendall(start + body[: SIZE // 2])
        received = answer(sock)
    assert 0.5 < time.monotonic() - begun < 5
    assert b"<Code>RequestTimeout</Code>" in received
    assert keys(alone) == {}


DRIPS = {
    "plain": plain_put,
    "chunked": lambda server, key: (
        head(server, "PUT", presigned(server, "bucket", key), "Transfer-Encoding: chunked"),
        (b"1\r\nx\r\n" * (SIZE // 6))[:SIZE],
    ),
}


@pytest.mark.parametrize("make", DRIPS.values(), ids=DRIPS)
def test_an_upload_that_drips_is_given_up(alone: Server, make) -> None:
    start, body = make(alone, "drips")
    begun = time.monotonic()
    with closing(connect(alone)) as sock:
        sock.sendall(start)
        sock.settimeout(0.2)
        received = b""
        for at in range(0, 90, 6):
            sock.sendall(body[at : at + 6])
            with suppress(TimeoutError):
                received += sock.recv(65536)
            if received:
                break
    assert 0.8 < time.monotonic() - begun < 3
    assert b"<Code>RequestTimeout</Code>" in received
    assert keys(alone) == {}


def test_a_slow_upload_is_waited_for(alone: Server) -> None:
    start, body = plain_put(alone, "slow")
    with closing(connect(alone)) as sock:
        sock.sendall(start)
        for at in range(0, SIZE, SIZE // 8):
            sock.sendall(body[at : at + SIZE // 8])
            time.sleep(0.3)
        assert statuses(sock.recv(65536)) == [b"200"]
    alone.client().delete_object(Bucket="bucket", Key="slow")
