"""``s3lite bucket``: buckets without a request, and how much they may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from s3lite.auth.acl import canned_acl
from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx
from s3lite.cli.accounts import account_of, user
from s3lite.cli.base import Refused, app, printable, shared_options, when
from s3lite.core.quota import parse_bytes, parse_objects
from s3lite.model import Bucket, Quota
from s3lite.names import is_valid_bucket_name
from s3lite.times import Clock

_UNTOUCHED = -1


def _read_bytes(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """A number of bytes; None lifts the bound, _UNTOUCHED leaves it as it is."""
    return _read(parse_bytes, value)


def _read_objects(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    return _read(parse_objects, value)


def _read(parse: Callable[[str], int], value: str | None) -> int | None:
    if value is None:
        return _UNTOUCHED
    if value == "none":
        return None
    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}; or none") from None


_bytes_option = click.option(
    "--bytes",
    "max_bytes",
    callback=_read_bytes,
    metavar="SIZE",
    help="Such as 500MB or 10GiB; none lifts it.",
)
_objects_option = click.option(
    "--objects", "max_objects", callback=_read_objects, metavar="N", help="A number; none lifts it."
)


# ---------------------------------------------------------------- buckets


@click.group()
@shared_options
def bucket() -> None:
    """Buckets: list, make, remove, and bound them.

    \b
    s3lite bucket list
    s3lite bucket create photos --owner alice
    s3lite bucket quota photos --bytes 10GiB --objects 100000
    """


@bucket.command("list")
@click.option("--owner", metavar="USER", help="Only the buckets of this user.")
@shared_options
def bucket_list(owner: str | None) -> None:
    """List buckets with their owners and quotas."""
    with app().storage() as storage, storage.catalog.read() as tx:
        if owner is not None:
            account_of(tx, owner)
        buckets = tx.buckets(owner_id=owner)
        quotas = {quota.subject: quota for quota in tx.quotas()}
    rows = [_described(each, quotas.get(f"bucket {each.id}")) for each in buckets]
    headings = {"name": "NAME", "owner": "OWNER", "versioning": "VERSIONING", "created": "CREATED"}
    app().emit_table(rows, {**headings, "max_bytes": "MAX BYTES", "max_objects": "MAX OBJECTS"})


@bucket.command("show")
@click.argument("name")
@shared_options
def bucket_show(name: str) -> None:
    """Show a bucket: owner, configurations, quotas and what of them is used."""
    with app().storage() as storage, storage.catalog.read() as tx:
        found = _bucket(tx, name)
        quotas = {quota.subject.partition(" ")[0]: quota for quota in tx.quotas_of(found)}
    document = _described(found, None) | {
        "region": found.region,
        "object_lock": found.object_lock,
        "configurations": sorted(found.configs),
        "quota": _shown(quotas.get("bucket")),
        "quota_of_owner": _shown(quotas.get("account")),
    }
    del document["max_bytes"], document["max_objects"]
    lines = [f"{label.replace('_', ' '):<16}{_text(value)}" for label, value in document.items()]
    app().emit(document, "\n".join(lines))


@bucket.command("create")
@click.argument("name")
@click.option("--owner", metavar="USER", default="root", show_default=True, help="Whose bucket it will be.")
@shared_options
def bucket_create(name: str, owner: str) -> None:
    """Make a bucket for a user."""
    if not is_valid_bucket_name(name):
        raise Refused(f"{printable(name)} is no name of a bucket: 3 to 63 of a-z, 0-9, dot and hyphen.")
    region = app().settings.region
    now_ms = Clock().time_ms()
    with app().storage() as storage:

        def work(tx: Tx) -> None:
            account_of(tx, owner)
            acl = canned_acl("private", owner_id=owner, bucket_owner_id=owner)
            made = tx.create_bucket(name=name, owner_id=owner, region=region, acl=acl, created_ms=now_ms)
            if made is None:
                raise Refused(f"There is a bucket {name} already. `s3lite bucket show {name}` says whose.")

        storage.catalog.write(work)
    app().emit({"name": name, "owner": owner}, f"Made {name} for {owner}.")


@bucket.command("remove")
@click.argument("name")
@shared_options
def bucket_remove(name: str) -> None:
    """Remove an empty bucket. Open multipart uploads go with it."""
    with app().storage() as storage:

        def work(tx: Tx) -> None:
            found = _bucket(tx, name)
            if not tx.bucket_is_empty(found.id):
                raise Refused(
                    f"{name} is not empty. Delete its objects first, and old versions and delete markers, "
                    "too; a lifecycle rule does that by itself."
                )
            tx.delete_bucket(found.id)

        storage.catalog.write(work)
    app().emit({"removed": name}, f"Removed {name}.")


# ---------------------------------------------------------------- quotas


@bucket.command("quota")
@click.argument("name")
@_bytes_option
@_objects_option
@shared_options
def bucket_quota(name: str, max_bytes: int | None, max_objects: int | None) -> None:
    """Bound what a bucket may hold, or show how much of that is used.

    Counted are all versions, their annotations and the parts of open uploads, copies in full, but no delete markers. What
    would go beyond is refused with 403 QuotaExceeded; what is there stays. Setting a quota counts the
    bucket, and uploads to it wait for that.

    \b
    s3lite bucket quota photos --bytes 10GiB --objects 100000
    s3lite bucket quota photos
    s3lite bucket quota photos --bytes none --objects none
    """
    with app().storage() as storage:

        def work(tx: Tx) -> Quota | None:
            found = _bucket(tx, name)
            subject = f"bucket {found.id}"
            wanted = _wanted(_quota(tx, subject), max_bytes, max_objects)
            if wanted is not None:
                tx.put_bucket_quota(found, max_bytes=wanted[0], max_objects=wanted[1])
            return _quota(tx, subject)

        quota = storage.catalog.write(work)
    _emit(name, quota)


@user.command("quota")
@click.argument("user_id", metavar="ID")
@_bytes_option
@_objects_option
@shared_options
def user_quota(user_id: str, max_bytes: int | None, max_objects: int | None) -> None:
    """Bound what a user's buckets may hold together, or show how much of that is used.

    As `s3lite bucket quota`; buckets that the user makes later count, too.

    \b
    s3lite user quota alice --bytes 100GiB
    """
    with app().storage() as storage:

        def work(tx: Tx) -> Quota | None:
            account_of(tx, user_id)
            subject = f"account {user_id}"
            wanted = _wanted(_quota(tx, subject), max_bytes, max_objects)
            if wanted is not None:
                tx.put_account_quota(user_id, max_bytes=wanted[0], max_objects=wanted[1])
            return _quota(tx, subject)

        quota = storage.catalog.write(work)
    _emit(user_id, quota)


def _wanted(
    known: Quota | None, max_bytes: int | None, max_objects: int | None
) -> tuple[int | None, int | None] | None:
    """The bounds to be, those that are not named as they were; None when none is named."""
    if max_bytes == max_objects == _UNTOUCHED:
        return None
    before = (known.max_bytes, known.max_objects) if known else (None, None)
    return (
        before[0] if max_bytes == _UNTOUCHED else max_bytes,
        before[1] if max_objects == _UNTOUCHED else max_objects,
    )


def _quota(tx: ReadTx, subject: str) -> Quota | None:
    return next((quota for quota in tx.quotas() if quota.subject == subject), None)


def _emit(name: str, quota: Quota | None) -> None:
    shown = _shown(quota)
    app().emit({"name": name, "quota": shown}, f"{name}: {_text(shown)}")


def _shown(quota: Quota | None) -> Mapping[str, Any] | None:
    if quota is None:
        return None
    return {
        "bytes": quota.bytes,
        "max_bytes": quota.max_bytes,
        "objects": quota.objects,
        "max_objects": quota.max_objects,
    }


def _text(value: object) -> str:
    if isinstance(value, dict):
        of = {
            name: "" if value[f"max_{name}"] is None else f" of {value[f'max_{name}']:,}"
            for name in ("bytes", "objects")
        }
        return ", ".join(f"{value[name]:,}{bound} {name}" for name, bound in of.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else printable(str(value)) or "none"


# ---------------------------------------------------------------- common


def _bucket(tx: ReadTx, name: str) -> Bucket:
    found = tx.bucket(name)
    if found is None:
        raise Refused(f"There is no bucket {printable(name)}. `s3lite bucket list` shows them.")
    return found


def _described(bucket: Bucket, quota: Quota | None) -> dict[str, Any]:
    return {
        "name": bucket.name,
        "owner": bucket.owner_id,
        "versioning": bucket.versioning or "never",
        "created": when(bucket.created_ms),
        "max_bytes": quota.max_bytes if quota else None,
        "max_objects": quota.max_objects if quota else None,
    }
