"""Which header differs, when a V4 signature does not fit: what proxies drop and rewrite, tried one by one.

The server does not know what the client has signed, but it can try what usually happens on the way. Nothing
is accepted by it: the request is refused, with a message that names the header and says what to change. It is
no help to a forger, who has to bring a signature that fits to be told so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from s3lite.errors import S3Error
from s3lite.model import RequestHead

# What clients send and proxies put something else in the place of.
_SENT = {
    "accept-encoding": ("identity", "", "gzip", "gzip, deflate", "gzip, deflate, br", "gzip,deflate"),
    "connection": ("keep-alive", "Keep-Alive", "close", ""),
    "x-forwarded-proto": ("https", "http"),
}
_HOSTS = ("x-forwarded-host", "x-original-host")


def name_it(
    problem: S3Error, head: RequestHead, signed: Sequence[str], fits: Callable[[RequestHead], bool]
) -> S3Error:
    """``problem``, a SignatureDoesNotMatch, with the header that differs, if one is found.

    ``signed`` are the names that the client says it has signed; ``fits`` compares the signature as if the
    request had arrived otherwise.
    """
    for name, hint in _suspects(head, signed, fits):
        problem.details["HeaderThatDiffers"] = name
        problem.message = f"{problem.message} {hint}"
        break
    return problem


def _suspects(
    head: RequestHead, signed: Sequence[str], fits: Callable[[RequestHead], bool]
) -> Iterator[tuple[str, str]]:
    for name in signed:
        if name not in head.headers and name.replace("_", "-") not in head.headers:
            yield name, f"The header {name} was signed and did not arrive: let proxies pass it on."
    for teller in _HOSTS:
        host = head.headers.get(teller, "")
        if host and fits(_with(head, "host", host)):
            yield (
                "host",
                f"It was signed for the host {host}, which {teller} tells, and {head.headers.get('host')} "
                "arrived: let the proxy pass Host on, or name the proxy in http.trusted_proxies, or the host "
                "in http.endpoint_aliases.",
            )
    for name in signed:
        for value in _SENT.get(name, ()):
            if fits(_with(head, name, value)):
                yield (
                    name,
                    f"The header {name} was signed as {value!r} and arrived as {head.headers[name]!r}: let "
                    "proxies pass it on unchanged, or the client leave it unsigned.",
                )


def _with(head: RequestHead, name: str, value: str) -> RequestHead:
    return replace(head, headers={**head.headers, name: value})
