"""What `s3lite.catalog.base` promises, on every implementation."""

import dataclasses

import pytest
from contract.storage_kit import ACL, HEAD, Writer, open_sqlite

from s3lite.catalog import transfer
from s3lite.catalog.base import CatalogBusyError
from s3lite.catalog.sqlite import MEMORY
from s3lite.model import (
    AccessKey,
    Account,
    Acl,
    Annotation,
    Checksum,
    Completion,
    Encryption,
    Grant,
    ObjectLock,
    Part,
    Segment,
    Stored,
)

ALICE = Account("tenant$alice", "Alice", "alice@example.org", True, 3)


def ask(catalog, question):
    with catalog.read() as tx:
        return question(tx)


def test_account_round_trip(catalog):
    bob = Account("bob", "Bob", "")
    catalog.write(lambda tx: [tx.put_account(ALICE), tx.put_account(bob)])
    assert ask(catalog, lambda tx: tx.account(ALICE.id)) == ALICE
    assert ask(catalog, lambda tx: tx.account_by_email("alice@example.org")) == ALICE
    assert ask(catalog, lambda tx: tx.account_by_email("")) is None
    assert ask(catalog, lambda tx: tx.accounts()) == [bob, ALICE]
    renamed = dataclasses.replace(ALICE, display_name="A.")
    catalog.write(lambda tx: tx.put_account(renamed))
    assert ask(catalog, lambda tx: tx.account(ALICE.id)) == renamed


def test_access_key_round_trip_and_removal(catalog):
    key = AccessKey("AK", "sëcret", ALICE, True, "off", "whsec_x", 4)
    catalog.write(lambda tx: [tx.put_account(ALICE), tx.put_access_key(key)])
    assert ask(catalog, lambda tx: tx.access_key("AK")) == key
    assert ask(catalog, lambda tx: tx.access_keys()) == [key]
    assert ask(catalog, lambda tx: tx.access_keys("nobody")) == []
    disabled = dataclasses.replace(key, enabled=False)
    catalog.write(lambda tx: tx.put_access_key(disabled))
    assert ask(catalog, lambda tx: tx.access_keys(ALICE.id)) == [disabled]
    assert catalog.write(lambda tx: tx.remove_access_key("AK"))
    assert not catalog.write(lambda tx: tx.remove_access_key("AK"))


def test_remove_account_takes_its_keys(catalog):
    key = AccessKey("AK", "s", ALICE)
    catalog.write(lambda tx: [tx.put_account(ALICE), tx.put_access_key(key)])
    assert catalog.write(lambda tx: tx.remove_account(ALICE.id))
    assert not catalog.write(lambda tx: tx.remove_account(ALICE.id))
    assert ask(catalog, lambda tx: tx.access_key("AK")) is None


def test_put_access_key_needs_its_account(catalog):
    with pytest.raises(ValueError, match="index"):
        catalog.write(lambda tx: tx.put_access_key(AccessKey("AK", "s", ALICE)))


def test_bucket_round_trip(catalog, writer):
    made = writer.bucket()
    assert writer.bucket() is None
    catalog.write(lambda tx: tx.set_versioning(made.id, "Enabled"))
    acl = Acl("alice", (Grant("http://group", "READ", True),))
    catalog.write(lambda tx: tx.set_bucket_acl(made.id, acl))
    assert ask(catalog, lambda tx: tx.bucket("bucket")) == dataclasses.replace(
        made, versioning="Enabled", acl=acl
    )
    assert made.object_lock is True
    assert ask(catalog, lambda tx: tx.bucket("other")) is None


def test_buckets_pages_by_owner_prefix_and_name(catalog, writer):
    for name, owner in (("b1", "x"), ("a", "x"), ("b2", "y"), ("b3", "x"), ("c", "x")):
        writer.bucket(name, owner)

    def names(**values):
        return [bucket.name for bucket in ask(catalog, lambda tx: tx.buckets(**values))]

    assert names(owner_id=None) == ["a", "b1", "b2", "b3", "c"]
    assert names(owner_id="x") == ["a", "b1", "b3", "c"]
    assert names(owner_id="x", prefix="b") == ["b1", "b3"]
    assert names(owner_id=None, prefix="b", after="b1", limit=1) == ["b2"]
    assert names(owner_id="x", region="r") == names(owner_id="x", region=None)
    assert names(owner_id="x", region="elsewhere") == []


def test_bucket_ids_are_never_reused(catalog, writer):
    first = writer.bucket()
    catalog.write(lambda tx: tx.delete_bucket(first.id))
    assert writer.bucket().id > first.id


def test_bucket_config(catalog, bucket):
    catalog.write(lambda tx: tx.put_bucket_config(bucket.id, "cors", b"<one/>"))
    catalog.write(lambda tx: tx.put_bucket_config(bucket.id, "cors", b"<two/>"))
    catalog.write(lambda tx: tx.put_bucket_config(bucket.id, "tagging", b"x"))
    assert ask(catalog, lambda tx: tx.bucket_config(bucket.id, "cors")) == b"<two/>"
    assert ask(catalog, lambda tx: tx.bucket("bucket")).configs == {"cors", "tagging"}
    assert catalog.write(lambda tx: tx.delete_bucket_config(bucket.id, "cors"))
    assert not catalog.write(lambda tx: tx.delete_bucket_config(bucket.id, "cors"))
    assert ask(catalog, lambda tx: tx.bucket_config(bucket.id, "cors")) is None
    assert ask(catalog, lambda tx: tx.bucket("bucket")).configs == {"tagging"}


def test_delete_bucket_takes_uploads_configs_and_completions(catalog, writer, bucket):
    part = writer.part(writer.upload(bucket), 1)
    completion = Completion("u", bucket.id, "k", "f", "e", "v", 1, 1)
    catalog.write(lambda tx: [tx.put_bucket_config(bucket.id, "cors", b"x"), tx.put_completion(completion)])
    catalog.write(lambda tx: tx.delete_bucket(bucket.id))
    assert ask(catalog, lambda tx: tx.bucket("bucket")) is None
    assert ask(catalog, lambda tx: tx.completion(bucket.id, "k", "u")) is None
    assert writer.garbage() == {part.blob}


def test_delete_bucket_refuses_one_with_versions(catalog, writer, bucket):
    writer.version(bucket, "k")
    assert not ask(catalog, lambda tx: tx.bucket_is_empty(bucket.id))
    with pytest.raises(ValueError, match="index"):
        catalog.write(lambda tx: tx.delete_bucket(bucket.id))


def test_bucket_is_empty_counts_markers_and_not_uploads(catalog, writer, bucket):
    writer.upload(bucket)
    assert ask(catalog, lambda tx: tx.bucket_is_empty(bucket.id))
    writer.version(bucket, "k", is_delete_marker=True)
    assert not ask(catalog, lambda tx: tx.bucket_is_empty(bucket.id))


def test_insert_version_round_trip(catalog, writer, bucket):
    checksum = Checksum("CRC32", "AAAA==", "COMPOSITE")
    made = writer.version(bucket, "ключ\0\n/x", "v1", stored=writer.stored(), checksum=checksum)
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "ключ\0\n/x")) == made
    assert ask(catalog, lambda tx: tx.version(bucket.id, "ключ\0\n/x", "v1")) == made
    assert (made.head, made.acl, made.checksum, made.is_latest) == (HEAD, ACL, checksum, True)
    assert ask(catalog, lambda tx: tx.version(bucket.id, "ключ\0\n/x", "v2")) is None
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "ключ")) is None


def test_bucket_and_current_version_in_one_question(catalog, writer, bucket):
    assert ask(catalog, lambda tx: tx.bucket_and_current("missing", "k")) is None
    assert ask(catalog, lambda tx: tx.bucket_and_current(bucket.name, "k")) == (bucket, None)
    for version_id, is_marker in (("v1", False), ("v2", False), ("v3", True)):
        made = writer.version(bucket, "k", version_id, is_delete_marker=is_marker)
        assert ask(catalog, lambda tx: tx.bucket_and_current(bucket.name, "k")) == (bucket, made)


def test_insert_version_refuses_a_repeated_version_id(catalog, writer, bucket):
    writer.version(bucket, "k", stored=writer.stored())
    with pytest.raises(ValueError, match="index"):
        writer.version(bucket, "k", stored=writer.stored())
    assert len(writer.refs()) == 1


def test_latest_moves_with_insert_and_remove(catalog, writer, bucket):
    first, second, third = (writer.version(bucket, "k", name) for name in ("v1", "v2", "v3"))
    assert first.row < second.row < third.row

    def latest():
        listed = ask(catalog, lambda tx: tx.list_versions(bucket.id, lower=b"", upper=None, limit=9))
        return [version.version_id for version in listed if version.is_latest]

    assert latest() == ["v3"]
    catalog.write(lambda tx: tx.remove_version(second))
    assert latest() == ["v3"]
    catalog.write(lambda tx: tx.remove_version(third))
    assert latest() == ["v1"]
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "k")) == first
    catalog.write(lambda tx: tx.remove_version(first))
    assert latest() == []


def test_remove_version_twice_releases_once(catalog, writer, bucket):
    made = writer.version(bucket, "k", stored=writer.stored())
    writer.version(bucket, "copy", copy_of=made)
    catalog.write(lambda tx: tx.remove_version(made))
    catalog.write(lambda tx: tx.remove_version(made))
    assert writer.refs() == {made.blob: 1}
    assert writer.garbage() == set()


def test_update_version(catalog, writer, bucket):
    made = writer.version(bucket, "k")
    acl = Acl("bob")
    catalog.write(lambda tx: tx.update_version(made.row, acl=acl))
    catalog.write(lambda tx: tx.update_version(made.row, tags=(("a", "1"), ("b", ""))))
    found = ask(catalog, lambda tx: tx.current_version(bucket.id, "k"))
    assert (found.acl, found.head.tags) == (acl, (("a", "1"), ("b", "")))
    catalog.write(lambda tx: tx.update_version(made.row, tags=()))
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "k")).head.tags == ()


LOCK = ObjectLock("COMPLIANCE", 1 << 45, "OFF")


def test_a_lock_belongs_to_its_version(catalog, writer, bucket):
    plain = writer.version(bucket, "k", "v1")
    locked = writer.version(bucket, "k", "v2", lock=LOCK)
    assert (plain.lock, locked.lock) == (ObjectLock(), LOCK)
    assert ask(catalog, lambda tx: tx.version(bucket.id, "k", "v2")) == locked
    held = ObjectLock(legal_hold="ON")
    catalog.write(lambda tx: tx.update_version(plain.row, lock=held))
    assert ask(catalog, lambda tx: tx.version(bucket.id, "k", "v1")).lock == held
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "k")).lock == LOCK
    catalog.write(lambda tx: tx.update_version(plain.row, lock=ObjectLock()))
    assert ask(catalog, lambda tx: tx.version(bucket.id, "k", "v1")).lock == ObjectLock()


def test_a_copy_has_a_lock_of_its_own(writer, bucket):
    source = writer.version(bucket, "k", stored=writer.stored(), lock=LOCK)
    assert writer.version(bucket, "copy", copy_of=source).lock == ObjectLock()


def test_complete_upload_takes_the_lock_it_is_given(catalog, writer, bucket):
    upload = writer.upload(bucket, lock=LOCK)
    assert ask(catalog, lambda tx: tx.upload(bucket.id, "big", upload.upload_id)).lock == LOCK
    writer.part(upload, 1)
    given = ObjectLock("GOVERNANCE", 5000)
    made = catalog.write(
        lambda tx: tx.complete_upload(
            upload, part_numbers=[1], version_id="v", etag="m-1", modified_ms=9, checksum=None, lock=given
        )
    )
    assert made.lock == given
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "big")) == made


SEALED = Encryption("aws:kms", "c2VhbGVk", "k#1", "arn:k", "e30=", True, "", False)


def test_encryption_belongs_to_its_version(catalog, writer, bucket):
    plain = writer.version(bucket, "k", "v1")
    made = writer.version(bucket, "k", "v2", encryption=SEALED)
    assert (plain.encryption, made.encryption) == (None, SEALED)
    assert ask(catalog, lambda tx: tx.version(bucket.id, "k", "v2")) == made
    changed = Encryption("SSE-C", "b3RoZXI=", verifier="dg==")
    catalog.write(lambda tx: tx.update_version(made.row, encryption=changed))
    assert ask(catalog, lambda tx: tx.version(bucket.id, "k", "v2")).encryption == changed
    assert ask(catalog, lambda tx: tx.version(bucket.id, "k", "v1")).encryption is None


def test_a_copy_is_encrypted_as_its_source_unless_told_otherwise(writer, bucket):
    stored = Stored(writer.ids.blob(), 5, None, 21, "c3Vt")
    source = writer.version(bucket, "k", stored=stored, encryption=SEALED)
    assert writer.version(bucket, "copy", copy_of=source).encryption == SEALED
    other = Encryption("AES256", "b3RoZXI=", "s#1")
    assert writer.version(bucket, "other", copy_of=source, encryption=other).encryption == other


def test_sealed_bytes_are_counted_as_they_are_kept(catalog, writer, bucket):
    stored = Stored(writer.ids.blob(), 70_000, None, 70_032, "c3Vt")
    writer.version(bucket, "k", stored=stored, encryption=SEALED)
    assert ask(catalog, lambda tx: tx.stored_blobs(limit=9)) == [(stored.id, 70_032, 1, False)]
    assert ask(catalog, lambda tx: tx.sealed_checksum(stored.id)) == "c3Vt"
    assert ask(catalog, lambda tx: tx.sealed_checksum("0" * 32)) == ""
    wrong = Stored(writer.ids.blob(), 70_000, None, 70_016, "c3Vt")
    made = writer.version(bucket, "wrong", stored=wrong, encryption=SEALED)
    (fault,) = ask(catalog, lambda tx: tx.reference_faults(limit=9))
    assert "says 70032 bytes" in fault
    catalog.write(lambda tx: tx.remove_version(made))


def test_uploads_hand_their_encryption_to_the_object(catalog, writer, bucket):
    for number, given in enumerate((None, Encryption("AES256", "Ym91bmQ=", "s#1"))):
        upload = writer.upload(bucket, f"k{number}", encryption=SEALED)
        assert (
            ask(catalog, lambda tx, key=upload.key, name=upload.upload_id: tx.upload(bucket.id, key, name))
            == upload
        )
        stored = Stored(writer.ids.blob(), 5, None, 21, "c3Vt")
        part = Part(1, 5, "e", 1, stored.id, "sum", "a2V5")
        catalog.write(
            lambda tx, row=upload.row, part=part, stored=stored: tx.put_part(row, part, stored=stored)
        )
        assert ask(catalog, lambda tx, row=upload.row: tx.part(row, 1)) == part
        made = catalog.write(
            lambda tx, upload=upload, given=given: tx.complete_upload(
                upload,
                part_numbers=[1],
                version_id="v",
                etag="m-1",
                modified_ms=9,
                checksum=None,
                encryption=given,
            )
        )
        assert made.encryption == (given or SEALED)
        (segment,) = ask(catalog, lambda tx, row=made.row: tx.segments(row))
        assert segment.sealed_key == "a2V5"


def test_what_is_under_a_generation_is_found_in_pages(catalog, writer, bucket):
    under = [writer.version(bucket, f"k{n}", encryption=SEALED) for n in range(3)]
    writer.version(bucket, "plain")
    writer.version(bucket, "other", encryption=Encryption("AES256", "eA==", "s#1"))
    upload = writer.upload(bucket, encryption=SEALED)
    assert ask(catalog, lambda tx: tx.versions_under("k#1", limit=2)) == [under[0], under[1]]
    assert ask(catalog, lambda tx: tx.versions_under("k#1", after=under[1].row, limit=2)) == [under[2]]
    assert ask(catalog, lambda tx: tx.uploads_under("k#1", limit=2)) == [upload]
    assert ask(catalog, lambda tx: tx.versions_under("", limit=2)) == []
    assert ask(catalog, lambda tx: tx.count_by_master()) == {"k#1": 4, "s#1": 1}
    moved = Encryption("aws:kms", "eA==", "k#2")
    catalog.write(lambda tx: tx.update_version(under[0].row, encryption=moved))
    catalog.write(lambda tx: tx.update_upload(upload.row, encryption=moved))
    assert ask(catalog, lambda tx: tx.count_by_master()) == {"k#1": 2, "k#2": 2, "s#1": 1}


def test_enable_object_lock(catalog, writer):
    made = catalog.write(
        lambda tx: tx.create_bucket(name="b", owner_id="alice", region="r", acl=ACL, created_ms=5)
    )
    assert made.object_lock is False
    catalog.write(lambda tx: tx.enable_object_lock(made.id))
    assert ask(catalog, lambda tx: tx.bucket("b")).object_lock is True


def test_inline_data_lives_until_its_garbage_is_forgotten(catalog, writer, bucket, clock):
    made = writer.version(bucket, "k", stored=writer.stored(b"\0bytes", inline=True))
    plain = writer.version(bucket, "file", stored=writer.stored())
    assert ask(catalog, lambda tx: tx.inline_data(made.blob)) == b"\0bytes"
    assert ask(catalog, lambda tx: tx.inline_data(plain.blob)) is None
    catalog.write(lambda tx: tx.remove_version(made))
    assert ask(catalog, lambda tx: tx.inline_data(made.blob)) == b"\0bytes"
    now_ms = clock.time_ms()
    assert ask(catalog, lambda tx: tx.due_garbage(before_ms=now_ms, limit=9)) == []
    assert ask(catalog, lambda tx: tx.due_garbage(before_ms=now_ms + 1, limit=9)) == [(made.blob, 6, True)]
    catalog.write(lambda tx: tx.forget_garbage([made.blob, plain.blob]))
    assert ask(catalog, lambda tx: tx.inline_data(made.blob)) is None
    assert ask(catalog, lambda tx: tx.known_blobs([made.blob, plain.blob])) == {plain.blob}
    assert ask(catalog, lambda tx: tx.counts())["inline"] == 0


def test_empty_object_holds_no_blob(catalog, writer, bucket):
    made = writer.version(bucket, "k", stored=Stored(None, 0))
    assert made.blob is None
    catalog.write(lambda tx: tx.remove_version(made))
    assert writer.garbage() == set()


def test_copy_holds_the_same_blob(catalog, writer, bucket):
    source = writer.version(bucket, "k", stored=writer.stored())
    copy = writer.version(bucket, "copy", copy_of=source)
    assert writer.refs() == {source.blob: 2}
    catalog.write(lambda tx: tx.remove_version(source))
    assert ask(catalog, lambda tx: tx.is_referenced(source.blob))
    catalog.write(lambda tx: tx.remove_version(copy))
    assert not ask(catalog, lambda tx: tx.is_referenced(source.blob))
    assert writer.garbage() == {source.blob}


def appended(catalog, writer, version, number, data=b"more!", **more):
    """A version with one segment more."""
    stored = writer.stored(data)
    given = {
        "stored": stored,
        "etag": f"a-{number}",
        "modified_ms": 20 + number,
        "head": HEAD,
        "checksum": Checksum("CRC64NVME", f"sum{number}"),
        "encryption": None,
    } | more
    segment = Segment(number, len(data), stored.id, f"etag{number}", f"sum{number}")
    return catalog.write(lambda tx: tx.append_segment(version, segment, **given)), segment


def test_append_segment_grows_a_version_in_its_row(catalog, writer, bucket):
    made = writer.version(bucket, "k")
    one, first = appended(catalog, writer, made, 1)
    head = dataclasses.replace(HEAD, crc64ecma="42")
    two, second = appended(catalog, writer, one, 2, b"rest", head=head, encryption=SEALED)
    assert (two.row, two.size, two.part_count, two.etag, two.modified_ms) == (made.row, 9, 2, "a-2", 22)
    assert (two.head, two.encryption) == (head, SEALED)
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "k")) == two
    assert ask(catalog, lambda tx: tx.segments(made.row)) == [first, second]
    (listed,) = ask(catalog, lambda tx: tx.list_objects(bucket.id, lower=b"", upper=None, limit=9))
    assert (listed.size, listed.etag) == (9, "a-2")
    assert writer.refs() == {first.blob: 1, second.blob: 1}
    assert ask(catalog, lambda tx: tx.reference_faults(limit=9)) == []
    catalog.write(lambda tx: tx.remove_version(two))
    assert writer.garbage() == {first.blob, second.blob}


def test_a_copy_of_what_has_grown_since_is_refused(catalog, writer, bucket):
    source, _ = appended(catalog, writer, writer.version(bucket, "k"), 1)
    appended(catalog, writer, source, 2)
    with pytest.raises(LookupError):
        writer.version(bucket, "copy", copy_of=source)


@pytest.mark.parametrize("parts", [0, 3])
def test_copy_over_itself_keeps_the_bytes(catalog, writer, bucket, parts):
    if parts:
        upload = writer.upload(bucket, "k")
        for number in range(1, parts + 1):
            writer.part(upload, number)
        source = writer.complete(upload, range(1, parts + 1))
    else:
        source = writer.version(bucket, "k", stored=writer.stored())

    def work(tx):
        tx.remove_version(source)
        return writer.insert(tx, bucket, "k", copy_of=source)

    copy = catalog.write(work)
    assert set(writer.refs().values()) == {1}
    assert writer.garbage() == set()
    assert len(ask(catalog, lambda tx: tx.segments(copy.row))) == parts


@pytest.mark.parametrize("parts", [0, 1])
def test_copy_of_what_is_gone_is_refused(catalog, writer, bucket, parts):
    if parts:
        upload = writer.upload(bucket, "k")
        writer.part(upload, 1)
        source = writer.complete(upload, [1])
    else:
        source = writer.version(bucket, "k", stored=writer.stored())
    catalog.write(lambda tx: tx.remove_version(source))
    with pytest.raises(LookupError):
        writer.version(bucket, "copy", copy_of=source)
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "copy")) is None


def test_list_objects_is_in_byte_order_without_markers_and_old_versions(catalog, writer, bucket):
    other = writer.bucket("other")
    keys = ["a", "a/b", "a0", "Z", "é", "\uffff", "\U00010000", "a\0"]
    for key in keys:
        writer.version(bucket, key, "v1")
        writer.version(bucket, key, "v2")
    writer.version(bucket, "b", is_delete_marker=True)
    writer.version(other, "aa")

    def listed(**values):
        return [entry.key for entry in ask(catalog, lambda tx: tx.list_objects(bucket.id, **values))]

    assert listed(lower=b"", upper=None, limit=99) == sorted(keys, key=str.encode)
    assert listed(lower=b"a", upper=b"a0", limit=99) == ["a", "a\0", "a/b"]
    assert listed(lower=b"a\0", upper=None, limit=1) == ["a\0"]


def test_list_objects_row(catalog, writer, bucket):
    writer.version(bucket, "k", stored=writer.stored(), checksum=Checksum("SHA1", "x"))
    (entry,) = ask(catalog, lambda tx: tx.list_objects(bucket.id, lower=b"", upper=None, limit=9))
    assert entry == ("k", 4, "e", 7, ("alice", "STANDARD", "SHA1", "FULL_OBJECT"))
    assert entry.kind.storage_class == "STANDARD"


def test_list_objects_of_several_kinds(catalog, writer, bucket):
    kinds = {"a": "x/alice", "b": "bob", "c": "bob", "d": "x/alice"}
    for key, owner in kinds.items():
        writer.version(bucket, key, owner_id=owner)
    for _ in range(2):  # the second time knows the usual kind
        found = ask(catalog, lambda tx: tx.list_objects(bucket.id, lower=b"", upper=None, limit=9))
        assert {entry.key: entry.kind.owner_id for entry in found} == kinds


def walked(catalog, bucket, prefix="", delimiter="/", lower="", upper=None, limit=99):
    """Stops of a walk; keys of entries in brackets."""
    marks = {"prefix": prefix.encode(), "delimiter": delimiter.encode(), "lower": lower.encode()}
    found = ask(catalog, lambda tx: tx.walk_objects(bucket.id, **marks, upper=upper, limit=limit))
    return [stop if isinstance(stop, str) else [stop.key] for stop in found]


def test_walk_objects_goes_from_prefix_to_prefix(catalog, writer, bucket):
    for key in ("a", "a/1", "a/2/3", "a0", "b/", "b/\U0010ffff", "c", "é/x", "\uffff"):
        writer.version(bucket, key)
    writer.version(bucket, "bb/gone", is_delete_marker=True)
    assert walked(catalog, bucket) == [["a"], "a/", ["a0"], "b/", ["c"], "é/", ["\uffff"]]
    assert walked(catalog, bucket, limit=2) == [["a"], "a/"]
    assert walked(catalog, bucket, "a/", lower="a/", upper=b"a0") == [["a/1"], "a/2/"]
    assert walked(catalog, bucket, "é", lower="é", upper=b"\xc3\xaa") == ["é/"]
    assert walked(catalog, bucket, delimiter="/2/", lower="a/") == [
        *(["a/1"], "a/2/", ["a0"], ["b/"], ["b/\U0010ffff"], ["c"], ["é/x"], ["\uffff"])
    ]
    assert walked(catalog, bucket, lower="zzz\uffff", upper=b"zzzz") == []


def test_list_versions_pages_through_everything_once(catalog, writer, bucket):
    made = [
        writer.version(bucket, key, f"v{number}", is_delete_marker=number == 2)
        for number in range(4)
        for key in ("a", "b", "b/c", "d")
    ]
    expected = sorted(made, key=lambda version: (version.key.encode(), -version.row))
    for limit in (1, 3, 99):
        found, lower, after = [], b"", None
        while page := ask(
            catalog,
            lambda tx, lower=lower, after=after, limit=limit: tx.list_versions(
                bucket.id, lower=lower, upper=None, after_row=after, limit=limit
            ),
        ):
            assert len(page) <= limit
            found += page
            lower, after = page[-1].key.encode(), page[-1].row
        assert [entry.row for entry in found] == [version.row for version in expected]
        assert [entry.is_latest for entry in found] == [True, False, False, False] * 4
        assert [entry.is_delete_marker for entry in found] == [False, True, False, False] * 4
    within = ask(catalog, lambda tx: tx.list_versions(bucket.id, lower=b"b", upper=b"c", limit=99))
    assert {entry.key for entry in within} == {"b", "b/c"}
    assert ask(catalog, lambda tx: tx.list_versions(bucket.id, lower=b"b", upper=b"b", limit=99)) == []


def test_upload_round_trip(catalog, writer, bucket):
    made = writer.upload(
        bucket,
        "k\0",
        checksum_algorithm="CRC32",
        checksum_type="COMPOSITE",
        callback="c",
        callback_var="v",
        callback_access_key="AK",
    )
    assert ask(catalog, lambda tx: tx.upload(bucket.id, "k\0", made.upload_id)) == made
    assert ask(catalog, lambda tx: tx.upload(bucket.id, "k", made.upload_id)) is None
    assert (made.callback, made.callback_access_key, made.head) == ("c", "AK", HEAD)


def test_list_uploads_by_key_then_age(catalog, writer, bucket):
    rows = [writer.upload(bucket, key).row for key in ("b", "a", "b", "c", "b")]

    def listed(**values):
        values = {"lower": b"", "upper": None, "limit": 99} | values
        return [upload.row for upload in ask(catalog, lambda tx: tx.list_uploads(bucket.id, **values))]

    assert listed() == [rows[1], rows[0], rows[2], rows[4], rows[3]]
    assert listed(lower=b"b", after_row=rows[0], limit=2) == [rows[2], rows[4]]
    assert listed(lower=b"b", upper=b"c") == [rows[0], rows[2], rows[4]]


def test_expired_uploads_are_those_nobody_touched(catalog, writer, bucket):
    old, touched = writer.upload(bucket, initiated_ms=1), writer.upload(bucket, initiated_ms=2)
    writer.upload(bucket, initiated_ms=100)
    writer.part(old, 1, modified_ms=50)
    writer.part(touched, 1, modified_ms=100)
    assert ask(catalog, lambda tx: tx.expired_uploads(before_ms=100, limit=9)) == [old]
    assert ask(catalog, lambda tx: tx.expired_uploads(before_ms=200, limit=1)) == [old]


def test_put_part_replaces_and_releases(catalog, writer, bucket):
    upload = writer.upload(bucket)
    first, other = writer.part(upload, 2), writer.part(upload, 1)
    second = writer.part(upload, 2)
    assert ask(catalog, lambda tx: tx.parts(upload.row)) == [other, second]
    assert ask(catalog, lambda tx: tx.parts(upload.row, after=1, limit=1)) == [second]
    assert ask(catalog, lambda tx: tx.part(upload.row, 2)) == second
    assert ask(catalog, lambda tx: tx.part(upload.row, 3)) is None
    assert writer.garbage() == {first.blob}


def test_put_part_by_reference_over_itself(catalog, writer, bucket):
    source = writer.version(bucket, "k", stored=writer.stored())
    upload = writer.upload(bucket)
    for number in (1, 1, 2):
        writer.part(upload, number, size=4, copied=source.blob)
    assert writer.refs() == {source.blob: 3}
    catalog.write(lambda tx: tx.remove_upload(upload))
    assert writer.refs() == {source.blob: 1}


def test_put_part_refuses_what_is_gone(catalog, writer, bucket):
    upload = writer.upload(bucket)
    with pytest.raises(LookupError):
        writer.part(upload, 1, copied="0" * 32)
    catalog.write(lambda tx: tx.remove_upload(upload))
    with pytest.raises(ValueError, match="index"):
        writer.part(upload, 1)
    assert writer.refs() == {}


def test_empty_part(catalog, writer, bucket):
    upload = writer.upload(bucket)
    catalog.write(lambda tx: tx.put_part(upload.row, Part(1, 0, "e", 1, None), stored=Stored(None, 0)))
    version = writer.complete(upload, [1])
    assert (version.size, version.part_count) == (0, 1)
    assert ask(catalog, lambda tx: tx.segments(version.row))[0].blob is None


def test_complete_upload_moves_chosen_parts_and_releases_the_rest(catalog, writer, bucket):
    upload = writer.upload(bucket, "big")
    parts = {number: writer.part(upload, number, size=number) for number in (1, 2, 5, 9)}
    writer.version(bucket, "big", "older")
    version = writer.complete(upload, [1, 5])
    assert (version.size, version.part_count, version.head, version.acl) == (6, 2, HEAD, ACL)
    assert ask(catalog, lambda tx: tx.current_version(bucket.id, "big")) == version
    segments = ask(catalog, lambda tx: tx.segments(version.row))
    assert [(s.part_number, s.size, s.blob, s.etag, s.checksum) for s in segments] == [
        (number, number, parts[number].blob, f"etag{number}", f"sum{number}") for number in (1, 5)
    ]
    assert ask(catalog, lambda tx: tx.segments(version.row, after=1, limit=1)) == segments[1:]
    assert writer.garbage() == {parts[2].blob, parts[9].blob}
    assert ask(catalog, lambda tx: tx.upload(bucket.id, "big", upload.upload_id)) is None
    catalog.write(lambda tx: tx.remove_version(version))
    assert writer.garbage() == {part.blob for part in parts.values()}


def test_complete_upload_refuses_missing_parts(catalog, writer, bucket):
    upload = writer.upload(bucket)
    writer.part(upload, 1)
    with pytest.raises(LookupError):
        writer.complete(upload, [1, 2])
    assert len(ask(catalog, lambda tx: tx.parts(upload.row))) == 1


def test_remove_upload_releases_its_parts(catalog, writer, bucket):
    upload = writer.upload(bucket)
    part = writer.part(upload, 1)
    catalog.write(lambda tx: tx.remove_upload(upload))
    assert writer.garbage() == {part.blob}
    assert ask(catalog, lambda tx: tx.counts())["parts"] == 0


def test_completion_round_trip(catalog, bucket):
    made = Completion(
        "u", bucket.id, "k\0", "f", "e", "v", 3, 10, Checksum("CRC32", "x"), "c", "w", "AK", "i"
    )
    catalog.write(lambda tx: [tx.put_completion(made), tx.put_completion(made)])
    catalog.write(lambda tx: tx.set_completion_callback("u", state="ok", reply=b"\0", reply_type="t"))
    assert ask(catalog, lambda tx: tx.completion(bucket.id, "k\0", "u")) == dataclasses.replace(
        made, callback_state="ok", callback_reply=b"\0", callback_reply_type="t"
    )
    assert ask(catalog, lambda tx: tx.completion(bucket.id, "k", "u")) is None
    assert catalog.write(lambda tx: tx.forget_completions(before_ms=10)) == 0
    assert catalog.write(lambda tx: tx.forget_completions(before_ms=11)) == 1


def test_stored_blobs_pages(catalog, writer, bucket):
    made = sorted(
        writer.version(bucket, key, stored=writer.stored(inline=key == "a")).blob for key in ("a", "b")
    )
    (first,) = ask(catalog, lambda tx: tx.stored_blobs(limit=1))
    (second,) = ask(catalog, lambda tx: tx.stored_blobs(after=first[0], limit=9))
    assert [first[0], second[0]] == made
    assert {first[1:], second[1:]} == {(4, 1, True), (4, 1, False)}


def test_counts(catalog, writer, bucket):
    writer.version(bucket, "a", stored=writer.stored(b"12345", inline=True))
    gone = writer.version(bucket, "b", stored=writer.stored(b"123"))
    catalog.write(lambda tx: tx.remove_version(gone))
    writer.version(bucket, "b", is_delete_marker=True)
    writer.part(writer.upload(bucket), 1, size=5)
    assert ask(catalog, lambda tx: tx.counts()) == {
        "buckets": 1,
        "objects": 1,
        "versions": 2,
        "bytes": 13,
        "uploads": 1,
        "parts": 1,
        "pending": 0,
        "blobs": 3,
        "inline": 1,
        "garbage": 1,
    }


def test_settings(catalog):
    assert ask(catalog, lambda tx: tx.setting("key")) is None
    catalog.write(lambda tx: tx.put_setting("key", b"one"))
    catalog.write(lambda tx: tx.put_setting("key", b"two"))
    assert ask(catalog, lambda tx: tx.setting("key")) == b"two"


def test_lease_has_one_holder_until_it_ends(catalog, clock):
    assert catalog.lease("sweep", holder="a", ttl_s=10)
    assert not catalog.lease("sweep", holder="b", ttl_s=10)
    assert catalog.lease("other", holder="b", ttl_s=10)
    clock.now += 9
    assert catalog.lease("sweep", holder="a", ttl_s=10)
    clock.now += 9
    assert not catalog.lease("sweep", holder="b", ttl_s=10)
    clock.now += 1
    assert catalog.lease("sweep", holder="b", ttl_s=10)


def test_iter_versions_sees_each_once(catalog, writer, bucket):
    def work(tx):
        return [writer.insert(tx, bucket, f"k{number}") for number in range(1203)]

    made = catalog.write(work)
    assert list(catalog.iter_versions()) == made


def test_an_exception_undoes_its_own_work_only(catalog, writer, bucket):
    def work(tx):
        writer.insert(tx, bucket, "k", stored=writer.stored(inline=True))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        catalog.write(work)
    assert writer.refs() == {}
    writer.version(bucket, "k")
    assert not ask(catalog, lambda tx: tx.bucket_is_empty(bucket.id))


def test_work_sees_its_own_changes_and_returns_its_value(catalog, writer, bucket):
    def work(tx):
        made = writer.insert(tx, bucket, "k")
        assert tx.current_version(bucket.id, "k") == made
        return made.row

    assert catalog.write(work) == ask(catalog, lambda tx: tx.current_version(bucket.id, "k")).row


def test_migrate_again_changes_nothing(catalog, writer, bucket):
    catalog.migrate()
    assert ask(catalog, lambda tx: tx.bucket("bucket")) == bucket


def test_a_frozen_index_answers_and_changes_nothing(catalog, writer, bucket):
    catalog.freeze(on=True)
    for change in (lambda tx: writer.insert(tx, bucket, "k"), lambda tx: tx.delete_bucket(bucket.id)):
        with pytest.raises(CatalogBusyError, match="frozen"):
            catalog.write(change)
    with pytest.raises(CatalogBusyError):
        catalog.lease("sweep", holder="a", ttl_s=1)
    assert ask(catalog, lambda tx: tx.bucket("bucket")) == bucket
    catalog.freeze(on=True)
    catalog.freeze(on=False)
    writer.version(bucket, "k")


def test_what_was_dumped_and_loaded_is_the_same_and_goes_on(catalog, writer, bucket, clock):
    upload = writer.upload(bucket)
    for number in (1, 2):
        writer.part(upload, number)
    writer.version(bucket, "copy", copy_of=writer.complete(upload, [1]))
    writer.version(bucket, "k\0", stored=writer.stored(b"\0bytes", inline=True))
    writer.part(writer.upload(bucket), 1)
    catalog.write(lambda tx: [tx.put_account(ALICE), tx.put_access_key(AccessKey("AK", "s", ALICE))])
    target = open_sqlite(MEMORY, clock)

    def everything():
        for table in transfer.tables():
            columns = catalog.columns(table)
            yield table, columns, catalog.dump(table, columns)

    counted = target.load(everything())
    assert (counted["versions"], counted["access_keys"]) == (3, 1)
    assert list(target.iter_versions()) == list(catalog.iter_versions())
    assert ask(target, lambda tx: tx.access_key("AK")) == ask(catalog, lambda tx: tx.access_key("AK"))
    assert ask(target, lambda tx: tx.counts()) == ask(catalog, lambda tx: tx.counts())
    highest = max(version.row for version in target.iter_versions())
    assert Writer(target).version(bucket, "new").row > highest
    target.close()


# ---------------------------------------------------------------- annotations


def annotate(catalog, version, name, stored, *, is_new=True, size=4):
    """Add an annotation as core does: the version is asked for first."""
    annotation = Annotation(name, size, "e", 7, stored.id, Checksum("CRC32", "AAAAAA=="))

    def work(tx):
        live = tx.version(version.bucket_id, version.key, version.version_id)
        tx.put_annotation(live, annotation, stored=stored if is_new else None)

    catalog.write(work)
    return annotation


def test_annotations_go_by_name_within_a_prefix(catalog, writer, bucket):
    version = writer.version(bucket, "k")
    made = {name: annotate(catalog, version, name, writer.stored()) for name in ("b", "ä", "a.1", "a.2")}
    assert ask(catalog, lambda tx: tx.annotations(version.row)) == [made[n] for n in ("a.1", "a.2", "b", "ä")]
    assert ask(catalog, lambda tx: tx.annotations(version.row, prefix="a.", after="a.1")) == [made["a.2"]]
    assert ask(catalog, lambda tx: tx.annotations(version.row, limit=1)) == [made["a.1"]]
    assert ask(catalog, lambda tx: tx.annotation(version.row, "ä")) == made["ä"]
    assert ask(catalog, lambda tx: tx.version_at(version.row)).annotations == 4


def test_annotations_release_their_bytes_once(catalog, writer, bucket):
    version, copy = writer.version(bucket, "k"), writer.version(bucket, "l")
    first, second = writer.stored(), writer.stored()
    annotate(catalog, version, "n", first)
    annotate(catalog, copy, "n", first, is_new=False)
    annotate(catalog, version, "n", second)
    assert ask(catalog, lambda tx: tx.is_referenced(first.id))
    assert ask(catalog, lambda tx: tx.version_at(version.row)).annotations == 1
    assert catalog.write(lambda tx: tx.remove_annotation(copy, "n"))
    assert not catalog.write(lambda tx: tx.remove_annotation(copy, "n"))
    catalog.write(lambda tx: tx.remove_version(tx.version(bucket.id, "k", "null")))
    due = ask(catalog, lambda tx: tx.due_garbage(before_ms=1 << 50, limit=9))
    assert {each.blob for each in due} == {first.id, second.id}
    assert ask(catalog, lambda tx: tx.reference_faults(limit=9)) == []


def test_an_annotation_of_what_is_gone_is_a_lookup_error(catalog, writer, bucket):
    version = writer.version(bucket, "k")
    with pytest.raises(LookupError):
        annotate(catalog, version, "n", writer.stored(), is_new=False)
    gone = Annotation("n", 0, "e", 7, None, Checksum("CRC32", "AAAAAA=="))
    with pytest.raises(LookupError):
        catalog.write(
            lambda tx: tx.put_annotation(dataclasses.replace(version, row=version.row + 9), gone, stored=None)
        )
    assert ask(catalog, lambda tx: tx.annotations(version.row)) == []
