"""s3lite under /storage of a Flask application that hears of every upload.

flask --app examples.embed_flask:create_flask run
"""

from __future__ import annotations

from flask import Flask, jsonify
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from s3lite import create_app
from s3lite.settings import Settings, load


def make_app(settings: Settings) -> Flask:
    """The host with storage in it."""
    app = Flask(__name__)
    uploads = []

    def stored(event):
        uploads.append({"key": event["key"], "size": event["size"]})

    @app.get("/uploads")
    def list_uploads():
        return jsonify(uploads)

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/storage": create_app(settings, on_event=stored)})
    return app


def create_flask() -> Flask:
    """For `flask --app examples.embed_flask:create_flask run`."""
    return make_app(load())
