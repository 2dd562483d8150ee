"""Large bodies in every way that clients send them: unsigned, signed, signed in chunks, in parts, in parallel."""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from figures import Figure, in_parallel
from harness import MIB, Client, Signer, expect

_STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_CHUNK = 64 << 10
_STREAMS = 4


class Bodies:
    """Figures of one server, in MiB/s; ``size`` is that of an object, ``parts`` those of an upload."""

    def __init__(self, signer: Signer, bucket: str, *, size: int, parts: int = 8) -> None:
        self._signer = signer
        self._bucket = bucket
        self._client = Client(signer)
        self._data = secrets.token_bytes(size)
        self._parts = parts
        self.complete_ms: list[float] = []

    def all(self) -> dict[str, Figure]:
        """By name, in the order to measure them."""
        return {
            "PUT 64 MiB, unsigned": self._timed(self._unsigned),
            "PUT 64 MiB, signed": self._timed(self._signed),
            "PUT 64 MiB, signed chunks": self._timed(self._chunked),
            "multipart 512 MiB, 4 at a time": self._timed(self._multipart, self._parts),
            "GET 64 MiB, 4 streams": self._timed(self._get_streams, _STREAMS),
        }

    def _timed(self, work: Callable[[], object], times: int = 1) -> Figure:
        """MiB/s of ``work``, which moves ``times`` objects."""

        def measure(seconds: float) -> float:
            begun, count = time.perf_counter(), 0
            while count == 0 or time.perf_counter() < begun + seconds:
                work()
                count += times
            return count * len(self._data) / MIB / (time.perf_counter() - begun)

        return measure

    @property
    def _target(self) -> str:
        return f"/{self._bucket}/body"

    def _unsigned(self) -> None:
        expect(self._client.stream("PUT", self._target, pieces(self._data), len(self._data)), 200)

    def _signed(self) -> None:
        digest = hashlib.sha256(self._data).hexdigest()
        headers = self._signer.headers("PUT", self._target, payload=digest)
        expect(self._client.send("PUT", self._target, headers, pieces(self._data), len(self._data)), 200)

    def _chunked(self) -> None:
        headers, body = self._in_chunks()
        expect(self._client.send("PUT", self._target, headers, pieces(body), len(body)), 200)

    def _in_chunks(self) -> tuple[dict[str, str], bytes]:
        """Each chunk signed after the one before it (API Reference, "Signature Calculations … Chunked Upload")."""
        extra = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(self._data))}
        signer = self._signer
        headers = signer.headers("PUT", self._target, payload=_STREAMING, extra=extra)
        signature = headers["Authorization"].rpartition("=")[2]
        nothing = hashlib.sha256().hexdigest()
        framed = bytearray()
        for at in itertools.chain(range(0, len(self._data), _CHUNK), (len(self._data),)):
            chunk = self._data[at : at + _CHUNK]
            digest = hashlib.sha256(chunk).hexdigest()
            signature = signer.sign(
                f"AWS4-HMAC-SHA256-PAYLOAD\n{signer.timestamp}\n{signer.scope}\n{signature}\n{nothing}\n{digest}"
            )
            framed += b"%x;chunk-signature=%s\r\n%s\r\n" % (len(chunk), signature.encode(), chunk)
        return headers, bytes(framed)

    def _multipart(self) -> None:
        target = f"/{self._bucket}/multipart"
        answer = expect(self._client.call("POST", f"{target}?uploads="), 200)
        found = re.search(rb"<UploadId>([^<]+)</UploadId>", answer.body)
        assert found is not None
        upload_id = found[1].decode()
        etags = [""] * self._parts
        numbers = iter(range(1, self._parts + 1))

        def send(_: int) -> None:
            with closing(Client(self._signer)) as client:
                for number in numbers:
                    part = f"{target}?partNumber={number}&uploadId={upload_id}"
                    answer = client.stream("PUT", part, pieces(self._data), len(self._data))
                    etags[number - 1] = expect(answer, 200).etag

        in_parallel(_STREAMS, send)
        document = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{document}</CompleteMultipartUpload>".encode()
        begun = time.perf_counter()
        expect(self._client.call("POST", f"{target}?uploadId={upload_id}", body), 200)
        self.complete_ms.append((time.perf_counter() - begun) * 1000)

    def _get_streams(self) -> None:
        def receive(_: int) -> None:
            with closing(Client(self._signer)) as client:
                expect(client.call("GET", self._target, sink=lambda _: None), 200)

        in_parallel(_STREAMS, receive)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def pieces(data: bytes) -> Iterator[memoryview]:
    """``data`` as it is sent, without copies."""
    view = memoryview(data)
    for at in range(0, len(data), MIB):
        yield view[at : at + MIB]
