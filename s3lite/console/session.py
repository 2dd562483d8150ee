"""Who is signed in: a cookie that names an access key and an expiry, sealed by a key of the installation.

Nothing is kept on the server, so every worker and node knows every session. A session ends when it
expires, when its key is disabled or removed, or when the secret of the key changes (it is part of the seal).
"""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from s3lite.model import AccessKey
from s3lite.times import Clock

COOKIE = "s3lite-console"


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in user. ``csrf`` is what the forms of this session carry."""

    key: AccessKey
    csrf: str


class Sessions:
    """Makes and checks cookies. ``lookup`` finds an access key, ``seal_key`` is the installation's."""

    def __init__(
        self,
        *,
        seal_key: bytes,
        lookup: Callable[[str], AccessKey | None],
        clock: Clock,
        lifetime_s: int,
    ) -> None:
        self._seal_key = seal_key
        self._lookup = lookup
        self._clock = clock
        self._lifetime_s = lifetime_s

    def sign_in(self, access_key: str, secret_key: str) -> str | None:
        """The cookie's value for a right pair of keys; None for a wrong one, in the same time."""
        key = self._lookup(access_key)
        known = key.secret_key if key is not None else secrets.token_hex(20)
        fits = hmac.compare_digest(known.encode("utf-8", "replace"), secret_key.encode("utf-8", "replace"))
        if key is None or not key.enabled or not fits:
            return None
        expires = int(self._clock.time()) + self._lifetime_s
        nonce = secrets.token_urlsafe(12)
        return f"{_encode(access_key)}.{expires}.{nonce}.{self._seal(key, expires, nonce)}"

    def read(self, cookie_header: str) -> Session | None:
        """The session of a request's Cookie header, or None."""
        cookies = SimpleCookie()
        try:
            cookies.load(cookie_header)
        except CookieError:
            return None
        morsel = cookies.get(COOKIE)
        parts = morsel.value.split(".") if morsel is not None else []
        if len(parts) != 4 or not parts[1].isdigit() or len(parts[1]) > 12:
            return None
        encoded, expires, nonce, seal = parts
        access_key = _decode(encoded)
        key = self._lookup(access_key) if access_key else None
        if key is None or not key.enabled or int(expires) < self._clock.time():
            return None
        if not hmac.compare_digest(
            self._seal(key, int(expires), nonce).encode(), seal.encode("utf-8", "replace")
        ):
            return None
        return Session(key, self._csrf(nonce))

    def _seal(self, key: AccessKey, expires: int, nonce: str) -> str:
        text = f"session\n{key.access_key}\n{key.secret_key}\n{expires}\n{nonce}"
        return _text(hmac.digest(self._seal_key, text.encode("utf-8", "surrogatepass"), "sha256"))

    def _csrf(self, nonce: str) -> str:
        return _text(hmac.digest(self._seal_key, f"csrf\n{nonce}".encode(), "sha256")[:18])


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _encode(text: str) -> str:
    return _text(text.encode())


def _decode(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return ""


class Attempts:
    """Failed sign-ins of the last minute, by address and of all: guessing must be slow."""

    WINDOW_S = 60.0
    _ALL = "*"

    def __init__(self, clock: Clock, *, per_address: int) -> None:
        self._clock = clock
        self._limits = {False: per_address, True: per_address * 20}
        self._failures: dict[str, deque[float]] = {}
        self._mutex = threading.Lock()

    def is_blocked(self, address: str) -> bool:
        """Whether an address, or everyone together, has failed too often."""
        with self._mutex:
            return any(
                len(self._recent(name)) >= self._limits[name == self._ALL] for name in (address, self._ALL)
            )

    def failed(self, address: str) -> None:
        """Count a failure."""
        with self._mutex:
            for name in (address, self._ALL):
                self._recent(name).append(self._clock.monotonic())

    def _recent(self, name: str) -> deque[float]:
        since = self._clock.monotonic() - self.WINDOW_S
        if len(self._failures) > 10_000:  # addresses cost the attacker little: forget those that are quiet
            self._failures = {
                each: times for each, times in self._failures.items() if times and times[-1] > since
            }
        times = self._failures.setdefault(name, deque(maxlen=1024))
        while times and times[0] <= since:
            times.popleft()
        return times
