"""Traces: a span for each request, one below it for each callback, and nothing of it when it is off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from client import S3
from conftest import ROOT_KEY, ROOT_SECRET
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from ops.test_callbacks import headers

from s3lite import tracing
from s3lite.app import Application, create_app
from s3lite.callback.listen import Answer, Receiver
from s3lite.settings import Settings, SettingsError, TracingSettings

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced:
    """An application with its spans."""

    def __init__(self, settings: Settings) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.app: Application = create_app(settings, tracer_provider=self.provider)
        self.s3 = S3(self.app, ROOT_KEY, ROOT_SECRET)
        self.s3.put("/bucket")
        self._exporter.clear()

    def spans(self) -> list[ReadableSpan]:
        """In the order in which they ended: a request's after those of its callbacks."""
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def traced(settings: Settings) -> Iterator[Traced]:
    made = Traced(settings)
    yield made
    made.app.close()


def test_a_request_is_a_span(traced: Traced) -> None:
    answer = traced.s3.put("/bucket/dir/key", b"data")
    (span,) = traced.spans()
    assert (span.name, span.kind, span.parent) == ("PutObject", SpanKind.SERVER, None)
    assert span.attributes == {
        "http.request.method": "PUT",
        "http.response.status_code": 200,
        "aws.s3.bucket": "bucket",
        "aws.s3.key": "dir/key",
        "s3lite.account": "root",
        "s3lite.request_id": answer.headers["x-amz-request-id"],
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_refusal_names_its_code(traced: Traced) -> None:
    traced.s3.get("/bucket/missing")
    traced.s3.anonymous().get("/bucket/missing")
    missing, denied = traced.spans()
    assert missing.attributes["error.type"] == "NoSuchKey"
    assert missing.attributes["http.response.status_code"] == 404
    assert missing.status.status_code is StatusCode.UNSET  # by the conventions 4xx is no error of the server
    assert denied.attributes["error.type"] == "AccessDenied"
    assert "s3lite.account" not in denied.attributes


def test_a_fault_of_the_server_is_an_error(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(traced.app.services.store.catalog, "write", broken)
    assert traced.s3.put("/bucket/key", b"data").status == 500
    assert traced.spans()[0].status.status_code is StatusCode.ERROR


def test_a_clients_trace_goes_on(traced: Traced) -> None:
    traced.s3.send("GET", "/bucket", "", b"", {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    (span,) = traced.spans()
    assert format(span.context.trace_id, "032x") == TRACE
    assert span.parent is not None
    assert format(span.parent.span_id, "016x") == PARENT


def test_a_header_that_is_no_context_is_ignored(traced: Traced) -> None:
    traced.s3.send("GET", "/bucket", "", b"", {"traceparent": "00-nonsense"})
    assert traced.spans()[0].parent is None


def test_a_span_around_the_application_is_the_parent(traced: Traced) -> None:
    with traced.provider.get_tracer("host").start_as_current_span("host") as outer:
        traced.s3.send("GET", "/bucket", "", b"", {"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert traced.spans()[0].parent == outer.get_span_context()


def test_requests_do_not_become_each_others_children(traced: Traced) -> None:
    traced.s3.get("/bucket/missing")
    traced.s3.get("/bucket")
    assert [span.parent for span in traced.spans()] == [None, None]


def test_a_callback_is_a_child_and_carries_the_context(traced: Traced) -> None:
    with Receiver() as receiver:
        answer = traced.s3.put("/bucket/key", b"data", headers(receiver.url("/hook?secret=1")))
        callback, request = traced.spans()
        assert (callback.name, callback.kind) == ("callback", SpanKind.CLIENT)
        assert callback.parent == request.context
        sent = {name.lower(): value for name, value in receiver.requests[0].headers.items()}
        context = f"00-{callback.context.trace_id:032x}-{callback.context.span_id:016x}-"
        assert sent["traceparent"].startswith(context)
        assert callback.attributes["s3lite.callback.id"] == sent["webhook-id"]
        assert callback.attributes["s3lite.request_id"] == answer.headers["x-amz-request-id"]
        assert callback.attributes["http.response.status_code"] == 200
        assert "secret" not in str(dict(callback.attributes))


def test_a_callback_that_fails_is_an_error(traced: Traced) -> None:
    with Receiver(default=Answer(status=500)) as receiver:
        traced.s3.put("/bucket/key", b"data", headers(receiver.url(), callbackReply="standard"))
    callback, request = traced.spans()
    assert callback.status.status_code is StatusCode.ERROR
    assert callback.attributes["http.response.status_code"] == 500
    assert request.status.status_code is StatusCode.UNSET  # the upload succeeded


def test_callbacks_carry_no_context_when_it_is_off(s3: S3) -> None:
    with Receiver() as receiver:
        s3.put("/bucket/key", b"data", headers(receiver.url()))
        assert "traceparent" not in {name.lower() for name in receiver.requests[0].headers}


def test_nothing_is_imported_when_it_is_off(tmp_path: Path) -> None:
    program = (
        "import sys, s3lite.app as app; from s3lite.testing import throw_away_settings as settings; "
        "app.create_app(settings(sys.argv[1])).close(); "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_setting_needs_the_sdk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match="otel"):
        create_app(replace(settings, tracing=TracingSettings(enabled=True)))


def test_a_provider_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = TracerProvider()
    monkeypatch.setattr(tracing.trace, "get_tracer_provider", lambda: provider)
    assert tracing.configured() is provider
