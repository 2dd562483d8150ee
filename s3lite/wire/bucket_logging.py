"""BucketLoggingStatus: where a bucket's access log goes, and what the objects there are called.

Source: API Reference, PutBucketLogging; User Guide, "Amazon S3 log object key format".
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from s3lite.model import Account, Grant
from s3lite.wire import xml
from s3lite.wire.requests import GrantItem, parse_grantee
from s3lite.wire.results import grantee

SIMPLE, BY_DELIVERY, BY_EVENT = "simple", "DeliveryTime", "EventTime"
_PERMISSIONS = ("FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP")
_MAX_GRANTS = 100
_MAX_PREFIX_BYTES = 512


@dataclass(frozen=True, slots=True)
class LoggingRequest:
    """LoggingEnabled as sent. ``key_format`` is simple, DeliveryTime or EventTime (partitioned)."""

    target: str
    prefix: str
    key_format: str = SIMPLE
    grants: tuple[GrantItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Logging:
    """The same as a bucket keeps it, its grantees looked up."""

    target: str
    prefix: str
    key_format: str = SIMPLE
    grants: tuple[Grant, ...] = ()


def parse_logging_status(data: bytes) -> LoggingRequest | None:
    """What a BucketLoggingStatus asks for; None turns logging off. Raises MalformedXML."""
    enabled = xml.child(xml.parse(data, "BucketLoggingStatus"), "LoggingEnabled")
    if enabled is None:
        return None
    target = xml.text(enabled, "TargetBucket").strip()
    if not target:
        raise xml.malformed("LoggingEnabled needs a TargetBucket")
    prefix = xml.text(enabled, "TargetPrefix")
    if len(prefix.encode()) > _MAX_PREFIX_BYTES:
        raise xml.malformed(f"TargetPrefix may have {_MAX_PREFIX_BYTES} bytes")
    grants = xml.child(enabled, "TargetGrants")
    rows = xml.children(grants, "Grant") if grants is not None else []
    if len(rows) > _MAX_GRANTS:
        raise xml.malformed(f"TargetGrants may have {_MAX_GRANTS} grants")
    return LoggingRequest(target, prefix, _key_format(enabled), tuple(map(_target_grant, rows)))


def _key_format(enabled: xml.Element) -> str:
    wanted = xml.child(enabled, "TargetObjectKeyFormat")
    if wanted is None:
        return SIMPLE
    simple, partitioned = xml.child(wanted, "SimplePrefix"), xml.child(wanted, "PartitionedPrefix")
    if (simple is None) == (partitioned is None):
        raise xml.malformed("TargetObjectKeyFormat is either SimplePrefix or PartitionedPrefix")
    if partitioned is None:
        return SIMPLE
    source = xml.text(partitioned, "PartitionDateSource", BY_DELIVERY).strip()
    if source not in (BY_DELIVERY, BY_EVENT):
        raise xml.malformed(f"PartitionDateSource must be {BY_EVENT} or {BY_DELIVERY}")
    return source


def _target_grant(row: xml.Element) -> GrantItem:
    permission = xml.text(row, "Permission").strip()
    if permission not in _PERMISSIONS:
        raise xml.malformed(f"the Permission of a target grant must be one of {', '.join(_PERMISSIONS)}")
    kind, value = parse_grantee(row)
    if not value:
        raise xml.malformed("a Grantee is a CanonicalUser with ID, a Group with URI, or an EmailAddress")
    return GrantItem(kind, value, permission)


def logging_status(logging: Logging | None, accounts: Mapping[str, Account]) -> bytes:
    """GetBucketLogging; None is a bucket without."""
    if logging is None:
        return xml.document("BucketLoggingStatus", "")
    grants = "".join(
        f"<Grant>{grantee(grant, accounts)}{xml.element('Permission', grant.permission)}</Grant>"
        for grant in logging.grants
    )
    if logging.key_format == SIMPLE:
        key_format = "<SimplePrefix/>"
    else:
        source = xml.element("PartitionDateSource", logging.key_format)
        key_format = f"<PartitionedPrefix>{source}</PartitionedPrefix>"
    body = (
        xml.element("TargetBucket", logging.target)
        + (f"<TargetGrants>{grants}</TargetGrants>" if grants else "")
        + f"<TargetObjectKeyFormat>{key_format}</TargetObjectKeyFormat>"
        + xml.element("TargetPrefix", logging.prefix)
    )
    return xml.document("BucketLoggingStatus", f"<LoggingEnabled>{body}</LoggingEnabled>")


# ---------------------------------------------------------------- as it is kept


def encode(logging: Logging) -> bytes:
    """The bucket's configuration document."""
    grants = [[grant.grantee, grant.permission, grant.is_group] for grant in logging.grants]
    return json.dumps([logging.target, logging.prefix, logging.key_format, grants]).encode()


@lru_cache(maxsize=128)
def decode(document: bytes) -> Logging:
    """`encode` undone."""
    target, prefix, key_format, grants = json.loads(document)
    return Logging(target, prefix, key_format, tuple(Grant(*grant) for grant in grants))


@dataclass(frozen=True, slots=True)
class Destination:
    """Where lines go that were written while this was so: a bucket's logging with all that names its objects.

    ``day`` is that of the requests, where the objects' names say it (EventTime), else "".
    """

    source: str
    owner_id: str
    region: str
    logging: Logging
    day: str = ""

    def encode(self) -> str:
        """As rows of lines keep it."""
        kept = encode(self.logging).decode()
        return json.dumps([self.source, self.owner_id, self.region, self.day, kept])

    @staticmethod
    def decode(text: str) -> Destination:
        """`encode` undone."""
        source, owner_id, region, day, kept = json.loads(text)
        return Destination(source, owner_id, region, decode(kept.encode()), day)

    def key(self, now_s: float, unique: str) -> str:
        """The key of the next object."""
        moment = time.gmtime(now_s)
        day = self.day or time.strftime("%Y-%m-%d", moment)
        clock = "00-00-00" if self.day else time.strftime("%H-%M-%S", moment)
        name = f"{day}-{clock}-{unique}"
        if self.logging.key_format == SIMPLE:
            return self.logging.prefix + name
        folder = f"{self.owner_id}/{self.region}/{self.source}/{day.replace('-', '/')}/"
        return self.logging.prefix + folder + name


def day_of(logging: Logging, at_s: float) -> str:
    """The day that a request's lines are kept apart by; "" where they are not."""
    return time.strftime("%Y-%m-%d", time.gmtime(at_s)) if logging.key_format == BY_EVENT else ""
