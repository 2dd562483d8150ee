"""Notification configurations: read, checked, kept, matched."""

from __future__ import annotations

from contextlib import suppress

import boto3
import pytest
from botocore.model import ServiceModel
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import S3Error
from s3lite.wire import notification
from s3lite.wire.notification import FIRED, NEVER_FIRED, Configuration, Rule, document, parse, stored

ARN = "arn:s3lite:webhook:::hook"


def queue(*events: str, name: str = "q", arn: str = ARN, **filters: str) -> str:
    rules = "".join(
        f"<FilterRule><Name>{n}</Name><Value>{v}</Value></FilterRule>" for n, v in filters.items()
    )
    body = "".join(f"<Event>{event}</Event>" for event in events)
    return (
        f"<QueueConfiguration><Id>{name}</Id><Queue>{arn}</Queue>{body}"
        f"<Filter><S3Key>{rules}</S3Key></Filter></QueueConfiguration>"
    )


def read(*elements: str, max_rules: int = 100) -> Configuration:
    data = f"<NotificationConfiguration>{''.join(elements)}</NotificationConfiguration>".encode()
    made = iter(("made 1", "made 2"))
    return parse(data, new_id=lambda: next(made), max_rules=max_rules)


def refused(*elements: str, **more: int) -> str:
    with pytest.raises(S3Error) as caught:
        read(*elements, **more)
    assert caught.value.status == 400
    return f"{caught.value.code.name}: {caught.value.message}"


def test_each_kind_of_destination_is_read() -> None:
    found = read(
        "<TopicConfiguration><Topic>arn:t</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration>",
        queue("s3:ObjectRemoved:Delete", "s3:ObjectTagging:*", Prefix="a/", SUFFIX=".jpg"),
        "<CloudFunctionConfiguration><CloudFunction>arn:f</CloudFunction><Event>s3:ObjectAcl:Put</Event>"
        "</CloudFunctionConfiguration>",
        "<EventBridgeConfiguration/>",
    )
    assert found.event_bridge
    assert found.rules == (
        Rule("TopicConfiguration", "made 1", "arn:t", ("ObjectCreated:*",)),
        Rule("QueueConfiguration", "q", ARN, ("ObjectRemoved:Delete", "ObjectTagging:*"), "a/", ".jpg"),
        Rule("CloudFunctionConfiguration", "made 2", "arn:f", ("ObjectAcl:Put",)),
    )


def test_every_event_of_the_api_is_known() -> None:
    model: ServiceModel = boto3.client("s3", region_name="us-east-1").meta.service_model
    for event in model.shape_for("Event").enum:
        assert read(queue(event)).rules[0].events == (event.removeprefix("s3:"),)
    assert not FIRED & NEVER_FIRED


@pytest.mark.parametrize("event", ["s3:ObjectCreated", "s3:ObjectEaten:*", "ObjectCreated:Put", "s3:*", ""])
def test_other_events_are_refused(event: str) -> None:
    assert "The event is not supported for notifications" in refused(queue(event))


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        (["<Other/>"], "MalformedXML"),
        (["<QueueConfiguration><Event>s3:ObjectAcl:Put</Event></QueueConfiguration>"], "MalformedXML"),
        ([f"<QueueConfiguration><Queue>{ARN}</Queue></QueueConfiguration>"], "MalformedXML"),
        ([queue("s3:ObjectAcl:Put").replace("Queue>", "Topic>")], "MalformedXML"),
        ([queue("s3:ObjectAcl:Put", middle="x")], "must be either prefix or suffix"),
        ([queue("s3:ObjectAcl:Put", prefix="x", Prefix="y")], "more than one prefix"),
        ([queue("s3:ObjectAcl:Put", suffix="é" * 513)], "1024 bytes"),
        ([queue("s3:ObjectAcl:Put"), queue("s3:ObjectTagging:*")], "IDs must be unique"),
    ],
)
def test_faults(elements: list[str], why: str) -> None:
    assert why in refused(*elements)


def test_a_filter_value_may_have_1024_bytes() -> None:
    assert len(read(queue("s3:ObjectAcl:Put", suffix="é" * 512)).rules[0].suffix) == 512


def test_the_number_of_rules_is_bounded() -> None:
    rules = [queue("s3:ObjectAcl:Put", name=f"q{i}", prefix=f"{i}/") for i in range(3)]
    assert len(read(*rules, max_rules=3).rules) == 3
    assert "at most 2" in refused(*rules, max_rules=2)


@pytest.mark.parametrize(
    ("one", "other", "overlaps"),
    [
        ({"event": "ObjectCreated:*"}, {"event": "ObjectCreated:Put"}, True),
        ({"event": "ObjectCreated:Put"}, {"event": "ObjectCreated:*"}, True),
        ({"event": "ObjectCreated:Put"}, {"event": "ObjectCreated:Post"}, False),
        ({"prefix": "a/"}, {"prefix": "a/b"}, True),
        ({"prefix": "a/"}, {"prefix": "b/"}, False),
        ({"prefix": "a/", "suffix": ".jpg"}, {"prefix": "a/", "suffix": ".png"}, False),
        ({"prefix": "a/", "suffix": ".jpg"}, {"suffix": "x.jpg"}, True),
        ({"suffix": ".jpg"}, {"prefix": "a"}, True),
    ],
)
def test_overlapping_rules_are_refused(one: dict[str, str], other: dict[str, str], overlaps: bool) -> None:
    rules = [
        queue(f"s3:{each.get('event', 'ObjectAcl:Put')}", name=str(n), **{k: v for k, v in each.items() if k != "event"})
        for n, each in enumerate((one, other))
    ]  # fmt: skip
    if overlaps:
        assert "Configuration is ambiguously defined" in refused(*rules)
    else:
        assert len(read(*rules).rules) == 2


def test_what_is_kept_reads_back_the_same() -> None:
    found = read(queue("s3:ObjectCreated:*", prefix="a&amp;&lt;b", suffix="é"), "<EventBridgeConfiguration/>")
    assert stored(document(found)) == found
    assert stored(document(Configuration())) == Configuration()
    assert Configuration().is_empty


@pytest.mark.parametrize(
    ("event", "key", "wanted"),
    [
        ("ObjectCreated:Put", "a/x.jpg", True),
        ("ObjectCreated:Copy", "a/x.jpg", True),
        ("ObjectRemoved:Delete", "a/x.jpg", False),
        ("ObjectCreated:Put", "b/x.jpg", False),
        ("ObjectCreated:Put", "a/x.png", False),
    ],
)
def test_matching(event: str, key: str, wanted: bool) -> None:
    rule = Rule("QueueConfiguration", "i", ARN, ("ObjectCreated:*",), "a/", ".jpg")
    assert rule.wants(event, key) is wanted


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_a_configuration_or_an_error(data: bytes) -> None:
    with suppress(S3Error):
        parse(data, new_id=lambda: "i", max_rules=9)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_filter_reads_back_or_is_refused(prefix: str, suffix: str) -> None:
    rule = Rule("QueueConfiguration", "i", ARN, ("ObjectCreated:*",), prefix, suffix)
    if notification.xml.is_expressible(prefix + suffix):
        assert stored(document(Configuration((rule,)))).rules == (rule,)
