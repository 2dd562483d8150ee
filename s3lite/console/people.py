"""Users and their keys, for the operator."""

from __future__ import annotations

import re
from dataclasses import replace

from s3lite.callback.signing import new_webhook_secret
from s3lite.catalog.base import Tx
from s3lite.console.visit import Visit
from s3lite.core.write import commit
from s3lite.model import AccessKey, Account
from s3lite.names import is_valid_user_id
from s3lite.responses import Response

_EMAIL = re.compile(r"[^\s@,\"<>&]+@[^\s@,\"<>&]+")


class _Fault(Exception):  # a word for the person, not a failure
    """Said on the page."""


def users(visit: Visit) -> Response:
    """All users with their keys."""
    return _page(visit)


def _page(visit: Visit, *, made: AccessKey | None = None, fault: str = "") -> Response:
    if not visit.is_operator:
        return visit.page("missing.html", title="Not found", status=404)
    with visit.services.store.catalog.read() as tx:
        accounts, keys = tx.accounts(), tx.access_keys()
    rows = [
        {"account": account, "keys": [key for key in keys if key.account.id == account.id]}
        for account in accounts
    ]
    return visit.page(
        "users.html", title="Users", rows=rows, made=made, own=visit.session.key.access_key, fault=fault
    )


def change(visit: Visit) -> Response:
    """What the forms of the page ask for: ``do`` says which."""
    if not visit.is_operator:
        return visit.page("missing.html", title="Not found", status=404)
    form = visit.form
    actions = {
        "add-user": _add_user,
        "add-key": _add_key,
        "switch-key": _switch_key,
        "remove-key": _remove_key,
        "remove-user": _remove_user,
    }
    action = actions.get(form.get("do", ""))
    if action is None:
        return visit.back("users", fault="There is no such action.")
    try:
        made = action(visit)
    except _Fault as fault:
        return visit.back("users", fault=str(fault))
    return _page(visit, made=made) if made else visit.back("users", notice="Done.")


def _add_user(visit: Visit) -> AccessKey:
    user_id, email = visit.form.get("id", "").strip(), visit.form.get("email", "").strip()
    if not is_valid_user_id(user_id):
        raise _Fault("A user id has up to 128 letters, digits and . _ @ + = ~ : -")
    if email and not _EMAIL.fullmatch(email):
        raise _Fault("An e-mail address looks like name@host.")
    name = visit.form.get("display_name", "").strip() or user_id
    account = Account(user_id, name, email, created_ms=visit.services.store.clock.time_ms())
    made = _new_key(visit, account)

    def work(tx: Tx) -> None:
        if tx.account(user_id) is not None:
            raise _Fault(f"The user {user_id} exists.")
        if email and tx.account_by_email(email) is not None:
            raise _Fault("This e-mail address belongs to another user.")
        tx.put_account(account)
        tx.put_access_key(made)

    commit(visit.services.store, work)
    return made


def _add_key(visit: Visit) -> AccessKey:
    def work(tx: Tx) -> AccessKey:
        account = tx.account(visit.form.get("user", ""))
        if account is None:
            raise _Fault("This user is gone.")
        made = _new_key(visit, account)
        tx.put_access_key(made)
        return made

    return commit(visit.services.store, work)


def _new_key(visit: Visit, account: Account) -> AccessKey:
    store = visit.services.store
    return AccessKey(
        store.ids.access_key(),
        store.ids.secret_key(),
        account,
        webhook_secret=new_webhook_secret(),
        created_ms=store.clock.time_ms(),
    )


def _switch_key(visit: Visit) -> None:
    def work(tx: Tx) -> None:
        key = _other_key(visit, tx)
        tx.put_access_key(replace(key, enabled=not key.enabled))

    commit(visit.services.store, work)


def _remove_key(visit: Visit) -> None:
    commit(visit.services.store, lambda tx: tx.remove_access_key(_other_key(visit, tx).access_key))


def _other_key(visit: Visit, tx: Tx) -> AccessKey:
    """The key that the form names; the operator's own would lock everyone out of this page."""
    key = tx.access_key(visit.form.get("access_key", ""))
    if key is None:
        raise _Fault("This key is gone.")
    if key.account.is_root:
        raise _Fault("The operator's key is set by S3LITE_ACCESS_KEY and S3LITE_SECRET_KEY, not here.")
    return key


def _remove_user(visit: Visit) -> None:
    user_id = visit.form.get("user", "")

    def work(tx: Tx) -> None:
        account = tx.account(user_id)
        if account is None or account.is_root:
            raise _Fault("This user cannot be removed.")
        if tx.buckets(owner_id=user_id, limit=1):
            raise _Fault(f"{user_id} owns buckets: remove them first, or disable the keys.")
        tx.remove_account(user_id)

    commit(visit.services.store, work)
