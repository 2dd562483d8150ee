"""``s3lite keyring``: the keys that objects' keys are sealed under."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from s3lite.cli.base import App, Refused, app, note, printable, shared_options
from s3lite.cli.upkeep import progress_bars
from s3lite.ids import Ids
from s3lite.times import Clock

if TYPE_CHECKING:
    from s3lite.core.store import Store


@click.group()
@shared_options
def keyring() -> None:
    """Keys of server-side encryption (docs/encryption.md).

    The keyring is a file, DATA_DIR/keyring.json unless encryption.keyring names another. Objects under its
    keys cannot be read without it: keep a copy where the backups of the data are not.

    \b
    s3lite keyring add reports --alias quarterly   a key for aws:kms
    s3lite keyring add aws/s3                      that of aws:kms without a key id
    s3lite keyring rotate sse-s3                   the key of SSE-S3
    """


@keyring.command("list")
@shared_options
def keyring_list() -> None:
    """List keys, and how many objects and open uploads are sealed under each generation."""
    from s3lite.core.sealing import KEYRING_SETTING
    from s3lite.crypto.keyring import reference

    with _open() as store:
        with store.catalog.read() as tx:
            counted, known = tx.count_by_master(), tx.setting(KEYRING_SETTING)
        ring = store.keyring
        rows: list[dict[str, object]] = []
        for name in ring.names():
            key = ring.key(name)
            for number, each in enumerate(key.generations, start=1):
                rows.append(
                    {
                        "key": name,
                        "aliases": list(key.aliases),
                        "generation": each.id,
                        "created": each.created,
                        "seals": number == len(key.generations),
                        "objects": counted.pop(reference(name, each), 0),
                    }
                )
    app().emit_table(
        rows,
        {
            "key": "Key",
            "aliases": "Aliases",
            "generation": "Generation",
            "created": "Created",
            "seals": "Seals new",
            "objects": "Objects",
        },
    )
    if known is not None and known.decode() != ring.id:
        note(f"{ring.path} is missing, or not the keyring that this installation was used with.")
    for ref, number in counted.items():
        note(f"{number} objects need {printable(ref)}, which the keyring lacks: they cannot be read.")
    if counted or (known is not None and known.decode() != ring.id):
        raise SystemExit(1)


@keyring.command("add")
@click.argument("name", required=False)
@click.option(
    "--alias", "aliases", multiple=True, help="A further name, used as alias/NAME. May be repeated."
)
@shared_options
def keyring_add(name: str | None, aliases: tuple[str, ...]) -> None:
    """Make a key.

    NAME is the key id that clients give with aws:kms; without one, an id is made up. Running servers know
    the key at once.
    """
    from s3lite.core.sealing import check_installation

    with _open() as store:
        check_installation(store)
        made = store.keyring.add(name or Ids().request().lower(), aliases)
    app().emit(
        {"key": made.name, "aliases": list(made.aliases), "generation": made.generations[-1].id},
        f"Made the key {made.name}. Copy {store.keyring.path} to a safe place.",
    )


@keyring.command("rotate")
@click.argument("name")
@shared_options
def keyring_rotate(name: str) -> None:
    """Give a key a new generation, and seal the keys of all its objects anew.

    The bytes of objects are not touched, and the server may be running. Earlier generations stay in the
    file: uploads in flight and backups of the index need them. An interrupted run is finished by
    `s3lite keyring rekey`.
    """
    from s3lite.core.sealing import check_installation

    with _open() as store:
        check_installation(store)
        store.keyring.rotate(name)
        _rekey(app(), store, name)


@keyring.command("rekey")
@click.argument("name")
@shared_options
def keyring_rekey(name: str) -> None:
    """Seal anew what is still under earlier generations of a key."""
    with _open() as store:
        _rekey(app(), store, name)


@keyring.command("adopt")
@shared_options
def keyring_adopt() -> None:
    """Take the present file for this installation's keyring, after the right one was lost for good.

    Objects under keys that the file lacks stay unreadable. Without a file, one is made.
    """
    from s3lite.core.sealing import KEYRING_SETTING
    from s3lite.crypto.keyring import SSE_S3

    with _open() as store:
        store.keyring.ensure(SSE_S3)
        found = store.keyring.id
        store.catalog.write(lambda tx: tx.put_setting(KEYRING_SETTING, found.encode()))
    app().emit({"keyring": found}, f"{store.keyring.path} is this installation's keyring from now on.")


def _rekey(state: App, store: Store, name: str) -> None:
    from s3lite.core.rekey import rekey

    with progress_bars("objects") as advance:
        done = rekey(
            store,
            name,
            progress=lambda at, total: advance("objects", at, total) if advance else None,
        )
    newest = store.keyring.key(name).generations[-1].id
    state.emit(
        {"key": name, "generation": newest, "sealed": done.sealed, "failed": list(done.failed)},
        f"{done.sealed} objects and uploads are sealed under generation {newest} of {name} now.",
    )
    for each in done.failed:
        note(f"could not be opened: {each}")
    if done.failed:
        raise SystemExit(1)


@contextmanager
def _open() -> Iterator[Store]:
    """The store, with faults of the keyring as refusals."""
    from s3lite.core.store import Store
    from s3lite.crypto.keyring import KeyringError

    with app().storage() as storage:
        try:
            yield Store(storage.catalog, storage.blobs, Clock(), Ids(), app().settings, storage.keyring)
        except KeyringError as error:
            raise Refused(f"{error}.") from error
