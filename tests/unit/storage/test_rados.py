"""Striping in RADOS, what crashes leave there, and a cluster that is degraded, away or full."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from s3lite.blobs import rados, rados_link, rados_streams
from s3lite.blobs.base import BlobsAwayError
from s3lite.blobs.rados import RadosBlobs
from s3lite.blobs.rados_link import Target
from s3lite.settings import RadosSettings, SettingsError

STRIPE = 64 << 10


@contextmanager
def opened(url, **settings):
    store = RadosBlobs(Target.parse(url), RadosSettings(**{"object_bytes": STRIPE} | settings))
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def blobs(rados_url):
    with opened(rados_url) as store:
        yield store


def put(blobs, data):
    with blobs.create(size=len(data)) as writer:
        for start in range(0, len(data), 50_000):
            writer.write(data[start : start + 50_000])
        return writer.commit()


def get(blobs, blob, offset, length):
    return b"".join(blobs.read(blob, offset=offset, length=length))


def names(blobs, handle="io"):
    found = {each.key for each in getattr(blobs.link(), handle).list_objects()}
    return found - {"layout"}


@pytest.mark.parametrize("length", [STRIPE - 1, STRIPE, STRIPE + 1, 3 * STRIPE, 3 * STRIPE + 7])
def test_stripes_end_where_they_should(blobs, length):
    data = os.urandom(length)
    blob = put(blobs, data)
    stripes = -(-length // STRIPE)
    assert names(blobs) == {blob, *(f"{blob}.{number}" for number in range(1, stripes))}
    assert names(blobs, "pending") == set()
    assert get(blobs, blob, 0, length) == data
    assert get(blobs, blob, STRIPE - 3, min(6, length - STRIPE + 3)) == data[STRIPE - 3 : STRIPE + 3]
    blobs.delete(blob)
    assert names(blobs) == set()


def test_a_blob_is_as_old_as_its_commit(blobs):
    began = time.time()
    put(blobs, b"abc")
    ((_, _, committed_s),) = blobs.scan()
    assert began - 2 <= committed_s <= time.time() + 1


def test_a_namespace_keeps_the_layout_it_began_with(rados_url, blobs):
    data = os.urandom(3 * STRIPE)
    blob = put(blobs, data)
    with opened(rados_url, object_bytes=4 << 20) as later:
        assert get(later, blob, 0, len(data)) == data
        assert len(names(later)) == 3


def test_an_upload_that_is_given_up_leaves_nothing(blobs):
    with suppress(RuntimeError), blobs.create() as writer:
        writer.write(bytes(10 * STRIPE))
        assert names(blobs, "pending") != set()
        raise RuntimeError
    assert names(blobs) == names(blobs, "pending") == set()


def test_a_sweep_removes_what_a_crash_left(rados_url, blobs, monkeypatch):
    script = f"""
import os
from s3lite.blobs.rados import RadosBlobs
from s3lite.blobs.rados_link import Target
from s3lite.settings import RadosSettings
store = RadosBlobs(Target.parse({rados_url!r}), RadosSettings())
writer = store.create()
writer.write(bytes({20 * STRIPE}))
while writer._flying:
    writer._land()
os._exit(0)
"""
    kept = put(blobs, bytes(3 * STRIPE))
    subprocess.run([sys.executable, "-c", script], check=True)
    assert len(names(blobs)) == 3 + 19  # the first stripe was not written, as the last of all
    assert blobs.sweep_temporary(older_than_s=0) == (0, 0)  # it may be in progress on another node
    monkeypatch.setattr(rados, "STALE_S", -60)
    assert blobs.sweep_temporary(older_than_s=-60) == (1, 19 * STRIPE)
    assert names(blobs) == {kept, f"{kept}.1", f"{kept}.2"}
    assert names(blobs, "pending") == set()


def test_a_sweep_keeps_what_was_committed_before_its_mark_went(blobs):
    blob = put(blobs, bytes(3 * STRIPE))
    blobs.link().pending.write_full(blob, b"")
    assert blobs._give_up(blobs.link(), blob) is None
    assert get(blobs, blob, 0, 3 * STRIPE) == bytes(3 * STRIPE)


def test_a_blob_that_took_longer_than_a_sweep_waits_is_not_committed(blobs, monkeypatch):
    monkeypatch.setattr(rados_streams, "STALE_S", 0)
    with pytest.raises(OSError, match="took too long"):
        put(blobs, bytes(3 * STRIPE))
    assert names(blobs) == set()


def test_a_lost_stripe_is_an_error_and_not_short_data(blobs):
    blob = put(blobs, bytes(5 * STRIPE))
    blobs.link().io.remove_object(f"{blob}.4")
    with pytest.raises(OSError):  # noqa: PT011  # of whichever kind: never fewer bytes
        get(blobs, blob, 0, 5 * STRIPE)


@pytest.mark.parametrize(
    "url", ["rados://", "rados://pool/x", "rados://pool?nonsense=1", "rados://pool?namespace="]
)
def test_malformed_urls_are_refused(url):
    with pytest.raises(SettingsError, match="rados://POOL"):
        Target.parse(url)


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rados", None)
    monkeypatch.setattr(rados_link, "_DEBIAN", "/nonexistent")
    with pytest.raises(SettingsError, match="apt install python3-rados"):
        rados_link.load_rados()


def test_a_missing_pool_and_a_wrong_key_are_errors_that_say_so(ceph_cluster, rados_url):
    with opened(rados_url.replace("s3lite?", "other?")) as store, pytest.raises(OSError, match="pool other"):
        store.ready()
    with opened(rados_url.replace("user=s3lite", "user=nobody")) as store, pytest.raises(OSError):  # noqa: PT011
        store.ready()


def test_one_osd_less_costs_nothing_that_was_stored(ceph_cluster, blobs):
    data = os.urandom(8 * STRIPE)
    blob = put(blobs, data)
    ceph_cluster.kill("osd.1")
    try:
        assert get(blobs, blob, 0, len(data)) == data  # waits until the cluster has noticed
        again = put(blobs, data)
        assert get(blobs, again, 0, len(data)) == data
    finally:
        ceph_cluster.start()


def test_a_cluster_below_its_minimum_is_away_and_comes_back(ceph_cluster, rados_url):
    data = os.urandom(4 * STRIPE)
    with opened(rados_url, timeout_s=3) as blobs:
        blob = put(blobs, data)
        for daemon in ("osd.0", "osd.2"):
            ceph_cluster.kill(daemon)
        try:
            began = time.monotonic()
            with pytest.raises(BlobsAwayError):
                put(blobs, data)
            with pytest.raises(BlobsAwayError):
                blobs.ready()
            assert time.monotonic() - began < 30
        finally:
            ceph_cluster.start()
        assert get(blobs, blob, 0, len(data)) == data
        assert get(blobs, put(blobs, data), 0, len(data)) == data


def test_a_full_cluster_refuses_and_gives_back(ceph_cluster, blobs):
    kept = put(blobs, bytes(3 * STRIPE))
    ceph_cluster.admin("osd", "set-nearfull-ratio", "0.0001")
    ceph_cluster.admin("osd", "set-backfillfull-ratio", "0.0001")
    ceph_cluster.admin("osd", "set-full-ratio", "0.0001")
    try:
        with pytest.raises(OSError, match=r"\[Errno 28\]|\[Errno 122\]"):
            until_refused(lambda: put(blobs, bytes(3 * STRIPE)))
        assert get(blobs, kept, 0, 9) == bytes(9)
        blobs.delete(kept)
    finally:
        for name, ratio in (("full", "0.95"), ("backfillfull", "0.9"), ("nearfull", "0.85")):
            ceph_cluster.admin("osd", f"set-{name}-ratio", ratio)
    until_accepted(lambda: put(blobs, bytes(3 * STRIPE)))


def until_refused(attempt):
    for _ in range(100):
        attempt()
        time.sleep(0.2)


def until_accepted(attempt):
    for _ in range(100):
        with suppress(OSError):
            return attempt()
        time.sleep(0.2)
    raise AssertionError("still refused")


def test_uploads_in_many_threads_overlap(blobs):
    data = [os.urandom(5 * STRIPE + number) for number in range(16)]
    made = [None] * len(data)

    def one(number):
        made[number] = put(blobs, data[number])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [get(blobs, blob, 0, len(body)) for blob, body in zip(made, data, strict=True)] == data
    assert names(blobs, "pending") == set()
