"""Isolation: what uploads that wait for a silent application cost those who call none.

    .venv/bin/python bench/callback_isolation.py [--uploaders 200] [--rounds 5] [--seconds 1] [--json FILE]

Starts s3lite as shipped and an application that takes connections and never answers. 200 uploaders in a
process of their own each begin an upload with a callback to it every 5 seconds, which is as long as the
server waits for one: as many as if all of them were waiting all the time. Plain PUTs and GETs of 4 KiB are
measured without and with them, in turn. The figure is the ratio, to be 0.8 at least: with the circuit
breaker as shipped, with the breaker switched off, and for gates.
"""

from __future__ import annotations

import argparse
import base64
import json
import multiprocessing
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.synchronize import Event
from pathlib import Path

import harness
from harness import Client, Gunicorn, Load, Signer

PERIOD_S = 5.0  # as callback.timeout_s
CONNECTIONS = 16
SIZE = 4096
CASES = {
    "sync": ("sync", {}),
    "sync, no breaker": ("sync", {"S3LITE_CALLBACK_BREAKER_FAILURES": "0"}),
    "gate": ("gate", {"S3LITE_CALLBACK_GATE_TIMEOUT_S": str(PERIOD_S)}),
}


def callback_header(port: int, mode: str) -> dict[str, str]:
    """The metadata header that carries the callback."""
    document = {
        "callbackUrl": f"http://127.0.0.1:{port}/",
        "callbackBody": "key=${object}",
        "callbackMode": mode,
        "callbackReply": "standard",
    }
    return {"x-amz-meta-callback": base64.b64encode(json.dumps(document).encode()).decode()}


def upload_for_ever(
    address: tuple[str, int], port: int, mode: str, number: int, go: Event, seen: list[str]
) -> None:
    """One uploader; notes how each upload was answered."""
    extra = callback_header(port, mode)
    client = Client(Signer(address))
    time.sleep(number % 100 / 100 * PERIOD_S)
    for round_number in count():
        if not go.is_set():
            client.close()
            go.wait()
        begun = time.monotonic()
        try:
            answer = client.call("PUT", f"/waiting/{number}-{round_number}", b"x", extra=extra)
        except OSError:
            client.close()
            continue
        status = answer.headers.get("x-s3lite-callback-status", "")
        took = "waited" if time.monotonic() - begun > PERIOD_S / 2 else "at once"
        seen.append(f"{answer.status} {status} {took}")
        time.sleep(max(begun + PERIOD_S - time.monotonic(), 0))


def uploaders(
    address: tuple[str, int], port: int, mode: str, number: int, go: Event, ends: Event, told: object
) -> None:
    """The process of the uploaders: they work while ``go`` is set."""
    seen: list[str] = []
    for each in range(number):
        arguments = (address, port, mode, each, go, seen)
        threading.Thread(target=upload_for_ever, args=arguments, daemon=True).start()
    ends.wait()
    told.put({answer: seen.count(answer) for answer in sorted(set(seen))})  # type: ignore[attr-defined]


@contextmanager
def crowd(server: Gunicorn, mode: str, number: int, answers: dict[str, int]) -> Iterator[Event]:
    """The uploaders and their application; the event lets them work."""
    context = multiprocessing.get_context("spawn")
    go, ends, told = context.Event(), context.Event(), context.Queue()
    with socket.create_server(
        ("127.0.0.1", 0), backlog=1024
    ) as silent:  # it takes connections, and that is all
        port = silent.getsockname()[1]
        arguments = (server.address, port, mode, number, go, ends, told)
        process = context.Process(target=uploaders, args=arguments, daemon=True)
        process.start()
        try:
            yield go
        finally:
            ends.set()
            answers.update(told.get(timeout=30))
            process.join(10)


def plain(server: Gunicorn) -> dict[str, Callable[[float], float]]:
    """The figures of those who call no application."""
    signer = Signer(server.address)
    body = b"y" * SIZE
    names = count()

    def puts() -> Iterator[bytes]:
        for name in names:
            yield signer.head("PUT", f"/plain/{name}", payload=harness.UNSIGNED, length=SIZE) + body

    def gets() -> Iterator[bytes]:
        while True:
            yield signer.head("GET", "/plain/kept")

    def rate(requests: Callable[[], Iterator[bytes]]) -> Callable[[float], float]:
        def measure(seconds: float) -> float:
            done, took = Load(server.address, CONNECTIONS).run(requests(), seconds)
            return done / took

        return measure

    return {"PUT 4 KiB": rate(puts), "GET 4 KiB": rate(gets)}


def measured(directory: Path, case: str, options: argparse.Namespace) -> dict[str, object]:
    """One case: rates without and with the crowd, and how its uploads were answered."""
    mode, settings = CASES[case]
    answers: dict[str, int] = {}
    with harness.s3lite(directory, S3LITE_CALLBACK_ALLOW="127.0.0.1", **settings) as server:
        client = Client(Signer(server.address))
        for bucket in ("plain", "waiting"):
            harness.expect(client.call("PUT", f"/{bucket}"), 200)
        harness.expect(client.call("PUT", "/plain/kept", b"y" * SIZE), 200)
        figures = plain(server)
        alone: dict[str, list[float]] = {name: [] for name in figures}
        beside: dict[str, list[float]] = {name: [] for name in figures}
        with crowd(server, mode, options.uploaders, answers) as go:
            for _ in range(options.rounds):
                for name, measure in figures.items():
                    go.clear()
                    time.sleep(options.settle)
                    alone[name].append(measure(options.seconds))
                    go.set()
                    time.sleep(options.settle)
                    beside[name].append(measure(options.seconds))
    ratios = {
        name: {
            "alone": round(statistics.median(alone[name])),
            "beside": round(statistics.median(beside[name])),
            "ratio": round(
                statistics.median(b / a for a, b in zip(alone[name], beside[name], strict=True)), 3
            ),
        }
        for name in figures
    }
    return {"rates": ratios, "answers": answers}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uploaders", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--settle", type=float, default=PERIOD_S + 1, help="seconds before each")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--dir", help="where to keep the data; default: the temporary directory")
    parser.add_argument("--json", help="write the figures here, too")
    options = parser.parse_args()
    found: dict[str, object] = {}
    with harness.scratch(options.dir) as directory:
        for number, case in enumerate(options.cases):
            place = directory / str(number)
            place.mkdir()
            result = found[case] = measured(place, case, options)
            print(f"{case}: {options.uploaders} uploaders")
            for name, line in result["rates"].items():  # type: ignore[attr-defined]
                print(
                    f"  {name:<10} {line['alone']:>7}/s alone  {line['beside']:>7}/s beside  {line['ratio']:.2f}"
                )
            for answer, times in result["answers"].items():  # type: ignore[attr-defined]
                print(f"  {times:>6} x {answer}")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
