"""Signatures in headers, URLs and forms, of S3 and OSS, and the policies of forms."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from torture.parsers import text

from s3lite import oss
from s3lite.auth import oss as oss_auth
from s3lite.auth import sigv2
from s3lite.auth.authenticate import Authenticated, Authenticator
from s3lite.auth.oss import OssAuthenticator
from s3lite.auth.post_policy import PostPolicy
from s3lite.errors import Code
from s3lite.model import AccessKey, Account, RequestHead
from s3lite.routes import ROUTES
from s3lite.times import Clock

KEY = AccessKey("fuzz-key", "fuzz-secret/+=", Account("fuzz", "Fuzz"))
_VALID = Path(__file__).resolve().parent.parent / "corpus" / "authorization"
_EXEMPT = frozenset(("awsaccesskeyid", "file", "policy", "signature", "x-amz-signature"))
_ROUTED = (
    frozenset(route.subresource for route in ROUTES if route.subresource)
    | sigv2.SUBRESOURCES
    | oss_auth.SUBRESOURCES
) - sigv2.INERT


class _Still(Clock):
    def time(self) -> float:
        return text.NOW


_SETTINGS = {"lookup": {KEY.access_key: KEY}.get, "clock": _Still(), "region": "us-east-1"}
_S3 = Authenticator(**_SETTINGS)
_OSS = OssAuthenticator(**_SETTINGS)


class Meaning(NamedTuple):
    """What a signature must not let anybody change."""

    method: str
    bucket: str
    key: str
    query: frozenset[tuple[str, str]]
    headers: frozenset[tuple[str, str]]


def authenticate(head: RequestHead) -> Authenticated:
    """By whichever dialect it is in. Raises S3Error."""
    if oss_auth.recognise(head):
        found = _OSS.request(head)
        oss.request.translate(head)
        return found
    return _S3.request(head)


def meaning(head: RequestHead) -> Meaning:
    """Of a head: operation, place, and every header of the protocol. Folded white space means nothing."""
    return Meaning(
        head.method,
        head.target.bucket,
        head.target.key,
        frozenset((name, value) for name, value in head.query_items if name in _ROUTED),
        frozenset(
            (name, " ".join(value.split()))
            for name, value in head.headers.items()
            if name.startswith(("x-amz-", "x-oss-"))
        ),
    )


@cache
def signed_meanings() -> frozenset[Meaning]:
    """Of the requests of the corpus that somebody with the key has signed: ``valid-*``."""
    return frozenset(meaning(text.head(text.parse(path.read_bytes()))) for path in _VALID.glob("valid-*"))


def authorization(data: bytes) -> None:
    """Whatever is accepted in the name of a key means what its owner has signed."""
    head = text.head(text.parse(data))
    found = authenticate(head)
    if found.identity.key is not None:
        assert found.identity.key == KEY
        assert meaning(head) in signed_meanings(), meaning(head)


def post_policy(data: bytes) -> None:
    """A policy document (JSON), an empty line, the fields of a form: what passes is what the document says."""
    document, _, rest = data.partition(b"\n\n")
    fields = text.parse(b"POST /\n" + rest).lowered
    encoded = base64.b64encode(document).decode()
    policy = PostPolicy.parse(encoded, now_s=text.NOW)
    policy.check(fields, bucket="bucket")
    assert all(policy.covers(name) or name in _EXEMPT or _is_free(name) for name in fields)
    low, high = policy.content_length_range or (0, 0)
    assert 0 <= low <= high or policy.content_length_range
    for condition in policy.conditions:
        if condition.operator == "eq" and condition.field != "bucket":
            _refused(policy, {**fields, condition.field: condition.value + "x"})
    _refused(policy, {**fields, "x-amz-meta-not-in-any-policy": "1"})


def _is_free(name: str) -> bool:
    return name.startswith(("x-ignore-", "x-amz-checksum-"))


def _refused(policy: PostPolicy, fields: dict[str, str]) -> None:
    assert text.refusal(lambda: policy.check(fields, bucket="bucket")) is Code.AccessDenied, fields


def form_signature(data: bytes) -> None:
    """The fields of a form: nobody, or whoever has signed its policy. A line ``sign`` signs it by V2 or OSS V1."""
    request = text.parse(b"POST /\n" + data)
    fields = request.lowered
    if request.body:
        fields["policy"] = base64.b64encode(request.body).decode()
    signed_as = fields.pop("sign", "")
    if signed_as:
        fields[signed_as.lower() if signed_as.lower() == "ossaccesskeyid" else "awsaccesskeyid"] = (
            KEY.access_key
        )
        fields["signature"] = sigv2.signature(KEY.secret_key, fields.get("policy", ""))
    identity, policy = (_OSS if oss_auth.is_form(fields) else _S3).form(fields)
    if identity.key is not None:
        assert signed_as, "a signature was forged"
        assert policy is not None
        json.loads(
            base64.b64decode("".join(fields["policy"].split())).decode("utf-8-sig").replace("\\$", "$")
        )


PARSERS: dict[str, Callable[[bytes], object]] = {
    "authorization": authorization,
    "post-policy": post_policy,
    "form-signature": form_signature,
}
