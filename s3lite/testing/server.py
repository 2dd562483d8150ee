"""A live server in threads of the test's own process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3lite.app import Application, create_app
from s3lite.callback.listen import Receiver
from s3lite.core.sweep import Swept, sweep
from s3lite.settings import CallbackSettings, HttpSettings, Settings, StorageSettings, SweepSettings
from s3lite.testing.faults import Faults
from s3lite.times import Clock

if TYPE_CHECKING:
    from socketserver import BaseServer

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"  # noqa: S105  # a credential of throw-away servers
REGION = "us-east-1"

_numbers = itertools.count(1)


def throw_away_settings(directory: Path) -> Settings:
    """Settings of a server that lives as long as a test: fixed credential, no upkeep, no syncs."""
    return Settings(
        data_dir=str(directory),
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        durability="relaxed",
        callback=CallbackSettings(allow=("127.0.0.1",)),
        sweep=SweepSettings(enabled=False),
        http=HttpSettings(access_log=False, key_cache_s=0),
        storage=StorageSettings(reserve_bytes=0),
    )


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A running server. ``callbacks`` records what it reports: use ``callbacks.url()`` as callbackUrl."""

    app: Application
    endpoint: str
    access_key: str
    secret_key: str
    callbacks: Receiver
    faults: Faults = field(default_factory=Faults)

    def client(self, service: str = "s3", **config: Any) -> Any:
        """A boto3 client of this server, made as any other; ``config`` is botocore's. Needs boto3."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(**config),
        )

    def bucket(self, name: str = "", **parameters: Any) -> str:
        """Make a bucket, with CreateBucket's ``parameters``; its name, a new one unless given. Needs boto3."""
        name = name or f"bucket-{next(_numbers)}"
        self.client().create_bucket(Bucket=name, **parameters)
        return name

    def sweep(self) -> Swept:
        """Run upkeep now: lifecycle rules, expired uploads, garbage."""
        return sweep(self.app.services.store)


@contextmanager
def live_server(settings: Settings, *, clock: Clock | None = None) -> Iterator[LiveServer]:
    """Serve ``settings`` on a free loopback port, in threads of this process."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: object) -> None:
            """Silent: tests look at what was answered."""

        def connection_dropped(self, error: BaseException, environ: object = None) -> None:
            """Close, where werkzeug would wait for a next request: faults end connections so."""
            self.close_connection = True

    faults = Faults()
    app = create_app(settings, clock=clock)
    server = make_server("127.0.0.1", 0, faults.wrap(app), threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        with Receiver() as receiver:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            yield LiveServer(app, endpoint, settings.access_key, settings.secret_key, receiver, faults)
    finally:
        _stop(server, thread)
        app.close()


def _stop(server: BaseServer, thread: threading.Thread) -> None:
    server.shutdown()
    thread.join()
    server.server_close()
