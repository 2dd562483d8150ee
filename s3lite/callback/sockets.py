"""Sockets whose every read and write obeys one deadline, and which take only so many bytes.

A time-out alone starts anew with each byte, so an application that drips its answer would hold a
worker for ever. Here the time-out is set to what is left of the deadline before each operation, in
the handshake, the head and the body alike; no watchdog thread is needed.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from typing import Any

from s3lite.settings import SettingsError


class AnswerTooLongError(OSError):
    """More bytes came than any answer may have."""


class Watch:
    """The limits of one exchange: ``deadline`` (`time.monotonic`) and ``budget`` (received bytes)."""

    __slots__ = ("budget", "deadline", "received")

    def __init__(self, deadline: float, budget: int) -> None:
        self.deadline = deadline
        self.budget = budget
        self.received = 0

    def left(self) -> float:
        """Seconds until the deadline. Raises TimeoutError."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("deadline passed")
        return seconds

    def count(self, size: int) -> int:
        """Account for received bytes. Raises AnswerTooLongError."""
        self.received += size
        if self.received > self.budget:
            raise AnswerTooLongError("too many bytes received")
        return size


class PlainSocket(socket.socket):
    """TCP under a watch."""

    watch: Watch

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(self.watch.left())
        return self.watch.count(super().recv_into(*args, **kwargs))

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(self.watch.left())  # Python takes it for the whole of sendall
        super().sendall(*args, **kwargs)


class TlsSocket(ssl.SSLSocket):
    """TLS under a watch. Python bounds the whole handshake by the time-out that `connect` left."""

    watch: Watch | None = None  # None during the handshake

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.watch is None:
            return super().recv_into(*args, **kwargs)
        self.settimeout(self.watch.left())
        return self.watch.count(super().recv_into(*args, **kwargs))

    def send(self, *args: Any, **kwargs: Any) -> int:
        if self.watch is not None:
            self.settimeout(self.watch.left())
        return super().send(*args, **kwargs)


def connect(address: tuple[str, int], watch: Watch) -> PlainSocket:
    """Connect to exactly this address and make sure that it is the peer. Raises OSError."""
    sock = PlainSocket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.watch = watch
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(watch.left())
        sock.connect(address)
        if ipaddress.ip_address(sock.getpeername()[0]) != ipaddress.ip_address(address[0]):
            raise OSError("connected to another address than the one that was checked")
        sock.settimeout(watch.left())
    except BaseException:
        sock.close()
        raise
    return sock


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """Verification is on and stays on; ``ca_file`` comes on top of the system's authorities.

    Raises SettingsError.
    """
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(f"callback.ca_file: {ca_file!r}: {error}") from error
    context.sslsocket_class = TlsSocket
    return context
