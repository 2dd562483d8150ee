"""s3lite under /storage of a Pyramid application.

python examples/embed_pyramid.py
"""

from __future__ import annotations

from wsgiref.simple_server import make_server

from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.wsgi import wsgiapp2

from s3lite import create_app
from s3lite.settings import Settings, load


def make_app(settings: Settings):
    """The host with storage in it."""
    config = Configurator()
    config.add_route("home", "/")
    config.add_view(lambda request: Response("home"), route_name="home")
    # wsgiapp2 moves what the route matched from PATH_INFO to SCRIPT_NAME.
    config.add_route("storage", "/storage/*subpath")
    config.add_view(wsgiapp2(create_app(settings)), route_name="storage")
    return config.make_wsgi_app()


if __name__ == "__main__":
    make_server("127.0.0.1", 8080, make_app(load())).serve_forever()
