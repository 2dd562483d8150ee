"""``s3lite callback``: see what a callback will look like, and receive some."""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import os
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3lite.cli.base import Refused, app, fault_text, note, printable, shared_options
from s3lite.cli.callback_test import callback_test
from s3lite.cli.policies import policy
from s3lite.ids import Ids
from s3lite.times import Clock, rfc3339

if TYPE_CHECKING:
    from s3lite.callback.image import ImageInfo
    from s3lite.callback.listen import Received
    from s3lite.callback.render import Event
    from s3lite.callback.signing import CallbackKeys
    from s3lite.callback.spec import CallbackSpec
    from s3lite.model import AccessKey

_OPERATIONS = ("PutObject", "PostObject", "CompleteMultipartUpload")


@click.group()
@shared_options
def callback() -> None:
    """Render callbacks, receive some, look after those that wait, and set those that buckets know by name.

    \b
    s3lite callback list --status dead
    s3lite callback render --bucket b --key k --callback '{"callbackUrl":"http://app/cb",
        "callbackBody":"key=${object}&size=${size}"}'
    s3lite callback listen --bind 127.0.0.1:9000
    s3lite callback test http://127.0.0.1:9000/hook
    s3lite callback policy set photos hook --url https://app.example/hook --body 'key=${object}'
    """


callback.add_command(policy)
callback.add_command(callback_test)


# ---------------------------------------------------------------- render


@dataclass(frozen=True, slots=True)
class _Signer:
    """Whose keys an example is signed with."""

    keys: CallbackKeys
    requester: AccessKey


@callback.command()
@click.option("--bucket", required=True, help="${bucket}")
@click.option("--key", required=True, help="${object}")
@click.option(
    "--callback", "callback_text", required=True, metavar="BASE64_OR_JSON", help="As an upload carries it."
)
@click.option(
    "--callback-var", "var_text", default="", metavar="BASE64_OR_JSON", help='Such as {"x:user":"42"}.'
)
@click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take size, ETag, media type and image size from this file; other options override.",
)
@click.option("--size", type=click.IntRange(0), help="${size}")
@click.option("--etag", help="${etag}")
@click.option("--mime-type", help="${mimeType}")
@click.option("--operation", type=click.Choice(_OPERATIONS), default="PutObject", show_default=True)
@click.option("--version-id", default="", help="${versionId}")
@click.option("--client-ip", default="127.0.0.1", show_default=True, help="${clientIp}")
@click.option("--access-key", help="Whose upload it is, for the signature; default: root.")
@shared_options
def render(
    bucket: str,
    key: str,
    callback_text: str,
    var_text: str,
    file: Path | None,
    size: int | None,
    etag: str | None,
    mime_type: str | None,
    operation: str,
    version_id: str,
    client_ip: str,
    access_key: str | None,
) -> None:
    """Print the request that an upload would send.

    It is exactly what the application of this callback would get; nothing is sent.

    The callback is checked as a server checks it; a fault is printed as an uploader would see it.
    Signatures are made with this installation's keys, or with fresh ones where there is none.

    \b
    s3lite callback render --bucket photos --key a.jpg --file a.jpg \\
        --callback '{"callbackUrl":"https://app.example/hook",
                     "callbackBody":"{\\"key\\":${object},\\"width\\":${imageInfo.width}}",
                     "callbackBodyType":"application/json"}'
    """
    from s3lite.callback.render import Event
    from s3lite.callback.spec import RawCallback, parse
    from s3lite.errors import S3Error

    try:
        spec = parse(RawCallback("s3-header", _as_base64(callback_text), _as_base64(var_text)))
    except S3Error as fault:
        raise Refused(fault_text(fault)) from fault
    facts = _facts(file)
    is_single = operation != "CompleteMultipartUpload" and etag is None
    event = Event(
        bucket=bucket,
        key=key,
        etag=etag or facts.md5.hex(),
        size=facts.size if size is None else size,
        mime_type=mime_type or facts.mime_type,
        operation=operation,
        client_ip=client_ip,
        request_id=Ids().request(),
        callback_id=Ids().message(),
        event_time=rfc3339(Clock().time()),
        content_md5=base64.b64encode(facts.md5).decode() if is_single else "",
        version_id=version_id,
        image=facts.image,
    )
    _emit_request(spec, event, _signer(access_key))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a server knows of an object once it has its bytes."""

    size: int
    md5: bytes
    mime_type: str
    image: ImageInfo | None


def _facts(file: Path | None) -> _Facts:
    """Of a file on this machine; of an empty object without one."""
    from s3lite.callback.image import PROBE_BYTES, probe

    with open(file or os.devnull, "rb") as opened:
        image = probe(opened.read(PROBE_BYTES))
        opened.seek(0)
        md5 = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).digest()
        size = opened.tell()
    guessed = mimetypes.guess_type(file.name)[0] if file else None
    return _Facts(size, md5, guessed or "binary/octet-stream", image)


def _emit_request(spec: CallbackSpec, event: Event, signer: _Signer) -> None:
    url = spec.urls[0]
    headers, body = _preview(spec, event, signer)
    if app().as_json:
        document = {
            "urls": [f"{each.scheme}://{each.netloc}{each.target}" for each in spec.urls],
            "method": "POST",
            "target": url.target,
            "headers": headers,
            "body": body.decode(),
            "body_base64": base64.b64encode(body).decode(),
        }
        app().emit(document, "")
        return
    lines = [f"POST {url.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    click.echo("\r\n".join(lines).encode("ascii") + body, nl=sys.stdout.isatty())
    note(f"Would be sent to {url.scheme}://{url.netloc}")
    for other in spec.urls[1:]:
        note(f"  and, if that fails, to {other.scheme}://{other.netloc}{other.target}")


def _preview(spec: CallbackSpec, event: Event, signer: _Signer) -> tuple[dict[str, str], bytes]:
    """What the sender itself would send: asked, not imitated."""
    from s3lite.callback.send import CallbackSender

    settings = app().settings
    base = settings.callback.public_url.rstrip("/") or f"http://{settings.bind}"
    sender = CallbackSender(settings.callback, keys=signer.keys)
    try:
        return sender.preview(
            spec, event, requester=signer.requester, pub_key_url=f"{base}/.s3lite/callback-key.pem"
        )
    finally:
        sender.close()


def _signer(access_key: str | None) -> _Signer:
    """The installation's keys and the uploader's; made up where there is no installation."""
    from s3lite.callback.signing import CallbackKeys, new_webhook_secret
    from s3lite.model import AccessKey, Account

    if app().is_installed():
        with app().storage() as storage, storage.catalog.read() as tx:
            requester = tx.access_key(access_key) if access_key else storage.root
        if requester is None:
            raise Refused(f"There is no access key {access_key}. `s3lite key list` shows them.")
        return _Signer(storage.callback_keys, requester)
    note("No installation here: the signatures are examples, made with fresh keys.")
    requester = AccessKey(
        access_key or "EXAMPLE", "", Account("example", "example"), webhook_secret=new_webhook_secret()
    )
    return _Signer(CallbackKeys.generate(), requester)


def _as_base64(text: str) -> str:
    """JSON, as people type it, in the form that requests carry."""
    return base64.b64encode(text.encode()).decode() if text.lstrip().startswith("{") else text


# ---------------------------------------------------------------- listen


@callback.command()
@click.option("--bind", default="127.0.0.1:9000", show_default=True, metavar="HOST:PORT")
@click.option(
    "--secret", "secrets", multiple=True, help="whsec_… to verify with, instead of this installation's keys."
)
@click.option("--reply", default='{"Status":"OK"}', show_default=True, help="Body of the answer.")
@click.option("--status", type=click.IntRange(200, 599), default=200, show_default=True)
@shared_options
def listen(bind: str, secrets: tuple[str, ...], reply: str, status: int) -> None:
    """Receive callbacks and verify them.

    Prints each, and whether its signatures fit. Ends with Ctrl-C.

    On the server's machine the keys are found in the data directory; elsewhere give --secret (from
    `s3lite key webhook-secret`). The server must be allowed to call here:

    \b
    S3LITE_CALLBACK_ALLOW=127.0.0.1:9000 make serve
    s3lite callback listen --status 500 --reply '{}'      what do uploaders see when I fail?
    s3lite callback listen --json | jq .body              one JSON document per line
    """
    from s3lite.callback.listen import Answer, Receiver

    host, port = _address(bind)
    accepted, public_keys, oss_pem = _verifying_keys(secrets)
    if not accepted and not oss_pem:
        note("No installation here and no --secret: signatures are not checked.")
    shown = _as_line if app().as_json else _as_text
    receiver = Receiver(
        host,
        port,
        secrets=accepted,
        public_keys=public_keys,
        oss_pem=oss_pem,
        default=Answer(reply.encode(), status),
        on_request=lambda received: click.echo(shown(received)),
    )
    with suppress(KeyboardInterrupt), receiver:
        note(f"Listening on {receiver.url()} (Ctrl-C ends)")
        threading.Event().wait()


def _address(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise click.BadParameter(f"{bind!r} is not HOST:PORT", param_hint="--bind")
    return host.strip("[]") or "127.0.0.1", int(port)


def _verifying_keys(given: tuple[str, ...]) -> tuple[list[str], list[str], bytes]:
    """Secrets, public keys, and the key of OSS signatures. Given secrets stand alone: they are on trial."""
    from s3lite.callback.signing import secret_bytes

    for secret in given:
        try:
            secret_bytes(secret)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--secret") from None
    if not app().is_installed():
        return list(given), [], b""
    with app().storage() as storage, storage.catalog.read() as tx:
        own = [secret for key in tx.access_keys() for secret in key.webhook_secret.split()]
    oss_pem = storage.callback_keys.public_pem()
    return (list(given), [], oss_pem) if given else (own, storage.callback_keys.public_keys(), oss_pem)


def _as_line(received: Received) -> str:
    document = {
        "target": received.target,
        "headers": dict(received.headers),
        "body": received.body.decode("utf-8", "replace"),
        "webhook_signature": received.webhook,
        "oss_signature": received.oss,
    }
    return json.dumps(document, ensure_ascii=False)


def _as_text(received: Received) -> str:
    lines = [f"POST {received.target}"]
    lines += [f"  {name}: {value}" for name, value in received.headers.items()]
    lines += [f"  webhook signature: {received.webhook}", f"  OSS signature: {received.oss}"]
    lines += ["  " + received.body.decode("utf-8", "replace")]
    return "\n".join(map(printable, lines)) + "\n"
