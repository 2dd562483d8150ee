"""s3lite under /storage of a Django project, in the project's wsgi.py; users of Django may use it signed in.

The project hears of every upload by a signal of its own, `uploaded`. Storage accounts have the names of Django's users. Signed requests of S3 clients work beside them.
"""

from __future__ import annotations

from importlib import import_module

from django.conf import settings as django
from django.contrib.auth import SESSION_KEY
from django.core.wsgi import get_wsgi_application
from django.dispatch import Signal
from django.http import parse_cookie
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from s3lite import create_app
from s3lite.hooks import Hooks
from s3lite.settings import Settings

uploaded = Signal()  # with ``event``: operation, bucket, key, size, etag, account_id …


def django_user(environ) -> str | None:
    """The user of Django's session cookie; None for S3 clients, which sign."""
    cookie = parse_cookie(environ.get("HTTP_COOKIE", "")).get(django.SESSION_COOKIE_NAME)
    if not cookie:
        return None
    session = import_module(django.SESSION_ENGINE).SessionStore(cookie)
    return session.get(SESSION_KEY)


def make_app(settings: Settings):
    """`application` of wsgi.py."""

    def stored(event):
        uploaded.send(sender=create_app, event=event)

    storage = create_app(settings, hooks=Hooks(identify=django_user, on_event=stored))
    return DispatcherMiddleware(get_wsgi_application(), {"/storage": storage})
