"""s3lite as a test double: pytest fixtures for an application in process and for a live server.

Installed as a pytest plugin with the package; without installing, put
``pytest_plugins = ["s3lite.testing"]`` into a conftest. Nothing is faked: signatures, conditions,
limits and errors are the server's own.

- ``s3lite_server``: a server on a free port, with a callback recorder and faults to inject.
- ``s3lite_client``, ``s3lite_bucket``: a boto3 client of it, and a bucket of the test's own.
- ``s3lite_callbacks``, ``s3lite_faults``, ``s3lite_clock``: its recorder, its faults, its clock.
- ``s3lite_app``: the WSGI application without a socket (``webtest.TestApp(s3lite_app)``).

Source: docs/testing.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s3lite.app import Application, create_app
from s3lite.callback.listen import Receiver
from s3lite.testing.clock import StillClock
from s3lite.testing.faults import Faults
from s3lite.testing.server import ACCESS_KEY, REGION, SECRET_KEY, LiveServer, live_server, throw_away_settings

__all__ = [
    "ACCESS_KEY",
    "REGION",
    "SECRET_KEY",
    "Faults",
    "LiveServer",
    "StillClock",
    "live_server",
    "throw_away_settings",
]

_ANY_TIME_S = 1e12  # clients sign by their own clock, which does not follow a `StillClock`


@pytest.fixture
def s3lite_app(tmp_path: Path) -> Iterator[Application]:
    """The application in process; its root credential is `ACCESS_KEY` and `SECRET_KEY`."""
    app = create_app(throw_away_settings(tmp_path / "s3lite"))
    yield app
    app.close()


@pytest.fixture
def s3lite_clock() -> StillClock:
    """The clock of ``s3lite_server``, standing still, in tests that ask for it.

    Times of signatures are then not checked.
    """
    return StillClock()


@pytest.fixture
def s3lite_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveServer]:
    """A live server on a free port, with its endpoint, credential and callback recorder."""
    settings, clock = throw_away_settings(tmp_path / "s3lite"), None
    if "s3lite_clock" in request.fixturenames:
        clock = request.getfixturevalue("s3lite_clock")
        settings = replace(settings, http=replace(settings.http, clock_skew_s=_ANY_TIME_S))
    with live_server(settings, clock=clock) as server:
        yield server


@pytest.fixture
def s3lite_client(s3lite_server: LiveServer) -> Any:
    """A boto3 client of ``s3lite_server``."""
    return s3lite_server.client()


@pytest.fixture
def s3lite_bucket(s3lite_server: LiveServer) -> str:
    """The name of a bucket of this test's own."""
    return s3lite_server.bucket()


@pytest.fixture
def s3lite_callbacks(s3lite_server: LiveServer) -> Receiver:
    """The recorder of ``s3lite_server``'s callbacks."""
    return s3lite_server.callbacks


@pytest.fixture
def s3lite_faults(s3lite_server: LiveServer) -> Faults:
    """What is to go wrong at ``s3lite_server``."""
    return s3lite_server.faults
