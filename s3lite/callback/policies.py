"""Callbacks that the server knows: a bucket's document of named policies, and which of them an upload has.

Source: docs/callback-policies.md. The document is JSON:

    {"right": "policy-only",
     "policies": [{"name": "scan", "prefix": "in/", "applies": "always", "callback": {"callbackUrl": …}}]}

A policy's ``callback`` is checked as strictly as one that a request brings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from s3lite.callback import spec
from s3lite.callback.spec import CallbackSpec
from s3lite.errors import Code, S3Error

CONFIG = "callback"
"""The name of a bucket's document among its configurations."""
SECRETS = "webhookSecrets"
"""What GetBucketCallback adds to the document; it may be put again, and is left out of account."""
RIGHTS = ("off", "policy-only", "inline")
"""From the strictest on: none, the name of a policy, a callback of one's own."""
OPERATIONS = ("PutObject", "PostObject", "CompleteMultipartUpload", "CopyObject")
APPLIES = ("named", "default", "always")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_FIELDS = frozenset(("name", "prefix", "suffix", "operations", "applies", "callback", "variables"))
_LONGEST_AFFIX = 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """A callback for uploads to a part of a bucket.

    ``applies``: named, when a request names it; default, also when a request brings no callback; always,
    whatever a request brings.
    """

    name: str
    prefix: str
    suffix: str
    operations: tuple[str, ...]
    applies: str
    fields: Mapping[str, Any]
    variables: Mapping[str, str]
    spec: CallbackSpec

    def covers(self, key: str, operation: str) -> bool:
        """Whether an upload is one of those that it is meant for."""
        return operation in self.operations and key.startswith(self.prefix) and key.endswith(self.suffix)

    def with_variables(self, variables: Mapping[str, str]) -> CallbackSpec:
        """Its callback with a request's own variables; the policy's win. Raises S3Error (InvalidArgument)."""
        return spec.build(self.fields, {**variables, **self.variables}) if variables else self.spec


@dataclass(frozen=True, slots=True)
class Configuration:
    """A bucket's document. ``right`` is what requests to it may ask for."""

    right: str = "inline"
    policies: tuple[Policy, ...] = ()

    def named(self, name: str) -> Policy | None:
        """The policy of a name."""
        return next((policy for policy in self.policies if policy.name == name), None)

    def applied(self, key: str, operation: str, how: str) -> Policy | None:
        """Of the policies that apply in this way the one for an upload: that with the longest prefix, then
        suffix, then the first."""
        fitting = [each for each in self.policies if each.applies == how and each.covers(key, operation)]
        return max(fitting, key=lambda each: (len(each.prefix), len(each.suffix)), default=None)


NOTHING = Configuration()


def stricter(one: str, other: str) -> str:
    """The stricter of two rights; what is no right is the strictest."""
    return min(one, other, key=lambda right: RIGHTS.index(right) if right in RIGHTS else -1)


def parse(data: bytes, *, max_policies: int) -> Configuration:
    """A document as it is put. Raises MalformedPolicy (its shape), InvalidArgument (a policy's callback)."""
    document = spec.decode_json(data)
    if not isinstance(document, dict):
        raise _malformed("The document must be a JSON object in UTF-8.")
    _only(document, frozenset(("right", "policies", SECRETS)), "The document")
    right = document.get("right", "inline")
    if right not in RIGHTS:
        raise _malformed(f"right must be one of {', '.join(RIGHTS)}.")
    entries = document.get("policies", [])
    if not isinstance(entries, list) or len(entries) > max_policies:
        raise _malformed(f"policies must be a list of at most {max_policies}.")
    # Numbers among variables are texts, as in a request: to read them as written the document is read again.
    written = spec.decode_json(data, numbers=str)["policies"] if entries else []
    policies = tuple(
        _policy(entry, number, as_written=written[number - 1]) for number, entry in enumerate(entries, 1)
    )
    names = [policy.name for policy in policies]
    for name in names:
        if names.count(name) > 1:
            raise _malformed(f"Two policies are called {name}.")
    return Configuration(right, policies)


@lru_cache(maxsize=256)
def stored(data: bytes) -> Configuration:
    """A document that `parse` has accepted. Cached by its bytes, so that no change is missed."""
    return parse(data, max_policies=1 << 30)


def document(configuration: Configuration) -> dict[str, Any]:
    """The document that says so, every field spelt out."""
    return {
        "right": configuration.right,
        "policies": [
            {
                "name": policy.name,
                "prefix": policy.prefix,
                "suffix": policy.suffix,
                "operations": list(policy.operations),
                "applies": policy.applies,
                "callback": dict(policy.fields),
                "variables": dict(policy.variables),
            }
            for policy in configuration.policies
        ],
    }


def encode(configuration: Configuration) -> bytes:
    """`document` as bytes."""
    return json.dumps(document(configuration), ensure_ascii=False, indent=1).encode()


def _policy(entry: object, number: int, *, as_written: Any) -> Policy:
    if not isinstance(entry, dict):
        raise _malformed(f"Policy {number} must be an object.")
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _malformed(
            f"Policy {number} needs a name: up to 64 ASCII letters, digits, dots, hyphens and underscores."
        )
    _only(entry, _FIELDS, f"Policy {name}")
    applies = entry.get("applies", "named")
    if applies not in APPLIES:
        raise _malformed(f"Policy {name}: applies must be one of {', '.join(APPLIES)}.")
    fields = entry.get("callback")
    variables = spec.variables_of(as_written.get("variables", {}))
    if not isinstance(fields, dict):
        raise _malformed(f"Policy {name} needs a callback, an object with callbackUrl and callbackBody.")
    if variables is None:
        raise _malformed(f"Policy {name}: variables must be an object of texts whose names begin with x:.")
    try:
        built = spec.build(fields, variables)
    except S3Error as fault:
        fault.message = f"Policy {name}: {fault.message}"
        raise
    return Policy(
        name=name,
        prefix=_affix(entry, "prefix"),
        suffix=_affix(entry, "suffix"),
        operations=_operations(entry),
        applies=applies,
        fields=fields,
        variables=variables,
        spec=built,
    )


def _affix(entry: Mapping[str, Any], which: str) -> str:
    value = entry.get(which, "")
    if not isinstance(value, str) or len(value.encode()) > _LONGEST_AFFIX:
        raise _malformed(
            f"Policy {entry['name']}: {which} must be a text of at most {_LONGEST_AFFIX} bytes, as keys are."
        )
    return value


def _operations(entry: Mapping[str, Any]) -> tuple[str, ...]:
    value = entry.get("operations", list(OPERATIONS))
    if not isinstance(value, list) or not value or any(each not in OPERATIONS for each in value):
        raise _malformed(f"Policy {entry['name']}: operations must name some of {', '.join(OPERATIONS)}.")
    return tuple(each for each in OPERATIONS if each in value)


def _only(entry: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    unknown = sorted(name for name in entry if name not in known)
    if unknown:
        shown = unknown[0] if unknown[0].isprintable() else "?"
        raise _malformed(f"{what} has an unknown field: {shown[:64]}.")


def _malformed(message: str) -> S3Error:
    return S3Error(Code.MalformedPolicy, message)
