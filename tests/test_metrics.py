"""Figures for Prometheus: what is counted, who may read it, and that dashboard and alerts speak of what exists."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from client import S3
from prometheus_client.parser import text_string_to_metric_families
from webtest import TestApp, TestResponse

from s3lite.app import Application, create_app
from s3lite.callback.listen import Receiver
from s3lite.core.sweep import Swept
from s3lite.metrics import Metrics
from s3lite.settings import MetricsSettings, Settings

DOCS = Path(__file__).resolve().parent.parent / "docs/observability"
PATH = "/.s3lite/metrics"


def read(app: Application, address: str = "127.0.0.1", **headers: str) -> TestResponse:
    web = TestApp(app, lint=True, extra_environ={"REMOTE_ADDR": address})
    return web.get(
        PATH, headers={name.replace("_", "-"): value for name, value in headers.items()}, expect_errors=True
    )


def figures(app: Application) -> dict[tuple[str, ...], float]:
    """Samples by name and label values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(read(app).text)
        for sample in family.samples
    }


def test_requests_are_counted_by_operation_and_status(app: Application, s3: S3) -> None:
    s3.put("/bucket/key", b"x" * 100)
    s3.get("/bucket/key")
    s3.get("/bucket/missing")
    found = figures(app)
    assert found["s3lite_requests_total", "PutObject", "200"] == 1
    assert found["s3lite_requests_total", "GetObject", "200"] == 1
    assert found["s3lite_requests_total", "GetObject", "404"] == 1
    assert found["s3lite_received_bytes_total", "PutObject"] == 100
    assert found["s3lite_sent_bytes_total", "GetObject"] >= 100
    assert found["s3lite_request_seconds_count", "GetObject"] == 2
    assert found["s3lite_requests_in_progress",] == 1  # this one


def test_callbacks_are_counted_by_outcome(app: Application, s3: S3) -> None:
    from ops.test_callbacks import headers

    with Receiver() as receiver:
        s3.put("/bucket/key", b"this is content", headers(receiver.url()))
    assert figures(app)["s3lite_callback_attempts_total", "ok"] == 1
    assert figures(app)["s3lite_callback_seconds_count",] == 1


def test_what_applications_are_asked_now(app: Application, s3: S3) -> None:
    from ops.test_callbacks import headers

    seen: list[float] = []

    def look(_received: object) -> None:
        seen.append(figures(app)["s3lite_callbacks_in_flight",])

    with Receiver(on_request=look) as receiver:
        s3.put("/bucket/key", b"this is content", headers(receiver.url()))
    assert seen == [1]
    assert figures(app)["s3lite_callbacks_in_flight",] == 0
    assert figures(app)["s3lite_callback_targets_suspended",] == 0


def test_what_waits_is_looked_up(app: Application, s3: S3) -> None:
    found = figures(app)
    assert found["s3lite_outbox_entries", "waiting"] == 0
    assert found["s3lite_outbox_entries", "dead"] == 0
    assert found["s3lite_outbox_lag_seconds",] == 0
    assert found["s3lite_disk_free_bytes",] > 0


def test_upkeep_is_counted() -> None:
    metrics = Metrics()
    metrics.swept(Swept(uploads=3, freed_files=2, freed_bytes=700))
    assert metrics._registry.get_sample_value("s3lite_swept_files_total") == 2
    assert metrics._registry.get_sample_value("s3lite_swept_bytes_total") == 700
    assert metrics._registry.get_sample_value("s3lite_swept_total", {"kind": "freed_bytes"}) is None
    assert metrics._registry.get_sample_value("s3lite_swept_total", {"kind": "uploads"}) == 3
    assert metrics._registry.get_sample_value("s3lite_sweeps_total") == 1


def test_strangers_need_the_token(settings: Settings) -> None:
    app = create_app(replace(settings, metrics=MetricsSettings(token="secret")))
    assert read(app, "192.0.2.1").status_int == 403
    assert read(app, "192.0.2.1", Authorization="Bearer wrong").status_int == 403
    assert read(app, "192.0.2.1", Authorization="Bearer secret").status_int == 200
    app.close()


def test_what_comes_through_a_proxy_is_a_strangers(app: Application) -> None:
    assert read(app).status_int == 200
    assert read(app, X_Forwarded_For="192.0.2.1").status_int == 403


def test_without_a_token_nobody_else_gets_in(app: Application) -> None:
    assert read(app, "192.0.2.1", Authorization="Bearer ").status_int == 403


def test_metrics_can_be_switched_off(settings: Settings) -> None:
    app = create_app(replace(settings, metrics=MetricsSettings(enabled=False)))
    assert read(app).status_int == 404
    app.close()


# ---------------------------------------------------------------- what is built on the names


@pytest.fixture
def names(app: Application, s3: S3) -> set[str]:
    """Every name that can be scraped."""
    families = text_string_to_metric_families(read(app).text)
    found = set()
    for family in families:
        kind = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name + suffix for suffix in kind}
    return found


def named(text: str) -> set[str]:
    return set(re.findall(r"\bs3lite_[a-z_]+", text))


def test_the_dashboard_shows_what_exists(names: set[str]) -> None:
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) >= 10
    assert named(" ".join(queries)) - names == set()


def test_the_alerts_watch_what_exists(names: set[str]) -> None:
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    assert {"alert", "expr", "for", "annotations"} <= set(rules[0])
    assert named(" ".join(rule["expr"] for rule in rules)) - names == set()


def test_the_document_lists_every_name(names: set[str]) -> None:
    text = (DOCS.parent / "observability.md").read_text()
    listed = set(re.findall(r"^\| `(s3lite_[a-z_]+)", text, re.MULTILINE))
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if not name.endswith("_created")}
    assert listed == plain
