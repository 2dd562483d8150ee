"""`s3lite keyring`: keys are made, listed, rotated, and missed when they are gone."""

from __future__ import annotations

import io
import json

import pytest

from s3lite.core import sealing, write
from s3lite.crypto.keyring import SSE_S3
from s3lite.model import Checksum, ObjectHead
from s3lite.wire import checksums
from s3lite.wire.conditions import WriteConditions
from s3lite.wire.encryption import AES256, KMS, Wanted


def put(objects, key: str, wanted: Wanted) -> None:
    """An encrypted object, without HTTP."""
    store, bucket = objects.store, objects.bucket
    envelope = sealing.prepare(store, wanted)
    assert envelope is not None
    digests = checksums.Digests({"CRC64NVME"})
    stored = write.receive(
        store,
        io.BytesIO(b"data" * 500),
        size=2000,
        digests=digests,
        verify=lambda received: None,
        key=envelope.key,
    )
    new = write.NewVersion(
        key=key,
        owner_id="root",
        head=ObjectHead(),
        acl=bucket.acl,
        size=2000,
        etag=digests.etag,
        checksum=Checksum("CRC64NVME", digests.value("CRC64NVME")),
        stored=stored,
        encryption=envelope.for_object(stored),
    )
    write.publish(store, bucket, new, WriteConditions())


def listed(run, **how) -> list[dict[str, object]]:
    return json.loads(run("keyring", "list", "--json", **how).stdout)


def test_keys_are_made_and_listed(data_dir, run):
    assert listed(run) == []
    made = json.loads(run("keyring", "add", "payroll", "--alias", "salaries", "--json").stdout)
    assert (made["key"], made["aliases"]) == ("payroll", ["salaries"])
    names = {row["key"]: row for row in listed(run)}
    assert set(names) == {SSE_S3, "payroll"}
    assert names["payroll"] == {
        "key": "payroll", "aliases": ["salaries"], "generation": made["generation"],
        "created": names["payroll"]["created"], "seals": True, "objects": 0,
    }  # fmt: skip
    assert "payroll" in run("keyring", "list").stdout
    assert (data_dir / "keyring.json").stat().st_mode & 0o777 == 0o600


def test_no_secret_is_ever_printed(data_dir, run):
    printed = "".join(
        run(*line.split()).output
        for line in ("keyring add one", "keyring rotate one", "keyring list", "keyring list --json")
    )
    document = json.loads((data_dir / "keyring.json").read_text())
    secrets = [each["secret"] for key in document["keys"].values() for each in key["generations"]]
    assert len(secrets) == 3
    assert not [secret for secret in secrets if secret in printed]


def test_a_key_without_a_name_gets_one(data_dir, run):
    name = json.loads(run("keyring", "add", "--json").stdout)["key"]
    assert name in {row["key"] for row in listed(run)}


@pytest.mark.parametrize(
    "line", ["add payroll", "add other --alias payroll", "add a:b", "rotate nobody", "rekey nobody"]
)
def test_what_cannot_be_done_is_refused(data_dir, run, line):
    run("keyring", "add", "payroll")
    assert "Error:" in run("keyring", *line.split(), exit_code=1).stderr


def test_rotate_seals_all_objects_of_the_key_anew(objects, run):
    objects.store.keyring.add("payroll")
    for number in range(3):
        put(objects, f"kms{number}", Wanted(KMS, "payroll"))
    put(objects, "s3", Wanted(AES256))
    done = json.loads(run("keyring", "rotate", "payroll", "--json").stdout)
    assert (done["sealed"], done["failed"]) == (3, [])
    counts = [(row["key"], row["seals"], row["objects"]) for row in listed(run)]
    assert counts == [("payroll", False, 0), ("payroll", True, 3), (SSE_S3, True, 1)]
    assert json.loads(run("keyring", "rekey", "payroll", "--json").stdout)["sealed"] == 0
    assert run("check", "--deep").stdout.strip().endswith("clean")


def test_rekey_finishes_what_was_interrupted(objects, run):
    put(objects, "s3", Wanted(AES256))
    objects.store.keyring.rotate(SSE_S3)
    assert "1 objects and uploads" in run("keyring", "rekey", SSE_S3).stdout


def test_what_lacks_its_key_is_named(objects, run):
    put(objects, "s3", Wanted(AES256))
    path = objects.store.keyring.path
    kept = path.read_bytes()
    path.unlink()
    result = run("keyring", "list", exit_code=1)
    assert "is missing" in result.stderr
    assert "1 objects need sse-s3#" in result.stderr
    for line in ("add payroll", f"rotate {SSE_S3}", f"rekey {SSE_S3}"):
        assert "s3lite keyring adopt" in run("keyring", *line.split(), exit_code=1).stderr
    fault = json.loads(run("check", "--deep", "--json", exit_code=1).stdout)["faults"][0]
    assert (fault["kind"], fault["subject"]) == ("key", "bucket/s3")
    path.write_bytes(kept)
    assert listed(run)[0]["objects"] == 1


def test_another_keyring_is_adopted_when_the_first_is_gone_for_good(objects, run):
    put(objects, "s3", Wanted(AES256))
    objects.store.keyring.path.unlink()
    run("keyring", "adopt")
    run("keyring", "add", "payroll")
    put(objects, "new", Wanted(AES256))
    assert "1 objects need sse-s3#" in run("keyring", "list", exit_code=1).stderr
