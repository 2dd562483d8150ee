"""Room that is kept for what frees room: on a full disk the index could not even note a delete.

A file of ``storage.reserve_bytes`` lies beside the index. When a delete, an abort or the sweep finds the
disk full, the file goes and they go on in its place. While it is gone, or too little is free, uploads are
refused before their bodies are asked for; it comes back as soon as there is room.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from s3lite.times import Clock

log = logging.getLogger("s3lite")

FILE = "reserve"
_MARGIN = 1 << 20  # for the rows of an upload, beside its bytes
_PLENTY = 1 << 30  # with so much free, small uploads do not ask again for a moment
_SMALL = 1 << 20
_ASK_EVERY_S = 1.0


class Reserve:
    """The reserve of a directory; ``size`` 0 or no directory: there is none, and nothing is refused.

    Many processes share one: what tells whether it is there is the file itself.
    """

    def __init__(
        self,
        directory: Path | None = None,
        size: int = 0,
        *,
        clock: Clock | None = None,
        blobs_elsewhere: bool = False,
    ) -> None:
        self._path = directory / FILE if directory is not None and size else None
        self._size = size
        self._blobs_elsewhere = blobs_elsewhere  # then only rows need room on this disk
        self._clock = clock or Clock()
        self._plenty_until = 0.0
        self._lock = threading.Lock()

    def is_short(self) -> bool:
        """True while the reserve has been given up."""
        return self._path is not None and not self._path.exists()

    def ensure(self) -> None:
        """Set the room aside, unless it is. Raises OSError (ENOSPC) when it is not there."""
        if self._path is None or self._path.exists():
            return
        with self._lock:
            free = os.statvfs(self._path.parent)
            if free.f_bavail * free.f_frsize < self._size + _MARGIN:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            temporary = self._path.with_name(f".{FILE}.{os.getpid()}")
            try:
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(fd, 0, self._size)
                finally:
                    os.close(fd)
                temporary.replace(self._path)
            except BaseException:
                with suppress(FileNotFoundError):
                    temporary.unlink()
                raise

    def release(self) -> bool:
        """Give the room up; False when it was not there."""
        self._plenty_until = 0.0
        if self._path is None:
            return False
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        log.warning(
            "the disk is full: the reserve is used for deletes, uploads are refused until there is room"
        )
        return True

    def admit(self, size: int | None) -> None:
        """Raise OSError (ENOSPC) when an upload of ``size`` bytes does not fit; None is an unknown size."""
        if self._path is None:
            return
        wanted = 0 if self._blobs_elsewhere else size or 0
        now = self._clock.monotonic()
        if now < self._plenty_until and wanted <= _SMALL:
            return
        self.ensure()
        status = os.statvfs(self._path.parent)
        free = status.f_bavail * status.f_frsize
        if free < wanted + _MARGIN:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._plenty_until = now + _ASK_EVERY_S if free > _PLENTY else 0.0
