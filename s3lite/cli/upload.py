"""``s3lite upload``: files to a running server, as applications send them, with a callback if wanted."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import click

from s3lite.cli.base import Refused, app, shared_options
from s3lite.cli.form import callback_fields, endpoint_of, signer_of
from s3lite.cli.upkeep import progress_bars
from s3lite.times import Clock, amz_date

if TYPE_CHECKING:
    from s3lite.model import AccessKey

_UNSIGNED = "UNSIGNED-PAYLOAD"
_PARALLEL = 4
_BLOCK = 256 << 10
_TIMEOUT_S = 120.0  # without a byte: applications that are called back take their time
_LEAST_PART = 5 << 20  # S3's own; the last part may be smaller
_MIB = 1 << 20


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="s3://BUCKET/KEY")
@click.option("--endpoint", metavar="URL", help="Where the server is; default: http://BIND.")
@click.option("--content-type", default="application/octet-stream", show_default=True)
@click.option(
    "--part-mib",
    type=click.IntRange(_LEAST_PART // _MIB, 5 << 10),
    default=16,
    show_default=True,
    help="Files above this go up in parts of this size, four at a time.",
)
@click.option("--callback-url", help="Tell this URL of the upload, and print what it answers.")
@click.option("--callback-body", metavar="TEMPLATE", help="What to tell it, such as key=${object}.")
@click.option("--var", "variables", multiple=True, metavar="x:NAME=VALUE", help="A variable; repeatable.")
@click.option("--access-key", help="Key that signs; default: the root key.")
@shared_options
def upload(
    file: Path,
    target: str,
    endpoint: str | None,
    content_type: str,
    part_mib: int,
    callback_url: str | None,
    callback_body: str | None,
    variables: tuple[str, ...],
    access_key: str | None,
) -> None:
    """Upload FILE, and print the application's answer where the upload has a callback.

    A KEY that ends in a slash, or none, takes the file's name. The server must run. Exit code: 0 stored and
    reported; 1 refused, or stored and the callback failed.

    \b
    s3lite upload cat.jpg s3://photos/in/ --callback-url https://app.example/hook \\
        --callback-body 'key=${object}&size=${size}&user=${x:user}' --var x:user=42
    """
    bucket, key = _target(target, file)
    fields = callback_fields(
        callback_url, callback_body, "application/x-www-form-urlencoded", None, variables
    )
    sender = _Sender(
        endpoint_of(endpoint),
        signer_of(bucket, access_key, with_callback=callback_url is not None),
        app().settings.region,
        bucket,
        key,
    )
    size = file.stat().st_size
    with progress_bars("bytes") as advance:
        sent = _Sent(size, advance)
        if size <= part_mib * _MIB:
            answer = sender.send(
                "PUT", _carried(fields) | {"content-type": content_type}, _Piece(file, 0, size, sent)
            )
        else:
            answer = _in_parts(sender, file, part_mib * _MIB, content_type, _carried(fields), sent)
    if answer.status == 203:
        raise Refused(f"{target} is stored, and its callback failed: {_message(answer)}")
    text = answer.data.decode("utf-8", "replace")
    told = callback_url is not None
    document = {"bucket": bucket, "key": key, "size": size, "answer": text if told else None}
    app().emit(
        document, f"stored s3://{bucket}/{key}, {size:,} bytes" + (f"\nanswer: {text}" if told else "")
    )


def _target(target: str, file: Path) -> tuple[str, str]:
    bucket, _, key = target.removeprefix("s3://").partition("/")
    if not target.startswith("s3://") or not bucket:
        raise click.BadParameter(f"{target!r} is not s3://BUCKET/KEY", param_hint="TARGET")
    return bucket, f"{key}{file.name}" if not key or key.endswith("/") else key


def _carried(fields: dict[str, str]) -> dict[str, str]:
    """The callback of a form's fields as headers."""
    variables = {name: value for name, value in fields.items() if name != "callback"}
    carried = {"x-amz-meta-callback": fields["callback"]} if fields else {}
    if variables:
        carried["x-amz-meta-callback-var"] = base64.b64encode(json.dumps(variables).encode()).decode()
    return carried


class _Sent:
    """How much has gone out, of all parts."""

    def __init__(self, total: int, advance: Callable[[str, int, int], object] | None) -> None:
        self._total, self._advance, self._done = total, advance, 0

    def add(self, count: int) -> None:
        self._done += count
        if self._advance is not None:
            self._advance("bytes", self._done, self._total)


@dataclass(frozen=True)
class _Piece:
    """A range of a file as a request's body: read a block at a time, whatever its size."""

    file: Path
    offset: int
    size: int
    sent: _Sent

    def __iter__(self) -> Iterator[bytes]:
        with self.file.open("rb") as opened:
            opened.seek(self.offset)
            left = self.size
            while left and (block := opened.read(min(_BLOCK, left))):
                left -= len(block)
                yield block
                self.sent.add(len(block))


@dataclass(frozen=True)
class _Answer:
    status: int
    etag: str
    data: bytes


class _Sender:
    """Requests about one object, signed by V4."""

    def __init__(self, endpoint: str, signer: AccessKey, region: str, bucket: str, key: str) -> None:
        self._endpoint = endpoint
        self._path = urlsplit(endpoint).path + quote(f"/{bucket}/{key}", safe="/-_.~")
        self._signer, self._region = signer, region

    def send(self, method: str, headers: dict[str, str], body: _Piece | bytes, query: str = "") -> _Answer:
        """The answer, if it is 2xx. Raises Refused."""
        parts = urlsplit(self._endpoint)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        size = body.size if isinstance(body, _Piece) else len(body)
        signed = self._signed(method, parts.netloc, query, headers) | {"Content-Length": str(size)}
        target = self._path + (f"?{query}" if query else "")
        try:
            with closing(kind(parts.netloc, timeout=_TIMEOUT_S)) as connection:
                connection.request(method, target, body=body, headers=signed)
                response = connection.getresponse()
                answer = _Answer(response.status, response.headers.get("ETag", ""), response.read())
        except (OSError, HTTPException) as error:
            raise Refused(
                f"{self._endpoint} cannot be reached, or went away: {error}. Does the server run?"
            ) from None
        if not 200 <= answer.status < 300:
            raise Refused(f"The server refused it: {_message(answer)}")
        return answer

    def _signed(self, method: str, host: str, query: str, headers: dict[str, str]) -> dict[str, str]:
        from s3lite.auth import sigv4

        now = amz_date(Clock().time())
        headers = headers | {"host": host, "x-amz-content-sha256": _UNSIGNED, "x-amz-date": now}
        names = sorted(headers)
        request = sigv4.canonical_request(
            method,
            sigv4.canonical_uri(self._path),
            sigv4.canonical_query(query),
            sigv4.canonical_headers(headers, names),
            ";".join(names),
            _UNSIGNED,
        )
        scope = f"{now[:8]}/{self._region}/{sigv4.SERVICE}/{sigv4.TERMINATOR}"
        secret = sigv4.signing_key(self._signer.secret_key, now[:8], self._region)
        signature = sigv4.signature(secret, sigv4.string_to_sign(now, scope, request))
        return headers | {
            "Authorization": f"{sigv4.ALGORITHM} Credential={self._signer.access_key}/{scope},"
            f"SignedHeaders={';'.join(names)},Signature={signature}"
        }


def _in_parts(
    sender: _Sender, file: Path, part_size: int, content_type: str, callback: dict[str, str], sent: _Sent
) -> _Answer:
    """A multipart upload; nothing of it is left when it fails or is interrupted."""
    from s3lite.wire import xml

    begun = sender.send("POST", {"content-type": content_type}, b"", "uploads=")
    upload_id = quote(xml.text(xml.parse(begun.data, None), "UploadId"), safe="")
    size = file.stat().st_size

    def send_part(number: int) -> str:
        at = (number - 1) * part_size
        piece = _Piece(file, at, min(part_size, size - at), sent)
        etag = sender.send("PUT", {}, piece, f"partNumber={number}&uploadId={upload_id}").etag
        return f"<Part><PartNumber>{number}</PartNumber><ETag>{xml.escape(etag)}</ETag></Part>"

    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        parts = "".join(pool.map(send_part, range(1, -(-size // part_size) + 1)))
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        return sender.send("POST", callback, document, f"uploadId={upload_id}")
    except BaseException:
        pool.shutdown(cancel_futures=True)
        sender.send("DELETE", {}, b"", f"uploadId={upload_id}")
        raise
    finally:
        pool.shutdown()


def _message(answer: _Answer) -> str:
    """Code and message of an error document; else the status."""
    from s3lite.errors import S3Error
    from s3lite.wire import xml

    try:
        problem = xml.parse(answer.data, "Error")
    except S3Error:
        return f"HTTP status {answer.status}"
    return f"{xml.text(problem, 'Code')}: {xml.text(problem, 'Message')}"
