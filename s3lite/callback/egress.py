"""Where callbacks may go: the one URL parser, and the rules against server-side request forgery.

Source: docs/callbacks.md, "Where callbacks may go". An uploader chooses the URL, so what
`parse_url` returns is both what `EgressPolicy` checks and what `callback.send` uses; nothing is
parsed twice. Addresses are judged after resolution and connected to as judged, never by name.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from s3lite import waiting
from s3lite.errors import invalid_argument
from s3lite.settings import CallbackSettings, SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], list[str]]

URL_INVALID = "The callback url configuration is invalid."
ADDRESS_DENIED = "Private address is forbidden to callback."
EARLY_RESOLUTION_S = 1.0
"""Time for name resolution before storing."""

log = logging.getLogger("s3lite.callback")

# ---------------------------------------------------------------- the URL

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")  # WHATWG URL: a host that "ends in a number" is IPv4
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,2}")
# RFC 3986 characters, percent-encoding complete; brackets too, for the `a[]=1` of PHP frameworks.
_TARGET = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@/?\[\]-]|%[0-9A-Fa-f]{2})*")

# Fetch standard, 2.9 "Port blocking": the entries above 1023; of those below, 80 and 443 alone are used.
_BLOCKED_PORTS = frozenset(
    (
        1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669,
        6679, 6697, 10080,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallbackUrl:
    """A target. ``host`` is lower case, without brackets or trailing dot; ``path`` and ``query`` as written."""

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = None  # None: no "?"
    literal: Address | None = None  # the host, when it is an address

    @property
    def target(self) -> str:
        """Path and query for the request line, byte for byte as written."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def netloc(self) -> str:
        """Host, with the port unless it is the scheme's own: the default ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """For logs: without the query, which may hold a secret."""
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse_url(text: str) -> CallbackUrl:
    """One URL of ``callbackUrl``, outer white space removed. Raises S3Error (InvalidArgument)."""
    error = invalid_argument("callbackUrl", text.encode("utf-8", "replace").decode(), URL_INVALID)
    scheme, rest = "http", text
    if match := _SCHEME.match(text):
        scheme, rest = match[1].lower(), text[match.end() :]
    end = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    authority = _AUTHORITY.fullmatch(rest[:end])
    if scheme not in ("http", "https") or authority is None or not _TARGET.fullmatch(rest[end:]):
        raise error
    try:
        host, literal = _host(authority["v6"], authority["host"])
    except ValueError:
        raise error from None
    port = int(authority["port"] or (443 if scheme == "https" else 80))
    if port in _BLOCKED_PORTS or not (port in (80, 443) or 1024 <= port <= 65535):
        raise error
    path, mark, query = rest[end:].partition("?")
    return CallbackUrl(scheme, host, port, path or "/", query if mark else None, literal)


def _host(v6: str | None, name: str | None) -> tuple[str, Address | None]:
    """Canonical host, and its address if it is one. Raises ValueError."""
    if name is None:
        six = ipaddress.IPv6Address(v6 or "")
        return str(six), six
    labels = name.removesuffix(".").lower().split(".")
    if _NUMBER.fullmatch(labels[-1]):
        if len(labels) != 4 or not all(map(_DECIMAL.fullmatch, labels)):
            raise ValueError(name)
        four = ipaddress.IPv4Address(".".join(labels))
        return str(four), four
    if len(name) > 254 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(name)
    return ".".join(labels), None


# ---------------------------------------------------------------- the rules


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part) for part in text.split())


# 12.5. ``ipaddress.is_global`` is not enough: it says True for 168.63.129.16, 224.0.0.1 and 2002:7f00:1::.
DENIED = _networks(
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
    "168.63.129.16/32 "
    "::/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 fc00::/7 fe80::/10 ff00::/8"
)
METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"))
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291, 2.4: nothing else is routed
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class _Allowed:
    """An entry of ``callback.allow``: a network or a host pattern, with a port or for any port."""

    network: Network | None
    host: str
    port: int | None

    def opens(self, host: str, address: Address, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if self.network is not None:
            return address in self.network
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host

    def is_exactly(self, address: Address, port: int) -> bool:
        """True for an ``address:port`` entry of just this target."""
        return (
            self.network is not None
            and self.network.num_addresses == 1
            and self.opens("", address, port)
            and self.port == port
        )


class EgressPolicy:
    """Decides which addresses a callback may reach.

    ``own_listeners`` are the (address, port) pairs that s3lite itself listens on. ``resolver``
    replaces getaddrinfo; it may block, so it always runs in a small pool of threads.
    """

    def __init__(
        self,
        settings: CallbackSettings,
        own_listeners: Sequence[tuple[str, int]] = (),
        *,
        resolver: Resolver | None = None,
    ) -> None:
        self._allow = tuple(map(_parse_allowed, settings.allow))
        self._allow_only = settings.allow_only
        self._deny_ports = frozenset(settings.deny_ports)
        self._own = tuple((_own_address(host), port) for host, port in own_listeners)
        self._resolver = resolver or resolve
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="s3lite-callback-dns")
        self.proxy = _parse_proxy(settings.proxy)

    def close(self) -> None:
        """Stop taking look-ups; those that hang are left to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def check_early(self, url: CallbackUrl, deadline: float | None = None) -> None:
        """Refuse a target before its upload is stored. Raises S3Error (InvalidArgument).

        A name that does not resolve by ``deadline`` (`time.monotonic`) passes: a DNS fault must not
        block uploads.
        """
        if url.port in self._deny_ports:
            raise invalid_argument("callbackUrl", str(url), URL_INVALID)
        if deadline is None:
            deadline = time.monotonic() + EARLY_RESOLUTION_S
        try:
            denied = not self.addresses(url, deadline)
        except OSError:
            return
        if denied:
            raise invalid_argument("callbackUrl", str(url), ADDRESS_DENIED)

    def addresses(self, url: CallbackUrl, deadline: float) -> list[tuple[str, int]]:
        """Resolve once and keep what may be reached, in the resolver's order; [] when all is denied.

        With a proxy, its addresses: it does the filtering. Raises OSError when the name does
        not resolve, TimeoutError when not by ``deadline``.
        """
        if url.port in self._deny_ports:
            return []
        if self.proxy is not None:
            host, port = self.proxy
            return [(str(address), port) for address in self._resolve(host, port, deadline)]
        found = self._resolve(url.host, url.port, deadline)
        judged = [(address, self._refusal(url.host, address, url.port)) for address in found]
        kept = [(str(address), url.port) for address, reason in judged if not reason]
        if not kept:
            for address, reason in judged:
                _log_refusal(url, address, reason)
        return kept

    def _resolve(self, host: str, port: int, deadline: float) -> list[Address]:
        """Distinct addresses of a name. Raises OSError, TimeoutError."""
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        waiting.ahead()
        lookup: Future[list[str]] = self._threads.submit(self._resolver, host, port)
        try:
            texts = lookup.result(max(deadline - time.monotonic(), 0))
        except TimeoutError:
            lookup.cancel()
            raise
        except (UnicodeError, ValueError) as error:  # a name that the resolver cannot even encode
            raise OSError(str(error)) from error
        return [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]

    def _refusal(self, host: str, address: Address, port: int) -> str:
        """Why this address must not be reached; "" when it may be."""
        judged = _unmapped(address)
        if any(entry.is_exactly(judged, port) for entry in self._allow):
            return ""
        for inner in (judged, *_embedded(judged)):
            if inner in METADATA:
                return "a cloud metadata service"
            if any(port == own_port and _is_own(inner, own) for own, own_port in self._own):
                return "a listener of s3lite itself"
        if any(entry.opens(host, judged, port) for entry in self._allow):
            return ""
        if self._allow_only:
            return "not in callback.allow (callback.allow_only is set)"
        if any(judged in network for network in DENIED):
            return "a private or special address"
        if isinstance(judged, ipaddress.IPv6Address) and judged not in _GLOBAL_UNICAST:
            return "not a global address"
        return ""


def resolve(host: str, port: int) -> list[str]:
    """getaddrinfo: the addresses of a name, in the system's order of preference."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in answers]


def _unmapped(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def _embedded(address: Address) -> Iterator[Address]:
    """IPv4 addresses that a translator or tunnel would make of an IPv6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield address.teredo[1]
    if address in _NAT64 or address in _V4_COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _own_address(host: str) -> Address:
    """The address of a listener; a name such as localhost stands for every address of this machine."""
    try:
        return _unmapped(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return ipaddress.IPv4Address(0)


def _is_own(address: Address, listener: Address) -> bool:
    """True if a connection to ``address`` ends at a listener bound to ``listener``."""
    if address.is_unspecified:  # the kernel takes it for the loopback address
        return listener.is_unspecified or listener.is_loopback
    return address == listener or (listener.is_unspecified and _is_local(address))


def _is_local(address: Address) -> bool:
    """True if the address belongs to this machine: the kernel lets nobody bind another."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _log_refusal(url: CallbackUrl, address: Address, reason: str) -> None:
    """Say what the operator has to add if the target is wanted."""
    exact = f"[{address}]:{url.port}" if address.version == 6 else f"{address}:{url.port}"
    by_address = url.literal is not None or "metadata" in reason or "listener" in reason
    line = exact if by_address else f"{url.host}:{url.port}"
    log.warning(
        'callback to %s refused: %s is %s; to allow it, add "%s" to callback.allow',
        url,
        address,
        reason,
        line,
    )


# ---------------------------------------------------------------- settings


def _parse_allowed(entry: str) -> _Allowed:
    """``10.1.0.0/16``, ``127.0.0.1:9000``, ``[fd00::/8]:8080``, ``hooks.internal``, ``*.svc.local:8080``."""
    network = _network(entry)
    if network is not None:
        return _Allowed(network, "", None)
    target, colon, port_text = entry.rpartition(":")
    if not colon or entry.endswith("]"):
        target, port_text = entry, ""
    port = int(port_text) if port_text.isascii() and port_text.isdigit() else None
    if colon and target != entry and not (port and port <= 65535):
        raise SettingsError(f"callback.allow: {entry!r}: bad port")
    network = _network(target.removeprefix("[").removesuffix("]"))
    if network is not None:
        return _Allowed(network, "", port)
    host = target.lower().removesuffix(".")
    if not all(map(_LABEL.fullmatch, host.removeprefix("*.").split("."))):
        raise SettingsError(
            f"callback.allow: {entry!r}: must be a host, *.host or CIDR, each with optional :port"
        )
    return _Allowed(None, host, port)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _parse_proxy(text: str) -> tuple[str, int] | None:
    """Host and port of ``callback.proxy``."""
    if not text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname or parts.username or parts.path.strip("/") or parts.query:
        raise SettingsError(f"callback.proxy: {text!r}: must be http://HOST:PORT")
    return parts.hostname, port
