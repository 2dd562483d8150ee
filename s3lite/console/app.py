"""The console's own dispatcher: sign-in, checks that every POST came from its own pages, pages by name."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from s3lite.console import browse, callbacks, configure, deliveries, health, people, uploads
from s3lite.console.client import S3, Wsgi
from s3lite.console.session import COOKIE, Attempts, Session, Sessions
from s3lite.console.visit import ROOT, Page, Visit, answer_json, parse_form, render, static
from s3lite.context import Services
from s3lite.errors import Code, S3Error
from s3lite.model import AccessKey, RequestHead
from s3lite.responses import Response
from s3lite.wire.body import LengthSource, read_all

_MAX_BODY = 1 << 20

PAGES: dict[tuple[str, str], Page] = {
    ("GET", "buckets"): browse.buckets,
    ("POST", "buckets"): browse.create_bucket,
    ("POST", "delete-bucket"): browse.delete_bucket,
    ("GET", "b"): browse.objects,
    ("POST", "delete-objects"): browse.delete_objects,
    ("GET", "o"): browse.show_object,
    ("POST", "share"): browse.share,
    ("POST", "tags"): browse.save_tags,
    ("POST", "restore"): browse.restore_version,
    ("GET", "settings"): configure.show,
    ("POST", "settings"): configure.save,
    ("GET", "composer"): callbacks.composer,
    ("POST", "composer"): callbacks.compose,
    ("POST", "attach"): callbacks.attach,
    ("GET", "deliveries"): deliveries.deliveries,
    ("GET", "delivery"): deliveries.delivery,
    ("POST", "retry"): deliveries.retry,
    ("GET", "users"): people.users,
    ("POST", "users"): people.change,
    ("GET", "health"): health.health,
}
# Called by the console's script with JSON.
API: dict[str, Callable[[Visit], object]] = {
    "put": uploads.put,
    "start": uploads.start,
    "part": uploads.part,
    "complete": uploads.complete,
    "abort": uploads.abort,
    "figures": health.figures,
}


class Console:
    """Answers what is below ``/.s3lite/console/``. ``wsgi`` is the whole application."""

    def __init__(
        self,
        wsgi: Wsgi,
        services: Services,
        *,
        lookup: Callable[[str], AccessKey | None],
        seal_key: bytes,
        totals: Callable[[], Mapping[str, float]],
    ) -> None:
        self._wsgi = wsgi
        self._services = services
        self._totals = totals
        settings = services.settings.console
        self._sessions = Sessions(
            seal_key=seal_key,
            lookup=lookup,
            clock=services.store.clock,
            lifetime_s=settings.session_s,
        )
        self._attempts = Attempts(services.store.clock, per_address=settings.sign_in_failures)

    def answer(self, environ: dict[str, Any], head: RequestHead, client_ip: str) -> Response:
        """Answer one request. Raises S3Error."""
        name, _, rest = head.target.key.removeprefix("console").removeprefix("/").partition("/")
        if name == "static" and head.method in ("GET", "HEAD"):
            return static(rest)
        if head.method not in ("GET", "HEAD", "POST"):
            raise S3Error(Code.MethodNotAllowed, headers={"Allow": "GET, HEAD, POST"})
        _refuse_foreign(head)
        body = _body(environ, head) if head.method == "POST" else b""
        if name == "sign-in" and head.method == "POST":
            return self._sign_in(head, body, client_ip)
        session = self._sessions.read(head.headers.get("cookie", ""))
        if session is None:
            if name == "api":
                return answer_json({"problem": "You are signed out. Sign in again."}, status=401)
            return render(
                "sign-in.html", head, title="Sign in", status=200 if name in ("", "sign-in") else 401
            )
        return self._signed_in(environ, head, session, name, rest, body)

    def _signed_in(
        self, environ: dict[str, Any], head: RequestHead, session: Session, name: str, rest: str, body: bytes
    ) -> Response:
        visit = Visit(
            head=head,
            services=self._services,
            session=session,
            s3=S3(self._wsgi, environ, session.key),
            totals=self._totals,
            rest=rest,
            query=dict(reversed(head.query_items)),
        )
        if head.method == "POST":
            if name == "api":
                return _api(visit, body)
            visit.form, visit.lists = parse_form(body)
            _check_csrf(visit, visit.form.get("csrf", ""))
            if name == "sign-out":
                return Response(303, [("Location", visit.base), _cookie(head, "", 0)])
        if name in ("", "sign-in"):
            return visit.back("buckets")
        page = PAGES.get(("GET" if head.method == "HEAD" else head.method, name))
        if page is None:
            return visit.page("missing.html", title="Not found", status=HTTPStatus.NOT_FOUND)
        return page(visit)

    def _sign_in(self, head: RequestHead, body: bytes, client_ip: str) -> Response:
        form, _ = parse_form(body)
        if self._attempts.is_blocked(client_ip):
            fault = "Too many failed attempts. Wait a minute, then try again."
            return render("sign-in.html", head, title="Sign in", fault=fault, status=429)
        value = self._sessions.sign_in(form.get("access_key", "").strip(), form.get("secret_key", "").strip())
        if value is None:
            self._attempts.failed(client_ip)
            fault = "This access key and secret key do not belong together, or the key is disabled."
            return render("sign-in.html", head, title="Sign in", fault=fault, status=403)
        cookie = _cookie(head, value, self._services.settings.console.session_s)
        return Response(303, [("Location", head.mount_prefix + ROOT + "buckets"), cookie])


def _api(visit: Visit, body: bytes) -> Response:
    """A call of the console's script: JSON in, JSON out, ``problem`` where it failed."""
    _check_csrf(visit, visit.head.headers.get("x-csrf", ""))
    call = API.get(visit.rest)
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if call is None or not isinstance(document, dict):
        return answer_json({"problem": "No such call."}, status=400)
    visit.document = document
    try:
        return answer_json(call(visit))
    except (KeyError, TypeError, ValueError):
        return answer_json({"problem": "The call lacks something."}, status=400)
    except S3Error as error:
        return answer_json({"problem": error.message}, status=400)


def _check_csrf(visit: Visit, given: str) -> None:
    if not hmac.compare_digest(visit.session.csrf.encode(), given.encode("utf-8", "replace")):
        raise S3Error(Code.AccessDenied, "This form is not of your session. Reload the page and try again.")


def _refuse_foreign(head: RequestHead) -> None:
    """Raise AccessDenied for a POST that another site's page caused, whatever its cookie and token say."""
    if head.method != "POST":
        return
    site = head.headers.get("sec-fetch-site", "same-origin")
    origin = head.headers.get("origin", head.origin)
    if site not in ("same-origin", "none") or origin not in (head.origin, "null"):
        raise S3Error(Code.AccessDenied, "Forms of the console are sent by its own pages only.")


def _body(environ: dict[str, Any], head: RequestHead) -> bytes:
    length = head.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise S3Error(Code.MissingContentLength)
    if int(length) > _MAX_BODY:
        raise S3Error(Code.EntityTooLarge)
    return read_all(LengthSource(environ["wsgi.input"], int(length)), limit=_MAX_BODY)


def _cookie(head: RequestHead, value: str, max_age_s: int) -> tuple[str, str]:
    secure = "; Secure" if head.origin.startswith("https:") else ""
    path = head.mount_prefix + ROOT
    return (
        "Set-Cookie",
        f"{COOKIE}={value}; Path={path}; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}",
    )
