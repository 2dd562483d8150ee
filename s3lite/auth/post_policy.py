"""The policy document of a browser form: what an upload may be, signed by someone with a key.

`authenticate` checks the signature over the encoded document; here it is read and held against the
fields. The size of the file is for the writer (`PostPolicy.content_length_range`).

Source: API Reference, "POST Policy" and "Creating an HTML form"; ceph/s3-tests, test_post_object_*.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from s3lite.errors import Code, S3Error
from s3lite.times import parse_iso8601

MAX_POLICY_BYTES = 20 << 10  # encoded; S3 takes 20 KB for all fields before the file

_EXPIRATION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_DIGITS = re.compile(r"[0-9]{1,18}")
_WHITE = re.compile(r"[ \t\r\n]+")

# "Each form field … except x-amz-signature, file, policy, and field names that have an x-ignore- prefix
# must appear in the list of conditions." The two of V2 are exempt as well. Checksums can only make an
# upload fail, and clients learn them after the form was signed.
_UNLISTED = frozenset(
    (
        "awsaccesskeyid",
        "file",
        "policy",
        "signature",
        "x-amz-checksum-crc32",
        "x-amz-checksum-crc32c",
        "x-amz-checksum-crc64nvme",
        "x-amz-checksum-sha1",
        "x-amz-checksum-sha256",
        "x-amz-signature",
    )
)


@dataclass(frozen=True, slots=True)
class Condition:
    """``operator`` is "eq" or "starts-with"; ``field`` is in lower case, ``text`` as an error shows it."""

    operator: str
    field: str
    value: str
    text: str

    def holds(self, actual: str) -> bool:
        """Whether the field's value satisfies the condition."""
        if self.operator == "eq":
            return actual == self.value
        if self.field == "content-type" and "," in actual:
            # "If the Content-Type field value is a comma-separated list, each must begin so."
            return all(part.strip().startswith(self.value) for part in actual.split(","))
        return actual.startswith(self.value)


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """A policy that has not expired."""

    conditions: tuple[Condition, ...]
    content_length_range: tuple[int, int] | None
    _named: frozenset[str]

    @classmethod
    def parse(cls, encoded: str, *, now_s: float) -> PostPolicy:
        """Read a Base64 policy document.

        Raises InvalidPolicyDocument when it is none, AccessDenied when it has expired.
        """
        document = _decode(encoded)
        unknown = [name for name in document if name not in ("expiration", "conditions")]
        if unknown:
            _invalid(f"Unexpected: '{unknown[0][:64]}'.")
        expiration, conditions = document.get("expiration"), document.get("conditions")
        if not isinstance(expiration, str):
            _invalid("Policy must have an 'expiration' in ISO 8601, such as 2026-01-31T01:02:03Z.")
        expires_s = parse_iso8601(expiration) if _EXPIRATION.fullmatch(expiration) else None
        if expires_s is None:
            _invalid("Invalid 'expiration' value: it must be of the form 2026-01-31T01:02:03Z.")
        if not isinstance(conditions, list):
            _invalid("Policy must have a list of 'conditions'.")
        parsed = []
        low, high, bounded = 0, 1 << 62, False
        for item in conditions:
            condition = _condition(item)
            if isinstance(condition, Condition):
                parsed.append(condition)
            else:
                bounded, low, high = True, max(low, condition[0]), min(high, condition[1])
        if expires_s <= now_s:
            raise S3Error(Code.AccessDenied, "Invalid according to Policy: Policy expired.")
        named = frozenset([condition.field for condition in parsed])
        return cls(tuple(parsed), (low, high) if bounded else None, named)

    def covers(self, field_name: str) -> bool:
        """True if a condition names the field."""
        return field_name.lower() in self._named

    def check(
        self,
        fields: Mapping[str, str],
        *,
        bucket: str,
        unlisted_ok: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        """Hold the fields (lower-case names, those before the file) and the bucket against the conditions.

        A condition on a field that the form lacks sees "". ``unlisted_ok`` excuses fields that no
        condition names. Raises AccessDenied that names the condition or field.
        """
        actual = {**fields, "bucket": bucket}
        for condition in self.conditions:
            if not condition.holds(actual.get(condition.field, "")):
                raise S3Error(
                    Code.AccessDenied,
                    f"Invalid according to Policy: Policy Condition failed: {condition.text}",
                )
        extra = [
            name
            for name in actual
            if name not in self._named
            and name not in _UNLISTED
            and not name.startswith("x-ignore-")
            and not unlisted_ok(name)
        ]
        if extra:
            shown = ", ".join(name[:64] for name in extra[:8])
            raise S3Error(Code.AccessDenied, f"Invalid according to Policy: Extra input fields: {shown}")


def _invalid(message: str) -> NoReturn:
    raise S3Error(Code.InvalidPolicyDocument, f"Invalid Policy: {message}")


def _decode(encoded: str) -> dict[str, object]:
    if len(encoded) > MAX_POLICY_BYTES:
        _invalid(f"it has more than {MAX_POLICY_BYTES} bytes.")
    try:
        text = base64.b64decode(_WHITE.sub("", encoded).encode("ascii"), validate=True).decode("utf-8-sig")
    except (binascii.Error, UnicodeError):
        _invalid("it is not Base64 of UTF-8 text.")
    # S3's own escape, unknown to JSON: "\$" is a dollar sign.
    text = _ESCAPE.sub(lambda match: "$" if match[1] == "$" else match[0], text)
    try:
        document = json.loads(text, object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _invalid("Invalid JSON.")
    if not isinstance(document, dict):
        _invalid("it must be a JSON object.")
    return document


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _condition(item: object) -> Condition | tuple[int, int]:
    """A condition, or the bounds of a content-length-range."""
    if isinstance(item, dict):
        if len(item) != 1:
            _invalid("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
        ((name, value),) = item.items()
        if not isinstance(value, str):
            _invalid(f"Invalid Simple-Condition: the value of '{name[:64]}' must be a string.")
        return _match("eq", name, value)
    if not isinstance(item, list) or len(item) != 3 or not isinstance(item[0], str):
        _invalid("a condition must be an object with one property or a list of three values.")
    operator = item[0].lower()
    if operator == "content-length-range":
        low, high = _size(item[1]), _size(item[2])
        if low > high:
            _invalid("Invalid content-length-range: the minimum exceeds the maximum.")
        return low, high
    name, value = item[1], item[2]
    if operator not in ("eq", "starts-with"):
        _invalid(f"unknown operation '{item[0][:64]}' in a condition.")
    if not isinstance(name, str) or not name.startswith("$") or not isinstance(value, str):
        _invalid(f"'{operator}' needs a field name that begins with '$' and a string.")
    return _match(operator, name[1:], value)


def _match(operator: str, name: str, value: str) -> Condition:
    text = json.dumps([operator, f"${name}", value], ensure_ascii=False)
    return Condition(operator, name.lower(), value, text)


def _size(value: object) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62:
        return value
    _invalid("Invalid content-length-range: the bounds must be numbers of bytes.")
