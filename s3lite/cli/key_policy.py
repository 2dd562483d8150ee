"""``s3lite key policy``: what a key may do of what its user may."""

from __future__ import annotations

import json
from dataclasses import replace

import click

from s3lite.catalog.base import Tx
from s3lite.cli.accounts import POLICY_FILE, key_of, read_policy, refuse_root_key
from s3lite.cli.base import Refused, app, printable, shared_options


@click.group("policy")
@shared_options
def key_policy() -> None:
    """Policies of keys: what a key may do of what its user may.

    A key without one may do all that its user may. One with a policy may do what the policy allows,
    and nothing else; it never gives a right that the user lacks. docs/access.md has examples.

    \b
    s3lite key policy set S3L0123456789ABCDEFG only-read.json
    s3lite key policy get S3L0123456789ABCDEFG
    s3lite key policy remove S3L0123456789ABCDEFG
    """


@key_policy.command("set")
@click.argument("access_key")
@click.argument("policy", type=POLICY_FILE, callback=read_policy, metavar="FILE")
@shared_options
def key_policy_set(access_key: str, policy: str) -> None:
    """Give a key the policy in FILE (- is standard input), in place of the one that it has.

    In force within http.key_cache_s, for sessions that the key has made, too.
    """
    _store(access_key, policy)
    app().emit({"access_key": access_key, "policy": json.loads(policy)}, f"{access_key} has the policy.")


@key_policy.command("get")
@click.argument("access_key")
@shared_options
def key_policy_get(access_key: str) -> None:
    """Print the policy of a key."""
    with app().storage() as storage, storage.catalog.read() as tx:
        text = key_of(tx, access_key).policy
    if not text:
        raise Refused(f"{printable(access_key)} has no policy: it may do all that its user may.")
    app().emit({"access_key": access_key, "policy": json.loads(text)}, text.rstrip("\n"))


@key_policy.command("remove")
@click.argument("access_key")
@shared_options
def key_policy_remove(access_key: str) -> None:
    """Let a key do all that its user may."""
    _store(access_key, "")
    app().emit({"access_key": access_key, "policy": None}, f"{access_key} may do all that its user may.")


def _store(access_key: str, policy: str) -> None:
    with app().storage() as storage:
        refuse_root_key(storage, access_key)

        def work(tx: Tx) -> None:
            tx.put_access_key(replace(key_of(tx, access_key), policy=policy))

        storage.catalog.write(work)
