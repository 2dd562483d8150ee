"""What commands share: options, the open installation, errors, and output in both forms."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from s3lite.ids import Ids
from s3lite.settings import Settings, load
from s3lite.times import Clock, rfc3339

if TYPE_CHECKING:
    from s3lite.bootstrap import Storage
    from s3lite.errors import S3Error

F = TypeVar("F", bound=Callable[..., Any])


class Refused(click.ClickException):
    """The command was understood and cannot be done; the message says what to do instead."""

    exit_code = 1


class CannotRun(click.ClickException):
    """Settings or storage keep the command from running."""

    exit_code = 2


@dataclass(slots=True)
class App:
    """The state of one invocation; `app()` finds it from anywhere in a command."""

    config: str | None = None
    as_json: bool = False
    _settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """As the server reads them. Raises SettingsError."""
        if self._settings is None:
            self._settings = load(self.config)
        return self._settings

    def is_installed(self) -> bool:
        """True when the data directory has been used before."""
        from s3lite import bootstrap

        return bootstrap.is_installed(self.settings)

    @contextmanager
    def storage(self, *, create: bool = True) -> Iterator[Storage]:
        """The installation, closed afterwards. A missing one is made, unless ``create`` is false."""
        from s3lite import bootstrap
        from s3lite.catalog.base import CatalogBusyError
        from s3lite.catalog.schema import SchemaError
        from s3lite.catalog.secrets import SecretsError

        where = Path(self.settings.data_dir).resolve()
        if not create and not self.is_installed():
            raise CannotRun(
                f"There is no installation in {where}. Name its directory in S3LITE_DATA_DIR or with --config."
            )
        try:
            storage = bootstrap.prepare(self.settings, clock=Clock(), ids=Ids())
            try:
                if storage.is_new:
                    note(
                        f"New installation in {where}. The root key {storage.root.access_key} and its secret "
                        f"are in {bootstrap.CREDENTIALS_FILE} there."
                    )
                yield storage
            finally:
                storage.catalog.close()
                storage.blobs.close()
        except CatalogBusyError as error:
            raise CannotRun(f"The index is busy, or cannot be reached. Try again. ({error})") from None
        except (SchemaError, SecretsError) as error:
            raise CannotRun(str(error)) from error

    def emit(self, document: object, text: str) -> None:
        """The result: ``document`` as JSON, or ``text``."""
        click.echo(json.dumps(document, indent=1, ensure_ascii=False) if self.as_json else text)

    def emit_table(self, rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> None:
        """A list: ``rows`` as JSON, or a table of the ``columns`` (name in the row → heading)."""
        if self.as_json:
            self.emit(rows, "")
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in columns.values():
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(row[name])) for name in columns))
        # Piped tables keep one line per row, whatever its length.
        Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def app() -> App:
    """The `App` of this invocation."""
    return click.get_current_context().find_root().ensure_object(App)


def shared_options(function: F) -> F:
    """Adds --config and --json, accepted before and behind the name of a command."""

    def set_config(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            ctx.find_root().ensure_object(App).config = value

    def set_json(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            ctx.find_root().ensure_object(App).as_json = True

    decorate_json = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=set_json,
        help="Print the result as JSON.",
    )
    decorate_config = click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False),
        expose_value=False,
        is_eager=True,
        callback=set_config,
        help="Settings file, instead of conf/s3lite.toml.",
    )
    return decorate_config(decorate_json(function))


def note(text: str) -> None:
    """Something to know that is not the result: on standard error."""
    click.echo(printable(text), err=True)


def printable(text: str) -> str:
    """``text`` without characters that act on a terminal: names may have been chosen by anybody."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def when(epoch_ms: int) -> str:
    """A time of the index for people and programs."""
    return rfc3339(epoch_ms / 1000)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return printable(str(value))


def fault_text(fault: S3Error) -> str:
    """``Code: message``, with the argument that is at fault."""
    name, value = fault.details.get("ArgumentName"), fault.details.get("ArgumentValue")
    return f"{fault} ({name} = {value!r})" if name else str(fault)
