"""``s3lite completion``: the words of this command line, for shells."""

from __future__ import annotations

import sys

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from s3lite.cli.base import note, shared_options

_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "fish": FishComplete, "zsh": ZshComplete}
_PLACES = {
    "bash": '~/.bashrc: eval "$(s3lite completion bash)"',
    "zsh": '~/.zshrc, behind compinit: eval "$(s3lite completion zsh)"',
    "fish": "~/.config/fish/completions/s3lite.fish: the output itself",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(_SHELLS)))
@shared_options
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands and options of s3lite.

    \b
    eval "$(s3lite completion bash)"
    s3lite completion fish > ~/.config/fish/completions/s3lite.fish

    It needs the installed command `s3lite`, which it asks for what may come next.
    """
    root = click.get_current_context().find_root().command
    click.echo(_SHELLS[shell](root, {}, "s3lite", "_S3LITE_COMPLETE").source())
    if sys.stdout.isatty():
        note(f"To have it in every shell, {_PLACES[shell]}")
