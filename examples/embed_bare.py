"""s3lite under /storage of a plain WSGI application, with the host's own idea of who is asking.

python examples/embed_bare.py      # then PUT /storage/photos/… with the header X-User: alice
"""

from __future__ import annotations

from wsgiref.simple_server import make_server

from s3lite import create_app
from s3lite.hooks import Asked, Hooks, Refused
from s3lite.model import Account
from s3lite.settings import Settings, load


def who(environ):
    """The host has checked this header; None leaves it to S3 signatures."""
    return environ.get("HTTP_X_USER")


def may(asked: Asked) -> bool:
    """Users keep to keys that begin with their name."""
    return not asked.key or asked.account_id == "root" or asked.key.startswith(asked.account_id + "/")


def check(asked: Asked) -> None:
    """Refused before a byte of the body is read."""
    if asked.size is not None and asked.size > 1_000_000:
        raise Refused("At most a megabyte, please.", code="EntityTooLarge")


def make_app(settings: Settings):
    """The host with storage in it."""
    stored = []
    hooks = Hooks(identify=who, authorize=may, before_upload=check, on_event=stored.append)
    storage = create_app(settings, hooks=hooks)
    storage.services.store.catalog.write(lambda tx: tx.put_account(Account("alice", "Alice")))

    def application(environ, start_response):
        if not environ["PATH_INFO"].startswith("/storage/"):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{len(stored)} uploads\n".encode()]
        environ["SCRIPT_NAME"] += "/storage"
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/storage")
        return storage(environ, start_response)

    return application


if __name__ == "__main__":
    make_server("127.0.0.1", 8080, make_app(load())).serve_forever()
