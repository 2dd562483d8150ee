"""Lifecycle configurations: what a client sends, as rules and as the document that is kept and shown.

What is not known is refused, never passed over: a filter that went unread would delete too much.
Transitions are checked, kept and shown, and have no part in the rules: storage classes are names only.

Source: API Reference, PutBucketLifecycleConfiguration; User Guide, "Lifecycle configuration elements".
Differs: several conditions in a Filter without And are taken together, as Ceph does, where S3 refuses them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.times import parse_iso8601
from s3lite.wire import xml

MAX_RULES = 1000
_MAX_ID = 255
_MAX_KEY_BYTES = 1024
_MAX_KEPT = 100
_DAY_S = 86_400

# Names that a rule may hold; those that may come more than once.
_RULE = frozenset(
    (
        "ID", "Status", "Prefix", "Filter", "Expiration", "Transition", "NoncurrentVersionExpiration",
        "NoncurrentVersionTransition", "AbortIncompleteMultipartUpload",
    )
)  # fmt: skip
_ACTIONS = _RULE - {"ID", "Status", "Prefix", "Filter"}
_TRANSITIONS = frozenset(("Transition", "NoncurrentVersionTransition"))
_CONDITIONS = frozenset(("Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"))
_TRANSITION_CLASSES = frozenset(
    ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE")
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which objects a rule is about: all conditions hold. Sizes are exclusive, None is no bound."""

    prefix: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    size_above: int | None = None
    size_below: int | None = None

    @property
    def describes_objects(self) -> bool:
        """True if it asks for more than a key, which delete markers and uploads do not have."""
        return bool(self.tags) or self.size_above is not None or self.size_below is not None


@dataclass(frozen=True, slots=True)
class Rule:
    """What s3lite does for a rule. None: the rule does not ask for that."""

    id: str
    is_enabled: bool
    filter: Filter
    expire_days: int | None = None
    expire_at_ms: int | None = None
    expires_markers: bool = False  # ExpiredObjectDeleteMarker
    noncurrent_days: int | None = None
    noncurrent_kept: int = 0  # NewerNoncurrentVersions
    abort_days: int | None = None


def parse(data: bytes) -> tuple[Rule, ...]:
    """The rules of a LifecycleConfiguration; one without an ID has "".

    Raises MalformedXML, InvalidRequest, InvalidArgument.
    """
    root = xml.parse(data, "LifecycleConfiguration")
    _check_names(root, frozenset(("Rule",)), repeated=frozenset(("Rule",)))
    elements = xml.children(root, "Rule")
    if not 1 <= len(elements) <= MAX_RULES:
        raise xml.malformed(f"name between 1 and {MAX_RULES} rules")
    rules = tuple(map(_rule, elements))
    (name, count), *_ = Counter(rule.id or object() for rule in rules).most_common(1)
    if count > 1:
        raise invalid_argument(
            "ID", str(name), "Rule ID must be unique. Found same ID for more than one rule"
        )
    return rules


@lru_cache(maxsize=256)
def stored_rules(document: bytes) -> tuple[Rule, ...]:
    """The enabled rules of what `document` made, remembered."""
    return tuple(rule for rule in parse(document) if rule.is_enabled)


def document(data: bytes, *, new_id: Callable[[], str]) -> bytes:
    """A configuration that `parse` has taken, as it is kept and shown: every rule with an ID."""
    written = []
    for rule in xml.children(xml.parse(data, "LifecycleConfiguration"), "Rule"):
        given = xml.text(rule, "ID")
        body = "".join(_written(part) for part in rule if xml.local_name(part) != "ID")
        written.append(f"<Rule>{xml.element('ID', given or new_id())}{body}</Rule>")
    return xml.document("LifecycleConfiguration", "".join(written))


def _written(element: xml.Element) -> str:
    name = xml.local_name(element)
    if len(element):
        return f"<{name}>{''.join(map(_written, element))}</{name}>"
    return xml.element(name, element.text or "")


# ---------------------------------------------------------------- a rule


def _rule(element: xml.Element) -> Rule:
    _check_names(element, _RULE, repeated=_TRANSITIONS)
    name = xml.text(element, "ID")
    if len(name) > _MAX_ID:
        raise invalid_argument("ID", name, f"ID length should not exceed allowed limit of {_MAX_ID}")
    status = xml.text(element, "Status").strip()
    if status not in ("Enabled", "Disabled"):
        raise xml.malformed("Status must be Enabled or Disabled")
    if not any(xml.local_name(part) in _ACTIONS for part in element):
        raise S3Error(Code.InvalidRequest, "At least one action needs to be specified in a rule")
    chosen = _filter(element)
    for part in xml.children(element, "Transition"):
        _check_transition(part, frozenset(("Days", "Date")))
    for part in xml.children(element, "NoncurrentVersionTransition"):
        _check_transition(part, frozenset(("NoncurrentDays",)))
    expire_days, expire_at_ms, expires_markers = _expiration(xml.child(element, "Expiration"))
    noncurrent_days, kept = _noncurrent(xml.child(element, "NoncurrentVersionExpiration"))
    abort_days = _abort(xml.child(element, "AbortIncompleteMultipartUpload"))
    if chosen.describes_objects and (expires_markers or abort_days is not None):
        what = "ExpiredObjectDeleteMarker" if expires_markers else "AbortIncompleteMultipartUpload"
        raise S3Error(Code.InvalidRequest, f"{what} cannot be specified with Tags or object sizes")
    return Rule(
        id=name,
        is_enabled=status == "Enabled",
        filter=chosen,
        expire_days=expire_days,
        expire_at_ms=expire_at_ms,
        expires_markers=expires_markers,
        noncurrent_days=noncurrent_days,
        noncurrent_kept=kept,
        abort_days=abort_days,
    )


def _filter(rule: xml.Element) -> Filter:
    """The old form, Prefix in the rule itself, or a Filter; exactly one of them."""
    outer, old = xml.child(rule, "Filter"), xml.child(rule, "Prefix")
    if (outer is None) == (old is None):
        raise xml.malformed("a Rule needs either Filter or Prefix")
    if outer is None:
        return Filter(prefix=_prefix(xml.text(rule, "Prefix")))
    _check_names(outer, _CONDITIONS | {"And"})
    inner = xml.child(outer, "And")
    if inner is not None:
        _check_names(inner, _CONDITIONS, repeated=frozenset(("Tag",)))
    places = [place for place in (outer, inner) if place is not None]
    return Filter(
        prefix=_longer([_prefix(xml.text(place, "Prefix")) for place in places]),
        tags=_tags([tag for place in places for tag in xml.children(place, "Tag")]),
        **_sizes(places),
    )


def _prefix(text: str) -> str:
    if len(text.encode()) > _MAX_KEY_BYTES:
        raise invalid_argument("Prefix", text, f"The maximum size of a prefix is {_MAX_KEY_BYTES}.")
    return text


def _longer(prefixes: list[str]) -> str:
    """The prefix that implies the others."""
    longest = max(prefixes, key=len)
    if not all(longest.startswith(prefix) for prefix in prefixes):
        raise xml.malformed("no key has both prefixes of the Filter")
    return longest


def _tags(elements: list[xml.Element]) -> tuple[tuple[str, str], ...]:
    tags = []
    for element in elements:
        fields = _fields(element, frozenset(("Key", "Value")))
        key, value = fields.get("Key", ""), fields.get("Value", "")
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise S3Error(Code.InvalidTag, "A tag has a key of 1 to 128 and a value of up to 256 characters.")
        tags.append((key, value))
    if len({key for key, _ in tags}) < len(tags):
        raise S3Error(Code.InvalidRequest, "Duplicate Tag Keys are not allowed.")
    return tuple(tags)


def _sizes(places: list[xml.Element]) -> Mapping[str, int | None]:
    """Both bounds, as the arguments of `Filter`."""
    above = [_number(place, "ObjectSizeGreaterThan", least=0) for place in places]
    below = [_number(place, "ObjectSizeLessThan", least=1) for place in places]
    size_above = max((bound for bound in above if bound is not None), default=None)
    size_below = min((bound for bound in below if bound is not None), default=None)
    if size_above is not None and size_below is not None and size_above >= size_below:
        raise S3Error(
            Code.InvalidRequest,
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.",
        )
    return {"size_above": size_above, "size_below": size_below}


# ---------------------------------------------------------------- its actions


def _expiration(element: xml.Element | None) -> tuple[int | None, int | None, bool]:
    """Days, date and ExpiredObjectDeleteMarker, of which one is given."""
    if element is None:
        return None, None, False
    fields = _fields(element, frozenset(("Days", "Date", "ExpiredObjectDeleteMarker")))
    if len(fields) != 1:
        raise xml.malformed("Expiration needs one of Days, Date and ExpiredObjectDeleteMarker")
    if "Date" in fields:
        return None, _midnight_ms(fields["Date"]), False
    if "Days" in fields:
        return _number(element, "Days", least=1), None, False
    flag = fields["ExpiredObjectDeleteMarker"].strip()
    if flag not in ("true", "false"):
        raise xml.malformed("ExpiredObjectDeleteMarker must be true or false")
    return None, None, flag == "true"


def _noncurrent(element: xml.Element | None) -> tuple[int | None, int]:
    """Days, and how many noncurrent versions stay whatever their age."""
    if element is None:
        return None, 0
    fields = _fields(element, frozenset(("NoncurrentDays", "NewerNoncurrentVersions")))
    if "NoncurrentDays" not in fields:
        raise xml.malformed("NoncurrentVersionExpiration needs NoncurrentDays")
    kept = _number(element, "NewerNoncurrentVersions", least=1) or 0
    if kept > _MAX_KEPT:
        raise invalid_argument(
            "NewerNoncurrentVersions", str(kept), f"'NewerNoncurrentVersions' is at most {_MAX_KEPT}."
        )
    return _number(element, "NoncurrentDays", least=1), kept


def _abort(element: xml.Element | None) -> int | None:
    if element is None:
        return None
    if not _fields(element, frozenset(("DaysAfterInitiation",))):
        raise xml.malformed("AbortIncompleteMultipartUpload needs DaysAfterInitiation")
    return _number(element, "DaysAfterInitiation", least=1)


def _check_transition(element: xml.Element, times: frozenset[str]) -> None:
    fields = _fields(element, times | {"StorageClass", "NewerNoncurrentVersions"})
    if fields.get("StorageClass", "").strip() not in _TRANSITION_CLASSES:
        raise xml.malformed(f"StorageClass must be one of {', '.join(sorted(_TRANSITION_CLASSES))}")
    given = times & fields.keys()
    if len(given) != 1:
        raise xml.malformed(f"a transition needs one of {', '.join(sorted(times))}")
    if "Date" in given:
        _midnight_ms(fields["Date"])
    else:
        _number(element, next(iter(given)), least=0)


# ---------------------------------------------------------------- pieces


def _check_names(
    element: xml.Element, known: frozenset[str], *, repeated: frozenset[str] = frozenset()
) -> None:
    """Refuse what is unknown, and what comes twice and may not."""
    seen = set()
    for part in element:
        name = xml.local_name(part)
        if name not in known or (name in seen and name not in repeated):
            raise xml.malformed(f"{xml.local_name(element)} may not hold this {name}")
        seen.add(name)


def _fields(element: xml.Element, known: frozenset[str]) -> dict[str, str]:
    _check_names(element, known)
    return xml.fields(element)


def _number(element: xml.Element, name: str, *, least: int) -> int | None:
    """A whole number, None when absent. Raises MalformedXML, InvalidArgument (less than ``least``)."""
    if xml.child(element, name) is None:
        return None
    text = xml.text(element, name).strip()
    number = xml.integer(text)
    if number is None:
        raise xml.malformed(f"{name} must be a whole number")
    if number < least:
        action = xml.local_name(element)
        kind = "a positive" if least else "a nonnegative"
        raise invalid_argument(name, text, f"'{name}' for {action} action must be {kind} integer")
    return number


def _midnight_ms(text: str) -> int:
    seconds = parse_iso8601(text.strip())
    if seconds is None:
        raise xml.malformed("Date must be in ISO 8601 format")
    if seconds % _DAY_S:
        raise invalid_argument("Date", text, "'Date' must be at midnight GMT")
    return int(seconds) * 1000
