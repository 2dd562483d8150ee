"""What `s3lite.blobs.base` promises, on every implementation."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from s3lite.blobs.memory import MemoryBlobs

MIB = 1 << 20


def put(blobs, data, *, size=None):
    with blobs.create(size=size) as writer:
        for start in range(0, len(data), 300_000):
            writer.write(memoryview(data)[start : start + 300_000])
        return writer.commit()


def get(blobs, blob, offset, length):
    return b"".join(blobs.read(blob, offset=offset, length=length))


@pytest.mark.parametrize("length", [0, 1, 5000, 3 * MIB + 1])
@pytest.mark.parametrize("announced", [None, 0, 7])
def test_write_and_read_back(blobs, length, announced):
    data = os.urandom(length)
    blob = put(blobs, data, size=None if announced is None else length + announced)
    assert get(blobs, blob, 0, length) == data
    assert get(blobs, blob, length // 3, length // 3) == data[length // 3 : length // 3 * 2]
    ((scanned, size, _),) = blobs.scan()
    assert (scanned, size) == (blob, length)


def test_pieces_are_at_most_a_mebibyte(blobs):
    blob = put(blobs, bytes(2 * MIB + 5))
    pieces = [len(piece) for piece in blobs.read(blob, offset=1, length=2 * MIB + 4)]
    assert sum(pieces) == 2 * MIB + 4
    assert max(pieces) <= MIB


def test_leaving_without_commit_leaves_nothing(blobs, tmp_path):
    with blobs.create(size=10) as writer:
        writer.write(b"12345")
    with suppress(RuntimeError), blobs.create() as writer:
        writer.write(b"12345")
        raise RuntimeError
    assert list(blobs.scan()) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_unfinished_blob_cannot_be_seen(blobs):
    with blobs.create() as writer:
        writer.write(b"12345")
        assert list(blobs.scan()) == []
        blob = writer.commit()
    assert [entry[0] for entry in blobs.scan()] == [blob]


def test_read_opens_at_once(blobs):
    with pytest.raises(FileNotFoundError):
        blobs.read("0" * 32, offset=0, length=1)
    blob = put(blobs, b"abc")
    reader = blobs.read(blob, offset=0, length=3)
    blobs.delete(blob)
    assert b"".join(reader) == b"abc"


def test_a_reader_can_be_closed_before_its_end(blobs):
    reader = blobs.read(put(blobs, b"abc"), offset=0, length=3)
    reader.close()
    reader.close()
    assert list(reader) == []


def test_a_range_past_the_end_is_an_error(blobs):
    blob = put(blobs, b"abc")
    with pytest.raises(OSError, match="ends at"):
        get(blobs, blob, 1, 3)


def test_open_gives_a_file_or_none(blobs):
    blob = put(blobs, b"abc")
    file = blobs.open(blob)
    if file is not None:
        with file:
            assert file.fileno() >= 0
            assert file.read() == b"abc"
        with pytest.raises(FileNotFoundError):
            blobs.open("0" * 32)


def test_delete_twice(blobs):
    blob = put(blobs, b"abc")
    blobs.delete(blob)
    blobs.delete(blob)
    assert list(blobs.scan()) == []


def test_an_impossible_size_is_refused_first(blobs):
    if isinstance(blobs, MemoryBlobs):
        pytest.skip("memory reserves nothing")
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is checked below
        blobs.create(size=1 << 60)
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)


def test_many_threads(blobs):
    def one(number):
        data = os.urandom(1000 + number)
        blob = put(blobs, data, size=len(data))
        return blob, get(blobs, blob, 0, len(data)) == data

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(one, range(100)))
    assert all(good for _, good in made)
    assert {entry[0] for entry in blobs.scan()} == {blob for blob, _ in made}


def test_ready_leaves_nothing(blobs):
    blobs.ready()
    assert list(blobs.scan()) == []
    assert blobs.sweep_temporary(older_than_s=-60) == (0, 0)
