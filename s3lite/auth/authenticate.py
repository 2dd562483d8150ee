"""Who sent a request, and what of it the signature covers: header, presigned URL, form, or nobody.

`Authenticator` finds the mechanism, checks times and scopes, looks the key up (a callable is passed in)
and compares signatures made by `sigv4` and `sigv2`. It reads heads and form fields only; the body is
checked by those who read it, as the returned `Payload` says. What the caller may do is `authorize`'s.

Clients and proxies differ in small things, so a signature is compared with a few readings of the same
request: the host without a default port, configured or forwarded hosts, the path as sent beside its
canonical form. No reading may name another bucket, key, version or operation than the request does: a
host other than the one sent counts for a bucket in the host only if it names the same bucket.

Errors carry what S3's carry: SignatureDoesNotMatch shows the string to sign, no error shows a secret or
a signature that the server made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from s3lite.auth import claims, differences, sigv2, sigv4
from s3lite.auth import payload as payloads
from s3lite.auth.payload import Payload
from s3lite.auth.post_policy import PostPolicy
from s3lite.auth.sessions import PREFIX, SessionTokens, temporary
from s3lite.errors import Code, S3Error
from s3lite.model import ANONYMOUS, AccessKey, Identity, RequestHead
from s3lite.times import Clock, amz_date, parse_amz_date, parse_http_date, rfc3339
from s3lite.wire.aws_chunked import ChunkSigner

__all__ = ["Authenticated", "Authenticator", "Payload"]

MAX_EXPIRES_S = 604_800  # API Reference, "Authenticating Requests: Using Query Parameters"

_V4_QUERY = frozenset(("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"))
_V4_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
)
_V2_PARAMETERS = ("AWSAccessKeyId", "Signature", "Expires")
_V2_QUERY = frozenset(("AWSAccessKeyId", "Signature"))
_V2_POSITIONAL = ("content-md5", "content-type", "date")
_ACCESS_KEY = re.compile(r"[!-~]{1,128}")
_INTEGER = re.compile(r"-?[0-9]{1,15}")

_parse_amz_date = lru_cache(maxsize=256)(parse_amz_date)  # strptime takes 10 µs; a busy second has one date


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The caller, and how the body is protected."""

    identity: Identity
    payload: Payload


class Authenticator:
    """Checks signatures. Stateless but for its settings; safe to share between threads."""

    def __init__(
        self,
        *,
        lookup: Callable[[str], AccessKey | None],
        clock: Clock,
        region: str,
        strict_region: bool = False,
        clock_skew_s: float = 900.0,
        endpoint_aliases: Sequence[str] = (),
        tokens: SessionTokens | None = None,
    ) -> None:
        self._lookup = lookup
        self._tokens = tokens
        self._clock = clock
        self._region = region
        self._strict_region = strict_region
        self._skew_s = clock_skew_s
        self._aliases = tuple(endpoint_aliases)

    def request(self, head: RequestHead, *, hosts: Sequence[str] = ()) -> Authenticated:
        """Identify the sender of a request; ``hosts`` are further Host values that it may have signed.

        Raises AccessDenied, SignatureDoesNotMatch, InvalidAccessKeyId, RequestTimeTooSkewed,
        AuthorizationHeaderMalformed, AuthorizationQueryParametersError, InvalidArgument,
        InvalidRequest, InvalidToken, ExpiredToken, NotImplemented.
        """
        authorization = head.headers.get("authorization", "")
        v4_query = v2_query = False
        if head.query_items:
            names = {name for name, _ in head.query_items}
            v4_query, v2_query = not names.isdisjoint(_V4_QUERY), not names.isdisjoint(_V2_QUERY)
        if bool(authorization) + v4_query + v2_query > 1:
            raise S3Error(
                Code.InvalidArgument,
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
                "string parameter or the Authorization header should be specified",
                ArgumentName="Authorization",
            )
        if authorization:
            return self._header(head, authorization, hosts)
        if v4_query:
            return self._v4(head, self._v4_query_claim(head), hosts)
        if v2_query:
            return self._v2_query(head)
        return Authenticated(ANONYMOUS, payloads.describe(head.headers, payloads.claim(head.headers)))

    def action(self, head: RequestHead, body: bytes, *, hosts: Sequence[str] = ()) -> Identity:
        """Identify the sender of a call of another service's query API (STS), whose body says what is asked.

        Signed by V4 in a header, for the service ``s3`` or ``sts``, body included. Raises as `request`, and
        MissingAuthenticationToken.
        """
        scheme, _, rest = head.headers.get("authorization", "").partition(" ")
        if scheme != sigv4.ALGORITHM:
            raise S3Error(
                Code.MissingAuthenticationToken,
                f"Sign the request with {sigv4.ALGORITHM} in the header Authorization.",
            )
        body_sha256 = hashlib.sha256(body).hexdigest()
        return self._v4(head, self._v4_header_claim(head, rest, body_sha256), hosts).identity

    def form(self, fields: Mapping[str, str]) -> tuple[Identity, PostPolicy | None]:
        """Identify the sender of a POST form (names in lower case) and give the policy that it signed.

        A form without policy and signature is anonymous. Raises InvalidArgument for an incomplete one,
        and as `request` and `PostPolicy.parse` do.
        """
        v4 = any(fields.get(name) for name in ("x-amz-algorithm", "x-amz-credential", "x-amz-signature"))
        v2 = any(fields.get(name) for name in ("awsaccesskeyid", "signature"))
        if not (v4 or v2 or fields.get("policy")):
            return ANONYMOUS, None
        if v4 and v2:
            raise S3Error(
                Code.InvalidArgument, "Only one auth mechanism allowed: sign the form by V2 or by V4."
            )
        if v4:
            key, text, expected = self._v4_form(fields)
            given = fields["x-amz-signature"]
        else:
            wanted = {"awsaccesskeyid": "AWSAccessKeyId", "policy": "Policy", "signature": "Signature"}
            claims.require_fields(fields, wanted)
            key = self._key(fields["awsaccesskeyid"], fields.get("x-amz-security-token"))
            text, given = fields["policy"], fields["signature"]
            expected = sigv2.signature(key.secret_key, text)
        if not sigv4.same(expected, given):
            raise claims.mismatch(key, text, given)
        policy = PostPolicy.parse(text, now_s=self._clock.time())
        return Identity("v4-form" if v4 else "v2-form", key), policy

    # ------------------------------------------------------------ mechanisms

    def _header(self, head: RequestHead, authorization: str, hosts: Sequence[str]) -> Authenticated:
        scheme, _, rest = authorization.partition(" ")
        if scheme == sigv4.ALGORITHM:
            return self._v4(head, self._v4_header_claim(head, rest), hosts)
        if scheme == "AWS":
            return self._v2_header(head, rest)
        if scheme.startswith("AWS4-ECDSA-"):
            raise S3Error(
                Code.NotImplemented, "Signature version 4A is not supported; sign with AWS4-HMAC-SHA256."
            )
        # The value is not shown: with Basic or Bearer it is a secret.
        raise S3Error(Code.InvalidArgument, "Unsupported Authorization Type", ArgumentName="Authorization")

    def _v4_header_claim(self, head: RequestHead, rest: str, body_sha256: str = "") -> claims.Claim:
        """``body_sha256``: the body has been read, and what is signed is this hash of it."""
        found: dict[str, str] = {}
        for part in rest.split(","):
            name, _, value = part.strip().partition("=")
            if name in found:
                raise claims.malformed(f"{name} is given twice.")
            found[name] = value
        names, given = found.get("SignedHeaders"), found.get("Signature")
        if "Credential" not in found or not names or not given:
            raise claims.malformed(
                "the authorization header requires three components: Credential, SignedHeaders, and Signature."
            )
        services = ("s3", "sts") if body_sha256 else ("s3",)
        credential = self._credential(found["Credential"], claims.malformed, services)
        sent = head.headers.get("x-amz-date")
        timestamp = self._fresh_timestamp(head.headers.get("date", "") if sent is None else sent)
        if timestamp[:8] != credential.date:
            raise claims.malformed(
                f'Invalid credential date "{credential.date}". This date is not the same as X-Amz-Date: '
                f'"{timestamp[:8]}".'
            )
        claimed = payloads.claim(head.headers) or body_sha256
        if body_sha256 and claimed.lower() != body_sha256:
            raise S3Error(Code.XAmzContentSHA256Mismatch)
        if not claimed:
            raise S3Error(
                Code.InvalidRequest, "Missing required header for this request: x-amz-content-sha256"
            )
        return claims.Claim("v4-header", credential, names, given, timestamp, claimed)

    def _v4_query_claim(self, head: RequestHead) -> claims.Claim:
        values = claims.parameters(head, _V4_PARAMETERS)
        if values is None:
            raise claims.bad_query(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
                "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters, each once."
            )
        algorithm, credential_text, given, timestamp, names, expires = values
        if algorithm != sigv4.ALGORITHM:
            if algorithm.startswith("AWS4-ECDSA-"):
                raise S3Error(
                    Code.NotImplemented, "Signature version 4A is not supported; sign with AWS4-HMAC-SHA256."
                )
            raise claims.bad_query('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
        credential = self._credential(credential_text, claims.bad_query)
        signed_at = _parse_amz_date(timestamp)
        if signed_at is None:
            raise claims.bad_query("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        if timestamp[:8] != credential.date:
            raise claims.bad_query(
                f'Invalid credential date "{credential.date}". This date is not the same as X-Amz-Date: '
                f'"{timestamp[:8]}".'
            )
        self._check_lifetime(signed_at, expires)
        in_query = [value for name, value in head.query_items if name.lower() == "x-amz-content-sha256"]
        claimed = payloads.claim(head.headers, in_query[0] if in_query else "")
        return claims.Claim("v4-query", credential, names, given, timestamp, claimed)

    def _v4_form(self, fields: Mapping[str, str]) -> tuple[AccessKey, str, str]:
        """Key, policy and expected signature of a V4 form."""
        names = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
        claims.require_fields(fields, {**{name: name for name in names}, "policy": "Policy"})
        if fields["x-amz-algorithm"] != sigv4.ALGORITHM:
            raise S3Error(
                Code.InvalidArgument,
                "Only AWS4-HMAC-SHA256 is supported.",
                ArgumentName="x-amz-algorithm",
            )

        def refused(message: str) -> S3Error:
            text = f"The x-amz-credential field is malformed; {message}"
            return S3Error(Code.InvalidArgument, text, ArgumentName="x-amz-credential")

        credential = self._credential(fields["x-amz-credential"], refused)
        timestamp = fields["x-amz-date"]
        if _parse_amz_date(timestamp) is None or timestamp[:8] != credential.date:
            raise S3Error(
                Code.InvalidArgument,
                "x-amz-date must be of the form 20260131T010203Z and on the day that x-amz-credential names.",
                ArgumentName="x-amz-date",
            )
        key = self._key(credential.access_key, fields.get("x-amz-security-token"))
        secret = sigv4.signing_key(key.secret_key, credential.date, credential.region)
        return key, fields["policy"], sigv4.signature(secret, fields["policy"])

    def _v2_header(self, head: RequestHead, rest: str) -> Authenticated:
        access_key, _, given = rest.strip().rpartition(":")
        if not access_key or not given:
            raise S3Error(
                Code.InvalidArgument,
                "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
                ArgumentName="Authorization",
            )
        sent = head.headers.get("x-amz-date")
        date = head.headers.get("date", "")
        self._fresh_timestamp(date if sent is None else sent)
        # x-amz-date stands in for Date, which is then signed as empty; botocore signs both as sent.
        dates = [date] if sent is None else list(dict.fromkeys(("", date)))
        return self._v2(head, "v2-header", access_key, given, dates)

    def _v2_query(self, head: RequestHead) -> Authenticated:
        values = claims.parameters(head, _V2_PARAMETERS)
        if values is None:
            raise S3Error(
                Code.AccessDenied,
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters, "
                "each once",
            )
        access_key, given, expires = values
        if not _INTEGER.fullmatch(expires):
            raise S3Error(Code.AccessDenied, f"Invalid date (should be seconds since epoch): {expires[:64]}")
        if int(expires) < self._clock.time():
            raise self._expired(min(max(int(expires), 0), 253_402_300_799))
        # A "+" that the client did not encode arrives as a blank, and Base64 has none.
        return self._v2(head, "v2-query", access_key, given.replace(" ", "+"), [expires])

    # ------------------------------------------------------------ comparison

    def _v4(self, head: RequestHead, claim: claims.Claim, hosts: Sequence[str]) -> Authenticated:
        names, signed = claims.signed_names(claim)
        claims.check_signed_names(head.headers, signed)
        credential = claim.credential
        key = self._key(credential.access_key, claims.security_token(head))
        secret = sigv4.signing_key(key.secret_key, credential.date, credential.region, credential.service)

        def fits(sent: RequestHead, hosts: Sequence[str] = ()) -> bool:
            for request in self._v4_readings(sent, claim, names, hosts):
                text = sigv4.string_to_sign(claim.timestamp, credential.scope, request)
                if sigv4.same(sigv4.signature(secret, text), claim.signature):
                    return True
            return False

        if not fits(head, hosts):
            likeliest = next(self._v4_readings(head, claim, names, hosts))
            text = sigv4.string_to_sign(claim.timestamp, credential.scope, likeliest)
            problem = claims.mismatch(key, text, claim.signature)
            problem.details["CanonicalRequest"] = claims.shown(likeliest)
            raise differences.name_it(problem, head, names, fits)

        def chunks() -> ChunkSigner:
            return ChunkSigner(secret, claim.timestamp, credential.scope, claim.signature)

        payload = payloads.describe(head.headers, claim.claimed, chunks)
        return Authenticated(Identity(claim.scheme, key, signed), payload)

    def _v4_readings(
        self, head: RequestHead, claim: claims.Claim, names: Sequence[str], hosts: Sequence[str]
    ) -> Iterator[str]:
        """The canonical requests that this one may stand for, the likeliest first."""
        query = sigv4.canonical_query(head.query) if head.query else ""
        uri = sigv4.canonical_uri(head.path)
        # Clients that leave, say, "!" or "(" as they are may sign the path so.
        uris = (uri,) if uri == head.path or not head.path.isascii() else (uri, head.path)
        hashes = [claim.claimed or payloads.UNSIGNED]
        if claim.scheme == "v4-query" and claim.claimed:
            hashes.append(payloads.UNSIGNED)
        for host in self._signed_hosts(head, hosts):
            lines = sigv4.canonical_headers(head.headers, names, host=host)
            for path in uris:
                for payload_hash in hashes:
                    yield sigv4.canonical_request(
                        head.method, path, query, lines, claim.signed_headers, payload_hash
                    )

    def _signed_hosts(self, head: RequestHead, hosts: Sequence[str]) -> Iterator[str]:
        sent = head.headers.get("host", "")
        yield sent
        tried = {sent}
        others = []
        if head.target.virtual_host:
            own = f"{head.target.bucket}."
            others += [host for host in hosts if host.lower().startswith(own)]
            others += [own + alias for alias in self._aliases]
        else:
            others += [*hosts, *self._aliases]
        for host in [sent, *others]:
            # Some clients sign the host without the scheme's own port, which they send.
            for form in (host, host.removesuffix(":80").removesuffix(":443")):
                if form not in tried:
                    tried.add(form)
                    yield form

    def _v2(
        self, head: RequestHead, scheme: str, access_key: str, given: str, dates: Sequence[str]
    ) -> Authenticated:
        pairs = sigv2.query_pairs(head.query) if head.query else []
        if sigv2.is_ambiguous(pairs):
            raise S3Error(
                Code.AccessDenied, "A query parameter's value reads like further signed parameters."
            )
        presigned = scheme == "v2-query"
        amz, positional = sigv2.signed_headers(head, sigv2.hoisted(pairs, presigned=presigned))
        key = self._key(access_key, amz.get("x-amz-security-token"))
        paths = sigv2.resource_paths(head.path, head.target, head.mount_prefix)
        present = frozenset([name for name, _ in pairs]) & sigv2.SUBRESOURCES

        def matches(names: frozenset[str]) -> bool:
            return any(sigv4.same(sigv2.signature(key.secret_key, text), given) for text in readings(names))

        def readings(names: frozenset[str]) -> Iterator[str]:
            for query in sigv2.subresource_forms(pairs, names):
                for path in paths:
                    for date in dates:
                        yield sigv2.string_to_sign(
                            head.method,
                            content_md5=positional["content-md5"],
                            content_type=positional["content-type"],
                            date=date,
                            amz_headers=amz,
                            resource=path + query,
                        )

        if not matches(sigv2.SUBRESOURCES) and not (
            any(name in sigv2.SIGNED_BY_SOME for name, _ in pairs)
            and matches(sigv2.SUBRESOURCES | sigv2.SIGNED_BY_SOME)
        ):
            unsigned = sigv2.unsigned_subresources(present, matches)
            if unsigned is None:
                raise claims.mismatch(key, next(readings(sigv2.SUBRESOURCES)), given)
            if not unsigned <= sigv2.INERT:
                raise S3Error(
                    Code.AccessDenied,
                    "The signature does not cover the query parameters "
                    f"{', '.join(sorted(unsigned - sigv2.INERT))}: sign them as sub-resources, or use signature version 4.",
                )
        signed = frozenset(amz).union([name for name in _V2_POSITIONAL if name in head.headers])
        payload = payloads.describe(head.headers, payloads.claim(head.headers))
        return Authenticated(Identity(scheme, key, signed), payload)

    # ------------------------------------------------------------ checks

    def _credential(
        self, text: str, refused: Callable[[str], S3Error], services: Sequence[str] = (sigv4.SERVICE,)
    ) -> sigv4.Credential:
        """The credential's parts, with service and (if strict) region checked."""
        credential = sigv4.parse_credential(text)
        if credential is None:
            raise refused(
                'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
            )
        if credential.service not in services:
            raise refused(f'incorrect service "{credential.service[:64]}". This endpoint belongs to "s3".')
        if self._strict_region and credential.region != self._region:
            problem = refused(f"the region '{credential.region[:64]}' is wrong; expecting '{self._region}'")
            problem.details["Region"] = self._region
            raise problem
        return credential

    def _key(self, access_key: str, token: str | None) -> AccessKey:
        """The enabled key of that name, or the temporary one that the token makes of it.

        Raises InvalidAccessKeyId, InvalidToken, ExpiredToken.
        """
        if token:
            return self._temporary(access_key, token)
        key = self._lookup(access_key) if _ACCESS_KEY.fullmatch(access_key) else None
        if key is None or not key.enabled:
            message = None
            if access_key.startswith(PREFIX):
                message = (
                    "This access key is a temporary one: send its session token in x-amz-security-token."
                )
            raise S3Error(Code.InvalidAccessKeyId, message, AWSAccessKeyId=access_key[:128])
        return key

    def _temporary(self, access_key: str, token: str) -> AccessKey:
        opened = self._tokens.open(access_key, token) if self._tokens and token.isascii() else None
        if opened is None:
            raise S3Error(Code.InvalidToken)
        if opened.session.expires_s <= self._clock.time():
            raise S3Error(Code.ExpiredToken)
        key = self._lookup(opened.key)
        if key is None or not key.enabled or key.created_ms != opened.key_created_ms:
            raise S3Error(
                Code.InvalidAccessKeyId,
                "The access key that made these temporary credentials is disabled or gone.",
                AWSAccessKeyId=access_key[:128],
            )
        return temporary(key, opened)

    def _fresh_timestamp(self, sent: str) -> str:
        """A request's date as ``20260131T010203Z``. Raises AccessDenied, RequestTimeTooSkewed."""
        timestamp = sent
        seconds = _parse_amz_date(sent)
        if seconds is None:
            timestamp = ""
            seconds = parse_http_date(sent) if sent else None
        if seconds is None or seconds < 0:
            raise S3Error(Code.AccessDenied, "AWS authentication requires a valid Date or x-amz-date header")
        now = self._clock.time()
        if abs(now - seconds) > self._skew_s:
            raise S3Error(
                Code.RequestTimeTooSkewed,
                RequestTime=sent[:64],
                ServerTime=rfc3339(now),
                MaxAllowedSkewMilliseconds=str(int(self._skew_s * 1000)),
            )
        return timestamp or amz_date(seconds)

    def _check_lifetime(self, signed_at: float, expires: str) -> None:
        """Raise AuthorizationQueryParametersError or AccessDenied unless a V4 URL is valid now."""
        if not _INTEGER.fullmatch(expires):
            raise claims.bad_query("X-Amz-Expires should be a number")
        if not 1 <= int(expires) <= MAX_EXPIRES_S:
            # 403 rather than 400, as ceph/s3-tests want it: such a URL is as good as expired.
            raise claims.bad_query(
                f"X-Amz-Expires must be at least 1 and at most a week (in seconds): {MAX_EXPIRES_S}",
                status=403,
            )
        now = self._clock.time()
        if signed_at > now + self._skew_s:
            raise S3Error(
                Code.AccessDenied,
                "Request is not valid yet",
                RequestTime=rfc3339(signed_at),
                ServerTime=rfc3339(now),
            )
        if now > signed_at + int(expires):
            raise self._expired(signed_at + int(expires))

    def _expired(self, expired_at: float) -> S3Error:
        return S3Error(
            Code.AccessDenied,
            "Request has expired",
            Expires=rfc3339(expired_at),
            ServerTime=rfc3339(self._clock.time()),
        )
