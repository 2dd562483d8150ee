"""``s3lite form``: an HTML page with a signed upload form, to look at and to take along.

The policy names every field of the form, the callback and its variables included, so that whoever
uploads can change nothing but the file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from s3lite.cli.base import Refused, app, note, shared_options
from s3lite.names import check_bucket_name, check_key
from s3lite.times import Clock, amz_date, iso8601

if TYPE_CHECKING:
    from s3lite.model import AccessKey

_FILENAME = "${filename}"
_BODY_TYPES = ("application/x-www-form-urlencoded", "application/json")
_MAX_VALIDITY_S = 7 * 86400

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Upload to {bucket}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #f3f5f7; margin: 0; }}
  main {{ max-width: 34rem; margin: 10vh auto; padding: 2rem; background: #fff; border-radius: 12px;
         box-shadow: 0 1px 3px rgba(0, 0, 0, .15); }}
  h1 {{ font-size: 1.3rem; margin: 0 0 1rem; }}
  dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0 0 1.5rem;
       font-size: .9rem; }}
  dt {{ color: #66727f; }}
  dd {{ margin: 0; overflow-wrap: anywhere; }}
  input[type=file] {{ display: block; width: 100%; box-sizing: border-box; padding: 1rem;
                     border: 2px dashed #b8c2cc; border-radius: 8px; margin-bottom: 1rem; }}
  button {{ font: inherit; color: #fff; background: #1769aa; border: 0; border-radius: 8px;
           padding: .6rem 1.6rem; cursor: pointer; }}
  button:hover {{ background: #11507f; }}
</style>
</head>
<body>
<main>
<h1>Upload a file</h1>
<dl>
{facts}
</dl>
<form action="{action}" method="post" enctype="multipart/form-data" accept-charset="utf-8">
{fields}
  <input type="file" name="file" required>
  <button type="submit">Upload</button>
</form>
</main>
</body>
</html>"""


@dataclass(frozen=True, slots=True)
class SignedForm:
    """Where to post, the fields in order (``file`` comes last), and the policy that they carry."""

    url: str
    fields: Mapping[str, str]
    policy: Mapping[str, object]


@click.command()
@click.option("--bucket", required=True, help="Bucket to upload to.")
@click.option("--key", required=True, help="Key of the object; ${filename} stands for the file's own name.")
@click.option("--v4", "version", flag_value="v4", default="v4", help="Signature version 4 (the default).")
@click.option("--v2", "version", flag_value="v2", help="Signature version 2.")
@click.option("--endpoint", metavar="URL", help="Where browsers reach the server; default: http://BIND.")
@click.option(
    "--expires",
    type=click.IntRange(1, _MAX_VALIDITY_S),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long the form works; at most seven days.",
)
@click.option("--max-bytes", type=click.IntRange(0), help="Largest file; default: limits.put_bytes.")
@click.option("--callback-url", help="Tell this URL of each upload.")
@click.option(
    "--callback-body", metavar="TEMPLATE", help="What to tell it, such as key=${object}&size=${size}."
)
@click.option(
    "--callback-body-type", type=click.Choice(_BODY_TYPES), default=_BODY_TYPES[0], show_default=True
)
@click.option(
    "--callback-reply",
    type=click.Choice(("passthrough", "standard")),
    help="Who answers the browser: the application, or s3lite.",
)
@click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="x:NAME=VALUE",
    help="A variable of the callback; repeatable.",
)
@click.option("--access-key", help="Key that signs; default: the root key.")
@shared_options
def form(
    bucket: str,
    key: str,
    version: str,
    endpoint: str | None,
    expires: int,
    max_bytes: int | None,
    callback_url: str | None,
    callback_body: str | None,
    callback_body_type: str,
    callback_reply: str | None,
    variables: tuple[str, ...],
    access_key: str | None,
) -> None:
    """Print a page with a signed upload form.

    Open it in a browser, or take the form for a page of your own.

    Nobody can change what the page fixes: bucket, key, size limit, callback and variables are all
    conditions of the signed policy.

    \b
    s3lite form --bucket photos --key 'in/${filename}' --max-bytes 10000000 > upload.html
    s3lite form --bucket photos --key 'in/${filename}' --var x:user=42 \\
        --callback-url https://app.example/hook --callback-body 'key=${object}&user=${x:user}'
    """
    _check_target(bucket, key)
    settings = app().settings
    reported = callback_fields(callback_url, callback_body, callback_body_type, callback_reply, variables)
    if not reported or (callback_reply or settings.callback.default_reply) == "standard":
        reported["success_action_status"] = "201"  # an answer that a browser shows
    limit = settings.limits.put_bytes if max_bytes is None else max_bytes
    signed = _sign(
        url=f"{endpoint_of(endpoint)}/{bucket}",
        fixed={"bucket": bucket, "key": key, **reported},
        max_bytes=limit,
        now_s=Clock().time(),
        expires_s=expires,
        signer=signer_of(bucket, access_key, with_callback=callback_url is not None),
        region=settings.region if version == "v4" else None,
    )
    facts = {
        "Bucket": bucket,
        "Key": key.replace(_FILENAME, "(name of the file)"),
        "At most": f"{limit:,} bytes",
        "Until": str(signed.policy["expiration"]),
        "Reports to": callback_url or "",
    }
    page = _page(signed, facts)
    app().emit({"url": signed.url, "fields": signed.fields, "policy": signed.policy, "html": page}, page)


# ---------------------------------------------------------------- what was asked for


def _check_target(bucket: str, key: str) -> None:
    from s3lite.errors import S3Error

    try:
        check_bucket_name(bucket)
        check_key(key)
    except S3Error as error:
        raise Refused(error.message) from error
    if not key or not _stays_as_it_is(key):
        raise Refused("The key must not be empty or hold line breaks: browsers rewrite them.")


def _stays_as_it_is(value: str) -> bool:
    """Browsers send every line break in a field as CR LF, and a policy compares exactly."""
    return "\n" not in value and "\r" not in value


def callback_fields(
    url: str | None, body: str | None, body_type: str, reply: str | None, variables: tuple[str, ...]
) -> dict[str, str]:
    """The form's fields ``callback`` and ``x:…``, checked as the server will check them."""
    if url is None:
        if body is not None or reply is not None or variables:
            raise click.UsageError("--callback-body, --callback-reply and --var need --callback-url.")
        return {}
    if body is None:
        raise click.UsageError("--callback-url needs --callback-body: what is the application to be told?")
    from s3lite.callback.spec import RawCallback, parse
    from s3lite.errors import S3Error

    named = [_variable(text) for text in variables]
    document = {"callbackUrl": url, "callbackBody": body, "callbackBodyType": body_type}
    if reply is not None:
        document["callbackReply"] = reply
    text = base64.b64encode(json.dumps(document, ensure_ascii=False).encode()).decode()
    try:
        parse(RawCallback("form", text, form_vars=tuple(named)))
    except S3Error as error:
        raise Refused(f"The server would refuse this callback: {error.message}") from error
    return {"callback": text, **dict(named)}


def _variable(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name.startswith("x:") or not _stays_as_it_is(value):
        raise click.BadParameter(f"{text!r} is not x:NAME=VALUE on one line", param_hint="--var")
    return name, value


def endpoint_of(given: str | None) -> str:
    if given is None:
        host, _, port = app().settings.bind.rpartition(":")
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}"  # noqa: S104
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise click.BadParameter(f"{given!r} is not http(s)://HOST[:PORT][/PREFIX]", param_hint="--endpoint")
    return given.rstrip("/")


# ---------------------------------------------------------------- signing


def signer_of(bucket: str, access_key: str | None, *, with_callback: bool) -> AccessKey:
    """The key to sign with, which the server will accept for this form."""
    with app().storage() as storage, storage.catalog.read() as tx:
        signer = tx.access_key(access_key) if access_key else storage.root
        if tx.bucket(bucket) is None:
            note(f"The bucket {bucket} does not exist yet: make it before the form is used.")
    if signer is None:
        raise Refused(f"There is no access key {access_key}. `s3lite key list` shows them.")
    if not signer.enabled:
        raise Refused(f"{signer.access_key} is disabled: s3lite key enable {signer.access_key}")
    if with_callback and signer.callback != "inline":
        raise Refused(
            f"Uploads by {signer.access_key} may not carry callbacks: "
            f"s3lite key update {signer.access_key} --callback inline"
        )
    return signer


def _sign(
    *,
    url: str,
    fixed: Mapping[str, str],
    max_bytes: int,
    now_s: float,
    expires_s: int,
    signer: AccessKey,
    region: str | None,
) -> SignedForm:
    """Sign ``fixed``, whose "bucket" is a condition only. ``region`` None: signature version 2."""
    from s3lite.auth import sigv2, sigv4

    now = amz_date(now_s)
    if region is None:
        credential = {"AWSAccessKeyId": signer.access_key}
        named = dict(fixed)  # S3 does not ask for a condition on AWSAccessKeyId
    else:
        credential = {
            "x-amz-algorithm": sigv4.ALGORITHM,
            "x-amz-credential": f"{signer.access_key}/{now[:8]}/{region}/{sigv4.SERVICE}/{sigv4.TERMINATOR}",
            "x-amz-date": now,
        }
        named = {**fixed, **credential}
    policy = {
        "expiration": iso8601(int((now_s + expires_s) * 1000)),
        "conditions": [*map(_condition, named.items()), ["content-length-range", 0, max_bytes]],
    }
    text = base64.b64encode(json.dumps(policy).encode()).decode()
    if region is None:
        signature = {"signature": sigv2.signature(signer.secret_key, text)}
    else:
        key = sigv4.signing_key(signer.secret_key, now[:8], region)
        signature = {"x-amz-signature": sigv4.signature(key, text)}
    sent = {name: value for name, value in fixed.items() if name != "bucket"}
    return SignedForm(url, {**sent, **credential, "policy": text, **signature}, policy)


def _condition(field: tuple[str, str]) -> object:
    """A field has this value; a key with the file's name begins with what stands before it."""
    name, value = field
    if name == "key" and _FILENAME in value:
        return ["starts-with", "$key", value.partition(_FILENAME)[0]]
    return {name: value}


# ---------------------------------------------------------------- the page


def _page(signed: SignedForm, facts: Mapping[str, str]) -> str:
    hidden = (
        f'  <input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in signed.fields.items()
    )
    return _PAGE.format(
        bucket=escape(facts["Bucket"]),
        facts="\n".join(
            f"  <dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value
        ),
        action=escape(signed.url),
        fields="\n".join(hidden),
    )
