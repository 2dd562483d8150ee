"""Large uploads are hashed behind small requests."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from client import S3

from s3lite.wire.checksums import Digests


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
def test_hashes_of_a_large_upload_come_behind_small_requests(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    once = Digests.update

    def update(digests: Digests, data: bytes) -> None:
        seen.append((len(data), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        once(digests, data)

    monkeypatch.setattr(Digests, "update", update)
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    s3.put("/bucket/small", b"x" * 100)
    assert seen == [(100, usual)]
    seen.clear()
    s3.put("/bucket/large", b"x" * (3 << 20))
    assert sum(size for size, _ in seen) == 3 << 20
    assert {nice for _, nice in seen} == {max(usual, 10)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == usual
