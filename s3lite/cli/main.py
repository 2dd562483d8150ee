"""The root of the command line: what every command shares, and the list of them."""

from __future__ import annotations

from typing import Any

import click

from s3lite import __version__
from s3lite.cli import outbox  # noqa: F401  # adds its commands to `callback`
from s3lite.cli.accounts import key, user
from s3lite.cli.backup import backup, restore
from s3lite.cli.base import CannotRun, shared_options
from s3lite.cli.buckets import bucket
from s3lite.cli.callbacks import callback
from s3lite.cli.completion import completion
from s3lite.cli.doctor import doctor
from s3lite.cli.explain import explain_signature
from s3lite.cli.form import form
from s3lite.cli.key_policy import key_policy
from s3lite.cli.keyring import keyring
from s3lite.cli.migrate import migrate
from s3lite.cli.serve import serve
from s3lite.cli.sessions import session
from s3lite.cli.upkeep import check, sweep
from s3lite.cli.upload import upload
from s3lite.settings import SettingsError


class _Root(click.Group):
    """Turns what keeps a command from running into one message and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            click.echo(str(error), err=True)
            ctx.exit(2)
        except BrokenPipeError:
            raise  # click ends quietly: the reader of a pipe has seen enough
        except PermissionError as error:
            raise CannotRun(f"{error}. Run this as the user that the server runs as.") from error
        except OSError as error:
            raise CannotRun(str(error)) from error


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="s3lite", message="%(prog)s %(version)s")
@shared_options
def cli() -> None:
    """Run and operate an s3lite installation: the server, users and keys, encryption, the check of its bytes, and callbacks.

    Commands work on the data directory itself and may run while the server does. They read the same
    settings as the server: conf/s3lite.toml or --config, then the environment (S3LITE_DATA_DIR …).

    \b
    s3lite serve                           the server, in the foreground
    s3lite user add alice                  a user and its first key
    s3lite doctor                          what keeps the server from working, and what to do
    s3lite check --deep                    prove every object against its ETag
    s3lite callback listen                 see callbacks arrive, and whether they verify
    s3lite form --bucket b --key 'in/${filename}' > upload.html
    s3lite upload cat.jpg s3://b/in/       a file to the running server, with a callback if wanted

    Results go to standard output (as JSON with --json), everything else to standard error. Exit
    codes: 0 done, 1 refused or faults found, 2 could not run (usage, settings, storage).
    """


key.add_command(key_policy)
for command in (
    serve, user, key, session, bucket, keyring, check, sweep, backup, restore, migrate, callback, form, upload,
    doctor, explain_signature, completion,
):  # fmt: skip
    cli.add_command(command)
