"""Temporary credentials: the actions of STS that clients call, on the service's own address.

There are no roles here. What AssumeRole makes acts for the caller's account, by the caller's key, and may do
what the key may and the policy in the request allows. RoleArn is a name that policies may ask for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from s3lite.auth import policy
from s3lite.auth.actions import ASSUME_ROLE
from s3lite.auth.facts import principal_arn, user_id
from s3lite.auth.sessions import PREFIX
from s3lite.context import Context
from s3lite.errors import Code, S3Error
from s3lite.model import AccessKey, Session
from s3lite.responses import Response
from s3lite.wire import sts

VERSION = "2011-06-15"
MIN_S = 900
_DEFAULT_S = {"AssumeRole": 3600, "GetSessionToken": 43_200}

_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_ROLE_ARN = re.compile(r"arn:[!-~]{16,2044}")
_DIGITS = re.compile(r"[0-9]{1,9}")


def security_token_service(ctx: Context) -> Response:
    """AssumeRole, GetSessionToken, GetCallerIdentity.

    Source: STS API Reference. Checked against AWS: never.
    Errors (in STS's own form): InvalidAction, MissingAction, ValidationError, MalformedPolicyDocument,
    AccessDenied, InvalidClientTokenId, ExpiredToken, SignatureDoesNotMatch, MissingAuthenticationToken.
    Differs: RoleArn names nothing that has to exist. Parameters that would narrow or mark a session in ways
    that are not offered (PolicyArns, Tags, SourceIdentity, MFA) are refused, never ignored.
    """
    body = ctx.document()
    try:
        parameters = sts.parse_parameters(body)
        act = _action(parameters)
        addressed = ctx.head.origin.partition("://")[2]  # by way of a trusted proxy, too
        ctx.caller = ctx.services.authenticator.action(ctx.head, body, hosts=[addressed])
        ctx.admit()
        document = act(ctx, parameters)
    except S3Error as problem:
        document, status, code = sts.error(problem, request_id=ctx.request_id)
        headers = [*_headers(ctx), *problem.headers.items()]
        return Response(status, headers, document, error=code)
    return Response(200, _headers(ctx), document)


def _headers(ctx: Context) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "text/xml"),
        ("Cache-Control", "no-store"),
        ("x-amzn-RequestId", ctx.request_id),
    ]


def _action(parameters: Mapping[str, str]) -> Callable[[Context, Mapping[str, str]], bytes]:
    name, version = parameters.get("Action", ""), parameters.get("Version", "")
    if not name:
        raise S3Error(Code.MissingAction)
    act = _ACTIONS.get(name) if version == VERSION else None
    if act is None:
        raise S3Error(
            Code.InvalidAction,
            f"Could not find operation {name[:64]} for version {version[:32] or 'NO_VERSION_SPECIFIED'}: this "
            f"server answers {', '.join(_ACTIONS)} of {VERSION}.",
        )
    return act


def assume_role(ctx: Context, parameters: Mapping[str, str]) -> bytes:
    """Credentials for a while, narrowed by the policy in the request."""
    _only(parameters, ("RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "ExternalId"))
    role, name = parameters.get("RoleArn", ""), parameters.get("RoleSessionName", "")
    if not _ROLE_ARN.fullmatch(role):
        raise _invalid(
            "RoleArn must be an ARN, such as arn:aws:iam::ACCOUNT:role/upload. It is only a name here."
        )
    if not _SESSION_NAME.fullmatch(name):
        raise _invalid("RoleSessionName must have 2 to 64 letters, digits and _ + = , . @ -")
    if not ctx.within_limits(ASSUME_ROLE, role):
        raise S3Error(Code.AccessDenied, f"The key's policy does not allow {ASSUME_ROLE} on {role}.")
    made = _session(ctx, role, name, _duration(ctx, "AssumeRole", parameters), _policy(ctx, parameters))
    account = ctx.caller.account_id
    return sts.assume_role(
        made,
        role_id=f"{account}:{name}",
        arn=_session_arn(account, role, name),
        request_id=ctx.request_id,
    )


def get_session_token(ctx: Context, parameters: Mapping[str, str]) -> bytes:
    """Credentials for a while that may do what the key may."""
    _only(parameters, ("DurationSeconds",))
    made = _session(ctx, "", "", _duration(ctx, "GetSessionToken", parameters), "")
    return sts.session_token(made, request_id=ctx.request_id)


def get_caller_identity(ctx: Context, parameters: Mapping[str, str]) -> bytes:
    """Who signed. Everyone may ask."""
    _only(parameters, ())
    account, session = ctx.caller.account_id, _key(ctx).session
    if session is not None and session.name:
        arn = _session_arn(account, session.role, session.name)
    else:
        arn = principal_arn(account) or ""
    return sts.caller_identity(
        user_id=user_id(ctx.caller), account=account, arn=arn, request_id=ctx.request_id
    )


_ACTIONS = {
    "AssumeRole": assume_role,
    "GetSessionToken": get_session_token,
    "GetCallerIdentity": get_caller_identity,
}


# ---------------------------------------------------------------- parameters


def _invalid(message: str) -> S3Error:
    return S3Error(Code.InvalidArgument, message)


def _only(parameters: Mapping[str, str], names: Collection[str]) -> None:
    for name in parameters:
        if name not in names and name not in ("Action", "Version"):
            raise _invalid(f"{name[:64]} is not supported by this server: leave it out.")


def _duration(ctx: Context, action: str, parameters: Mapping[str, str]) -> int:
    longest = ctx.settings.sessions.max_s
    text = parameters.get("DurationSeconds")
    if text is None:
        return min(_DEFAULT_S[action], longest)
    if not _DIGITS.fullmatch(text) or not MIN_S <= int(text) <= longest:
        raise _invalid(
            f"DurationSeconds must be a whole number from {MIN_S} to {longest}, the longest session here."
        )
    return int(text)


def _policy(ctx: Context, parameters: Mapping[str, str]) -> str:
    text, limit = parameters.get("Policy", ""), ctx.settings.sessions.policy_bytes
    if not text:
        return ""
    document = text.encode()
    if len(document) > limit:
        raise _invalid(f"Policy has {len(document)} bytes; a session's policy may have {limit}.")
    policy.parse_key(document)
    return text


# ---------------------------------------------------------------- sessions


def _key(ctx: Context) -> AccessKey:
    assert ctx.caller.key is not None  # `Authenticator.action` knows no anonymous caller
    return ctx.caller.key


def _session(ctx: Context, role: str, name: str, duration_s: int, policy_text: str) -> sts.Credentials:
    key = _key(ctx)
    if key.session is not None:
        raise S3Error(
            Code.AccessDenied, "Temporary credentials cannot make further ones: use the access key itself."
        )
    now_s = int(ctx.store.clock.time())
    access_key = ctx.store.ids.temporary_access_key(PREFIX)
    session = Session(access_key, role, name, now_s, now_s + duration_s, policy_text)
    secret, token = ctx.services.session_tokens.issue(key, session)
    return sts.Credentials(access_key, secret, token, session.expires_s)


def _session_arn(account: str, role: str, name: str) -> str:
    return f"arn:aws:sts::{account}:assumed-role/{role.rpartition('/')[2]}/{name}"
