"""Settings: defaults < file < environment, and every fault in one message."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from s3lite.settings import DEFAULT_FILE, Settings, SettingsError, load


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "s3lite.toml"
    file.write_text('region = "file"\n[callback]\ntimeout_s = 1.5\nallow = ["a"]\n')
    settings = load(file, {"S3LITE_REGION": "env", "S3LITE_CALLBACK_ALLOW": "10.0.0.0/8, hooks.internal"})
    assert settings.region == "env"
    assert settings.callback.timeout_s == 1.5
    assert settings.callback.allow == ("10.0.0.0/8", "hooks.internal")


def test_the_file_of_the_environment_is_read(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("threads = 5\n")
    assert load(environ={"S3LITE_CONFIG": str(file)}).threads == 5


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "s3lite.toml"
    file.write_text('colour = "red"\n[limits]\nparts = "many"\n')
    with pytest.raises(SettingsError) as caught:
        load(file, {"S3LITE_NOPE": "1", "S3LITE_DURABILITY": "maybe", "S3LITE_WORKERS": "-1"})
    message = str(caught.value)
    for name in ("colour", "limits.parts", "S3LITE_NOPE", "S3LITE_DURABILITY", "S3LITE_WORKERS"):
        assert name in message


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "[::]:8000", "10.0.0.1:80"])
def test_a_reachable_address_needs_a_chosen_credential(bind: str) -> None:
    with pytest.raises(SettingsError, match="choose a credential"):
        load(environ={"S3LITE_BIND": bind})
    chosen = {"S3LITE_BIND": bind, "S3LITE_ACCESS_KEY": "a", "S3LITE_SECRET_KEY": "b"}
    assert load(environ=chosen).bind == bind


def test_half_a_credential_is_refused() -> None:
    with pytest.raises(SettingsError, match="together"):
        load(environ={"S3LITE_ACCESS_KEY": "a"})


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "s3lite.toml"
    file.write_text("region = \n")
    with pytest.raises(SettingsError, match=re.escape(str(file))):
        load(file, {})


def test_the_shipped_file_names_every_setting_at_its_default() -> None:
    uncommented = re.sub(r"(?m)^# (\w+ = )", r"\1", DEFAULT_FILE.read_text())
    document = tomllib.loads(uncommented)
    assert load(DEFAULT_FILE, {}) == Settings()
    expected = {}
    default = Settings()
    for item in fields(Settings):
        value = getattr(default, item.name)
        if is_dataclass(value):
            expected[item.name] = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        else:
            expected[item.name] = _plain(value)
    assert document == expected


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
