"""How the server is doing: plots that the script draws from figures that it asks for every other second."""

from __future__ import annotations

import shutil

from s3lite import __version__
from s3lite.console.visit import Visit
from s3lite.errors import Code, S3Error
from s3lite.responses import Response

PLOTS = (
    ("requests", "Requests per second"),
    ("latency", "Milliseconds until an answer"),
    ("bytes_in", "Bytes in per second"),
    ("bytes_out", "Bytes out per second"),
    ("callbacks", "Callbacks per second"),
    ("in_progress", "Requests in progress"),
)


def health(visit: Visit) -> Response:
    """The page; for the operator."""
    if not visit.is_operator:
        return visit.page("missing.html", title="Not found", status=404)
    settings = visit.services.settings
    disk = shutil.disk_usage(settings.data_dir)
    with visit.services.store.catalog.read() as tx:
        counts, outbox = tx.counts(), tx.outbox_figures()
    return visit.page(
        "health.html",
        title="Health",
        plots=PLOTS,
        counts=counts,
        outbox=outbox,
        disk=disk,
        version=__version__,
        durability=settings.durability,
    )


def figures(visit: Visit) -> object:
    """Running totals; their differences are rates."""
    if not visit.is_operator:
        raise S3Error(Code.AccessDenied)
    totals = visit.totals()
    if not totals:
        raise S3Error(Code.InvalidRequest, "The setting metrics.enabled is off: there is nothing to plot.")
    return {
        "requests": totals.get("s3lite_requests_total", 0),
        "answers": totals.get("s3lite_request_seconds_count", 0),
        "seconds": totals.get("s3lite_request_seconds_sum", 0),
        "bytes_in": totals.get("s3lite_received_bytes_total", 0),
        "bytes_out": totals.get("s3lite_sent_bytes_total", 0),
        "callbacks": totals.get("s3lite_callback_attempts_total", 0),
        "in_progress": totals.get("s3lite_requests_in_progress", 0),
    }
