"""s3lite under /storage of a Flask application whose users may use it signed in, and which hears of every upload.

FLASK_SECRET_KEY=… flask --app examples.embed_flask:create_flask run

Signed requests of S3 clients work beside the session.
"""

from __future__ import annotations

from flask import Flask, jsonify, request, session
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from s3lite import create_app
from s3lite.hooks import Hooks
from s3lite.model import Account
from s3lite.settings import Settings, load


def make_app(settings: Settings) -> Flask:
    """The host with storage in it."""
    app = Flask(__name__)
    app.config.from_prefixed_env()  # FLASK_SECRET_KEY
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    uploads = []

    def flask_user(environ) -> str | None:
        """The user of Flask's session; None for S3 clients, which sign."""
        found = app.session_interface.open_session(app, app.request_class(environ))
        return found.get("user") if found else None

    def stored(event):
        uploads.append({"key": event["key"], "size": event["size"], "by": event["account_id"]})

    storage = create_app(settings, hooks=Hooks(identify=flask_user, on_event=stored))

    @app.post("/login")
    def login():
        user = request.form["user"]  # whose password your application has checked
        storage.services.store.catalog.write(lambda tx: tx.put_account(Account(user, user)))
        session["user"] = user
        return "", 204

    @app.get("/uploads")
    def list_uploads():
        return jsonify(uploads)

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/storage": storage})
    return app


def create_flask() -> Flask:
    """For `flask --app examples.embed_flask:create_flask run`."""
    return make_app(load())
