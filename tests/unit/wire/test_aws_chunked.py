import contextlib
import hashlib
import hmac
import io

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given
from hypothesis import strategies as st

from s3lite.errors import Code, S3Error
from s3lite.wire import aws_chunked
from s3lite.wire.aws_chunked import AwsChunkedSource, ChunkSigner
from s3lite.wire.checksums import Digests, parse_checksum_headers, verify
from tests.unit.wire.wire_sources import SIZES, Pieces, everything


def signing_key(secret: str, day: str, region: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for text in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, text.encode(), "sha256")
    return key


# API Reference, "Signature calculations: transferring payload in multiple chunks" and "… trailing headers".
KEY = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1")
PUBLISHED = ChunkSigner(
    KEY,
    "20130524T000000Z",
    "20130524/us-east-1/s3/aws4_request",
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
)
PUBLISHED_BODY = (
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
    + b"a" * 1024
    + b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
)
PUBLISHED_TRAILER = ChunkSigner(
    PUBLISHED.signing_key,
    PUBLISHED.timestamp,
    PUBLISHED.scope,
    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
)
PUBLISHED_TRAILER_BODY = (
    b"10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"
    + b"a" * 65536
    + b"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n"
    + b"a" * 1024
    + b"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"
    + b"x-amz-checksum-crc32c:sOO8/Q==\n\r\n"
    + b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)
PAYLOAD = b"a" * (65536 + 1024)


def framed(payload: bytes, chunk: int = 1000) -> bytes:
    """An unsigned body up to the line of the last chunk."""
    pieces = [payload[at : at + chunk] for at in range(0, len(payload), chunk)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n"


def signed(payload: bytes, chunk: int, trailer: bytes | None = None) -> bytes:
    """A body signed after PUBLISHED's seed, written out independently of the decoder."""
    previous, body = PUBLISHED.seed, b""
    prefix = f"{PUBLISHED.timestamp}\n{PUBLISHED.scope}\n"
    empty = hashlib.sha256(b"").hexdigest()
    for piece in [payload[at : at + chunk] for at in range(0, len(payload), chunk)] + [b""]:
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{prefix}{previous}\n{empty}\n{hashlib.sha256(piece).hexdigest()}"
        previous = hmac.new(KEY, text.encode(), "sha256").hexdigest()
        body += b"%x;chunk-signature=%s\r\n%s" % (len(piece), previous.encode(), piece)
        body += b"\r\n" if piece else b""
    if trailer is None:
        return body + b"\r\n"
    digest = hashlib.sha256(trailer + b"\n").hexdigest()
    text = f"AWS4-HMAC-SHA256-TRAILER\n{prefix}{previous}\n{digest}"
    signature = hmac.new(KEY, text.encode(), "sha256").hexdigest().encode()
    return body + trailer + b"\r\nx-amz-trailer-signature:" + signature + b"\r\n\r\n"


def decoder(body, *, piece=1 << 20, length=None, signer=None, trailers=(), signed_trailer=False):
    return AwsChunkedSource(
        Pieces(body, piece),
        decoded_length=length,
        signer=signer,
        trailer_names=frozenset(trailers),
        signed_trailer=signed_trailer,
    )


def refused(code: Code, *args, **kwargs) -> S3Error:
    with pytest.raises(S3Error) as caught:
        everything(decoder(*args, **kwargs))
    assert caught.value.code is code, caught.value
    return caught.value


@pytest.mark.parametrize("piece", SIZES)
@pytest.mark.parametrize("size", [100, 65536, 1 << 20])
def test_published_example_is_verified(piece, size):
    source = decoder(PUBLISHED_BODY, piece=piece, length=66560, signer=PUBLISHED)
    assert everything(source, size) == PAYLOAD


@pytest.mark.parametrize("piece", SIZES)
def test_published_example_with_signed_trailer_is_verified(piece):
    source = decoder(
        PUBLISHED_TRAILER_BODY,
        piece=piece,
        length=66560,
        signer=PUBLISHED_TRAILER,
        trailers=["x-amz-checksum-crc32c"],
        signed_trailer=True,
    )
    assert everything(source) == PAYLOAD
    assert source.trailers == {"x-amz-checksum-crc32c": "sOO8/Q=="}


@pytest.mark.parametrize(
    "position",
    [
        PUBLISHED_BODY.index(b"ad80"),
        PUBLISHED_BODY.index(b"aaaa"),
        PUBLISHED_BODY.index(b"0055627c"),
        PUBLISHED_BODY.rindex(b"aaaa"),
        PUBLISHED_BODY.index(b"b6c6"),
    ],
)
def test_a_changed_byte_anywhere_breaks_the_chain(position):
    body = bytearray(PUBLISHED_BODY)
    body[position] = ord("f") if body[position] == ord("a") else ord("a")
    refused(Code.SignatureDoesNotMatch, bytes(body), length=66560, signer=PUBLISHED)


def test_no_byte_of_a_chunk_is_released_before_its_signature_is_verified():
    body = bytearray(signed(b"x" * 5000, 1000))
    body[body.index(b"x" * 1000, 3500)] = ord("y")
    source = decoder(bytes(body), piece=300, signer=PUBLISHED)
    released = b""
    with contextlib.suppress(S3Error):
        while piece := source.read(100):
            released += piece
    assert set(released) == {ord("x")}
    assert len(released) == 4000  # the fifth chunk is the changed one


def test_a_dropped_or_swapped_chunk_is_noticed():
    body = signed(b"x" * 1000 + b"y" * 1000, 1000)
    second = body.index(b"3e8;", 10)
    last = body.index(b"\r\n0;") + 2
    refused(Code.SignatureDoesNotMatch, body[:second] + body[last:], signer=PUBLISHED)
    swapped = body[second:last] + body[:second] + body[last:]
    refused(Code.SignatureDoesNotMatch, swapped, signer=PUBLISHED)


def test_signed_bodies_need_their_signatures():
    refused(Code.SignatureDoesNotMatch, framed(b"hello") + b"\r\n", signer=PUBLISHED)
    refused(Code.InvalidRequest, PUBLISHED_BODY)


def test_a_signed_trailer_cannot_be_stripped_changed_or_added():
    body = signed(b"hello", 10, b"x-amz-checksum-crc32:AAAAAA==")
    options = {"signer": PUBLISHED, "trailers": ["x-amz-checksum-crc32"], "signed_trailer": True}
    assert everything(decoder(body, **options)) == b"hello"
    refused(Code.SignatureDoesNotMatch, body.replace(b"AAAAAA", b"BAAAAA"), **options)
    refused(Code.SignatureDoesNotMatch, body[: body.index(b"x-amz-trailer")] + b"\r\n", **options)
    refused(Code.SignatureDoesNotMatch, signed(b"hello", 10), **options)
    unsigned_scheme = options | {"signed_trailer": False}
    plain = signed(b"hello", 10)[:-2] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    refused(Code.InvalidRequest, plain, **unsigned_scheme)


def test_a_signed_chunk_has_a_greatest_size():
    error = refused(Code.InvalidRequest, b"1000001;chunk-signature=" + b"0" * 64 + b"\r\n", signer=PUBLISHED)
    assert str(aws_chunked.MAX_SIGNED_CHUNK) in error.message


# ---------------------------------------------------------------- unsigned

TRAILER = b"x-amz-checksum-crc32:AAAAAA=="


@pytest.mark.parametrize("piece", SIZES)
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(TRAILER + b"\r\n\r\n", id="botocore"),
        pytest.param(TRAILER + b"\n\r\n\r\n", id="minio-go"),
        pytest.param(TRAILER + b"\r\n", id="no empty line"),
        pytest.param(b"X-Amz-Checksum-Crc32: AAAAAA==\r\n\r\n", id="capitals and space"),
    ],
)
def test_unsigned_trailer(piece, ending):
    source = decoder(framed(PAYLOAD) + ending, piece=piece, length=66560, trailers=["x-amz-checksum-crc32"])
    assert source.trailers == {}
    assert everything(source) == PAYLOAD
    assert source.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


@pytest.mark.parametrize("ending", [b"\r\n", b""])
@pytest.mark.parametrize("payload", [b"", b"x", PAYLOAD])
def test_unsigned_without_trailer(ending, payload):
    assert everything(decoder(framed(payload) + ending, length=len(payload))) == payload


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5;ext=1\r\nhello\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"6\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"11111111111111111\r\n",
        b"1" * 300,
        b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"5\r\nhello\r\n0\r\nnot-announced:1\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + TRAILER + b"\r\n" + TRAILER + b"\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n" + TRAILER + b"\r\n",
        b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        b"5\r\nhello\r\n0\r\nx-amz-trailer-signature:" + b"0" * 64 + b"\r\n\r\n",
        b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:" + b"A" * 9000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("piece", SIZES)
def test_malformed_framing_is_refused(body, piece):
    with pytest.raises(S3Error) as caught:
        everything(decoder(body, piece=piece, trailers=["x-amz-checksum-crc32"]))
    assert caught.value.code in (Code.InvalidRequest, Code.IncompleteBody)


def test_every_truncation_is_incomplete_until_the_last_chunk():
    body = framed(b"hello world", 4) + b"\r\n"
    for end in range(len(body) - 3):
        refused(Code.IncompleteBody, body[:end], length=11)


def test_the_decoded_length_is_kept():
    refused(Code.IncompleteBody, framed(b"hello") + b"\r\n", length=6)
    refused(Code.InvalidRequest, framed(b"hello") + b"\r\n", length=4)
    refused(Code.InvalidRequest, b"fffffffffffffff\r\n", length=4)


@pytest.mark.parametrize("signer", [None, PUBLISHED])
@given(
    payload=st.binary(max_size=3000),
    chunk=st.integers(1, 500),
    piece=st.integers(1, 700),
    size=st.integers(1, 900),
)
def test_any_payload_chunking_and_reading_gives_the_payload(signer, payload, chunk, piece, size):
    body = signed(payload, chunk) if signer else framed(payload, chunk) + b"\r\n"
    assert everything(decoder(body, piece=piece, length=len(payload), signer=signer), size) == payload


@pytest.mark.parametrize("signer", [None, PUBLISHED])
@given(
    body=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    b"\r\n",
                    b"0",
                    b"5",
                    b"hello",
                    b";chunk-signature=",
                    b"0" * 64,
                    TRAILER,
                    b"x-amz-trailer-signature:",
                ]
            ),
        ),
        max_size=12,
    ).map(b"".join)
)
def test_any_bytes_give_a_payload_or_an_s3_error(signer, body):
    with contextlib.suppress(S3Error):
        everything(
            decoder(body, signer=signer, trailers=["x-amz-checksum-crc32"], signed_trailer=signer is not None)
        )


def test_tiny_chunks_do_not_become_tiny_objects(monkeypatch):
    appended = []
    original = aws_chunked._append
    monkeypatch.setattr(
        aws_chunked, "_append", lambda pieces, piece: (original(pieces, piece), appended.append(len(pieces)))
    )
    assert everything(decoder(framed(b"x" * 5000, 1) + b"\r\n"), 5000) == b"x" * 5000
    assert max(appended) == 1


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 << 20])
def test_what_botocore_sends_is_decoded(size):
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sent = AwsChunkedWrapper(
        io.BytesIO(payload), checksum_cls=Crc32Checksum, checksum_name="x-amz-checksum-crc32"
    )
    source = decoder(sent.read(), piece=10_000, length=size, trailers=["x-amz-checksum-crc32"])
    assert everything(source) == payload
    digests = Digests({"CRC32"})
    digests.update(payload)
    request = parse_checksum_headers({"x-amz-trailer": "x-amz-checksum-crc32"})
    verify(request, digests, source.trailers)


def test_a_body_has_few_and_short_trailers():
    def sent(count, size=1):
        return b"0\r\n" + b"".join(b"x-t-%d:%s\r\n" % (n, b"v" * size) for n in range(count)) + b"\r\n"

    names = [f"x-t-{number}" for number in range(20)]
    source = decoder(sent(16), trailers=names, length=0)
    assert everything(source) == b""
    assert len(source.trailers) == 16
    refused(Code.InvalidRequest, sent(17), trailers=names, length=0)
    assert everything(decoder(sent(1, 8000), trailers=names, length=0)) == b""
    refused(Code.InvalidRequest, sent(1, 8200), trailers=names, length=0)
