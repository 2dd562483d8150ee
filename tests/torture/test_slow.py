"""The quick part of the campaign with slow peers; `make torture` runs the long one (docs/reliability.md)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from e2e.conftest import Server, running
from torture.slow import KINDS, PATIENCE_S, drip, others, prepare, siege

_THREADS = 24
_ANYBODY = ["slow_head", "half_behind", "refused_body", "refused_chunks", "ignored_body"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("slow")) as live:
        prepare(live)
        yield live
    assert "Traceback" not in live.log.read_text()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with few threads."""
    settings = {"S3LITE_WORKERS": "1", "S3LITE_THREADS": str(_THREADS)}
    with running(tmp_path_factory.mktemp("small"), **settings) as live:
        prepare(live)
        yield live
    assert "Traceback" not in live.log.read_text()


def test_while_200_slow_connections_of_all_kinds_hang_others_work_as_always(server: Server) -> None:
    with siege(server, list(KINDS), 200) as held:
        for number in range(3):
            drip(held)
            assert others(server, number) < PATIENCE_S


@pytest.mark.parametrize("kind", _ANYBODY)
def test_whoever_has_no_key_holds_no_thread(small: Server, kind: str) -> None:
    """More of them than there are threads, and uploads still find one."""
    with siege(small, [kind], 3 * _THREADS) as held:
        for number in range(3):
            drip(held)
            assert others(small, number) < PATIENCE_S
