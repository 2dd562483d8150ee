"""Server access logging: its configuration, what is written, and how it gets to its bucket."""

from __future__ import annotations

import json
import re
import shlex
import time
from dataclasses import replace

import pytest
from client import S3

from s3lite.app import Application, create_app
from s3lite.core import access_log
from s3lite.core.sweep import sweep
from s3lite.settings import LoggingSettings, Settings

FIELDS = [
    "owner",
    "bucket",
    "time",
    "zone",
    "ip",
    "requester",
    "request_id",
    "operation",
    "key",
    "uri",
    "status",
    "error",
    "sent",
    "size",
    "total",
    "turn_around",
    "referrer",
    "agent",
    "version",
    "host_id",
    "signature",
    "cipher",
    "auth",
    "host",
    "tls",
    "access_point",
    "acl",
    "region",
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing leaves the memory by itself, and everything is due at once."""
    return replace(settings, logging=LoggingSettings(flush_s=3600, deliver_s=0))


@pytest.fixture
def logs(s3: S3) -> S3:
    """The bucket ``logs``, which the logging service may write to."""
    assert s3.put("/logs").status == 200
    allow(s3)
    return s3


def allow(s3: S3, **changes: object) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "logging.s3.amazonaws.com"},
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::logs/*",
    }
    document = {"Version": "2012-10-17", "Statement": {**statement, **changes}}
    assert s3.put("/logs?policy", json.dumps(document).encode()).status == 204


def status(target: str = "logs", prefix: str = "log/", rest: str = "") -> bytes:
    body = f"<TargetBucket>{target}</TargetBucket><TargetPrefix>{prefix}</TargetPrefix>{rest}"
    return f"<BucketLoggingStatus><LoggingEnabled>{body}</LoggingEnabled></BucketLoggingStatus>".encode()


def begin(s3: S3, document: bytes | None = None, bucket: str = "bucket"):
    answer = s3.put(f"/{bucket}?logging", document or status())
    assert answer.status == 200, answer
    return s3


def deliver(app: Application) -> list[str]:
    """What a flush and a sweep deliver; the keys in the bucket of logs."""
    app._access_log.flush()
    sweep(app.services.store)
    with app.services.store.catalog.read() as tx:
        return [each.key for each in tx.list_objects(tx.bucket("logs").id, lower=b"", upper=None, limit=99)]


def lines(app: Application, s3: S3) -> list[dict[str, str]]:
    """Every delivered line, by field, in order."""
    texts = [s3.get(f"/logs/{key}").body.decode() for key in deliver(app)]
    return [dict(zip(FIELDS, shlex.split(line), strict=True)) for text in texts for line in text.splitlines()]


# ---------------------------------------------------------------- configuration


def test_a_fresh_bucket_has_no_log(s3: S3) -> None:
    answer = s3.get("/bucket?logging")
    assert (answer.status, len(answer.xml)) == (200, 0)


def test_the_configuration_is_shown_and_ended(logs: S3) -> None:
    begin(logs)
    shown = logs.get("/bucket?logging")
    assert shown.text("LoggingEnabled/TargetBucket") == "logs"
    assert shown.text("LoggingEnabled/TargetPrefix") == "log/"
    assert shown.xml.find("LoggingEnabled/TargetObjectKeyFormat/SimplePrefix") is not None
    begin(logs, b"<BucketLoggingStatus/>")
    assert len(logs.get("/bucket?logging").xml) == 0


def test_formats_and_grants_are_kept(logs: S3, other: S3) -> None:
    grants = (
        "<TargetGrants><Grant><Grantee xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' "
        "xsi:type='CanonicalUser'><ID>bob</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants>"
    )
    formatted = "<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>EventTime</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>"
    begin(logs, status(rest=grants + formatted))
    shown = logs.get("/bucket?logging").xml.find("LoggingEnabled")
    assert shown.findtext("TargetObjectKeyFormat/PartitionedPrefix/PartitionDateSource") == "EventTime"
    assert shown.findtext("TargetGrants/Grant/Grantee/ID") == "bob"
    assert shown.findtext("TargetGrants/Grant/Permission") == "READ"


@pytest.mark.parametrize(
    "rest",
    [
        "<TargetObjectKeyFormat/>",
        "<TargetObjectKeyFormat><SimplePrefix/><PartitionedPrefix/></TargetObjectKeyFormat>",
        "<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>x</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>",
        "<TargetGrants><Grant><Permission>READ</Permission></Grant></TargetGrants>",
        "<TargetGrants><Grant><Grantee><ID>alice</ID></Grantee><Permission>x</Permission></Grant></TargetGrants>",
    ],
)
def test_what_is_not_well_formed_is_refused(logs: S3, rest: str) -> None:
    assert logs.put("/bucket?logging", status(rest=rest)).code == "MalformedXML"
    assert logs.put("/bucket?logging", status(target="")).code == "MalformedXML"


def test_a_grantee_must_exist(logs: S3) -> None:
    grant = "<TargetGrants><Grant><Grantee><ID>nobody</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants>"
    assert logs.put("/bucket?logging", status(rest=grant)).code == "InvalidArgument"


def test_the_target_must_be_there_and_ones_own(app: Application, logs: S3, other: S3) -> None:
    for target in ("nowhere", "bobs"):
        if target == "bobs":
            assert other.put("/bobs").status == 200
        answer = logs.put("/bucket?logging", status(target=target))
        assert (answer.status, answer.code) == (400, "InvalidTargetBucketForLogging")
        assert answer.text("TargetBucket") == target


@pytest.mark.parametrize(
    "changes",
    [
        {"Principal": "*"},
        {"Principal": {"AWS": "*"}},
        {"Principal": {"Service": "logging.s3.amazonaws.com.example"}},
        {"Action": "s3:GetObject"},
        {"Resource": "arn:aws:s3:::logs/elsewhere/*"},
        {"Condition": {"StringEquals": {"aws:SourceAccount": "bob"}}},
        {"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::another"}}},
        {"Effect": "Deny"},
    ],
)
def test_the_target_must_let_the_service_write(logs: S3, changes: dict[str, object]) -> None:
    allow(logs, **changes)
    answer = logs.put("/bucket?logging", status())
    assert answer.code == "InvalidTargetBucketForLogging"
    assert "logging.s3.amazonaws.com" in answer.message


def test_conditions_of_the_policy_may_name_source_and_account(logs: S3) -> None:
    condition = {
        "ArnLike": {"aws:SourceArn": "arn:aws:s3:::buck*"},
        "StringEquals": {"aws:SourceAccount": "alice"},
    }
    allow(logs, Condition=condition)
    begin(logs)


def test_the_acl_of_log_delivery_serves_as_well(app: Application, s3: S3) -> None:
    assert s3.put("/logs").status == 200
    assert s3.put("/bucket?logging", status()).code == "InvalidTargetBucketForLogging"
    assert s3.put("/logs?acl", headers={"x-amz-acl": "log-delivery-write"}).status == 200
    begin(s3).get("/bucket/key")
    assert [line["operation"] for line in lines(app, s3)] == ["REST.GET.OBJECT"]


def test_targets_with_retention_or_requester_pays_are_refused(s3: S3) -> None:
    assert s3.put("/logs", headers={"x-amz-bucket-object-lock-enabled": "true"}).status == 200
    allow(s3)
    rule = "<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule>"
    lock = f"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
    begin(s3)
    assert s3.put("/logs?object-lock", lock.encode()).status == 200
    assert "retention" in s3.put("/bucket?logging", status()).message
    assert s3.put("/logs?object-lock", lock.replace(rule, "").encode()).status == 200
    payer = b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>"
    assert s3.put("/logs?requestPayment", payer).status == 200
    assert "Requester Pays" in s3.put("/bucket?logging", status()).message


def test_only_the_owner_sets_logging_whatever_a_policy_says(logs: S3, other: S3, root: S3) -> None:
    policy = {
        "Statement": {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": "arn:aws:s3:::bucket",
        }
    }
    assert logs.put("/bucket?policy", json.dumps(policy).encode()).status == 204
    assert other.put("/bucket?logging", status()).code == "AccessDenied"
    assert root.put("/bucket?logging", status()).status == 200


# ---------------------------------------------------------------- lines


def test_a_line_says_what_was_asked_and_answered(app: Application, logs: S3) -> None:
    begin(logs)
    logs.put("/bucket/a key+ü", b"12345")
    logs.request("GET", "/bucket/a key+ü", headers={"User-Agent": 'a "client"', "Referer": "http://r/"})
    put, got = lines(app, logs)
    assert (put["operation"], put["status"], put["size"]) == ("REST.PUT.OBJECT", "200", "5")
    assert (put["owner"], put["bucket"], put["requester"]) == ("alice", "bucket", "alice")
    assert (got["operation"], got["sent"], got["size"], got["error"]) == ("REST.GET.OBJECT", "5", "5", "-")
    assert (got["key"], got["uri"]) == ("a%20key+%C3%BC", "GET /bucket/a%20key%2B%C3%BC HTTP/1.0")
    assert (got["agent"], got["referrer"]) == ("a %22client%22", "http://r/")
    assert (got["signature"], got["auth"], got["host"]) == ("SigV4", "AuthHeader", logs.host)
    assert re.fullmatch(r"\[\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d", got["time"])
    assert int(got["total"]) >= 0


def test_refused_requests_are_logged_too_whoever_sent_them(app: Application, logs: S3, other: S3) -> None:
    begin(logs)
    other.get("/bucket/secret")
    S3(app, "alice-key", "wrong").get("/bucket/secret")
    S3(app, None).get("/bucket/secret")
    found = [(line["requester"], line["status"], line["error"]) for line in lines(app, logs)]
    assert found == [
        ("bob", "403", "AccessDenied"),
        ("-", "403", "SignatureDoesNotMatch"),
        ("-", "403", "AccessDenied"),
    ]


def test_deletes_of_many_and_sources_of_copies_have_lines_of_their_own(app: Application, logs: S3) -> None:
    logs.put("/bucket/a", b"1")
    logs.put("/plain")
    begin(logs)
    logs.put("/plain/copy", headers={"x-amz-copy-source": "bucket/a"})
    body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b c</Key></Object></Delete>"
    assert logs.post("/bucket?delete", body).status == 200
    found = [(line["operation"], line["key"]) for line in lines(app, logs)]
    assert found == [
        ("REST.COPY.OBJECT_GET", "a"),
        ("REST.POST.MULTI_OBJECT_DELETE", "-"),
        ("BATCH.DELETE.OBJECT", "a"),
        ("BATCH.DELETE.OBJECT", "b%20c"),
    ]


def test_secrets_never_reach_a_line(app: Application, logs: S3) -> None:
    begin(logs)
    url = logs.presign("GET", "/bucket/key")
    signature = re.search("X-Amz-Signature=([0-9a-f]+)", url)[1]
    logs.open("GET", url, headers={"Referer": f"http://host{url}"})
    logs.open("GET", url.replace("X-Amz-Signature", "X%2DAmz%2DSignature"))
    first, second = lines(app, logs)
    assert signature not in str((first, second))
    assert "X-Amz-Expires=300" in first["uri"]
    assert "X-Amz-Signature=REDACTED" in first["uri"]
    assert "X-Amz-Signature=REDACTED" in first["referrer"]
    assert first["auth"] == "QueryString"


# ---------------------------------------------------------------- delivery


def test_log_objects_belong_to_the_target_and_are_shared_as_asked(
    app: Application, logs: S3, other: S3
) -> None:
    grant = "<TargetGrants><Grant><Grantee><ID>bob</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants>"
    begin(logs, status(rest=grant)).get("/bucket")
    (key,) = deliver(app)
    assert re.fullmatch(r"log/\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9A-Z]{16}", key)
    assert other.get(f"/logs/{key}").status == 200
    head = logs.head(f"/logs/{key}")
    assert (head.headers["Content-Type"], head.headers["ETag"] != "") == ("text/plain", True)


@pytest.mark.parametrize("source", ["EventTime", "DeliveryTime"])
def test_partitioned_keys_say_whose_and_when(app: Application, logs: S3, source: str) -> None:
    wanted = f"<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>{source}</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>"
    begin(logs, status(rest=wanted)).get("/bucket")
    (key,) = deliver(app)
    clock = "00-00-00" if source == "EventTime" else r"\d\d-\d\d-\d\d"
    assert re.fullmatch(
        rf"log/alice/us-east-1/bucket/(\d{{4}})/(\d\d)/(\d\d)/\1-\2-\3-{clock}-[0-9A-Z]{{16}}", key
    )


def test_a_sweep_delivers_each_line_once(app: Application, logs: S3) -> None:
    begin(logs)
    for number in range(3):
        logs.get(f"/bucket/{number}")
        assert len(deliver(app)) == number + 1
    assert len(deliver(app)) == 3
    assert sorted(line["key"] for line in lines(app, logs)) == ["0", "1", "2"]


def test_lines_wait_for_their_time_unless_they_are_many(app: Application, logs: S3) -> None:
    begin(logs).get("/bucket")
    app._access_log.flush()
    store = app.services.store
    patient = replace(store, settings=replace(app._settings, logging=LoggingSettings(deliver_s=3600)))
    assert access_log.deliver(patient).objects == 0
    many = replace(app._settings, logging=LoggingSettings(deliver_s=3600, object_bytes=100))
    assert access_log.deliver(replace(store, settings=many)).objects == 1


def test_many_lines_become_several_objects(app: Application, logs: S3) -> None:
    begin(logs)
    for number in range(700):
        logs.get(f"/bucket/{number:0300}")
    app._access_log.flush()
    store = app.services.store
    small = replace(app._settings, logging=LoggingSettings(deliver_s=0, object_bytes=128 << 10))
    assert access_log.deliver(replace(store, settings=small)).objects > 2
    assert {int(line["key"]) for line in lines(app, logs)} == set(range(700))
    sizes = [int(size) for size in logs.get("/logs?list-type=2").texts("Contents/Size")]
    assert max(sizes) < (128 << 10) + 4096


def test_what_the_memory_has_no_room_for_is_dropped_and_counted(app: Application, logs: S3) -> None:
    begin(logs)
    log = app._access_log
    tight = replace(app._settings, logging=LoggingSettings(flush_s=3600, buffer_bytes=1000, deliver_s=0))
    log._store = replace(log._store, settings=tight)
    logs.get("/bucket/" + "x" * 1000)
    logs.get("/bucket/short")
    assert [line["key"] for line in lines(app, logs)] == ["short"]
    with app.services.store.catalog.read() as tx:
        assert tx.counters()["access_log_lines_lost"] == 1


def test_lines_survive_a_restart(app: Application, settings: Settings, logs: S3) -> None:
    begin(logs).get("/bucket/key")
    app.close()
    again = create_app(settings)
    assert [line["key"] for line in lines(again, S3(again, "alice-key", "alice-secret"))] == ["key"]
    again.close()


def test_a_target_that_takes_nothing_any_more_gets_nothing(app: Application, logs: S3) -> None:
    begin(logs).get("/bucket")
    allow(logs, Effect="Deny")
    assert deliver(app) == []
    allow(logs)
    assert deliver(app) == []
    logs.get("/bucket")
    assert len(deliver(app)) == 1


def test_a_storage_that_fails_keeps_the_lines(app: Application, logs: S3, monkeypatch) -> None:
    begin(logs).get("/bucket")
    with monkeypatch.context() as patch:
        patch.setattr(access_log.write, "publish", refuse)
        assert deliver(app) == []
    assert len(deliver(app)) == 1


def refuse(*_args: object, **_kwargs: object) -> None:
    raise access_log.S3Error(access_log.Code.InternalError)


def test_lines_that_nobody_could_deliver_are_forgotten(app: Application, logs: S3, monkeypatch) -> None:
    begin(logs).get("/bucket")
    store = app.services.store
    forgetful = replace(
        store, settings=replace(app._settings, logging=LoggingSettings(deliver_s=0, keep_s=0))
    )
    monkeypatch.setattr(access_log.write, "publish", refuse)
    app._access_log.flush()
    time.sleep(0.002)
    access_log.deliver(forgetful)
    with store.catalog.read() as tx:
        assert tx.waiting_lines() == []


def test_the_last_lines_of_a_deleted_bucket_arrive(app: Application, logs: S3) -> None:
    begin(logs)
    assert logs.delete("/bucket").status == 204
    assert [line["operation"] for line in lines(app, logs)] == ["REST.DELETE.BUCKET"]


def test_log_objects_are_encrypted_as_their_bucket_says(app: Application, logs: S3) -> None:
    rule = "<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>"
    document = f"<ServerSideEncryptionConfiguration><Rule>{rule}</Rule></ServerSideEncryptionConfiguration>"
    assert logs.put("/logs?encryption", document.encode()).status == 200
    begin(logs).get("/bucket")
    (key,) = deliver(app)
    got = logs.get(f"/logs/{key}")
    assert got.headers["x-amz-server-side-encryption"] == "AES256"
    assert b"REST.GET.BUCKET" in got.body


def test_a_bucket_may_log_into_itself_and_deliveries_leave_no_lines(app: Application, logs: S3) -> None:
    begin(logs, bucket="logs")
    logs.get("/logs/x")
    assert len(deliver(app)) == 1
    assert len(deliver(app)) == 1


def test_buckets_without_a_log_cost_nothing(app: Application, s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    s3.get("/bucket/key")
    assert app._access_log._thread is None
    assert app._access_log._known == {}
