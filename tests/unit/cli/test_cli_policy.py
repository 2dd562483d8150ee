"""`s3lite callback policy`: set, list, show, remove, right."""

from __future__ import annotations

import json

import pytest

from s3lite.callback import policies

SET = ("callback", "policy", "set", "bucket")
HOOK = ("--url", "http://127.0.0.1:9000/hook", "--body", "key=${object}")


@pytest.fixture(autouse=True)
def allowed(monkeypatch, store):
    monkeypatch.setenv("S3LITE_CALLBACK_ALLOW", "127.0.0.1")


def configuration(store):
    with store.catalog.read() as tx:
        bucket = tx.bucket("bucket")
        document = tx.bucket_config(bucket.id, policies.CONFIG)
    assert (document is not None) == (policies.CONFIG in bucket.configs)
    return policies.stored(document) if document else policies.NOTHING


def test_a_policy_as_it_is_set(run, store):
    run(
        *(
            *SET,
            "scan",
            *HOOK,
            "--prefix",
            "in/",
            "--suffix",
            ".jpg",
            "--applies",
            "always",
            "--mode",
            "gate",
        ),
        *("--operation", "PostObject", "--operation", "PutObject", "--reply", "standard", "--var", "x:a=1=2"),
    )
    (made,) = configuration(store).policies
    assert (made.name, made.prefix, made.suffix, made.applies) == ("scan", "in/", ".jpg", "always")
    assert (made.operations, made.variables) == (("PutObject", "PostObject"), {"x:a": "1=2"})
    assert (made.spec.is_gate, made.spec.reply) == (True, "standard")


def test_a_name_is_replaced_and_others_stay(run, store):
    for name in ("a", "b", "a"):
        run(*SET, name, *HOOK)
    assert [each.name for each in configuration(store).policies] == ["b", "a"]
    rows = json.loads(run("callback", "policy", "list", "bucket", "--json").stdout)
    assert [row["name"] for row in rows] == ["b", "a"]
    assert "http://127.0.0.1:9000/hook" in run("callback", "policy", "list", "bucket").stdout


def test_removing_the_last_leaves_no_document(run, store):
    run(*SET, "a", *HOOK)
    run("callback", "policy", "remove", "bucket", "a")
    assert configuration(store) == policies.NOTHING
    assert "no policy a" in run("callback", "policy", "remove", "bucket", "a", exit_code=1).stderr


def test_the_right_of_a_bucket(run, store):
    run("callback", "policy", "right", "bucket", "policy-only")
    assert configuration(store).right == "policy-only"
    run("callback", "policy", "right", "bucket", "inline")
    assert configuration(store) == policies.NOTHING


def test_show_prints_what_can_be_put_and_the_secrets(run, store):
    run(*SET, "a", *HOOK)
    document = json.loads(run("callback", "policy", "show", "bucket").stdout)
    assert policies.parse(json.dumps(document).encode(), max_policies=9) == configuration(store)
    assert all(secret.startswith("whsec_") for secret in document["webhookSecrets"])


REFUSED = [
    (("a b", *HOOK), "needs a name"),
    (("a", "--url", "http://10.0.0.1/", "--body", "x"), "Private address is forbidden"),
    (("a", "--url", "http://127.0.0.1:9000", "--body", "${nope}"), "Unknown callback variable: nope."),
    (("a", *HOOK, "--mode", "later"), "callbackMode"),
    (("a", *HOOK, "--var", "y=1"), "names begin with x:"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_a_server_refuses_is_refused_here(run, store, words, message):
    assert message in run(*SET, *words, exit_code=1).stderr
    assert configuration(store) == policies.NOTHING


def test_mistakes_in_the_words(run, store):
    run(*SET, "a", *HOOK, "--var", "novalue", exit_code=2)
    assert "no bucket nope" in run("callback", "policy", "list", "nope", exit_code=1).stderr


def test_there_is_a_limit(run, store, monkeypatch):
    monkeypatch.setenv("S3LITE_CALLBACK_POLICIES", "1")
    run(*SET, "a", *HOOK)
    run(*SET, "a", *HOOK)
    assert "as many as callback.policies allows" in run(*SET, "b", *HOOK, exit_code=1).stderr
