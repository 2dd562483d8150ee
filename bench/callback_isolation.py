"""Isolation: what uploads that wait for a silent application cost those who call none.

    .venv/bin/python bench/callback_isolation.py [--uploaders 200] [--rounds 20] [--seconds 0.5] [--json FILE]

Starts s3lite as shipped, twice, and an application that takes connections and never answers. 200 uploaders
in a process of their own each begin an upload to the first server, with a callback to that application,
every 5 seconds, which is as long as it waits for one: as many as if all of them were waiting all the time.
Plain PUTs and GETs of 4 KiB are measured on both servers in turn, in windows so short that whatever else
the machine does falls on both. The figure is the ratio, to be 0.8 at least: with the circuit breaker as
shipped, with the breaker switched off, and for gates.
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
from contextlib import ExitStack, contextmanager
from itertools import count
from multiprocessing.queues import Queue
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


def upload_for_ever(address: tuple[str, int], port: int, mode: str, number: int, seen: list[str]) -> None:
    """One uploader; notes how each upload was answered."""
    extra = callback_header(port, mode)
    client = Client(Signer(address))
    time.sleep(number % 100 / 100 * PERIOD_S)
    for round_number in count():
        begun = time.monotonic()
        try:
            answer = client.call("PUT", f"/waiting/{number}-{round_number}", b"x", extra=extra)
        except OSError:
            client.close()
            continue
        status = answer.headers.get("x-s3lite-callback-status", "not asked")
        took = "waited" if time.monotonic() - begun > PERIOD_S / 2 else "at once"
        seen.append(f"{answer.status}, {status}, {took}")
        time.sleep(max(begun + PERIOD_S - time.monotonic(), 0))


def uploaders(
    address: tuple[str, int], port: int, mode: str, number: int, ends: Event, told: Queue[dict[str, int]]
) -> None:
    """The process of the uploaders."""
    seen: list[str] = []
    for each in range(number):
        arguments = (address, port, mode, each, seen)
        threading.Thread(target=upload_for_ever, args=arguments, daemon=True).start()
    ends.wait()
    told.put({answer: seen.count(answer) for answer in sorted(set(seen))})


@contextmanager
def crowd(server: Gunicorn, mode: str, number: int, answers: dict[str, int]) -> Iterator[None]:
    """The uploaders and their application, at work."""
    context = multiprocessing.get_context("spawn")
    ends, told = context.Event(), context.Queue()
    with socket.create_server(
        ("127.0.0.1", 0), backlog=4096
    ) as silent:  # it takes connections, and that is all
        port = silent.getsockname()[1]
        arguments = (server.address, port, mode, number, ends, told)
        process = context.Process(target=uploaders, args=arguments, daemon=True)
        process.start()
        try:
            yield
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
    """One case: rates without and beside the crowd, and how its uploads were answered."""
    mode, settings = CASES[case]
    answers: dict[str, int] = {}
    with ExitStack() as stack:
        figures = {}
        for place in ("alone", "beside"):
            (directory / place).mkdir()
            server = stack.enter_context(
                harness.s3lite(directory / place, S3LITE_CALLBACK_ALLOW="127.0.0.1", **settings)
            )
            client = Client(Signer(server.address))
            for bucket in ("plain", "waiting"):
                harness.expect(client.call("PUT", f"/{bucket}"), 200)
            harness.expect(client.call("PUT", "/plain/kept", b"y" * SIZE), 200)
            figures[place] = plain(server)
        stack.enter_context(crowd(server, mode, options.uploaders, answers))
        time.sleep(options.settle)
        rates: dict[str, dict[str, list[float]]] = {
            name: {"alone": [], "beside": []} for name in figures["alone"]
        }
        for number in range(options.rounds):
            for name, found in rates.items():
                for place in ("alone", "beside") if number % 2 else ("beside", "alone"):
                    found[place].append(figures[place][name](options.seconds))
    return {"rates": {name: summary(found) for name, found in rates.items()}, "answers": answers}


def summary(found: dict[str, list[float]]) -> dict[str, float]:
    """Medians, and the median of the ratios of windows that were measured one after the other."""
    alone, beside = found["alone"], found["beside"]
    ratios = [with_it / without for without, with_it in zip(alone, beside, strict=True)]
    return {
        "alone": round(statistics.median(alone)),
        "beside": round(statistics.median(beside)),
        "ratio": round(statistics.median(ratios), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uploaders", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    parser.add_argument("--settle", type=float, default=2 * PERIOD_S + 1, help="seconds before the first")
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
