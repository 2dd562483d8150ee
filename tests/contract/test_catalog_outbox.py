"""The outbox and the delivery log, on every catalog."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from s3lite.catalog.questions import Chosen
from s3lite.messages import Delivery, OutboxEntry, Settlement

ENTRY = OutboxEntry(
    id="msg_1", kind="callback", bucket="bucket", key="kéy", event="PutObject", destination="http://a/",
    lane="alice http://a", request="{}", body=b"\0body", created_ms=10, expires_ms=10_000, due_ms=100,
)  # fmt: skip
DELIVERY = Delivery(
    id="msg_1", kind="callback", mode="sync", bucket="bucket", key="kéy", url="http://a/", attempt=1, at_ms=5,
    cost_ms=3, status=200, message="", cause="", sent_bytes=4, received_bytes=2,
)  # fmt: skip


def add(catalog, *entries):
    catalog.write(lambda tx: [tx.add_outbox(entry) for entry in entries])


def take(catalog, *, lane=ENTRY.lane, now_ms=100, limit=10, holder="h", until_ms=500):
    return catalog.write(
        lambda tx: tx.take_outbox(lane, now_ms=now_ms, limit=limit, holder=holder, until_ms=until_ms)
    )


def settle(catalog, entry, result, **more):
    settlement = Settlement(entry.id, entry.holder, entry.attempts, result, **more)
    catalog.write(lambda tx: tx.settle_outbox([settlement]))


def found(catalog, entry_id="msg_1"):
    with catalog.read() as tx:
        return tx.outbox_entry(entry_id)


def test_an_entry_comes_back_as_it_was(catalog):
    add(catalog, ENTRY)
    assert found(catalog) == ENTRY
    assert found(catalog, "msg_2") is None


def test_entries_of_a_failed_transaction_are_not_there(catalog):
    def work(tx):
        tx.add_outbox(ENTRY)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        catalog.write(work)
    assert found(catalog) is None


def test_taking_leases_what_is_due_earliest_first(catalog):
    add(catalog, ENTRY, replace(ENTRY, id="msg_2", due_ms=50), replace(ENTRY, id="msg_3", due_ms=101))
    assert [entry.id for entry in take(catalog, limit=1)] == ["msg_2"]
    (taken,) = take(catalog)
    assert taken == replace(ENTRY, holder="h", due_ms=500, attempts=1)
    assert take(catalog) == []
    assert take(catalog, lane="other") == []


def test_an_expired_lease_is_taken_again_and_the_late_holder_is_not_heard(catalog):
    add(catalog, ENTRY)
    (first,) = take(catalog)
    (second,) = take(catalog, now_ms=500, holder="h", until_ms=900)
    assert second.attempts == 2
    settle(catalog, first, "retry", due_ms=777, status=500, message="m")
    assert found(catalog) == second
    settle(catalog, second, "retry", due_ms=777, status=500, message="m")
    assert found(catalog) == replace(ENTRY, attempts=2, due_ms=777, status=500, message="m")


def test_what_was_delivered_goes_even_after_the_lease(catalog):
    add(catalog, ENTRY)
    (first,) = take(catalog)
    take(catalog, now_ms=500, until_ms=900)
    settle(catalog, first, "ok")
    assert found(catalog) is None


def test_an_entry_that_was_not_sent_keeps_its_attempts(catalog):
    add(catalog, ENTRY)
    (taken,) = take(catalog)
    settle(catalog, taken, "back", due_ms=200)
    assert found(catalog) == replace(ENTRY, due_ms=200)


def test_dead_entries_are_kept_revived_and_purged(catalog):
    add(catalog, ENTRY, replace(ENTRY, id="msg_2", bucket="other"))
    for entry in take(catalog):
        settle(catalog, entry, "dead", message="m")
    assert take(catalog, now_ms=9999) == []
    with catalog.read() as tx:
        assert [entry.id for entry in tx.outbox_entries(Chosen(), dead=True, limit=9)] == ["msg_2", "msg_1"]
        assert tx.outbox_entries(Chosen(), dead=False, limit=9) == []
    assert (
        catalog.write(
            lambda tx: tx.revive_outbox(Chosen(ids=("msg_1",)), dead_only=True, now_ms=7, expires_ms=8)
        )
        == 1
    )
    revived = found(catalog)
    assert (revived.is_dead, revived.attempts, revived.due_ms, revived.expires_ms) == (False, 0, 7, 8)
    assert catalog.write(lambda tx: tx.purge_outbox(Chosen(bucket="bucket"), limit=9)) == 0
    assert catalog.write(lambda tx: tx.purge_outbox(Chosen(), limit=9)) == 1


def test_a_leased_entry_is_not_revived(catalog):
    add(catalog, ENTRY)
    take(catalog)
    assert catalog.write(lambda tx: tx.revive_outbox(Chosen(), dead_only=False, now_ms=7, expires_ms=8)) == 0


def test_lanes_tell_their_earliest_time_page_by_page(catalog):
    for number in range(5):
        add(catalog, *(replace(ENTRY, id=f"{number}{i}", lane=f"l{number}", due_ms=i + 1) for i in range(3)))
    with catalog.read() as tx:
        assert tx.outbox_lanes(after="", limit=2) == [("l0", 1), ("l1", 1)]
        assert tx.outbox_lanes(after="l1", limit=9) == [("l2", 1), ("l3", 1), ("l4", 1)]
        assert tx.outbox_lanes(after="l4", limit=9) == []


def test_what_is_due_now_and_next(catalog):
    with catalog.read() as tx:
        assert tx.outbox_next(now_ms=0) is None
    add(
        catalog,
        replace(ENTRY, id="1", lane="b", due_ms=20),
        replace(ENTRY, id="2", lane="a", due_ms=10),
        replace(ENTRY, id="3", lane="b", due_ms=30),
        replace(ENTRY, id="4", lane="c", due_ms=1, is_dead=True),
    )
    with catalog.read() as tx:
        assert tx.outbox_due(now_ms=30, limit=9) == ["a", "b", "b"]
        assert tx.outbox_due(now_ms=29, limit=1) == ["a"]
        assert tx.outbox_next(now_ms=20) == 30


def test_figures(catalog):
    with catalog.read() as tx:
        assert tx.outbox_figures() == (0, 0, None, None)
    add(catalog, ENTRY, replace(ENTRY, id="msg_2", created_ms=5, due_ms=300, is_dead=True))
    with catalog.read() as tx:
        assert tx.outbox_figures() == (1, 1, 10, 100)


def test_entries_are_chosen_by_bucket_destination_and_time(catalog):
    add(catalog, ENTRY, replace(ENTRY, id="msg_2", bucket="b2", destination="http://c/", created_ms=20))
    with catalog.read() as tx:
        for chosen in (Chosen(bucket="b2"), Chosen(destination="http://c/"), Chosen(since_ms=20)):
            assert [entry.id for entry in tx.outbox_entries(chosen, dead=False, limit=9)] == ["msg_2"]
        early = tx.outbox_entries(Chosen(before_ms=20), dead=False, limit=9)
    assert [entry.id for entry in early] == ["msg_1"]


def test_the_log_keeps_attempts_in_order_with_bodies_when_given(catalog):
    second = replace(DELIVERY, attempt=2, message="Error status : 500.", body=b"sent", answer=b"")
    catalog.write(lambda tx: tx.add_deliveries([DELIVERY, second]))
    with catalog.read() as tx:
        assert tx.deliveries("msg_1", limit=9) == [DELIVERY, second]
        assert tx.deliveries("msg_1", limit=1) == [second]
        assert tx.settled_deliveries(Chosen(), ok=False, limit=9) == [second]
        assert tx.settled_deliveries(Chosen(), ok=True, limit=9) == []


def test_what_still_waits_is_not_settled(catalog):
    add(catalog, ENTRY)
    catalog.write(lambda tx: tx.add_deliveries([DELIVERY, replace(DELIVERY, id="msg_2")]))
    with catalog.read() as tx:
        settled = tx.settled_deliveries(Chosen(bucket="bucket"), ok=True, limit=9)
    assert [delivery.id for delivery in settled] == ["msg_2"]


def test_the_log_is_bounded_by_age_and_number(catalog):
    catalog.write(lambda tx: tx.add_deliveries([replace(DELIVERY, at_ms=n) for n in range(10)]))

    def forget(**bounds):
        return catalog.write(lambda tx: tx.forget_deliveries(**({"before_ms": 0, "keep": 99} | bounds)))

    assert forget(before_ms=4, limit=2) == 2
    assert forget(before_ms=4, limit=9) == 2
    assert forget(keep=4, limit=9) == 2
    assert forget(keep=4, limit=9) == 0
    with catalog.read() as tx:
        assert [delivery.at_ms for delivery in tx.deliveries("msg_1", limit=99)] == [6, 7, 8, 9]


def test_counters_add_up(catalog):
    catalog.write(lambda tx: tx.count({"b": 2, "a": 1}))
    catalog.write(lambda tx: tx.count({"b": 3}))
    with catalog.read() as tx:
        assert tx.counters() == {"a": 1, "b": 5}


def test_concurrent_takers_share_the_work(catalog):
    add(catalog, *(replace(ENTRY, id=f"msg_{number}") for number in range(60)))
    taken: list[str] = []

    def run(holder):
        while entries := take(catalog, limit=3, holder=holder):
            taken.extend(entry.id for entry in entries)

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A taker may come away empty while others hold what it saw; nothing is taken twice.
    assert len(taken) == len(set(taken))
    rest = take(catalog, limit=60)
    assert len(taken) + len(rest) == 60
