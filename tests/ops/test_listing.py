"""ListObjects, ListObjectsV2, ListObjectVersions, against a plain model of what they mean."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from client import S3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3lite.app import Application
from s3lite.core import listing
from s3lite.model import ObjectHead

KEYS = ["a", "a/", "a/b", "a/b/c", "a//d", "b", "ba", "c d", "ä", "😀/x", "z/1", "z/2"]


@pytest.fixture
def filled(s3: S3) -> S3:
    for key in KEYS:
        s3.put(f"/bucket/{key}", key.encode())
    return s3


def expected(keys: list[str], prefix: str, delimiter: str) -> list[str]:
    """Entries and common prefixes in one order, as the API Reference defines them."""
    found: list[str] = []
    for key in sorted(keys, key=str.encode):
        if key.startswith(prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            item = key if cut < 0 else key[: cut + len(delimiter)]
            if item not in found:
                found.append(item)
    return found


def walk(s3: S3, query: str, max_keys: int) -> list[str]:
    """All items of all V2 pages, in the order in which they come."""
    items: list[str] = []
    token = ""
    for _ in range(100):
        answer = s3.get(f"/bucket?list-type=2&max-keys={max_keys}{query}{token}")
        page = sorted(answer.texts("Contents/Key") + answer.texts("CommonPrefixes/Prefix"), key=str.encode)
        assert answer.text("KeyCount") == str(len(page))
        assert len(page) <= max_keys
        items += page
        if answer.text("IsTruncated") == "false":
            return items
        token = "&continuation-token=" + quote(answer.text("NextContinuationToken") or "", safe="")
    raise AssertionError("the listing does not end")


@pytest.mark.parametrize("max_keys", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("prefix", "delimiter"),
    [("", ""), ("", "/"), ("a", "/"), ("a/", "/"), ("a/b", ""), ("x", "/"), ("", "b"), ("z/", "")],
)
def test_list_objects_v2_pages(filled: S3, prefix: str, delimiter: str, max_keys: int) -> None:
    query = f"&prefix={quote(prefix, safe='')}&delimiter={quote(delimiter, safe='')}"
    assert walk(filled, query, max_keys) == expected(KEYS, prefix, delimiter)


def test_list_objects_v2_start_after(filled: S3) -> None:
    assert filled.keys("bucket", "&start-after=b") == ["ba", "c d", "z/1", "z/2", "ä", "😀/x"]


def test_list_objects_v1_pages_by_marker(filled: S3) -> None:
    answer = filled.get("/bucket?max-keys=3&delimiter=%2F")
    assert (answer.texts("Contents/Key"), answer.texts("CommonPrefixes/Prefix")) == (["a", "b"], ["a/"])
    assert answer.text("NextMarker") == "b"
    rest = filled.get("/bucket?delimiter=%2F&marker=b")
    assert rest.texts("Contents/Key") == ["ba", "c d", "ä"]
    after_prefix = filled.get("/bucket?delimiter=%2F&marker=a%2F")
    assert after_prefix.texts("CommonPrefixes/Prefix") == ["z/", "😀/"]


def test_list_objects_v1_has_owners_and_v2_on_request(filled: S3) -> None:
    assert filled.get("/bucket").text("Contents/Owner/ID") == "alice"
    assert filled.get("/bucket?list-type=2").text("Contents/Owner/ID") is None
    assert filled.get("/bucket?list-type=2&fetch-owner=true").text("Contents/Owner/ID") == "alice"


def test_encoding_type_url_covers_keys_and_markers(filled: S3) -> None:
    answer = filled.get("/bucket?encoding-type=url&delimiter=%2F&max-keys=5&marker=b")
    assert answer.texts("Contents/Key") == ["ba", "c%20d", "%C3%A4"]
    assert answer.texts("CommonPrefixes/Prefix") == ["z/", "%F0%9F%98%80/"]
    assert answer.text("EncodingType") == "url"
    truncated = filled.get("/bucket?encoding-type=url&delimiter=%2F&max-keys=2&marker=b")
    assert truncated.text("NextMarker") == "c%20d"


@pytest.mark.parametrize(
    "query",
    [
        "max-keys=-1",
        "max-keys=x",
        "encoding-type=base64",
        "list-type=3",
        "list-type=2&continuation-token=%21",
    ],
)
def test_listings_refuse_bad_arguments(filled: S3, query: str) -> None:
    assert filled.get(f"/bucket?{query}").code == "InvalidArgument"


def test_max_keys_zero_is_empty_and_whole(filled: S3) -> None:
    answer = filled.get("/bucket?max-keys=0")
    assert (answer.texts("Contents"), answer.text("IsTruncated")) == ([], "false")


def test_max_keys_is_capped(filled: S3) -> None:
    assert filled.get("/bucket?max-keys=5000").text("MaxKeys") == "1000"


def test_list_object_versions_of_a_plain_bucket(filled: S3) -> None:
    answer = filled.get("/bucket?versions")
    assert answer.texts("Version/Key") == sorted(KEYS, key=str.encode)
    assert set(answer.texts("Version/VersionId")) == {"null"}
    assert set(answer.texts("Version/IsLatest")) == {"true"}


def test_listing_is_refused_to_others(filled: S3, other: S3, anonymous: S3) -> None:
    for client in (other, anonymous):
        assert client.get("/bucket").code == "AccessDenied"
    filled.put("/bucket?acl", headers={"x-amz-acl": "public-read"})
    assert anonymous.get("/bucket").texts("Contents/Key") != []


alphabet = st.text(alphabet="ab/-é", max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.sets(alphabet.filter(bool), max_size=25),
    prefix=alphabet,
    delimiter=st.sampled_from(["", "/", "-", "a", "a/"]),
    limit=st.integers(1, 6),
)
def test_pages_join_to_the_whole(
    app: Application, s3: S3, keys: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    store = app.services.store
    with store.catalog.read() as tx:
        bucket = tx.bucket("bucket")
    assert bucket is not None

    def fill(tx):
        for row in tx.list_objects(bucket.id, lower=b"", upper=None, limit=100):
            tx.remove_version(tx.current_version(bucket.id, row.key))
        for key in keys:
            tx.insert_version(
                bucket_id=bucket.id, key=key, version_id="null", size=0, etag="", modified_ms=0,
                owner_id="alice", head=ObjectHead(), acl=bucket.acl,
            )  # fmt: skip

    store.catalog.write(fill)
    items: list[str] = []
    after = ""
    with store.catalog.read() as tx:
        for _ in range(40):
            page = listing.list_objects(
                tx, bucket.id, prefix=prefix, delimiter=delimiter, after=after, limit=limit
            )
            items += sorted(
                [entry.key for entry in page.entries] + list(page.common_prefixes), key=str.encode
            )
            if not page.is_truncated:
                break
            after = page.next_marker
    assert items == expected(sorted(keys), prefix, delimiter)
