"""Files of earlier schemas come up to date, with what is in them."""

import sqlite3

import pytest
from contract.storage_kit import ACL, HEAD, StillClock, Writer

from s3lite.catalog import rows
from s3lite.catalog.schema import MIGRATIONS
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sqlite import SqliteCatalog
from s3lite.model import ObjectLock

_VERSION = """
INSERT INTO versions (
    bucket_id, key, version_id, is_latest, is_delete_marker, size, etag, modified_ms, owner_id, blob,
    part_count, checksum_algorithm, checksum_value, checksum_type, storage_class, head, tags, acl)
VALUES (1, ?, 'null', TRUE, FALSE, 0, 'e', 7, 'alice', NULL, 0, '', '', '', 'STANDARD', ?, ?, ?)"""
_UPLOAD = """
INSERT INTO uploads (
    upload_id, bucket_id, key, owner_id, initiator_id, initiated_ms, checksum_algorithm, checksum_type,
    callback, callback_var, callback_access_key, storage_class, head, tags, acl)
VALUES ('u', 1, ?, 'alice', 'bob', 1, '', '', '', '', '', 'STANDARD', ?, ?, ?)"""


def file_of(path, number):
    """A file as the migrations up to ``number`` left it, with a version and an upload."""
    connection = sqlite3.connect(path)
    for statements in MIGRATIONS[:number]:
        for statement in statements:
            connection.execute(statement)
    acl = rows.encode_acl(ACL)
    described = (b"key", rows.encode_head(HEAD), rows.encode_tags(HEAD.tags), acl)
    connection.execute(
        "INSERT INTO buckets (name, owner_id, created_ms, region, acl, versioning, object_lock) "
        "VALUES ('bucket', 'alice', 5, 'r', ?, '', FALSE)",
        (acl,),
    )
    connection.execute("INSERT INTO bucket_configs VALUES (1, 'cors', x''), (1, 'tagging', x'')")
    connection.execute(_VERSION, described)
    connection.execute(_UPLOAD, described)
    if number > 2:
        connection.execute("UPDATE buckets SET configs = 'cors tagging'")  # as whoever wrote them did
    connection.execute(f"PRAGMA user_version = {number}")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("number", range(1, len(MIGRATIONS) + 1))
def test_a_file_of_each_schema_comes_up_to_date(tmp_path, number):
    path = tmp_path / "index.db"
    file_of(path, number)
    catalog = SqliteCatalog(path, durability="relaxed", clock=StillClock(), secrets=SecretBox(b"k" * 32))
    catalog.migrate()
    catalog.migrate()  # nothing is left to do
    with catalog.read() as tx:
        bucket = tx.bucket("bucket")
        version, upload = tx.current_version(bucket.id, "key"), tx.upload(bucket.id, "key", "u")
    assert bucket.configs == {"cors", "tagging"}
    assert (version.lock, upload.lock) == (ObjectLock(), ObjectLock())
    assert (version.head, version.acl, upload.head) == (HEAD, ACL, HEAD)
    lock = ObjectLock("GOVERNANCE", 5000, "ON")
    assert Writer(catalog).version(bucket, "new", lock=lock).lock == lock
    catalog.close()
