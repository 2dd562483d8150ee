"""The program that is recorded: one application in process, every operation, alone and then four at a time.

    python -m torture.driver DATA_DIR --seed N --rounds N

What it does and what was acknowledged it writes to /dev/null, where a recording of its calls sees it.
"""

from __future__ import annotations

import argparse
import os
import random
import threading
from pathlib import Path

from torture.disk import MARK
from torture.operations import OPERATIONS, ROOT_KEY, ROOT_SECRET, World, set_up

from s3lite.app import Application, create_app
from s3lite.callback.listen import Answer, Received, Receiver
from s3lite.settings import (
    CallbackSettings,
    HttpSettings,
    LimitSettings,
    MetricsSettings,
    OutboxSettings,
    Settings,
    StorageSettings,
    SweepSettings,
)

THREADS = 4


def settings(data_dir: Path, *, durability: str = "full") -> Settings:
    """Small sizes, so that a recording holds much; upkeep only when it is told."""
    return Settings(
        data_dir=str(data_dir),
        access_key=ROOT_KEY,
        secret_key=ROOT_SECRET,
        durability=durability,
        callback=CallbackSettings(allow=("127.0.0.1",)),
        sweep=SweepSettings(enabled=False, orphan_age_s=0),
        http=HttpSettings(access_log=False),
        metrics=MetricsSettings(enabled=False),
        outbox=OutboxSettings(enabled=False),  # what is queued stays, to be seen after a crash
        limits=LimitSettings(part_min_bytes=1024),
        storage=StorageSettings(
            inline_bytes=4096, buffer_bytes=32 << 10, garbage_grace_s=0, reserve_bytes=64 << 10
        ),
    )


def run(app: Application, *, seed: int, rounds: int) -> None:
    """Everything, in an order that the seed chooses."""
    marker = os.open(os.devnull, os.O_WRONLY)

    def note(text: str) -> None:
        os.write(marker, MARK + text.encode())

    def told(received: Received) -> Answer | None:
        kind, _, name = received.body.decode().partition("=")
        if kind == "op":
            note(f"told {name}")
        return Answer(status=403) if name == "no" else None

    with Receiver(on_request=told) as receiver:
        alone = World(app, random.Random(seed), note, callback_url=receiver.url())
        set_up(alone)
        for _ in range(rounds):
            for name in alone.chance.sample(sorted(OPERATIONS), len(OPERATIONS)):
                OPERATIONS[name](alone)
        threads = [
            threading.Thread(target=_together, args=(app, seed + n, f"t{n}-", rounds, note, receiver.url()))
            for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    note("end")


def _together(app: Application, seed: int, prefix: str, rounds: int, note: object, url: str) -> None:
    world = World(app, random.Random(seed), note, prefix, is_alone=False, callback_url=url)  # type: ignore[arg-type]
    names = sorted(set(OPERATIONS) - {"expire_by_rule"})  # its rules are the bucket's: one at a time
    for _ in range(rounds):
        for name in world.chance.sample(names, len(names)):
            OPERATIONS[name](world)


def main() -> None:
    """Record me."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--durability", default="full")
    parser.add_argument("--recover", action="store_true", help="only start and sweep")
    options = parser.parse_args()
    app = create_app(settings(options.data_dir, durability=options.durability))
    if options.recover:
        OPERATIONS["upkeep"](World(app, random.Random(options.seed)))
        OPERATIONS["checkpoint"](World(app, random.Random(options.seed)))
    else:
        run(app, seed=options.seed, rounds=options.rounds)
    app.close()


if __name__ == "__main__":
    main()
