"""What a handler is handed, and the shape of a row in the table of operations."""

from __future__ import annotations

import enum
import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from s3lite.auth.authenticate import Authenticator, Payload
from s3lite.auth.authorize import NO_RULES, Rules, authorize, authorize_some, is_denied, within_limits
from s3lite.auth.facts import THE_REQUEST, About, RequestFacts
from s3lite.auth.oss import OssAuthenticator
from s3lite.auth.rates import Limiter
from s3lite.auth.sessions import SessionTokens
from s3lite.core import access
from s3lite.core.store import Store
from s3lite.errors import Code, S3Error
from s3lite.hooks import Asked, Hooks
from s3lite.model import Bucket, Identity, ObjectVersion, RequestHead, Target
from s3lite.responses import Response
from s3lite.settings import Settings
from s3lite.wire import checksums
from s3lite.wire.aws_chunked import AwsChunkedSource
from s3lite.wire.body import LengthSource, Source, read_all
from s3lite.wire.encryption import CustomerKey

if TYPE_CHECKING:
    from s3lite.callback.send import CallbackSender
    from s3lite.callback.signing import CallbackKeys
    from s3lite.core.carriers import Carriers
    from s3lite.core.targets import Targets

log = logging.getLogger("s3lite")

IDENTITY = "s3lite.identity"
"""The WSGI key under which whoever embeds the application may hand it an `Identity` that is known already.

Clients cannot set it: what they send are ``HTTP_`` keys."""


class Level(enum.Enum):
    """What a request line names."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


class Services:
    """What one application instance shares between its requests."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        authenticator: Authenticator,
        oss_authenticator: OssAuthenticator,
        session_tokens: SessionTokens,
        limiter: Limiter,
        callbacks: CallbackSender,
        callback_keys: CallbackKeys,
        carriers: Carriers,
        targets: Targets,
        host_id: str,
        hooks: Hooks,
    ) -> None:
        self.settings = settings
        self.store = store
        self.authenticator = authenticator
        self.oss_authenticator = oss_authenticator
        self.session_tokens = session_tokens
        self.limiter = limiter
        self.callbacks = callbacks
        self.callback_keys = callback_keys
        self.carriers = carriers
        self.targets = targets
        self.host_id = host_id
        self.hooks = hooks

    def publish_event(self, ctx: Context, operation: str, version: ObjectVersion) -> None:
        """Tell the embedding program of an upload."""
        if self.hooks.on_event is not None:
            self.hooks.tell(
                {
                    "operation": operation,
                    "bucket": ctx.bucket.name,
                    "key": version.key,
                    "size": version.size,
                    "etag": version.etag,
                    "version_id": version.version_id,
                    "request_id": ctx.request_id,
                    "account_id": ctx.caller.account_id,
                }
            )


class Beside(NamedTuple):
    """Something that a request did beside its operation, for access logs."""

    operation: str  # as S3 logs it
    key: str
    version_id: str = ""
    bucket: Bucket | None = None  # None: that of the request
    size: int | None = None  # of the object
    error: S3Error | None = None


@dataclass(slots=True)
class Context:
    """One request, authenticated and authorised, its body not yet read."""

    environ: dict[str, Any]
    head: RequestHead
    route: Route
    params: Mapping[str, str]  # decoded query, the first of repeated names
    caller: Identity
    payload: Payload
    bucket_row: Bucket | None  # loaded once, before the decision
    version: ObjectVersion | None  # loaded for operations whose permission an object's ACL can give
    request_id: str
    client_ip: str
    services: Services
    trailers: Mapping[str, str] | None = None
    received: int = 0  # bytes of body taken, for the log
    raw_body: LengthSource | None = None  # the body as framed, once someone reads it
    own_rules: Rules | None = None  # `rules`, once someone asks
    customer_key: CustomerKey | None = None  # that came with the request, once it was checked
    beside: Sequence[Beside] = ()
    is_charged: bool = False  # the caller pays, and has agreed to

    @property
    def bucket(self) -> Bucket:
        """The bucket of a bucket or object operation."""
        assert self.bucket_row is not None
        return self.bucket_row

    @property
    def target(self) -> Target:
        """Bucket and key as the request names them."""
        return self.head.target

    @property
    def key(self) -> str:
        """The object's key."""
        return self.head.target.key

    @property
    def headers(self) -> Mapping[str, str]:
        """Request headers, lower-case names."""
        return self.head.headers

    @property
    def store(self) -> Store:
        """Catalog, blobs, clock and ids."""
        return self.services.store

    @property
    def settings(self) -> Settings:
        """The settings of this instance."""
        return self.services.settings

    @property
    def speaks_oss(self) -> bool:
        """Whether the request is in the dialect of OSS."""
        return self.caller.scheme.startswith("oss")

    # ------------------------------------------------------------ permission

    @property
    def rules(self) -> Rules:
        """What decides about access to the request's bucket, beside its ACL."""
        if self.own_rules is None:
            self.own_rules = access.rules_of(self.store.catalog, self.bucket)
        return self.own_rules

    def require(
        self,
        action: str,
        *,
        bucket: Bucket | None = None,
        key: str | None = None,
        about: About = THE_REQUEST,
    ) -> None:
        """Raise AccessDenied unless the caller may do what the route's row cannot say (copy sources …)."""
        if not self.may(action, bucket=bucket, key=key, about=about):
            raise S3Error(Code.AccessDenied)

    def may(
        self,
        action: str,
        *,
        bucket: Bucket | None = None,
        key: str | None = None,
        about: About = THE_REQUEST,
    ) -> bool:
        """Whether the caller has ``action`` on a bucket or a key, those of the request by default.

        Of an object that is there, ``about`` has its version: ownership, ACL and tags count.
        """
        named = bucket or self.bucket_row
        hooks = self.services.hooks
        if hooks.authorize is None:
            return self._may(action, named, key, about)
        return self._may(action, named, key, about) and hooks.allows(self.asked(action, named, key))

    def _may(self, action: str, named: Bucket | None, key: str | None, about: About) -> bool:
        if named is None:
            facts = self._facts(NO_RULES, None, action, about)
            return authorize(self.caller, action, bucket=None, name=self.target.bucket or "*", facts=facts)
        own = self.bucket_row is not None and named.id == self.bucket_row.id
        rules = self.rules if own else access.rules_of(self.store.catalog, named)
        return authorize(
            self.caller,
            action,
            bucket=named,
            key=self.key if key is None else key,
            object_acl=about.version.acl if about.version is not None else None,
            rules=rules,
            facts=self._facts(rules, named, action, about),
        )

    def asked(self, action: str, bucket: Bucket | None, key: str | None = None) -> Asked:
        """What hooks are told of a decision."""
        size = self.headers.get("x-amz-decoded-content-length") or self.headers.get("content-length") or ""
        return Asked(
            operation=self.route.operation,
            action=action,
            bucket=bucket.name if bucket is not None else self.target.bucket,
            key=self.key if key is None else key,
            account_id=self.caller.account_id,
            access_key=self.caller.key.access_key if self.caller.key else "",
            client_ip=self.client_ip,
            size=int(size) if size.isascii() and size.isdigit() else None,
            headers=self.headers,
            environ=self.environ,
        )

    def check_upload(self) -> None:
        """Let the embedding program refuse an upload before its body is read. Raises what its hook says."""
        if self.services.hooks.before_upload is not None:
            self.services.hooks.check_upload(self.asked(self.route.permission, self.bucket_row))

    def admit(self) -> None:
        """Count a request whose handler has found out who sent it. Raises SlowDown."""
        if self.caller.key is not None:
            self.services.limiter.admit(
                self.caller.key, is_shared=bool(self.environ.get("wsgi.multiprocess"))
            )

    def within_limits(self, action: str, arn: str) -> bool:
        """Whether the caller's key and session may do ``action`` on what is no bucket of this server."""
        return within_limits(self.caller, action, arn, self._facts(NO_RULES, None, action, THE_REQUEST))

    def may_some(self, action: str) -> bool:
        """False if the caller may do ``action`` nowhere in the bucket (or to the object, if it is there)."""
        object_acl = self.version.acl if self.version is not None else None
        return authorize_some(
            self.caller, action, bucket=self.bucket, object_acl=object_acl, rules=self.rules
        )

    def is_denied(self, action: str, *, about: About = THE_REQUEST) -> bool:
        """Whether a policy, the bucket's or the key's own, keeps the caller from ``action`` on the key."""
        rules = self.rules
        facts = self._facts(rules, self.bucket, action, about)
        return is_denied(self.caller, action, bucket=self.bucket, key=self.key, rules=rules, facts=facts)

    def _facts(self, rules: Rules, bucket: Bucket | None, action: str, about: About) -> RequestFacts | None:
        """None where no policy asks for them."""
        if rules.policy is None and not self.caller.limits:
            return None
        if self.bucket_row is not None and action == "s3:PutObject" and "uploadId" in self.params:
            # Parts and Complete do not repeat the encryption that the upload was begun with.
            with self.store.catalog.read() as tx:
                upload = tx.upload(self.bucket_row.id, self.key, self.params["uploadId"])
            about = replace(about, upload=upload)
        return RequestFacts(
            head=self.head,
            params=self.params,
            caller=self.caller,
            client_ip=self.client_ip,
            now_s=self.store.clock.time(),
            bucket=bucket,
            action=action,
            about=about,
        )

    # ------------------------------------------------------------ body

    def content_length(self) -> int | None:
        """Bytes announced for the body as framed; None when it is chunked (RFC 9112, 6).

        Raises MissingContentLength when neither is said, InvalidArgument when both are or it is no number.
        """
        text = self.headers.get("content-length")
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if text is None:
            if chunked and self.environ.get("wsgi.input_terminated"):
                return None
            raise S3Error(Code.MissingContentLength)
        if chunked:
            raise S3Error(
                Code.InvalidRequest, "Send either Content-Length or Transfer-Encoding: chunked, not both."
            )
        if not (text.isascii() and text.isdigit()):
            raise S3Error(Code.InvalidRequest, "Content-Length must be a number of bytes.")
        return int(text)

    def payload_length(self) -> int | None:
        """Bytes of the payload itself: the decoded length of aws-chunked bodies, else the body's.

        None when the client does not say (chunked without a decoded length).
        """
        if self.payload.kind != "chunked":
            return self.content_length()
        text = self.headers.get("x-amz-decoded-content-length")
        if text is None or not (text.isascii() and text.isdigit()):
            raise S3Error(
                Code.MissingContentLength,
                "An aws-chunked body needs the header x-amz-decoded-content-length with its size in bytes.",
            )
        return int(text)

    def body(self, *, max_bytes: int) -> Source:
        """The payload as a stream, its framing removed and chunk signatures checked.

        Raises EntityTooLarge before a byte is read when the announced size exceeds ``max_bytes``.
        """
        length = self.payload_length()
        if length is not None and length > max_bytes:
            raise S3Error(
                Code.EntityTooLarge,
                f"Your proposed upload has {length} bytes; the largest allowed here is {max_bytes}.",
                ProposedSize=str(length),
                MaxSizeAllowed=str(max_bytes),
            )
        is_framed = self.payload.kind == "chunked"  # then the decoder holds the payload to its length
        source = self.raw_body = LengthSource(
            self.environ["wsgi.input"], self.content_length(), max_bytes=None if is_framed else max_bytes
        )
        if is_framed:
            names = frozenset(
                name.strip().lower()
                for name in self.headers.get("x-amz-trailer", "").split(",")
                if name.strip()
            )
            chunked = AwsChunkedSource(
                source,
                decoded_length=length,
                signer=self.payload.signer,
                trailer_names=names,
                signed_trailer=self.payload.signed_trailer,
            )
            self.trailers = chunked.trailers
            return chunked
        return source

    def document(self, *, has_checksum: bool = True) -> bytes:
        """The whole body of a request that carries XML, verified against its hash and checksums.

        ``has_checksum`` False: x-amz-checksum-* headers speak of something else than the body.
        """
        length = self.headers.get("content-length", "")
        if not length and "transfer-encoding" not in self.headers:
            return b""
        data = read_all(
            self.body(max_bytes=self.settings.limits.xml_bytes), limit=self.settings.limits.xml_bytes
        )
        self.received = len(data)
        headers = self.headers
        if not has_checksum:
            headers = {name: value for name, value in headers.items() if name == "content-md5"}
        request = checksums.parse_checksum_headers(headers)
        digests = checksums.Digests(algorithms_of(request), sha256=self.payload.kind == "sha256")
        digests.update(data)
        self.verify(request, digests)
        return data

    def verify(self, request: checksums.ChecksumRequest, digests: checksums.Digests) -> None:
        """Compare what arrived with every hash that the client gave. Raises BadDigest and its like."""
        if self.payload.kind == "sha256":
            computed = digests.sha256_hex
            if not hmac.compare_digest(computed, self.payload.sha256):
                raise S3Error(
                    Code.XAmzContentSHA256Mismatch,
                    ClientComputedContentSHA256=self.payload.sha256,
                    S3ComputedContentSHA256=computed,
                )
        checksums.verify(request, digests, self.trailers or {})


def algorithms_of(request: checksums.ChecksumRequest) -> set[str]:
    """The checksum algorithms that a request's headers or trailer announce."""
    return {name for name in (request.algorithm, request.trailer) if name}


Handler = Callable[[Context], Response]


class Route(NamedTuple):
    """One operation. ``handler`` None: known, not offered, answered 501 by name."""

    method: str
    level: Level
    subresource: str | None  # the query name that picks the operation; None for the bare resource
    operation: str  # the API Reference's name; also the name in logs, metrics and tests
    permission: str  # what the caller needs on this bucket or key
    handler: Handler | None
    when: str | None = None  # a header or query name that must be present
