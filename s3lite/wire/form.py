"""Browser forms (multipart/form-data) as a stream: the fields, then the file as a `Source`.

The file part is the one *named* ``file``, in any case: some clients send a filename with every field.
What follows it is ignored, as S3 does, but the form must be closed.

The one door to the package ``multipart``, which is imported with the first form.

Sources: RFC 7578; RFC 2046, 5.1.1; API Reference, "POST Object".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.settings import LimitSettings
from s3lite.wire.body import Source

if TYPE_CHECKING:
    from multipart import MultipartSegment

# Bytes parsed at a time. Net of reading, 128 MiB ran at 5-8 GiB/s with 64 to 512 KiB, 2.4 on a flood of CRs
# and 4 on near-boundaries; 1 MiB halves the last two, and smaller reads cost more at the socket.
_FEED = 256 << 10
_FILE = "file"
_END = object()
_PATH_SEPARATOR = re.compile(r"[/\\]")

# RFC 2046, 5.1.1: 1 to 70 of bchars, the last not a space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class FormReader:
    """An upload form: `fields` first, then `read` for the bytes of the file.

    After `fields`, ``filename`` is the last component of the file's name, "" when it has none, and
    ``file_content_type`` the file part's own type.
    """

    def __init__(
        self, source: Source, content_type: str, *, content_length: int | None, limits: LimitSettings
    ) -> None:
        from multipart import MultipartError

        self.filename = ""
        self.file_content_type: str | None = None
        self._source = source
        self._limits = limits
        self._fault = MultipartError
        self._parser = _parser_class()(
            _boundary(content_type), content_length=-1 if content_length is None else content_length
        )
        self._events: Iterator[Any] = iter(())
        # Bytes that may still be parsed outside the file, fields and all else: a preamble has no event that
        # could be counted. The last piece before the file may be full of the file's bytes.
        self._room: int | None = limits.form_fields_bytes + (limits.form_fields << 10) + _FEED
        self._overflow = _too_much(f"they may have {limits.form_fields_bytes} bytes")
        self._piece = b""  # of the file, parsed and not yet read from `_at` on
        self._at = 0
        self._ended = False

    def fields(self) -> dict[str, str]:
        """Read up to the file; the fields before it, names as they were sent.

        A name that comes twice, in whatever case, is refused: a policy might be checked on one value and
        the other be used. Raises MalformedPOSTRequest, MaxPostPreDataLengthExceededError (naming the
        limit), InvalidArgument (a repeated field, or no file) and what the source raises.
        """
        limits = self._limits
        fields: dict[str, str] = {}
        seen: set[str] = set()
        room = limits.form_fields_bytes
        while (segment := self._next_event()) is not _END:
            name: str = segment.name
            if name.lower() == _FILE:
                self._enter_file(segment)
                return fields
            if not name:
                raise _malformed("each part of the form needs a name")
            if len(seen) == limits.form_fields:
                raise _too_much(f"they may be {limits.form_fields}")
            if name.lower() in seen:
                raise invalid_argument(
                    name, "", f"The form field {name} is given more than once: send it once."
                )
            seen.add(name.lower())
            value = self._field_value(room - len(name.encode()))
            room -= len(name.encode()) + len(value)
            try:
                fields[name] = value.decode()
            except UnicodeDecodeError:
                raise _malformed(f"the field {name} is not UTF-8") from None
        raise invalid_argument("file", "0", "POST requires exactly one file upload per request.")

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of the file; b"" once the whole form has been received and is closed.

        Raises MalformedPOSTRequest (not closed, or too much after the file) and what the source raises.
        """
        if self._at == len(self._piece):
            self._piece, self._at = self._next_piece(), 0
        if self._at == 0 and len(self._piece) <= size:
            piece, self._piece = self._piece, b""
            return piece
        piece = self._piece[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def _next_piece(self) -> bytes:
        if self._ended:
            return b""
        event = self._next_event()
        if isinstance(event, bytes):
            return event
        self._room = self._limits.form_fields_bytes
        self._overflow = _malformed(f"more than {self._room} bytes follow the file")
        while self._next_event() is not _END:
            pass  # what follows the file is ignored, and must be well-formed
        self._ended = True
        return b""

    def _field_value(self, room: int) -> bytes:
        """The value of the field whose part has begun, of at most ``room`` bytes."""
        limits = self._limits
        pieces = []
        size = 0
        while (event := self._next_event()) is not None:
            size += len(event)
            if size > limits.form_field_bytes:
                raise _too_much(f"one may have {limits.form_field_bytes} bytes")
            pieces.append(event)
        if size > room:
            raise _too_much(f"they may have {limits.form_fields_bytes} bytes")
        return b"".join(pieces)

    def _enter_file(self, segment: MultipartSegment) -> None:
        self._room = None
        self.filename = _PATH_SEPARATOR.split(segment.filename or "")[-1]
        content_type = segment.header("Content-Type", "").strip()
        if content_type.isascii() and content_type.isprintable():
            self.file_content_type = content_type or None

    def _next_event(self) -> Any:
        """The parser's next event: a part begins, bytes of it, or None at its end.

        `_END` once the source has ended and the form was closed before that.
        """
        try:
            while True:
                for event in self._events:
                    return event
                data = self._next_data()
                if self._room is not None:
                    self._room -= len(data)
                    if self._room < 0:
                        raise self._overflow
                self._events = self._parser.parse(data)
                if not data:
                    next(self._events, None)  # raises unless the form was closed
                    return _END
        except self._fault as error:
            raise _malformed(str(error)) from None

    def _next_data(self) -> bytes:
        """The next `_FEED` bytes, in whatever pieces they arrive.

        The parser judges some oddities by what it has before it: a form must not mean another thing when it
        arrives in other pieces.
        """
        pieces = []
        left = _FEED
        while left and (piece := self._source.read(left)):
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@cache
def _parser_class() -> type[Any]:
    """multipart's parser, which refuses a bare LF in a part's header always, not only when no CRLF has come yet."""
    from multipart import ParserError, PushMultipartParser

    class Parser(PushMultipartParser):  # type: ignore[misc]  # multipart has no types
        def _on_segment_headerline(self, line: bytes) -> None:
            if b"\n" in line:
                raise ParserError("Invalid line break in segment header")
            super()._on_segment_headerline(line)

    return Parser


def _boundary(content_type: str) -> str:
    """The boundary out of a Content-Type of multipart/form-data."""
    from multipart import parse_options_header

    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise _malformed("its Content-Type must be multipart/form-data: set the form's enctype")
    boundary: str = options.get("boundary", "")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise _malformed("its Content-Type must name a boundary of 1 to 70 characters (RFC 2046, 5.1.1)")
    return boundary


def _too_much(limit: str) -> S3Error:
    return S3Error(
        Code.MaxPostPreDataLengthExceededError,
        f"Your POST request fields preceding the upload file were too large or too many: {limit}.",
    )


def _malformed(reason: str) -> S3Error:
    return S3Error(Code.MalformedPOSTRequest, f"{Code.MalformedPOSTRequest.message} ({reason})")
