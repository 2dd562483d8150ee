"""The counters of quotas, on every implementation; `reference_faults` proves them after each test."""

import threading

from s3lite.model import Account


def quotas(catalog):
    with catalog.read() as tx:
        return {quota.subject.partition(" ")[0]: (quota.bytes, quota.objects) for quota in tx.quotas()}


def bound(catalog, bucket, max_bytes=100, max_objects=None):
    catalog.write(lambda tx: tx.put_bucket_quota(bucket, max_bytes=max_bytes, max_objects=max_objects))


def test_what_is_there_is_counted_when_the_quota_is_set(catalog, writer, bucket):
    writer.version(bucket, "a", stored=writer.stored(b"12345"))
    writer.version(bucket, "b", is_delete_marker=True)
    writer.part(writer.upload(bucket), 1, size=7)
    assert quotas(catalog) == {}
    bound(catalog, bucket)
    assert quotas(catalog) == {"bucket": (12, 1)}
    with catalog.read() as tx:
        assert tx.bucket("bucket").configs == {"quota"}
        assert tx.quotas_of(bucket)[0].max_bytes == 100


def test_every_change_is_counted(catalog, writer, bucket):
    bound(catalog, bucket)
    version = writer.version(bucket, "a", stored=writer.stored(b"12345"))
    copy = writer.version(bucket, "b", copy_of=version)
    assert quotas(catalog) == {"bucket": (10, 2)}
    upload = writer.upload(bucket)
    for number, size in ((1, 5), (2, 6), (1, 3)):  # the first is replaced
        writer.part(upload, number, size=size)
    assert quotas(catalog) == {"bucket": (19, 2)}
    done = writer.complete(upload, [1])  # the second is released
    assert quotas(catalog) == {"bucket": (13, 3)}
    catalog.write(lambda tx: [tx.remove_version(each) for each in (version, copy, done)])
    assert quotas(catalog) == {"bucket": (0, 0)}


def test_a_transaction_learns_what_it_adds_and_where_that_leads(catalog, writer, bucket):
    bound(catalog, bucket, max_objects=9)
    first = writer.version(bucket, "a", stored=writer.stored(b"12345"))

    def replace(tx):
        tx.remove_version(first)
        writer.insert(tx, bucket, "a", stored=writer.stored(b"12"))
        return tx.settle_quotas(), tx.settle_quotas()

    (quota,), nothing = catalog.write(replace)
    assert (quota.bytes, quota.objects, quota.added_bytes, quota.added_objects) == (2, 1, -3, 0)
    assert (quota.max_bytes, quota.max_objects) == (100, 9)
    assert nothing == []


class Recorder:
    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        return lambda *values: self.asked.append((name, values))


def test_buckets_without_a_quota_cost_no_statement(catalog, writer, bucket):
    def work(tx):
        tx.bucket("bucket")  # as whoever publishes does
        writer.insert(tx, bucket, "a", stored=writer.stored(b"12345"))
        session, tx._session = tx._session, Recorder()
        assert tx.settle_quotas() == []
        asked, tx._session = tx._session.asked, session
        return asked

    assert catalog.write(work) == []


def test_what_is_undone_is_not_counted(catalog, writer, bucket):
    bound(catalog, bucket)

    def fail(tx):
        writer.insert(tx, bucket, "a", stored=writer.stored(b"12345"))
        tx.settle_quotas()
        raise KeyError

    try:
        catalog.write(fail)
    except KeyError:
        assert quotas(catalog) == {"bucket": (0, 0)}


def test_an_account_is_counted_over_its_buckets_old_and_new(catalog, writer, bucket):
    catalog.write(lambda tx: tx.put_account(Account("alice", "Alice")))
    other = writer.bucket("of-bob", owner_id="bob")
    writer.version(bucket, "a", stored=writer.stored(b"12345"))
    catalog.write(lambda tx: tx.put_account_quota("alice", max_bytes=100, max_objects=None))
    later = writer.bucket("later")
    assert later.configs == set()  # as it was made; the quota is noted beside it
    writer.version(later, "a", stored=writer.stored(b"123"))
    writer.version(other, "a", stored=writer.stored(b"1"))
    assert quotas(catalog) == {"account": (8, 2)}
    bound(catalog, later)
    assert quotas(catalog) == {"account": (8, 2), "bucket": (3, 1)}
    catalog.write(lambda tx: tx.put_account_quota("alice", max_bytes=None, max_objects=None))
    with catalog.read() as tx:
        assert [tx.bucket(name).configs for name in ("bucket", "later", "of-bob")] == [
            set(),
            {"quota"},
            set(),
        ]


def test_a_bucket_that_goes_takes_its_counters_along(catalog, writer, bucket):
    catalog.write(lambda tx: tx.put_account_quota("alice", max_bytes=100, max_objects=None))
    bound(catalog, bucket)
    writer.part(writer.upload(bucket), 1, size=7)
    assert quotas(catalog) == {"account": (7, 0), "bucket": (7, 0)}
    catalog.write(lambda tx: tx.delete_bucket(bucket.id))
    assert quotas(catalog) == {"account": (0, 0)}
    catalog.write(lambda tx: tx.remove_account("alice"))
    assert quotas(catalog) == {}


def test_a_change_of_bounds_keeps_the_count_and_none_lifts_it(catalog, writer, bucket):
    bound(catalog, bucket)
    writer.version(bucket, "a", stored=writer.stored(b"12345"))
    bound(catalog, bucket, max_bytes=7, max_objects=2)
    assert quotas(catalog) == {"bucket": (5, 1)}
    bound(catalog, bucket, max_bytes=None)
    assert quotas(catalog) == {}
    with catalog.read() as tx:
        assert tx.bucket("bucket").configs == set()


def test_other_configurations_keep_the_mark(catalog, writer, bucket):
    bound(catalog, bucket)
    catalog.write(lambda tx: tx.put_bucket_config(bucket.id, "cors", b"x"))
    with catalog.read() as tx:
        assert tx.bucket("bucket").configs == {"cors", "quota"}


def test_quotas_set_while_others_write_miss_nothing(catalog, writer, bucket):
    """Writers that have begun before, and do not know of the quota, are waited for."""
    failures = []

    def work(number):
        try:
            upload = writer.upload(bucket, f"big{number}")
            for part in range(1, 9):
                writer.part(upload, part)
                version = writer.version(bucket, f"k{number}", writer.ids.version(), stored=writer.stored())
                catalog.write(lambda tx, gone=version: tx.remove_version(gone))
            catalog.write(lambda tx: tx.remove_upload(upload))
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        bound(catalog, bucket, max_bytes=None if turn % 2 else 1 << 40)
        catalog.write(
            lambda tx, n=turn: tx.put_account_quota("alice", max_bytes=None if n % 3 else 9, max_objects=None)
        )
    bound(catalog, bucket)
    for thread in threads:
        thread.join()
    assert failures == []
    with catalog.read() as tx:
        assert tx.reference_faults(limit=10) == []


def test_a_wrong_counter_is_seen_and_mended(catalog, writer, bucket):
    catalog.write(lambda tx: tx.put_account_quota("alice", max_bytes=100, max_objects=None))
    bound(catalog, bucket)
    writer.version(bucket, "a", stored=writer.stored(b"12345"))
    catalog.write(lambda tx: tx._session.run("UPDATE quotas SET bytes = bytes + 1"))
    with catalog.read() as tx:
        faults = tx.reference_faults(limit=10)
    assert sorted(fault.partition(":")[0] for fault in faults) == [
        "quota of account alice",
        f"quota of bucket {bucket.id}",
    ]
    for fault in faults:
        catalog.write(lambda tx, text=fault: tx.recount(text.removeprefix("quota of ").partition(":")[0]))
    assert quotas(catalog) == {"account": (5, 1), "bucket": (5, 1)}
