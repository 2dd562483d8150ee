"""How gunicorn runs s3lite; sizes come from s3lite's own settings. docs/tuning.md has the reasons."""

import logging
import os
import shutil
import sys
import tempfile
from typing import Any

# Workers count together, in files whose place must be known before prometheus_client is imported.
_COUNTERS = "PROMETHEUS_MULTIPROC_DIR"
if _COUNTERS not in os.environ:
    os.environ[_COUNTERS] = tempfile.mkdtemp(
        prefix="s3lite-metrics-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )

from s3lite import bootstrap
from s3lite.gunicorn_request import Pace
from s3lite.gunicorn_worker import Spread, Worker
from s3lite.ids import Ids
from s3lite.settings import SettingsError, load
from s3lite.times import Clock

try:
    _settings = load()
except SettingsError as error:
    sys.exit(str(error))

bind = _settings.bind
workers = _settings.worker_count
threads = _settings.threads
worker_class = "s3lite.gunicorn_worker.Worker"
Worker.idle_timeout_s = _settings.http.idle_timeout_s
Pace.window_s, Pace.least = _settings.http.idle_timeout_s, _settings.http.least_body_rate
Worker.drain_bytes = _settings.http.drain_bytes
Worker.spread = _spread = Spread()

# A threaded worker's main loop answers for it, so an upload of hours is never taken for a hang.
timeout = 60
graceful_timeout = 60
keepalive = 75  # longer than the 60 s that load balancers keep idle connections
worker_connections = _settings.http.connections
backlog = 2048
# sendfile stays unset: gunicorn 27 takes any value of it for "off".

# Presigned URLs with a callback (two times 5,120 bytes of Base64, percent-encoded) in the query.
limit_request_line = 32 << 10
limit_request_fields = 200
limit_request_field_size = 16 << 10
# S3 metadata names may hold "_". gunicorn drops such headers because "-" and "_" fold together in
# WSGI; here a name that occurs in both spellings is joined with a comma, and every header that
# decides something refuses a joined value.
header_map = "dangerous"

# Workers report that they live through a file; on a disk that syncs uploads it would wait behind them.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None

accesslog = None  # s3lite writes one JSON line per request itself
loglevel = "warning"


def on_starting(_server: Any) -> None:
    """Set the storage up once, before workers race for it, and say how to reach the server."""
    try:
        storage = bootstrap.prepare(_settings, clock=Clock(), ids=Ids())
    except bootstrap.CANNOT_START as error:
        sys.exit(f"s3lite cannot start: {error}")
    storage.catalog.close()
    storage.blobs.close()
    lines = [f"s3lite listens on http://{_settings.bind}", f"  access key  {storage.root.access_key}"]
    if storage.is_new:
        lines.append(f"  secret key  {storage.root.secret_key}   (shown once)")
    if not _settings.access_key:
        lines.append(f"  kept in     {_settings.data_dir}/{bootstrap.CREDENTIALS_FILE}")
    lines.append('  try it      see README.md, "Five minutes"')
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def post_worker_init(worker: Any) -> None:
    """Log to standard error, and start upkeep without waiting for a first request."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    worker.wsgi.start_upkeep()


def child_exit(_server: Any, worker: Any) -> None:
    """Whatever ended a worker, it has no connections any more."""
    _spread.put(worker.age, -1)
    if _settings.metrics.enabled:
        from s3lite.metrics import forget_worker

        forget_worker(worker.pid)


def on_exit(_server: Any) -> None:
    """The counters end with the server."""
    shutil.rmtree(os.environ[_COUNTERS], ignore_errors=True)


def worker_exit(_server: Any, worker: Any) -> None:
    """Hand the sweeper's lease on, and close connections and files."""
    application = getattr(worker, "wsgi", None)
    if application is not None:
        application.close()
