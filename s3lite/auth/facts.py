"""What policies may ask about a request: the condition keys, each worked out when one asks.

A fact is what the request will do, not what it says in passing: of a copy that keeps its source's tags,
x-amz-tagging is no fact; a listing's prefix is one of listings only.

Source: User Guide, "Bucket policy examples using condition keys"; IAM User Guide, "AWS global condition
context keys". Keys of ``ABSENT`` are known and never there: nothing here is a VPC or an organisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from s3lite.errors import S3Error
from s3lite.model import Bucket, Identity, ObjectVersion, RequestHead, Upload
from s3lite.times import rfc3339
from s3lite.wire.requests import parse_tagging_header

_LISTINGS = frozenset(("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"))
_AUTH_TYPES = {"header": "REST-HEADER", "query": "REST-QUERY-STRING", "form": "POST"}
_ENCRYPTION = "x-amz-server-side-encryption"
_EXISTING_TAG, _REQUEST_TAG = "s3:existingobjecttag/", "s3:requestobjecttag/"

ABSENT = frozenset(
    (
        "aws:federatedprovider", "aws:mfaage", "aws:multifactorauthage", "aws:multifactorauthpresent",
        "aws:principalisawsservice", "aws:principalorgid", "aws:principalorgpaths",
        "aws:principalservicename", "aws:principalservicenameslist", "aws:resourceorgid",
        "aws:sourceaccount", "aws:sourcearn", "aws:sourceidentity", "aws:sourceorgid",
        "aws:sourceorgpaths", "aws:sourceowner", "aws:sourcevpc", "aws:sourcevpcarn", "aws:sourcevpce",
        "aws:viaawsservice", "aws:calledvia", "aws:vpcsourceip",
        "s3:dataaccesspointaccount", "s3:dataaccesspointarn", "s3:accesspointnetworkorigin",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class About:
    """What one question to a policy is about, beside the request that it comes from."""

    version: ObjectVersion | None = None  # the existing object, for its ACL and its tags
    version_id: str | None = None  # that of the request where None
    prefix: str | None = None  # of the listing that would show the key
    fields: Mapping[str, str] | None = None  # of a form, in the place of headers
    tags: Sequence[tuple[str, str]] | None = None  # that are asked for, where no header says so
    upload: Upload | None = None  # the open upload that the request goes on with


THE_REQUEST = About()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """The facts of one request for one question; see `patterns.Facts`."""

    head: RequestHead
    params: Mapping[str, str]
    caller: Identity
    client_ip: str
    now_s: float
    bucket: Bucket | None  # None of the service's own operations
    action: str
    about: About

    def get(self, key: str, /) -> Sequence[str] | None:
        """The values of a key as `known` spells it; None when the request has none."""
        if key.startswith(_EXISTING_TAG):
            tags = self.about.version.head.tags if self.about.version is not None else ()
            return _one(dict(tags).get(key[len(_EXISTING_TAG) :]))
        if key.startswith(_REQUEST_TAG):
            return _one(dict(self._request_tags()).get(key[len(_REQUEST_TAG) :]))
        if key == "s3:requestobjecttagkeys":
            return [name for name, _ in self._request_tags()] or None
        header = _HEADERS.get(key)
        if header is not None:
            return _one(self._header(header) or None)
        reader = _READERS.get(key)
        return _one(reader(self)) if reader is not None else None

    def _header(self, name: str) -> str:
        if self.about.upload is not None and name.startswith(_ENCRYPTION):
            return _encryption_of(self.about.upload).get(name, "")
        source = self.head.headers if self.about.fields is None else self.about.fields
        return source.get(name, "")

    def _request_tags(self) -> Sequence[tuple[str, str]]:
        if self.about.tags is not None:
            return self.about.tags
        if self.about.fields is not None or (
            self._header("x-amz-copy-source") and self._header("x-amz-tagging-directive").upper() != "REPLACE"
        ):
            return ()
        try:
            return parse_tagging_header(self._header("x-amz-tagging"))
        except S3Error:  # the handler refuses it
            return ()

    def listing(self, name: str) -> str | None:
        """A parameter of listings."""
        if self.about.prefix is not None:
            return self.about.prefix if name == "prefix" else None
        return self.params.get(name) if self.action in _LISTINGS else None

    def version_id(self) -> str | None:
        """The version that is named."""
        named = self.about.version_id
        return (self.params.get("versionId") if named is None else named) or None

    def copy_source(self) -> str | None:
        """``bucket/key`` as it is understood, without version."""
        return source_path(self._header("x-amz-copy-source")) or None

    def content_sha256(self) -> str | None:
        """What the request says of its payload's hash."""
        name = "x-amz-content-sha256"
        return self.head.headers.get(name) or next(
            (value for key, value in self.params.items() if key.lower() == name), None
        )


def _encryption_of(upload: Upload) -> Mapping[str, str]:
    """The headers that would ask for the encryption which an upload's parts get, whatever they say."""
    encryption = upload.encryption
    if encryption is None:
        return {}
    if encryption.mode == "SSE-C":
        return {f"{_ENCRYPTION}-customer-algorithm": "AES256"}
    return {_ENCRYPTION: encryption.mode, f"{_ENCRYPTION}-aws-kms-key-id": encryption.key_id}


def _one(value: str | None) -> Sequence[str] | None:
    return None if value is None else (value,)


def source_path(header: str) -> str:
    """The decoded ``bucket/key`` of an x-amz-copy-source header, without its leading slash and version.

    The header is URL-encoded, with ``+`` for a space from some clients.
    """
    path = header.partition("?")[0]
    return unquote(path.replace("+", "%20"), errors="surrogateescape").lstrip("/")


def principal_arn(account_id: str) -> str | None:
    """The one ARN that an account goes by in aws:PrincipalArn."""
    return f"arn:aws:iam::{account_id}:root" if account_id else None


def user_id(caller: Identity) -> str:
    """What aws:userid says: the account, with the name of its session if it is in one."""
    if caller.key is None:
        return "anonymous"
    session = caller.key.session
    return f"{caller.account_id}:{session.name}" if session and session.name else caller.account_id


def _principal_type(caller: Identity) -> str:
    if caller.key is None:
        return "Anonymous"
    return "AssumedRole" if caller.key.session else "Account"


def _token_issue_time(caller: Identity) -> str | None:
    session = caller.key.session if caller.key else None
    return rfc3339(session.issued_s) if session else None


# A header of the same name. Values are as sent; what is compared regardless of case is made upper case below.
_HEADERS = {
    f"s3:{name}": name
    for name in (
        "x-amz-acl",
        "x-amz-grant-read",
        "x-amz-grant-write",
        "x-amz-grant-read-acp",
        "x-amz-grant-write-acp",
        "x-amz-grant-full-control",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class",
        "x-amz-website-redirect-location",
    )
} | {"s3:if-match": "if-match", "s3:if-none-match": "if-none-match"}

_READERS: dict[str, Callable[[RequestFacts], str | None]] = {
    "aws:currenttime": lambda facts: rfc3339(facts.now_s),
    "aws:epochtime": lambda facts: str(int(facts.now_s)),
    "aws:principalaccount": lambda facts: facts.caller.account_id or None,
    "aws:principalarn": lambda facts: principal_arn(facts.caller.account_id),
    "aws:principaltype": lambda facts: _principal_type(facts.caller),
    "aws:referer": lambda facts: facts.head.headers.get("referer") or None,
    "aws:resourceaccount": lambda facts: facts.bucket.owner_id if facts.bucket else None,
    "aws:securetransport": lambda facts: str(facts.head.origin.startswith("https:")).lower(),
    "aws:sourceip": lambda facts: facts.client_ip or None,
    "aws:tokenissuetime": lambda facts: _token_issue_time(facts.caller),
    "aws:useragent": lambda facts: facts.head.headers.get("user-agent") or None,
    "aws:userid": lambda facts: user_id(facts.caller),
    "aws:username": lambda facts: facts.caller.account_id or None,
    "s3:authtype": lambda facts: _AUTH_TYPES.get(facts.caller.scheme.partition("-")[2]),
    "s3:delimiter": lambda facts: facts.listing("delimiter"),
    "s3:max-keys": lambda facts: facts.listing("max-keys"),
    "s3:prefix": lambda facts: facts.listing("prefix"),
    "s3:resourceaccount": lambda facts: facts.bucket.owner_id if facts.bucket else None,
    "s3:signatureversion": lambda facts: {"v2": "AWS", "v4": "AWS4-HMAC-SHA256"}.get(
        facts.caller.scheme.partition("-")[0]
    ),
    "s3:versionid": lambda facts: facts.version_id(),
    "s3:x-amz-content-sha256": lambda facts: facts.content_sha256(),
    "s3:x-amz-copy-source": lambda facts: facts.copy_source(),
    "s3:x-amz-metadata-directive": lambda facts: (
        facts.head.headers.get("x-amz-metadata-directive", "").upper() or None
    ),
}

_KNOWN = frozenset(_HEADERS) | frozenset(_READERS) | ABSENT | {"s3:requestobjecttagkeys"}
_TAGS_OF_PRINCIPALS = ("aws:principaltag/", "aws:resourcetag/", "aws:requesttag/", "s3:buckettag/")


def known(key: str) -> str | None:
    """A condition key as `RequestFacts.get` takes it (lower case but for the name of a tag); None for no key."""
    lower = key.lower()
    if lower in _KNOWN:
        return lower
    prefix, slash, tag = key.partition("/")
    prefix = prefix.lower() + slash
    if tag and prefix in (_EXISTING_TAG, _REQUEST_TAG, *_TAGS_OF_PRINCIPALS):
        return prefix + tag
    return None
