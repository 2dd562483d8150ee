"""A TCP proxy that cuts a connection around what a client says in it, and counts round trips."""

from __future__ import annotations

import contextlib
import socket
import threading


class Cutter:
    """Passes bytes on to ``target``. ``word`` cuts once, as ``how`` says.

    "before": a client says it, and the server never hears. "after": the server answers it, which PostgreSQL
    does when it has done as told, and the client never hears.
    While ``is_down``, new connections are closed at once. ``round_trips`` counts how often a client that had
    its answer has said more.
    """

    def __init__(self, target):
        self.target = target
        self.word = b""
        self.how = ""
        self.is_down = False
        self.goes_down = False  # with the cut
        self.cuts = 0
        self.round_trips = 0
        self._is_answered = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, how, word, *, goes_down=False):
        self.how, self.word, self.goes_down = how, word, goes_down

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down:
                client.close()
                continue
            server = socket.create_connection(self.target)
            self._open += [client, server]
            threading.Thread(target=self._forth, args=(client, server), daemon=True).start()
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    def _forth(self, client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                self.round_trips += self._is_answered
                self._is_answered = False
                if self.how == "before" and self.word in data:
                    self._cut(client, server)
                    return
                server.sendall(data)
        self._end(client, server)

    def _back(self, server, client):
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                self._is_answered = True
                if self.how == "after" and self.word in data:  # it says that this is done
                    self._cut(client, server)
                    return
                client.sendall(data)
        self._end(client, server)

    def _cut(self, client, server):
        self.how = ""
        self.is_down = self.goes_down
        self.cuts += 1
        self._end(client, server)

    def _end(self, *sockets):
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()
        self._end(*self._open)
        for each in self._open:
            each.close()
