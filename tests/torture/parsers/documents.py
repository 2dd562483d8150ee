"""Documents: XML and JSON of requests, callbacks and their answers. What is kept of them reads back."""

from __future__ import annotations

import base64
from collections.abc import Callable

from torture.parsers import text

from s3lite.auth import policy
from s3lite.callback import policies, reply, spec
from s3lite.callback.egress import parse_url
from s3lite.callback.render import MAX_BODY
from s3lite.wire import (
    access,
    bucket_logging,
    cors,
    encryption,
    lifecycle,
    notification,
    object_lock,
    requests,
    website,
)

_NOW_MS = int(text.NOW * 1000)


def delete(data: bytes) -> None:
    """DeleteObjects."""
    assert 1 <= len(requests.parse_delete(data, max_keys=1000).objects) <= 1000


def complete(data: bytes) -> None:
    """CompleteMultipartUpload: part numbers within bounds, in ascending order."""
    numbers = [part.part_number for part in requests.parse_complete(data, max_parts=10_000)]
    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 1
    assert numbers[-1] <= 10_000


def tagging(data: bytes) -> None:
    """PutObjectTagging."""
    assert len(requests.parse_tagging(data, max_tags=10)) <= 10


def cors_configuration(data: bytes) -> None:
    """PutBucketCors: as kept and as shown."""
    rules = cors.parse(data)
    assert cors.loads(cors.dumps(rules)) == rules
    assert cors.parse(cors.document(rules)) == rules


def website_configuration(data: bytes) -> None:
    """PutBucketWebsite: as kept and as shown; its redirects name one place."""
    site = website.parse(data)
    assert website.loads(website.dumps(site)) == site
    assert website.parse(website.document(site)) == site
    for rule in site.rules:
        where = website.location(rule, "docs/a b", origin="http://h", mount_prefix="")
        assert not set(where) & set("\r\n\0 ")


def lifecycle_configuration(data: bytes) -> None:
    """PutBucketLifecycleConfiguration: as kept, with ids."""
    rules = lifecycle.parse(data)
    ids = iter(range(10**6))
    kept = lifecycle.document(data, new_id=lambda: f"new-{next(ids)}")
    again = lifecycle.parse(kept)
    assert [rule.filter for rule in again] == [rule.filter for rule in rules]
    assert lifecycle.document(kept, new_id=lambda: "none") == kept


def notification_configuration(data: bytes) -> None:
    """PutBucketNotificationConfiguration: as kept."""
    ids = iter(range(10**6))
    found = notification.parse(data, new_id=lambda: f"new-{next(ids)}", max_rules=100)
    assert notification.stored(notification.document(found)) == found


def logging_status(data: bytes) -> None:
    """PutBucketLogging."""
    bucket_logging.parse_logging_status(data)


def encryption_configuration(data: bytes) -> None:
    """PutBucketEncryption: as kept."""
    found = encryption.parse_configuration(data)
    assert encryption.parse_configuration(found.document) == found


def lock_configuration(data: bytes) -> None:
    """PutObjectLockConfiguration: as kept."""
    found = object_lock.parse_configuration(data)
    assert object_lock.parse_configuration(object_lock.configuration(found)) == found
    assert found is None or found.until_ms(_NOW_MS) > _NOW_MS


def retention(data: bytes) -> None:
    """PutObjectRetention: as shown."""
    lock = object_lock.parse_retention(data, now_ms=_NOW_MS)
    if lock.retain_until_ms:
        assert object_lock.parse_retention(object_lock.retention(lock), now_ms=_NOW_MS) == lock


def bucket_policy(data: bytes) -> None:
    """PutBucketPolicy, and the policies of keys and sessions."""
    policy.parse(data).check_bucket("bucket")


def callback_policies(data: bytes) -> None:
    """PutBucketCallbackPolicy: as kept."""
    found = policies.parse(data, max_policies=100)
    assert policies.parse(policies.encode(found), max_policies=100) == found


def callback(data: bytes) -> None:
    """A callback (JSON), an empty line, its variables (JSON): what is taken can be sent and logged."""
    document, _, variables = data.partition(b"\n\n")
    encoded = [base64.b64encode(part).decode() if part else "" for part in (document, variables)]
    _check_callback(spec.RawCallback("s3-header", *encoded))


def callback_headers(data: bytes) -> None:
    """The same as sent: two lines of Base64."""
    first, _, second = data.decode("latin-1").partition("\n")
    _check_callback(spec.RawCallback("s3-header", first, second))


def _check_callback(raw: spec.RawCallback) -> None:
    found = spec.parse(raw)
    assert 1 <= len(found.urls) <= 5
    for url in found.urls:
        assert url.target.isascii()
        assert not set(url.host) & set("@/?#\\%")
        assert not set(url.host + url.target) & set("\r\n\0 #")
    assert not set(found.host + found.body_type) & set("\r\n\0")
    assert found.template.bound(found.variables) <= MAX_BODY


def callback_url(data: bytes) -> None:
    """A URL means one thing: what is checked is what is used."""
    url = parse_url(data.decode("utf-8", "replace"))
    assert parse_url(f"{url.scheme}://{url.netloc}{url.target}") == url
    assert url.literal is None or str(url.literal) == url.host


def callback_answer(data: bytes) -> None:
    """A media type, an empty line, an application's answer."""
    kind, _, body = data.decode("latin-1").partition("\n\n")
    answer = body.encode("latin-1")
    reply.is_well_formed(answer, reply.media_type(kind))
    for essence in (reply.essence(kind), "application/json", "text/plain"):
        said = reply.reason(answer, essence)
        assert len(said) <= 512
        assert said.isprintable()
    reply.framing_fault(kind.split(","), [])


PARSERS: dict[str, Callable[[bytes], object]] = {
    "xml-delete": delete,
    "xml-complete": complete,
    "xml-tagging": tagging,
    "xml-acl": requests.parse_acl,
    "xml-cors": cors_configuration,
    "xml-website": website_configuration,
    "xml-lifecycle": lifecycle_configuration,
    "xml-notification": notification_configuration,
    "xml-logging": logging_status,
    "xml-encryption": encryption_configuration,
    "xml-object-encryption": encryption.parse_object_encryption,
    "xml-object-lock": lock_configuration,
    "xml-retention": retention,
    "xml-legal-hold": object_lock.parse_legal_hold,
    "xml-versioning": requests.parse_versioning,
    "xml-create-bucket": requests.parse_create_bucket,
    "xml-request-payment": requests.parse_request_payment,
    "xml-public-access": access.parse_public_access_block,
    "xml-ownership": access.parse_ownership_controls,
    "bucket-policy": bucket_policy,
    "key-policy": policy.parse_key,
    "callback-policies": callback_policies,
    "callback": callback,
    "callback-headers": callback_headers,
    "callback-url": callback_url,
    "callback-answer": callback_answer,
}
