"""Traces, for those who ask for them: a span for each request, and one below it for each callback.

Off by default, and then not even imported. Contexts travel by the headers of OpenTelemetry's propagators
(``traceparent``): a request's span joins the trace of its client, and applications that get a callback can
join its. A span ends when the answer is ready to be sent; a large body is still to follow.

Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace import TracerProvider as TracerProvider  # for signatures elsewhere

from s3lite import __version__
from s3lite.callback.egress import CallbackUrl
from s3lite.callback.send import Message, Sending
from s3lite.exchange import Exchange
from s3lite.settings import SettingsError
from s3lite.target import Environ

INSTALL = "tracing.enabled needs OpenTelemetry's SDK and exporter: pip install 's3lite[otel]'"


class _Headers(Getter[Environ]):
    """What propagators read of a WSGI environ."""

    def get(self, carrier: Environ, key: str) -> list[str] | None:
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    def keys(self, carrier: Environ) -> list[str]:
        return [name[5:].replace("_", "-").lower() for name in carrier if name.startswith("HTTP_")]


class Tracing:
    """Makes the spans of one application instance."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("s3lite", __version__)
        self._headers = _Headers()

    @contextmanager
    def request(self, environ: Environ, exchange: Exchange) -> Iterator[None]:
        """The span of a request, from its head to the answer: that of a program around this one is its parent."""
        is_inside = trace.get_current_span().get_span_context().is_valid
        parent = None if is_inside else propagate.extract(environ, getter=self._headers)
        with self._tracer.start_as_current_span(
            environ["REQUEST_METHOD"], context=parent, kind=SpanKind.SERVER
        ) as span:
            yield
            if span.is_recording():
                _describe(span, environ, exchange)

    @contextmanager
    def callback(self, message: Message, url: CallbackUrl) -> Iterator[Sending]:
        """The span of one attempt at a callback or notification, and the headers that carry its context."""
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "server.address": url.host,
            "server.port": url.port,
            "s3lite.callback.id": message.callback_id,
            "s3lite.callback.mode": message.mode,
            "s3lite.callback.attempt": message.number,
            "s3lite.request_id": message.request_id,
        }
        with self._tracer.start_as_current_span(
            "callback", kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            headers: dict[str, str] = {}
            propagate.inject(headers)
            sending = Sending(headers)
            yield sending
            if sending.status is not None:
                span.set_attribute("http.response.status_code", sending.status)
            if sending.problem:
                span.set_status(Status(StatusCode.ERROR, sending.problem))


def _describe(span: Span, environ: Environ, exchange: Exchange) -> None:
    """What the log line says, too; nothing that it does not."""
    if exchange.operation:
        span.update_name(exchange.operation)
    attributes: dict[str, str | int] = {
        "http.request.method": environ["REQUEST_METHOD"],
        "http.response.status_code": exchange.status,
        "s3lite.request_id": exchange.request_id,
        "s3lite.account": exchange.caller.account_id,
    }
    if exchange.head is not None:
        attributes["aws.s3.bucket"] = exchange.head.target.bucket
        attributes["aws.s3.key"] = exchange.head.target.key
    if exchange.error:
        attributes["error.type"] = exchange.error
    span.set_attributes({name: value for name, value in attributes.items() if value != ""})
    if exchange.status >= 500:
        span.set_status(Status(StatusCode.ERROR, exchange.error))


def configured(environ: Mapping[str, str] = os.environ) -> TracerProvider:
    """The provider that this process has, else one that exports as the ``OTEL_…`` variables say.

    Raises SettingsError without the SDK or its exporter.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, trace.ProxyTracerProvider):
        return provider
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SettingsError([INSTALL]) from None
    service = environ.get("OTEL_SERVICE_NAME") or "s3lite"
    made = SdkProvider(resource=Resource.create({"service.name": service, "service.version": __version__}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)
    return made
