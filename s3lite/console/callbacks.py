"""The composer: a callback put together by a form, checked and rendered as the server itself would."""

from __future__ import annotations

import base64
import json
import mimetypes
import shlex
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from s3lite.callback.render import FORM, JSON, Event
from s3lite.callback.spec import RawCallback, parse
from s3lite.console.visit import Visit
from s3lite.errors import S3Error
from s3lite.responses import Response
from s3lite.times import rfc3339

POLICY = "uploads"
"""The name that the composer's policy has in a bucket; composing it anew replaces it."""

_FIELDS = {
    "url": "http://127.0.0.1:9000/uploaded",
    "body": "key=${object}&size=${size}&type=${mimeType}&user=${x:user}",
    "body_type": FORM,
    "reply": "",
    "mode": "",
    "variables": "user=42",
    "bucket": "photos",
    "key": "holiday/beach.jpg",
    "size": "52114",
}


def composer(visit: Visit) -> Response:
    """The form, filled with an example."""
    return _page(visit, dict(_FIELDS) | dict(visit.query))


def compose(visit: Visit) -> Response:
    """The same form with what it makes: the callback's JSON, the request that would be sent, and snippets."""
    values = {name: visit.form.get(name, "") for name in _FIELDS}
    try:
        made = _compose(visit, values)
    except S3Error as error:
        return _page(visit, values, fault=error.message)
    return _page(visit, values, made=made)


def attach(visit: Visit) -> Response:
    """Have every upload to a bucket report like this: the callback becomes a policy of the bucket."""
    values = {name: visit.form.get(name, "") for name in _FIELDS}
    bucket = values["bucket"].strip()
    try:
        made = _compose(visit, values)
    except S3Error as error:
        return _page(visit, values, fault=error.message)
    kept = visit.s3.call("GET", bucket or "-", query={"callback": ""})
    if not kept.ok and kept.status != HTTPStatus.NOT_FOUND:
        return _page(visit, values, made=made, fault=kept.problem)
    document = json.loads(kept.body) if kept.ok else {}
    policy = {
        "name": POLICY,
        "prefix": visit.form.get("prefix", ""),
        "applies": "default",
        "callback": json.loads(made["json"]),
        "variables": made["variables"],
    }
    others = [each for each in document.get("policies", []) if each["name"] != POLICY]
    document["policies"] = [*others, policy]
    saved = visit.s3.call(
        "PUT", bucket or "-", query={"callback": ""}, body=json.dumps(document, ensure_ascii=False).encode()
    )
    if not saved.ok:
        return _page(visit, values, made=made, fault=saved.problem)
    notice = f"Uploads to {bucket} now report to {values['url'].strip()}"
    return visit.back(f"b/{quote(bucket)}?prefix={quote(policy['prefix'])}", notice=notice)


def _page(visit: Visit, values: dict[str, str], **more: Any) -> Response:
    shown = {name: values.get(name, default) for name, default in _FIELDS.items()}
    return visit.page(
        "composer.html",
        title="Compose a callback",
        values=shown,
        types=(FORM, JSON),
        **({"made": None} | more),
    )


def _compose(visit: Visit, values: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = {"callbackUrl": values["url"].strip(), "callbackBody": values["body"]}
    if values["body_type"] != FORM:
        document["callbackBodyType"] = values["body_type"]
    if values["reply"]:
        document["callbackReply"] = values["reply"]
    if values["mode"]:
        document["callbackMode"] = values["mode"]
    pairs = [line.partition("=") for line in values["variables"].splitlines() if line.strip()]
    variables = {f"x:{name.strip().removeprefix('x:')}": value.strip() for name, _, value in pairs}
    encoded, encoded_var = _encode(document), _encode(variables) if variables else ""
    spec = parse(RawCallback("s3-header", encoded, encoded_var))
    warning = ""
    try:
        visit.services.callbacks.check(spec)
    except S3Error as error:
        warning = error.message
    headers, body = visit.services.callbacks.preview(
        spec,
        _event(visit, values),
        requester=visit.session.key,
        pub_key_url=f"{visit.endpoint}/.s3lite/callback-key.pem",
    )
    return {
        "json": json.dumps(document, indent=2, ensure_ascii=False),
        "callback": encoded,
        "callback_var": encoded_var,
        "variables": variables,
        "request": f"POST {spec.urls[0].target} HTTP/1.1",
        "headers": headers,
        "body": body.decode("utf-8", "replace"),
        "warning": warning,
        "snippets": _snippets(visit, values, document, variables, encoded, encoded_var),
    }


def _event(visit: Visit, values: dict[str, str]) -> Event:
    clock, ids = visit.services.store.clock, visit.services.store.ids
    size = values["size"].strip()
    return Event(
        bucket=values["bucket"],
        key=values["key"],
        etag="d41d8cd98f00b204e9800998ecf8427e",
        size=int(size) if size.isascii() and size.isdigit() else 0,
        mime_type=mimetypes.guess_type(values["key"])[0] or "binary/octet-stream",
        operation="PutObject",
        client_ip="192.0.2.1",
        request_id=ids.request(),
        event_time=rfc3339(clock.time()),
        callback_id=ids.message(),
    )


def _encode(document: object) -> str:
    return base64.b64encode(json.dumps(document, ensure_ascii=False).encode()).decode()


def _snippets(
    visit: Visit,
    values: dict[str, str],
    document: dict[str, Any],
    variables: dict[str, str],
    encoded: str,
    encoded_var: str,
) -> dict[str, str]:
    """The callback in the hands of three kinds of uploader."""
    bucket, key = values["bucket"], values["key"]
    metadata = f'"callback": "{encoded}"' + (f', "callback-var": "{encoded_var}"' if encoded_var else "")
    boto3 = (
        f'import boto3\n\ns3 = boto3.client("s3", endpoint_url="{visit.endpoint}")\n'
        f's3.upload_file(\n    "{key.rsplit("/", 1)[-1]}", {json.dumps(bucket)}, {json.dumps(key, ensure_ascii=False)},\n'
        f'    ExtraArgs={{"Metadata": {{{metadata}}}}},\n)\n'
    )
    if document.get("callbackReply") != "standard":
        boto3 = '# boto3 expects S3\'s own answer: choose the reply "standard".\n' + boto3
    headers = {"x-amz-meta-callback": encoded} | (
        {"x-amz-meta-callback-var": encoded_var} if encoded_var else {}
    )
    curl = [
        f"curl -T {shlex.quote(key.rsplit('/', 1)[-1])}",
        f'--aws-sigv4 aws:amz:{visit.services.settings.region}:s3 --user "$ACCESS_KEY:$SECRET_KEY"',
        *(f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()),
        shlex.quote(f"{visit.endpoint}/{bucket}/{quote(key)}"),
    ]
    form = [
        f"s3lite form --bucket {shlex.quote(bucket)} --key {shlex.quote(key)}",
        f"--callback-url {shlex.quote(document['callbackUrl'])}",
        f"--callback-body {shlex.quote(document['callbackBody'])}",
        *(f"--var {shlex.quote(f'{name}={value}')}" for name, value in variables.items()),
    ]
    go_on = " \\\n  "
    return {
        "boto3": boto3,
        "curl": go_on.join(curl) + "\n",
        "HTML form": go_on.join(form) + " > upload.html\n",
    }
