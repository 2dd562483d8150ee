"""Sources that deliver bytes in pieces of a chosen size."""

from s3lite.wire.body import Source

SIZES = (1, 7, 1000, 1 << 20)


class Pieces:
    """A `Source`, or a raw input, that gives at most ``piece`` bytes at once."""

    def __init__(self, data: bytes, piece: int = 1 << 20) -> None:
        self._data = data
        self._piece = piece
        self._at = 0

    def read(self, size: int) -> bytes:
        data = self._data[self._at : self._at + min(size, self._piece)]
        self._at += len(data)
        return data


def everything(source: Source, size: int = 65536) -> bytes:
    """All bytes of a source, which must stay at its end."""
    pieces = []
    while piece := source.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    assert source.read(size) == b""
    return b"".join(pieces)
