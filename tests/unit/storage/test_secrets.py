"""Secrets at rest."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from s3lite.catalog.secrets import SecretBox, SecretsError


def test_the_key_file_is_made_once_and_private(tmp_path):
    path = tmp_path / "data" / "secret.key"
    sealed = SecretBox.load(path).seal(b"secret", context="a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SecretBox.load(path).open(sealed, context="a") == b"secret"
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]


def test_racing_processes_agree_on_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        boxes = list(pool.map(lambda _: SecretBox.load(tmp_path / "secret.key"), range(32)))
    sealed = boxes[0].seal(b"x", context="a")
    assert {box.open(sealed, context="a") for box in boxes} == {b"x"}


def test_sealed_bytes_differ_and_hide_the_secret():
    box = SecretBox(b"k" * 32)
    first, second = box.seal(b"secret", context="a"), box.seal(b"secret", context="a")
    assert first != second
    assert b"secret" not in first + second


@pytest.mark.parametrize("context", ["a", "b"])
def test_another_key_context_or_byte_does_not_open(context):
    box = SecretBox(b"k" * 32)
    sealed = box.seal(b"secret", context="a")
    with pytest.raises(SecretsError):
        SecretBox(b"x" * 32).open(sealed, context=context)
    with pytest.raises(SecretsError):
        box.open(sealed, context="b")
    for position in (0, 5, len(sealed) - 1):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises(SecretsError):
            box.open(bytes(damaged), context="a")
    with pytest.raises(SecretsError):
        box.open(b"", context="a")


def test_the_memory_of_opened_values_is_bounded(monkeypatch):
    monkeypatch.setattr("s3lite.catalog.secrets._CACHE_ENTRIES", 3)
    box = SecretBox(b"k" * 32)
    for number in range(20):
        sealed = box.seal(b"%d" % number, context="a")
        assert box.open(sealed, context="a") == box.open(sealed, context="a") == b"%d" % number
    assert len(box._opened) <= 3


@pytest.mark.parametrize("text", ["", "zz", "00" * 31])
def test_a_damaged_key_file_is_refused(tmp_path, text):
    path = tmp_path / "secret.key"
    path.write_text(text)
    with pytest.raises(SecretsError, match="key file"):
        SecretBox.load(path)
