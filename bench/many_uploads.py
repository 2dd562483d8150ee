"""Memory of the workers while hundreds of uploads are in progress at once, all of them slow.

    .venv/bin/python bench/many_uploads.py [--uploads 500] [--mib 4]

Opens that many connections, sends the head of a PUT on each, then a slice of each body in turn, so that no upload
ends before all are half done. Then all are finished, and read back by HEAD. Exit code 1 when the workers' peak
exceeds their idle memory by more than 1 MiB for each upload that a worker may have (a buffer of 512 KiB and a
thread), or when one upload was refused or came out wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import harness
from harness import MIB, Client, Gunicorn, Signer, expect
from memory import Memory

SLICE = 64 << 10
EACH = 1 * MIB


def send_slowly(server: Gunicorn, count: int, size: int) -> list[bytes]:
    """``count`` uploads of ``size`` bytes, slice by slice; the first lines of their answers."""
    signer = Signer(server.address)
    piece = b"x" * SLICE
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(closing(socket.create_connection(server.address, timeout=120)))
            for _ in range(count)
        ]
        for number, sock in enumerate(sockets):
            sock.sendall(signer.head("PUT", f"/many/{number}", payload="UNSIGNED-PAYLOAD", length=size))
        for _ in range(size // SLICE):
            for sock in sockets:
                sock.sendall(piece)
        return [sock.recv(4096).split(b"\r\n")[0] for sock in sockets]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uploads", type=int, default=500)
    parser.add_argument("--mib", type=int, default=4, help="size of each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dir", default=None, help="where to make the data directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    size = options.mib * MIB
    etag = hashlib.md5(b"x" * size, usedforsecurity=False).hexdigest()
    with (
        harness.scratch(options.dir) as directory,
        harness.s3lite(directory, S3LITE_WORKERS=str(options.workers)) as server,
    ):
        client = Client(Signer(server.address))
        expect(client.call("PUT", "/many"), 200)
        time.sleep(1)
        memory = Memory(server)
        memory.reset()
        begun = time.perf_counter()
        answers = send_slowly(server, options.uploads, size)
        took_s = time.perf_counter() - begun
        over = sum(peak - memory.idle[pid] for pid, peak in memory.peaks().items())
        refused = sum(not line.startswith(b"HTTP/1.1 200") for line in answers)
        wrong = sum(client.call("HEAD", f"/many/{n}").etag != etag for n in range(options.uploads))
        client.close()
    figures = {
        "uploads": options.uploads,
        "seconds": round(took_s, 1),
        "idle_mib": round(sum(memory.idle.values()) / MIB, 1),
        "over_mib": round(over / MIB, 1),
        "over_kib_each": round(over / options.uploads / 1024),
        "refused": refused,
        "wrong": wrong,
    }
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if refused or wrong or over > options.uploads * EACH else 0


if __name__ == "__main__":
    sys.exit(main())
