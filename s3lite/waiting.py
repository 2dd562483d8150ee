"""A word to the server before a request waits, so that others need not wait with it.

A server whose threads take turns (`s3lite.gunicorn_worker`) listens; on other servers nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable


def _nobody() -> None:
    """No server listens."""


_ahead: Callable[[], object] = _nobody
_gather: Callable[[], object] = _nobody


def ahead() -> None:
    """Called before waiting for a client or another server."""
    _ahead()


def gather() -> None:
    """Called before a commit that several requests can share: returns when others have come as far."""
    _gather()


def serve_with(*, ahead: Callable[[], object], gather: Callable[[], object]) -> None:
    """Have these called from now on; a server says so once, for its process."""
    global _ahead, _gather
    _ahead, _gather = ahead, gather
