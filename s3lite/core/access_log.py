"""Server access logging: lines of requests on their way into objects of another bucket.

A request leaves its line in the worker's memory and waits for nothing. A thread of the worker writes what has
gathered there into the index every `logging.flush_s`: a crash loses so much. The sweep makes objects of what
has waited for `logging.deliver_s`; one transaction publishes the object and takes its lines away, so no line
is delivered twice, whoever sweeps, and none is lost in between.

Who may be written to is asked again at each delivery (`may_deliver`). Lines whose target does not take them any
more are dropped, as in S3; those that the storage refuses are kept for `logging.keep_s`.
"""

from __future__ import annotations

import io
import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from s3lite.auth import acl as acls
from s3lite.auth.actions import resource
from s3lite.auth.authorize import Rules
from s3lite.auth.policy import Verdict, service
from s3lite.catalog.base import CatalogBusyError, Tx
from s3lite.catalog.questions import WaitingLines
from s3lite.core import access, sealing, write
from s3lite.core.store import Store
from s3lite.errors import Code, S3Error
from s3lite.model import Acl, Bucket, Checksum, Grant, ObjectHead, ObjectVersion
from s3lite.wire import bucket_logging, encryption, object_lock
from s3lite.wire.bucket_logging import Destination, Logging
from s3lite.wire.checksums import Digests
from s3lite.wire.conditions import WriteConditions

log = logging.getLogger("s3lite.logging")

CONFIG = "logging"
"""The name of a source bucket's configuration document."""
_SERVICE = service("logging.s3.amazonaws.com")
_ROW_BYTES = 64 << 10
_REMEMBERED_S = 1.0
_REMEMBERED = 1000


# ---------------------------------------------------------------- from requests to the index


class AccessLog:
    """One process's side of it; safe for threads. The thread starts with the first line."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._lines: defaultdict[str, list[bytes]] = defaultdict(list)
        self._size = 0
        self._lost = 0
        self._known: dict[str, tuple[float, int, Destination | None]] = {}  # by name: until when, bucket id
        self._wake = threading.Event()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def destination(self, bucket: Bucket | None, name: str) -> Destination | None:
        """Where lines about a bucket go; None when it keeps no log. ``bucket`` None is not loaded yet.

        Costs nothing for a loaded bucket without, and one look at the index a second for others.
        """
        if bucket is not None and CONFIG not in bucket.configs:
            return None
        now = self._store.clock.monotonic()
        until, bucket_id, known = self._known.get(name, (0.0, 0, None))
        if until > now and (bucket is None or bucket.id == bucket_id):
            return known
        with self._store.catalog.read() as tx:
            found = bucket if bucket is not None else tx.bucket(name)
            wanted = found is not None and CONFIG in found.configs
            document = tx.bucket_config(found.id, CONFIG) if found is not None and wanted else None
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        known = None
        if found is not None and document is not None:
            known = Destination(found.name, found.owner_id, found.region, bucket_logging.decode(document))
        self._known[name] = (now + _REMEMBERED_S, found.id if found is not None else 0, known)
        return known

    def note(self, destination: Destination, line: bytes) -> None:
        """Take a line; dropped, and counted, when the memory for lines is full."""
        limit = self._store.settings.logging.buffer_bytes
        key = destination.encode()
        with self._lock:
            if self._size + len(line) > limit or self._is_closed:
                self._lost += 1
                return
            self._lines[key].append(line)
            self._size += len(line)
            is_much = self._size * 2 > limit
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="s3lite-access-log", daemon=True)
                self._thread.start()
        if is_much:
            self._wake.set()

    def flush(self) -> None:
        """Write what is in memory to the index. What cannot be written is lost, and counted."""
        with self._lock:
            gathered, self._lines = self._lines, defaultdict(list)
            lost, self._lost, self._size = self._lost, 0, 0
        rows = [(key, row) for key, lines in gathered.items() for row in _rows(lines)]
        now_ms = self._store.clock.time_ms()

        def work(tx: Tx) -> None:
            for key, row in rows:
                tx.add_log_lines(key, row, at_ms=now_ms)
            if lost:
                tx.count({"access_log_lines_lost": lost})

        if not rows and not lost:
            return
        try:
            write.commit(self._store, work)
        except (S3Error, CatalogBusyError):
            with self._lock:
                self._lost += lost + sum(map(len, gathered.values()))
            log.warning("lines of access logs could not be written and are lost")
        if lost:
            log.warning("%d lines of access logs were dropped: logging.buffer_bytes was full", lost)

    def close(self) -> None:
        """Write the last lines; none is taken any more."""
        with self._lock:
            self._is_closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait(self._store.settings.logging.flush_s)
            self._wake.clear()
            try:
                self.flush()
            except Exception:  # the thread must outlive whatever one flush met
                log.exception("lines of access logs are lost")


def _rows(lines: Sequence[bytes]) -> list[bytes]:
    """Lines put together into rows of about _ROW_BYTES."""
    rows, row, size = [], [], 0
    for line in lines:
        row.append(line)
        size += len(line)
        if size >= _ROW_BYTES:
            rows.append(b"".join(row))
            row, size = [], 0
    if row:
        rows.append(b"".join(row))
    return rows


# ---------------------------------------------------------------- who may be written to


def check_target(store: Store, source: Bucket, logging: Logging) -> None:
    """Raise InvalidTargetBucketForLogging, with what to do, unless lines about ``source`` may go where it says.

    With `compat.ceph` the refusals have Ceph's codes, and the policy of another account's bucket may let the
    lines in.
    """
    with store.catalog.read() as tx:
        target = tx.bucket(logging.target)
    if target is None:
        raise _refused(store, logging, "The target bucket for logging does not exist", Code.NoSuchKey)
    if target.owner_id != source.owner_id and not store.settings.compat.ceph:
        raise _refused(
            store, logging, "The owner for the bucket to be logged and the target bucket must be the same."
        )
    _check_kind(store, source, target, logging)
    if not may_deliver(store, source, target, logging.prefix):
        raise _refused(
            store,
            logging,
            "Let the logging service write there: by a statement of the target bucket's policy that allows "
            '{"Service": "logging.s3.amazonaws.com"} the action s3:PutObject on '
            f"arn:aws:s3:::{target.name}/{logging.prefix}*, or by the ACL log-delivery-write.",
            Code.AccessDenied,
        )


def _refused(store: Store, logging: Logging, message: str, in_ceph: Code = Code.InvalidArgument) -> S3Error:
    code = in_ceph if store.settings.compat.ceph else Code.InvalidTargetBucketForLogging
    return S3Error(code, message, TargetBucket=logging.target)


def _check_kind(store: Store, source: Bucket, target: Bucket, logging: Logging) -> None:
    """User Guide, "Logging requests with server access logging": what a target bucket must not have.

    Ceph refuses more: "Bucket Logging" in its documentation.
    """
    with store.catalog.read() as tx:
        payment = tx.bucket_config(target.id, "requestPayment")
        lock = tx.bucket_config(target.id, "object-lock")
    if payment == b"Requester":
        raise _refused(store, logging, "The target bucket for logging must not have Requester Pays enabled.")
    if lock is not None and object_lock.stored_configuration(lock) is not None:
        raise _refused(
            store,
            logging,
            "The target bucket for logging must not have a default retention of Object Lock.",
        )
    if store.settings.compat.ceph and (
        target.id == source.id or CONFIG in target.configs or "encryption" in target.configs
    ):
        raise _refused(
            store,
            logging,
            "The target bucket must be another, neither logged itself nor encrypted by default.",
        )


def may_deliver(store: Store, source: Bucket, target: Bucket, key: str) -> bool:
    """Whether the logging service may write ``key``: by the target's policy, or by the ACL's log-delivery group.

    Another account's bucket is written to with `compat.ceph` alone, and by policy alone: an ACL names no source.
    """
    is_own = target.owner_id == source.owner_id
    if not (is_own or store.settings.compat.ceph):
        return False
    rules = access.rules_of(store.catalog, target)
    if rules.policy is not None:
        facts = {
            "aws:sourcearn": (f"arn:aws:s3:::{source.name}",),
            "aws:sourceaccount": (source.owner_id,),
            "aws:principalisawsservice": ("true",),
            "aws:principalservicename": ("logging.s3.amazonaws.com",),
            "aws:securetransport": ("true",),
        }
        arn = resource("s3:PutObject", target.name, key)
        verdict = rules.policy.evaluate(_SERVICE, "s3:PutObject", arn, facts)
        if verdict is not None:
            return verdict is Verdict.ALLOW
    return is_own and _by_acl(target, rules)


def _by_acl(target: Bucket, rules: Rules) -> bool:
    given = {grant.permission for grant in target.acl.grants if grant.grantee == acls.LOG_DELIVERY}
    return not rules.ignores_acls and (acls.FULL_CONTROL in given or {acls.WRITE, acls.READ_ACP} <= given)


# ---------------------------------------------------------------- from the index to objects


@dataclass(slots=True)
class Delivered:
    """What a run did."""

    objects: int = 0
    dropped: int = 0  # rows of lines whose target does not take them


def deliver(store: Store) -> Delivered:
    """Make objects of the lines that have waited long enough, or are many."""
    done = Delivered()
    settings, now_ms = store.settings.logging, store.clock.time_ms()
    with store.catalog.read() as tx:
        waiting = tx.waiting_lines()
    due_ms = now_ms - int(settings.deliver_s * 1000)
    for each in waiting:
        if each.oldest_ms <= due_ms or each.size >= settings.object_bytes:
            _deliver(store, each, done)
    if waiting:
        before_ms = now_ms - int(settings.keep_s * 1000)
        while write.commit(store, lambda tx: tx.forget_log_lines(before_ms=before_ms, limit=100)) == 100:
            pass
    return done


def _deliver(store: Store, waiting: WaitingLines, done: Delivered) -> None:
    """All lines of one destination, an object at a time."""
    limit = store.settings.logging.object_bytes
    while True:
        with store.catalog.read() as tx:
            found = tx.log_lines(waiting.destination, limit=max(1, limit // _ROW_BYTES))
        if not found:
            return
        numbers = [number for number, _ in found]
        try:
            _publish(
                store, Destination.decode(waiting.destination), b"".join(row for _, row in found), numbers
            )
            done.objects += 1
        except (S3Error, CatalogBusyError) as error:
            if (
                isinstance(error, CatalogBusyError)
                or error.status >= 500
                or error.code is Code.OperationAborted
            ):
                log.warning("an access log waits for its delivery: %s", error)
                return
            log.warning("lines of an access log are dropped: %s", error)
            done.dropped += write.commit(store, lambda tx, gone=numbers: tx.remove_log_lines(gone))  # type: ignore[misc]  # bound now


def _publish(store: Store, destination: Destination, body: bytes, numbers: Sequence[int]) -> None:
    """One log object, in whose transaction its lines go. Raises S3Error."""
    logging = destination.logging
    with store.catalog.read() as tx:
        target = tx.bucket(logging.target)
        document = tx.bucket_config(target.id, "encryption") if target is not None else None
    source = Bucket(
        0, destination.source, destination.owner_id, 0, destination.region, Acl(destination.owner_id)
    )
    if target is None:
        raise _refused(store, logging, "The target bucket is gone.")
    key = destination.key(store.clock.time(), store.ids.request())
    if not may_deliver(store, source, target, key):
        raise S3Error(Code.AccessDenied)
    default = encryption.stored_configuration(document).wanted if document is not None else None
    if default is None and store.settings.encryption.default == encryption.AES256:
        default = encryption.Wanted(encryption.AES256)
    envelope = sealing.prepare(store, default)
    digests = Digests({"CRC64NVME"}, sha256=False)
    stored = write.receive(
        store,
        io.BytesIO(body),
        size=len(body),
        digests=digests,
        verify=lambda received: None,
        key=envelope.key if envelope else None,
    )
    owner = Grant(target.owner_id, acls.FULL_CONTROL)

    def take(tx: Tx, _bucket: Bucket, _version: ObjectVersion) -> None:
        if tx.remove_log_lines(numbers) != len(numbers):
            raise S3Error(Code.OperationAborted)

    new = write.NewVersion(
        key=key,
        owner_id=target.owner_id,
        head=ObjectHead(headers={"content-type": "text/plain"}),
        acl=Acl(target.owner_id, (owner, *logging.grants)),
        size=len(body),
        etag=digests.etag,
        checksum=Checksum("CRC64NVME", digests.value("CRC64NVME")),
        stored=stored,
        encryption=envelope.for_object(stored) if envelope else None,
    )
    write.publish(store, target, new, WriteConditions(), tell=take)
