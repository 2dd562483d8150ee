"""Quotas of buckets and accounts: what is refused, how early, and what never is."""

from __future__ import annotations

import json
import threading

import forms
import pytest
from client import S3

from s3lite.core import quota
from s3lite.errors import S3Error


def bound(client: S3, max_bytes: int | None = None, max_objects: int | None = None) -> None:
    catalog = client.wsgi.services.store.catalog
    catalog.write(
        lambda tx: tx.put_bucket_quota(tx.bucket("bucket"), max_bytes=max_bytes, max_objects=max_objects)
    )


def used(client: S3) -> tuple[int, int]:
    with client.wsgi.services.store.catalog.read() as tx:
        (counted,) = tx.quotas()
        assert tx.reference_faults(limit=5) == []
    return counted.bytes, counted.objects


def blobs(client: S3) -> int:
    return sum(1 for _ in client.wsgi.services.store.blobs.scan())


def test_an_upload_up_to_the_quota_and_not_beyond(s3: S3) -> None:
    bound(s3, max_bytes=10)
    assert s3.put("/bucket/a", b"1234567890").status == 200
    answer = s3.put("/bucket/b", b"1")
    assert (answer.status, answer.code) == (403, "QuotaExceeded")
    assert "10 bytes" in answer.message
    assert s3.get("/bucket/b").status == 404
    assert used(s3) == (10, 1)
    assert s3.put("/bucket/b", b"").status == 200  # adds nothing
    assert s3.get("/bucket/a").body == b"1234567890"


def test_objects_are_bounded(s3: S3) -> None:
    bound(s3, max_objects=1)
    assert s3.put("/bucket/a", b"1").status == 200
    assert s3.put("/bucket/b", b"").code == "QuotaExceeded"
    assert s3.post("/bucket/b?uploads").code == "QuotaExceeded"
    assert s3.put("/bucket/a", b"another").status == 200


def test_overwriting_counts_what_it_frees(s3: S3) -> None:
    bound(s3, max_bytes=10)
    assert s3.put("/bucket/a", b"12345678").status == 200
    assert s3.put("/bucket/a", b"1234567890").status == 200
    assert s3.put("/bucket/a", b"12345678901").code == "QuotaExceeded"
    assert s3.get("/bucket/a").body == b"1234567890"


def test_beyond_its_quota_a_bucket_may_shrink_but_not_grow(s3: S3) -> None:
    s3.put("/bucket/a", b"12345678")
    s3.put("/bucket/b", b"12345678")
    bound(s3, max_bytes=4, max_objects=1)
    assert s3.put("/bucket/a", b"123456789").code == "QuotaExceeded"
    assert s3.put("/bucket/a", b"1234567").status == 200
    assert s3.put("/bucket/c?renameObject", headers={"x-amz-rename-source": "a"}).status == 200
    body = b"<Delete><Object><Key>b</Key></Object><Object><Key>c</Key></Object></Delete>"
    assert s3.post("/bucket?delete", body).texts("Deleted/Key") == ["b", "c"]
    assert used(s3) == (0, 0)


def test_old_versions_count_and_delete_markers_do_not(s3: S3) -> None:
    versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    s3.put("/bucket?versioning", versioning)
    bound(s3, max_bytes=10, max_objects=2)
    first = s3.put("/bucket/a", b"12345").headers["x-amz-version-id"]
    assert s3.put("/bucket/a", b"12345").status == 200
    assert s3.put("/bucket/a", b"1").code == "QuotaExceeded"
    assert s3.delete("/bucket/a").status == 204
    assert used(s3) == (10, 2)
    assert s3.delete(f"/bucket/a?versionId={first}").status == 204
    assert s3.put("/bucket/b", b"1").status == 200


def test_parts_count_from_when_they_are_stored(s3: S3) -> None:
    bound(s3, max_bytes=3000)
    upload = s3.start_upload("/bucket/big")
    etags = {number: s3.put_part("/bucket/big", upload, number, b"x" * 1024) for number in (1, 2)}
    refused = s3.put(f"/bucket/big?partNumber=3&uploadId={upload}", b"x" * 1024)
    assert refused.code == "QuotaExceeded"
    etags[2] = s3.put_part("/bucket/big", upload, 2, b"y" * 1900)  # in the place of the earlier one
    assert s3.put("/bucket/a", b"x" * 100).code == "QuotaExceeded"
    assert s3.complete("/bucket/big", upload, etags).status == 200
    assert used(s3) == (2924, 1)
    other = s3.start_upload("/bucket/other")
    s3.put_part("/bucket/other", other, 1, b"x" * 76)
    assert s3.delete(f"/bucket/other?uploadId={other}").status == 204
    assert used(s3) == (2924, 1)


def test_copies_count_in_full(s3: S3) -> None:
    s3.put("/bucket/a", b"123456")
    bound(s3, max_bytes=11)
    assert s3.put("/bucket/b", headers={"x-amz-copy-source": "/bucket/a"}).code == "QuotaExceeded"
    upload = s3.start_upload("/bucket/b")
    part = f"/bucket/b?partNumber=1&uploadId={upload}"
    assert s3.put(part, headers={"x-amz-copy-source": "/bucket/a"}).code == "QuotaExceeded"
    bound(s3, max_bytes=12)
    assert s3.put("/bucket/b", headers={"x-amz-copy-source": "/bucket/a"}).status == 200


@pytest.mark.parametrize("fields_of", [forms.v2_fields, forms.v4_fields])
def test_forms_are_refused_alike(s3: S3, fields_of) -> None:
    bound(s3, max_bytes=10)
    conditions = [{"bucket": "bucket"}, ["starts-with", "$key", ""]]
    fields = {"key": "form"} | fields_of("alice-key", "alice-secret", conditions)
    for content, status in ((b"12345678901", 403), (b"1234567890", 204)):
        data = forms.body(list(fields.items()), content)
        answer = s3.request("POST", "/bucket", data, {"Content-Type": forms.CONTENT_TYPE}, signer="none")
        assert answer.status == status


class Endless:
    """A body that says how much of it was read."""

    taken = 0

    def read(self, size: int) -> bytes:
        self.taken += size
        return b"x" * size


def test_what_is_announced_is_refused_before_it_is_read(s3: S3) -> None:
    bound(s3, max_bytes=10)
    store, source = s3.wsgi.services.store, Endless()
    with store.catalog.read() as tx:
        bucket = tx.bucket("bucket")
    with pytest.raises(S3Error, match="QuotaExceeded"):
        quota.guarded(store, bucket, "a", source, size=11)
    with pytest.raises(S3Error, match="QuotaExceeded"):
        quota.guarded_part(store, bucket, 1, 1, source, size=11)
    assert source.taken == 0


def test_what_is_not_announced_is_cut_where_it_goes_beyond(s3: S3) -> None:
    bound(s3, max_bytes=100_000)
    url = s3.presign("PUT", "/bucket/a")
    answer = s3.open("PUT", url, b"x" * 1_000_000, {"Transfer-Encoding": "chunked"})
    assert answer.code == "QuotaExceeded"
    assert blobs(s3) == 0
    assert s3.open("PUT", url, b"x" * 100_000, {"Transfer-Encoding": "chunked"}).status == 200


def test_an_account_is_bounded_over_its_buckets(s3: S3, other: S3) -> None:
    catalog = s3.wsgi.services.store.catalog
    catalog.write(lambda tx: tx.put_account_quota("alice", max_bytes=10, max_objects=None))
    s3.put("/later")
    assert s3.put("/bucket/a", b"123456").status == 200
    answer = s3.put("/later/a", b"123456")
    assert (answer.code, "the account" in answer.message) == ("QuotaExceeded", True)
    policy = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::later/*",
    }
    s3.put("/later?policy", json.dumps({"Statement": policy}).encode())
    assert other.put("/later/a", b"123456").code == "QuotaExceeded"  # the bucket's owner counts
    other.put("/of-bob")
    assert other.put("/of-bob/a", b"123456").status == 200


def test_writers_that_race_never_go_beyond(s3: S3) -> None:
    bound(s3, max_bytes=50, max_objects=8)
    answers = []

    def write(number: int) -> None:
        client = S3(s3.wsgi, "alice-key", "alice-secret")
        answers.extend(client.put(f"/bucket/{number}-{turn}", b"1234567890").status for turn in range(3))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 5 + [403] * 19
    assert used(s3) == (50, 5)


def test_a_bucket_without_a_quota_is_not_counted(s3: S3) -> None:
    s3.put("/bucket/a", b"x")
    with s3.wsgi.services.store.catalog.read() as tx:
        assert tx.quotas() == []
        assert tx.bucket("bucket").configs == frozenset()


def test_annotations_count_in_full_and_are_freed(s3: S3) -> None:
    s3.put("/bucket/a", b"12345")
    note = "/bucket/{}?annotation&annotationName=n"
    assert s3.put(note.format("a"), b"123").status == 200
    bound(s3, max_bytes=18)
    assert used(s3) == (8, 1)
    assert s3.put(note.format("a"), b"1234").status == 200  # replaces
    assert s3.put("/bucket/b", headers={"x-amz-copy-source": "/bucket/a"}).status == 200
    assert used(s3) == (18, 2)
    answer = s3.put(note.format("b"), b"12345")
    assert (answer.status, answer.code) == (403, "QuotaExceeded")
    assert s3.get(note.format("b")).body == b"1234"
    assert s3.delete(note.format("b")).status == 204
    assert used(s3) == (14, 2)
    assert s3.put("/bucket/c?renameObject", headers={"x-amz-rename-source": "a"}).status == 200
    assert used(s3) == (14, 2)
    s3.delete("/bucket/c")
    assert used(s3) == (5, 1)
    bound(s3, max_bytes=100)  # counts anew
    assert used(s3) == (5, 1)
