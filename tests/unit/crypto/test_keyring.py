"""The keyring file: names, generations, and changes seen by whoever has it open."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from s3lite.crypto.keyring import SSE_S3, Keyring, KeyringError, UnknownKeyError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "keyring.json"


def keyring(path: Path) -> Keyring:
    return Keyring(path, now=lambda: "2026-01-01T00:00:00Z")


def test_a_keyring_without_a_file_is_empty(path: Path) -> None:
    ring = keyring(path)
    assert (ring.id, ring.names()) == ("", [])
    with pytest.raises(UnknownKeyError):
        ring.current(SSE_S3)
    assert not path.exists()


def test_the_file_is_for_its_owner_alone_and_nothing_is_left_beside_it(path: Path) -> None:
    keyring(path).add("one")
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(path.parent)) == ["keyring.json", "keyring.json.lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_directorys_owner(path: Path) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 12345, 12345)
    ring = keyring(path)
    ring.add("one")
    ring.rotate("one")
    assert {file.stat().st_uid for file in path.parent.iterdir()} == {12345}


def test_a_file_that_cannot_be_read_is_a_fault_of_the_keyring(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(KeyringError, match="Is a directory"):
        keyring(path).names()


def test_another_process_sees_keys_at_once(path: Path) -> None:
    server, operator = keyring(path), keyring(path)
    operator.ensure(SSE_S3)
    first = server.current(SSE_S3)
    operator.rotate(SSE_S3)
    second = server.current(SSE_S3)
    assert first.ref != second.ref
    assert first.secret != second.secret
    assert server.secret(first.ref) == first.secret  # earlier generations open
    operator.rotate(SSE_S3)
    newest = operator.current(SSE_S3)
    assert server.secret(newest.ref) == newest.secret  # met before it was looked for


def test_a_key_of_the_same_name_in_another_file_is_another_key(path: Path, tmp_path: Path) -> None:
    ring, other = keyring(path), keyring(tmp_path / "other.json")
    for each in (ring, other):
        each.add("one")
    with pytest.raises(UnknownKeyError):
        other.secret(ring.current("one").ref)
    assert ring.id != other.id


@pytest.mark.parametrize(
    "wanted",
    [
        "payroll", "alias/salaries", "arn:aws:kms:eu-west-1:123456789012:key/payroll",
        "arn:aws:kms:us-east-1:alice:alias/salaries", "arn:aws-cn:kms:::key/payroll",
    ],
)  # fmt: skip
def test_names_aliases_and_arns_mean_the_key(path: Path, wanted: str) -> None:
    ring = keyring(path)
    ring.add("payroll", ("salaries",))
    assert ring.resolve(wanted) == "payroll"


@pytest.mark.parametrize("wanted", ["", "salaries", "alias/payroll", SSE_S3, "arn:aws:s3:::key/payroll"])
def test_what_means_no_key_is_unknown(path: Path, wanted: str) -> None:
    ring = keyring(path)
    ring.add("payroll", ("salaries",))
    ring.ensure(SSE_S3)
    with pytest.raises(UnknownKeyError):
        ring.resolve(wanted)


def test_the_key_of_kms_without_a_name_has_its_alias_from_the_start(path: Path) -> None:
    ring = keyring(path)
    ring.add("aws/s3")
    assert ring.resolve("alias/aws/s3") == "aws/s3"


@pytest.mark.parametrize("name", ["", "a b", "#x", "alias/x", "é", "x" * 257, "../x", "a\n"])
def test_names_that_are_none_are_refused(path: Path, name: str) -> None:
    with pytest.raises(KeyringError):
        keyring(path).add(name)


@pytest.mark.parametrize(
    ("name", "aliases"), [("one", ()), ("uno", ()), ("two", ("one",)), ("two", ("uno",))]
)
def test_a_taken_name_is_refused(path: Path, name: str, aliases: tuple[str, ...]) -> None:
    ring = keyring(path)
    ring.add("one", ("uno",))
    with pytest.raises(KeyringError, match="has a key or an alias"):
        ring.add(name, aliases)


def test_many_at_once_make_one_key(path: Path) -> None:
    rings = [keyring(path) for _ in range(8)]
    threads = [threading.Thread(target=ring.ensure, args=(SSE_S3,)) for ring in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ring.current(SSE_S3).ref for ring in rings}) == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1, "id": "x", "keys": {"a": {}}}', "\xff"])
def test_a_file_that_is_no_keyring_is_said_to_be_none(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text, encoding="latin-1")
    with pytest.raises(KeyringError, match="not a keyring of s3lite"):
        keyring(path).names()


def test_a_later_format_is_refused(path: Path) -> None:
    keyring(path).add("one")
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"format": 2}))
    with pytest.raises(KeyringError, match="of format 2"):
        keyring(path).names()


def test_secrets_are_not_in_representations(path: Path) -> None:
    ring = keyring(path)
    made = ring.add("one")
    master = ring.current("one")
    shown = repr(made) + repr(master)
    assert master.secret.hex() not in shown
    assert repr(master.secret) not in shown
