"""Bucket notifications: S3's events, as messages in the outbox, written with what they tell of.

`Events` is what one operation has to tell. Its methods run inside that operation's transaction, so that an
event is there exactly when the change is. Buckets without a configuration never come here.

Source: User Guide, "Event message structure", "Event notification types and destinations", "EventBridge
event message structure".
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote_plus

from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx
from s3lite.core.outbox import NOTIFICATION, lifetime_ms
from s3lite.core.store import Store
from s3lite.messages import OutboxEntry
from s3lite.model import NULL_VERSION, Bucket, ObjectVersion
from s3lite.times import iso8601_ms, rfc3339
from s3lite.wire.notification import Configuration, stored

CONFIG = "notification"
"""The name of the bucket's configuration document."""
DELETE, MARKER = "Delete", "DeleteMarkerCreated"
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"

_compact = json.JSONEncoder(separators=(",", ":")).encode

# Detail type and reason of EventBridge, by event.
_DETAIL = {
    "ObjectCreated:Put": ("Object Created", "PutObject"),
    "ObjectCreated:Post": ("Object Created", "POST Object"),
    "ObjectCreated:Copy": ("Object Created", "CopyObject"),
    "ObjectCreated:CompleteMultipartUpload": ("Object Created", "CompleteMultipartUpload"),
    "ObjectRemoved:Delete": ("Object Deleted", "DeleteObject"),
    "ObjectRemoved:DeleteMarkerCreated": ("Object Deleted", "DeleteObject"),
    "LifecycleExpiration:Delete": ("Object Deleted", "Lifecycle Expiration"),
    "LifecycleExpiration:DeleteMarkerCreated": ("Object Deleted", "Lifecycle Expiration"),
    "ObjectTagging:Put": ("Object Tags Added", ""),
    "ObjectTagging:Delete": ("Object Tags Deleted", ""),
    "ObjectAcl:Put": ("Object ACL Updated", ""),
}
_DELETION_TYPES = {DELETE: "Permanently Deleted", MARKER: "Delete Marker Created"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who caused an event, and by which request."""

    principal: str
    address: str
    request_id: str
    host_id: str


@dataclass(frozen=True, slots=True)
class _Event:
    name: str  # without "s3:"
    bucket: Bucket
    version: ObjectVersion
    time_ms: int
    origin: Origin
    region: str


class Events:
    """What one operation tells of a bucket that has a configuration.

    ``family`` is ObjectRemoved, or LifecycleExpiration where no request removes.
    """

    def __init__(self, store: Store, origin: Origin, *, family: str = "ObjectRemoved") -> None:
        self._store = store
        self._origin = origin
        self._family = family

    def created(self, how: str) -> Callable[[Tx, Bucket, ObjectVersion], None]:
        """Tells of a version that was made: by Put, Post, Copy or CompleteMultipartUpload."""
        return lambda tx, bucket, version: self.tell(tx, bucket, f"ObjectCreated:{how}", version)

    def removed(self, tx: Tx, bucket: Bucket, how: str, version: ObjectVersion) -> None:
        """Tells of a version that is gone (`DELETE`), or of a delete marker that was made (`MARKER`)."""
        self.tell(tx, bucket, f"{self._family}:{how}", version)

    def tell(self, tx: Tx, bucket: Bucket, name: str, version: ObjectVersion) -> None:
        """Write an event to the outbox for each target that wants it. Part of the transaction."""
        event = _Event(
            name, bucket, version, self._store.clock.time_ms(), self._origin, self._store.settings.region
        )
        for arn, body in self._messages(tx, event):
            tx.add_outbox(
                notification_entry(
                    self._store,
                    arn=arn,
                    bucket=bucket.name,
                    key=version.key,
                    event=f"s3:{name}",
                    body=body,
                )
            )

    def _messages(self, tx: ReadTx, event: _Event) -> Iterator[tuple[str, bytes]]:
        """ARNs and bodies."""
        document = tx.bucket_config(event.bucket.id, CONFIG)
        configuration = stored(document) if document else Configuration()
        for rule in configuration.rules:
            if rule.wants(event.name, event.version.key):
                yield rule.arn, _records(event, rule.id)
        bridge = self._store.settings.notifications.eventbridge
        if configuration.event_bridge and bridge and event.name in _DETAIL:
            yield event_bridge_arn(bridge), _bridged(event)


def event_bridge_arn(name: str) -> str:
    """The destination of EventBridge's messages, as the outbox shows it."""
    return f"arn:s3lite:eventbridge:::{name}"


def lifecycle_events(store: Store) -> Events:
    """Events of the sweeper, which S3 signs with its own name."""
    origin = Origin("s3.amazonaws.com", "s3.amazonaws.com", store.ids.request(), "s3lite-lifecycle")
    return Events(store, origin, family="LifecycleExpiration")


def notification_entry(
    store: Store, *, arn: str, bucket: str, key: str, event: str, body: bytes
) -> OutboxEntry:
    """A message to a target as its row; due at once.

    A target that the settings do not have any more is no reason to lose an event: attempts fail until it
    is back.
    """
    now_ms = store.clock.time_ms()
    name = arn.rpartition(":")[2]
    return OutboxEntry(
        id=store.ids.message(),
        kind=NOTIFICATION,
        bucket=bucket,
        key=key,
        event=event,
        destination=arn,
        lane=f"target {name}",
        request=_compact({"target": name}),
        body=body,
        created_ms=now_ms,
        expires_ms=now_ms + lifetime_ms(store.settings.outbox),
        due_ms=now_ms,
    )


# ---------------------------------------------------------------- bodies


def _sequencer(event: _Event) -> str:
    """Rises with each event of a key: first by version, in order of commit, then by time.

    S3 has it compared as text, the shorter one filled up with zeros on the right.
    """
    return f"{event.version.row:016X}{event.time_ms:012X}"


def _version_id(event: _Event) -> dict[str, str]:
    version_id = event.version.version_id
    return {"versionId": version_id} if event.bucket.versioning and version_id != NULL_VERSION else {}


def _object(event: _Event) -> dict[str, object]:
    """What S3 tells of the object; of a removed one hardly anything."""
    version = event.version
    kind, _, how = event.name.partition(":")
    found: dict[str, object] = {"key": quote_plus(version.key, safe="/*", errors="replace")}
    if kind == "ObjectCreated":
        found |= {"size": version.size, "eTag": version.etag}
    elif how == MARKER:
        found["eTag"] = EMPTY_MD5
    elif how != DELETE or kind == "ObjectTagging":
        found["eTag"] = version.etag
    found |= _version_id(event)
    if kind in ("ObjectCreated", "ObjectRemoved", "LifecycleExpiration"):
        found["sequencer"] = _sequencer(event)
    return found


def _records(event: _Event, configuration_id: str) -> bytes:
    """S3's own message."""
    is_older_kind = event.name.startswith(("ObjectCreated:", "ObjectRemoved:"))
    record = {
        "eventVersion": "2.1" if is_older_kind else "2.3",
        "eventSource": "aws:s3",
        "awsRegion": event.region,
        "eventTime": iso8601_ms(event.time_ms),
        "eventName": event.name,
        "userIdentity": {"principalId": event.origin.principal},
        "requestParameters": {"sourceIPAddress": event.origin.address},
        "responseElements": {
            "x-amz-request-id": event.origin.request_id,
            "x-amz-id-2": event.origin.host_id,
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {
                "name": event.bucket.name,
                "ownerIdentity": {"principalId": event.bucket.owner_id},
                "arn": f"arn:aws:s3:::{event.bucket.name}",
            },
            "object": _object(event),
        },
    }
    return _compact({"Records": [record]}).encode()


def _bridged(event: _Event) -> bytes:
    """The same for EventBridge."""
    detail_type, reason = _DETAIL[event.name]
    version = event.version
    is_created = event.name.startswith("ObjectCreated:")
    subject: dict[str, object] = {"key": version.key}
    if is_created:
        subject |= {"size": version.size}
    if version.etag:
        subject |= {"etag": version.etag}
    if version_id := _version_id(event):
        subject["version-id"] = version_id["versionId"]
    if reason:
        subject["sequencer"] = _sequencer(event)
    detail: dict[str, object] = {
        "version": "0",
        "bucket": {"name": event.bucket.name},
        "object": subject,
        "request-id": event.origin.request_id,
        "requester": event.origin.principal,
    }
    if event.origin.address != event.origin.principal:
        detail["source-ip-address"] = event.origin.address
    if reason:
        detail["reason"] = reason
    if detail_type == "Object Deleted":
        detail["deletion-type"] = _DELETION_TYPES[event.name.partition(":")[2]]
    message = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": "aws.s3",
        "account": event.bucket.owner_id,
        "time": rfc3339(event.time_ms / 1000),
        "region": event.region,
        "resources": [f"arn:aws:s3:::{event.bucket.name}"],
        "detail": detail,
    }
    return _compact(message).encode("utf-8", "replace")


def test_message(store: Store, bucket: str, origin: Origin) -> bytes:
    """What S3 sends to a destination before it takes a configuration."""
    message = {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": iso8601_ms(store.clock.time_ms()),
        "Bucket": bucket,
        "RequestId": origin.request_id,
        "HostId": origin.host_id,
    }
    return _compact(message).encode()
