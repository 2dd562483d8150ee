"""The decoder of ``aws-chunked`` bodies: signed, unsigned, with and without trailer.

A body is a row of chunks, ``HEX[;chunk-signature=SIG]CRLF data CRLF``, a chunk of size 0, and after it
perhaps trailers. Each signature covers the one before it, the first that of the request's head, so
chunks cannot be changed, dropped or reordered. No byte of a signed chunk is handed on before its
signature is verified; unsigned chunks flow through. This is framing of S3's own inside the body,
and may itself travel in HTTP's chunked coding, which the WSGI server has removed.

Sources: API Reference, "Signature calculations: transferring payload in multiple chunks" and "Trailing
headers with aws-chunked"; botocore ``httpchecksum``, aws-sdk-java v2, minio-go for what is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import deque
from dataclasses import dataclass

from s3lite.errors import Code, S3Error
from s3lite.wire.body import Source

MAX_SIGNED_CHUNK = 16 << 20
"""Bytes of the largest signed chunk: it is held until it is verified. SDKs send 64 KiB to a few MiB."""

_MAX_LINE = 256  # a chunk's header line: 16 digits, the signature and its name are 98 bytes
_MAX_TRAILER_SECTION = 8 << 10
_MAX_TRAILERS = 16
_PULL = 512 << 10  # measured: the best size of a read from wsgi.input
_SMALL = 4096  # pieces below this are copied together, so that tiny chunks do not become tiny objects

_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_TRAILER_SIGNATURE = "x-amz-trailer-signature"

# What follows the last chunk's header line, up to the end of the body. All clients end it with an empty
# line, which some leave out; minio-go, and the example in the documentation, end a trailer with a bare
# LF and put an empty line before the signature, and minio-go one more at the end when unsigned.
_TRAILER_SECTION = re.compile(
    rb"(?P<trailers>(?:(?!x-amz-trailer-signature:)[A-Za-z0-9-]+:[^\r\n]*\r?\n)*)"
    rb"(?:(?:\r\n)?x-amz-trailer-signature:(?P<signature>[0-9a-f]{64})\r\n)?"
    rb"(?:\r\n){0,2}",
)


@dataclass(frozen=True)
class ChunkSigner:
    """What a chain of chunk signatures is computed from.

    ``timestamp`` and ``scope`` as in the request's string to sign; ``seed`` is the hex signature of
    the request's head.
    """

    signing_key: bytes
    timestamp: str
    scope: str
    seed: str


class AwsChunkedSource:
    """The payload of an aws-chunked body. ``trailers`` (lower-case names) is filled at its end.

    ``decoded_length`` is x-amz-decoded-content-length; ``signer`` None means unsigned chunks;
    ``trailer_names`` are those that x-amz-trailer announces, and no others are taken.
    """

    def __init__(
        self,
        source: Source,
        *,
        decoded_length: int | None,
        signer: ChunkSigner | None,
        trailer_names: frozenset[str],
        signed_trailer: bool,
    ) -> None:
        self.trailers: dict[str, str] = {}
        self._input = _Input(source)
        self._length = decoded_length
        self._decoded = 0  # bytes of all chunks that have begun
        self._signatures = _SignatureChain(signer) if signer is not None else None
        self._trailer_names = trailer_names
        self._signed_trailer = signed_trailer
        self._left = 0  # bytes of the current chunk still to be handed on
        self._verified: deque[memoryview] = deque()  # those bytes, when the chunk is signed
        self._inside = False  # a chunk has begun and its closing CRLF has not been read
        self._ended = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of payload, fewer only at its end.

        Raises SignatureDoesNotMatch, IncompleteBody (ended early, or shorter than announced) and
        InvalidRequest (malformed, or longer than announced).
        """
        pieces: list[memoryview | bytearray] = []
        missing = size
        while missing > 0 and (self._left or self._next_chunk()):
            piece = self._take(min(missing, self._left))
            self._left -= len(piece)
            missing -= len(piece)
            _append(pieces, piece)
        return b"".join(pieces)

    def _take(self, limit: int) -> memoryview:
        """Between one and ``limit`` bytes of the current chunk."""
        if self._signatures is None:
            return self._input.take(limit)
        piece = self._verified.popleft()
        if len(piece) > limit:
            self._verified.appendleft(piece[limit:])
            piece = piece[:limit]
        return piece

    def _next_chunk(self) -> bool:
        """Enter the next chunk; False at the end, with everything verified."""
        if self._ended:
            return False
        if self._inside:
            self._input.crlf()
        size, signature = self._header()
        self._decoded += size
        if self._length is not None and self._decoded > self._length:
            raise _malformed(f"it has more bytes than x-amz-decoded-content-length: {self._length}")
        if size == 0:
            self._finish(signature)
            return False
        self._inside = True
        if self._signatures is not None:
            self._receive(self._signatures, size, signature)
        self._left = size
        return True

    def _header(self) -> tuple[int, str]:
        """Size and signature ("" when unsigned) out of a chunk's header line."""
        match = _HEADER.fullmatch(self._input.line())
        if match is None:
            raise _malformed(
                "a chunk must begin with its size in hexadecimal and, when signed, its signature"
            )
        signature = (match[2] or b"").decode()
        if self._signatures is None and signature:
            raise _malformed("its chunks are signed, and x-amz-content-sha256 says that they are not")
        return int(match[1], 16), signature

    def _receive(self, signatures: _SignatureChain, size: int, signature: str) -> None:
        """Take a whole signed chunk and verify it."""
        if size > MAX_SIGNED_CHUNK:
            raise _malformed(f"a signed chunk of {size} bytes is too large: send at most {MAX_SIGNED_CHUNK}")
        digest = hashlib.sha256()
        pieces: list[memoryview | bytearray] = []
        left = size
        while left:
            piece = self._input.take(left)
            digest.update(piece)
            left -= len(piece)
            _append(pieces, piece)
        signatures.check_chunk(digest.hexdigest(), signature)
        self._verified.extend(memoryview(piece) for piece in pieces)

    def _finish(self, signature: str) -> None:
        """Verify the last chunk, its trailers, and that nothing is missing."""
        if self._signatures is not None:
            self._signatures.check_chunk(_EMPTY_SHA256, signature)
        if self._length is not None and self._decoded < self._length:
            raise S3Error(
                Code.IncompleteBody,
                f"The aws-chunked body has {self._decoded} bytes; "
                f"x-amz-decoded-content-length announced {self._length}.",
            )
        section = _TRAILER_SECTION.fullmatch(self._input.rest(_MAX_TRAILER_SECTION))
        if section is None:
            raise _malformed("only announced trailers and an empty line may follow its last chunk")
        lines = [line.decode("ascii", "replace") for line in section["trailers"].splitlines()]
        if lines and self._signatures is not None and not self._signed_trailer:
            raise _malformed(
                "trailers after signed chunks must be signed: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
            )
        canonical = "".join(self._trailer(line) for line in lines)
        if self._signatures is not None and self._signed_trailer:
            given = (section["signature"] or b"").decode()
            self._signatures.check_trailer(hashlib.sha256(canonical.encode()).hexdigest(), given)
        elif section["signature"] is not None:
            raise _malformed(f"{_TRAILER_SIGNATURE} is not expected here")
        self._ended = True

    def _trailer(self, line: str) -> str:
        """Keep one trailer; its line as it is signed."""
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if name not in self._trailer_names:
            raise _malformed(f"the trailer {name!r} is not announced in x-amz-trailer")
        if name in self.trailers or len(self.trailers) == _MAX_TRAILERS:
            raise _malformed(f"the trailer {name!r} is repeated, or one of more than {_MAX_TRAILERS}")
        self.trailers[name] = value
        return f"{name}:{value}\n"


class _SignatureChain:
    """Verifies signatures, each over the one before it."""

    def __init__(self, signer: ChunkSigner) -> None:
        self._key = signer.signing_key
        self._scope = f"{signer.timestamp}\n{signer.scope}\n"
        self._previous = signer.seed
        self._count = 0

    def check_chunk(self, sha256: str, signature: str) -> None:
        """Raise SignatureDoesNotMatch unless this is the next chunk's signature."""
        self._count += 1
        what = f"chunk {self._count}"
        self._check("AWS4-HMAC-SHA256-PAYLOAD", f"{_EMPTY_SHA256}\n{sha256}", signature, what)

    def check_trailer(self, sha256: str, signature: str) -> None:
        """Raise SignatureDoesNotMatch unless this is the trailer's signature."""
        self._check("AWS4-HMAC-SHA256-TRAILER", sha256, signature, "the trailer")

    def _check(self, algorithm: str, hashes: str, signature: str, what: str) -> None:
        text = f"{algorithm}\n{self._scope}{self._previous}\n{hashes}"
        expected = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(expected, signature):
            raise S3Error(
                Code.SignatureDoesNotMatch,
                f"The signature of {what} of the body does not match what the server calculated. "
                "Check your secret access key and signing method.",
            )
        self._previous = expected


class _Input:
    """Lines and slices out of large reads, without copying what is not split by a read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._data = b""
        self._view = memoryview(b"")
        self._at = 0

    def line(self) -> bytes:
        """The next line, without its CRLF."""
        while (end := self._data.find(b"\r\n", self._at, self._at + _MAX_LINE)) < 0:
            if len(self._data) - self._at >= _MAX_LINE:
                raise _malformed(f"the header line of a chunk is longer than {_MAX_LINE} bytes")
            self._more()
        line = self._data[self._at : end]
        self._at = end + 2
        return line

    def take(self, limit: int) -> memoryview:
        """Between one and ``limit`` bytes."""
        if self._at == len(self._data):
            self._more()
        piece = self._view[self._at : self._at + limit]
        self._at += len(piece)
        return piece

    def crlf(self) -> None:
        """The line end after a chunk's data."""
        while len(self._data) - self._at < 2:
            self._more()
        if not self._data.startswith(b"\r\n", self._at):
            raise _malformed("a chunk's data is not followed by a line end: its size is wrong")
        self._at += 2

    def rest(self, limit: int) -> bytes:
        """Everything up to the end of the body, at most ``limit`` bytes."""
        pieces = [self._data[self._at :]]
        left = limit - len(pieces[0])
        while left >= 0 and (piece := self._source.read(left + 1)):
            pieces.append(piece)
            left -= len(piece)
        if left < 0:
            raise _malformed(f"more than {limit} bytes follow its last chunk")
        return b"".join(pieces)

    def _more(self) -> None:
        data = self._source.read(_PULL)
        if not data:
            raise S3Error(Code.IncompleteBody, "The aws-chunked body ends before its last chunk.")
        self._data = self._data[self._at :] + data
        self._view = memoryview(self._data)
        self._at = 0


def _append(pieces: list[memoryview | bytearray], piece: memoryview) -> None:
    """Add a piece, copied onto the last one when both are small."""
    if len(piece) >= _SMALL:
        pieces.append(piece)
    elif pieces and isinstance(pieces[-1], bytearray):
        pieces[-1] += piece
    else:
        pieces.append(bytearray(piece))


def _malformed(reason: str) -> S3Error:
    return S3Error(Code.InvalidRequest, f"The aws-chunked body is malformed: {reason}.")
