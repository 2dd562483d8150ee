"""``s3lite user`` and ``s3lite key``: who may use the server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from s3lite.cli.base import App, Refused, app, printable, shared_options, when
from s3lite.errors import S3Error
from s3lite.ids import Ids
from s3lite.model import AccessKey, Account, Rate
from s3lite.names import is_valid_user_id
from s3lite.times import Clock

if TYPE_CHECKING:
    from s3lite.bootstrap import Storage
    from s3lite.catalog.base import Tx
from s3lite.catalog.questions import ReadTx

# Access keys stand in credentials (/) and V2 signatures (:), unquoted.
_ACCESS_KEY = re.compile(r"[A-Za-z0-9._@+=~-]{3,128}")
_SECRET_KEY = re.compile(r"[!-~]{3,128}")
_EMAIL = re.compile(r"[^\s@,\"<>&]+@[^\s@,\"<>&]+")
_CALLBACK_MODES = ("inline", "policy-only", "off")
_BUCKETS_NAMED = 5


# ---------------------------------------------------------------- what may be typed


def _matching(pattern: re.Pattern[str], rule: str, *, longest: int) -> Any:
    """A click callback that refuses what ``pattern`` does not match."""

    def check(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None and (len(value) > longest or not pattern.fullmatch(value)):
            raise click.BadParameter(rule)
        return value

    return check


def _check_user_id(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not is_valid_user_id(value):
        raise click.BadParameter(
            "a user id has up to 128 letters, digits and . _ @ + = ~ : -, with at most one $ after a tenant"
        )
    return value


_check_access_key = _matching(
    _ACCESS_KEY, "an access key has 3 to 128 letters, digits and . _ @ + = ~ -", longest=128
)
_check_secret_key = _matching(
    _SECRET_KEY, "a secret key has 3 to 128 ASCII characters without spaces", longest=128
)
_check_email = _matching(_EMAIL, "an e-mail address looks like name@host", longest=254)
_check_display_name = _matching(
    re.compile(r"[^\x00-\x1f\x7f-\x9f]+"), "a display name has no control characters", longest=256
)


POLICY_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)


def read_policy(_ctx: click.Context, _parameter: click.Parameter, path: str | None) -> str:
    """The text of a policy file, "" for none. Raises BadParameter that says what is wrong with it."""
    from s3lite.auth.policy import parse_key

    if path is None:
        return ""
    with click.open_file(path, "rb") as file:
        document = file.read()
    try:
        parse_key(document)
    except S3Error as error:
        raise click.BadParameter(f"{error.message}.") from None
    return str(document, "utf-8")


_policy_option = click.option(
    "--policy",
    type=POLICY_FILE,
    callback=read_policy,
    metavar="FILE",
    help="JSON policy: what the key may do of what its user may; - is standard input.",
)
_access_key_option = click.option(
    "--access-key", callback=_check_access_key, help="Take this access key instead of a generated one."
)
_secret_key_option = click.option(
    "--secret-key", callback=_check_secret_key, help="Take this secret key instead of a generated one."
)


# ---------------------------------------------------------------- users


@click.group()
@shared_options
def user() -> None:
    """Users: owners of buckets and objects, each with keys of its own.

    \b
    s3lite user add alice --display-name "Alice" --email alice@example.org
    s3lite user list
    s3lite user remove alice
    """


@user.command("add")
@click.argument("user_id", metavar="ID", callback=_check_user_id)
@click.option(
    "--display-name", callback=_check_display_name, help="Shown in listings and ACLs; default: the id."
)
@click.option("--email", callback=_check_email, help="For grants by e-mail address.")
@_access_key_option
@_secret_key_option
@_policy_option
@shared_options
def user_add(
    user_id: str,
    display_name: str | None,
    email: str | None,
    access_key: str | None,
    secret_key: str | None,
    policy: str,
) -> None:
    """Make a user with one access key.

    The key is printed; its secret is shown only now.

    ID is the canonical user id that ACLs and listings show. TENANT$ID is an id, too.

    \b
    s3lite user add alice
    s3lite user add 'acme$backup' --access-key acme-backup --secret-key "$SECRET"
    """
    with app().storage() as storage:
        now_ms = Clock().time_ms()
        account = Account(user_id, display_name or user_id, email or "", created_ms=now_ms)
        made = _new_key(account, access_key, secret_key, callback="inline", policy=policy)

        def work(tx: Tx) -> None:
            if tx.account(user_id) is not None:
                raise Refused(
                    f"The user {user_id} exists. For another key of it: s3lite key add {shlex.quote(user_id)}"
                )
            if email and (other := tx.account_by_email(email)):
                raise Refused(f"The e-mail address {email} is that of {other.id}. Choose another, or none.")
            _refuse_taken(tx, made.access_key)
            tx.put_account(account)
            tx.put_access_key(made)

        storage.catalog.write(work)
    _emit_new_key(app(), made, display_name=account.display_name, email=account.email)


@user.command("list")
@shared_options
def user_list() -> None:
    """List users and their access keys."""
    with app().storage() as storage, storage.catalog.read() as tx:
        accounts, keys = tx.accounts(), tx.access_keys()
    rows = [
        {
            "id": account.id,
            "display_name": account.display_name,
            "email": account.email,
            "is_root": account.is_root,
            "created": when(account.created_ms),
            "access_keys": [key.access_key for key in keys if key.account.id == account.id],
        }
        for account in accounts
    ]
    headings = {
        "id": "ID",
        "display_name": "NAME",
        "email": "E-MAIL",
        "is_root": "ROOT",
        "created": "CREATED",
    }
    app().emit_table(rows, {**headings, "access_keys": "ACCESS KEYS"})


@user.command("remove")
@click.argument("user_id", metavar="ID")
@shared_options
def user_remove(user_id: str) -> None:
    """Remove a user and all its keys. It must own no bucket."""
    with app().storage() as storage:

        def work(tx: Tx) -> None:
            account = account_of(tx, user_id)
            if account.is_root:
                raise Refused("The root user cannot be removed.")
            owned = [bucket.name for bucket in tx.buckets(owner_id=user_id, limit=_BUCKETS_NAMED + 1)]
            if owned:
                named = ", ".join(owned[:_BUCKETS_NAMED]) + (
                    " and more" if len(owned) > _BUCKETS_NAMED else ""
                )
                raise Refused(
                    f"{user_id} owns buckets: {named}. Delete them first; or, to shut the user out and keep "
                    "them, disable its keys: s3lite key disable ACCESS_KEY"
                )
            tx.remove_account(user_id)

        storage.catalog.write(work)
    app().emit({"removed": user_id}, f"Removed {user_id} and its keys.")


# ---------------------------------------------------------------- keys


@click.group()
@shared_options
def key() -> None:
    """Access keys: the credentials of users.

    \b
    s3lite key add alice
    s3lite key list
    s3lite key disable S3L0123456789ABCDEFG
    s3lite key policy set S3L0123456789ABCDEFG only-read.json
    s3lite key webhook-secret S3L0123456789ABCDEFG
    """


_callback_option_help = (
    "What uploads signed with this key may carry: inline, their own callback; policy-only, the name of "
    "one that the server knows; off, none."
)


@key.command("add")
@click.argument("user_id", metavar="USER")
@_access_key_option
@_secret_key_option
@click.option(
    "--callback",
    type=click.Choice(_CALLBACK_MODES),
    default="inline",
    show_default=True,
    help=_callback_option_help,
)
@_policy_option
@shared_options
def key_add(user_id: str, access_key: str | None, secret_key: str | None, callback: str, policy: str) -> None:
    """Give a user another key, which may do all that the user may, or what its policy says.

    The key is printed; its secret is shown only now.

    \b
    s3lite key add alice
    s3lite key add alice --policy only-read.json
    """
    with app().storage() as storage:

        def work(tx: Tx) -> AccessKey:
            made = _new_key(account_of(tx, user_id), access_key, secret_key, callback=callback, policy=policy)
            _refuse_taken(tx, made.access_key)
            tx.put_access_key(made)
            return made

        made = storage.catalog.write(work)
    _emit_new_key(app(), made)


@key.command("list")
@click.argument("user_id", metavar="[USER]", required=False)
@shared_options
def key_list(user_id: str | None) -> None:
    """List the keys of one user or of all. Secrets are never shown."""
    with app().storage() as storage, storage.catalog.read() as tx:
        if user_id is not None:
            account_of(tx, user_id)
        keys = tx.access_keys(user_id)
    headings = {"access_key": "ACCESS KEY", "user": "USER", "enabled": "ENABLED", "callback": "CALLBACK"}
    headings |= {"has_policy": "POLICY"}
    app().emit_table([_described(each) for each in keys], {**headings, "created": "CREATED"})


@key.command("update")
@click.argument("access_key")
@click.option("--callback", type=click.Choice(_CALLBACK_MODES), help=_callback_option_help)
@click.option("--requests-per-s", type=click.FloatRange(min=0), help="Requests in a second; 0: no limit.")
@click.option(
    "--burst", type=click.IntRange(min=0), help="Requests at once after a pause; 0: those of one second."
)
@click.option("--bytes-per-s", type=click.IntRange(min=0), help="Bytes of bodies in a second; 0: no limit.")
@click.option("--default-rate", is_flag=True, help="Let the settings say again how fast requests may come.")
@shared_options
def key_update(
    access_key: str,
    callback: str | None,
    requests_per_s: float | None,
    burst: int | None,
    bytes_per_s: int | None,
    default_rate: bool,
) -> None:
    """Change how fast requests by a key may come, or what callbacks its uploads may carry.

    In force within http.key_cache_s. What is not named stays as it is. A rate of its own takes the place
    of that in the settings; docs/access.md says how it is shared among workers.

    \b
    s3lite key update S3L0123456789ABCDEFG --requests-per-s 50 --burst 200
    """
    named = {"requests_per_s": requests_per_s, "burst": burst, "bytes_per_s": bytes_per_s}
    rates = {name: value for name, value in named.items() if value is not None}
    if default_rate and rates:
        raise click.UsageError("Give either --default-rate, or a rate.")
    if callback is None and not rates and not default_rate:
        raise click.UsageError("Say what to change: --callback, --requests-per-s, --burst, --bytes-per-s …")

    def changed(known: AccessKey) -> AccessKey:
        rate = None if default_rate else known.rate
        if rates:
            rate = Rate(**{**(rate or Rate())._asdict(), **rates})
        return replace(known, rate=rate, callback=callback or known.callback)

    change(access_key, changed)


@key.command("disable")
@click.argument("access_key")
@shared_options
def key_disable(access_key: str) -> None:
    """Refuse every request signed with a key, from the next one on. `key enable` undoes it."""
    change(access_key, lambda known: replace(known, enabled=False))


@key.command("enable")
@click.argument("access_key")
@shared_options
def key_enable(access_key: str) -> None:
    """Accept a disabled key again."""
    change(access_key, lambda known: replace(known, enabled=True))


@key.command("remove")
@click.argument("access_key")
@shared_options
def key_remove(access_key: str) -> None:
    """Remove a key for good. The user and what it owns stay."""
    with app().storage() as storage:
        refuse_root_key(storage, access_key)

        def work(tx: Tx) -> None:
            key_of(tx, access_key)
            tx.remove_access_key(access_key)

        storage.catalog.write(work)
    app().emit({"removed": access_key}, f"Removed the key {access_key}.")


@key.command("webhook-secret")
@click.argument("access_key")
@shared_options
def key_webhook_secret(access_key: str) -> None:
    """Print the secret (whsec_…) that verifies callbacks of uploads signed with a key.

    Give it to the application that receives them; it is of no use for anything else. During a
    rotation there are two, one per line.

    \b
    export WEBHOOK_SECRET=$(s3lite key webhook-secret S3L0123456789ABCDEFG)
    """
    with app().storage() as storage, storage.catalog.read() as tx:
        secrets = key_of(tx, access_key).webhook_secret.split()
    app().emit({"access_key": access_key, "webhook_secrets": secrets}, "\n".join(secrets))


# ---------------------------------------------------------------- common to both


def _new_key(
    account: Account, access_key: str | None, secret_key: str | None, *, callback: str, policy: str
) -> AccessKey:
    from s3lite.callback.signing import new_webhook_secret

    ids = Ids()
    return AccessKey(
        access_key or ids.access_key(),
        secret_key or ids.secret_key(),
        account,
        callback=callback,
        webhook_secret=new_webhook_secret(),
        created_ms=Clock().time_ms(),
        policy=policy,
    )


def _emit_new_key(app: App, made: AccessKey, **more: str) -> None:
    shown = {"user": made.account.id, "access_key": made.access_key, "secret_key": made.secret_key}
    lines = [
        f"user        {made.account.id}",
        f"access key  {made.access_key}",
        f"secret key  {made.secret_key}   (shown once)",
    ]
    app.emit({**shown, **more}, "\n".join(lines))


def change(access_key: str, changed: Callable[[AccessKey], AccessKey]) -> None:
    """Store a key with other properties and print it."""
    with app().storage() as storage:

        def work(tx: Tx) -> AccessKey:
            made = changed(key_of(tx, access_key))
            if not made.enabled:
                refuse_root_key(storage, access_key)
            tx.put_access_key(made)
            return made

        described = _described(storage.catalog.write(work))
    state = "enabled" if described["enabled"] else "disabled"
    app().emit(described, f"{access_key} is {state}; callbacks: {described['callback']}.")


def _described(key: AccessKey) -> Mapping[str, object]:
    """A key without its secrets."""
    return {
        "access_key": key.access_key,
        "user": key.account.id,
        "enabled": key.enabled,
        "callback": key.callback,
        "has_policy": bool(key.policy),
        "rate": key.rate._asdict() if key.rate else None,
        "created": when(key.created_ms),
    }


def account_of(tx: ReadTx, user_id: str) -> Account:
    """The user, or a refusal that says where to look."""
    account = tx.account(user_id)
    if account is None:
        raise Refused(f"There is no user {printable(user_id)}. `s3lite user list` shows who there is.")
    return account


def key_of(tx: ReadTx, access_key: str) -> AccessKey:
    """The key, or a refusal that says where to look."""
    found = tx.access_key(access_key)
    if found is None:
        raise Refused(f"There is no access key {printable(access_key)}. `s3lite key list` shows them.")
    return found


def _refuse_taken(tx: ReadTx, access_key: str) -> None:
    other = tx.access_key(access_key)
    if other is not None:
        raise Refused(f"The access key {access_key} is in use by {other.account.id}. Choose another.")


def refuse_root_key(storage: Storage, access_key: str) -> None:
    """Nobody shuts the operator out."""
    if access_key == storage.root.access_key:
        raise Refused(
            f"{access_key} is the root credential. To replace it, start the server with another one in "
            "S3LITE_ACCESS_KEY and S3LITE_SECRET_KEY."
        )
