"""``s3lite backup`` and ``s3lite restore``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import click

from s3lite.cli.base import CannotRun, Refused, app, note, shared_options
from s3lite.cli.upkeep import progress_bars, store_of
from s3lite.times import Clock


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--base",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="An earlier backup on the same file system: its files are linked, not copied.",
)
@click.option("--with-keyring", is_flag=True, help="Also copy the keys of encrypted objects. Keep it apart.")
@shared_options
def backup(directory: Path, base: Path | None, with_keyring: bool) -> None:
    """Copy index and bytes to DIRECTORY, as of one moment, while the server works.

    Into an earlier backup only what is new is copied, and what is no longer needed removed; if the run is
    interrupted, the earlier one stays good. The key that secrets in the index are sealed with is part of it.

    \b
    s3lite backup /backups/s3lite
    s3lite backup /backups/tuesday --base /backups/monday

    Exit code: 0 done; 1 refused, or bytes are missing; 2 could not run.
    """
    from s3lite import bootstrap
    from s3lite.core import backup as backups

    settings = app().settings
    _need_sqlite(settings.index_url)
    keys = [settings.secrets_file, Path(settings.data_dir) / "root-credentials.json"]
    if with_keyring:
        keys.append(settings.keyring_file)
    with app().storage(create=False) as storage, progress_bars("bytes") as advance:
        try:
            done = backups.make(
                store_of(storage),
                directory,
                open_index=lambda path: bootstrap.open_copy(settings, path, clock=Clock()),
                keys=tuple(keys),
                base=base,
                progress=lambda at, total: advance("bytes", at, total) if advance else None,
            )
        except backups.BackupError as error:
            raise Refused(str(error)) from None
    if not with_keyring and settings.keyring_file.is_file():
        note(f"{settings.keyring_file} is not in the backup; without it encrypted objects cannot be read.")
    app().emit(
        asdict(done),
        f"{done.blobs} blobs: {done.copied} copied ({done.bytes} bytes), {done.linked} linked, "
        f"{done.blobs - done.copied - done.linked} there already; {done.removed} old ones removed.",
    )


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@shared_options
def restore(directory: Path) -> None:
    """Put the backup in DIRECTORY into the data directory, which must be empty, and check it.

    The backup stays as it is. Storage other than files comes afterwards, by `s3lite migrate`.

    Exit code: 0 restored and clean; 1 refused, or faults were found; 2 could not run.
    """
    from s3lite.core import backup as backups
    from s3lite.core.check import Check

    settings = app().settings
    _need_sqlite(settings.index_url)
    if settings.blobs_url:
        raise CannotRun(
            "Restore to files (blobs_url empty), then move them: `s3lite migrate --to-blobs-url URL`."
        )
    with progress_bars("bytes") as advance:
        try:
            done = backups.restore(
                directory,
                Path(settings.data_dir),
                progress=lambda at, total: advance("bytes", at, total) if advance else None,
            )
        except backups.BackupError as error:
            raise Refused(str(error)) from None
    with app().storage(create=False) as storage:
        faults = list(Check(store_of(storage)).faults())
    for fault in faults:
        with suppress(ValueError):
            note(f"{fault.kind}  {fault.subject}  {fault.message}")
    document = asdict(done) | {"faults": [asdict(fault) for fault in faults]}
    app().emit(document, f"{done.blobs} blobs ({done.bytes} bytes) restored, {len(faults)} faults.")
    if faults:
        raise SystemExit(1)
    note("Names and sizes are right. `s3lite check --deep` compares every byte.")


def _need_sqlite(url: str) -> None:
    if not url.startswith("sqlite:///") or url.endswith(":memory:"):
        raise CannotRun(
            "The index is in PostgreSQL: pg_dump backs it up, before the bytes (docs/operations.md)."
        )
