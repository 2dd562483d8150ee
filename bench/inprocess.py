"""Microseconds of s3lite's own code per request: the WSGI application called in process, without gunicorn.

    .venv/bin/python bench/inprocess.py [--seconds 1] [--only GET,PUT] [--profile] [--lines 25]

Each request is a prebuilt, signed environ as gunicorn and our worker hand it over, raw headers included.
``--profile`` prints cProfile's table for each figure: it multiplies times, so read it for shares only.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import io
import json
import logging
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness
from harness import ACCESS_KEY, KIB, MIB, SECRET_KEY, UNSIGNED, Signer

from s3lite.app import Application, create_app
from s3lite.settings import HttpSettings, Settings, SweepSettings

ADDRESS = ("127.0.0.1", 8000)


class Body(io.BytesIO):
    """``wsgi.input`` with the raw headers that our gunicorn worker leaves there."""

    raw_headers: list[tuple[str, str]]


class FileWrapper:
    """`wsgi.file_wrapper` that sends nothing."""

    def __init__(self, file: Any, _block_size: int) -> None:
        self.close = file.close


class Caller:
    """Calls the application as gunicorn would."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._signer = Signer(ADDRESS)
        self.status = ""

    def environ(
        self, method: str, target: str, body: bytes = b"", *, unsigned: bool = False
    ) -> dict[str, Any]:
        """A signed request; ``wsgi.input`` is to be set by `call`."""
        payload = UNSIGNED if unsigned else hashlib.sha256(body).hexdigest()
        signed = self._signer.headers(method, target, payload=payload)
        headers = {"HOST": signed.pop("host"), "USER-AGENT": "bench", "ACCEPT-ENCODING": "identity"}
        headers |= {name.upper(): value for name, value in signed.items()}
        if body:
            headers["CONTENT-LENGTH"] = str(len(body))
        path, _, query = target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "RAW_URI": target,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SCRIPT_NAME": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": "gunicorn/27",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
            "bench.headers": list(headers.items()),
            "bench.body": body,
        }
        for name, value in headers.items():
            if name != "CONTENT-LENGTH":
                environ["HTTP_" + name.replace("-", "_")] = value
        if body:
            environ["CONTENT_LENGTH"] = str(len(body))
        return environ

    def call(self, environ: dict[str, Any]) -> int:
        """One request; the bytes that were answered. Raises RuntimeError unless it was 2xx."""
        body = Body(environ["bench.body"])
        body.raw_headers = environ["bench.headers"]
        answer = self._app(environ | {"wsgi.input": body}, self._start)
        size = 0
        if not isinstance(answer, FileWrapper):
            for piece in answer:
                size += len(piece)
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        if self.status[:1] != "2":
            raise RuntimeError(self.status)
        return size

    def _start(self, status: str, _headers: list[tuple[str, str]]) -> None:
        self.status = status


Work = Callable[[], Iterator[dict[str, Any]]]


def figures(caller: Caller) -> dict[str, Work]:
    """The requests of each figure, without end."""
    small, big = harness.secrets.token_bytes(4 * KIB), harness.secrets.token_bytes(64 * MIB)
    counter = iter(range(10**9))

    def cycle(method: str, target: str) -> Work:
        def work() -> Iterator[dict[str, Any]]:
            environs = [caller.environ(method, target.format(number)) for number in range(200)]
            while True:
                yield from environs

        return work

    def put(body: bytes, *, unsigned: bool) -> Work:
        def work() -> Iterator[dict[str, Any]]:
            while True:
                yield caller.environ("PUT", f"/bucket/put/{next(counter):08}", body, unsigned=unsigned)

        return work

    def delete() -> Iterator[dict[str, Any]]:
        for number in range(10**9):
            yield caller.environ("DELETE", f"/bucket/put/{number:08}")

    return {
        "GET 4 KiB": cycle("GET", "/bucket/key/{:05}"),
        "HEAD": cycle("HEAD", "/bucket/key/{:05}"),
        "GET file": cycle("GET", "/bucket/file"),
        "PUT 4 KiB": put(small, unsigned=False),
        "DELETE": delete,
        "LIST 1000": cycle("GET", "/bucket?list-type=2&prefix=key%2F"),
        "LIST 100 prefixes": cycle("GET", "/bucket?delimiter=%2F&list-type=2&prefix=tree%2F"),
        "PUT 64 MiB": put(big, unsigned=True),
    }


def prepare(caller: Caller, keys: int) -> None:
    """A bucket with objects of 4 KiB, 100 directories, and one file."""
    caller.call(caller.environ("PUT", "/bucket"))
    body = harness.secrets.token_bytes(4 * KIB)
    for number in range(keys):
        caller.call(caller.environ("PUT", f"/bucket/key/{number:05}", body))
    for number in range(1000):
        caller.call(caller.environ("PUT", f"/bucket/tree/{number % 100:03}/{number}", b"x"))
    caller.call(caller.environ("PUT", "/bucket/file", bytes(MIB), unsigned=True))


def measure(caller: Caller, work: Work, seconds: float) -> tuple[float, float]:
    """µs of a call: the fastest twentieth (what it takes undisturbed) and the mean CPU of all threads."""
    environs = work()
    for _ in range(3):
        caller.call(next(environs))
    samples, cpu_s = [], 0.0
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(samples) < 5:
        environ = next(environs)
        cpu, begun = time.process_time(), time.perf_counter()
        caller.call(environ)
        samples.append(time.perf_counter() - begun)
        cpu_s += time.process_time() - cpu
    samples.sort()
    return samples[len(samples) // 20] * 1e6, cpu_s / len(samples) * 1e6


def profile(caller: Caller, work: Work, seconds: float, lines: int) -> str:
    """cProfile's table by own time."""
    environs = work()
    profiler = cProfile.Profile()
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        environ = next(environs)
        profiler.enable()
        caller.call(environ)
        profiler.disable()
    text = io.StringIO()
    table = pstats.Stats(profiler, stream=text)
    table.strip_dirs().sort_stats("tottime").print_stats(lines)
    return text.getvalue()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    parser.add_argument("--only", default="", help="parts of figures' names, comma-separated")
    parser.add_argument("--keys", type=int, default=9_000, help="small objects, beside 1,000 in directories")
    parser.add_argument("--durability", choices=("full", "relaxed"), default="full")
    parser.add_argument("--no-access-log", action="store_true", help="leave the log line out")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--lines", type=int, default=25, help="of each profile")
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with harness.scratch(options.dir) as directory, (directory / "log").open("w") as log:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=log)
        settings = Settings(
            data_dir=str(directory / "data"),
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            durability=options.durability,
            sweep=SweepSettings(enabled=False),
            http=HttpSettings(access_log=not options.no_access_log),
        )
        app = create_app(settings)
        try:
            found = run(Caller(app), options)
        finally:
            app.close()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def run(caller: Caller, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure each figure that was asked for; µs by name."""
    prepare(caller, options.keys)
    print(f"{'':<20} {'fastest 5 %':>14} {'CPU, mean':>14}   µs per request")
    only = [word.lower() for word in options.only.split(",") if word]
    found = {}
    for name, work in figures(caller).items():
        if only and not any(word in name.lower() for word in only):
            continue
        best, cpu = measure(caller, work, options.seconds)
        found[name] = {"best_us": round(best, 1), "cpu_us": round(cpu, 1)}
        print(f"{name:<20} {best:>14.1f} {cpu:>14.1f}", flush=True)
        if options.profile:
            print(profile(caller, work, options.seconds, options.lines))
    return found


if __name__ == "__main__":
    sys.exit(main())
