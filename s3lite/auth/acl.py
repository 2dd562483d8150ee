"""Access control lists: canned names, grant headers, and the question whether a list allows something.

Source: API User Guide, "Access control list (ACL) overview". The checks of accounts are passed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import Acl, Grant

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED_USERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
LOG_DELIVERY = "http://acs.amazonaws.com/groups/s3/LogDelivery"
GROUPS = frozenset((ALL_USERS, AUTHENTICATED_USERS, LOG_DELIVERY))

READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL = "READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL"
PERMISSIONS = frozenset((READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL))

MAX_GRANTS = 100  # API User Guide: "An ACL can have up to 100 grants."

# Canned name -> grants to groups. Groups stand before the owner in the list, as s3-tests expect.
_TO_GROUPS = {
    "private": (),
    "public-read": ((ALL_USERS, READ),),
    "public-read-write": ((ALL_USERS, READ), (ALL_USERS, WRITE)),
    "authenticated-read": ((AUTHENTICATED_USERS, READ),),
    "log-delivery-write": ((LOG_DELIVERY, WRITE), (LOG_DELIVERY, READ_ACP)),
    "aws-exec-read": (),  # grants Amazon EC2 a right, and there is none here
    "bucket-owner-read": (),
    "bucket-owner-full-control": (),
}
_TO_BUCKET_OWNER = {"bucket-owner-read": READ, "bucket-owner-full-control": FULL_CONTROL}
CANNED = frozenset(_TO_GROUPS)

_GRANT_HEADERS = (
    ("x-amz-grant-read", READ),
    ("x-amz-grant-write", WRITE),
    ("x-amz-grant-read-acp", READ_ACP),
    ("x-amz-grant-write-acp", WRITE_ACP),
    ("x-amz-grant-full-control", FULL_CONTROL),
)
_GRANTEE = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"([^"]*)"|([^",\s]+))\s*(?:,|$)')


def canned_acl(name: str, *, owner_id: str, bucket_owner_id: str) -> Acl:
    """The list that a canned name stands for. Raises InvalidArgument for an unknown one."""
    to_groups = _TO_GROUPS.get(name)
    if to_groups is None:
        raise invalid_argument("x-amz-acl", name, "The canned ACL is not one that S3 knows.")
    grants = [Grant(group, permission, is_group=True) for group, permission in to_groups]
    grants.append(Grant(owner_id, FULL_CONTROL))
    permission = _TO_BUCKET_OWNER.get(name)
    if permission and bucket_owner_id != owner_id:
        grants.append(Grant(bucket_owner_id, permission))
    return Acl(owner_id, tuple(grants))


def grants_from_headers(
    headers: Mapping[str, str],
    *,
    owner_id: str,
    resolve_email: Callable[[str], str | None],
    account_exists: Callable[[str], bool],
) -> Acl | None:
    """The list that x-amz-grant-* headers ask for, None when there are none.

    Raises InvalidRequest beside a canned ACL, InvalidArgument, UnresolvableGrantByEmailAddress.
    """
    given = [(name, permission, headers[name]) for name, permission in _GRANT_HEADERS if headers.get(name)]
    if not given:
        return None
    if headers.get("x-amz-acl"):
        raise S3Error(Code.InvalidRequest, "Specifying both Canned ACLs and Header Grants is not allowed")
    grants: list[Grant] = []
    for header, permission, text in given:
        for kind, value in _grantees(header, text):
            if len(grants) == MAX_GRANTS:
                raise S3Error(Code.InvalidRequest, f"An ACL can have up to {MAX_GRANTS} grants.")
            grants.append(_grant(kind, value, permission, resolve_email, account_exists))
    return Acl(owner_id, tuple(dict.fromkeys(grants)))


def _grantees(header: str, text: str) -> list[tuple[str, str]]:
    """``id="a", uri="b"`` as pairs with lower-case kinds."""
    found, position = [], 0
    while position < len(text):
        match = _GRANTEE.match(text, position)
        if match is None:
            raise invalid_argument(header, text, 'Argument format not recognized: expected id="…", uri="…" …')
        found.append((match[1].lower(), match[2] if match[2] is not None else match[3]))
        position = match.end()
    return found


def _grant(
    kind: str,
    value: str,
    permission: str,
    resolve_email: Callable[[str], str | None],
    account_exists: Callable[[str], bool],
) -> Grant:
    if kind == "uri":
        if value not in GROUPS:
            raise invalid_argument("uri", value, "Invalid group uri")
        return Grant(value, permission, is_group=True)
    if kind == "emailaddress":
        account_id = resolve_email(value)
        if account_id is None:
            raise S3Error(Code.UnresolvableGrantByEmailAddress)
        return Grant(account_id, permission)
    if kind == "id":
        if not account_exists(value):
            raise invalid_argument("id", value, "Invalid id")
        return Grant(value, permission)
    raise invalid_argument(kind[:64], value, "A grantee is named by id, uri or emailAddress.")


def allows(acl: Acl, account_id: str, permission: str) -> bool:
    """True if the list gives an account ("" is an anonymous caller) a permission.

    Owners may always read and change the list itself, whatever they granted or revoked.
    """
    if account_id and account_id == acl.owner_id and permission in (READ_ACP, WRITE_ACP):
        return True
    for grant in acl.grants:
        if grant.permission in (permission, FULL_CONTROL) and (
            _in_group(grant.grantee, account_id)
            if grant.is_group
            else bool(account_id) and grant.grantee == account_id
        ):
            return True
    return False


def _in_group(group: str, account_id: str) -> bool:
    return group == ALL_USERS or (group == AUTHENTICATED_USERS and bool(account_id))


def is_public(acl: Acl) -> bool:
    """True if the list grants something to everyone, or to everyone with an account."""
    return any(map(_is_public, acl.grants))


def without_public(acl: Acl) -> Acl:
    """The list without what makes it public."""
    return Acl(acl.owner_id, tuple(grant for grant in acl.grants if not _is_public(grant)))


def is_private(acl: Acl) -> bool:
    """True if the list grants nothing but full control to its owner."""
    return all(grant == Grant(acl.owner_id, FULL_CONTROL) for grant in acl.grants)


def _is_public(grant: Grant) -> bool:
    return grant.is_group and grant.grantee in (ALL_USERS, AUTHENTICATED_USERS)


def public_permissions(acl: Acl) -> set[str]:
    """What the list grants to everyone, or to everyone with an account."""
    return {grant.permission for grant in acl.grants if _is_public(grant)}


def public_word(permissions: Collection[str]) -> str:
    """OSS's word for what the public may do: ``private``, ``public-read`` or ``public-read-write``."""
    if WRITE in permissions or FULL_CONTROL in permissions:
        return "public-read-write"
    return "public-read" if READ in permissions else "private"
