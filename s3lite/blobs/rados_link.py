"""The connection to a Ceph cluster: where it is, how a process makes it, what its errors mean.

librados is Debian's python3-rados, imported when it is first needed.
"""

from __future__ import annotations

import errno
import importlib.machinery
import importlib.util
import json
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from s3lite import waiting
from s3lite.blobs.base import BlobsAwayError
from s3lite.model import BlobId
from s3lite.settings import RadosSettings, SettingsError

_LAYOUT = "layout"
_PENDING = ".pending"
_AWAY = frozenset(
    (
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
        errno.EAGAIN,
        errno.EBUSY,
    )
)
_DEBIAN = "/usr/lib/python3/dist-packages"

_instances: weakref.WeakSet[Cluster] = weakref.WeakSet()
_inherited: list[object] = []  # a parent's handles: a child must not even close them


def _after_fork() -> None:
    for cluster in list(_instances):
        cluster.forget_connection()


os.register_at_fork(after_in_child=_after_fork)


def load_rados() -> ModuleType:
    """Debian's extension module, also from a virtual environment of the same Python. Raises SettingsError."""
    try:
        return importlib.import_module("rados")
    except ImportError:
        pass
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = f"{_DEBIAN}/rados{suffix}"
        spec = importlib.util.spec_from_file_location("rados", path) if os.path.exists(path) else None
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            sys.modules["rados"] = module
            spec.loader.exec_module(module)
            return module
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise SettingsError(
        f"blobs_url names RADOS, and its library is not there for Python {version}: apt install python3-rados, "
        "on a system whose python3 has this version"
    )


@dataclass(frozen=True, slots=True)
class Target:
    """What ``rados://POOL?conf=…&user=…&keyring=…&namespace=…`` says."""

    pool: str
    conf: str = "/etc/ceph/ceph.conf"
    user: str = "admin"
    keyring: str = ""
    namespace: str = "s3lite"

    @classmethod
    def parse(cls, url: str) -> Target:
        """Raises SettingsError."""
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(set(given) - {"conf", "user", "keyring", "namespace"})
        if not parts.netloc or parts.path.strip("/") or unknown or not given.get("namespace", "s3lite"):
            raise SettingsError(
                f"blobs_url = {url!r}: must be rados://POOL?conf=FILE&user=NAME&keyring=FILE&namespace=NAME, "
                "all but the pool with defaults"
            )
        return cls(parts.netloc, **given)


def failure(code: int, message: str) -> OSError:
    """The error of a code of librados."""
    if code in _AWAY:
        return BlobsAwayError(code, message)
    return OSError(code, message)


def done(completion: Any) -> int:
    """Wait for an operation; its result, negative for an error."""
    completion.wait_for_complete()
    return int(completion.get_return_value())


@contextmanager
def told(rados: ModuleType, what: str) -> Iterator[None]:
    """Errors of librados as OSError; those that pass by themselves as BlobsAwayError."""
    try:
        yield
    except rados.Error as error:
        raise failure(abs(getattr(error, "errno", None) or errno.EIO), f"{what}: {error}") from error


@dataclass(frozen=True, slots=True)
class Link:
    """A connection to the cluster: handles for the namespace and for its pending blobs, bytes of a stripe."""

    rados: ModuleType
    cluster: Any
    io: Any
    pending: Any
    stripe: int
    write_ahead: int

    def told(self, what: str) -> AbstractContextManager[None]:
        """See `told`."""
        return told(self.rados, what)

    def size(self, blob: BlobId) -> int:
        """The whole length of a blob. Raises FileNotFoundError, OSError."""
        with self.told(f"blob {blob}"):
            return int(self.io.get_xattr(blob, "size"))

    def remove_stripes(self, blob: BlobId, numbers: range) -> int:
        """Remove stripes but the first, several at once; how many there were."""
        there = 0
        flying: deque[Any] = deque()
        with self.told(f"blob {blob}"):
            for number in numbers:
                flying.append(self.io.aio_remove(f"{blob}.{number}"))
                if len(flying) >= 4 * self.write_ahead:
                    there += self._removed(flying.popleft(), blob)
            while flying:
                there += self._removed(flying.popleft(), blob)
        return there

    def _removed(self, completion: Any, blob: BlobId) -> bool:
        code = done(completion)
        if code < 0 and code != -errno.ENOENT:
            raise failure(-code, f"blob {blob}: a stripe could not be removed")
        return code >= 0


class Cluster:
    """The pool and namespace that a `Target` names. Connects at first use, never before a fork."""

    def __init__(self, target: Target, settings: RadosSettings) -> None:
        self._rados = load_rados()
        self._target = target
        self._settings = settings
        self._lock = threading.Lock()
        self._link: Link | None = None
        _instances.add(self)

    def forget_connection(self) -> None:
        """In a forked child: begin anew, leaving the parent's connection alone."""
        _inherited.append(self._link)
        self._link, self._lock = None, threading.Lock()

    def link(self) -> Link:
        """The connection of this process, for an operation that is to wait. Raises BlobsAwayError, OSError."""
        waiting.ahead()
        link = self._link
        if link is None:
            with self._lock:
                if self._link is None:
                    self._link = self._connect()
                link = self._link
        return link

    def _connect(self) -> Link:
        target, timeout_s = self._target, max(1, round(self._settings.timeout_s))
        options = {
            "rados_osd_op_timeout": str(timeout_s),
            "rados_mon_op_timeout": str(timeout_s),
            "client_mount_timeout": str(timeout_s),
        }
        if target.keyring:
            options["keyring"] = target.keyring
        with told(self._rados, f"pool {target.pool}"):
            cluster = self._rados.Rados(conffile=target.conf, rados_id=target.user, conf=options)
            try:
                cluster.connect(timeout=timeout_s)
                io, pending = (cluster.open_ioctx(target.pool) for _ in range(2))
                io.set_namespace(target.namespace)
                pending.set_namespace(target.namespace + _PENDING)
                for handle in (io, pending):
                    handle.set_osdmap_full_try()  # a full pool answers instead of making us wait
                return Link(self._rados, cluster, io, pending, self._layout(io), self._settings.write_ahead)
            except BaseException:
                cluster.shutdown()
                raise

    def _layout(self, io: Any) -> int:
        """The size of a stripe, decided by whoever comes first."""
        try:
            with self._rados.WriteOpCtx() as op:
                op.new(self._rados.LIBRADOS_CREATE_EXCLUSIVE)
                op.write_full(json.dumps({"format": 1, "object_bytes": self._settings.object_bytes}).encode())
                io.operate_write_op(op, _LAYOUT)
        except self._rados.ObjectExists:
            pass
        return int(json.loads(io.read(_LAYOUT))["object_bytes"])

    def close(self) -> None:
        """Close the connection. No call follows."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.io.close()
            link.pending.close()
            link.cluster.shutdown()
