"""Peers that hold connections and do not get on, by the hundred, while others work as always.

Each kind holds a connection at another point: in a head, behind a request, in a body that is wanted, refused
or ignored, and in an answer that nobody reads.
"""

from __future__ import annotations

import itertools
import random
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e.conftest import Server, running
from e2e.test_wire import connect, head, presigned

MIDDLE, LARGE = 200_000, 8 << 20
PATIENCE_S = 5.0
"""How long a request of somebody else may take meanwhile, on a machine that does other things as well."""
_ROUND_S = 3.0


def slow_head(server: Server) -> bytes:
    """Half of a head."""
    return head(server, "GET", presigned(server, "bucket", "small", "get_object"))[:60]


def half_behind(server: Server) -> bytes:
    """A request, and a part of the head of the next."""
    return head(server, "GET", "/.s3lite/health") + b"GET /"


def refused_body(server: Server) -> bytes:
    """An upload of nobody that is allowed to, with a part of its body."""
    return head(server, "PUT", "/bucket/refused", "Content-Length: 1000000") + b"x" * 1000


def refused_chunks(server: Server) -> bytes:
    """The same in chunks."""
    return head(server, "PUT", "/bucket/refused", "Transfer-Encoding: chunked") + b"ffff\r\nxxx"


def ignored_body(server: Server) -> bytes:
    """A request that needs no body, and announces one."""
    return head(server, "GET", "/.s3lite/health", "Content-Length: 1000000") + b"x"


def slow_upload(server: Server) -> bytes:
    """An upload of which a part has been sent."""
    return head(server, "PUT", presigned(server, "bucket", "slow"), "Content-Length: 1000000") + b"x" * 1000


def slow_reader(server: Server) -> bytes:
    """A large object that is not read."""
    return head(server, "GET", presigned(server, "bucket", "large", "get_object"))


def pipeliner(server: Server) -> bytes:
    """Several requests at once whose answers are not read, and fill what the kernel holds of them."""
    return head(server, "GET", presigned(server, "bucket", "middle", "get_object")) * 20


KINDS: dict[str, Callable[[Server], bytes]] = {
    kind.__name__: kind
    for kind in (
        slow_head, half_behind, refused_body, refused_chunks, ignored_body, slow_upload, slow_reader, pipeliner,
    )
}  # fmt: skip


def prepare(server: Server) -> None:
    """A bucket with what the slow ones ask for."""
    client = server.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="small", Body=b"small")
    client.put_object(Bucket="bucket", Key="middle", Body=bytes(MIDDLE))
    client.put_object(Bucket="bucket", Key="large", Body=bytes(LARGE))


@contextmanager
def siege(server: Server, kinds: list[str], count: int) -> Iterator[list[socket.socket]]:
    """``count`` connections that do not get on, of these kinds in turn."""
    begun = {kind: KINDS[kind](server) for kind in kinds}
    held = []
    try:
        for kind in itertools.islice(itertools.cycle(kinds), count):
            sock = connect(server)
            held.append(sock)
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.send(begun[kind])
        yield held
    finally:
        for sock in held:
            sock.close()


def drip(held: list[socket.socket]) -> None:
    """One byte more on each connection."""
    for sock in held:
        with suppress(OSError):
            sock.send(b"x")


def others(server: Server, number: int) -> float:
    """What everybody else does meanwhile; the seconds that the slowest request took. Raises what boto3 does."""
    client, what = server.client(), {"Bucket": "bucket", "Key": f"other-{number}"}
    slowest = 0.0
    for body in (b"small", b"x" * 100_000):
        for call in (
            lambda body=body: client.put_object(**what, Body=body),
            lambda: client.get_object(**what)["Body"].read(),
            lambda: client.list_objects_v2(Bucket="bucket"),
            lambda: client.delete_object(**what),
        ):
            begun = time.monotonic()
            call()
            slowest = max(slowest, time.monotonic() - begun)
    return slowest


def campaign(seed: int, until: float, counts: Counter[str]) -> list[str]:
    """Sieges of changing size and kind until ``until`` (`time.monotonic`): the findings."""
    chance = random.Random(seed)
    findings = []
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as server:
        prepare(server)
        while time.monotonic() < until and len(findings) < 5:
            kinds = chance.sample(sorted(KINDS), chance.randint(1, len(KINDS)))
            count = chance.choice((200, 400, 600))
            with siege(server, kinds, count) as held:
                end = min(time.monotonic() + _ROUND_S, until)
                while time.monotonic() < end:
                    drip(held)
                    try:
                        slowest = others(server, counts["rounds of others"])
                    except Exception as error:
                        findings.append(f"{count} of {kinds}: {error!r}")
                        break
                    counts["rounds of others"] += 1
                    if slowest > PATIENCE_S:
                        findings.append(f"{count} of {kinds}: a request took {slowest:.1f} s")
                        break
            counts["sieges"] += 1
            counts["slow connections"] += count
        if "Traceback" in server.log.read_text():
            findings.append(f"the server's log has a traceback: {server.log.read_text()[-2000:]}")
    return findings
