"""s3lite as a test double: pytest fixtures for an application in process and for a live server.

Installed as a pytest plugin with the package; without installing, put
``pytest_plugins = ["s3lite.testing"]`` into a conftest.

- ``s3lite_app``: the WSGI application on a temporary directory (``webtest.TestApp(s3lite_app)``).
- ``s3lite_server``: the same behind a real socket on a free port, with a callback recorder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3lite.app import Application, create_app
from s3lite.callback.listen import Receiver
from s3lite.settings import CallbackSettings, HttpSettings, Settings, SweepSettings

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"  # noqa: S105  # a credential of throw-away servers


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
    )


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A running server. ``callbacks`` records what it reports: use ``callbacks.url()`` as callbackUrl."""

    app: Application
    endpoint: str
    access_key: str
    secret_key: str
    callbacks: Receiver


@contextmanager
def live_server(settings: Settings) -> Iterator[LiveServer]:
    """Serve ``settings`` on a free loopback port, in threads of this process."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, type: str, message: str, *args: object) -> None:
            """Silent: tests look at what was answered."""

    app = create_app(settings)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with Receiver() as receiver:
            yield LiveServer(
                app,
                f"http://127.0.0.1:{server.server_port}",
                settings.access_key,
                settings.secret_key,
                receiver,
            )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        app.close()


@pytest.fixture
def s3lite_app(tmp_path: Path) -> Iterator[Application]:
    """The application in process; its root credential is `ACCESS_KEY` and `SECRET_KEY`."""
    app = create_app(throw_away_settings(tmp_path / "s3lite"))
    yield app
    app.close()


@pytest.fixture
def s3lite_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A live server on a free port, with its endpoint, credential and callback recorder."""
    with live_server(throw_away_settings(tmp_path / "s3lite")) as server:
        yield server
