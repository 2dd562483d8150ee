"""How the server is doing: plots that the script draws from figures that it asks for every second."""

from __future__ import annotations

import shutil

from s3lite import __version__
from s3lite.console.visit import Visit
from s3lite.errors import Code, S3Error
from s3lite.responses import Response

# Name, title, what the figure is (a running total, of which the rate is drawn; a mean of two totals; a level), unit.
PLOTS = (
    ("requests", "Requests per second", "rate", ""),
    ("seconds", "Milliseconds until an answer", "mean", ""),
    ("errors", "Server errors per second", "rate", ""),
    ("bytes_in", "Bytes in per second", "rate", "bytes"),
    ("bytes_out", "Bytes out per second", "rate", "bytes"),
    ("disk", "Disk in use", "level", "bytes"),
    ("callbacks", "Callbacks per second", "rate", ""),
    ("waiting", "Messages that wait in the outbox", "level", ""),
    ("in_progress", "Requests in progress", "level", ""),
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
    with visit.services.store.catalog.read() as tx:
        waiting = tx.outbox_figures().waiting
    return {
        "disk": shutil.disk_usage(visit.services.settings.data_dir).used,
        "waiting": waiting,
        "errors": totals.get("s3lite_requests_failed", 0),
        "requests": totals.get("s3lite_requests_total", 0),
        "answers": totals.get("s3lite_request_seconds_count", 0),
        "seconds": totals.get("s3lite_request_seconds_sum", 0),
        "bytes_in": totals.get("s3lite_received_bytes_total", 0),
        "bytes_out": totals.get("s3lite_sent_bytes_total", 0),
        "callbacks": totals.get("s3lite_callback_attempts_total", 0),
        "in_progress": totals.get("s3lite_requests_in_progress", 0),
    }
