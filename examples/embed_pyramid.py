"""s3lite under /storage of a Pyramid application: its users are known there, its subscribers hear of uploads.

python examples/embed_pyramid.py
"""

from __future__ import annotations

import secrets
from wsgiref.simple_server import make_server

from pyramid.authentication import AuthTktCookieHelper
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.wsgi import wsgiapp2

from s3lite import create_app
from s3lite.hooks import Hooks
from s3lite.model import Account
from s3lite.settings import Settings, load


class UploadStored:
    """An event of the host's: an upload is durable and visible."""

    def __init__(self, upload):
        self.upload = upload


def make_app(settings: Settings, secret: str = ""):
    """The host with storage in it; ``secret`` signs its cookies."""
    config, uploads = Configurator(), []
    tickets = AuthTktCookieHelper(secret or secrets.token_hex(), samesite="Lax")

    def pyramid_user(environ) -> str | None:
        """The user of the ticket; None for S3 clients, which sign."""
        ticket = tickets.identify(Request(environ))
        return ticket["userid"] if ticket else None

    hooks = Hooks(pyramid_user, on_event=lambda upload: config.registry.notify(UploadStored(upload)))
    storage = create_app(settings, hooks=hooks)

    def login(request):
        user = request.POST["user"]  # whose password your application has checked
        storage.services.store.catalog.write(lambda tx: tx.put_account(Account(user, user)))
        return Response(headerlist=tickets.remember(request, user))

    config.add_subscriber(lambda event: uploads.append(event.upload["key"]), UploadStored)
    config.add_route("home", "/")
    config.add_view(lambda request: Response(json_body=uploads), route_name="home")
    config.add_route("login", "/login", request_method="POST")
    config.add_view(login, route_name="login")
    # wsgiapp2 moves what the route matched from PATH_INFO to SCRIPT_NAME.
    config.add_route("storage", "/storage/*subpath")
    config.add_view(wsgiapp2(storage), route_name="storage")
    return config.make_wsgi_app()


if __name__ == "__main__":
    make_server("127.0.0.1", 8080, make_app(load())).serve_forever()
