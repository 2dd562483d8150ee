"""A TCP proxy that cuts a connection around what a client says in it."""

from __future__ import annotations

import contextlib
import socket
import threading


class Cutter:
    """Passes bytes on to ``target``. ``word`` seen from a client cuts once, as ``how`` says.

    "before": the server never sees it. "after": the server does and answers, the client hears nothing.
    While ``is_down``, new connections are closed at once.
    """

    def __init__(self, target):
        self.target = target
        self.word = b""
        self.how = ""
        self.is_down = False
        self.goes_down = False  # with the cut
        self.cuts = 0
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
                if self.how and self.word in data:
                    self._cut(data, client, server)
                    return
                server.sendall(data)
        self._end(client, server)

    def _cut(self, data, client, server):
        how, self.how = self.how, ""
        self.is_down = self.goes_down
        self.cuts += 1
        if how == "after":
            client.shutdown(socket.SHUT_WR)  # what the server says goes nowhere from here on
            server.sendall(data)
            server.shutdown(socket.SHUT_WR)  # it finishes what it has been told, then it ends
        else:
            self._end(server)
        self._end(client)

    def _back(self, server, client):
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                with contextlib.suppress(OSError):
                    client.sendall(data)
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
