"""DeleteObject and DeleteObjects."""

from __future__ import annotations

import base64
import hashlib
from xml.sax.saxutils import escape

import pytest
from client import S3, Answer

from s3lite.app import Application
from s3lite.core import write


def delete_many(s3: S3, keys: list[str], *, quiet: bool = False) -> Answer:
    objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    body = f"<Delete>{'<Quiet>true</Quiet>' if quiet else ''}{objects}</Delete>".encode()
    return s3.post(
        "/bucket?delete", body, {"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode()}
    )


def test_delete_object_is_idempotent(s3: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert s3.delete("/bucket/key").status == 204
    assert s3.delete("/bucket/key").status == 204
    assert s3.get("/bucket/key").code == "NoSuchKey"


def test_delete_object_is_refused_to_others(s3: S3, other: S3, anonymous: S3) -> None:
    s3.put("/bucket/key", b"x")
    assert other.delete("/bucket/key").code == "AccessDenied"
    assert anonymous.delete("/bucket/key").code == "AccessDenied"
    assert s3.get("/bucket/key").body == b"x"


def test_delete_object_conditions(s3: S3) -> None:
    etag = s3.put("/bucket/key", b"x").headers["ETag"]
    assert s3.delete("/bucket/key", {"If-Match": '"other"'}).code == "PreconditionFailed"
    assert s3.delete("/bucket/key", {"If-Match": etag}).status == 204


def test_delete_objects_answers_each_key(s3: S3) -> None:
    keys = ["a", "b/ä <&>", "missing"]
    for key in keys[:2]:
        s3.put(f"/bucket/{key}", b"x")
    answer = delete_many(s3, keys)
    assert answer.texts("Deleted/Key") == keys
    assert s3.keys("bucket") == []


def test_delete_objects_quiet_names_failures_only(s3: S3) -> None:
    s3.put("/bucket/a", b"x")
    answer = delete_many(s3, ["a", "k" * 1025], quiet=True)
    assert answer.texts("Deleted/Key") == []
    assert answer.texts("Error/Code") == ["KeyTooLongError"]


def test_delete_objects_takes_a_thousand_keys_and_no_more(s3: S3) -> None:
    assert delete_many(s3, [f"k{i}" for i in range(1000)]).status == 200
    assert delete_many(s3, [f"k{i}" for i in range(1001)]).code == "MalformedXML"
    assert delete_many(s3, []).code == "MalformedXML"


def test_delete_objects_needs_a_digest(s3: S3) -> None:
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    answer = s3.request("POST", "/bucket?delete", body, payload_hash="UNSIGNED-PAYLOAD")
    assert answer.code == "InvalidRequest"


def test_delete_objects_refuses_other_digests(s3: S3) -> None:
    wrong = base64.b64encode(hashlib.md5(b"else").digest()).decode()
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    s3.put("/bucket/a", b"x")
    assert s3.post("/bucket?delete", body, {"Content-MD5": wrong}).code == "BadDigest"
    assert s3.get("/bucket/a").status == 200


def test_delete_objects_refuses_entities(s3: S3) -> None:
    body = b'<!DOCTYPE d [<!ENTITY e "x">]><Delete><Object><Key>&e;</Key></Object></Delete>'
    assert s3.post("/bucket?delete", body).code == "MalformedXML"


def transactions(app: Application, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with each transaction that writes."""
    seen: list[object] = []
    catalog = app.services.store.catalog
    once = catalog.write

    def write(work: object) -> object:
        seen.append(work)
        return once(work)

    monkeypatch.setattr(catalog, "write", write)
    return seen


def test_objects_of_many_parts_go_some_at_a_time(
    app: Application, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"k{number}" for number in range(5)]
    for key in keys:
        upload_id = s3.start_upload(f"/bucket/{key}")
        s3.complete(f"/bucket/{key}", upload_id, {1: s3.put_part(f"/bucket/{key}", upload_id, 1, b"part")})
    monkeypatch.setattr(write, "PARTS_AT_ONCE", 2)
    seen = transactions(app, monkeypatch)
    answer = delete_many(s3, [*keys, "missing"])
    assert answer.texts("Deleted/Key") == [*keys, "missing"]
    assert len(seen) == 3
    assert s3.keys("bucket") == []
    with app.services.store.catalog.read() as tx:
        assert tx.reference_faults(limit=9) == []
