"""The WSGI application: one request from top to bottom.

raw request line → target → dispatcher → authenticate → load bucket → authorise → handler → answer.
Everything that can be refused is refused before the first byte of the body is read. `S3Error`
becomes XML here and nowhere else; any other exception is logged with its traceback and answered
InternalError without detail.
"""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from s3lite import bootstrap, oss, reserved
from s3lite.auth.actions import versioned
from s3lite.auth.authenticate import Authenticated, Authenticator, Payload
from s3lite.auth.authorize import OBJECT_ACTIONS
from s3lite.auth.facts import About
from s3lite.auth.oss import OssAuthenticator, recognise
from s3lite.auth.rates import Limiter
from s3lite.auth.sessions import SESSION_SEAL_KEY, SessionTokens
from s3lite.blobs.base import BlobsAwayError, BlobStore
from s3lite.callback.send import Attempt, CallbackSender
from s3lite.catalog.base import Catalog, CatalogBusyError
from s3lite.context import IDENTITY, Context, Level, Route, Services
from s3lite.core import access_log
from s3lite.core.carriers import Carriers, delivery_of
from s3lite.core.courier import Courier
from s3lite.core.read import VersionGoneError
from s3lite.core.store import Store
from s3lite.core.sweep import Sweeper
from s3lite.core.targets import Targets
from s3lite.dispatch import Dispatcher
from s3lite.errors import Code, S3Error
from s3lite.exchange import Exchange, tell_bucket, tell_operator
from s3lite.hooks import Event, Hooks
from s3lite.ids import Ids
from s3lite.model import ANONYMOUS, AccessKey, Account, Bucket, Identity, ObjectVersion, Rate, RequestHead
from s3lite.names import tenant_of
from s3lite.ops import cors, request_payment, website
from s3lite.responses import Response, StartResponse, error
from s3lite.routes import BY_BODY, ROUTES, UNSIGNED, WEBSITE
from s3lite.settings import Settings, load
from s3lite.target import Environ, request_head
from s3lite.times import Clock
from s3lite.wire.body import LengthSource

if TYPE_CHECKING:
    from s3lite.console.app import Console
    from s3lite.metrics import Metrics
    from s3lite.tracing import TracerProvider, Tracing

log = logging.getLogger("s3lite")
_KEYS_REMEMBERED = 10_000
_READ_ATTEMPTS = 10

Signatures = TypeVar("Signatures", bound=Authenticator)


def create_app(
    settings: Settings | None = None,
    *,
    hooks: Hooks | None = None,
    on_event: Callable[[Event], None] | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    tracer_provider: TracerProvider | None = None,
) -> Application:
    """A WSGI callable with its own storage; several can live in one process.

    ``hooks`` are what an embedding program says and hears (`s3lite.hooks`); ``on_event`` is short for the
    one of that name: called after each upload is stored and before its uploader is answered, with the keys
    operation, bucket, key, size, etag, version_id, request_id and account_id. ``tracer_provider`` is
    OpenTelemetry's, for traces; without one the settings decide. Raises SettingsError.
    """
    chosen = hooks or Hooks()
    if on_event is not None:
        chosen = replace(chosen, on_event=on_event)
    chosen_settings = settings or load()
    tracing = None
    if tracer_provider is not None or chosen_settings.tracing.enabled:
        from s3lite.tracing import Tracing, configured

        tracing = Tracing(tracer_provider or configured())
    return Application(
        chosen_settings, hooks=chosen, clock=clock or Clock(), ids=ids or Ids(), tracing=tracing
    )


class Application:
    """One instance of s3lite. Call it as WSGI; `close` it when done with it."""

    def __init__(
        self, settings: Settings, *, hooks: Hooks, clock: Clock, ids: Ids, tracing: Tracing | None
    ) -> None:
        # What may refuse the settings comes before storage is opened.
        self._trusted = [ipaddress.ip_network(entry) for entry in settings.http.trusted_proxies]
        targets = Targets(settings.notifications)
        storage = bootstrap.prepare(settings, clock=clock, ids=ids)
        self._catalog: Catalog = storage.catalog
        self._blobs: BlobStore = storage.blobs
        self._settings = settings
        self._clock = clock
        self._ids = ids
        self._host_id = f"s3lite-{ids.request()}"
        self._dispatcher = Dispatcher(ROUTES)
        # The longest first: BUCKET.web.example is no bucket BUCKET.web of example.
        self._domains = sorted((*settings.domains, *settings.website_domains), key=len, reverse=True)
        self._tracing = tracing
        self._sweeper: Sweeper | None = None
        self._pid = 0
        self._keys: dict[str, tuple[float, AccessKey]] = {}  # until when, by access key
        self._courier: Courier | None = None
        self._metrics: Metrics | None = None
        if settings.metrics.enabled:
            from s3lite.metrics import Metrics

            self._metrics = Metrics()
        store = Store(
            self._catalog, self._blobs, clock, ids, settings, storage.keyring, reserve=storage.reserve
        )
        self._access_log = access_log.AccessLog(store)
        body_bytes = settings.outbox.log_body_bytes

        def called_back(attempt: Attempt) -> None:
            store.outbox.record(delivery_of(attempt, body_bytes=body_bytes))
            if self._metrics is not None:
                self._metrics.called_back(ok=not attempt.message, seconds=attempt.cost_ms / 1000)

        callbacks = CallbackSender(
            settings.callback,
            keys=storage.callback_keys,
            clock=clock,
            ids=ids,
            own_listeners=bootstrap.own_listeners(settings),
            threads=settings.threads,
            on_log=called_back,
            on_lanes=self._metrics.lanes if self._metrics is not None else None,
            trace=tracing.callback if tracing is not None else None,
        )
        limits = settings.limits
        self._limiter = Limiter(
            default=Rate(limits.key_requests_per_s, limits.key_burst, limits.key_throughput),
            workers=settings.worker_count,
            clock=clock,
        )
        self._session_tokens = SessionTokens(bootstrap.installation_key(self._catalog, SESSION_SEAL_KEY))
        self.services = Services(
            settings=settings,
            store=store,
            session_tokens=self._session_tokens,
            limiter=self._limiter,
            authenticator=self._authenticator(Authenticator),
            oss_authenticator=self._authenticator(OssAuthenticator),
            callbacks=callbacks,
            callback_keys=storage.callback_keys,
            carriers=Carriers(store, callbacks, targets),
            targets=targets,
            host_id=self._host_id,
            hooks=hooks,
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if self._pid != os.getpid():
            self.start_upkeep()
        exchange = Exchange(self._ids.request())
        if self._tracing is None:
            return self._serve(environ, exchange, start_response)
        with self._tracing.request(environ, exchange):
            return self._serve(environ, exchange, start_response)

    def _serve(self, environ: Environ, exchange: Exchange, start_response: StartResponse) -> Iterable[bytes]:
        started = self._clock.monotonic()
        if self._metrics is not None:
            self._metrics.begun()
        try:
            response = self._answer(environ, exchange)
        except S3Error as problem:
            response = self._refuse(environ, exchange, problem)
        except (CatalogBusyError, BlobsAwayError):
            response = self._refuse(environ, exchange, S3Error(Code.SlowDown, headers={"Retry-After": "1"}))
        except Exception:  # the one place: a client gets an S3 error whatever broke
            log.exception("request %s failed", exchange.request_id)
            response = self._refuse(environ, exchange, S3Error(Code.InternalError))
        response.headers += exchange.cors
        response.headers.append(("x-amz-request-id", exchange.request_id))
        response.headers.append(("x-amz-id-2", self._host_id))
        if exchange.oss is not None:
            response = oss.rewrite(response, oss.About(exchange.oss, self._settings.region))
        exchange.status, exchange.error = response.status, response.error
        elapsed_s = self._clock.monotonic() - started
        if self._metrics is not None:
            self._metrics.answered(
                exchange.operation,
                response.status,
                seconds=elapsed_s,
                received=exchange.ctx.received if exchange.ctx else 0,
                sent=response.size,
            )
        if exchange.caller.key is not None:
            received = exchange.ctx.received if exchange.ctx else 0
            self._limiter.charge(
                exchange.caller.key,
                received + (response.size or 0),
                is_shared=bool(environ.get("wsgi.multiprocess")),
            )
        self._log(environ, exchange, response, elapsed_s)
        return response.start(environ["REQUEST_METHOD"], start_response)

    def _answer(self, environ: Environ, exchange: Exchange) -> Response:
        head = exchange.head = request_head(
            environ,
            self._domains,
            behind_proxy=self._is_trusted(environ.get("REMOTE_ADDR", "")),
            has_tenants=self._settings.compat.ceph,
        )
        if head.target.bucket == reserved.PREFIX and not head.target.virtual_host:
            if reserved.is_console(head) and self._settings.console.enabled:
                return self._console.answer(environ, head, self._client_ip(environ))
            if head.target.key == "metrics" and self._metrics is not None:
                reserved.check_may_read_metrics(head, self._settings.metrics, self._client_ip(environ))
                figures = self._metrics.exposition(self.services.store)
                return Response(200, [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")], figures)
            return reserved.answer(head, self.services)
        if recognise(head):
            exchange.oss = head
            head = exchange.head = oss.translate(head)
        if "origin" in head.headers:
            exchange.cors = cors.actual_headers(head, self._catalog)
        is_site = website.is_site(head, self._settings.website_domains)
        params = {} if is_site else dict(reversed(head.query_items))
        route = exchange.route = WEBSITE if is_site else self._dispatcher.match(head, params)
        if route.handler is None:
            raise S3Error(
                Code.NotImplemented,
                f"{route.operation} is not implemented by this server.",
                Operation=route.operation,
            )
        signed = self._authenticate(environ, exchange.oss or head, route)
        exchange.caller = signed.identity
        if signed.identity.key is not None:
            self._limiter.admit(signed.identity.key, is_shared=bool(environ.get("wsgi.multiprocess")))
        bucket, version = self._located(head, route, params)
        ctx = exchange.ctx = Context(
            environ=environ,
            head=head,
            route=route,
            params=params,
            caller=signed.identity,
            payload=signed.payload,
            bucket_row=bucket,
            version=version,
            request_id=exchange.request_id,
            client_ip=self._client_ip(environ),
            services=self.services,
        )
        if bucket is not None and access_log.CONFIG in bucket.configs:
            exchange.destination = self._access_log.destination(bucket, bucket.name)
        response = self._handle(ctx)
        response.headers += request_payment.charged(ctx, response)
        exchange.caller = ctx.caller
        if ctx.caller.scheme == "oss1-form" or ctx.caller.scheme == "oss4-form":
            exchange.oss = head
        return response

    # ------------------------------------------------------------ the steps

    def _handle(self, ctx: Context) -> Response:
        """Authorise and do it; a reader that a writer has overtaken is about the object as it is now."""
        head, route = ctx.head, ctx.route
        attempt = 1
        while True:
            self._authorise(ctx)
            if route.operation not in UNSIGNED:
                ctx.check_upload()
            try:
                assert route.handler is not None
                return route.handler(ctx)
            except VersionGoneError:
                if head.method not in ("GET", "HEAD") or attempt == _READ_ATTEMPTS:
                    raise
            attempt += 1
            ctx.head = head  # that of a website is about one of its pages by now
            ctx.bucket_row, ctx.version = self._located(head, route, ctx.params)

    def _authenticator(self, kind: type[Signatures]) -> Signatures:
        settings = self._settings
        return kind(
            lookup=self._access_key,
            clock=self._clock,
            region=settings.region,
            strict_region=settings.http.strict_region,
            clock_skew_s=settings.http.clock_skew_s,
            endpoint_aliases=settings.http.endpoint_aliases,
            tokens=self._session_tokens,
        )

    def _authenticate(self, environ: Environ, head: RequestHead, route: Route) -> Authenticated:
        if route.operation in UNSIGNED:
            return Authenticated(ANONYMOUS, Payload("unsigned"))
        known = environ.get(IDENTITY)
        if not isinstance(known, Identity):
            known = self.services.hooks.identity(environ, self._account)
        if known is not None:
            return Authenticated(known, Payload("unsigned"))
        hosts: Sequence[str] = ()
        forwarded = head.headers.get("x-forwarded-host")
        if forwarded and self._is_trusted(environ.get("REMOTE_ADDR", "")):
            hosts = [name.strip() for name in forwarded.split(",")]
        if recognise(head):
            return self.services.oss_authenticator.request(head)
        return self.services.authenticator.request(head, hosts=hosts)

    def _account(self, account_id: str) -> Account | None:
        with self._catalog.read() as tx:
            return tx.account(account_id)

    def _located(
        self, head: RequestHead, route: Route, params: Mapping[str, str]
    ) -> tuple[Bucket | None, ObjectVersion | None]:
        """The bucket, and the version that an operation on an existing object is about: its ACL may decide."""
        if route.level is Level.SERVICE or route.operation == "CreateBucket":
            return None, None
        name, key, version_id = head.target.bucket, head.target.key, params.get("versionId")
        needs_version = route.level is Level.OBJECT and route.permission in OBJECT_ACTIONS
        version: ObjectVersion | None = None
        with self._catalog.read() as tx:
            if needs_version and not version_id:
                bucket, version = tx.bucket_and_current(name, key) or (None, None)
            else:
                bucket = tx.bucket(name)
                if bucket is not None and needs_version and version_id:
                    version = tx.version(bucket.id, key, version_id)
        tenant = head.target.tenant
        if bucket is None or (tenant is not None and tenant != tenant_of(bucket.owner_id)):
            raise S3Error(Code.NoSuchBucket, BucketName=name)
        expected = head.headers.get("x-amz-expected-bucket-owner")
        if expected and expected != bucket.owner_id:
            raise S3Error(Code.AccessDenied, "The bucket is not owned by the expected account.")
        return bucket, version

    def _authorise(self, ctx: Context) -> None:
        """Raise AccessDenied unless the row's permission is given.

        Of an object that is not there only those who may list learn so; others are denied alike.
        """
        route, version = ctx.route, ctx.version
        if route.operation in UNSIGNED:
            return
        action = route.permission
        if route.level is Level.OBJECT:
            action = versioned(action, ctx.params.get("versionId"))
        if action in OBJECT_ACTIONS and (version is None or version.is_delete_marker):
            allowed = not ctx.is_denied(action) and ctx.may("s3:ListBucket", about=About(prefix=ctx.key))
        elif route.operation in BY_BODY:
            allowed = ctx.may_some(action)
        else:
            allowed = ctx.may(action, about=About(version=version))
        if not allowed:
            raise S3Error(Code.AccessDenied)
        request_payment.check(ctx, ctx.bucket_row)

    def _access_key(self, access_key: str) -> AccessKey | None:
        """The key, remembered for a moment: every request asks, and it hardly ever changes."""
        now = self._clock.monotonic()
        remembered = self._keys.get(access_key)
        if remembered is not None and remembered[0] > now:
            return remembered[1]
        with self._catalog.read() as tx:
            key = tx.access_key(access_key)
        if key is not None:
            if len(self._keys) >= _KEYS_REMEMBERED:
                self._keys.clear()
            self._keys[access_key] = (now + self._settings.http.key_cache_s, key)
        return key

    def _client_ip(self, environ: Environ) -> str:
        """The peer, or the nearest address in X-Forwarded-For that is no trusted proxy."""
        address: str = environ.get("REMOTE_ADDR", "")
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "")
        if forwarded and self._trusted:
            chain = [part.strip() for part in forwarded.split(",")]
            while chain and self._is_trusted(address):
                address = chain.pop()
        return address

    def _is_trusted(self, address: str) -> bool:
        if not self._trusted:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._trusted)

    @cached_property
    def _console(self) -> Console:
        """Made when somebody first looks at it, with what it imports."""
        from s3lite.console.app import Console

        seal_key = bootstrap.installation_key(self._catalog, "console-seal-key")
        metrics = self._metrics
        return Console(
            self,
            self.services,
            lookup=self._access_key,
            seal_key=seal_key,
            totals=metrics.totals if metrics is not None else dict,
        )

    # ------------------------------------------------------------ the answer

    def _refuse(self, environ: Environ, exchange: Exchange, problem: S3Error) -> Response:
        self._drain(environ, exchange)
        if exchange.route is WEBSITE:
            return website.error_page(problem, request_id=exchange.request_id)
        head = exchange.head
        return error(
            problem,
            resource=head.path if head else environ.get("PATH_INFO", ""),
            request_id=exchange.request_id,
            host_id=self._host_id,
        )

    def _drain(self, environ: Environ, exchange: Exchange) -> None:
        """Read what an early refusal left of a body, up to a limit, so that the client sees the answer.

        Closing a connection with unread bytes resets it, and browsers then show no answer at all. A
        client that waits for 100 Continue sends nothing, so nothing is read from it. Our gunicorn worker drops
        the rest by itself, and holds no thread meanwhile.
        """
        if "HTTP_EXPECT" in environ or getattr(environ["wsgi.input"], "drops_rest", False):
            return
        length = environ.get("CONTENT_LENGTH") or ""
        if not length.isdigit():
            return
        body = exchange.ctx.raw_body if exchange.ctx else None
        if body is None:
            body = LengthSource(environ["wsgi.input"], int(length))
        with suppress(S3Error):
            body.drain(self._settings.http.drain_bytes)

    def _log(self, environ: Environ, exchange: Exchange, response: Response, elapsed_s: float) -> None:
        if self._settings.http.access_log:
            tell_operator(exchange, environ, response, elapsed_s)
        head, ctx = exchange.head, exchange.ctx
        if ctx is not None:
            if exchange.destination is None and not ctx.beside:
                return  # nearly all requests
        elif head is None or not head.target.bucket or head.target.bucket == reserved.PREFIX:
            return
        tell_bucket(
            self._access_log,
            exchange,
            environ,
            response,
            started_s=self._clock.time() - elapsed_s,
            elapsed_s=elapsed_s,
            client_ip=self._client_ip(environ),
            host_id=self._host_id,
        )

    # ------------------------------------------------------------ life cycle

    def start_upkeep(self) -> None:
        """Start the sweeper and the courier in this process, once; also done by the first request."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        if self._settings.sweep.enabled:
            self._sweeper = Sweeper(
                self.services.store, on_swept=self._metrics.swept if self._metrics is not None else None
            )
            self._sweeper.start()
        self._courier = Courier(self.services.store, self.services.carriers)
        self._courier.start()
        if self._metrics is not None:
            self._metrics.keep_counting()

    def close(self) -> None:
        """End the sweeper and the courier, close connections and files. No request may follow."""
        if self._sweeper is not None:
            self._sweeper.stop()
        if self._courier is not None:
            self._courier.stop()
        if self._metrics is not None:
            self._metrics.close()
        self._access_log.close()
        self.services.callbacks.close()
        self.services.carriers.close()
        self._catalog.close()
        self._blobs.close()
