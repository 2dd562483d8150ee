"""``s3lite doctor``: everything that commonly keeps a server from working, looked at, with what to do."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from s3lite.cli.base import Refused, app, shared_options
from s3lite.settings import Settings, SettingsError, is_loopback
from s3lite.times import Clock

OK, WARNING, FAULT = "ok", "warning", "fault"
_MARKS = {OK: "✓", WARNING: "!", FAULT: "✗"}
_LITTLE_ROOM = 1 << 30
_EARLIEST_S = 1_735_689_600  # 2025: a clock before this was never set


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``do`` is the next step, "" when there is none."""

    what: str
    state: str
    found: str
    do: str = ""


@click.command()
@shared_options
def doctor() -> None:
    """Look for what keeps a server from working: settings, files, clock, engines, callbacks.

    Changes nothing. Exit code 1 when something is broken; warnings alone are 0.

    \b
    s3lite doctor
    S3LITE_DATA_DIR=/var/lib/s3lite s3lite doctor --json
    """
    findings = list(_look())
    lines = []
    for each in findings:
        lines.append(f"{_MARKS[each.state]} {each.what:<12} {each.found}")
        if each.do:
            lines.append(f"  {'':<12} → {each.do}")
    app().emit([asdict(each) for each in findings], "\n".join(lines))
    broken = sum(each.state == FAULT for each in findings)
    if broken:
        raise Refused(f"{broken} of {len(findings)} checks found something broken.")


def _look() -> Iterator[Finding]:
    try:
        settings = app().settings
    except SettingsError as error:
        yield Finding("settings", FAULT, str(error), "docs/settings.md lists every setting.")
        return
    yield Finding("settings", OK, "complete and consistent")
    for check in (_data_dir, _files, _room, _clock, _engines, _server, _egress, _exposure):
        try:
            yield from check(settings)
        except Exception as error:  # noqa: BLE001  # whatever a check meets is what it found
            yield Finding(check.__name__.strip("_"), FAULT, f"{type(error).__name__}: {error}")


def _data_dir(settings: Settings) -> Iterator[Finding]:
    where = Path(settings.data_dir).resolve()
    if not where.exists():
        yield Finding("data", WARNING, f"{where} does not exist yet", "The first start makes it.")
        return
    if not os.access(where, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("data", FAULT, f"{where} is not writable here", "Run this as the user of the server.")
        return
    mode = stat.S_IMODE(where.stat().st_mode)
    if mode & 0o077:
        yield Finding("data", WARNING, f"{where} is open to others ({mode:o})", f"chmod 700 {where}")
    else:
        yield Finding("data", OK, str(where))


def _files(settings: Settings) -> Iterator[Finding]:
    where = Path(settings.data_dir)
    for name in ("secret.key", "keyring.json", "root-credentials.json"):
        path = where / name
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            state = WARNING if mode & 0o077 else OK
            found = f"mode {mode:o}" + (", open to others" if state is WARNING else "")
            yield Finding(name, state, found, f"chmod 600 {path}" if state is WARNING else "")


def _room(settings: Settings) -> Iterator[Finding]:
    where = Path(settings.data_dir).resolve()
    while not where.exists():
        where = where.parent
    usage = shutil.disk_usage(where)
    inodes = os.statvfs(where)
    free = f"{usage.free / (1 << 30):.1f} GiB free, {inodes.f_favail:,} files"
    is_little = usage.free < _LITTLE_ROOM or (inodes.f_files and inodes.f_favail < 10_000)
    yield Finding(
        "room", WARNING if is_little else OK, free, "Uploads end with 503 at zero." if is_little else ""
    )


def _clock(settings: Settings) -> Iterator[Finding]:
    now = Clock().time()
    index = Path(settings.data_dir) / "index.db-wal"
    ahead = index.stat().st_mtime - now if index.exists() else 0.0
    if now < _EARLIEST_S or ahead > 60:
        found = "was never set" if now < _EARLIEST_S else f"is {ahead:.0f} s behind the index"
        yield Finding("clock", FAULT, found, "Signatures need the right time: run an NTP client.")
    else:
        yield Finding("clock", OK, "plausible")


def _engines(settings: Settings) -> Iterator[Finding]:
    if not app().is_installed():
        yield Finding("storage", WARNING, "nothing is stored yet")
        return
    with app().storage(create=False) as storage:
        faults = storage.catalog.quick_check()
        if faults:
            yield Finding("index", FAULT, faults[0], "Restore a backup, or ask with `s3lite check`.")
        else:
            yield Finding("index", OK, settings.index_url.partition(":")[0] + ", structure sound")
        storage.blobs.ready()
        yield Finding("bytes", OK, settings.bytes_url.partition(":")[0] + ", a byte written and discarded")


def _server(settings: Settings) -> Iterator[Finding]:
    host, _, port = settings.bind.rpartition(":")
    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '[::]', '') else host}:{port}/.s3lite/ready"  # noqa: S104
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=3) as answer:
            yield Finding("server", OK, f"{settings.bind} answers {answer.read(100).decode().strip()}")
    except urllib.error.HTTPError as error:
        yield Finding("server", FAULT, f"{settings.bind} answers {error.code}", "Look at the server's log.")
    except OSError:
        yield from _port(settings, host.strip("[]"), int(port))


def _port(_settings: Settings, host: str, port: int) -> Iterator[Finding]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            yield Finding(
                "server", FAULT, f"{host}:{port}: {error}", "Choose another address in S3LITE_BIND."
            )
            return
    yield Finding("server", WARNING, "does not run", "make serve")


def _egress(settings: Settings) -> Iterator[Finding]:
    for entry in settings.callback.allow:
        yield from _resolved(entry)
    if not settings.callback.allow:
        yield Finding("callbacks", OK, "public addresses only", "")


def _resolved(entry: str) -> Iterator[Finding]:
    host = entry if _is_network(entry) else entry.rpartition(":")[0] or entry
    if _is_network(host) or host.startswith("*."):
        yield Finding("callbacks", OK, f"{entry} is allowed")
        return
    try:
        socket.getaddrinfo(host.strip("[]"), None)
    except OSError as error:
        yield Finding("callbacks", WARNING, f"{entry}: {error}", "Callbacks to this name will fail.")
    else:
        yield Finding("callbacks", OK, f"{entry} is allowed, and resolves")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return False
    return True


def _exposure(settings: Settings) -> Iterator[Finding]:
    host = settings.bind.rpartition(":")[0]
    if not is_loopback(host.strip("[]")) and not settings.http.trusted_proxies:
        yield Finding(
            "exposure",
            WARNING,
            "reachable from other machines over plain HTTP",
            "Put a proxy with TLS in front and name it in http.trusted_proxies (docs/operations.md).",
        )
