"""Many connections at once: idle ones, slow uploads and waiting callbacks, and quick requests between them.

.venv/bin/python bench/connections.py [--json FILE]
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import harness
from figures import Figures
from harness import MIB, Gunicorn, Load, Signer

_IDLE, _SLOW, _CALLBACKS = 1000, 200, 200
_SIZE = 4 * MIB


class Application:
    """Receives callbacks and answers them when it is told to."""

    def __init__(self) -> None:
        self._release = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self.waiting = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            self.waiting += 1
            self._release.wait(60)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    def answer(self) -> None:
        """Answer all, and those to come."""
        self._release.set()


def _state(server: Gunicorn, load: Load, heads: list[bytes], seconds: float) -> dict[str, float]:
    load.latencies_s.clear()
    done, took = load.run(itertools.cycle(heads), seconds)
    threads = sum(len(os.listdir(f"/proc/{pid}/task")) for pid in server.workers())
    return {
        "rate": done / took,
        "p50_ms": load.latency_ms(0.5),
        "p99_ms": load.latency_ms(0.99),
        "memory_mib": server.memory_mib(),
        "threads": threads,
    }


def _open(stack: ExitStack, address: tuple[str, int], request: bytes) -> socket.socket:
    connection = stack.enter_context(closing(socket.create_connection(address, 60)))
    connection.sendall(request)
    return connection


def measure(directory: Path, *, seconds: float = 2.0) -> dict[str, dict[str, float]]:
    """Quick GETs at 8 connections while more and more others wait; at last all are answered."""
    directory = directory / "connections"
    directory.mkdir()
    application = Application()
    found: dict[str, dict[str, float]] = {}
    with harness.s3lite(directory, S3LITE_CALLBACK_ALLOW="127.0.0.1") as server, ExitStack() as stack:
        signer, address = Signer(server.address), server.address
        bench = Figures(signer, big=MIB, keys=1000)
        bench.prepare()
        load = Load(address, 8)
        heads = [signer.head("GET", f"/{bench.bucket}/list/{number:06}") for number in range(0, 1000, 7)]
        found["nothing else"] = _state(server, load, heads, seconds)
        health = b"GET /.s3lite/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        idle = [_open(stack, address, health) for _ in range(_IDLE)]
        assert all(b" 200 " in connection.recv(4096) for connection in idle)
        found[f"+ {_IDLE} idle connections"] = _state(server, load, heads, seconds)
        slow = []
        for number in range(_SLOW):
            target = f"/{bench.bucket}/slow-{number}"
            head = signer.head("PUT", target, payload=harness.UNSIGNED, length=_SIZE)
            slow.append(_open(stack, address, head + bytes(_SIZE // 2)))
        found[f"+ {_SLOW} slow uploads"] = _state(server, load, heads, seconds)
        callback = base64.b64encode(
            json.dumps({"callbackUrl": application.url, "callbackBody": "{}"}).encode()
        ).decode()
        called = []
        for number in range(_CALLBACKS):
            target = f"/{bench.bucket}/called-{number}"
            signed = signer.headers("PUT", target, extra={"x-amz-meta-callback": callback})
            lines = [f"PUT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in signed.items())]
            called.append(_open(stack, address, "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode()))
        deadline = time.monotonic() + 3
        while application.waiting < _CALLBACKS and time.monotonic() < deadline:
            time.sleep(0.05)
        found[f"+ {application.waiting} waiting callbacks"] = _state(server, load, heads, seconds)
        application.answer()
        for connection in slow:
            connection.sendall(bytes(_SIZE - _SIZE // 2))
        answers = [connection.recv(65536) for connection in (*slow, *called)]
        found["answered"] = {
            "uploads": sum(b" 200 " in answer[:20] for answer in answers[:_SLOW]),
            "callbacks": sum(b" 200 " in answer[:20] for answer in answers[_SLOW:]),
        }
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="per line")
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with harness.scratch(options.dir) as directory:
        found: dict[str, Any] = measure(directory, seconds=options.seconds)
    for name, line in found.items():
        print(f"{name:<24}", *(f"{key} {value:,.2f}" for key, value in line.items()), sep="  ")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
