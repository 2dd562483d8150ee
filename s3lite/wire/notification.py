"""Notification configurations: what a client sends, as rules and as the document that is kept and shown.

Source: API Reference, PutBucketNotificationConfiguration; User Guide, "Event notification types and
destinations", "Configuring event notifications using object key name filtering".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.wire import xml

ROOT = "NotificationConfiguration"
_MAX_VALUE_BYTES = 1024

FIRED = frozenset(
    (
        "ObjectCreated:Put", "ObjectCreated:Post", "ObjectCreated:Copy", "ObjectCreated:CompleteMultipartUpload",
        "ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated",
        "LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated",
        "ObjectTagging:Put", "ObjectTagging:Delete", "ObjectAnnotation:Put", "ObjectAnnotation:Delete",
        "ObjectAcl:Put", "ObjectRetention:Put",
    )
)  # fmt: skip
"""What happens here."""
NEVER_FIRED = frozenset(
    (
        "ReducedRedundancyLostObject", "LifecycleTransition", "IntelligentTiering",
        "ObjectRestore:Post", "ObjectRestore:Completed", "ObjectRestore:Delete",
        "Replication:OperationFailedReplication", "Replication:OperationNotTracked",
        "Replication:OperationMissedThreshold", "Replication:OperationReplicatedAfterThreshold",
    )
)  # fmt: skip
"""Events of S3 that a configuration may name and that never happen here."""
_GROUPS = frozenset(
    (
        "ObjectCreated:*", "ObjectRemoved:*", "ObjectRestore:*", "Replication:*", "LifecycleExpiration:*",
        "ObjectTagging:*", "ObjectAnnotation:*",
    )
)  # fmt: skip

# The element of a configuration, and the one inside it that names the destination.
_KINDS = {
    "TopicConfiguration": "Topic",
    "QueueConfiguration": "Queue",
    "CloudFunctionConfiguration": "CloudFunction",
}
_EVENT_BRIDGE = "EventBridgeConfiguration"
_AMBIGUOUS = (
    "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are "
    "overlapping for the same event type."
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One configuration: which events of which keys go where."""

    kind: str  # the element's name
    id: str
    arn: str
    events: tuple[str, ...]  # as configured, without "s3:"
    prefix: str = ""
    suffix: str = ""

    def wants(self, event: str, key: str) -> bool:
        """Whether an event (without ``s3:``) of a key is meant."""
        if not any(_covers(each, event) for each in self.events):
            return False
        return key.startswith(self.prefix) and key.endswith(self.suffix)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A bucket's. ``event_bridge``: every event goes there, too."""

    rules: tuple[Rule, ...] = ()
    event_bridge: bool = False

    @property
    def is_empty(self) -> bool:
        """True if nothing is told to anyone."""
        return not self.rules and not self.event_bridge


def _covers(configured: str, event: str) -> bool:
    return configured == event or (configured.endswith("*") and event.startswith(configured[:-1]))


# ---------------------------------------------------------------- reading


def parse(data: bytes, *, new_id: Callable[[], str], max_rules: int) -> Configuration:
    """What a client sent; rules without an Id get one. Raises MalformedXML, InvalidArgument."""
    root = xml.parse(data, ROOT)
    rules = []
    event_bridge = False
    for element in root:
        name = xml.local_name(element)
        if name == _EVENT_BRIDGE:
            event_bridge = True
        elif name in _KINDS:
            rules.append(_rule(element, name, new_id))
        else:
            raise xml.malformed(f"{ROOT} may not hold this {name}")
    if len(rules) > max_rules:
        raise invalid_argument(
            ROOT, str(len(rules)), f"A bucket may have at most {max_rules} notification configurations."
        )
    if len({rule.id for rule in rules}) < len(rules):
        raise invalid_argument("Id", "", "Same ID used for multiple configurations. IDs must be unique.")
    for one, other in combinations(rules, 2):
        if _overlap(one, other):
            raise invalid_argument("Filter", f"{one.id}, {other.id}", _AMBIGUOUS)
    return Configuration(tuple(rules), event_bridge)


def _rule(element: xml.Element, kind: str, new_id: Callable[[], str]) -> Rule:
    known = {"Id", "Event", "Filter", "InvocationRole", _KINDS[kind]}  # the role is of an older API
    for part in element:
        if xml.local_name(part) not in known:
            raise xml.malformed(f"{kind} may not hold this {xml.local_name(part)}")
    arn = xml.text(element, _KINDS[kind]).strip()
    events = tuple(_event(xml.text_of(part)) for part in xml.children(element, "Event"))
    if not arn or not events:
        raise xml.malformed(f"{kind} needs {_KINDS[kind]} and Event")
    prefix, suffix = _filter(xml.child(element, "Filter"))
    return Rule(kind, xml.text(element, "Id").strip() or new_id(), arn, events, prefix, suffix)


def _event(text: str) -> str:
    name = text.strip().removeprefix("s3:")
    if not text.strip().startswith("s3:") or name not in FIRED | NEVER_FIRED | _GROUPS:
        raise invalid_argument("Event", text, "The event is not supported for notifications")
    return name


def _filter(element: xml.Element | None) -> tuple[str, str]:
    """Prefix and suffix. Rule names are compared without case, as S3 does."""
    found: dict[str, str] = {}
    key = xml.child(element, "S3Key") if element is not None else None
    for rule in xml.children(key, "FilterRule") if key is not None else ():
        name, value = xml.text(rule, "Name").strip(), xml.text(rule, "Value")
        if name.lower() not in ("prefix", "suffix"):
            message = "filter rule name must be either prefix or suffix"
            raise invalid_argument("FilterRule.Name", name, message)
        if name.lower() in found:
            message = f"Cannot specify more than one {name.lower()} rule in a filter."
            raise invalid_argument("FilterRule.Name", name, message)
        if len(value.encode()) > _MAX_VALUE_BYTES:
            message = (
                f"Size of filter rule value cannot exceed {_MAX_VALUE_BYTES} bytes in UTF-8 representation"
            )
            raise invalid_argument("FilterRule.Value", value[:64], message)
        found[name.lower()] = value
    return found.get("prefix", ""), found.get("suffix", "")


def _overlap(one: Rule, other: Rule) -> bool:
    """Whether some event of some key would go both ways."""
    return (
        any(_covers(a, b) or _covers(b, a) for a in one.events for b in other.events)
        and (one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix))
        and (one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix))
    )


# ---------------------------------------------------------------- keeping and writing


def document(configuration: Configuration) -> bytes:
    """As it is kept and shown."""
    body = "".join(map(_element, configuration.rules))
    if configuration.event_bridge:
        body += f"<{_EVENT_BRIDGE}></{_EVENT_BRIDGE}>"
    return xml.document(ROOT, body)


def _element(rule: Rule) -> str:
    body = xml.element("Id", rule.id) + xml.element(_KINDS[rule.kind], rule.arn)
    body += "".join(xml.element("Event", f"s3:{event}") for event in rule.events)
    filters = "".join(
        f"<FilterRule>{xml.element('Name', name)}{xml.element('Value', value)}</FilterRule>"
        for name, value in (("prefix", rule.prefix), ("suffix", rule.suffix))
        if value
    )
    if filters:
        body += f"<Filter><S3Key>{filters}</S3Key></Filter>"
    return f"<{rule.kind}>{body}</{rule.kind}>"


@lru_cache(maxsize=256)
def stored(document: bytes) -> Configuration:
    """From `document`."""
    return parse(document, new_id=_no_id, max_rules=1 << 30)


def _no_id() -> str:
    raise S3Error(Code.InternalError)
