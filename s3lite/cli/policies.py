"""``s3lite callback policy``: the callbacks that a bucket knows by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from s3lite.cli.base import Refused, app, fault_text, printable, shared_options
from s3lite.model import Bucket

if TYPE_CHECKING:
    from s3lite.callback.policies import Configuration, Policy
    from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx

T = TypeVar("T")

_OPERATIONS = ("PutObject", "PostObject", "CompleteMultipartUpload", "CopyObject")
_APPLIES = ("named", "default", "always")
_RIGHTS = ("off", "policy-only", "inline")
_FIELD_OPTIONS = {
    "url": "callbackUrl",
    "body": "callbackBody",
    "body_type": "callbackBodyType",
    "host": "callbackHost",
    "reply": "callbackReply",
    "on_failure": "callbackOnFailure",
    "mode": "callbackMode",
}


@click.group()
@shared_options
def policy() -> None:
    """Callbacks that the server knows by name, for uploads to a part of a bucket.

    \b
    s3lite callback policy set photos scan --prefix in/ --applies always --mode gate \\
        --url https://app.example/scan --body 'key=${object}&look=${pendingUrl}'
    s3lite callback policy list photos
    s3lite callback policy right photos policy-only
    """


@policy.command("set")
@click.argument("bucket")
@click.argument("name")
@click.option("--url", required=True, metavar="URL[;URL…]", help="Where to: one to five, tried in turn.")
@click.option("--body", required=True, help="The template, such as 'key=${object}&size=${size}'.")
@click.option("--body-type", help="application/x-www-form-urlencoded (default) or application/json.")
@click.option("--host", help="Host header to send instead of the URL's.")
@click.option("--reply", help="standard (default) or passthrough.")
@click.option("--on-failure", help="accept (default) or error; for callbacks after the fact.")
@click.option("--mode", help="sync (default), or how else: see docs/callbacks.md.")
@click.option("--prefix", default="", help="Only keys that begin so.")
@click.option("--suffix", default="", help="Only keys that end so.")
@click.option(
    "--operation",
    "operations",
    multiple=True,
    type=click.Choice(_OPERATIONS),
    help="Only these; may be repeated. Default: all.",
)
@click.option(
    "--applies",
    type=click.Choice(_APPLIES),
    default="named",
    show_default=True,
    help="To uploads that name it; by default also to those without a callback; or always, and to no other.",
)
@click.option(
    "--var", "variables", multiple=True, metavar="x:NAME=VALUE", help="A variable; may be repeated."
)
@shared_options
def policy_set(bucket: str, name: str, **options: Any) -> None:
    """Make or replace a policy of a bucket. In force for the next request.

    Its callbacks are signed with secrets of the bucket, which `policy show` prints.
    """
    fields = {field: options[name] for name, field in _FIELD_OPTIONS.items() if options[name] is not None}
    entry: dict[str, Any] = {
        "name": name,
        "prefix": options["prefix"],
        "suffix": options["suffix"],
        "operations": list(options["operations"] or _OPERATIONS),
        "applies": options["applies"],
        "callback": fields,
        "variables": dict(map(_variable, options["variables"])),
    }
    made = _parsed(entry)

    def change(now: Configuration) -> Configuration:
        kept = tuple(each for each in now.policies if each.name != name)
        if len(kept) >= app().settings.callback.policies:
            raise Refused(
                f"{bucket} has {len(kept)} policies, as many as callback.policies allows. Remove one first."
            )
        return replace(now, policies=(*kept, made))

    _change(bucket, change)
    app().emit(entry, f"Set {bucket}/{name}.")


@policy.command("list")
@click.argument("bucket")
@shared_options
def policy_list(bucket: str) -> None:
    """List the policies of a bucket, in the order in which equals are chosen."""
    with app().storage(create=False) as storage, storage.catalog.read() as tx:
        found = _configuration(tx, _bucket(tx, bucket))
    rows = [
        {
            "name": each.name,
            "applies": each.applies,
            "mode": each.spec.mode,
            "prefix": each.prefix,
            "suffix": each.suffix,
            "operations": list(each.operations),
            "url": each.fields["callbackUrl"],
        }
        for each in found.policies
    ]
    headings = {"name": "NAME", "applies": "APPLIES", "mode": "MODE", "prefix": "PREFIX", "suffix": "SUFFIX"}
    app().emit_table(rows, {**headings, "url": "URL"})


@policy.command("show")
@click.argument("bucket")
@shared_options
def policy_show(bucket: str) -> None:
    """Print a bucket's document, and the secrets (whsec_…) that verify its callbacks.

    The document is what `PUT /BUCKET?callback` takes.
    """
    from s3lite.callback import policies

    with app().storage(create=False) as storage, storage.catalog.read() as tx:
        found = _bucket(tx, bucket)
        shown = policies.document(_configuration(tx, found))
        shown[policies.SECRETS] = storage.callback_keys.bucket_secrets(found.id)
    app().emit(shown, json.dumps(shown, indent=1, ensure_ascii=False))


@policy.command("remove")
@click.argument("bucket")
@click.argument("name")
@shared_options
def policy_remove(bucket: str, name: str) -> None:
    """Remove a policy. Open uploads that name it cannot be completed without another callback."""

    def change(now: Configuration) -> Configuration:
        kept = tuple(each for each in now.policies if each.name != name)
        if len(kept) == len(now.policies):
            raise Refused(
                f"{bucket} has no policy {printable(name)}. `s3lite callback policy list` shows them."
            )
        return replace(now, policies=kept)

    _change(bucket, change)
    app().emit({"removed": name}, f"Removed {bucket}/{name}.")


@policy.command("right")
@click.argument("bucket")
@click.argument("right", type=click.Choice(_RIGHTS))
@shared_options
def policy_right(bucket: str, right: str) -> None:
    """Say what requests to a bucket may bring: callbacks of their own, names of its policies, or none.

    The stricter of this and the right of the access key counts. Policies that apply by default or always do
    so whatever the rights.
    """
    _change(bucket, lambda now: replace(now, right=right))
    app().emit({"bucket": bucket, "right": right}, f"Requests to {bucket}: {right}.")


# ---------------------------------------------------------------- common to all


def _variable(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise click.BadParameter(f"{text!r} is not x:NAME=VALUE", param_hint="--var")
    return name, value


def _parsed(entry: dict[str, Any]) -> Policy:
    """The policy, checked as the server checks it, addresses included."""
    from s3lite.callback import policies
    from s3lite.callback.send import CallbackSender
    from s3lite.callback.signing import CallbackKeys
    from s3lite.errors import S3Error

    document = json.dumps({"policies": [entry]}).encode()
    try:
        (made,) = policies.parse(document, max_policies=1).policies
        with app().storage(create=False) as storage:
            keys: CallbackKeys = storage.callback_keys
        sender = CallbackSender(app().settings.callback, keys=keys)
        try:
            sender.check(made.spec)
        finally:
            sender.close()
    except S3Error as fault:
        raise Refused(fault_text(fault)) from fault
    return made


def _change(bucket: str, change: Callable[[Configuration], Configuration]) -> None:
    from s3lite.callback import policies

    def work(tx: Tx) -> None:
        found = _bucket(tx, bucket)
        changed = change(_configuration(tx, found))
        if changed == policies.NOTHING:
            tx.delete_bucket_config(found.id, policies.CONFIG)
        else:
            tx.put_bucket_config(found.id, policies.CONFIG, policies.encode(changed))

    with app().storage(create=False) as storage:
        storage.catalog.write(work)


def _bucket(tx: ReadTx, name: str) -> Bucket:
    found = tx.bucket(name)
    if found is None:
        raise Refused(f"There is no bucket {printable(name)}.")
    return found


def _configuration(tx: ReadTx, bucket: Bucket) -> Configuration:
    from s3lite.callback import policies

    document = tx.bucket_config(bucket.id, policies.CONFIG)
    return policies.stored(document) if document is not None else policies.NOTHING
