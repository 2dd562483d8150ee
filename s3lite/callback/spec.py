"""The callback that a request carries: found, decoded, checked. All before the body is read.

Source: docs/callbacks.md: "Where it stands", "The callback", "When something is wrong". Values are an
uploader's: what is not exactly allowed is refused, since a callback that silently does not run, or
runs differently, is worse than an error.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from s3lite.callback.egress import URL_INVALID, CallbackUrl, parse_url
from s3lite.callback.render import BODY_INVALID, FORM, JSON, Template, TemplateError, compile_template
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import Identity, RequestHead

MAX_BASE64 = 5120
"""Bytes of Base64 text, each for callback and callback-var; in a form, of all ``x:`` values together."""
MAX_URLS = 5
MODES = ("sync", "async", "sync-retry", "gate")
NO_POLICY = "The callbackPolicy does not exist."
HEADER_PLACES = {
    "s3-header": ("x-amz-meta-callback", "x-amz-meta-callback-var"),
    "oss-header": ("x-oss-callback", "x-oss-callback-var"),
}
QUERY_PLACES = {
    "query": ("callback", "callback-var"),
    "s3-query": ("x-amz-meta-callback", "x-amz-meta-callback-var"),  # boto3's SigV2 presigner moves them
}
CARRIER_HEADERS = frozenset(name for names in HEADER_PLACES.values() for name in names)
"""Headers (and form fields) that are never metadata."""

_TWO_PLACES = "Either the callback query string parameter or the x-amz-meta-callback header should be specified, not both."
_FIELDS = frozenset(
    (
        "callbackUrl", "callbackHost", "callbackBody", "callbackBodyType", "callbackSNI", "callbackPolicy",
        "callbackReply", "callbackOnFailure", "callbackMode",
    )
)  # fmt: skip
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_VARIABLE = re.compile(r"x:[^\x00-\x20\x7f-\x9f${}A-Z]{1,64}")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class RawCallback:
    """A callback as the client sent it."""

    place: str  # s3-header | oss-header | query | s3-query | form | kept (from CreateMultipartUpload)
    callback: str  # Base64 text
    callback_var: str = ""  # Base64 text, "" for none
    form_vars: tuple[tuple[str, str], ...] = ()  # in a form: the fields x:NAME


@dataclass(frozen=True, slots=True)
class CallbackSpec:
    """A callback that can be sent. ``reply`` and ``host`` are "" when the request does not say."""

    urls: tuple[CallbackUrl, ...]
    host: str
    template: Template
    body_type: str
    variables: Mapping[str, str]
    reply: str  # passthrough | standard | ""
    on_failure: str  # accept | error
    policy_bucket: int = 0  # the bucket that it is a policy of, whose secrets sign it; 0: a request's own
    mode: str = "sync"  # or one of `MODES`

    @property
    def is_durable(self) -> bool:
        """Whether it is kept in the outbox until it is delivered."""
        return self.mode in ("async", "sync-retry")

    @property
    def is_gate(self) -> bool:
        """Whether the application decides before anything is published."""
        return self.mode == "gate"


# ---------------------------------------------------------------- where it stands


def is_carrier(name: str) -> bool:
    """True for header and form field names that carry callbacks: they are never metadata."""
    return name.lower() in CARRIER_HEADERS


def from_request(head: RequestHead, identity: Identity) -> RawCallback | None:
    """The callback of PutObject, CreateMultipartUpload or CompleteMultipartUpload; None without one.

    Raises S3Error: InvalidArgument (two places, repeated value, variables alone), AccessDenied (not
    covered by the signature).
    """
    found = _carried(head)
    if not found:
        return None
    if len(found) > 1:
        name, value = next(iter(found.values()))[0]
        raise _bad(name, value, _TWO_PLACES)
    ((place, carried),) = found.items()
    for name, value in carried:
        if "," in value:
            raise _bad(name, value, f"The {_label(name)} is not base64 encoded.")
        _require_covered(place, name, identity)
    values = dict(carried)
    callback_name, var_name = (HEADER_PLACES | QUERY_PLACES)[place]
    if callback_name not in values:
        raise _bad(var_name, values[var_name], f"{var_name} needs {callback_name}.")
    return RawCallback(place, values[callback_name], values.get(var_name, ""))


def refuse(head: RequestHead) -> None:
    """For operations that offer no callback (CopyObject). Raises S3Error (InvalidArgument)."""
    for carried in _carried(head).values():
        name, value = carried[0]
        raise _bad(name, value, f"{name} is not supported by this operation.")


def from_form(
    fields: Mapping[str, str], *, covers: Callable[[str], bool] | None, unlisted: str
) -> RawCallback | None:
    """The callback of a PostObject form; None without one.

    ``fields`` are those before the file, named as sent. ``covers`` tells whether a policy condition
    matches a field (its name in lower case for ``callback``); None stands for an anonymous form.
    ``unlisted`` is the setting ``callback.form_unlisted``. Raises S3Error: InvalidArgument, AccessDenied.
    """
    for name, value in fields.items():
        if name.lower() == "callback-var" or is_carrier(name):
            raise _bad(
                name, value, f"{name} is not supported in forms; send callback, and a field per variable."
            )
    callbacks = [value for name, value in fields.items() if name.lower() == "callback"]
    if not callbacks:
        return None
    if len(callbacks) > 1:
        raise _bad("callback", callbacks[1], _not_base64("callback"))
    variables = tuple((name, value) for name, value in fields.items() if name[:2].lower() == "x:")
    if covers is None:
        raise _denied("An anonymous form may not carry a callback.")
    for name in ("callback", *(name for name, _ in variables)):
        if unlisted != "accept" and not covers(name):
            raise _denied(f"The policy has no condition for the form field {name}.")
    return RawCallback("form", callbacks[0], form_vars=variables)


def _carried(head: RequestHead) -> dict[str, list[tuple[str, str]]]:
    """Place → its names and values, for each place that is in use. Repeated values are joined by commas."""
    found: dict[str, list[tuple[str, str]]] = {}
    for place, names in HEADER_PLACES.items():
        found[place] = [(name, head.headers[name]) for name in names if name in head.headers]
    for place, names in QUERY_PLACES.items():
        for name in names:
            values = [
                value for key, value in head.query_items if name == (key.lower() if key[:1] in "xX" else key)
            ]
            if values:
                found.setdefault(place, []).append((name, ",".join(values).replace(" ", "+")))
    # An empty x-amz-meta-callback means none, as in RGW; so does an empty callback-var.
    return {
        place: used
        for place, carried in found.items()
        if (
            used := [
                (name, value) for name, value in carried if value or name in ("callback", "x-oss-callback")
            ]
        )
    }


def _require_covered(place: str, name: str, identity: Identity) -> None:
    """Without this, anyone who holds a presigned URL could add a callback."""
    if identity.key is None:
        raise _denied("An anonymous request may not carry a callback.")
    # V4 signs the whole query; V2 signs callback and callback-var as sub-resources, and hoisted
    # x-amz-meta-* names as headers.
    in_signed_query = place == "query" or (place == "s3-query" and identity.scheme.startswith("v4"))
    if not in_signed_query and name not in identity.signed_headers:
        raise _denied(f"The signature does not cover {name}.")


# ---------------------------------------------------------------- what it says


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, decoded: a callback of its own, or one that the server knows by ``policy``."""

    document: Mapping[str, Any]
    variables: Mapping[str, str]
    policy: str = ""


def parse(raw: RawCallback) -> CallbackSpec:
    """Decode and check a callback of a request's own. Raises S3Error (InvalidArgument)."""
    asked = decode(raw)
    return build(asked.document, asked.variables)


def decode(raw: RawCallback) -> Asked:
    """Decode what a request carries; `build` checks the fields. Raises S3Error (InvalidArgument)."""
    document = _decode_callback(raw.callback)
    variables = _form_variables(raw.form_vars) if raw.form_vars else _decode_variables(raw.callback_var)
    if "callbackPolicy" not in document:
        return Asked(document, variables)
    _refuse_unknown_fields(document)
    policy = document["callbackPolicy"]
    others = [name for name in document if name in _FIELDS and name != "callbackPolicy"]
    if others:
        raise _bad(others[0], document[others[0]], f"callbackPolicy excludes {others[0]}.")
    if not isinstance(policy, str) or not policy:
        raise _bad("callbackPolicy", policy, NO_POLICY)
    return Asked(document, variables, policy)


def build(document: Mapping[str, Any], variables: Mapping[str, str]) -> CallbackSpec:
    """Check the fields of a callback, all but addresses (`CallbackSender.check`). Raises S3Error (InvalidArgument)."""
    _refuse_unknown_fields(document)
    if "callbackPolicy" in document:
        raise _bad("callbackPolicy", document["callbackPolicy"], NO_POLICY)
    urls = _urls(document)
    host = _host(document)
    body_type = _body_type(document)
    mode = _mode(document)
    template = _template(document, body_type, variables, is_gate=mode == "gate")
    if "callbackSNI" in document and str(document["callbackSNI"]).lower() not in ("true", "false"):
        raise _bad("callbackSNI", document["callbackSNI"], "callbackSNI must be true or false.")
    return CallbackSpec(
        urls=urls,
        host=host,
        template=template,
        body_type=body_type,
        variables=variables,
        reply=_choice(document, "callbackReply", ("passthrough", "standard")) or "",
        on_failure=_choice(document, "callbackOnFailure", ("accept", "error")) or "accept",
        mode=mode,
    )


def _decode_callback(text: str) -> dict[str, Any]:
    if len(text.encode("utf-8", "replace")) > MAX_BASE64:
        raise _bad("callback", text, "The length of callback exceed max value.")
    data = _decode_base64(text)
    if data is None:
        raise _bad("callback", text, _not_base64("callback"))
    document = decode_json(data)
    if not isinstance(document, dict):
        raise _bad("callback", text, "The callback configuration is not json format.")
    return document


def _decode_variables(text: str) -> dict[str, str]:
    if not text:
        return {}
    if len(text.encode("utf-8", "replace")) > MAX_BASE64:
        raise _bad("callback-var", text, "The length of callback var exceed max value.")
    data = _decode_base64(text)
    if data is None:
        raise _bad("callback-var", text, _not_base64("callback-var"))
    variables = variables_of(decode_json(data, numbers=str))
    if variables is None:
        raise _bad("callback-var", text, "The callback var is not expected json.")
    return variables


def variables_of(document: object) -> dict[str, str] | None:
    """Custom variables out of a JSON object whose numbers are text; None when it is not one of them."""
    if not isinstance(document, dict):
        return None
    variables = {}
    for name, value in document.items():
        if isinstance(value, bool):
            value = "true" if value else "false"
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name) or not isinstance(value, str):
            return None
        variables[name] = value
    return variables


def _form_variables(fields: tuple[tuple[str, str], ...]) -> dict[str, str]:
    if sum(len(value.encode("utf-8", "replace")) for _, value in fields) > MAX_BASE64:
        raise _bad("x:", "", "The length of callback var exceed max value.")
    variables: dict[str, str] = {}
    for name, value in fields:
        if not _VARIABLE.fullmatch(name) or name in variables:
            raise _bad(name, value, "The callback var is not expected json.")
        variables[name] = value
    return variables


def _decode_base64(text: str) -> bytes | None:
    """Standard or URL-safe alphabet, with or without padding and white space; None when it is neither."""
    compact = "".join(text.split()) if text.isascii() else text
    unpadded = compact.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    if len(compact) - len(unpadded) > 2:
        return None
    try:
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def decode_json(data: bytes, *, numbers: Callable[[str], Any] = float) -> Any:
    """A JSON text in UTF-8 whose strings are Unicode; None when it is not one."""
    try:
        text = data.decode("utf-8")
        document = json.loads(text, parse_int=numbers, parse_float=numbers, parse_constant=_refuse_constant)
        # An escaped lone surrogate could never be sent on.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _refuse_unknown_fields(document: Mapping[str, Any]) -> None:
    for name, value in document.items():
        if name.lower() == "additionalheaders":
            raise _bad(name, value, f"{name} is not supported.")
        if name.lower().startswith("callback") and name not in _FIELDS:
            raise _bad(name, value, f"Unknown callback field: {_clean(name)}.")


def _urls(document: Mapping[str, Any]) -> tuple[CallbackUrl, ...]:
    value = document.get("callbackUrl")
    texts = [part for part in map(str.strip, value.split(";")) if part] if isinstance(value, str) else []
    if not texts:
        raise _bad("callbackUrl", value, URL_INVALID)
    if len(texts) > MAX_URLS:
        raise _bad("callbackUrl", value, "The number of callback url exceed max value.")
    return tuple(map(parse_url, texts))


def _host(document: Mapping[str, Any]) -> str:
    value = document.get("callbackHost", "")
    match = _HOST.fullmatch(value) if isinstance(value, str) else None
    if value != "" and (match is None or (match[1] and not 1 <= int(match[1]) <= 65535)):
        raise _bad("callbackHost", value, "The callback host configuration is invalid.")
    return str(value)


def _body_type(document: Mapping[str, Any]) -> str:
    value = document.get("callbackBodyType", FORM)
    if not isinstance(value, str):
        raise _bad("callbackBodyType", value, "The callback body type configuration is invalid.")
    if value not in (FORM, JSON):
        raise _bad("callbackBodyType", value, "The body type of callback is not supported.")
    return value


def _template(
    document: Mapping[str, Any], body_type: str, variables: Mapping[str, str], *, is_gate: bool
) -> Template:
    value = document.get("callbackBody", "")
    if value == "":
        raise _bad("callbackBody", "", "The callback body is empty.")
    if not isinstance(value, str):
        raise _bad("callbackBody", value, BODY_INVALID)
    try:
        return compile_template(value, body_type, variables, is_gate=is_gate)
    except TemplateError as error:
        raise _bad("callbackBody", value, _clean(str(error))) from None


def _mode(document: Mapping[str, Any]) -> str:
    """The mode; fields that it would leave without effect are refused."""
    mode = _choice(document, "callbackMode", MODES) or "sync"
    if mode == "gate" and "callbackOnFailure" in document:
        raise _bad(
            "callbackOnFailure",
            document["callbackOnFailure"],
            "callbackOnFailure does not apply to gate, where nothing is stored without the application's yes.",
        )
    for name, value in (("callbackReply", "passthrough"), ("callbackOnFailure", "error")):
        if mode == "async" and document.get(name) == value:
            raise _bad(
                name, value, f"{name} {value} needs an answer, which callbackMode async does not wait for."
            )
    return mode


def _choice(document: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    value = document.get(name)
    if name in document and value not in choices:
        raise _bad(name, value, f"{name} must be {' or '.join(choices)}.")
    return value


# ---------------------------------------------------------------- errors


def _label(name: str) -> str:
    return "callback var" if name.endswith("-var") else "callback configuration"


def _not_base64(name: str) -> str:
    return f"The {_label(name)} is not base64 encoded."


def _clean(text: str) -> str:
    """Text that can stand in an XML document, whatever the client sent."""
    return _NOT_XML.sub("?", text)


def _bad(name: str, value: object, message: str) -> S3Error:
    """InvalidArgument; the value is cut at 512 bytes."""
    shown = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    cut = _clean(shown).encode("utf-8", "replace")[:512].decode("utf-8", "ignore")
    return invalid_argument(_clean(name), cut, message)


def _denied(message: str) -> S3Error:
    return S3Error(Code.AccessDenied, _clean(message))
