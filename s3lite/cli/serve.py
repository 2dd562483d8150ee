"""``s3lite serve``: the server itself, for installations of the package."""

from __future__ import annotations

import os
import sys

import click

from s3lite.cli.base import app, shared_options


@click.command()
@click.option("--bind", metavar="ADDRESS:PORT", help="Where to listen, instead of the setting `bind`.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    help="Where everything is kept, instead of the setting `data_dir`.",
)
@shared_options
def serve(bind: str | None, data_dir: str | None) -> None:
    """Serve, in the foreground, until SIGTERM or Ctrl-C.

    The same gunicorn with the same configuration as `make serve`. Everything else is settings: --config,
    conf/s3lite.toml below the current directory, or the environment.

    \b
    s3lite serve
    S3LITE_BUCKETS=photos s3lite serve --bind 127.0.0.1:9000 --data-dir /var/lib/s3lite

    SIGTERM lets requests in progress end; SIGHUP reads the settings again. Exit code: 0 ended by a signal;
    2 could not start.
    """
    for name, value in (
        ("S3LITE_BIND", bind),
        ("S3LITE_DATA_DIR", data_dir),
        ("S3LITE_CONFIG", app().config),
    ):
        if value is not None:
            os.environ[name] = value
    _ = app().settings  # faults are told here, without gunicorn's words around them
    arguments = ["-m", "gunicorn", "-c", "python:s3lite.gunicorn_conf", "s3lite.app:create_app()"]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606  # becomes the server: signals reach it
