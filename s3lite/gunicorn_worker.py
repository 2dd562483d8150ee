"""gunicorn's worker as an object store needs it: one thread leads, bodies flow straight off the socket.

What it changes of gunicorn's threaded worker:

- Threads take turns (`s3lite.crew`): the leader waits for all connections at once and serves small requests
  itself. What waits for a client, a disk or an application does so in a thread of its own, and up to
  ``threads`` of them may. Heads that arrive slowly cost no thread at all.
- Connections spread evenly: a worker that has more of them than another leaves new ones to it.
- ``100 Continue`` is sent when the application first reads the body, not before it has seen the head:
  an upload that is refused is refused before its bytes are asked for (RFC 9110, 10.1.1).
- Bodies of known length are read straight off the socket: gunicorn's own reader copies each byte
  several times (measured: twice the rate for a PUT of 64 MiB without it). A small answer leaves in one
  piece, head and body.
- A connection that neither sends nor takes a byte for ``http.idle_timeout_s`` ends instead of holding
  its thread for ever. The kernel keeps that time: Python's own time-outs cost a poll per call.
- A body of which less than ``http.least_body_rate`` arrives while it is waited for ends, too.
- What is left of a body after its request was refused is dropped while its connection closes, up to
  ``http.drain_bytes``, by the leader: peers that never send it hold no thread.
- Header names are handed on as they were sent: metadata names may hold ``_``, which WSGI folds into
  ``-``, while signatures cover the true name.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
import ssl
import struct
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from gunicorn import util
from gunicorn.http import RequestParser, message, wsgi
from gunicorn.workers import base
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from s3lite import waiting
from s3lite.crew import Crew
from s3lite.gunicorn_request import HEAD_MOST, Body, PacedUnreader, StrictRequest
from s3lite.times import Clock

_clock = Clock()

# Threads that wait for the GIL get it sooner than after the usual 5 ms (measured: 7 % more small PUTs).
_SWITCH_INTERVAL_S = 0.0005
_WATCH_S = 0.01  # a request that takes longer than one or two of these gets out of the others' way
_QUIET_TICKS = 50  # so many without a request, and the watch sleeps until there is one
_SPREAD_S = 0.002  # how long a worker leaves new connections to others that have fewer
_ACCEPTED_AT_ONCE = 32  # connections, before the others have their turn again
_HEAD_AT_ONCE = 64 << 10  # bytes: what one look at a connection reads
_LONG_ANSWER = 256 << 10  # bytes: an answer that may have to wait for its client
_LINGER_S = 2.0  # how long a peer may still send after an answer that ends a connection,
_DROP_S = 60.0  # and the rest of a body that was not read
_LIVES = 256  # workers that `Spread` tells apart


class Spread:
    """Numbers of connections, seen by all workers: made before they fork."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, _LIVES * 4)).cast("i")
        for age in range(_LIVES):
            self._counts[age] = -1

    def put(self, age: int, connections: int) -> None:
        """Say how many the worker of this age has; -1: it is gone."""
        self._counts[age % _LIVES] = connections

    def is_ahead(self, age: int, connections: int) -> bool:
        """Whether some other worker has notably fewer."""
        own = age % _LIVES
        others = [count for at, count in enumerate(self._counts) if count >= 0 and at != own]
        fewest = min(others, default=connections)
        return connections > fewest + fewest // 32


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """``worker_class = "s3lite.gunicorn_worker.Worker"``."""

    alive: bool
    idle_timeout_s: ClassVar[float] = 60.0  # set by s3lite/gunicorn_conf.py
    drain_bytes: ClassVar[int] = 8 << 20  # too
    spread: ClassVar[Spread | None] = None  # too

    def init_process(self) -> None:
        RequestParser.mesg_class = StrictRequest
        wsgi.Response = _Response
        # What gunicorn works out anew for each request, and what stays the same while a worker lives:
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        environ = wsgi.base_environ(self.cfg)
        wsgi.base_environ = lambda _cfg: environ.copy()
        # gunicorn caps its own setting at 8,190: too short for presigned URLs that carry a callback.
        message.MAX_REQUEST_LINE = self.cfg.limit_request_line
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._crew = Crew(self._lead, most=self.cfg.threads)
        waiting.serve_with(ahead=self._crew.hand_over, gather=self._crew.gather)
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._watch_sleeps = False
        self._conns: dict[int, _Connection] = {}
        self._listening: dict[int, socket.socket] = {}
        self._listen_at: float | None = None  # when to look at listeners again
        self._has_waited = False  # for other workers, with what waits at the listeners now
        self._next_tidying = 0.0
        base.Worker.init_process(self)

    # ------------------------------------------------------------ life cycle; the main thread is the watch

    def run(self) -> None:
        for listener in self.sockets:
            listener.setblocking(False)
        self._listen(True)
        self._note_count()
        self._crew.start()
        self._watch()
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while self._conns and time.monotonic() < deadline:
            self.notify()
            self._crew.relieve()
            time.sleep(_WATCH_S)
        self._crew.stop()
        if self.spread is not None:
            self.spread.put(self.age, -1)

    def _watch(self) -> None:
        """Report that the worker lives, and get long requests out of the others' way."""
        poll = select.poll()
        poll.register(self.PIPE[0], select.POLLIN)  # signals
        poll.register(self._bell, select.POLLIN)
        quiet, reported = 0, 0.0
        while self.alive and self.is_parent_alive():
            now = time.monotonic()
            if now > reported + 1:
                self.notify()
                reported = now
            quiet = 0 if self._crew.relieve() else quiet + 1
            self._watch_sleeps = quiet > _QUIET_TICKS
            for fd, _ in poll.poll(1000 if self._watch_sleeps else int(_WATCH_S * 1000)):
                os.read(fd, 8)
                quiet = 0
        self.alive = False

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.alive = False

    def handle_quit(self, sig: int, frame: Any) -> None:
        base.Worker.handle_quit(self, sig, frame)

    # ------------------------------------------------------------ the leader's loop

    def _lead(self) -> None:
        """One round: serve what is ready; when nothing is, commit what was put aside."""
        events = self._epoll.poll(self._pause_s())
        if events and self._watch_sleeps:
            self._watch_sleeps = False
            os.eventfd_write(self._bell, 1)
        served = 0
        for fd, _ in events:
            listener = self._listening.get(fd)
            if listener is not None:
                self._accept(listener)
                continue
            conn = self._conns[fd]
            if conn.is_served:
                continue
            served += 1
            if not self._crew.serve(conn, partial(self._serve, conn)):
                return
        if self._crew.has_gathered and (not served or self._crew.has_enough):
            self._crew.go_on(alone=len(self._conns) == 1)
        self._tidy()

    def _serve(self, conn: _Connection) -> None:
        """Attend to a connection, in a greenlet of its own."""
        conn.is_served = True
        try:
            is_kept = self._attend(conn)
        except Exception:  # gunicorn answers for requests; this is what a broken connection can still do
            self.log.exception("a connection failed")
            is_kept = False
        conn.is_served = False
        self._crew.finish(conn)
        if not is_kept:
            self._end(conn)
        elif not conn.is_attached:
            conn.attach()

    def _pause_s(self) -> float:
        if self._crew.has_gathered:
            return 0.0
        if self._listen_at is None:
            return 1.0
        return max(self._listen_at - time.monotonic(), 0.0)

    def _listen(self, wanted: bool) -> None:
        """Take new connections, or none for now."""
        if wanted and not self._listening:
            for listener in self.sockets:
                self._listening[listener.fileno()] = listener
                self._epoll.register(listener.fileno(), select.EPOLLIN)
        elif not wanted:
            for fd in self._listening:
                self._epoll.unregister(fd)
            self._listening = {}

    def _accept(self, listener: socket.socket) -> None:
        """Take what waits, unless another worker should."""
        for _ in range(_ACCEPTED_AT_ONCE):
            if len(self._conns) >= self.worker_connections:
                self._listen(False)  # `_tidy` looks again within a second
                return
            if not self._has_waited and self.spread and self.spread.is_ahead(self.age, len(self._conns)):
                self._listen(False)
                self._listen_at = time.monotonic() + _SPREAD_S
                return
            self._has_waited = False
            try:
                sock, address = listener.accept()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                    raise
                return
            _limit_idle_time(sock, self.idle_timeout_s)
            conn = _Connection(self.cfg, sock, address, listener.getsockname(), self._epoll)
            conn.set_timeout()
            self._conns[conn.fd] = conn
            conn.attach()
            self._note_count()

    def _attend(self, conn: _Connection) -> bool:
        """Read what has arrived on a connection, and serve it when it is a request; False to close it."""
        if conn.lingers:
            return conn.drain()
        if self.cfg.is_ssl:
            self._crew.hand_over()  # a handshake waits, and bytes inside of TLS cannot be looked at first
            while self.handle(conn):
                if not conn.sock.pending():
                    conn.set_timeout()
                    return True
            return False
        try:
            data = conn.sock.recv(_HEAD_AT_ONCE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        conn.head = conn.head + data if conn.head else data
        while conn.has_request():
            conn.init()
            conn.parser.unreader.unread(conn.head)
            conn.head = b""
            if not self.handle(conn):
                return False
            conn.set_timeout()
            conn.head = conn.parser.unreader.take_buffered()
        return True

    def _end(self, conn: _Connection) -> None:
        """Close, or begin to: what the peer may still be sending would reset the answer on its way to it."""
        if conn.begin_to_close():
            conn.attach()
            return
        del self._conns[conn.fd]  # before the number can be another connection's
        util.close(conn.sock)
        self._note_count()

    def _tidy(self) -> None:
        """Now and then: end idle connections, look at listeners again."""
        now = time.monotonic()
        if self._listen_at is not None and now >= self._listen_at:
            self._listen_at = None
            self._has_waited = True
            self._listen(self.alive)
        if now < self._next_tidying:
            return
        self._next_tidying = now + (1.0 if self.alive else 0.1)
        self._listen(self.alive and len(self._conns) < self.worker_connections and self._listen_at is None)
        if not self.alive:
            for listener in self.sockets:
                listener.close()
        latest = now + STOP_KEEPALIVE_LINGER
        for conn in [conn for conn in self._conns.values() if conn.is_attached and not conn.is_served]:
            if not self.alive:
                conn.timeout = min(conn.timeout, latest)
            if conn.timeout < now:
                del self._conns[conn.fd]
                util.close(conn.sock)
        self._note_count()

    def _note_count(self) -> None:
        if self.spread is not None:
            self.spread.put(self.age, len(self._conns))

    # ------------------------------------------------------------ a request, on whatever thread

    def handle_request(self, req: Any, conn: Any) -> bool:
        body = req.body = Body(req, conn.sock, self._crew)
        announced_close, leaves_rest = req.should_close, None

        def should_close() -> bool:
            nonlocal leaves_rest
            if leaves_rest is None:  # asked once, so that what the answer says is what happens
                leaves_rest = not body.is_finished()
            return leaves_rest or announced_close()

        req.should_close = should_close
        is_kept = bool(super().handle_request(req, conn))
        conn.leaves_rest = bool(leaves_rest) and not body.awaits_continue
        return is_kept

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        if keepalive and conn.parser.mesg.body.drops_rest:
            return True  # its body is finished, or the answer would have ended the connection
        return bool(super()._keepalive_after(conn, keepalive))


class _Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection in the leader's sight, or out of it while a thread waits for something on it."""

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, epoll: select.epoll) -> None:
        super().__init__(cfg, sock, client, server)
        self.fd = sock.fileno()
        self.data_ready = True  # gunicorn need not wait for it
        self.head = b""  # of a request, as far as it has arrived
        self.is_attached = False
        self.is_served = False
        self.lingers = False
        self.leaves_rest = False  # of a body, which may still arrive
        self._epoll = epoll
        self._drained = 0

    def init(self) -> None:
        if not self.initialized:
            super().init()
            self.parser.unreader = PacedUnreader(self.sock)

    def has_request(self) -> bool:
        """Whether the head of a request has arrived, or more than a head can be."""
        return b"\r\n\r\n" in self.head or len(self.head) >= HEAD_MOST

    def attach(self) -> None:
        """Have the leader see what arrives."""
        if not self.is_attached:
            self.is_attached = True
            self._epoll.register(self.fd, select.EPOLLIN)

    def detach(self) -> None:
        """See `crew.Work.detach`."""
        self.is_attached = False
        self._epoll.unregister(self.fd)

    def begin_to_close(self) -> bool:
        """Say that no more will be sent; False when there is nothing to wait for (RFC 9112, 9.6)."""
        if self.lingers or not self.initialized:
            return False
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        self.lingers = True
        self.timeout = time.monotonic() + (_DROP_S if self.leaves_rest else _LINGER_S)
        return True

    def drain(self) -> bool:
        """Drop what arrives after the end; False when it is time to close."""
        try:
            data = self.sock.recv(_HEAD_AT_ONCE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._drained += len(data)
        return bool(data) and self._drained < Worker.drain_bytes


class _Response(wsgi.Response):  # type: ignore[misc]  # gunicorn has no types
    """Sends the head together with the first piece of the body."""

    _head = b""
    headers_sent: bool  # collected, here
    _date: ClassVar[tuple[int, str]] = (0, "")  # of this second

    def default_headers(self) -> list[str]:
        second, date = self._date
        now = int(_clock.time())
        if now != second:
            date = util.http_date(now)
            _Response._date = (now, date)
        major, minor = self.req.version
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\nDate: {date}\r\n"
            f"Connection: {'close' if self.should_close() else 'keep-alive'}\r\n"
        ]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        return lines

    def send_headers(self) -> None:
        if not self.headers_sent:
            lines = self.default_headers() + [f"{name}: {value}\r\n" for name, value in self.headers]
            self._head = "".join([*lines, "\r\n"]).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            self._flush(more=True)
            super()._emit_body(data)
            return
        if self._is_long and len(data) != self.response_length:
            waiting.ahead()  # the rest has to be read first
        head, self._head = self._head, b""
        if head and len(data) <= _HEAD_AT_ONCE:
            self._send(head + data)
        else:
            self._send(head, data)

    @property
    def _is_long(self) -> bool:
        return self.response_length is not None and self.response_length > _LONG_ANSWER

    def _send(self, *pieces: bytes) -> None:
        """Send at once what the socket takes. For the rest this thread waits without the lead."""
        sent = 0
        if not isinstance(self.sock, ssl.SSLSocket):
            with suppress(BlockingIOError):
                sent = self.sock.sendmsg(pieces, (), socket.MSG_DONTWAIT)
        for piece in pieces:
            if sent < len(piece):
                waiting.ahead()
                self.sock.sendall(memoryview(piece)[sent:])
            sent = max(sent - len(piece), 0)

    def write_file(self, respiter: Any) -> None:
        if self.sendfile(respiter):
            return
        for piece in respiter:
            self.write(piece)
            if self.sent == self.response_length:
                return  # gunicorn reads a file to its end, whatever was asked of it

    def sendfile(self, respiter: Any) -> bool:
        self.send_headers()
        if (data := self._small_piece(respiter.filelike)) is not None:
            self._emit_body(data)
            return True
        if self._is_long:
            waiting.ahead()
        self._flush(more=True)
        return bool(super().sendfile(respiter))

    def _small_piece(self, file: Any) -> bytes | None:
        """What is to be sent of a file, if it is so little that reading it costs less than `sendfile`."""
        size = self.response_length
        if size is None or size > _HEAD_AT_ONCE or self._omits_body or not util.has_fileno(file):
            return None
        data = os.pread(file.fileno(), size, os.lseek(file.fileno(), 0, os.SEEK_CUR))
        return data if len(data) == size else None

    def close(self) -> None:
        self.send_headers()
        self._flush()
        super().close()

    def _flush(self, *, more: bool = False) -> None:
        """Send a head that found no body to go with; ``more``: the body follows at once."""
        if self._head:
            flags = socket.MSG_MORE if more and not isinstance(self.sock, ssl.SSLSocket) else 0
            head, self._head = self._head, b""
            self.sock.sendall(head, flags)


def _limit_idle_time(sock: socket.socket, seconds: float) -> None:
    """Have the kernel end reads that wait this long, and connections whose peer takes nothing for so long."""
    interval = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)
    with suppress(OSError, AttributeError):  # no TCP (a Unix socket), or not Linux
        # For sendfile, which waits by itself: a peer that keeps its window shut is as good as gone.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
