"""Make a fixture of today's layout: a small installation with something in every table.

    PYTHONPATH=.:tests python tests/vectors/layouts/make.py NAME

For a release that changed the index or what lies beside it. What is there is never made anew: it is what
installations of that release look like. `tests/unit/storage/test_layouts.py` opens each with the program as it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from client import S3

from s3lite.app import create_app
from s3lite.model import AccessKey, Account, Rate
from s3lite.settings import CallbackSettings, NotificationSettings, OutboxSettings, Settings
from s3lite.testing import throw_away_settings

HERE = Path(__file__).resolve().parent
KEPT = ("secret.key", "keyring.json", "blobs")
NOBODY = "http://127.0.0.1:8009/told"  # never asked: what is owed to it stays in the outbox


def settings_of(directory: Path) -> Settings:
    """Settings under which fixtures are made and opened."""
    plain = throw_away_settings(directory)
    return replace(
        plain,
        storage=replace(plain.storage, inline_bytes=64),
        limits=replace(plain.limits, part_min_bytes=1),
        callback=CallbackSettings(allow=("127.0.0.1",)),
        notifications=NotificationSettings(targets=(("told", NOBODY),)),
        outbox=OutboxSettings(enabled=False, log_body_bytes=100),
    )


def fill(s3: S3) -> None:
    """Something of everything that is kept."""
    for bucket in ("plain", "versioned", "logs"):
        assert s3.put(f"/{bucket}").status == 200
    assert s3.put("/locked", headers={"x-amz-bucket-object-lock-enabled": "true"}).status == 200
    s3.put("/versioned?versioning", _xml("VersioningConfiguration", "<Status>Enabled</Status>"))
    rule = "<CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule>"
    s3.put("/plain?cors", _xml("CORSConfiguration", rule))
    told = "<Queue>arn:s3lite:sqs:::told</Queue><Event>s3:ObjectCreated:*</Event>"
    s3.put(
        "/plain?notification",
        _xml("NotificationConfiguration", _tag("QueueConfiguration", told)),
        {"x-amz-skip-destination-validation": "true"},
    )
    logged = (
        "<LoggingEnabled><TargetBucket>logs</TargetBucket><TargetPrefix>p/</TargetPrefix></LoggingEnabled>"
    )
    s3.put("/plain?logging", _xml("BucketLoggingStatus", logged))
    head = {"x-amz-meta-name": "value", "Content-Type": "text/x", "x-amz-tagging": "a=b"}
    answer = s3.put("/plain/inline", b"small", head)
    assert answer.status == 200, answer
    s3.put("/plain/empty", b"")
    s3.put("/plain/dir/ü+%00\u2028", b"file" * 100, {"x-amz-checksum-sha256": _sha256(b"file" * 100)})
    for number in range(3):
        s3.put("/versioned/key", b"version %d" % number * 20)
    s3.delete("/versioned/key")
    locked = {
        "x-amz-object-lock-mode": "GOVERNANCE",
        "x-amz-object-lock-retain-until-date": "2099-01-01T00:00:00Z",
    }
    assert s3.put("/locked/key", b"kept" * 30, locked | {"x-amz-object-lock-legal-hold": "ON"}).status == 200
    assert s3.put("/plain/sealed", b"sealed" * 40, {"x-amz-server-side-encryption": "AES256"}).status == 200
    s3.put("/plain/noted", b"x")
    assert s3.put("/plain/noted?annotation&annotationName=labels", b'{"cat": 1}' * 20).status == 200
    for key, complete in (("parts", True), ("open", False)):
        upload = s3.start_upload(f"/plain/{key}", {"x-amz-meta-a": "b"})
        etags = {
            number: s3.put_part(f"/plain/{key}", upload, number, b"%d" % number * 90) for number in (1, 3)
        }
        if complete:
            assert s3.complete(f"/plain/{key}", upload, etags).status == 200
    assert s3.put("/plain/copy", headers={"x-amz-copy-source": "/plain/parts"}).status == 200
    s3.put("/plain/replaced", b"old" * 50)
    s3.put("/plain/replaced", b"new" * 50)  # leaves garbage


def tell(s3: S3) -> dict[str, object]:
    """What clients see of it."""
    seen: dict[str, object] = {}
    for bucket in s3.get("/").texts("Buckets/Bucket/Name"):
        listed = s3.get(f"/{bucket}?versions")
        for entry in listed.xml.iter("Version", "DeleteMarker"):
            key, version = entry.findtext("Key") or "", entry.findtext("VersionId") or ""
            name = f"{bucket}/{key}?{version}"
            if entry.tag == "DeleteMarker":
                seen[name] = "delete marker"
                continue
            got = s3.get(f"/{bucket}/{key}?versionId={version}")
            assert got.status == 200, got
            kept = {
                header.lower(): value
                for header, value in got.headers.items()
                if header.lower().startswith(("etag", "last-modified", "content-type", "x-amz-"))
            }
            for changing in ("x-amz-request-id", "x-amz-id-2"):
                kept.pop(changing, None)
            seen[name] = [hashlib.sha256(got.body).hexdigest(), dict(sorted(kept.items()))]
        for upload in s3.get(f"/{bucket}?uploads").xml.iter("Upload"):
            key, upload_id = upload.findtext("Key"), upload.findtext("UploadId")
            seen[f"{bucket}/{key} is open"] = s3.get(f"/{bucket}/{key}?uploadId={upload_id}").texts(
                "Part/ETag"
            )
        for name in ("cors", "notification", "logging", "versioning", "object-lock"):
            answer = s3.get(f"/{bucket}?{name}")
            told = [answer.status, *(element.text for element in answer.xml.iter() if element.text)]
            seen[f"{bucket}?{name}"] = told if answer.status == 200 else answer.status
    seen["annotation"] = s3.get("/plain/noted?annotation&annotationName=labels").body.decode()
    return seen


def dump(database: Path, script: Path) -> None:
    """An index as SQL, its version included."""
    connection = sqlite3.connect(database)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    lines = [*connection.iterdump(), f"PRAGMA user_version = {version};"]
    connection.close()
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(name: str) -> None:
    """Write the fixture ``name``."""
    target = HERE / name
    target.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        app = create_app(settings_of(data))
        account = Account("alice", "Alice", "alice@example.com")
        key = AccessKey("alice-key", "alice-secret", account, policy="", rate=Rate(1e6, 9000, 0.0))

        def people(tx):
            tx.put_account(account)
            tx.put_access_key(key)
            tx.put_account_quota("alice", max_bytes=1 << 20, max_objects=None)

        app.services.store.catalog.write(people)
        s3 = S3(app, "alice-key", "alice-secret")
        fill(s3)
        (target / "expected.json").write_text(json.dumps(tell(s3), indent=1, ensure_ascii=False) + "\n")
        app.close()
        dump(data / "index.db", target / "index.sql")
        for each in KEPT:
            if (data / each).is_dir():
                shutil.copytree(data / each, target / each)
            else:
                shutil.copy(data / each, target / each)


def _tag(name: str, inner: str) -> str:
    return f"<{name}>{inner}</{name}>"


def _xml(name: str, inner: str) -> bytes:
    return _tag(name, inner).encode()


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


if __name__ == "__main__":
    main(sys.argv[1])
