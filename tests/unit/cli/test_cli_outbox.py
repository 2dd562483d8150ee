"""``s3lite callback list | show | retry | purge``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from s3lite import bootstrap
from s3lite.ids import Ids
from s3lite.messages import Delivery, OutboxEntry
from s3lite.settings import load
from s3lite.times import Clock

HOUR_MS = 3_600_000
ENTRY = OutboxEntry(
    id="msg_dead", kind="callback", bucket="photos", key="a.jpg", event="PutObject",
    destination="http://app.example/hook", lane="root http://app.example", request="{}", body=b'{"secret":1}',
    created_ms=0, expires_ms=0, due_ms=0, attempts=8, is_dead=True, status=500, message="Error status : 500.",
)  # fmt: skip
DELIVERY = Delivery(
    id="msg_dead", kind="callback", mode="async", bucket="photos", key="a.jpg", url="http://app.example/hook",
    attempt=8, at_ms=0, cost_ms=31, status=500, message="Error status : 500.", cause="", sent_bytes=12,
    received_bytes=3, body=b"sent", answer=b"no!",
)  # fmt: skip


@pytest.fixture
def catalog(data_dir):
    storage = bootstrap.prepare(load(), clock=Clock(), ids=Ids())
    now_ms = Clock().time_ms()
    dead = replace(ENTRY, created_ms=now_ms - HOUR_MS)
    queued = replace(
        ENTRY, id="msg_queued", bucket="other", is_dead=False, attempts=1, created_ms=now_ms - 2 * HOUR_MS,
        due_ms=now_ms + HOUR_MS, destination="arn:s3lite:webhook:::bus",
    )  # fmt: skip
    attempts = [
        replace(DELIVERY, at_ms=now_ms),
        replace(DELIVERY, id="msg_ok", at_ms=now_ms - 50 * HOUR_MS, message="", status=200, mode="sync"),
        replace(DELIVERY, id="msg_failed", at_ms=now_ms - HOUR_MS // 2, attempt=1, mode="sync"),
    ]

    def work(tx):
        tx.add_outbox(dead)
        tx.add_outbox(queued)
        tx.add_deliveries(attempts)

    storage.catalog.write(work)
    yield storage.catalog
    storage.catalog.close()
    storage.blobs.close()


def listed(run, *arguments):
    return {
        row["id"]: row["status"] for row in json.loads(run("callback", "list", "--json", *arguments).stdout)
    }


def entry(catalog, name):
    with catalog.read() as tx:
        return tx.outbox_entry(name)


def test_list_shows_every_status_newest_first(run, catalog):
    assert list(listed(run).items()) == [
        ("msg_failed", "failed"), ("msg_dead", "dead"), ("msg_queued", "queued"), ("msg_ok", "delivered")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--status", "queued"], {"msg_queued"}),
        (["--bucket", "other"], {"msg_queued"}),
        (["--destination", "http://app.example/hook", "--status", "dead"], {"msg_dead"}),
        (["--since", "90m"], {"msg_failed", "msg_dead"}),
        (["--since", "2099-01-01T00:00:00Z"], set()),
        (["--limit", "1"], {"msg_failed"}),
    ],
)
def test_list_filters(run, catalog, arguments, ids):
    assert set(listed(run, *arguments)) == ids


def test_list_is_a_table_for_people(run, catalog):
    lines = run("callback", "list").stdout.splitlines()
    assert len(lines) == 5
    assert "http://app.example/hook" in lines[1]


def test_list_refuses_a_time_that_is_none(run, catalog):
    assert "neither a time" in run("callback", "list", "--since", "noon", exit_code=2).stderr


def test_show_tells_each_attempt_and_no_bodies_unless_asked(run, catalog):
    shown = json.loads(run("callback", "show", "msg_dead", "--json").stdout)
    assert (shown["status"], shown["attempts"], shown["message"]) == ("dead", 8, "Error status : 500.")
    (attempt,) = shown["log"]
    assert (attempt["status"], attempt["duration_ms"], attempt["sent_bytes"]) == (500, 31, 12)
    assert "body" not in shown
    assert "sent" not in attempt
    shown = json.loads(run("callback", "show", "msg_dead", "--body", "--json").stdout)
    assert shown["body"] == '{"secret":1}'
    assert (shown["log"][0]["sent"], shown["log"][0]["answer"]) == ("sent", "no!")


def test_show_as_text_and_of_what_is_not_there(run, catalog):
    assert "Error status : 500." in run("callback", "show", "msg_failed").stdout
    assert "callback list" in run("callback", "show", "msg_none", exit_code=1).stderr


def test_retry_makes_dead_ones_due_with_their_whole_schedule(run, catalog):
    assert json.loads(run("callback", "retry", "msg_dead", "--json").stdout) == {"retried": 1}
    revived = entry(catalog, "msg_dead")
    assert (revived.is_dead, revived.attempts) == (False, 0)
    assert revived.due_ms <= Clock().time_ms() < revived.expires_ms


def test_retry_does_not_let_queued_ones_wait(run, catalog):
    run("callback", "retry", "msg_queued")
    assert entry(catalog, "msg_queued").due_ms <= Clock().time_ms()
    assert entry(catalog, "msg_queued").attempts == 1


def test_retry_of_all_dead_ones_leaves_queued_ones_alone(run, catalog):
    assert "0 will be sent" in run("callback", "retry", "--all-dead", "--destination", "http://other/").stdout
    assert "1 will be sent" in run("callback", "retry", "--all-dead").stdout
    assert entry(catalog, "msg_queued").due_ms > Clock().time_ms()


@pytest.mark.parametrize(("name", "reason"), [("msg_ok", "mode sync"), ("msg_none", "There is no msg_none")])
def test_retry_of_what_is_not_kept_says_so(run, catalog, name, reason):
    assert reason in run("callback", "retry", name, exit_code=1).stderr


def test_retry_needs_a_choice(run, catalog):
    run("callback", "retry", exit_code=2)
    run("callback", "retry", "msg_dead", "--all-dead", exit_code=2)


def test_purge_forgets_dead_ones_only(run, catalog):
    run("callback", "purge", "msg_queued", exit_code=1)
    assert json.loads(run("callback", "purge", "--all-dead", "--json").stdout) == {"purged": 1}
    assert entry(catalog, "msg_dead") is None
    assert entry(catalog, "msg_queued") is not None


def test_purge_empties_the_log(run, catalog):
    assert "3 attempts" in run("callback", "purge", "--log").stdout
    assert set(listed(run)) == {"msg_dead", "msg_queued"}
    run("callback", "purge", "--log", "--bucket", "photos", exit_code=2)
