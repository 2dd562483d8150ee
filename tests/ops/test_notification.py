"""Bucket notifications: configuration, the message of each event, webhooks and brokers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote_plus

import forms
import kombu
import pytest
from client import S3, Answer
from conftest import add_user

from s3lite.app import Application, create_app
from s3lite.callback.broker import BrokerError, Brokers
from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Receiver
from s3lite.callback.signing import new_webhook_secret
from s3lite.core.sweep import sweep
from s3lite.ops import events
from s3lite.settings import (
    LifecycleSettings,
    LimitSettings,
    NotificationSettings,
    OutboxSettings,
    Settings,
    SettingsError,
)

SECRET = new_webhook_secret()
ARN = "arn:s3lite:webhook:::hook"
EVERYTHING = (
    "s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:LifecycleExpiration:*", "s3:ObjectTagging:*", "s3:ObjectAcl:Put",
    "s3:ObjectRetention:Put", "s3:ReducedRedundancyLostObject",
)  # fmt: skip
VERSIONED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(secrets=[SECRET]) as listening:
        yield listening


@pytest.fixture
def settings(settings: Settings, receiver: Receiver) -> Settings:
    targets = (
        ("hook", receiver.url("/hook?key=1")),
        ("bus", "memory://broker#events"),
        ("dead", "http://127.0.0.1:1234/"),
    )
    return replace(
        settings,
        notifications=NotificationSettings(targets=targets, secrets=(("hook", SECRET),), eventbridge="hook"),
        outbox=OutboxSettings(schedule_s=(0, 0.05, 0.05), poll_s=0.05),
        lifecycle=LifecycleSettings(day_seconds=1),
    )


def rule(*events: str, arn: str = ARN, prefix: str = "", name: str = "all") -> str:
    filters = f"<FilterRule><Name>Prefix</Name><Value>{prefix}</Value></FilterRule>" if prefix else ""
    body = "".join(f"<Event>{event}</Event>" for event in events)
    return (
        f"<TopicConfiguration><Id>{name}</Id><Topic>{arn}</Topic>{body}"
        f"<Filter><S3Key>{filters}</S3Key></Filter></TopicConfiguration>"
    )


def put(s3: S3, *elements: str, skip: bool = True, bucket: str = "bucket") -> Answer:
    body = f"<NotificationConfiguration>{''.join(elements)}</NotificationConfiguration>".encode()
    headers = {"x-amz-skip-destination-validation": "true"} if skip else {}
    return s3.put(f"/{bucket}?notification", body, headers)


def records(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    """The first messages, in order of their events."""
    found = [json.loads(got.body)["Records"][0] for got in receiver.wait(count)]
    return sorted(
        found, key=lambda record: (record["eventTime"], record["s3"]["object"].get("sequencer", ""))
    )


def names(receiver: Receiver, count: int) -> list[str]:
    found = sorted(record["eventName"] for record in records(receiver, count))
    time.sleep(0.05)
    assert len(receiver.requests) == count
    return found


def owed(app: Application) -> int:
    with app.services.store.catalog.read() as tx:
        return tx.outbox_figures().waiting


# ---------------------------------------------------------------- the configuration


def test_a_bucket_without_one_shows_an_empty_one(s3: S3) -> None:
    answer = s3.get("/bucket?notification")
    assert (answer.status, len(answer.xml)) == (200, 0)
    assert answer.xml.tag == "NotificationConfiguration"


def test_a_configuration_comes_back_and_an_empty_one_ends_it(app: Application, s3: S3) -> None:
    assert put(s3, rule("s3:ObjectCreated:*", prefix="in/")).status == 200
    shown = s3.get("/bucket?notification")
    assert shown.text("TopicConfiguration/Id") == "all"
    assert shown.text("TopicConfiguration/Topic") == ARN
    assert shown.text("TopicConfiguration/Event") == "s3:ObjectCreated:*"
    assert shown.text("TopicConfiguration/Filter/S3Key/FilterRule/Value") == "in/"
    assert put(s3).status == 200
    s3.put("/bucket/in/key", b"data")
    assert owed(app) == 0


@pytest.mark.parametrize(
    "arn", ["arn:aws:sqs:us-east-1:000000000000:hook", "arn:aws:lambda:us-east-1:1:function:hook"]
)
def test_any_arn_that_ends_in_a_targets_name_will_do(s3: S3, arn: str) -> None:
    assert put(s3, rule("s3:ObjectCreated:*", arn=arn)).status == 200


@pytest.mark.parametrize("arn", ["arn:s3lite:webhook:::none", "hook", "x:s3lite:webhook:::hook"])
def test_an_unknown_destination_is_refused(s3: S3, arn: str) -> None:
    answer = put(s3, rule("s3:ObjectCreated:*", arn=arn))
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert answer.message == "Unable to validate the following destination configurations"
    assert answer.text("ArgumentName") == arn
    assert len(s3.get("/bucket?notification").xml) == 0


def test_each_destination_gets_the_test_event_first(s3: S3, receiver: Receiver) -> None:
    assert put(s3, rule("s3:ObjectAcl:Put"), rule("s3:ObjectTagging:*", name="2"), skip=False).status == 200
    (got,) = receiver.requests
    message = json.loads(got.body)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message.pop("Time"))
    assert message.pop("RequestId")
    assert message.pop("HostId")
    assert message == {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bucket"}


def test_a_destination_that_does_not_take_it_is_refused(s3: S3, receiver: Receiver) -> None:
    receiver.default = Reply(status=500)
    answer = put(s3, rule("s3:ObjectAcl:Put"), skip=False)
    assert answer.message == "Unable to validate the following destination configurations"
    assert (
        answer.text("ArgumentValue") == "The destination did not take the test message: Error status : 500."
    )
    assert put(s3, rule("s3:ObjectAcl:Put")).status == 200  # unless the client does not want to know


def test_overlapping_rules_are_refused(s3: S3) -> None:
    answer = put(s3, rule("s3:ObjectCreated:*"), rule("s3:ObjectCreated:Put", name="2", prefix="a"))
    assert answer.message.startswith("Configuration is ambiguously defined")


def test_who_does_not_own_the_bucket_may_neither_see_nor_change_it(s3: S3, other: S3) -> None:
    assert put(other, rule("s3:ObjectAcl:Put")).code == "AccessDenied"
    assert other.get("/bucket?notification").code == "AccessDenied"


# ---------------------------------------------------------------- the message


def test_the_message_is_s3s(app: Application, s3: S3, receiver: Receiver) -> None:
    s3.put("/bucket?versioning", VERSIONED)
    put(s3, rule("s3:ObjectCreated:Put", name="my rule"))
    answer = s3.put("/bucket/a b/ü+&.txt", b"data")
    (record,) = records(receiver, 1)
    got = receiver.requests[0]
    assert (got.target, got.webhook, got.headers["content-type"]) == (
        "/hook?key=1",
        "valid",
        "application/json",
    )
    assert "authorization" not in got.headers
    sequencer = record["s3"]["object"].pop("sequencer")
    assert re.fullmatch("[0-9A-F]{28}", sequencer)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("eventTime"))
    assert record == {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "alice"},
        "requestParameters": {"sourceIPAddress": ""},
        "responseElements": {
            "x-amz-request-id": answer.headers["x-amz-request-id"],
            "x-amz-id-2": answer.headers["x-amz-id-2"],
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "my rule",
            "bucket": {
                "name": "bucket", "ownerIdentity": {"principalId": "alice"}, "arn": "arn:aws:s3:::bucket",
            },
            "object": {
                "key": "a+b/%C3%BC%2B%26.txt", "size": 4, "eTag": answer.headers["ETag"].strip('"'),
                "versionId": answer.headers["x-amz-version-id"],
            },
        },
    }  # fmt: skip
    assert unquote_plus(record["s3"]["object"]["key"]) == "a b/ü+&.txt"


def test_every_way_to_make_an_object_is_told(s3: S3, receiver: Receiver) -> None:
    put(s3, rule(*EVERYTHING))
    s3.put("/bucket/put", b"data")
    s3.put("/bucket/copy", b"", {"x-amz-copy-source": "/bucket/put"})
    fields = {"key": "post"} | forms.v4_fields(
        "alice-key", "alice-secret", [{"bucket": "bucket"}, {"key": "post"}]
    )
    data = forms.body(list(fields.items()), b"data")
    assert (
        s3.request("POST", "/bucket", data, {"Content-Type": forms.CONTENT_TYPE}, signer="none").status == 204
    )
    upload_id = s3.start_upload("/bucket/many")
    s3.complete("/bucket/many", upload_id, {1: s3.put_part("/bucket/many", upload_id, 1, b"part")})
    found = {record["eventName"]: record["s3"]["object"]["key"] for record in records(receiver, 4)}
    assert found == {
        "ObjectCreated:Put": "put", "ObjectCreated:Copy": "copy", "ObjectCreated:Post": "post",
        "ObjectCreated:CompleteMultipartUpload": "many",
    }  # fmt: skip


def test_each_append_is_told_with_the_size_that_it_makes(s3: S3, receiver: Receiver) -> None:
    put(s3, rule("s3:ObjectCreated:*"))
    s3.post("/bucket/log?append&position=0", b"one")
    s3.post("/bucket/log?append&position=3", b"two")
    found = [(record["eventName"], record["s3"]["object"]["size"]) for record in records(receiver, 2)]
    assert sorted(found) == [("ObjectCreated:Put", 3), ("ObjectCreated:Put", 6)]


def test_deletes_of_a_plain_bucket_are_told_once_and_only_of_what_was_there(
    s3: S3, receiver: Receiver
) -> None:
    s3.put("/bucket/key", b"data")
    put(s3, rule("s3:ObjectRemoved:*"))
    s3.delete("/bucket/key")
    s3.delete("/bucket/key")
    (record,) = records(receiver, 1)
    assert set(record["s3"]["object"]) == {"key", "sequencer"}
    assert names(receiver, 1) == ["ObjectRemoved:Delete"]


def test_deletes_of_a_versioned_bucket_tell_markers_and_versions(s3: S3, receiver: Receiver) -> None:
    s3.put("/bucket?versioning", VERSIONED)
    version = s3.put("/bucket/key", b"data").headers["x-amz-version-id"]
    put(s3, rule("s3:ObjectRemoved:*"))
    marker = s3.delete("/bucket/key").headers["x-amz-version-id"]
    s3.delete(f"/bucket/key?versionId={version}")
    s3.delete(f"/bucket/key?versionId={marker}")
    found = {record["s3"]["object"]["versionId"]: record for record in records(receiver, 3)
             if record["eventName"] == "ObjectRemoved:Delete"}  # fmt: skip
    assert set(found) == {version, marker}
    (made,) = (r for r in records(receiver, 3) if r["eventName"] == "ObjectRemoved:DeleteMarkerCreated")
    assert made["s3"]["object"]["versionId"] == marker
    assert made["s3"]["object"]["eTag"] == "d41d8cd98f00b204e9800998ecf8427e"


def test_delete_objects_tells_each_key_that_went(s3: S3, receiver: Receiver) -> None:
    for key in "ab":
        s3.put(f"/bucket/{key}", b"data")
    put(s3, rule("s3:ObjectRemoved:*"))
    keys = "".join(f"<Object><Key>{key}</Key></Object>" for key in "abc")
    assert s3.request("POST", "/bucket?delete", f"<Delete>{keys}</Delete>".encode()).status == 200
    assert sorted(record["s3"]["object"]["key"] for record in records(receiver, 2)) == ["a", "b"]
    assert len(names(receiver, 2)) == 2


def test_the_sequencer_rises_with_each_event_of_a_key(s3: S3, receiver: Receiver) -> None:
    put(s3, rule("s3:ObjectCreated:*", "s3:ObjectRemoved:*"))
    expected = []
    for _ in range(3):
        s3.put("/bucket/key", b"data")
        s3.delete("/bucket/key")
        time.sleep(0.002)
        expected += ["ObjectCreated:Put", "ObjectRemoved:Delete"]
    found = sorted(
        (record["s3"]["object"]["sequencer"].ljust(40, "0"), record["eventName"])
        for record in records(receiver, 6)
    )
    assert [name for _, name in found] == expected


def test_tags_acls_and_renames_are_told(s3: S3, receiver: Receiver) -> None:
    s3.put("/bucket/key", b"data")
    put(s3, rule(*EVERYTHING))
    tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    s3.put("/bucket/key?tagging", tags)
    s3.delete("/bucket/key?tagging")
    s3.put("/bucket/key?acl", b"", {"x-amz-acl": "public-read"})
    s3.put("/bucket/new?renameObject", b"", {"x-amz-rename-source": "key"})
    found = records(receiver, 5)
    assert names(receiver, 5) == [
        "ObjectAcl:Put", "ObjectCreated:Copy", "ObjectRemoved:Delete", "ObjectTagging:Delete", "ObjectTagging:Put",
    ]  # fmt: skip
    tagged = next(record for record in found if record["eventName"] == "ObjectTagging:Put")
    assert (tagged["eventVersion"], set(tagged["s3"]["object"])) == ("2.3", {"key", "eTag"})


def test_annotations_are_told_to_those_who_ask_for_them(s3: S3, receiver: Receiver) -> None:
    s3.put("/bucket/key", b"data")
    path = "/bucket/key?annotation&annotationName=n"
    put(s3, rule(*EVERYTHING))
    assert s3.put(path, b"text").status == 200
    put(s3, rule("s3:ObjectAnnotation:*"))
    assert s3.put(path, b"another").status == 200
    assert s3.delete(path).status == 204
    assert s3.delete(path).status == 204  # takes nothing away, so nothing is told
    assert s3.put(path, b"").code == "InvalidRequest"
    assert names(receiver, 2) == ["ObjectAnnotation:Delete", "ObjectAnnotation:Put"]
    for record in records(receiver, 2):
        assert record["s3"]["object"]["key"] == "key"
        assert record["userIdentity"]["principalId"] == "alice"


def test_retention_is_told(s3: S3, receiver: Receiver) -> None:
    s3.put("/locked", b"", {"x-amz-bucket-object-lock-enabled": "true"})
    s3.put("/locked/key", b"data")
    put(s3, rule(*EVERYTHING), bucket="locked")
    body = b"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>"
    assert s3.put("/locked/key?retention", body).status == 200
    assert names(receiver, 1) == ["ObjectRetention:Put"]


@pytest.mark.parametrize(("versioned", "how"), [(False, "Delete"), (True, "DeleteMarkerCreated")])
def test_lifecycle_tells_what_it_removes(
    app: Application, s3: S3, receiver: Receiver, versioned: bool, how: str
) -> None:
    if versioned:
        s3.put("/bucket?versioning", VERSIONED)
    s3.put("/bucket/key", b"data")
    put(s3, rule(*EVERYTHING))
    rules = (
        b"<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>"
        b"<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>"
    )
    assert s3.put("/bucket?lifecycle", rules, {"Content-MD5": md5_of(rules)}).status == 200
    time.sleep(1.1)
    assert sweep(app.services.store).expired == 1
    (record,) = records(receiver, 1)
    assert (record["eventName"], record["eventVersion"]) == (f"LifecycleExpiration:{how}", "2.3")
    assert record["userIdentity"]["principalId"] == "s3.amazonaws.com"
    assert record["requestParameters"]["sourceIPAddress"] == "s3.amazonaws.com"


def md5_of(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def test_filters_choose(s3: S3, receiver: Receiver) -> None:
    put(s3, rule("s3:ObjectCreated:*", prefix="in/"))
    for key in ("out/a", "in/a"):
        s3.put(f"/bucket/{key}", b"data")
    assert records(receiver, 1)[0]["s3"]["object"]["key"] == "in/a"
    assert len(names(receiver, 1)) == 1


def test_what_fails_is_not_told(app: Application, s3: S3, receiver: Receiver) -> None:
    s3.put("/bucket/key", b"data")
    put(s3, rule(*EVERYTHING))
    assert s3.put("/bucket/key", b"new", {"If-None-Match": "*"}).status == 412
    assert s3.delete("/bucket/key?versionId=none").status == 204
    assert owed(app) == 0
    assert receiver.requests == []


def test_a_callback_and_a_notification_are_owed_by_one_upload(s3: S3, receiver: Receiver) -> None:
    put(s3, rule("s3:ObjectCreated:*"))
    callback = {"callbackUrl": receiver.url("/callback"), "callbackBody": "a", "callbackMode": "async"}
    value = base64.b64encode(json.dumps(callback).encode()).decode()
    s3.put("/bucket/key", b"data", {"x-amz-meta-callback": value})
    assert {got.target for got in receiver.wait(2)} == {"/hook?key=1", "/callback"}


def test_a_gated_upload_is_told_once_it_is_published(s3: S3, receiver: Receiver) -> None:
    put(s3, rule("s3:ObjectCreated:*"))
    callback = {"callbackUrl": receiver.url("/gate"), "callbackBody": "a", "callbackMode": "gate"}
    headers = {"x-amz-meta-callback": base64.b64encode(json.dumps(callback).encode()).decode()}
    receiver.script.append(Reply(status=403))
    assert s3.put("/bucket/key", b"data", headers).status == 403
    assert s3.put("/bucket/key", b"data", headers).status == 200
    upload_id = s3.start_upload("/bucket/many")
    s3.complete("/bucket/many", upload_id, {1: s3.put_part("/bucket/many", upload_id, 1, b"part")}, headers)
    targets = sorted(got.target for got in receiver.wait(5))
    assert targets == ["/gate", "/gate", "/gate", "/hook?key=1", "/hook?key=1"]


def test_event_bridge_gets_its_own_form_of_everything(s3: S3, receiver: Receiver) -> None:
    assert put(s3, "<EventBridgeConfiguration/>").status == 200
    answer = s3.put("/bucket/a b", b"data")
    s3.delete("/bucket/a b")
    found = {
        message["detail-type"]: message for message in (json.loads(got.body) for got in receiver.wait(2))
    }
    made, gone = found["Object Created"], found["Object Deleted"]
    assert (made["source"], made["resources"]) == ("aws.s3", ["arn:aws:s3:::bucket"])
    assert made["detail"]["reason"] == "PutObject"
    assert made["detail"]["request-id"] == answer.headers["x-amz-request-id"]
    subject = made["detail"]["object"]
    assert (subject["key"], subject["size"], subject["etag"]) == ("a b", 4, answer.headers["ETag"].strip('"'))
    assert (gone["detail"]["reason"], gone["detail"]["deletion-type"]) == (
        "DeleteObject",
        "Permanently Deleted",
    )
    assert subject["sequencer"] < gone["detail"]["object"]["sequencer"]


def test_event_bridge_without_a_target_is_refused(settings: Settings) -> None:
    app = create_app(replace(settings, notifications=NotificationSettings()))
    s3 = add_user(app, "carol")
    s3.put("/bucket")
    assert put(s3, "<EventBridgeConfiguration/>").text("ArgumentName") == "EventBridge"
    app.close()


# ---------------------------------------------------------------- delivery


def test_an_event_waits_for_its_webhook(app: Application, s3: S3, receiver: Receiver) -> None:
    put(s3, rule("s3:ObjectCreated:*"))
    receiver.script += [Reply(status=500), Reply(status=503)]
    s3.put("/bucket/key", b"data")
    got = receiver.wait(3)
    assert len({each.headers["webhook-id"] for each in got}) == 1
    time.sleep(0.1)
    with app.services.store.catalog.read() as tx:
        logged = tx.deliveries(got[0].headers["webhook-id"], limit=9)
    assert [(each.url, each.status, each.attempt) for each in logged] == [
        (ARN, 500, 1),
        (ARN, 503, 2),
        (ARN, 200, 3),
    ]
    assert {each.mode for each in logged} == {"notification"}


def test_a_broker_gets_the_message(s3: S3) -> None:
    assert put(s3, rule("s3:ObjectCreated:*", arn="arn:s3lite:broker:::bus"), skip=False).status == 200
    s3.put("/bucket/key", b"data")
    with kombu.Connection("memory://broker") as connection:
        queue = connection.SimpleQueue(
            kombu.Queue("events", kombu.Exchange(""), routing_key="events", durable=True)
        )
        first, second = queue.get(timeout=5), queue.get(timeout=5)
        queue.close()
    assert first.payload["Event"] == "s3:TestEvent"
    assert second.payload["Records"][0]["eventName"] == "ObjectCreated:Put"
    assert second.headers["webhook-id"].startswith("msg_")


def test_a_broker_that_is_not_there_is_an_error_with_its_cause() -> None:
    with pytest.raises(BrokerError, match="refused"):
        Brokers().publish("amqp://127.0.0.1:1//", "q", b"{}", message_id="m", timeout_s=1)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"targets": (("a b", "http://a/"),)}, "a b: a name has"),
        ({"targets": (("a", "nowhere"),)}, "a: is no URL"),
        ({"targets": (("a", "ftp://x"),)}, "#QUEUE"),
        ({"targets": (("a", "http://user@x/"),)}, "a: is no URL that callbacks may have"),
        ({"secrets": (("a", SECRET),)}, "there is no target a"),
        ({"targets": (("a", "http://a/"),), "secrets": (("a", "whsec_???"),)}, "whsec_"),
        ({"eventbridge": "b"}, "there is no target b"),
    ],
)
def test_targets_that_cannot_be_stop_the_start(settings: Settings, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(why)):
        create_app(replace(settings, notifications=NotificationSettings(**fields)))


def test_brokers_need_kombu(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3lite.callback.broker.is_installed", lambda: False)
    with pytest.raises(SettingsError, match=re.escape("pip install 's3lite[brokers]'")):
        create_app(settings)


def test_a_bucket_takes_as_many_rules_as_the_settings_say(settings: Settings) -> None:
    app = create_app(replace(settings, limits=LimitSettings(notification_rules=1)))
    s3 = add_user(app, "carol")
    s3.put("/bucket")
    two = (rule("s3:ObjectAcl:Put"), rule("s3:ObjectTagging:*", name="2"))
    assert put(s3, *two).code == "InvalidArgument"
    assert put(s3, two[0]).status == 200
    app.close()


def test_an_ordinary_bucket_pays_nothing(app: Application, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "Events", None)  # would fail if it were called
    s3.put("/bucket/key", b"data")
    assert s3.delete("/bucket/key").status == 204
