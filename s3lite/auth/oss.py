"""The signatures of Alibaba Cloud OSS, versions 1 and 4: who sent a request in the OSS dialect.

`recognise` tells the dialect by how a request is signed; everything else about the dialect is
translated at the border (`s3lite.oss`). Both signatures cover the bucket and the decoded key, never the
path as sent: SDKs escape it differently.

**V1** signs method, Content-MD5, Content-Type, a date, every ``x-oss-*`` header and the sub-resources
of the query, decoded. Its string is ambiguous where a key holds ``?``: ``/b/k?acl`` may be a key or a
sub-resource. Such keys are refused, and so are sub-resource values that read like further ones.

**V4** signs the whole query, all ``x-oss-*`` headers, Content-Type, Content-MD5 and what
AdditionalHeaders names. Neither signs Host or the body's bytes.

Source: OSS Developer Guide, "Include a V1/V4 signature in the Authorization header" and "in a URL";
oss2 2.19.1 (auth.py), alibabacloud-oss-v2 1.4.1 (signer), ali-oss 6.23.0.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from s3lite.auth import sigv2, sigv4
from s3lite.auth.authenticate import MAX_EXPIRES_S, Authenticated, Authenticator
from s3lite.auth.payload import Payload
from s3lite.auth.post_policy import PostPolicy
from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.model import AccessKey, Identity, RequestHead, Target
from s3lite.times import parse_amz_date

V4 = "OSS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_V1_QUERY = ("OSSAccessKeyId", "Signature", "Expires")
_DATE = "x-oss-date"
_SAFE = "-_.~"

# fmt: off
SUBRESOURCES = frozenset((
    "acl", "append", "asyncFetch", "bucketInfo", "callback", "callback-var", "cname", "comp", "continuation-token",
    "cors", "delete", "encryption", "endTime", "group", "inventory", "inventoryId", "lifecycle", "link", "live",
    "location", "logging", "objectInfo", "objectMeta", "partNumber", "policy", "position", "qos", "referer",
    "regionList", "replication", "requestPayment", "resourceGroup", "response-cache-control",
    "response-content-disposition", "response-content-encoding", "response-content-language",
    "response-content-type", "response-expires", "restore", "security-token", "sequential", "startTime", "stat",
    "status", "style", "styleName", "symlink", "tagging", "uploadId", "uploads", "versionId", "versioning",
    "versions", "vod", "website", "worm", "wormExtend", "wormId", "x-oss-process", "x-oss-request-payer",
    "x-oss-traffic-limit",
))
# fmt: on
"""What V1 signs of a query."""


def recognise(head: RequestHead) -> bool:
    """Whether a request is in the OSS dialect: signed by one of its signatures, in a header or a URL."""
    if head.headers.get("authorization", "").startswith("OSS"):
        return True
    return any(name in ("OSSAccessKeyId", "x-oss-signature-version") for name, _ in head.query_items)


def is_form(fields: Mapping[str, str]) -> bool:
    """Whether a POST form (names in lower case) is signed the OSS way."""
    return bool(fields.get("ossaccesskeyid") or fields.get("x-oss-signature-version"))


class OssAuthenticator(Authenticator):
    """Checks OSS signatures with the keys, clocks and limits of `Authenticator`."""

    def request(self, head: RequestHead, *, hosts: Sequence[str] = ()) -> Authenticated:
        """Identify the sender; ``hosts`` matter to no OSS signature.

        Raises AccessDenied, InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed,
        InvalidArgument, ExpiredToken, InvalidToken, NotImplemented.
        """
        _refuse_amz_headers(head)
        authorization = head.headers.get("authorization", "")
        query = dict(head.query_items)
        in_url = "OSSAccessKeyId" in query or "x-oss-signature-version" in query
        if authorization and in_url:
            raise invalid_argument("Authorization", "", "Sign by the header or by the URL, not by both.")
        if len(query) < len(head.query_items):
            raise S3Error(Code.InvalidArgument, "A query parameter is given twice.")
        if in_url:
            return (
                self._url_v4(head, query) if "x-oss-signature-version" in query else self._url_v1(head, query)
            )
        scheme, _, rest = authorization.partition(" ")
        if scheme == "OSS":
            return self._header_v1(head, rest)
        if scheme == V4:
            return self._header_v4(head, rest)
        raise S3Error(Code.NotImplemented, f"Sign with OSS (version 1) or {V4}, not {scheme[:32]}.")

    def form(self, fields: Mapping[str, str]) -> tuple[Identity, PostPolicy | None]:
        """Identify the sender of a form (names in lower case) and give the policy that it signed."""
        is_v4 = bool(fields.get("x-oss-signature-version"))
        wanted = (
            ("x-oss-signature-version", "x-oss-credential", "x-oss-date", "x-oss-signature", "policy")
            if is_v4
            else ("ossaccesskeyid", "signature", "policy")
        )
        for name in wanted:
            if not fields.get(name):
                raise invalid_argument(name, "", f"The form must contain a field named {name}.")
        text, token = fields["policy"], fields.get("x-oss-security-token")
        if is_v4:
            access_key, scope = _credential(fields["x-oss-credential"])
            key, given = self._key(access_key, token), fields["x-oss-signature"]
            expected = _sign(_signing_key(key.secret_key, scope), text)
        else:
            key, given = self._key(fields["ossaccesskeyid"], token), fields["signature"]
            expected = sigv2.signature(key.secret_key, text)
        if not sigv4.same(expected, given):
            raise _mismatch(key, text, given)
        return Identity("oss4-form" if is_v4 else "oss1-form", key), PostPolicy.parse(
            text, now_s=self._clock.time()
        )

    # ------------------------------------------------------------ version 1

    def _header_v1(self, head: RequestHead, rest: str) -> Authenticated:
        access_key, _, given = rest.strip().rpartition(":")
        if not access_key or not given:
            raise invalid_argument("Authorization", "", "Expected OSS ACCESS_KEY:SIGNATURE.")
        date = head.headers.get(_DATE) or head.headers.get("date", "")
        self._fresh_timestamp(date)
        # alibabacloud-oss-v2 sends the token of a session under this name, which no signature covers.
        token = head.headers.get("x-oss-security-token") or head.headers.get("security-token")
        return self._checked_v1(head, "oss1-header", access_key, given, date, token)

    def _url_v1(self, head: RequestHead, query: Mapping[str, str]) -> Authenticated:
        if any(not query.get(name) for name in _V1_QUERY):
            raise S3Error(Code.AccessDenied, f"A signed URL needs {', '.join(_V1_QUERY)}.")
        expires = query["Expires"]
        if not (expires.isascii() and expires.isdigit() and len(expires) < 13):
            raise S3Error(Code.AccessDenied, "Expires must be seconds since the epoch.")
        if int(expires) < self._clock.time():
            raise self._expired(min(int(expires), 253_402_300_799))
        given = query["Signature"].replace(" ", "+")
        token = query.get("security-token")
        return self._checked_v1(head, "oss1-query", query["OSSAccessKeyId"], given, expires, token)

    def _checked_v1(
        self, head: RequestHead, scheme: str, access_key: str, given: str, date: str, token: str | None
    ) -> Authenticated:
        _refuse_ambiguous(head)
        key = self._key(access_key, token)
        text = _v1_string(head, date)
        if not sigv4.same(sigv2.signature(key.secret_key, text), given):
            raise _mismatch(key, text, given)
        signed = {name for name in head.headers if name.startswith("x-oss-")} | {
            "content-md5",
            "content-type",
        }
        return Authenticated(Identity(scheme, key, frozenset(signed)), Payload("unsigned"))

    # ------------------------------------------------------------ version 4

    def _header_v4(self, head: RequestHead, rest: str) -> Authenticated:
        parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if not parts.get("Credential") or not parts.get("Signature"):
            raise invalid_argument("Authorization", "", f"{V4} needs Credential and Signature.")
        timestamp = self._fresh_timestamp(head.headers.get(_DATE, ""))
        if head.headers.get("x-oss-content-sha256", _UNSIGNED) != _UNSIGNED:
            raise invalid_argument("x-oss-content-sha256", "", f"The only value is {_UNSIGNED}.")
        token = head.headers.get("x-oss-security-token")
        additional = parts.get("AdditionalHeaders", "")
        return self._checked_v4(
            head, "oss4-header", parts["Credential"], parts["Signature"], timestamp, additional, token
        )

    def _url_v4(self, head: RequestHead, query: Mapping[str, str]) -> Authenticated:
        if query["x-oss-signature-version"] != V4:
            raise invalid_argument(
                "x-oss-signature-version", query["x-oss-signature-version"], f"The only value is {V4}."
            )
        needed = ("x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-signature")
        if any(not query.get(name) for name in needed):
            raise S3Error(Code.AccessDenied, f"A signed URL needs {', '.join(needed)}.")
        expires = query["x-oss-expires"]
        if not (expires.isascii() and expires.isdigit() and 1 <= int(expires[:9]) <= MAX_EXPIRES_S):
            raise S3Error(Code.AccessDenied, f"x-oss-expires must be 1 to {MAX_EXPIRES_S} seconds.")
        timestamp = query["x-oss-date"]
        self._check_lifetime(_epoch(timestamp), expires)
        return self._checked_v4(
            head,
            "oss4-query",
            query["x-oss-credential"],
            query["x-oss-signature"],
            timestamp,
            query.get("x-oss-additional-headers", ""),
            query.get("x-oss-security-token"),
        )

    def _checked_v4(
        self,
        head: RequestHead,
        scheme: str,
        credential: str,
        given: str,
        timestamp: str,
        additional: str,
        token: str | None,
    ) -> Authenticated:
        access_key, scope = _credential(credential)
        if scope[0] != timestamp[:8]:
            raise S3Error(Code.AccessDenied, "The credential's date is not that of x-oss-date.")
        if self._strict_region and scope[1] != self._region:
            raise S3Error(Code.AccessDenied, f"The region of the signature must be {self._region}.")
        key = self._key(access_key, token)
        secret = _signing_key(key.secret_key, scope)
        names = _signed_headers(head, additional)
        first = ""
        for request in _v4_readings(head, names, additional):
            digest = hashlib.sha256(sigv4.octets(request)).hexdigest()
            text = f"{V4}\n{timestamp}\n{'/'.join(scope)}\n{digest}"
            if sigv4.same(_sign(secret, text), given):
                return Authenticated(Identity(scheme, key, frozenset(names)), Payload("unsigned"))
            first = first or text
        raise _mismatch(key, first, given)


def _v1_string(head: RequestHead, date: str) -> str:
    headers = {name: value for name, value in head.headers.items() if name.startswith("x-oss-")}
    chosen = sorted(
        # In Base64 a blank can only be a "+" that the client did not encode.
        (name, value.replace(" ", "+") if name in sigv2.CALLBACKS else value)
        for name, value in head.query_items
        if name in SUBRESOURCES
    )
    query = "&".join(f"{name}={value}" if value else name for name, value in chosen)
    return sigv2.string_to_sign(
        head.method,
        content_md5=head.headers.get("content-md5", ""),
        content_type=head.headers.get("content-type", ""),
        date=date,
        amz_headers=headers,
        resource=_wire(_resource(head.target) + (f"?{query}" if query else "")),
    )


def _v4_readings(head: RequestHead, names: Sequence[str], additional: str) -> Iterator[str]:
    """The canonical requests that this one may stand for: ali-oss signs an empty listing parameter as ``name=``."""
    pairs = [(_quoted(name), _quoted(value)) for name, value in head.query_items if name != "x-oss-signature"]
    uri = quote(_resource(head.target), safe="/" + _SAFE)
    lines = "".join(f"{name}:{head.headers[name].strip()}\n" for name in names)
    listed = ";".join(sorted(name for name in additional.lower().split(";") if name))
    for empty in ("", "=") if any(not value for _, value in pairs) else ("",):
        query = "&".join(f"{name}={value}" if value else name + empty for name, value in sorted(pairs))
        yield f"{head.method}\n{uri}\n{query}\n{lines}\n{listed}\n{_UNSIGNED}"


def _signed_headers(head: RequestHead, additional: str) -> list[str]:
    """Names of the headers that a V4 signature covers, sorted."""
    named = {name for name in additional.lower().split(";") if name}
    return sorted(
        name
        for name in head.headers
        if name.startswith("x-oss-") or name in ("content-type", "content-md5") or name in named
    )


def _resource(target: Target) -> str:
    if not target.bucket:
        return "/"
    return f"/{target.bucket}/{target.key}"


def _credential(text: str) -> tuple[str, tuple[str, str, str, str]]:
    """Access key and scope. Raises InvalidArgument."""
    parts = text.split("/")
    if len(parts) < 5 or parts[-2:] != ["oss", "aliyun_v4_request"]:
        raise invalid_argument(
            "Credential", text, "Expected ACCESS_KEY/YYYYMMDD/REGION/oss/aliyun_v4_request."
        )
    return "/".join(parts[:-4]), (parts[-4], parts[-3], parts[-2], parts[-1])


def _signing_key(secret_key: str, scope: tuple[str, str, str, str]) -> bytes:
    key = b"aliyun_v4" + secret_key.encode("utf-8", "surrogatepass")
    for part in scope:
        key = hmac.digest(key, part.encode("utf-8", "surrogatepass"), "sha256")
    return key


def _sign(key: bytes, text: str) -> str:
    return hmac.digest(key, sigv4.octets(text), "sha256").hex()


def _quoted(text: str) -> str:
    return quote(text, safe=_SAFE)


def _wire(text: str) -> str:
    """Text as the ISO 8859-1 that headers come in, so that both are signed as the bytes they were."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _epoch(timestamp: str) -> float:
    seconds = parse_amz_date(timestamp)
    if seconds is None:
        raise S3Error(Code.AccessDenied, "x-oss-date must be of the form 20260131T010203Z.")
    return seconds


def _mismatch(key: AccessKey, text: str, given: str) -> S3Error:
    return S3Error(
        Code.SignatureDoesNotMatch,
        OSSAccessKeyId=key.shown,
        StringToSign=sigv4.octets(text).decode("utf-8", "replace"),
        SignatureProvided=given[:256],
    )


def _refuse_amz_headers(head: RequestHead) -> None:
    """No OSS signature covers ``x-amz-*``: whoever holds a signed URL could add one."""
    for name in head.headers:
        if name.startswith("x-amz-"):
            raise S3Error(Code.AccessDenied, f"{name[:64]} does not belong to a request signed the OSS way.")
    for name, _ in head.query_items:
        if name.lower().startswith("x-amz-"):
            raise S3Error(Code.AccessDenied, f"{name[:64]} does not belong to a request signed the OSS way.")


def _refuse_ambiguous(head: RequestHead) -> None:
    """Raise AccessDenied where a V1 string could stand for another request."""
    values = [value for name, value in head.query_items if name in SUBRESOURCES and "&" in value]
    texts = [*values, *head.target.key.split("?")[1:]]
    if any(piece.partition("=")[0] in SUBRESOURCES for text in texts for piece in text.split("&")):
        raise S3Error(
            Code.AccessDenied,
            "The key or a query value reads like further signed parameters; sign by version 4.",
        )
