"""`s3lite bucket` and the quotas of users."""

from __future__ import annotations

import json

import pytest


def emitted(run, *arguments: str):
    return json.loads(run(*arguments, "--json").stdout)


def test_a_bucket_is_made_shown_and_removed(run, data_dir):
    run("user", "add", "alice")
    run("bucket", "create", "photos", "--owner", "alice")
    run("bucket", "create", "other")
    assert [each["name"] for each in emitted(run, "bucket", "list")] == ["other", "photos"]
    assert [each["name"] for each in emitted(run, "bucket", "list", "--owner", "alice")] == ["photos"]
    shown = emitted(run, "bucket", "show", "photos")
    assert (shown["owner"], shown["quota"], shown["versioning"]) == ("alice", None, "never")
    run("bucket", "remove", "photos")
    assert "no bucket photos" in run("bucket", "show", "photos", exit_code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bucket", "create", "A"), "no name of a bucket"),
        (("bucket", "create", "bucket"), "There is a bucket bucket already"),
        (("bucket", "create", "new", "--owner", "nobody"), "There is no user nobody"),
        (("bucket", "list", "--owner", "nobody"), "There is no user nobody"),
        (("bucket", "remove", "bucket"), "is not empty"),
        (("bucket", "quota", "nothing"), "no bucket nothing"),
        (("user", "quota", "nobody"), "There is no user nobody"),
    ],
)
def test_what_is_refused(run, objects, arguments, message):
    objects.put("a", b"x")
    assert message in run(*arguments, exit_code=1).stderr


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1000", 1000),
        ("500MB", 500_000_000),
        ("10GiB", 10 << 30),
        ("1.5k", 1500),
        ("2 ti", 2 << 40),
    ],
)
def test_sizes(run, store, text, count):
    assert emitted(run, "bucket", "quota", "bucket", "--bytes", text)["quota"]["max_bytes"] == count


@pytest.mark.parametrize("text", ["-1", "1e9", "10 bytes", "many", "9999999999TiB", "1i"])
def test_sizes_that_are_none(run, store, text):
    assert "a size is" in run("bucket", "quota", "bucket", f"--bytes={text}", exit_code=2).stderr


def test_a_quota_counts_and_is_changed_and_lifted(run, objects):
    objects.put("a", b"12345")
    quota = emitted(run, "bucket", "quota", "bucket", "--bytes", "1000")["quota"]
    assert quota == {"bytes": 5, "max_bytes": 1000, "objects": 1, "max_objects": None}
    assert emitted(run, "bucket", "quota", "bucket", "--objects", "9")["quota"]["max_bytes"] == 1000
    assert run("bucket", "quota", "bucket").stdout == "bucket: 5 of 1,000 bytes, 1 of 9 objects\n"
    assert "5 of 1,000 bytes" in run("bucket", "show", "bucket").stdout
    assert emitted(run, "bucket", "list")[0]["max_objects"] == 9
    run("bucket", "quota", "bucket", "--bytes", "none", "--objects", "none")
    assert run("bucket", "quota", "bucket").stdout == "bucket: none\n"


def test_a_user_has_a_quota_over_all_its_buckets(run, objects):
    objects.put("a", b"12345")
    run("bucket", "create", "second")
    assert run("user", "quota", "root", "--bytes", "1kB").stdout == "root: 5 of 1,000 bytes, 1 objects\n"
    assert emitted(run, "bucket", "show", "second")["quota_of_owner"]["bytes"] == 5
    assert emitted(run, "user", "quota", "root", "--bytes", "none")["quota"] is None


def test_check_finds_a_counter_that_is_off_and_mends_it(run, store, objects):
    objects.put("a", b"12345")
    run("bucket", "quota", "bucket", "--bytes", "1000")
    store.catalog.write(lambda tx: tx._session.run("UPDATE quotas SET bytes = 7"))
    result = run("check", exit_code=1)
    assert "counts 7 bytes and 1 objects, has 5 and 1" in result.stdout
    assert "counts anew" in result.stderr
    (fault,) = emitted(run, "check", "--repair")["faults"]
    assert (fault["kind"], fault["is_repaired"]) == ("quota", True)
    assert emitted(run, "check")["clean"]
