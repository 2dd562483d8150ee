"""Tags."""

from __future__ import annotations

import pytest
from client import S3


def document(*tags: tuple[str, str]) -> bytes:
    rows = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags)
    return f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()


def test_object_tags_round_trip(s3: S3) -> None:
    s3.put("/bucket/key", b"x", {"x-amz-tagging": "a=1&b=two%20words"})
    assert s3.head("/bucket/key").headers["x-amz-tagging-count"] == "2"
    answer = s3.get("/bucket/key?tagging")
    assert list(zip(answer.texts("TagSet/Tag/Key"), answer.texts("TagSet/Tag/Value"), strict=True)) == [
        ("a", "1"),
        ("b", "two words"),
    ]
    assert s3.put("/bucket/key?tagging", document(("c", "3"))).status == 200
    assert s3.get("/bucket/key?tagging").texts("TagSet/Tag/Key") == ["c"]
    assert s3.delete("/bucket/key?tagging").status == 204
    assert s3.get("/bucket/key?tagging").texts("TagSet/Tag/Key") == []


def test_bucket_tags_round_trip(s3: S3) -> None:
    assert s3.get("/bucket?tagging").code == "NoSuchTagSet"
    assert s3.put("/bucket?tagging", document(("a", "1"))).status == 204
    assert s3.get("/bucket?tagging").texts("TagSet/Tag/Key") == ["a"]
    assert s3.delete("/bucket?tagging").status == 204
    assert s3.get("/bucket?tagging").code == "NoSuchTagSet"


@pytest.mark.parametrize(
    "tags",
    [
        [(f"k{i}", "v") for i in range(11)],
        [("a", "1"), ("a", "2")],
        [("k" * 129, "v")],
        [("k", "v" * 257)],
        [("", "v")],
    ],
    ids=["eleven", "repeated", "long key", "long value", "empty key"],
)
def test_put_object_tagging_refuses_tags_out_of_rule(s3: S3, tags: list[tuple[str, str]]) -> None:
    s3.put("/bucket/key", b"x")
    assert s3.put("/bucket/key?tagging", document(*tags)).code == "InvalidTag"
    assert s3.get("/bucket/key?tagging").texts("TagSet/Tag/Key") == []


def test_tags_at_the_limit(s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert (
        s3.put("/bucket/key?tagging", document(*[(f"{i}" + "k" * 127, "v" * 256) for i in range(10)])).status
        == 200
    )
    assert s3.put("/bucket?tagging", document(*[(f"k{i}", "v") for i in range(50)])).status == 204
    assert s3.put("/bucket?tagging", document(*[(f"k{i}", "v") for i in range(51)])).code == "InvalidTag"


def test_tagging_a_missing_object(s3: S3) -> None:
    assert s3.get("/bucket/none?tagging").code == "NoSuchKey"
    assert s3.put("/bucket/none?tagging", document()).code == "NoSuchKey"
