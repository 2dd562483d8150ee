"""The callback's body: a template checked once, filled in after the object is stored.

Source: docs/callbacks.md, "Variables" and "Templates and escaping". One pass only: text that a value
brings in is never looked at again, and constants are sent untouched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from s3lite.callback.image import ImageInfo

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
BODY_INVALID = "The callback body is invalid."
MAX_BODY = 64 << 10
"""Bytes of a rendered body."""

Value = str | int | ImageInfo | None  # None: empty


@dataclass(frozen=True, slots=True)
class Event:
    """What there is to tell of a stored object. "" and None are empty variables."""

    bucket: str
    key: str
    etag: str
    size: int
    mime_type: str
    operation: str
    client_ip: str
    request_id: str
    event_time: str  # RFC 3339, UTC
    callback_id: str = ""  # the webhook-id
    content_md5: str = ""  # Base64
    version_id: str = ""
    image: ImageInfo | None = None
    crc64: str = ""  # decimal
    vpc: str = ""
    pending_url: str = ""  # where a gate's application finds the bytes


class _System(NamedTuple):
    """A system variable: its value, and the most bytes that it can come to when rendered."""

    value: Callable[[Event], Value]
    form_bound: int
    json_bound: int


# A key has at most 1024 bytes (a byte can become %XX, or \u00xx in JSON); a Content-Type fits into a
# header line of 8190 bytes, in which control characters cannot stand.
_SHORT = 512
_SYSTEM: Mapping[str, _System] = {
    "bucket": _System(lambda e: e.bucket, 63, 65),
    "object": _System(lambda e: e.key, 3 * 1024, 6 * 1024 + 2),
    "etag": _System(lambda e: e.etag or None, _SHORT, _SHORT),
    "size": _System(lambda e: e.size, 20, 20),
    "mimeType": _System(lambda e: e.mime_type or None, 3 * 8190, 2 * 8190 + 2),
    "imageInfo": _System(lambda e: e.image, _SHORT, _SHORT),
    "imageInfo.height": _System(lambda e: e.image and e.image.height, 20, 20),
    "imageInfo.width": _System(lambda e: e.image and e.image.width, 20, 20),
    "imageInfo.format": _System(lambda e: e.image and e.image.format, 20, 20),
    "crc64": _System(lambda e: int(e.crc64) if e.crc64 else None, 20, 20),
    "contentMd5": _System(lambda e: e.content_md5 or None, _SHORT, _SHORT),
    "vpcId": _System(lambda e: e.vpc or None, _SHORT, _SHORT),
    "clientIp": _System(lambda e: e.client_ip or None, _SHORT, _SHORT),
    "reqId": _System(lambda e: e.request_id or None, _SHORT, _SHORT),
    "operation": _System(lambda e: e.operation or None, _SHORT, _SHORT),
    "versionId": _System(lambda e: e.version_id or None, _SHORT, _SHORT),
    "eventTime": _System(lambda e: e.event_time or None, _SHORT, _SHORT),
    "callbackId": _System(lambda e: e.callback_id or None, _SHORT, _SHORT),
    "pendingUrl": _System(lambda e: e.pending_url or None, 3 * _SHORT, 2 * _SHORT),
}
_OF_GATES = frozenset({"pendingUrl"})


class _Variable(NamedTuple):
    name: str
    in_string: bool  # inside a JSON string of the template


class TemplateError(ValueError):
    """A template that cannot be used; the text is the message for the client."""


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template: constants and variables in turn."""

    parts: tuple[str | _Variable, ...]
    is_json: bool

    @property
    def needs_image(self) -> bool:
        """True if the object's first bytes have to be probed for `Event.image`."""
        return any(isinstance(part, _Variable) and part.name.startswith("imageInfo") for part in self.parts)

    @property
    def needs_pending_url(self) -> bool:
        """True if the application wants to look at the bytes before it decides."""
        return any(isinstance(part, _Variable) and part.name == "pendingUrl" for part in self.parts)

    def render(self, event: Event, variables: Mapping[str, str]) -> bytes:
        """The bytes to send."""
        texts = []
        for part in self.parts:
            if isinstance(part, str):
                texts.append(part)
            else:
                system = _SYSTEM.get(part.name)
                value = system.value(event) if system else variables.get(part.name)
                texts.append(self._text(value, in_string=part.in_string))
        return "".join(texts).encode("utf-8", "replace")

    def _text(self, value: Value, *, in_string: bool) -> str:
        """One value as its body type wants it."""
        if isinstance(value, ImageInfo):
            shown = f'{{"height":{value.height},"width":{value.width},"format":"{value.format}"}}'
            if self.is_json and not in_string:
                return shown
            value = shown
        if not self.is_json:
            return "" if value is None else quote(str(value), safe="", errors="replace")
        if value is None:
            return "" if in_string else "null"
        if isinstance(value, int):
            return str(value)
        quoted = json.dumps(value, ensure_ascii=False)
        return quoted[1:-1] if in_string else quoted

    def bound(self, variables: Mapping[str, str]) -> int:
        """The most bytes that this template can render to."""
        total = 0
        for part in self.parts:
            if isinstance(part, str):
                total += len(part.encode("utf-8", "replace"))
            elif system := _SYSTEM.get(part.name):
                total += system.json_bound if self.is_json else system.form_bound
            else:
                text = self._text(variables.get(part.name), in_string=part.in_string)
                total += len(text.encode("utf-8", "replace"))
        return total


def compile_template(
    text: str, body_type: str, variables: Mapping[str, str], *, is_gate: bool = False
) -> Template:
    """Check a ``callbackBody``; some variables are there for gates only. Raises TemplateError."""
    parts: list[str | _Variable] = []
    in_string = False
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        constant = text[position:dollar]
        in_string = _in_string_after(constant, in_string)
        if not text.startswith("{", dollar + 1):
            raise TemplateError("Left brace must be adjacent to dollar sign.")
        end = text.find("}", dollar)
        name = text[dollar + 2 : end]
        if end < 0 or not name or "$" in name or "{" in name:
            raise TemplateError(BODY_INVALID)
        is_known = name in _SYSTEM and (is_gate or name not in _OF_GATES)
        if not is_known and not name.startswith("x:"):
            raise TemplateError(f"Unknown callback variable: {name}.")
        parts += [constant, _Variable(name, in_string)]
        position = end + 1
    parts.append(text[position:])
    template = Template(tuple(part for part in parts if part), body_type == JSON)
    if template.bound(variables) > MAX_BODY:
        raise TemplateError(BODY_INVALID)
    return template


def _in_string_after(constant: str, in_string: bool) -> bool:
    """Whether the text behind a constant stands inside a JSON string: every unescaped quote toggles."""
    escaped = False
    for character in constant:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            in_string = not in_string
    return in_string
