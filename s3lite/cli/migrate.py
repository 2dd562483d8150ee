"""``s3lite migrate``: other storage under a server that goes on reading."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from s3lite.cli.base import CannotRun, Refused, app, note, shared_options
from s3lite.cli.upkeep import progress_bars
from s3lite.ids import Ids
from s3lite.times import Clock

if TYPE_CHECKING:
    pass


@click.command()
@click.option("--to-database-url", metavar="URL", help="Where the index goes; as S3LITE_DATABASE_URL.")
@click.option("--to-blobs-url", metavar="URL", help="Where the bytes go; as S3LITE_BLOBS_URL.")
@click.option("--thaw", is_flag=True, help="Accept changes again, here where the settings point now.")
@shared_options
def migrate(to_database_url: str | None, to_blobs_url: str | None, thaw: bool) -> None:
    """Move index, bytes or both to other storage, and back the same way.

    The settings name the storage to move from. The server may run: bytes are copied beside uploads and
    downloads, then uploads are answered 503 while the index moves, and downloads go on. Every copy is
    read back and compared. A run that was interrupted goes on where it was when it is repeated.

    Afterwards start the server with the new settings and the same key file. The side that was left stays
    frozen, so that nothing is written there by mistake.

    \b
    s3lite migrate --to-database-url postgresql://s3lite@db/s3lite --to-blobs-url 'rados://s3lite?user=s3lite'
    s3lite migrate --thaw          # stay here after all; or, when only bytes were moved, go on there

    Exit code: 0 moved; 1 refused, or something does not match; 2 could not run.
    """
    from s3lite import bootstrap
    from s3lite.core.migrate import Migration, MigrationError
    from s3lite.core.store import Store

    if thaw == bool(to_database_url or to_blobs_url):
        raise click.UsageError("Say where to move to, or --thaw.")
    settings = app().settings
    with app().storage(create=False) as storage, ExitStack() as opened:
        if thaw:
            storage.catalog.freeze(on=False)
            app().emit({"frozen": False}, "The index accepts changes.")
            return
        target = replace(
            settings,
            database_url=to_database_url or "sqlite:///:memory:",
            blobs_url=to_blobs_url or "memory://",
        )
        try:
            catalog, blobs = bootstrap.open_storage(target, clock=Clock())
        except bootstrap.CANNOT_START as error:
            raise CannotRun(str(error)) from error
        opened.callback(catalog.close)
        opened.callback(blobs.close)
        progress = opened.enter_context(progress_bars("bytes", "index"))
        run = Migration(
            Store(storage.catalog, storage.blobs, Clock(), Ids(), settings, storage.keyring),
            catalog=catalog if to_database_url else None,
            blobs=blobs if to_blobs_url else None,
            record=settings.secrets_file.with_name("migrate.copied"),
            title=f"{settings.bytes_url} {target.blobs_url}",
            progress=progress,
        )
        try:
            moved = run.run()
        except MigrationError as error:
            raise Refused(str(error)) from error
    app().emit(
        asdict(moved),
        f"Moved {moved.blobs} blobs with {moved.bytes} bytes, and {moved.rows} rows of the index.",
    )
    note("The index here is frozen now. Start the server with these settings, and the same key file:")
    for name, url in (("DATABASE", to_database_url), ("BLOBS", to_blobs_url)):
        if url:
            note(f"  S3LITE_{name}_URL='{url}'")
    if not to_database_url:
        note("Then accept changes again: s3lite migrate --thaw")
