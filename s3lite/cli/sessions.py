"""``s3lite session``: narrow credentials for a while, without a request."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import click

from s3lite import bootstrap
from s3lite.cli.accounts import POLICY_FILE, key_of, read_policy
from s3lite.cli.base import Refused, app, printable, shared_options
from s3lite.ids import Ids
from s3lite.model import Session
from s3lite.times import Clock, rfc3339

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"([0-9]{1,9})([smh]?)")
_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_PLACE = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\x00-\x1f*?$]*)?")


def _read_duration(_ctx: click.Context, _parameter: click.Parameter, value: str) -> int:
    match = _DURATION.fullmatch(value)
    if match is None or not int(match[1]):
        raise click.BadParameter("a duration is a number of seconds, or 15m, or 2h")
    return int(match[1]) * _SECONDS[match[2]]


def _check_name(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter("a session's name has 2 to 64 letters, digits and _ + = , . @ -")
    return value


def _check_places(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    for value in values:
        if not _PLACE.fullmatch(value):
            raise click.BadParameter(f"{printable(value)!r} is not BUCKET/PREFIX, without wildcards")
    return values


@click.group()
@shared_options
def session() -> None:
    """Sessions: credentials that end by themselves and may do less than their key.

    \b
    s3lite session create S3L0123456789ABCDEFG --upload-to photos/incoming/ --duration 15m
    """


@session.command("create")
@click.argument("access_key")
@click.option(
    "--upload-to",
    multiple=True,
    metavar="BUCKET/PREFIX",
    callback=_check_places,
    help="Allow to store objects below a prefix, and nothing else. Repeatable.",
)
@click.option(
    "--read-from",
    multiple=True,
    metavar="BUCKET/PREFIX",
    callback=_check_places,
    help="Allow to list and read objects below a prefix. Repeatable.",
)
@click.option(
    "--policy",
    type=POLICY_FILE,
    callback=read_policy,
    metavar="FILE",
    help="JSON policy: what the session may do of what the key may; - is standard input.",
)
@click.option(
    "--duration", default="1h", show_default=True, callback=_read_duration, help="Seconds, or 15m, or 2h."
)
@click.option(
    "--name", default="command-line", show_default=True, callback=_check_name, help="Shown in ${aws:userid}."
)
@shared_options
def session_create(
    access_key: str,
    upload_to: tuple[str, ...],
    read_from: tuple[str, ...],
    policy: str,
    duration: int,
    name: str,
) -> None:
    """Print temporary credentials that a key vouches for.

    Without --upload-to, --read-from or --policy they may do all that the key may. They end after
    --duration, and when the key is disabled or removed. --json is what the AWS tools expect of a
    credential_process.

    \b
    eval "$(s3lite session create S3L0123456789ABCDEFG --read-from photos/ --duration 15m)"
    """
    from s3lite.auth.sessions import PREFIX, SESSION_SEAL_KEY, SessionTokens

    if policy and (upload_to or read_from):
        raise click.UsageError("Give either --policy, or --upload-to and --read-from.")
    longest = app().settings.sessions.max_s
    if duration > longest:
        raise Refused(f"A session may last {longest} seconds (sessions.max_s).")
    text = policy or (_policy(upload_to, read_from) if upload_to or read_from else "")
    limit = app().settings.sessions.policy_bytes
    if len(text.encode()) > limit:
        raise Refused(f"A session's policy may have {limit} bytes (sessions.policy_bytes).")
    with app().storage() as storage:
        with storage.catalog.read() as tx:
            key = key_of(tx, access_key)
        if not key.enabled:
            raise Refused(f"{printable(access_key)} is disabled, and so would be its sessions.")
        now_s = int(Clock().time())
        made = Session(
            Ids().temporary_access_key(PREFIX), "command-line", name, now_s, now_s + duration, text
        )
        seal_key = bootstrap.installation_key(storage.catalog, SESSION_SEAL_KEY)
    secret, token = SessionTokens(seal_key).issue(key, made)
    _emit(made, secret, token)


def _policy(upload_to: tuple[str, ...], read_from: tuple[str, ...]) -> str:
    statements: list[dict[str, Any]] = []
    if upload_to:
        statements.append(
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                "Resource": [_arn(place) for place in upload_to],
            }
        )
    if read_from:
        arns = [_arn(place) for place in read_from]
        statements.append({"Effect": "Allow", "Action": "s3:GetObject", "Resource": arns})
    for place in read_from:
        bucket, _, prefix = place.partition("/")
        listing: dict[str, Any] = {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": f"arn:aws:s3:::{bucket}",
        }
        if prefix:
            listing["Condition"] = {"StringLike": {"s3:prefix": f"{prefix}*"}}
        statements.append(listing)
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _arn(place: str) -> str:
    bucket, _, prefix = place.partition("/")
    return f"arn:aws:s3:::{bucket}/{prefix}*"


def _emit(made: Session, secret: str, token: str) -> None:
    document = {
        "Version": 1,
        "AccessKeyId": made.access_key,
        "SecretAccessKey": secret,
        "SessionToken": token,
        "Expiration": rfc3339(made.expires_s),
    }
    variables = {
        "AWS_ACCESS_KEY_ID": made.access_key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_SESSION_TOKEN": token,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    app().emit(document, "\n".join([*lines, f"# until {document['Expiration']}"]))
