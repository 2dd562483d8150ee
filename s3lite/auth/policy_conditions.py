"""The Condition element of policy statements: operators over the facts of a request.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators" and "Multivalued context keys".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s3lite.auth.facts import known
from s3lite.auth.patterns import Facts, Pattern
from s3lite.errors import Code, S3Error
from s3lite.times import parse_iso8601

Matcher = Callable[[str, Facts], bool]
"""One value of a policy against one of the request."""

_ANY, _ALL = "ForAnyValue", "ForAllValues"
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,9})?")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def malformed(reason: str) -> S3Error:
    """MalformedPolicy with S3's words for what is wrong."""
    return S3Error(Code.MalformedPolicy, reason)


@dataclass(frozen=True, slots=True)
class Condition:
    """One key under one operator. ``values`` are alternatives; ``narrow`` says that they are fixed."""

    key: str
    values: tuple[Matcher, ...]
    narrow: bool
    negated: bool = False
    if_exists: bool = False
    quantifier: str = ""
    null: tuple[bool, ...] = ()  # of the operator Null, which has no matchers

    def holds(self, facts: Facts) -> bool:
        """Whether the request satisfies the condition."""
        actual = facts.get(self.key)
        if self.null:
            return (not actual) in self.null
        if not actual:
            if self.if_exists or self.quantifier == _ALL:
                return True
            return self.negated and self.quantifier != _ANY
        # A negated operator without quantifier is "none of them", for keys of several values, too.
        every = self.quantifier == _ALL or (self.negated and not self.quantifier)
        return (all if every else any)(self._one(value, facts) for value in actual)

    def _one(self, value: str, facts: Facts) -> bool:
        return any(matches(value, facts) for matches in self.values) != self.negated

    def restricts_to_fixed_values(self) -> bool:
        """True if requests without one of a few fixed values fail it ("The meaning of public")."""
        return self.narrow and not (self.negated or self.if_exists or self.quantifier == _ALL or self.null)


# ---------------------------------------------------------------- operators


def _text(wild: bool, ignore_case: bool = False) -> Callable[[str, bool], tuple[Matcher, bool]]:
    def make(text: str, variables: bool) -> tuple[Matcher, bool]:
        pattern = Pattern(text, wild=wild, variables=variables, ignore_case=ignore_case)
        check_variables(pattern)
        return pattern.matches, pattern.is_fixed()

    return make


def check_variables(pattern: Pattern) -> None:
    """Raise MalformedPolicy for a variable that no request has: the statement would never apply."""
    for name in pattern.variables():
        if known(name) is None:
            raise malformed(f"Policy has an invalid variable - ${{{name[:64]}}}")


def _arn(text: str, variables: bool) -> tuple[Matcher, bool]:
    """ARNs part by part: a wildcard does not reach over a colon, but in the last of the six."""
    parts = text.split(":", 5)
    if len(parts) != 6 and text != "*":
        raise malformed(f"Policy has an invalid ARN in a condition - {text[:64]}")
    patterns = [Pattern(part, variables=variables) for part in parts]
    for pattern in patterns:
        check_variables(pattern)

    def matches(value: str, facts: Facts) -> bool:
        actual = value.split(":", 5)
        if len(patterns) == 1:
            return True
        return len(actual) == 6 and all(
            pattern.matches(part, facts) for pattern, part in zip(patterns, actual, strict=True)
        )

    return matches, all(pattern.is_fixed() for pattern in patterns)


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _date(text: str) -> float | None:
    seconds = parse_iso8601(text if len(text) > 10 else f"{text}T00:00:00Z")
    return seconds if seconds is not None else _number(text)


def _ordered(
    read: Callable[[str], float | None], compare: Callable[[float, float], bool]
) -> Callable[[str, bool], tuple[Matcher, bool]]:
    def make(text: str, _variables: bool) -> tuple[Matcher, bool]:
        wanted = read(text)
        if wanted is None:
            raise malformed(f"Policy has an invalid value in a condition - {text[:64]}")

        def matches(value: str, _facts: Facts) -> bool:
            actual = read(value)
            return actual is not None and compare(actual, wanted)

        return matches, False

    return make


def _bool(text: str, _variables: bool) -> tuple[Matcher, bool]:
    wanted = text.lower()
    if wanted not in ("true", "false"):
        raise malformed(f"Policy has an invalid value in a condition - {text[:64]}")
    return lambda value, _facts: value.lower() == wanted, False


def _ip(text: str, _variables: bool) -> tuple[Matcher, bool]:
    try:
        network: _Network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise malformed(f"Policy has an invalid IP address - {text[:64]}") from None

    def matches(value: str, _facts: Facts) -> bool:
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address in network

    # "IP ranges broader than /8 for IPv4 and /32 for IPv6 are considered public."
    return matches, network.prefixlen >= (8 if network.version == 4 else 32)


_Maker = Callable[[str, bool], tuple[Matcher, bool]]


def _comparisons(family: str, read: Callable[[str], float | None]) -> dict[str, tuple[_Maker, bool]]:
    return {
        f"{family}Equals": (_ordered(read, lambda a, b: a == b), False),
        f"{family}NotEquals": (_ordered(read, lambda a, b: a == b), True),
        f"{family}LessThan": (_ordered(read, lambda a, b: a < b), False),
        f"{family}LessThanEquals": (_ordered(read, lambda a, b: a <= b), False),
        f"{family}GreaterThan": (_ordered(read, lambda a, b: a > b), False),
        f"{family}GreaterThanEquals": (_ordered(read, lambda a, b: a >= b), False),
    }


_OPERATORS: dict[str, tuple[_Maker, bool]] = {  # how values are compared, and whether that is negated
    "StringEquals": (_text(wild=False), False),
    "StringNotEquals": (_text(wild=False), True),
    "StringEqualsIgnoreCase": (_text(wild=False, ignore_case=True), False),
    "StringNotEqualsIgnoreCase": (_text(wild=False, ignore_case=True), True),
    "StringLike": (_text(wild=True), False),
    "StringNotLike": (_text(wild=True), True),
    **_comparisons("Numeric", _number),
    **_comparisons("Date", _date),
    "Bool": (_bool, False),
    "IpAddress": (_ip, False),
    "NotIpAddress": (_ip, True),
    "ArnEquals": (_arn, False),
    "ArnLike": (_arn, False),
    "ArnNotEquals": (_arn, True),
    "ArnNotLike": (_arn, True),
}


# ---------------------------------------------------------------- reading


def parse_conditions(element: object, *, variables: bool) -> tuple[Condition, ...]:
    """A statement's Condition. Raises MalformedPolicy."""
    if not isinstance(element, dict):
        raise malformed("Condition must be an object of operators")
    found = []
    for operator, keys in element.items():
        if not isinstance(keys, dict):
            raise malformed(f"Condition {operator[:64]} must be an object of condition keys")
        for key, values in keys.items():
            found.append(_condition(operator, key, _values(values), variables))
    return tuple(found)


def _condition(operator: str, key: str, values: Sequence[str], variables: bool) -> Condition:
    name = known(key)
    if name is None:
        raise malformed(f"Policy has an invalid condition key - {key[:64]}")
    quantifier, _, bare = operator.rpartition(":")
    if bare == "Null" and not quantifier:
        wanted = [value.lower() for value in values]
        if not set(wanted) <= {"true", "false"}:
            raise malformed("The values of Null must be true or false")
        return Condition(name, (), False, null=tuple(value == "true" for value in wanted))
    if_exists = bare.endswith("IfExists")
    found = _OPERATORS.get(bare.removesuffix("IfExists"))
    if found is None or quantifier not in ("", _ANY, _ALL):
        raise malformed(f"Invalid Condition type : {operator[:64]}")
    make, negated = found
    made = [make(value, variables) for value in values]
    return Condition(
        name,
        tuple(matcher for matcher, _ in made),
        all(fixed for _, fixed in made),
        negated,
        if_exists,
        quantifier,
    )


def _values(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise malformed("A condition key needs a value")
    return [_value(item) for item in values]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise malformed("The values of conditions must be strings")
