"""The courier: leases, schedule, lanes, and what it writes down."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from contract.storage_kit import StillClock

from s3lite import bootstrap
from s3lite.callback.egress import parse_url
from s3lite.callback.listen import Receiver
from s3lite.callback.send import Message
from s3lite.catalog.base import CatalogBusyError
from s3lite.catalog.questions import Chosen
from s3lite.core.carriers import callback_entry
from s3lite.core.courier import Courier
from s3lite.core.outbox import Result, judge
from s3lite.core.store import Store
from s3lite.ids import Ids
from s3lite.messages import Delivery, OutboxEntry
from s3lite.model import AccessKey, Account
from s3lite.settings import OutboxSettings, Settings

SCHEDULE = OutboxSettings().schedule_s
DELIVERY = Delivery(
    id="m", kind="callback", mode="sync", bucket="b", key="k", url="http://a/", attempt=1, at_ms=5, cost_ms=3,
    status=200, message="", cause="", sent_bytes=4, received_bytes=2,
)  # fmt: skip


class NoIds(Ids):
    """No jitter."""

    def bits(self, count: int) -> int:
        return 0


class MostIds(Ids):
    """All of the jitter."""

    def bits(self, count: int) -> int:
        return (1 << count) - 1


class FakeCarrier:
    """Answers from a script by lane, records what it carried, and can be held up."""

    longest_s = 1.0

    def __init__(self):
        self.carried = []
        self.results = {}
        self.gates = {}
        self.arrived = threading.Condition()

    def carry(self, entry):
        with self.arrived:
            self.carried.append(entry)
            self.arrived.notify_all()
        if gate := self.gates.get(entry.lane):
            gate.wait(10)
        result = self.results.get(entry.lane, Result(True, 200))
        return result.pop(0) if isinstance(result, list) else result

    def wait(self, count):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.carried) >= count, 10)
        return [entry.id for entry in self.carried]


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def store(tmp_path, clock):
    settings = Settings(
        data_dir=str(tmp_path),
        durability="relaxed",
        outbox=OutboxSettings(threads=4, per_target=2, lease_s=60),
    )
    storage = bootstrap.prepare(settings, clock=clock, ids=NoIds())
    yield Store(storage.catalog, storage.blobs, clock, NoIds(), settings, storage.keyring)
    storage.catalog.close()
    storage.blobs.close()


@pytest.fixture
def carrier():
    return FakeCarrier()


@pytest.fixture
def courier(store, carrier):
    made = Courier(store, carrier)
    yield made
    for gate in carrier.gates.values():
        gate.set()
    made.stop()


def entry_of(store, name="m", *, lane="l", **more):
    now_ms = store.clock.time_ms()
    made = OutboxEntry(
        id=name, kind="callback", bucket="b", key="k", event="PutObject", destination="http://a/", lane=lane,
        request="{}", body=b"", created_ms=now_ms, expires_ms=now_ms + 10**9, due_ms=now_ms,
    )  # fmt: skip
    return replace(made, **more)


def entry(store, name="m", **more):
    made = entry_of(store, name, **more)
    store.catalog.write(lambda tx: tx.add_outbox(made))
    return made


def found(store, name="m"):
    with store.catalog.read() as tx:
        return tx.outbox_entry(name)


def run(courier, until, timeout_s=10):
    """Rounds, until a claim holds."""
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline
        courier.step()
        time.sleep(0.002)


# ---------------------------------------------------------------- one attempt, judged


@pytest.mark.parametrize(("attempts", "delay_s"), list(enumerate(SCHEDULE[1:], 1)))
def test_the_schedule_gives_each_attempt_its_delay(store, attempts, delay_s):
    held = replace(entry(store), attempts=attempts)
    for ids, factor in ((NoIds(), 1.0), (MostIds(), 1.2)):
        made = judge(held, Result(False, 500), settings=OutboxSettings(), ids=ids, now_ms=1000)
        assert made.result == "retry"
        assert made.due_ms == pytest.approx(1000 + delay_s * factor * 1000, rel=0.001)


@pytest.mark.parametrize(
    ("attempts", "now_ms", "result", "expected"),
    [
        (len(SCHEDULE), 0, Result(False, 500), "dead"),
        (len(SCHEDULE), 0, Result(True, 200), "ok"),
        (1, 0, Result(False, 410, is_gone=True), "dead"),
        (1, 1 << 60, Result(False, 500), "dead"),
        (1, 1 << 60, Result(False, is_held_back=True), "dead"),
        (len(SCHEDULE), 0, Result(False, is_held_back=True), "back"),
    ],
)
def test_how_an_attempt_ends(store, attempts, now_ms, result, expected):
    held = replace(entry(store), attempts=attempts)
    assert judge(held, result, settings=OutboxSettings(), ids=NoIds(), now_ms=now_ms).result == expected


@pytest.mark.parametrize(("asked_s", "waited_s"), [(100, 100), (1, 5), (0, 5)])
def test_retry_after_lengthens_a_delay_and_never_shortens_it(store, asked_s, waited_s):
    held = replace(entry(store), attempts=1)
    result = Result(False, 503, retry_after_s=asked_s)
    made = judge(held, result, settings=OutboxSettings(), ids=NoIds(), now_ms=0)
    assert made.due_ms == waited_s * 1000


# ---------------------------------------------------------------- rounds


def test_what_is_due_is_sent_and_forgotten(store, carrier, courier):
    entry(store, "now")
    entry(store, "later", due_ms=store.clock.time_ms() + 1)
    run(courier, lambda: found(store, "now") is None)
    assert carrier.wait(1) == ["now"]
    assert found(store, "later").attempts == 0


def test_a_round_tells_when_the_next_is_due(store, courier):
    assert courier.step() == store.settings.outbox.poll_s
    entry(store, due_ms=store.clock.time_ms() + 300)
    assert courier.step() == pytest.approx(0.3)


def test_a_failed_message_waits_its_turn_and_is_sent_again(store, carrier, courier, clock):
    entry(store)
    carrier.results["l"] = [Result(False, 500, "Error status : 500."), Result(True, 200)]
    run(courier, lambda: found(store).holder == "" and found(store).attempts == 1)
    assert (found(store).status, found(store).message) == (500, "Error status : 500.")
    assert found(store).due_ms == store.clock.time_ms() + 5000
    clock.now += 5
    run(courier, lambda: found(store) is None)
    assert [each.attempts for each in carrier.carried] == [1, 2]


def test_after_the_last_attempt_a_message_is_dead_and_kept(store, carrier, courier, clock):
    entry(store)
    carrier.results["l"] = Result(False, 0, "no")
    for number in range(1, len(SCHEDULE) + 1):
        run(courier, lambda number=number: found(store).attempts == number and not found(store).holder)
        clock.now += 50_000
    assert found(store).is_dead
    assert len(carrier.carried) == len(SCHEDULE)
    with store.catalog.read() as tx:
        assert tx.counters() == {"outbox_dead": 1, "outbox_retry": len(SCHEDULE) - 1}
        assert [each.id for each in tx.outbox_entries(Chosen(), dead=True, limit=9)] == ["m"]


def test_the_lease_of_a_dead_process_runs_out_and_another_sends_again(store, carrier, clock):
    entry(store)
    dead, alive = Courier(store, carrier), Courier(store, carrier)
    store.catalog.write(
        lambda tx: tx.take_outbox("l", now_ms=clock.time_ms(), limit=1, holder="dead", until_ms=clock.time_ms() + 60_000)
    )  # fmt: skip
    alive.step()
    assert carrier.carried == []
    clock.now += 60
    run(alive, lambda: found(store) is None)
    assert carrier.carried[0].attempts == 2
    for each in (dead, alive):
        each.stop()


def test_nothing_is_sent_under_a_lease_that_would_not_last(store, carrier, courier, clock):
    carrier.gates["l"] = threading.Event()
    for number in range(3):
        entry(store, f"m{number}")
    courier.step()
    carrier.wait(2)  # per_target: the third waits in memory
    clock.now += 59.5
    carrier.gates["l"].set()
    run(courier, lambda: store.catalog.read().__enter__().outbox_figures().waiting < 3)
    time.sleep(0.05)
    courier.step()
    assert [each.attempts for each in carrier.carried if each.id == "m2"] in ([], [1])
    run(courier, lambda: found(store, "m2") is None)


def test_a_lane_that_does_not_answer_leaves_threads_to_the_others(store, carrier, courier):
    for number in range(20):
        entry(store, f"slow{number:02}", lane="a slow")
        entry(store, f"dull{number:02}", lane="b dull")
    carrier.gates |= {"a slow": threading.Event(), "b dull": threading.Event()}
    carrier.results |= {"a slow": Result(False), "b dull": Result(False)}
    run(courier, lambda: len(carrier.carried) == 4)  # all threads wait, two for each
    for lane in ("a slow", "b dull"):
        carrier.gates[lane].set()
        carrier.gates[lane] = threading.Event()
    run(courier, lambda: len(carrier.carried) >= 6)  # silent lanes now have one thread each
    entry(store, "quick", lane="c quick")
    run(courier, lambda: found(store, "quick") is None)
    assert courier.in_flight <= 2


def test_a_backlog_of_some_lanes_starves_no_other(store, carrier, courier):
    entries = [
        entry_of(store, f"{lane}{number:03}", lane=lane)
        for lane in ("a", "b", "c", "d", "e")
        for number in range(100)
    ]
    entries += [entry_of(store, f"z{number}", lane=f"z{number:02}") for number in range(40)]
    store.catalog.write(lambda tx: [tx.add_outbox(each) for each in entries])
    run(courier, lambda: len({each.lane for each in carrier.carried}) == 45)
    assert len(carrier.carried) < 400


def test_memory_is_bounded_over_all_lanes(store, carrier, courier):
    entries = [entry_of(store, f"m{n:04}", lane=f"l{n % 60:02}") for n in range(1200)]
    store.catalog.write(lambda tx: [tx.add_outbox(each) for each in entries])
    for lane in {each.lane for each in entries}:
        carrier.gates[lane] = threading.Event()
    for _ in range(10):
        courier.step()
    with store.catalog.read() as tx:
        held = [each for each in tx.outbox_entries(Chosen(), dead=False, limit=2000) if each.holder]
    assert len(held) <= 256 + 4


def test_memory_holds_a_few_messages_of_a_lane(store, carrier, courier):
    carrier.gates["l"] = threading.Event()
    for number in range(100):
        entry(store, f"m{number:03}")
    run(courier, lambda: len(carrier.carried) == 2)
    courier.step()
    with store.catalog.read() as tx:
        held = [each for each in tx.outbox_entries(Chosen(), dead=False, limit=200) if each.holder]
    assert len(held) <= 20
    carrier.gates["l"].set()


def test_a_destination_that_asks_for_a_pause_gets_it(store, carrier, courier):
    entry(store, "first")
    carrier.results["l"] = [Result(False, 429, retry_after_s=30), Result(True, 200)]
    run(courier, lambda: found(store, "first").status == 429)
    entry(store, "second")
    for _ in range(5):
        courier.step()
    assert carrier.wait(1) == ["first"]


def test_what_is_held_back_costs_no_attempt(store, carrier, courier, clock):
    entry(store)
    carrier.results["l"] = Result(False, message="Too many callback requests.", is_held_back=True)
    run(courier, lambda: found(store).due_ms == clock.time_ms() + 2000)
    assert (found(store).attempts, found(store).holder) == (0, "")


def test_stopping_gives_back_what_was_taken(store, carrier):
    courier = Courier(store, carrier)
    carrier.gates["l"] = threading.Event()
    for number in range(10):
        entry(store, f"m{number}")
    run(courier, lambda: len(carrier.carried) == 2)
    threading.Timer(0.05, carrier.gates["l"].set).start()
    courier.stop()
    with store.catalog.read() as tx:
        left = tx.outbox_entries(Chosen(), dead=False, limit=20)
    assert len(left) == 8
    assert {(each.holder, each.attempts) for each in left} == {("", 0)}


def test_a_busy_index_delays_what_is_to_be_written(store, carrier, courier, monkeypatch):
    store.outbox.record(DELIVERY)

    def busy(work):
        raise CatalogBusyError

    with monkeypatch.context() as patch:
        patch.setattr(store.catalog, "write", busy)
        with pytest.raises(CatalogBusyError):
            courier.step()
    courier.step()
    with store.catalog.read() as tx:
        assert tx.deliveries("m", limit=9) == [DELIVERY]
        assert tx.counters() == {"attempts_sync_ok": 1}


def test_a_disabled_courier_writes_the_log_and_sends_nothing(store, carrier):
    settings = replace(store.settings, outbox=OutboxSettings(enabled=False))
    courier = Courier(replace(store, settings=settings), carrier)
    entry(store)
    store.outbox.record(DELIVERY)
    courier.step()
    courier.stop()
    assert carrier.carried == []
    with store.catalog.read() as tx:
        assert len(tx.deliveries("m", limit=9)) == 1


def test_a_carrier_that_breaks_costs_an_attempt_and_no_thread(store, carrier, courier, monkeypatch, caplog):
    entry(store)
    monkeypatch.setattr(carrier, "carry", lambda entry: 1 / 0)
    run(courier, lambda: found(store).attempts == 1 and not found(store).holder)
    assert "could not send" in found(store).message
    assert "ZeroDivisionError" in caplog.text


# ---------------------------------------------------------------- several processes

PROCESS = """
import sys, time
from s3lite.app import create_app
from s3lite.settings import CallbackSettings, OutboxSettings, Settings, SweepSettings
app = create_app(Settings(
    data_dir=sys.argv[1], durability="relaxed", sweep=SweepSettings(enabled=False),
    callback=CallbackSettings(allow=("127.0.0.1",)), outbox=OutboxSettings(poll_s=0.02),
))
app.start_upkeep()
while True:
    with app.services.store.catalog.read() as tx:
        if not tx.outbox_figures().waiting:
            break
    time.sleep(0.05)
app.close()
"""


def callback_to(url, number):
    return Message(
        urls=(parse_url(url),), host="", body_type="application/json", body=b"{}", reply="standard",
        callback_id=f"m{number}", bucket="b", key="k", request_id="r", pub_key_url="",
        requester=AccessKey("gone", "", Account("a", "a")), mode="async",
    )  # fmt: skip


def test_two_processes_share_the_work_and_send_nothing_twice(store, clock, tmp_path: Path):
    clock.now = time.time()
    with Receiver() as receiver:
        for number in range(200):
            made = callback_entry(store, callback_to(receiver.url(), number), "PutObject")
            made = replace(made, lane=f"l{number % 7}")
            store.catalog.write(lambda tx, made=made: tx.add_outbox(made))
        processes = [subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path)]) for _ in range(2)]
        try:
            assert [process.wait(60) for process in processes] == [0, 0]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        got = [each.headers["webhook-id"] for each in receiver.requests]
    assert sorted(got) == sorted(f"m{number}" for number in range(200))


# ---------------------------------------------------------------- what goes in time


def test_the_sweep_forgets_old_attempts_and_dead_messages(store, clock):
    from s3lite.core.sweep import sweep

    outbox = OutboxSettings(dead_days=2, log_days=1, log_rows=600)
    store = replace(store, settings=replace(store.settings, outbox=outbox))
    day_ms = 86_400_000
    entry(store, "old", created_ms=1, is_dead=True)
    entry(store, "waiting", created_ms=1)
    clock.now += 3 * 86_400
    entry(store, "new", is_dead=True)
    aged = [replace(DELIVERY, at_ms=clock.time_ms() - 2 * day_ms)] * 700
    store.catalog.write(
        lambda tx: tx.add_deliveries(aged + [replace(DELIVERY, at_ms=clock.time_ms())] * 1200)
    )
    swept = sweep(store)
    assert (swept.messages, swept.deliveries) == (1, 1300)
    assert [found(store, name) is None for name in ("old", "waiting", "new")] == [True, False, False]
    with store.catalog.read() as tx:
        assert len(tx.deliveries("m", limit=2000)) == 600
