"""Policies: a JSON document as something that can be asked. Nothing here knows of requests or rows.

A bucket's policy says who may do what in it; a key's (or a session's) says what it may do, and has no
principals.

Every account is an account of its own, without users below it. So these name the account ``ID``:
``ID``, ``arn:aws:iam::ID:root``, ``arn:aws:iam::ID:user/ID``, ``arn:aws:iam:::user/ID`` and CanonicalUser
``ID``; and ``arn:aws:iam::TENANT:user/NAME`` names ``TENANT$NAME``. Everyone (``*``) includes anonymous
callers. A service is named by its own name only, and s3lite asks for one: `service`. What is neither (roles) is
taken and matches nobody.

Source: IAM User Guide, "Grammar of the IAM JSON policy language"; API Reference, PutBucketPolicy; User Guide,
"Blocking public access", "The meaning of public". Checked against AWS: never.
"""

from __future__ import annotations

import difflib
import enum
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from s3lite.auth.actions import ACTIONS, OF_KEYS
from s3lite.auth.patterns import Facts, Pattern
from s3lite.auth.policy_conditions import Condition, check_variables, malformed, parse_conditions
from s3lite.errors import S3Error

log = logging.getLogger("s3lite")

MAX_POLICY_BYTES = 20 << 10  # User Guide: "bucket policies are limited to 20 KB in size"

_EVERYONE = "*"
_NOBODY = ""
_SERVICE = "\0service "  # no account's id begins so
_DENY_ALL = (
    b'{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "arn:aws:s3:::*"}}'
)
_VERSIONS = ("2008-10-17", "2012-10-17")
_IAM = re.compile(r"arn:aws[a-z-]*:iam::([^:]*):(root|user/(?:[^:*?]*/)?([^:/*?]+))")
_OTHER_ARN = re.compile(r"arn:aws[a-z-]*:[a-z]+:[^:*?]*:[^:*?]*:[^*?]+")
_S3 = re.compile(r"arn:aws[a-z-]*:s3:[^:]*:[^:]*:(.+)", re.DOTALL)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[^:]*:role/.+")

# Keys by whose fixed values a statement for everyone is for few ("The meaning of public").
_NARROWING = frozenset(
    (
        "aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:sourceaccount", "aws:sourcearn",
        "aws:sourceip", "aws:sourceowner", "aws:sourcevpc", "aws:sourcevpce", "aws:userid", "aws:username",
        "s3:dataaccesspointaccount", "s3:dataaccesspointarn", "s3:x-amz-server-side-encryption-aws-kms-key-id",
    )
)  # fmt: skip


class Verdict(enum.Enum):
    """What a policy says of an action; None is nothing."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; ``not_…`` is set where the element's name begins with Not."""

    verdict: Verdict
    principals: frozenset[str]  # account ids and _EVERYONE
    not_principals: bool
    actions: frozenset[str]  # those that it is about
    resources: tuple[Pattern, ...]
    not_resources: bool
    conditions: tuple[Condition, ...]

    def is_for(self, account_id: str) -> bool:
        """Whether it is about a caller; "" is an anonymous one."""
        named = account_id != _NOBODY and account_id in self.principals
        if _EVERYONE in self.principals:
            named = named or not account_id.startswith(_SERVICE) or self.verdict is Verdict.DENY
        return named != self.not_principals

    def applies(self, account_id: str, action: str, resource: str, facts: Facts) -> bool:
        """Whether it is about all of this."""
        return (
            action in self.actions
            and self.is_for(account_id)
            and any(pattern.matches(resource, facts) for pattern in self.resources) != self.not_resources
            and all(condition.holds(facts) for condition in self.conditions)
        )

    def is_public(self) -> bool:
        """Whether it gives everyone something, whoever and wherever they are."""
        if self.verdict is not Verdict.ALLOW or not self.is_for(_NOBODY):
            return False
        return not any(
            condition.key in _NARROWING and condition.restricts_to_fixed_values()
            for condition in self.conditions
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that has been read."""

    statements: tuple[Statement, ...]
    is_public: bool
    _resources: tuple[str, ...]

    def evaluate(self, account_id: str, action: str, resource: str, facts: Facts) -> Verdict | None:
        """What it says of a caller's action on an ARN. A denial outweighs whatever allows."""
        allowed = False
        for statement in self.statements:
            if allowed and statement.verdict is Verdict.ALLOW:
                continue
            if statement.applies(account_id, action, resource, facts):
                if statement.verdict is Verdict.DENY:
                    return Verdict.DENY
                allowed = True
        return Verdict.ALLOW if allowed else None

    def may_allow(self, account_id: str, action: str) -> bool:
        """Whether it allows the action to the caller on some resource, under some condition."""
        return any(
            statement.verdict is Verdict.ALLOW
            and action in statement.actions
            and statement.is_for(account_id)
            for statement in self.statements
        )

    def check_bucket(self, name: str) -> None:
        """Raise MalformedPolicy if it speaks of another bucket than the one it is put on."""
        for text in self._resources:
            bucket = text.partition("/")[0]
            if not Pattern(bucket).matches(name, {}):
                raise malformed("Policy has invalid resource")


# ---------------------------------------------------------------- reading


def parse(document: bytes) -> Policy:
    """Read a bucket's policy. Raises MalformedPolicy."""
    return _parse(document, is_of_key=False)


def parse_key(document: bytes) -> Policy:
    """Read a policy of a key or a session, which is about whoever uses it. Raises MalformedPolicy."""
    return _parse(document, is_of_key=True)


def _parse(document: bytes, *, is_of_key: bool) -> Policy:
    if len(document) > MAX_POLICY_BYTES:
        raise malformed(f"Policy is larger than the maximum of {MAX_POLICY_BYTES} bytes")
    try:
        found = json.loads(document.decode(), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # of which UnicodeDecodeError is one
        where = f" ({error})" if is_of_key else ""
        raise malformed(f"This policy contains invalid Json{where}") from None
    if not isinstance(found, dict):
        raise malformed("This policy contains invalid Json")
    _only(found, "Version", "Id", "Statement")
    version = found.get("Version", _VERSIONS[0])
    if version not in _VERSIONS:
        raise malformed(f"The policy must contain a valid version string: {' or '.join(_VERSIONS)}")
    statements = found.get("Statement")
    rows = statements if isinstance(statements, list) else [statements]
    if statements is None or not rows:
        raise malformed("Missing required field Statement")
    variables = version == _VERSIONS[1]
    read = tuple(_statement(row, variables=variables, is_of_key=is_of_key) for row in rows)
    if is_of_key:
        return Policy(read, False, ())
    resources = tuple(text for row in rows if isinstance(row, dict) for text in _resource_texts(row)[0])
    return Policy(read, any(statement.is_public() for statement in read), resources)


@lru_cache(maxsize=128)
def stored(document: bytes) -> Policy:
    """`parse` of a document that has been accepted; at most 128 × 20 KiB are held.

    One that this version cannot read (an earlier one took it, or it is damaged) denies everything. It can
    still be replaced: those whom no policy binds are not bound by this one either.
    """
    try:
        return parse(document)
    except S3Error:
        log.exception("a stored bucket policy cannot be read, so it denies everything")
        return parse(_DENY_ALL)


@lru_cache(maxsize=1024)
def stored_key(document: str) -> Policy:
    """`parse_key` of a document that has been accepted. One that cannot be read allows nothing."""
    try:
        return parse_key(document.encode())
    except S3Error:
        log.exception("a stored policy of a key cannot be read, so it allows nothing")
        return Policy((), False, ())


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _only(element: dict[str, object], *names: str) -> None:
    unknown = [name for name in element if name not in names]
    if unknown:
        raise malformed(f"Unknown field {unknown[0][:64]}")


def _statement(row: object, *, variables: bool, is_of_key: bool) -> Statement:
    if not isinstance(row, dict):
        raise malformed("Statement must be an object or a list of objects")
    if is_of_key and ("Principal" in row or "NotPrincipal" in row):
        raise malformed("A key's policy has no Principal: it is about the key that it is attached to")
    _only(
        row, "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource",
        "Condition",
    )  # fmt: skip
    if not isinstance(row.get("Sid", ""), str):
        raise malformed("Sid must be a string")
    effect = row.get("Effect")
    if effect is None:
        raise malformed("Missing required field Effect")
    if effect not in ("Allow", "Deny"):
        raise malformed(f"Invalid effect: {str(effect)[:64]}")
    principals, not_principals = (_EVERYONE, False) if is_of_key else _either(row, "Principal")
    if not_principals and effect == "Allow":
        raise malformed("Allow with NotPrincipal is not allowed.")
    texts, not_resources = _key_resources(row) if is_of_key else _resource_texts(row)
    patterns = tuple(
        Pattern(text if is_of_key else f"arn:aws:s3:::{text}", variables=variables) for text in texts
    )
    for pattern in patterns:
        check_variables(pattern)
    return Statement(
        Verdict(str(effect)),
        _principals(principals),
        not_principals,
        _actions(row, OF_KEYS if is_of_key else ACTIONS),
        patterns,
        not_resources,
        parse_conditions(row.get("Condition", {}), variables=variables),
    )


def _either(row: dict[str, object], name: str) -> tuple[object, bool]:
    """The element ``name`` or ``Not…``, of which there must be one, and whether it is the latter."""
    present = [each for each in (name, f"Not{name}") if each in row]
    if not present:
        raise malformed(f"Missing required field {name}")
    if len(present) == 2:
        raise malformed(f"Statement has both {name} and Not{name}")
    return row[present[0]], present[0] != name


def _strings(value: object, name: str) -> Sequence[str]:
    values = value if isinstance(value, list) else [value]
    texts = [item for item in values if isinstance(item, str) and item]
    if not texts or len(texts) != len(values):
        raise malformed(f"{name} must be a string or a list of strings")
    return texts


def _actions(row: dict[str, object], known: frozenset[str]) -> frozenset[str]:
    """The actions of ``known`` that it is about; names match in any case."""
    value, negated = _either(row, "Action")
    named: set[str] = set()
    for text in _strings(value, "Action"):
        pattern = Pattern(text, ignore_case=True)
        matching = {action for action in known if pattern.matches(action, {})}
        if not matching or not (text == "*" or text.partition(":")[0].lower() in ("s3", "sts")):
            raise malformed(f"Policy has invalid action - {text[:64]}{_meant(text, known)}")
        named |= matching
    return known - named if negated else frozenset(named)


def _meant(text: str, known: frozenset[str]) -> str:
    close = difflib.get_close_matches(text[:64], known, n=1, cutoff=0.8)
    return f" (did you mean {close[0]}?)" if close else ""


def _resource_texts(row: dict[str, object]) -> tuple[list[str], bool]:
    """``bucket[/key]`` of each resource, and whether they are those that it is not about."""
    value, negated = _either(row, "Resource")
    texts = []
    for text in _strings(value, "Resource"):
        match = _S3.fullmatch(text)
        if match is None:
            raise malformed("Policy has invalid resource")
        texts.append(match[1])
    return texts, negated


def _key_resources(row: dict[str, object]) -> tuple[list[str], bool]:
    """Whole ARNs, or ``*`` for everything, and whether they are those that it is not about."""
    value, negated = _either(row, "Resource")
    texts = []
    for text in _strings(value, "Resource"):
        match = _S3.fullmatch(text)
        if match is None and text != "*" and not _ROLE.fullmatch(text):
            raise malformed(
                f"Policy has invalid resource - {text[:64]}: write arn:aws:s3:::BUCKET, "
                "arn:aws:s3:::BUCKET/KEY (both with * and ?), or *"
            )
        texts.append(f"arn:aws:s3:::{match[1]}" if match else text)
    return texts, negated


def _principals(value: object) -> frozenset[str]:
    if value == _EVERYONE:
        return frozenset((_EVERYONE,))
    if not isinstance(value, dict) or not value:
        raise malformed('Invalid policy syntax: Principal must be * or an object such as {"AWS": …}')
    _only(value, "AWS", "CanonicalUser", "Service", "Federated")
    named: set[str] = set()
    for kind, given in value.items():
        for text in _strings(given, "Principal"):
            named.add(_principal(kind, text))
    return frozenset(named)


def _principal(kind: str, text: str) -> str:
    """The account that a principal names, _EVERYONE, or an id that no account has."""
    if kind == "AWS" and text == _EVERYONE:
        return _EVERYONE
    if "*" in text or "?" in text:
        raise malformed(f"Invalid principal in policy - {text[:64]}")
    if kind == "AWS":
        return _aws_account(text)
    if kind == "Service":
        return service(text)
    return text if kind == "CanonicalUser" else _NOBODY


def service(name: str) -> str:
    """What stands for a service in the place of an account's id."""
    return _SERVICE + name


def _aws_account(text: str) -> str:
    if not text.startswith("arn:"):
        return text
    match = _IAM.fullmatch(text)
    if match is None:
        if _OTHER_ARN.fullmatch(text) is None:
            raise malformed(f"Invalid principal in policy - {text[:64]}")
        return _NOBODY
    account, name = match[1], match[3]
    if name is None:
        if not account:
            raise malformed(f"Invalid principal in policy - {text[:64]}")
        return account
    return name if account in ("", name) else f"{account}${name}"
