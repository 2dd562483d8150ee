"""Settings: defaults < TOML file < environment, in one frozen object.

Each field states its unit, default and help here and nowhere else; ``conf/s3lite.toml`` and
docs/settings.md are checked against it by a test. A name in a section ``[callback]`` is
``S3LITE_CALLBACK_NAME`` in the environment, a name outside sections ``S3LITE_NAME``. Unknown names
and bad values stop the start with one message that lists them all.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3lite import config

POSTGRES = ("postgresql://", "postgres://")
"""How a `Settings.database_url` begins that names PostgreSQL."""

DEFAULT_FILE = Path(__file__).resolve().parent.parent / "conf" / "s3lite.toml"


class SettingsError(ValueError):
    """Settings that cannot be used; the message lists every fault."""


def _setting(default: Any, help_text: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help_text, "choices": choices})


@dataclass(frozen=True, slots=True)
class CallbackSettings:
    """Upload callbacks (docs/callbacks.md)."""

    allow: tuple[str, ...] = _setting(
        (),
        "targets inside private networks that callbacks may reach: host, CIDR, either with :port; *.name for subdomains",
    )
    allow_only: bool = _setting(False, "refuse every target that `allow` does not name")
    deny_ports: tuple[int, ...] = _setting((), "ports that callbacks never use, beside the built-in list")
    timeout_s: float = _setting(
        5.0, "seconds for one URL, from name resolution to the last byte of the answer"
    )
    total_timeout_s: float = _setting(15.0, "seconds for all URLs of one callback")
    max_inflight: int = _setting(
        0, "callbacks waiting for an answer at once, per worker; more fail at once; 0: half of `threads`"
    )
    max_inflight_per_target: int = _setting(
        0, "of these, one account's callbacks to one host and port; 0: three quarters"
    )
    breaker_failures: int = _setting(
        5, "attempts in a row without an answer after which a target is suspended; 0: never"
    )
    breaker_pause_s: float = _setting(
        5.0, "seconds of that; doubled, up to twelve times this, while attempts after it fail"
    )
    gate_timeout_s: float = _setting(30.0, "seconds for a gate's decision, all URLs together")
    gate_memory_s: float = _setting(
        900.0, "seconds in which a repeated upload that a gate has not decided keeps its webhook-id"
    )
    max_reply_bytes: int = _setting(1 << 20, "bytes of an application's answer that are read")
    default_reply: str = _setting(
        "passthrough",
        "reply when the request does not say: the application's answer, or S3's own",
        ("passthrough", "standard"),
    )
    form_unlisted: str = _setting(
        "refuse", "form fields callback and x:* that no policy condition names", ("refuse", "accept")
    )
    policies: int = _setting(100, "named callback policies of one bucket")
    oss_signature: bool = _setting(True, "also sign as OSS does (RSA-MD5): compatibility, not security")
    public_url: str = _setting(
        "",
        "base URL under which applications reach /.s3lite/ for public keys; empty: the uploader's endpoint",
    )
    proxy: str = _setting("", "HTTP proxy for callbacks, which then does the filtering of addresses")
    ca_file: str = _setting("", "PEM file of private certificate authorities for https targets")


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Delivery of asynchronous callbacks and of notifications, and its log (docs/callbacks.md)."""

    enabled: bool = _setting(True, "deliver from this server; off: it only writes, other nodes deliver")
    schedule_s: tuple[float, ...] = _setting(
        (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0),
        "seconds before each attempt, from the one before it; after the last one a message is dead",
    )
    threads: int = _setting(16, "messages being sent at once, per worker; none of them holds up requests")
    per_target: int = _setting(4, "of these, one account's messages to one host and port, or to one target")
    poll_s: float = _setting(1.0, "seconds between two looks for messages of other processes")
    lease_s: float = _setting(
        60.0, "seconds after which messages of a process that has died are sent by others"
    )
    dead_days: float = _setting(30.0, "days that dead messages are kept; 0: until they are purged")
    log_days: float = _setting(7.0, "days that attempts stay in the delivery log")
    log_rows: int = _setting(100_000, "attempts in the delivery log; 0: it is not kept")
    log_body_bytes: int = _setting(
        0, "bytes of what was sent and answered that the log keeps, of each attempt; 0: none"
    )


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Bucket notifications (docs/notifications.md)."""

    targets: tuple[tuple[str, str], ...] = _setting(
        (),
        'where notifications may go: a table of NAME = URL, or a list of "NAME=URL"; http and https are webhooks, other schemes brokers, with #QUEUE',
    )
    secrets: tuple[tuple[str, str], ...] = _setting(
        (), "a table of NAME = whsec_…: the HMAC secrets of webhook targets, beside the server's Ed25519 key"
    )
    eventbridge: str = _setting(
        "", "name of the target of buckets with EventBridgeConfiguration; empty: that is refused"
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What a client can make large or many (docs/limits.md)."""

    object_bytes: int = _setting(5 << 40, "largest object, assembled")
    put_bytes: int = _setting(5 << 30, "largest single PUT, form upload, part or copy")
    part_min_bytes: int = _setting(5 << 20, "smallest part but the last of a multipart upload")
    parts: int = _setting(10_000, "parts of one multipart upload")
    appends: int = _setting(10_000, "appends to one object (OSS's AppendObject)")
    uploads: int = _setting(100_000, "open multipart uploads of one bucket; 0: no limit")
    metadata_bytes: int = _setting(2048, "user metadata of an object: names and values together")
    annotations: int = _setting(1000, "annotations of one version of an object")
    annotation_bytes: int = _setting(1 << 20, "one annotation")
    xml_bytes: int = _setting(2 << 20, "XML document in a request body")
    form_fields: int = _setting(128, "fields of an upload form before the file")
    form_field_bytes: int = _setting(20 << 10, "one field of an upload form")
    form_fields_bytes: int = _setting(64 << 10, "all fields of an upload form before the file")
    buckets_per_account: int = _setting(1000, "buckets that one account may own; 0: no limit")
    delete_keys: int = _setting(1000, "keys of one DeleteObjects request")
    list_keys: int = _setting(1000, "entries of one page of a listing")
    key_requests_per_s: float = _setting(
        0.0, "requests by one access key in a second, all workers of a node together; 0: no limit"
    )
    key_burst: int = _setting(0, "requests at once by an access key that has paused; 0: those of one second")
    key_throughput: int = _setting(
        0, "bytes of bodies by one access key in a second, charged when a request ends; 0: no limit"
    )
    notification_rules: int = _setting(100, "notification configurations of one bucket")


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """How bytes are kept."""

    inline_bytes: int = _setting(
        32 << 10, "objects up to this size live in the index instead of a file of their own"
    )
    buffer_bytes: int = _setting(512 << 10, "size of one buffer of a body on its way to disk")
    garbage_grace_s: float = _setting(
        3600.0, "seconds that released bytes are kept for readers that have begun"
    )
    reserve_bytes: int = _setting(
        32 << 20,
        "room on the disk that is kept for deletes: without it a full disk could not be emptied; 0: none",
    )
    verify_reads: bool = _setting(
        False,
        "compare bytes with their MD5 whenever they are read, ranges too, and give out no damaged ones; encrypted ones always are",
    )
    allow_network_fs: bool = _setting(False, "accept a data directory on NFS, CIFS or FUSE")


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """PostgreSQL, where `database_url` names one (docs/scaling.md)."""

    connections: int = _setting(10, "connections of each worker process, opened as they are needed")
    wait_s: float = _setting(
        5.0, "seconds that a request waits for a free connection, or for a server that restarts, before 503"
    )
    connect_timeout_s: float = _setting(5.0, "seconds to connect; 2 at least")
    statement_timeout_s: float = _setting(30.0, "seconds for one statement")


@dataclass(frozen=True, slots=True)
class RadosSettings:
    """Ceph RADOS, where `blobs_url` names a pool (docs/scaling.md)."""

    object_bytes: int = _setting(
        4 << 20, "size of the objects that bytes are striped over; decided when a namespace is first used"
    )
    write_ahead: int = _setting(3, "objects of one upload on their way at once")
    read_ahead: int = _setting(4, "pieces of 1 MiB that a download asks for in advance")
    timeout_s: float = _setting(15.0, "seconds for one operation, and to connect; then 503")


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """The upkeep thread."""

    enabled: bool = _setting(True, "run upkeep inside the server; off: run `s3lite sweep` by hand")
    interval_s: float = _setting(60.0, "seconds between two runs")
    upload_expiry_s: float = _setting(
        7 * 86400.0, "seconds after which an untouched multipart upload is aborted; 0: never"
    )
    orphan_age_s: float = _setting(
        3600.0, "seconds after which bytes that the index does not know are removed"
    )
    completion_ttl_s: float = _setting(
        86400.0, "seconds that a repeated CompleteMultipartUpload gets the same answer"
    )


@dataclass(frozen=True, slots=True)
class LifecycleSettings:
    """Lifecycle rules."""

    day_seconds: int = _setting(86400, "length of a day in lifecycle rules; shorter for tests")


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """Server access logging (docs/logging.md)."""

    flush_s: float = _setting(
        2.0, "seconds that a line stays in a worker's memory, where a crash loses it, before it is kept"
    )
    buffer_bytes: int = _setting(
        4 << 20, "lines in a worker's memory; beyond it lines are dropped and counted"
    )
    deliver_s: float = _setting(300.0, "seconds that lines are gathered before they become an object")
    object_bytes: int = _setting(8 << 20, "lines of one object; so many are delivered without waiting")
    keep_s: float = _setting(
        86400.0, "seconds that lines are kept while the storage refuses their object; then they are forgotten"
    )


@dataclass(frozen=True, slots=True)
class EncryptionSettings:
    """Server-side encryption (docs/encryption.md)."""

    default: str = _setting(
        "none",
        "what uploads get that ask for nothing, into buckets without a default of their own; AES256 as in S3",
        ("none", "AES256"),
    )
    keyring: str = _setting(
        "", "file with the keys of SSE-S3 and SSE-KMS, the same on every node; empty: DATA_DIR/keyring.json"
    )
    customer_keys_over_http: str = _setting(
        "loopback",
        "customer's keys (SSE-C) in requests without TLS: from this machine alone, where a TLS proxy may stand",
        ("loopback", "never", "always"),
    )


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Temporary credentials (docs/access.md)."""

    max_s: int = _setting(43_200, "longest life of temporary credentials; 900 at least")
    policy_bytes: int = _setting(2048, "JSON text of a session's policy")


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The edge."""

    clock_skew_s: float = _setting(900.0, "how far a signed request's time may be off")
    strict_region: bool = _setting(False, "refuse V4 signatures made for another region")
    trusted_proxies: tuple[str, ...] = _setting(
        (), "addresses or CIDRs whose X-Forwarded-For and X-Forwarded-Host are believed"
    )
    endpoint_aliases: tuple[str, ...] = _setting(
        (), "other host[:port] names under which clients may have signed, behind proxies that rewrite Host"
    )
    key_cache_s: float = _setting(
        1.0, "seconds that a worker remembers an access key; a key that is disabled works for so long"
    )
    drain_bytes: int = _setting(
        8 << 20,
        "bytes of a refused upload that are read so that the client sees the answer instead of a reset",
    )
    connections: int = _setting(
        1000, "connections that each worker holds at once; further ones wait to be accepted"
    )
    idle_timeout_s: float = _setting(60.0, "seconds that a connection may neither send nor take a byte")
    least_body_rate: int = _setting(
        100, "bytes a second that a body must bring while it is waited for, over idle_timeout_s; 0: any"
    )
    access_log: bool = _setting(True, "one JSON line per request on standard error")


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """Pages for people at /.s3lite/console/ (docs/console.md)."""

    enabled: bool = _setting(True, "serve the console; it shows and does what its user's access key may")
    session_s: int = _setting(8 * 3600, "seconds that a sign-in lasts")
    sign_in_failures: int = _setting(
        10, "failed sign-ins a minute from one address before it has to wait; of all together 20 times this"
    )


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Figures for Prometheus at /.s3lite/metrics (docs/observability.md)."""

    enabled: bool = _setting(True, "count requests and answer /.s3lite/metrics")
    allow: tuple[str, ...] = _setting(
        ("127.0.0.0/8", "::1/128"), "addresses or CIDRs that may read them without the token"
    )
    token: str = _setting("", "what others must send: Authorization: Bearer TOKEN; empty: others may not")


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Traces for OpenTelemetry, exported as the OTEL_… variables say (docs/observability.md)."""

    enabled: bool = _setting(False, "make a span for each request and callback; needs s3lite[otel]")


@dataclass(frozen=True, slots=True)
class CompatSettings:
    """Whose word counts where servers of S3 differ (docs/compatibility.md)."""

    ceph: bool = _setting(
        False, "answer as Ceph's RADOS Gateway where it differs from S3, for clients that were written for it"
    )
    delete_with_uploads: bool = _setting(
        True,
        "delete a bucket together with its open multipart uploads, as S3 does; false: not before they are completed or aborted",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. `load` makes one; `create_app` takes one."""

    bind: str = _setting("127.0.0.1:8000", "address and port that `make serve` listens on")
    data_dir: str = _setting("./data", "directory of the embedded storage and of generated keys")
    access_key: str = _setting("", "root access key; empty: generated at first start")
    secret_key: str = _setting("", "root secret key; empty: generated at first start")
    region: str = _setting("us-east-1", "name of the region that this server is")
    domains: tuple[str, ...] = _setting((), "base domains for virtual-host addressing (BUCKET.domain)")
    website_domains: tuple[str, ...] = _setting(
        (), "base domains of websites: BUCKET.domain serves the bucket's site, to anyone"
    )
    buckets: tuple[str, ...] = _setting((), "buckets of the root account, made at start when missing")
    database_url: str = _setting(
        "", "index: sqlite:///PATH or postgresql://…; empty: sqlite:///DATA_DIR/index.db"
    )
    blobs_url: str = _setting("", "bytes: file:///DIRECTORY or rados://POOL?…; empty: file:///DATA_DIR")
    key_file: str = _setting(
        "",
        "key under which secrets in the index are sealed, the same on every node; empty: DATA_DIR/secret.key",
    )
    durability: str = _setting(
        "full",
        "full: an acknowledged upload survives a power cut; relaxed: it survives a crash of the server",
        ("full", "relaxed"),
    )
    workers: int = _setting(0, "gunicorn worker processes; 0: one per core, at most 8")
    threads: int = _setting(
        320, "requests of each worker that may wait at once for a client, a disk or an application"
    )
    callback: CallbackSettings = field(default_factory=CallbackSettings)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    notifications: NotificationSettings = field(default_factory=NotificationSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    rados: RadosSettings = field(default_factory=RadosSettings)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    lifecycle: LifecycleSettings = field(default_factory=LifecycleSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    encryption: EncryptionSettings = field(default_factory=EncryptionSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    compat: CompatSettings = field(default_factory=CompatSettings)

    @property
    def worker_count(self) -> int:
        """`workers` with its default filled in."""
        return self.workers or min(os.cpu_count() or 1, 8)

    @property
    def index_url(self) -> str:
        """`database_url` with its default filled in."""
        return self.database_url or f"sqlite:///{Path(self.data_dir).resolve()}/index.db"

    @property
    def secrets_file(self) -> Path:
        """`key_file` with its default filled in."""
        return Path(self.key_file or Path(self.data_dir) / "secret.key")

    @property
    def keyring_file(self) -> Path:
        """`encryption.keyring` with its default filled in."""
        return Path(self.encryption.keyring or Path(self.data_dir) / "keyring.json")

    @property
    def bytes_url(self) -> str:
        """`blobs_url` with its default filled in."""
        return self.blobs_url or f"file://{Path(self.data_dir).resolve()}"


def load(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the file (``path``, else ``S3LITE_CONFIG``, else ``conf/s3lite.toml`` if there) and the environment.

    Raises SettingsError with every fault in one message.
    """
    env = os.environ if environ is None else environ
    faults: list[str] = []
    chosen = path or env.get("S3LITE_CONFIG") or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    document: dict[str, Any] = {}
    if chosen is not None:
        try:
            document = tomllib.loads(Path(chosen).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            faults.append(f"{chosen}: {error}")
    variables = {
        name: value for name, value in env.items() if name.startswith("S3LITE_") and name != "S3LITE_CONFIG"
    }
    settings = config.build(Settings, document, variables, "", "S3LITE_", faults)
    faults += [f"{name}: no such setting" for name in variables]
    if not faults:
        faults += _contradictions(settings)
    if faults:
        raise SettingsError("s3lite cannot start with these settings:\n  " + "\n  ".join(faults))
    return settings


def _contradictions(settings: Settings) -> list[str]:
    """Faults that show only when several settings are seen together."""
    faults = []
    if bool(settings.access_key) != bool(settings.secret_key):
        faults.append("access_key and secret_key must be given together")
    if settings.callback.max_inflight >= settings.threads:
        faults.append(
            "callback.max_inflight must be less than threads: waiting callbacks would hold them all"
        )
    if settings.outbox.lease_s < settings.callback.total_timeout_s + 5:
        faults.append("outbox.lease_s must be 5 s more than callback.total_timeout_s, the longest attempt")
    if not settings.outbox.schedule_s or not settings.outbox.threads or not settings.outbox.per_target:
        faults.append("outbox.schedule_s, outbox.threads and outbox.per_target must not be empty or 0")
    host, _, port = settings.bind.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        faults.append(f"bind = {settings.bind!r}: must be ADDRESS:PORT")
    elif not is_loopback(host) and not settings.access_key:
        faults.append(
            f"bind = {settings.bind!r}: reachable from other machines, so choose a credential: "
            "set S3LITE_ACCESS_KEY and S3LITE_SECRET_KEY"
        )
    for domain in sorted(set(settings.domains) & set(settings.website_domains)):
        faults.append(f"website_domains: {domain!r} is in domains, too; choose one of them for it")
    if not 64 << 10 <= settings.logging.object_bytes <= settings.limits.put_bytes:
        faults.append("logging.object_bytes must be 65536 at least, and at most limits.put_bytes")
    if settings.storage.inline_bytes > settings.storage.buffer_bytes:
        faults.append("storage.inline_bytes must not exceed storage.buffer_bytes")
    if settings.database.connections < 1:
        faults.append("database.connections must be 1 at least")
    if not 64 << 10 <= settings.rados.object_bytes <= 64 << 20:
        faults.append("rados.object_bytes must be between 65536 and 67108864")
    if settings.rados.write_ahead < 1 or settings.rados.read_ahead < 1:
        faults.append("rados.write_ahead and rados.read_ahead must be 1 at least")
    if settings.http.connections <= settings.threads:
        faults.append("http.connections must be more than threads: idle connections count, too")
    if settings.sessions.max_s < 900:
        faults.append("sessions.max_s must be 900 at least: S3 clients ask for no shorter sessions")
    if settings.sessions.policy_bytes > 4096:
        faults.append("sessions.policy_bytes must not exceed 4096: the token travels in a header")
    if settings.storage.buffer_bytes < 4096:
        faults.append("storage.buffer_bytes must be at least 4096")
    return faults


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and loopback addresses (IPv6 with or without brackets)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
