"""Lines of server access logs, as S3 writes them.

A line never holds a secret: signatures, tokens, customers' keys and callbacks are taken out of the request
line and of the referrer, where presigned URLs show up as well.

Source: User Guide, "Amazon S3 server access log format".
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus

from s3lite.model import Identity

NOTHING = "-"
_HIDDEN = "REDACTED"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SECRET_WORDS = (
    "signature",
    "token",
    "customer-key",
    "customer-encryption",
    "callback",
    "password",
    "secret",
)
_UNSAFE = re.compile(r'[\x00-\x1f"\x7f-\U0010ffff]')
_SAFE_IN_KEYS = "/-_.~!*'(),;:@&=+$"
_AUTHENTICATION = {"header": "AuthHeader", "query": "QueryString"}
_SIGNATURES = {"v2": "SigV2", "v4": "SigV4"}


@dataclass(frozen=True, slots=True)
class Record:
    """One request, or one of the things that it did. Texts are as they came; None is not known or not so."""

    owner_id: str
    bucket: str
    at_s: float
    client_ip: str
    request_id: str
    operation: str  # as `operation_name` has it
    key: str
    status: int
    caller: Identity
    region: str
    method: str = ""  # "": a line about a part of a request
    uri: str = ""  # path and query, as sent
    protocol: str = "HTTP/1.1"
    error: str = ""
    sent_bytes: int = 0
    object_bytes: int | None = None
    total_ms: int | None = None
    referrer: str = ""
    user_agent: str = ""
    version_id: str = ""
    host_id: str = ""
    host: str = ""


def line(record: Record) -> bytes:
    """One line with its end: 27 fields, any of which is ``-`` where nothing is known."""
    scheme, _, place = record.caller.scheme.partition("-")
    uri = f'"{record.method} {_hidden(record.uri)} {record.protocol}"' if record.method else f'"{NOTHING}"'
    total = NOTHING if record.total_ms is None else str(record.total_ms)
    fields = (
        _word(record.owner_id),
        _word(record.bucket),
        f"[{_date(record.at_s)}]",
        _word(record.client_ip),
        _word(record.caller.account_id),
        record.request_id,
        record.operation,
        quote(record.key, safe=_SAFE_IN_KEYS, errors="replace") or NOTHING,
        uri,
        str(record.status),
        record.error or NOTHING,
        str(record.sent_bytes or NOTHING),
        NOTHING if record.object_bytes is None else str(record.object_bytes),
        total,
        total,
        f'"{_hidden(record.referrer) or NOTHING}"',
        f'"{_quoted(record.user_agent) or NOTHING}"',
        _word(record.version_id),
        _word(record.host_id),
        _SIGNATURES.get(scheme, NOTHING),
        NOTHING,  # cipher suite: whoever ends TLS knows
        _AUTHENTICATION.get(place, NOTHING),
        _word(record.host),
        NOTHING,  # version of TLS
        NOTHING,  # access point
        NOTHING,  # whether an ACL was needed
        _word(record.region),
    )
    return (" ".join(fields) + "\n").encode("ascii")


def _date(at_s: float) -> str:
    """``06/Feb/2019:00:00:38 +0000``, whatever the locale."""
    moment = time.gmtime(at_s)
    return f"{moment.tm_mday:02}/{_MONTHS[moment.tm_mon - 1]}/{time.strftime('%Y:%H:%M:%S', moment)} +0000"


def _word(text: str) -> str:
    return _quoted(text).replace(" ", "%20") or NOTHING


def _quoted(text: str) -> str:
    """Text that ends neither its quotes nor its line; what is not printable ASCII as ``%XX``."""
    return _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="replace"), text)


def _hidden(uri: str) -> str:
    """A URI whose secrets are taken out of its query."""
    path, mark, query = uri.partition("?")
    if not mark:
        return _quoted(uri)
    pairs = re.split("([&;#])", query)
    return _quoted(path + mark + "".join(_hidden_pair(pair) for pair in pairs))


def _hidden_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if not equals:
        return pair
    known = unquote_plus(name).lower()
    is_secret = any(word in known for word in _SECRET_WORDS) and known != "continuation-token"
    return f"{name}={_HIDDEN}" if is_secret else pair


# ---------------------------------------------------------------- names of operations

# Where S3's word is not the method and the operation's own words; of others it is made of both.
_RESOURCES = {
    "ListObjects": "BUCKET",
    "ListObjectsV2": "BUCKET",
    "HeadBucket": "BUCKET",
    "CreateBucket": "BUCKET",
    "DeleteBucket": "BUCKET",
    "PostObject": "BUCKET",
    "ListObjectVersions": "BUCKETVERSIONS",
    "ListMultipartUploads": "UPLOADS",
    "DeleteObjects": "MULTI_OBJECT_DELETE",
    "PreflightRequest": "PREFLIGHT",
    "GetBucketLocation": "LOCATION",
    "GetBucketLogging": "LOGGING_STATUS",
    "PutBucketLogging": "LOGGING_STATUS",
    "GetBucketPolicy": "BUCKETPOLICY",
    "PutBucketPolicy": "BUCKETPOLICY",
    "DeleteBucketPolicy": "BUCKETPOLICY",
    "GetBucketPolicyStatus": "POLICY_STATUS",
    "GetObject": "OBJECT",
    "HeadObject": "OBJECT",
    "PutObject": "OBJECT",
    "DeleteObject": "OBJECT",
    "RenameObject": "OBJECT_RENAME",
    "GetObjectAttributes": "OBJECT_ATTRIBUTES",
    "CreateMultipartUpload": "UPLOADS",
    "CompleteMultipartUpload": "UPLOAD",
    "AbortMultipartUpload": "UPLOAD",
    "ListParts": "UPLOAD",
    "UploadPart": "PART",
}
_WHOLE = {
    "CopyObject": "REST.COPY.OBJECT",
    "UploadPartCopy": "REST.COPY.PART",
}
COPIED = "REST.COPY.OBJECT_GET"
COPIED_PART = "REST.COPY.PART_GET"
DELETED = "BATCH.DELETE.OBJECT"
_VERBS = ("Get", "Put", "Delete", "List", "Update", "Create")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def operation_name(method: str, operation: str) -> str:
    """The operation field: ``REST.METHOD.RESOURCE``, or WEBSITE for requests of a site.

    ``operation`` "" is a request that was refused before it was known what it asks for.
    """
    if operation in _WHOLE:
        return _WHOLE[operation]
    if operation == "WebsiteRequest":
        return f"WEBSITE.{_word(method)}.OBJECT"
    return f"REST.{_word(method)}.{_RESOURCES.get(operation) or _resource(operation)}"


def _resource(operation: str) -> str:
    """``GetObjectTagging`` → ``OBJECT_TAGGING``, ``GetBucketVersioning`` → ``VERSIONING``."""
    for verb in _VERBS:
        operation = operation.removeprefix(verb)
    operation = operation.removeprefix("Bucket").removesuffix("Configuration")
    return _HUMPS.sub("_", operation).upper() or "REQUEST"
