import pytest

from s3lite.errors import Code, S3Error
from s3lite.wire.body import LengthSource, read_all
from tests.unit.wire.wire_sources import SIZES, Pieces, everything


class Broken:
    """An input that fails at once."""

    def __init__(self, error):
        self.error = error

    def read(self, size):
        raise self.error


@pytest.mark.parametrize("piece", SIZES)
def test_length_source_stops_at_its_length_and_leaves_the_next_request(piece):
    raw = Pieces(b"hello worldGET / HTTP/1.1", piece)
    source = LengthSource(raw, 11)
    assert everything(source, 4) == b"hello world"
    assert source.consumed == 11
    assert raw.read(3)[:1] == b"G"


def test_length_source_reports_a_premature_end():
    source = LengthSource(Pieces(b"hell"), 5)
    assert source.read(10) == b"hell"
    with pytest.raises(S3Error) as caught:
        source.read(10)
    assert caught.value.code is Code.IncompleteBody


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError("reset"), Code.IncompleteBody),
        (RuntimeError("bad chunk"), Code.IncompleteBody),
        (TimeoutError(), Code.RequestTimeout),
        (S3Error(Code.SlowDown), Code.SlowDown),
    ],
)
@pytest.mark.parametrize("length", [5, None])
def test_length_source_turns_what_servers_raise_into_s3_errors(error, code, length):
    with pytest.raises(S3Error) as caught:
        LengthSource(Broken(error), length).read(5)
    assert caught.value.code is code


def test_length_source_without_length_reads_to_the_end_and_no_further_than_allowed():
    assert everything(LengthSource(Pieces(b"x" * 10, 3), None, max_bytes=10)) == b"x" * 10
    with pytest.raises(S3Error) as caught:
        everything(LengthSource(Pieces(b"x" * 11, 3), None, max_bytes=10))
    assert caught.value.code is Code.EntityTooLarge


def test_length_source_reads_nothing_for_an_empty_body():
    assert LengthSource(Broken(OSError()), 0).read(10) == b""


@pytest.mark.parametrize("length", [1000, None])
@pytest.mark.parametrize(("limit", "ended"), [(999, False), (1001, True)])
def test_drain_discards_up_to_a_limit(length, limit, ended):
    source = LengthSource(Pieces(b"x" * 1000, 7), length)
    assert source.drain(limit) is ended
    assert source.consumed == min(limit, 1000)


@pytest.mark.parametrize("piece", SIZES)
def test_read_all_has_a_limit(piece):
    assert read_all(Pieces(b"x" * 100, piece), limit=100) == b"x" * 100
    with pytest.raises(S3Error) as caught:
        read_all(Pieces(b"x" * 101, piece), limit=100)
    assert caught.value.code is Code.MaxMessageLengthExceeded
