"""The sweep and its thread: what is removed, and who runs it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from client import S3

from s3lite.app import Application
from s3lite.core.store import Store
from s3lite.core.sweep import Sweeper, sweep
from s3lite.settings import SweepSettings


def with_sweep(app: Application, **changes: float) -> Store:
    store = app.services.store
    return replace(store, settings=replace(store.settings, sweep=SweepSettings(enabled=True, **changes)))


def test_untouched_uploads_expire(s3: S3, app: Application) -> None:
    upload_id = s3.start_upload("/bucket/key")
    s3.put_part("/bucket/key", upload_id, 1, b"x" * 5000)
    assert sweep(with_sweep(app, upload_expiry_s=3600)).uploads == 0
    time.sleep(0.01)
    swept = sweep(with_sweep(app, upload_expiry_s=0.001))
    assert swept.uploads == 1
    time.sleep(0.01)
    assert swept.blobs + sweep(app.services.store).blobs == 1  # at once, if the millisecond is the same
    assert s3.get(f"/bucket/key?uploadId={upload_id}").code == "NoSuchUpload"


def test_uploads_never_expire_at_zero(s3: S3, app: Application) -> None:
    s3.start_upload("/bucket/key")
    time.sleep(0.01)
    assert sweep(with_sweep(app, upload_expiry_s=0)).uploads == 0


def test_orphans_go_and_what_is_referenced_stays(s3: S3, app: Application) -> None:
    s3.put("/bucket/key", b"x" * 5000)
    blobs = app.services.store.blobs
    with blobs.create() as writer:
        writer.write(b"nobody's")
        writer.commit()
    assert sweep(with_sweep(app)).orphans == 0  # young
    time.sleep(0.01)
    assert sweep(with_sweep(app, orphan_age_s=0)).orphans == 1
    assert s3.get("/bucket/key").body == b"x" * 5000


def test_released_bytes_outlive_the_grace_period_only(s3: S3, app: Application) -> None:
    s3.put("/bucket/key", b"x" * 5000)
    s3.delete("/bucket/key")
    store = app.services.store
    patient = replace(
        store, settings=replace(store.settings, storage=replace(store.settings.storage, garbage_grace_s=60))
    )
    assert sweep(patient).blobs == 0
    time.sleep(0.01)
    assert sweep(store).blobs == 1


def test_completions_are_forgotten(s3: S3, app: Application) -> None:
    upload_id = s3.start_upload("/bucket/key")
    etags = {1: s3.put_part("/bucket/key", upload_id, 1, b"x")}
    assert s3.complete("/bucket/key", upload_id, etags).status == 200
    time.sleep(0.01)
    assert sweep(with_sweep(app, completion_ttl_s=0.001)).completions == 1
    assert s3.complete("/bucket/key", upload_id, etags).code == "NoSuchUpload"


@pytest.mark.parametrize("stops", [True, False])
def test_one_sweeper_at_a_time_and_the_next_takes_over(s3: S3, app: Application, stops: bool) -> None:
    store = with_sweep(app, interval_s=0.01, upload_expiry_s=0.001)
    first = Sweeper(store)
    first.start()
    deadline = time.monotonic() + 5
    while store.catalog.lease("sweep", holder="somebody else", ttl_s=60) and time.monotonic() < deadline:
        store.catalog.lease("sweep", holder="somebody else", ttl_s=0)
        time.sleep(0.01)
    assert not store.catalog.lease("sweep", holder="somebody else", ttl_s=60)
    if stops:
        first.stop()
        assert store.catalog.lease("sweep", holder="somebody else", ttl_s=60)
    else:
        upload_id = s3.start_upload("/bucket/key")
        while s3.get(f"/bucket/key?uploadId={upload_id}").status == 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert s3.get(f"/bucket/key?uploadId={upload_id}").code == "NoSuchUpload"
        first.stop()
