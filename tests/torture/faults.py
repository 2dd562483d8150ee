"""Faults by counting: the n-th call that changes the disk fails, for n = 1, 2, … until none is left to fail.

Blobs have a seam for that (`s3lite.blobs.local.System`). SQLite gets one here: the functions that its
VFS opens files with are wrapped in place, so that its own write, sync, truncate, delete and shared
memory can fail as the kernel would let them.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import errno
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torture.crash import Ledger, judge, scratch, survey
from torture.driver import settings
from torture.operations import OPERATIONS, Refused, World, set_up

from s3lite.app import create_app
from s3lite.blobs.local import LocalBlobs, System
from s3lite.callback.listen import Answer, Received, Receiver
from s3lite.errors import S3Error

CODES = (errno.EIO, errno.ENOSPC, errno.EMFILE)
_FULL, _IOERR, _CANTOPEN = 13, 10, 14
_MAIN_DB, _WAL = 0x100, 0x80000


class Plan:
    """Which call fails. Calls are counted only while it is armed."""

    def __init__(self) -> None:
        self.left = 0  # 0: none
        self.code = errno.EIO
        self.hit = ""

    def arm(self, number: int, code: int) -> None:
        """The ``number``-th call from now fails."""
        self.left, self.code, self.hit = number, code, ""

    def disarm(self) -> str:
        """Which call failed; "" when there were not so many."""
        self.left = 0
        return self.hit

    def strikes(self, name: str) -> bool:
        """Whether this call is the one."""
        if self.left > 0:
            self.left -= 1
            if self.left == 0:
                self.hit = name
                return True
        return False


PLAN = Plan()


# ---------------------------------------------------------------- blobs


class CountedSystem(System):
    """The system calls of blobs, which fail as the plan says."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name == "start_write_back":
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if PLAN.strikes(f"blob {name}"):
                raise OSError(PLAN.code, os.strerror(PLAN.code))
            return found(*arguments, **named)

        return call


# ---------------------------------------------------------------- SQLite

_P, _I, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_METHODS = {  # of sqlite3_io_methods, in order; those with a signature are wrapped
    "close": None,
    "read": None,
    "write": (_P, _P, _I, _L),
    "truncate": (_P, _L),
    "sync": (_P, _I),
    "size": None,
    "lock": None,
    "unlock": None,
    "reserved": None,
    "control": None,
    "sector": None,
    "device": None,
    "shm_map": (_P, _I, _I, _I, _P),
    "shm_lock": None,
    "shm_barrier": None,
    "shm_unmap": None,
    "fetch": None,
    "unfetch": None,
}


class _IoMethods(ctypes.Structure):
    _fields_ = (("version", _I), *((name, _P) for name in _METHODS))


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("version", _I),
        ("file_size", _I),
        ("path_length", _I),
        ("next", _P),
        ("name", _P),
        ("data", _P),
        ("open", _P),
        ("delete", _P),
    )


_OPEN = ctypes.CFUNCTYPE(_I, _P, _P, _P, _I, _P)
_DELETE = ctypes.CFUNCTYPE(_I, _P, _P, _I)
_kept: list[object] = []  # callbacks must live as long as SQLite
_wrapped: dict[int, int] = {}  # address of SQLite's methods → address of ours


def _result(name: str) -> int:
    """What SQLite's own VFS would say."""
    if PLAN.code == errno.ENOSPC and name in ("write", "shm_map"):
        return _FULL
    extended = {"write": 3, "sync": 4, "truncate": 6, "delete": 10, "shm_map": 21}
    return _IOERR | extended[name] << 8


def _wrapper(name: str, address: int, signature: tuple[Any, ...]) -> int:
    kind = ctypes.CFUNCTYPE(_I, *signature)
    original = kind(address)

    def call(*arguments: Any) -> int:
        if PLAN.strikes(f"index {name}"):
            return _result(name)
        return int(original(*arguments))

    function = kind(call)
    _kept.extend((original, function))
    return ctypes.cast(function, _P).value or 0


def _methods(address: int) -> int:
    """Our copy of a table of methods."""
    if address not in _wrapped:
        ours = _IoMethods.from_buffer_copy(_IoMethods.from_address(address))
        for name, signature in _METHODS.items():
            if signature is not None and getattr(ours, name):
                setattr(ours, name, _wrapper(name, getattr(ours, name), signature))
        _kept.append(ours)
        _wrapped[address] = ctypes.addressof(ours)
    return _wrapped[address]


def wrap_sqlite() -> None:
    """Wrap the default VFS of this process, once."""
    if _kept:
        return
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    vfs = library.sqlite3_vfs_find(None).contents
    really_open, really_delete = _OPEN(vfs.open), _DELETE(vfs.delete)

    def open_file(which: int, name: int, file: int, flags: int, out: int) -> int:
        concerned = flags & (_MAIN_DB | _WAL)
        if concerned and PLAN.strikes("index open"):
            ctypes.c_void_p.from_address(file).value = None
            return _CANTOPEN
        result = int(really_open(which, name, file, flags, out))
        table = ctypes.c_void_p.from_address(file)
        if result == 0 and concerned and table.value and table.value not in _wrapped.values():
            table.value = _methods(table.value)
        return result

    def delete_file(which: int, name: int, sync: int) -> int:
        return _result("delete") if PLAN.strikes("index delete") else int(really_delete(which, name, sync))

    functions = _OPEN(open_file), _DELETE(delete_file)
    _kept.extend((really_open, really_delete, *functions))
    vfs.open, vfs.delete = (ctypes.cast(function, _P).value for function in functions)


# ---------------------------------------------------------------- the campaign


class Bench:
    """One application on a disk that can be told to fail, and what its client knows."""

    def __init__(self, directory: Path, seed: int, callback_url: str) -> None:
        self.directory = directory
        self.app = create_app(settings(directory / "data"))
        blobs = self.app.services.store.blobs
        assert isinstance(blobs, LocalBlobs)
        blobs.system = CountedSystem()
        self.ledger = Ledger()
        self.chance = random.Random(seed)
        self.world = World(self.app, self.chance, self.ledger.take, callback_url=callback_url)
        set_up(self.world)
        for name in ("put_small", "put_large", "multipart", "versioned_put", "put_encrypted"):
            OPERATIONS[name](self.world)

    def attempt(self, name: str, number: int, code: int) -> tuple[str, list[str]]:
        """Run an operation while its ``number``-th call fails: which call that was, and what is wrong."""
        PLAN.arm(number, code)
        faults = []
        try:
            OPERATIONS[name](self.world)
        except Refused as refusal:
            if refusal.answer.status not in (500, 503):
                faults.append(f"answered {refusal.answer}")
        except (S3Error, OSError):
            pass  # upkeep, which would log it and try again
        except Exception as error:
            faults.append(f"raised {error!r}")
        finally:
            hit = PLAN.disarm()
        seen = survey(self.app)
        faults += self.ledger.compare(seen)
        return hit, faults

    def crashed(self) -> list[str]:
        """What a kill at this moment would leave."""
        with tempfile.TemporaryDirectory(dir=scratch()) as copy:
            shutil.copytree(self.directory / "data", f"{copy}/data", ignore=shutil.ignore_patterns("*-shm"))
            return judge(Path(copy) / "data", self.ledger)

    def settle(self) -> None:
        """Go on from what is there now: nothing is in flight any more."""
        self.ledger.in_flight.clear()
        self.ledger.known = survey(self.app)
        self.world.states = dict(self.ledger.known)


@contextmanager
def bench(directory: Path, seed: int) -> Iterator[Bench]:
    """A `Bench` with somebody who hears its callbacks."""

    def decide(received: Received) -> Answer | None:
        return Answer(status=403) if received.body.endswith(b"=no") else None

    wrap_sqlite()
    with Receiver(on_request=decide) as receiver:
        made = Bench(directory, seed, receiver.url())
        try:
            yield made
        finally:
            PLAN.disarm()
            made.app.close()


def exhaust(
    it: Bench,
    name: str,
    code: int,
    counts: Counter[str],
    *,
    crash_share: float = 1.0,
    go_on: Callable[[], bool] = lambda: True,
) -> list[str]:
    """Fail the first, second, … call of an operation until it has no more; what was wrong, if anything."""
    number = 0
    while go_on():
        number += 1
        hit, faults = it.attempt(name, number, code)
        if not hit:
            return faults
        counts[hit] += 1
        if it.chance.random() < crash_share:
            counts["crashes after"] += 1
            faults += it.crashed()
        if faults:
            return [f"{name}, call {number} ({hit}) {errno.errorcode[code]}: {fault}" for fault in faults[:3]]
        it.settle()
    return []


def campaign(seed: int, deadline: float, counts: Counter[str]) -> list[str]:
    """Every operation, every call, every code, again and again with other data until time is up."""
    findings: list[str] = []
    while time.monotonic() < deadline and not findings:
        with tempfile.TemporaryDirectory(dir=scratch()) as directory, bench(Path(directory), seed) as it:
            jobs = [(name, code) for name in OPERATIONS for code in CODES]
            it.chance.shuffle(jobs)
            for name, code in jobs:
                findings += exhaust(
                    it, name, code, counts, crash_share=0.3, go_on=lambda: time.monotonic() < deadline
                )
                counts["operations"] += 1
        findings = [f"seed {seed}: {finding}" for finding in findings]
        seed += 1000
    return findings
