"""A name server on loopback whose answers change, and a getaddrinfo that asks it: for tests of rebinding."""

from __future__ import annotations

import ipaddress
import itertools
import socket
import struct
import threading
from typing import Any

_A, _AAAA, _IN = 1, 28, 1


class NameServer:
    """Answers A and AAAA over UDP, with a time to live of 0.

    ``zone`` maps a name to the answers of one look-up after the other, each a list of addresses; the last one
    stays. ``lookups`` are the names that were asked for, in order.
    """

    def __init__(self, zone: dict[str, list[list[str]]]) -> None:
        self.zone = zone
        self.lookups: list[str] = []
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._sock.getsockname()
        self._ids = itertools.count(1)
        self._system = socket.getaddrinfo

    def __enter__(self) -> NameServer:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.sendto(b"", self.address)
        self._sock.close()

    # ------------------------------------------------------------ the server

    def _serve(self) -> None:
        while True:
            try:
                query, peer = self._sock.recvfrom(512)
                if not query:
                    return
                self._sock.sendto(self._answer(query), peer)
            except OSError:
                return

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind = struct.unpack_from("!H", query, at + 1)[0]
        name = ".".join(labels).lower()
        if kind == _A:
            self.lookups.append(name)
        turns = self.zone.get(name, [])
        turn = turns[min(self.lookups.count(name), len(turns)) - 1] if turns else []
        wanted = [ipaddress.ip_address(text) for text in turn]
        found = [address.packed for address in wanted if (address.version == 4) is (kind == _A)]
        head = query[:2] + struct.pack("!HHHHH", 0x8580 if turns else 0x8583, 1, len(found), 0, 0)
        rows = [struct.pack("!HHHIH", 0xC00C, kind, _IN, 0, len(packed)) + packed for packed in found]
        return head + query[12 : at + 5] + b"".join(rows)

    # ------------------------------------------------------------ who asks it

    def getaddrinfo(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        """As the system's, which gets addresses and names outside of ``.test``. Raises socket.gaierror."""
        name = host.removesuffix(".")
        if not name.lower().endswith(".test"):
            return self._system(host, port, *args, **kwargs)
        found = [text for kind in (_A, _AAAA) for text in self._ask(name, kind)]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = [socket.AF_INET6 if ":" in text else socket.AF_INET for text in found]
        return [
            (family, socket.SOCK_STREAM, 6, "", (text, port))
            for family, text in zip(families, found, strict=True)
        ]

    def _ask(self, name: str, kind: int) -> list[str]:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = struct.pack("!HHHHHH", next(self._ids) & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels
        query += struct.pack("!BHH", 0, kind, _IN)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            sock.sendto(query, self.address)
            answer = sock.recv(4096)
        assert answer[:2] == query[:2]
        at, found = len(query), []
        for _ in range(struct.unpack_from("!H", answer, 6)[0]):
            size = struct.unpack_from("!H", answer, at + 10)[0]
            found.append(str(ipaddress.ip_address(answer[at + 12 : at + 12 + size])))
            at += 12 + size
        return found
