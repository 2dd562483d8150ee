"""Messages to brokers, through kombu: AMQP, Redis and whatever else it speaks. The one place that uses it.

kombu is optional (``pip install 's3lite[brokers]'``) and imported by the first message. Connections are
kept, one per message being sent, since they may not be shared between threads.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections import defaultdict
from typing import Any

_CONNECT_S = 5.0
INSTALL = "notifications to brokers need kombu: pip install 's3lite[brokers]'"


class BrokerError(Exception):
    """A message was not taken; the text is for the operator."""


def is_installed() -> bool:
    """Whether kombu is there."""
    return "kombu" in sys.modules or importlib.util.find_spec("kombu") is not None  # imported, it has no spec


class Brokers:
    """Sends messages; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[Any]] = defaultdict(list)

    def publish(self, url: str, route: str, body: bytes, *, message_id: str, timeout_s: float) -> None:
        """Hand a message to a broker, durable there where it can be.

        ``route`` is a queue, made when missing, or ``exchange/routing key`` of an exchange that is there.
        Raises BrokerError.
        """
        try:
            import kombu
            from kombu.exceptions import KombuError
        except ImportError:
            raise BrokerError(INSTALL) from None
        connection = self._take(kombu, url)
        faults = (OSError, KombuError, ImportError, *_faults_of(connection))
        try:
            exchange, slash, key = route.partition("/")
            queue = None if slash else kombu.Queue(route, kombu.Exchange(""), routing_key=route, durable=True)
            producer = kombu.Producer(connection.default_channel, auto_declare=False)
            producer.publish(
                body,
                exchange=exchange if slash else "",
                routing_key=key if slash else route,
                declare=[queue] if queue else [],
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode="persistent",
                message_id=message_id,
                headers={"webhook-id": message_id},
                timeout=timeout_s,
                retry=False,
            )
        except faults as error:
            _drop(connection)
            raise BrokerError(f"{type(error).__name__}: {error}".removesuffix(": ")) from error
        except BaseException:
            _drop(connection)
            raise
        with self._lock:
            self._idle[url].append(connection)

    def _take(self, kombu: Any, url: str) -> Any:
        with self._lock:
            if self._idle[url]:
                return self._idle[url].pop()
        # Only AMQP can say that a message is safe; for the others, being taken without an error must do.
        options = {"confirm_publish": True} if url.lower().startswith(("amqp", "pyamqp")) else {}
        return kombu.Connection(url, connect_timeout=_CONNECT_S, transport_options=options)

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        with self._lock:
            idle = [connection for each in self._idle.values() for connection in each]
            self._idle.clear()
        for connection in idle:
            _drop(connection)


def _faults_of(connection: Any) -> tuple[type[Exception], ...]:
    """What the transport may raise; an ImportError when its library is missing is found by sending."""
    try:
        return (*connection.connection_errors, *connection.channel_errors)
    except ImportError:
        return ()


def _drop(connection: Any) -> None:
    try:
        connection.release()
    except Exception:  # noqa: BLE001  # it is given up, whatever state it is in
        return
