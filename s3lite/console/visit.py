"""One request to the console: who visits, what was asked, and how pages are rendered."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from s3lite.console.client import S3
from s3lite.console.session import Session
from s3lite.context import Services
from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead
from s3lite.responses import Headers, Response

if TYPE_CHECKING:
    from jinja2 import Environment

ROOT = "/.s3lite/console/"

# No inline script or style, no frame around these pages, no request to anywhere else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Headers = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]


@dataclass(slots=True)
class Visit:
    """A request of a signed-in user. ``form`` has the fields of a POST, ``query`` those of the URL."""

    head: RequestHead
    services: Services
    session: Session
    s3: S3
    totals: Callable[[], Mapping[str, float]]  # sums of the metrics by name; empty without any
    rest: str  # what follows the page's name in the path
    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, list[str]] = field(default_factory=dict)  # fields that may occur more than once
    document: Mapping[str, Any] = field(default_factory=dict)  # a JSON body

    @property
    def is_operator(self) -> bool:
        """Whether the visitor may do what is no operation of S3: the root account, by a key without a policy."""
        return self.session.key.account.is_root and not self.session.key.policy

    @property
    def base(self) -> str:
        """The path of the console as the browser has it, mount prefix included."""
        return self.head.mount_prefix + ROOT

    @property
    def endpoint(self) -> str:
        """The server as the browser has it: scheme, host and mount prefix."""
        return self.head.origin + self.head.mount_prefix

    def page(
        self, template: str, *, title: str, status: int = 200, fault: str = "", **values: Any
    ) -> Response:
        """Render a page of the signed-in user; ``fault`` says what went wrong."""
        return render(
            template,
            self.head,
            status=status,
            fault=fault,
            title=title,
            key=self.session.key,
            csrf=self.session.csrf,
            is_operator=self.is_operator,
            **values,
        )

    def back(self, path: str, *, notice: str = "", fault: str = "") -> Response:
        """Go to a page of the console after a POST, with a word on what happened."""
        words = "&".join(
            f"{name}={quote(text)}" for name, text in (("notice", notice), ("fault", fault)) if text
        )
        joined = path + (("&" if "?" in path else "?") + words if words else "")
        return Response(303, [("Location", self.base + joined), *_HEADERS])


def render(
    template: str, head: RequestHead, *, status: int = 200, fault: str = "", **values: Any
) -> Response:
    """A page as an answer."""
    words = dict(head.query_items) if head.method == "GET" else {}
    text = (
        templates()
        .get_template(template)
        .render(
            base=head.mount_prefix + ROOT,
            here=head.target.key.removeprefix("console/"),
            notice=words.get("notice", ""),
            fault=fault or words.get("fault", ""),
            **values,
        )
    )
    return Response(status, [("Content-Type", "text/html; charset=utf-8"), *_HEADERS], text.encode())


def answer_json(document: object, *, status: int = 200) -> Response:
    """JSON for the console's script."""
    return Response(status, [("Content-Type", "application/json"), *_HEADERS], json.dumps(document).encode())


@functools.cache
def templates() -> Environment:
    """The templates, compiled once. jinja2 is imported when somebody looks at the console."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("s3lite.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": human_size, "when": human_time, "url": _quoted}
    environment.globals["asset"] = asset
    return environment


def human_size(count: int) -> str:
    """Bytes as people read them: 1.5 MiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def human_time(iso8601: str) -> str:
    """An S3 time without its seconds' fraction, in UTC."""
    try:
        moment = datetime.datetime.fromisoformat(iso8601.replace("Z", "+00:00"))
    except ValueError:
        return iso8601
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _quoted(text: str) -> str:
    return quote(text, safe="/")


_ASSETS = {"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8"}


@functools.cache
def _asset(name: str) -> tuple[bytes, str]:
    data = resources.files("s3lite.console").joinpath("static", name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:12]


def asset(name: str) -> str:
    """The path of a static file below the console, changing with its content."""
    return f"static/{name}?v={_asset(name)[1]}"


def static(name: str) -> Response:
    """A static file. Raises NoSuchKey."""
    if name not in _ASSETS:
        raise S3Error(Code.NoSuchKey)
    headers: Headers = [
        ("Content-Type", _ASSETS[name]),
        ("Cache-Control", "public, max-age=31536000, immutable"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Response(200, headers, _asset(name)[0])


def parse_form(body: bytes) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Fields of an urlencoded body: the first value of each, and all of them. Raises InvalidRequest."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=2000, errors="strict")
    except (UnicodeError, ValueError):
        raise S3Error(Code.InvalidRequest, "The form's body is not valid.") from None
    first: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        first.setdefault(name, value)
        lists.setdefault(name, []).append(value)
    return first, lists


Page = Callable[[Visit], Response]
