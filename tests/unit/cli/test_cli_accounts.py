"""`s3lite user`, `s3lite key`, and what all commands share."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from s3lite import __version__
from s3lite.catalog.base import CatalogBusyError
from s3lite.cli.base import printable
from s3lite.cli.main import cli


def emitted(run, *arguments: str):
    return json.loads(run(*arguments, "--json").stdout)


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


# ---------------------------------------------------------------- common


def test_the_module_runs_as_a_program():
    program = [sys.executable, "-m", "s3lite", "--version"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"s3lite {__version__}\n"


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_help_and_the_shared_options(path, run):
    text = run(*path, "--help").stdout
    assert "--json" in text
    assert "--config FILE" in text
    first = text.split("\n\n")[1].strip()
    assert first[0].isupper()
    assert first.endswith((".", ":"))


def test_bad_settings_are_printed_as_they_are(run, monkeypatch):
    monkeypatch.setenv("S3LITE_NONSENSE", "1")
    result = run("user", "list", exit_code=2)
    assert result.stderr.startswith("s3lite cannot start with these settings:\n  S3LITE_NONSENSE")
    assert result.stdout == ""


def test_the_settings_file_can_be_named_before_and_behind_the_command(run, tmp_path, monkeypatch):
    monkeypatch.delenv("S3LITE_DATA_DIR")
    config = tmp_path / "other.toml"
    config.write_text(f'data_dir = "{tmp_path}/elsewhere"\n')
    run("--config", str(config), "user", "list")
    assert (tmp_path / "elsewhere" / "index.db").is_file()
    assert emitted(run, "user", "list", "--config", str(config))[0]["id"] == "root"
    assert "does not exist" in run("--config", "absent.toml", "user", "list", exit_code=2).stderr


def test_first_use_makes_the_installation_and_says_where(run, environment, monkeypatch):
    monkeypatch.delenv("S3LITE_ACCESS_KEY")
    monkeypatch.delenv("S3LITE_SECRET_KEY")
    result = run("user", "list", "--json")
    assert f"New installation in {environment}" in result.stderr
    assert json.loads(result.stdout)[0]["is_root"] is True
    assert run("user", "list").stderr == ""


def test_a_data_directory_that_cannot_be_used_is_exit_code_2(run, environment):
    environment.write_text("a file")
    assert "File exists" in run("user", "list", exit_code=2).stderr


def test_a_busy_index_is_exit_code_2(run, data_dir, monkeypatch):
    def busy(self, work):
        raise CatalogBusyError

    monkeypatch.setattr("s3lite.catalog.sqlite.SqliteCatalog.write", busy)
    assert "Try again" in run("user", "add", "alice", exit_code=2).stderr


def test_characters_that_act_on_a_terminal_are_shown_escaped():
    assert printable("\x1b[31mré\u202e\n") == "\\x1b[31mré\\u202e\\n"


# ---------------------------------------------------------------- users


def test_user_add_prints_the_key_once(run, data_dir):
    made = emitted(run, "user", "add", "alice", "--display-name", "Alice Ä", "--email", "alice@example.org")
    assert made.keys() == {"user", "access_key", "secret_key", "display_name", "email"}
    assert made["secret_key"] not in run("key", "list").output + run("user", "list", "--json").output
    alice, root = emitted(run, "user", "list")
    assert alice["access_keys"] == [made["access_key"]]
    assert (alice["display_name"], alice["email"], alice["is_root"]) == (
        "Alice Ä",
        "alice@example.org",
        False,
    )
    assert root["id"] == "root"


def test_user_add_takes_a_tenant_and_given_keys(run, data_dir, store):
    text = run("user", "add", "acme$bob", "--access-key", "yly", "--secret-key", "yly").stdout
    assert "access key  yly" in text
    assert "(shown once)" in text
    with store.catalog.read() as tx:
        key = tx.access_key("yly")
    assert (key.secret_key, key.account.id, key.account.display_name) == ("yly", "acme$bob", "acme$bob")
    assert key.webhook_secret.startswith("whsec_")
    assert key.callback == "inline"


def test_user_add_refuses_what_is_taken(run, data_dir):
    run("user", "add", "a$b", "--access-key", "AKA", "--email", "a@b")
    assert "s3lite key add 'a$b'" in run("user", "add", "a$b", exit_code=1).stderr
    assert "in use by a$b" in run("user", "add", "c", "--access-key", "AKA", exit_code=1).stderr
    assert "that of a$b" in run("user", "add", "c", "--email", "a@b", exit_code=1).stderr
    assert "exists" in run("user", "add", "root", exit_code=1).stderr
    assert [user["id"] for user in emitted(run, "user", "list")] == ["a$b", "root"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("a b",),
        ("a/b",),
        ('a"b',),
        ("a,b",),
        ("$a",),
        ("a$",),
        ("a$b$c",),
        ("",),
        ("x" * 129,),
        ("a", "--access-key", "a/b"),
        ("a", "--access-key", "a:b"),
        ("a", "--access-key", "ab"),
        ("a", "--secret-key", "with space"),
        ("a", "--email", "nobody"),
        ("a", "--display-name", "two\nlines"),
        (),
        ("a", "b"),
        ("a", "--unknown"),
    ],
)
def test_user_add_refuses_what_cannot_be_used(run, data_dir, arguments):
    assert "Usage: s3lite user add" in run("user", "add", *arguments, exit_code=2).stderr


def test_user_remove_takes_the_keys_along(run, data_dir):
    run("user", "add", "alice", "--access-key", "AKA")
    assert "Removed alice" in run("user", "remove", "alice").stdout
    assert [key["user"] for key in emitted(run, "key", "list")] == ["root"]
    assert "no user alice" in run("user", "remove", "alice", exit_code=1).stderr


def test_user_remove_refuses_owners_and_root(run, store, objects):
    run("user", "add", "alice", "--access-key", "AKA")
    acl = objects.bucket.acl
    store.catalog.write(
        lambda tx: tx.create_bucket(name="hers", owner_id="alice", region="r", acl=acl, created_ms=0)
    )
    refusal = run("user", "remove", "alice", exit_code=1).stderr
    assert "owns buckets: hers" in refusal
    assert "key disable" in refusal
    assert "root user cannot" in run("user", "remove", "root", exit_code=1).stderr
    assert emitted(run, "key", "list", "alice")


# ---------------------------------------------------------------- keys


def test_keys_are_added_and_listed(run, data_dir):
    run("user", "add", "alice", "--access-key", "AK1")
    added = emitted(run, "key", "add", "alice", "--access-key", "AK2", "--callback", "off")
    assert added["user"] == "alice"
    one, two = emitted(run, "key", "list", "alice")
    assert (one["access_key"], one["callback"], one["enabled"]) == ("AK1", "inline", True)
    assert (two["access_key"], two["callback"]) == ("AK2", "off")
    table = run("key", "list").stdout
    assert "ACCESS KEY" in table
    assert "root-key" in table
    assert added["secret_key"] not in table
    assert "no user bob" in run("key", "add", "bob", exit_code=1).stderr
    assert "no user bob" in run("key", "list", "bob", exit_code=1).stderr
    assert "in use" in run("key", "add", "alice", "--access-key", "AK1", exit_code=1).stderr


def test_keys_are_disabled_enabled_updated_and_removed(run, data_dir):
    run("user", "add", "alice", "--access-key", "AKA", "--secret-key", "kept")
    assert run("key", "disable", "AKA").stdout == "AKA is disabled; callbacks: inline.\n"
    assert emitted(run, "key", "list", "alice")[0]["enabled"] is False
    assert emitted(run, "key", "enable", "AKA")["enabled"] is True
    assert emitted(run, "key", "update", "AKA", "--callback", "policy-only")["callback"] == "policy-only"
    assert emitted(run, "key", "remove", "AKA") == {"removed": "AKA"}
    for command in ("disable", "enable", "remove", "webhook-secret"):
        assert "s3lite key list" in run("key", command, "AKA", exit_code=1).stderr
    assert "Say what to change" in run("key", "update", "AKA", exit_code=2).stderr


def test_a_changed_key_keeps_its_secrets(run, store):
    run("user", "add", "alice", "--access-key", "AKA", "--secret-key", "kept")
    secret = run("key", "webhook-secret", "AKA").stdout.strip()
    run("key", "update", "AKA", "--callback", "off")
    with store.catalog.read() as tx:
        key = tx.access_key("AKA")
    assert (key.secret_key, key.webhook_secret) == ("kept", secret)


def test_the_root_credential_stays(run, data_dir):
    for command in ("disable", "remove"):
        assert "S3LITE_ACCESS_KEY" in run("key", command, "root-key", exit_code=1).stderr
    run("key", "add", "root", "--access-key", "second")
    run("key", "remove", "second")


def test_the_webhook_secret_is_printed_alone(run, data_dir):
    secret = run("key", "webhook-secret", "root-key").stdout
    assert secret.startswith("whsec_")
    assert secret.count("\n") == 1
    assert emitted(run, "key", "webhook-secret", "root-key") == {
        "access_key": "root-key",
        "webhook_secrets": [secret.strip()],
    }


# ---------------------------------------------------------------- policies of keys

POLICY = {"Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}


@pytest.fixture
def policy_file(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(POLICY))
    return str(path)


def test_a_key_gets_a_policy_when_it_is_made(run, data_dir, policy_file):
    for made in (
        emitted(run, "user", "add", "alice", "--policy", policy_file),
        emitted(run, "key", "add", "alice", "--policy", policy_file),
    ):
        assert emitted(run, "key", "policy", "get", made["access_key"])["policy"] == POLICY
    assert [each["has_policy"] for each in emitted(run, "key", "list", "alice")] == [True, True]


def test_a_policy_is_set_and_removed(run, data_dir, policy_file):
    key = emitted(run, "user", "add", "alice")["access_key"]
    assert "may do all" in run("key", "policy", "get", key, exit_code=1).stderr
    run("key", "policy", "set", key, policy_file)
    assert json.loads(run("key", "policy", "get", key).stdout) == POLICY
    run("key", "disable", key)  # a change of something else keeps it
    assert emitted(run, "key", "policy", "get", key)["policy"] == POLICY
    assert emitted(run, "key", "policy", "remove", key)["policy"] is None
    run("key", "policy", "get", key, exit_code=1)


def test_a_policy_that_is_wrong_is_refused_with_its_reason(run, data_dir, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text('{"Statement": {"Effect": "Allow", "Action": "s3:GetObjects", "Resource": "*"}}')
    result = run("user", "add", "alice", "--policy", str(path), exit_code=2)
    assert "did you mean s3:GetObject?" in result.stderr
    assert "alice" not in run("user", "list").stdout


def test_the_root_credential_takes_no_policy(run, data_dir, policy_file):
    assert (
        "is the root credential" in run("key", "policy", "set", "root-key", policy_file, exit_code=1).stderr
    )


# ---------------------------------------------------------------- rates of keys


def test_a_key_gets_a_rate_of_its_own_and_loses_it(run, data_dir):
    key = emitted(run, "user", "add", "alice")["access_key"]
    assert emitted(run, "key", "list", "alice")[0]["rate"] is None
    run("key", "update", key, "--requests-per-s", "50", "--burst", "200")
    rate = emitted(run, "key", "update", key, "--bytes-per-s", "1000")["rate"]
    assert rate == {"requests_per_s": 50.0, "burst": 200, "bytes_per_s": 1000}
    run("key", "disable", key)
    assert emitted(run, "key", "update", key, "--callback", "off")["rate"] == rate
    assert emitted(run, "key", "update", key, "--default-rate")["rate"] is None


@pytest.mark.parametrize(
    "words", [(), ("--default-rate", "--burst", "1"), ("--burst", "-1"), ("--requests-per-s", "fast")]
)
def test_rates_that_are_none(run, data_dir, words):
    run("key", "update", "root-key", *words, exit_code=2)
