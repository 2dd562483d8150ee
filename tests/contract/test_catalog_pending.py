"""Uploads that a gate decides about: the row, its reference, and what is remembered of it."""

from __future__ import annotations

import pytest
from contract.storage_kit import ACL, HEAD

from s3lite.model import Pending


def entry(bucket, key="key", **values):
    fields = {"row": 0, "callback_id": "msg_1", "fingerprint": "f", "size": 4, "etag": "e", "expires_ms": 100}
    return Pending(bucket_id=bucket.id, key=key, token_hash="t", **{**fields, **values})


def put(catalog, pending, stored=None, now_ms=0):
    return catalog.write(lambda tx: tx.put_pending(pending, stored=stored, now_ms=now_ms))


def find(catalog, row):
    with catalog.read() as tx:
        return tx.pending(row)


def counted(catalog):
    with catalog.read() as tx:
        return tx.counts()["pending"]


@pytest.mark.parametrize("inline", [True, False])
def test_a_row_holds_its_bytes_until_it_is_removed(catalog, writer, bucket, inline):
    stored = writer.stored(inline=inline)
    made = put(catalog, entry(bucket, "k\0ü", part_numbers=(1, 7)), stored)
    assert find(catalog, made.row) == made
    assert (writer.refs(), counted(catalog)) == ({stored.id: 1}, 1)
    assert catalog.write(lambda tx: tx.remove_pending(made.row))
    assert not catalog.write(lambda tx: tx.remove_pending(made.row))
    assert (writer.garbage(), find(catalog, made.row)) == ({stored.id}, None)


def test_a_version_takes_the_bytes_over(catalog, writer, bucket):
    stored = writer.stored()
    made = put(catalog, entry(bucket), stored)

    def publish(tx):
        return tx.insert_version(
            bucket_id=bucket.id, key="key", version_id="null", size=4, etag="e", modified_ms=1,
            owner_id="alice", head=HEAD, acl=ACL, pending=made,
        )  # fmt: skip

    assert catalog.write(publish).blob == stored.id
    assert (writer.refs(), counted(catalog)) == ({stored.id: 1}, 0)
    with pytest.raises(LookupError):
        catalog.write(publish)


def test_an_undecided_upload_loses_its_bytes_and_keeps_its_id(catalog, writer, bucket):
    stored = writer.stored()
    made = put(catalog, entry(bucket), stored)
    for _ in range(2):  # the second time changes nothing
        catalog.write(lambda tx: tx.leave_undecided(made.row, expires_ms=500))
    assert writer.garbage() == {stored.id}
    left = find(catalog, made.row)
    assert (left.blob, left.token_hash, left.expires_ms, counted(catalog)) == (None, "", 500, 0)
    with catalog.read() as tx:
        assert (tx.undecided_callback("f"), tx.undecided_callback("g")) == ("msg_1", "")
    put(catalog, entry(bucket, callback_id="msg_1"))
    assert find(catalog, made.row) is None


def test_one_complete_of_an_upload_at_a_time_unless_its_time_is_over(catalog, bucket):
    first = put(catalog, entry(bucket, fingerprint="", upload_id="u"), now_ms=50)
    assert put(catalog, entry(bucket, fingerprint="", upload_id="u"), now_ms=100) is None
    assert put(catalog, entry(bucket, fingerprint="", upload_id="v"), now_ms=100) is not None
    second = put(catalog, entry(bucket, fingerprint="", upload_id="u", expires_ms=300), now_ms=101)
    assert find(catalog, first.row) is None
    catalog.write(lambda tx: tx.leave_undecided(second.row, expires_ms=500))
    assert put(catalog, entry(bucket, fingerprint="", upload_id="u"), now_ms=102) is not None


def test_the_oldest_expire_first(catalog, bucket):
    rows = [put(catalog, entry(bucket, expires_ms=at)).row for at in (30, 10, 20)]
    with catalog.read() as tx:
        assert [each.row for each in tx.expired_pending(before_ms=21, limit=5)] == [rows[1], rows[2]]
        assert len(tx.expired_pending(before_ms=99, limit=2)) == 2


def test_they_go_with_their_bucket(catalog, writer, bucket):
    stored = writer.stored()
    put(catalog, entry(bucket), stored)
    catalog.write(lambda tx: tx.delete_bucket(bucket.id))
    assert (writer.garbage(), counted(catalog)) == ({stored.id}, 0)


def test_a_version_is_found_by_its_row(catalog, writer, bucket):
    version = writer.version(bucket, "a", stored=writer.stored())
    with catalog.read() as tx:
        assert tx.version_at(version.row) == version
        assert tx.version_at(version.row + 1) is None
