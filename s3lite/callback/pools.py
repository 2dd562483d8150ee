"""Connections to applications: the one place that uses urllib3.

A connection goes to an address that `EgressPolicy` has judged; SNI, certificate and Host use the name.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from s3lite.callback import sockets
from s3lite.callback.egress import CallbackUrl

IDLE_S = 30.0
"""Seconds that an unused connection is kept."""
FAULTS = (OSError, http.client.HTTPException, HTTPError)
"""What connecting, sending and reading may raise."""
_MAX_POOLS = 64


class _ToAddress:
    """What both kinds of connection share: they go to one address, whatever their host is called."""

    address: tuple[str, int]
    watch: sockets.Watch
    sock: Any
    idle_since = 0.0

    def _new_conn(self) -> sockets.PlainSocket:
        return sockets.connect(self.address, self.watch)

    def arm(self, watch: sockets.Watch) -> None:
        """Put the next exchange, or the connecting, under its limits."""
        self.watch = watch
        if self.sock is not None:
            self.sock.watch = watch


class _PlainConnection(_ToAddress, HTTPConnection):
    def __init__(self, *args: Any, address: tuple[str, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = address


class _TlsConnection(_ToAddress, HTTPSConnection):
    def __init__(self, *args: Any, address: tuple[str, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = address


_Connection = _PlainConnection | _TlsConnection


class _Leasing:
    """Lends connections of a urllib3 pool.

    `urlopen` is not used: it rewrites the request target (``%2f`` to ``%2F``), which must go out
    byte for byte and which the OSS signature covers.
    """

    pool: Any
    _get_conn: Callable[..., Any]
    _put_conn: Callable[[Any], None]

    @contextmanager
    def lease(self, *, fresh: bool) -> Iterator[_Connection]:
        """A connection, perhaps a used one; closed if anything goes wrong, else kept for the next."""
        connection: _Connection = self._get_conn()
        if fresh or time.monotonic() - connection.idle_since > IDLE_S:
            connection.close()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        finally:
            connection.idle_since = time.monotonic()
            self._put_conn(connection)

    def drop_idle(self, before: float) -> bool:
        """Close connections unused since ``before``; True if any stays open."""
        kept: list[_Connection | None] = []
        try:
            while True:
                kept.append(self.pool.get(block=False))
        except Empty:
            pass
        is_any_open = False
        for connection in reversed(kept):  # a stack: the last used goes back on top
            if connection is not None and connection.idle_since <= before:
                connection.close()
            is_any_open |= connection is not None and not connection.is_closed
            self._put_conn(connection)
        return is_any_open


class _PlainPool(_Leasing, urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(_Leasing, urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


Pool = _PlainPool | _TlsPool


class Pools:
    """A pool per scheme, host, checked address and ``Host``; connections idle for 30 s are closed.

    A pool is never closed, only emptied and forgotten: a thread may be about to lease from it.
    """

    def __init__(self, ca_file: str, pool_size: int) -> None:
        self._pool_size = pool_size
        # Without private authorities only when first needed: reading the system's takes 20 ms.
        self._context = sockets.tls_context(ca_file) if ca_file else None
        self._pools: OrderedDict[tuple[str, str, tuple[str, int], str], Pool] = OrderedDict()
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None

    def get(self, url: CallbackUrl, address: tuple[str, int], host: str) -> Pool:
        key = (url.scheme, url.netloc, address, host)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._new(url, address)
            self._pools.move_to_end(key)
            if len(self._pools) > _MAX_POOLS:
                self._pools.popitem(last=False)[1].drop_idle(time.monotonic())
            if self._sweeper is None:
                self._start_sweeper()
        return pool

    def _new(self, url: CallbackUrl, address: tuple[str, int]) -> Pool:
        if url.scheme == "http":
            return _PlainPool(url.host, url.port, maxsize=self._pool_size, address=address)
        if self._context is None:
            self._context = sockets.tls_context()
        return _TlsPool(
            url.host, url.port, maxsize=self._pool_size, address=address, ssl_context=self._context
        )

    def _start_sweeper(self) -> None:
        self._sweeper = threading.Timer(IDLE_S, self._sweep)
        self._sweeper.daemon = True
        self._sweeper.start()

    def _sweep(self) -> None:
        """Close what has idled, forget pools without connections, come back while there are any."""
        with self._lock:
            before = time.monotonic() - IDLE_S
            for key in [key for key, pool in self._pools.items() if not pool.drop_idle(before)]:
                del self._pools[key]
            self._sweeper = None
            if self._pools:
                self._start_sweeper()

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            for pool in self._pools.values():
                pool.drop_idle(time.monotonic())
            self._pools.clear()
