"""Spans of real workers reach a collector, as the OTEL_… variables say."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from s3lite.callback.listen import Receiver

from .conftest import running
from .test_console_browser import _upload

Spans = queue.Queue[tuple[str, str, str]]


@pytest.fixture
def collector() -> Iterator[tuple[str, Spans]]:
    """Its address, and what it got: service, name, id of the parent."""
    got: Spans = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        got.put((named["service.name"], span.name, span.parent_span_id.hex()))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_reach_a_collector(collector: tuple[str, Spans], tmp_path: Path) -> None:
    endpoint, got = collector
    settings = {
        "S3LITE_TRACING_ENABLED": "true",
        "S3LITE_BUCKETS": "photos",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_SERVICE_NAME": "uploads",
    }
    with running(tmp_path, **settings) as server, Receiver() as receiver:
        _upload(server, "key", receiver.url())
        found: dict[str, str] = {}
        while "PutObject" not in found or "callback" not in found:
            service, name, parent = got.get(timeout=20)
            assert service == "uploads"
            found[name] = parent
    assert found["PutObject"] == ""
    assert found["callback"] != ""
