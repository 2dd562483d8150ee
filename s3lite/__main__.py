"""``python -m s3lite`` and the script ``s3lite``: the operator's command line."""

from __future__ import annotations

from s3lite.cli.main import cli


def main() -> None:
    """Run the command line and exit."""
    cli(prog_name="s3lite")


if __name__ == "__main__":
    main()
