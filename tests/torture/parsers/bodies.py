"""Bodies that are streams: browser forms and aws-chunked. Whole and in pieces they mean the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from unit.wire.wire_sources import Pieces, everything

from s3lite.callback import image
from s3lite.errors import S3Error
from s3lite.settings import LimitSettings
from s3lite.wire import sts
from s3lite.wire.aws_chunked import AwsChunkedSource, ChunkSigner
from s3lite.wire.form import FormReader

SIGNER = ChunkSigner(b"k" * 32, "20261118T114640Z", "20261118/us-east-1/s3/aws4_request", "5" * 64)
_LIMITS = LimitSettings(form_fields=8, form_field_bytes=1000, form_fields_bytes=3000)
_SIGNED = Path(__file__).resolve().parent.parent / "corpus" / "aws-chunked"
_STEPS = (1, 7)


def form(data: bytes) -> None:
    """A line with the content type, then the form."""
    content_type, _, body = data.partition(b"\n")

    def read(step: int) -> object:
        reader = FormReader(
            Pieces(body, step), content_type.decode("latin-1"), content_length=len(body), limits=_LIMITS
        )
        fields = reader.fields()
        assert len(fields) <= _LIMITS.form_fields
        assert sum(len(value.encode()) for value in fields.values()) <= _LIMITS.form_fields_bytes
        assert "/" not in reader.filename
        file = everything(reader)
        assert len(file) <= len(body)
        return fields, reader.filename, reader.file_content_type, file

    _alike(read)


def aws_chunked(data: bytes) -> None:
    """A line of words (signed, trailer, the decoded length), then the body.

    What is taken from signed chunks is what their owner has signed.
    """
    words, _, body = data.partition(b"\n")
    payload = _alike(lambda step: _decoded(words, body, step))
    if b"signed" in words.split():
        assert payload in signed_payloads()


def _decoded(words: bytes, body: bytes, step: int) -> tuple[bytes, dict[str, str]]:
    said = words.decode("latin-1").split()
    length = next((int(word) for word in said if word.isascii() and word.isdigit() and len(word) < 10), None)
    is_signed = "signed" in said
    source = AwsChunkedSource(
        Pieces(body, step),
        decoded_length=length,
        signer=SIGNER if is_signed else None,
        trailer_names=frozenset(("x-amz-checksum-crc32",)) if "trailer" in said else frozenset(),
        signed_trailer=is_signed and "trailer" in said,
    )
    payload = everything(source)
    assert len(payload) <= len(body)
    assert length is None or len(payload) == length
    return payload, source.trailers


@cache
def signed_payloads() -> list[object]:
    """Of the bodies of the corpus that somebody with the key has signed: ``valid-*``."""
    bodies = [path.read_bytes().partition(b"\n") for path in _SIGNED.glob("valid-*")]
    return [_decoded(words, body, len(body)) for words, _, body in bodies]


def _alike(read: Callable[[int], object]) -> object:
    """The outcome of reading in one go, which reading in small pieces must have as well. Raises S3Error."""
    outcomes: list[object] = []
    for step in (1 << 20, *_STEPS):
        try:
            outcomes.append(read(step))
        except S3Error as problem:
            outcomes.append(problem)
    first, *others = outcomes
    for other in others:
        assert type(first) is type(other), (first, other)
        assert isinstance(first, S3Error) or first == other, (first, other)
    if isinstance(first, S3Error):
        raise first
    return first


def image_header(data: bytes) -> None:
    """The first bytes of an upload, for ``${imageInfo.width}``."""
    found = image.probe(data)
    assert found is None or min(found.width, found.height) > 0


def sts_parameters(data: bytes) -> None:
    """The form of a call of STS."""
    for name, value in sts.parse_parameters(data).items():
        assert isinstance(name + value, str)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "form": form,
    "aws-chunked": aws_chunked,
    "image-header": image_header,
    "sts-parameters": sts_parameters,
}
