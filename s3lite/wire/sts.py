"""The query API of STS: a form in, XML out.

Source: STS API Reference (2011-06-15): AssumeRole, GetSessionToken, GetCallerIdentity, "Common errors".
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

from s3lite.errors import Code, S3Error
from s3lite.times import rfc3339
from s3lite.wire.xml import element

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"

_MAX_PARAMETERS = 100
# Codes that STS spells otherwise than S3, with their status.
_CODES = {
    Code.InvalidAccessKeyId: ("InvalidClientTokenId", 403),
    Code.InvalidToken: ("InvalidClientTokenId", 403),
    Code.ExpiredToken: ("ExpiredToken", 403),
    Code.InvalidArgument: ("ValidationError", 400),
    Code.MalformedPolicy: ("MalformedPolicyDocument", 400),
    Code.AuthorizationHeaderMalformed: ("IncompleteSignature", 400),
    Code.XAmzContentSHA256Mismatch: ("SignatureDoesNotMatch", 403),
    Code.SlowDown: ("Throttling", 400),
    Code.InternalError: ("InternalFailure", 500),
}


class Credentials(NamedTuple):
    """Temporary credentials as they are handed out."""

    access_key: str
    secret_key: str
    token: str
    expires_s: int


def parse_parameters(body: bytes) -> dict[str, str]:
    """The parameters of a call. Raises InvalidArgument for what is no form, or repeats a name."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="strict"
        )
    except (UnicodeError, ValueError):
        raise S3Error(Code.InvalidArgument, "The body must be an URL-encoded form.") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise S3Error(Code.InvalidArgument, "A parameter is given twice.")
    return parameters


def error(problem: S3Error, *, request_id: str) -> tuple[bytes, int, str]:
    """The error document, its status and the code in STS's spelling."""
    code, status = _CODES.get(problem.code, (problem.code.name, problem.status))
    kind = "Receiver" if status >= 500 else "Sender"
    body = element("Type", kind) + element("Code", code) + element("Message", problem.message)
    return (
        _document("ErrorResponse", f"<Error>{body}</Error>{element('RequestId', request_id)}"),
        status,
        code,
    )


def assume_role(credentials: Credentials, *, role_id: str, arn: str, request_id: str) -> bytes:
    """AssumeRoleResponse."""
    user = element("AssumedRoleId", role_id) + element("Arn", arn)
    result = f"<AssumedRoleUser>{user}</AssumedRoleUser>{_credentials(credentials)}"
    return _response("AssumeRole", result, request_id)


def session_token(credentials: Credentials, *, request_id: str) -> bytes:
    """GetSessionTokenResponse."""
    return _response("GetSessionToken", _credentials(credentials), request_id)


def caller_identity(*, user_id: str, account: str, arn: str, request_id: str) -> bytes:
    """GetCallerIdentityResponse."""
    result = element("UserId", user_id) + element("Account", account) + element("Arn", arn)
    return _response("GetCallerIdentity", result, request_id)


def _credentials(made: Credentials) -> str:
    body = (
        element("AccessKeyId", made.access_key)
        + element("SecretAccessKey", made.secret_key)
        + element("SessionToken", made.token)
        + element("Expiration", rfc3339(made.expires_s))
    )
    return f"<Credentials>{body}</Credentials>"


def _response(action: str, result: str, request_id: str) -> bytes:
    metadata = f"<ResponseMetadata>{element('RequestId', request_id)}</ResponseMetadata>"
    return _document(f"{action}Response", f"<{action}Result>{result}</{action}Result>{metadata}")


def _document(root: str, body: str) -> bytes:
    return f'<{root} xmlns="{NAMESPACE}">{body}</{root}>\n'.encode()
