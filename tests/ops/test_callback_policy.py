"""Callbacks that the server knows: their document, which upload has which, and who may bring another."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import forms
import pytest
from callbacks import CONTENT, encode, headers
from client import S3, Answer

from s3lite.app import Application
from s3lite.callback.listen import Answer as Reply
from s3lite.callback.listen import Receiver


@pytest.fixture
def hook(app: Application, s3: S3, receiver: Receiver) -> Receiver:
    """A receiver that holds the secret of ``bucket``, and knows no key's."""
    with app.services.store.catalog.read() as tx:
        bucket = tx.bucket("bucket")
    receiver._secrets = app.services.callback_keys.bucket_secrets(bucket.id)
    return receiver


def policy(hook: Receiver, name: str = "p", target: str = "/", **more: Any) -> dict[str, Any]:
    callback = {"callbackUrl": hook.url(target), "callbackBody": "key=${object}&op=${operation}&v=${x:v}"}
    return {"name": name, "callback": callback | more.pop("callback", {})} | more


def put(s3: S3, *policies: dict[str, Any], **more: Any) -> Answer:
    return s3.put("/bucket?callback", json.dumps({"policies": policies, **more}).encode())


def configure(s3: S3, *policies: dict[str, Any], **more: Any) -> None:
    answer = put(s3, *policies, **more)
    assert answer.status == 204, answer


def bodies(hook: Receiver) -> list[str]:
    return [got.body.decode() for got in hook.requests]


def named(name: str, **variables: str) -> dict[str, str]:
    sent = {"x-amz-meta-callback": encode({"callbackPolicy": name})}
    return sent | ({"x-amz-meta-callback-var": encode(variables)} if variables else {})


def restrict(app: Application, right: str) -> None:
    def work(tx):
        tx.put_access_key(replace(tx.access_key("alice-key"), callback=right))

    app.services.store.catalog.write(work)


# ---------------------------------------------------------------- the document


def test_what_is_put_is_shown_every_field_spelt_out_and_may_be_put_again(s3: S3, hook: Receiver) -> None:
    assert s3.get("/bucket?callback").code == "NoSuchCallbackConfiguration"
    configure(s3, policy(hook, prefix="in/", variables={"x:v": "1"}), right="policy-only")
    answer = s3.get("/bucket?callback")
    shown = json.loads(answer.body)
    assert (shown["right"], shown["policies"][0]["applies"]) == ("policy-only", "named")
    assert shown["policies"][0]["variables"] == {"x:v": "1"}
    assert shown["webhookSecrets"] == hook._secrets
    assert answer.headers["Cache-Control"] == "no-store"
    assert s3.put("/bucket?callback", answer.body).status == 204
    assert s3.get("/bucket?callback").body == answer.body
    assert s3.delete("/bucket?callback").status == 204
    assert s3.get("/bucket?callback").status == 404


GOOD: dict[str, Any] = {"name": "p", "callback": {"callbackUrl": "http://a.example/", "callbackBody": "a"}}
REFUSED: list[tuple[Any, str, str]] = [
    (b"", "MalformedPolicy", "JSON object"),
    (b"[]", "MalformedPolicy", "JSON object"),
    (b'{"policies": NaN}', "MalformedPolicy", "JSON object"),
    ({"right": "all"}, "MalformedPolicy", "right must be one of"),
    ({"policy": []}, "MalformedPolicy", "unknown field: policy"),
    ({"policies": {}}, "MalformedPolicy", "a list of at most 100"),
    ({"policies": [GOOD | {"name": f"p{n}"} for n in range(101)]}, "MalformedPolicy", "at most 100"),
    ({"policies": [GOOD, GOOD]}, "MalformedPolicy", "Two policies are called p"),
    ({"policies": ["p"]}, "MalformedPolicy", "must be an object"),
    ({"policies": [GOOD | {"name": "a b"}]}, "MalformedPolicy", "needs a name"),
    ({"policies": [GOOD | {"prefixes": "a"}]}, "MalformedPolicy", "unknown field: prefixes"),
    ({"policies": [GOOD | {"applies": "never"}]}, "MalformedPolicy", "applies must be one of"),
    ({"policies": [GOOD | {"prefix": "x" * 1025}]}, "MalformedPolicy", "at most 1024 bytes"),
    ({"policies": [GOOD | {"suffix": 1}]}, "MalformedPolicy", "suffix must be a text"),
    ({"policies": [GOOD | {"operations": []}]}, "MalformedPolicy", "operations must name"),
    ({"policies": [GOOD | {"operations": ["GetObject"]}]}, "MalformedPolicy", "operations must name"),
    ({"policies": [GOOD | {"variables": {"v": "1"}}]}, "MalformedPolicy", "names begin with x:"),
    ({"policies": [{"name": "p"}]}, "MalformedPolicy", "needs a callback"),
    ({"policies": [{"name": "p", "callback": {}}]}, "InvalidArgument", "Policy p: The callback url"),
    (
        {"policies": [{"name": "p", "callback": {"callbackUrl": "http://10.0.0.1", "callbackBody": "a"}}]},
        "InvalidArgument",
        "Policy p: Private address is forbidden",
    ),
    (
        {"policies": [{"name": "p", "callback": {"callbackPolicy": "q"}}]},
        "InvalidArgument",
        "callbackPolicy does not exist",
    ),
    (
        {"policies": [{"name": "p", "callback": GOOD["callback"] | {"callbackBody": "${nope}"}}]},
        "InvalidArgument",
        "Unknown callback variable",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("document", "code", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_a_document_is_checked_as_strictly_as_a_request(
    s3: S3, document: Any, code: str, message: str
) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = s3.put("/bucket?callback", data)
    assert (answer.status, answer.code) == (400, code)
    assert message in answer.message
    assert s3.get("/bucket?callback").status == 404


def test_only_the_bucket_owner_configures_and_only_with_a_key_that_may_name_urls(
    app: Application, s3: S3, other: S3, hook: Receiver
) -> None:
    assert put(other, policy(hook)).code == "AccessDenied"
    assert other.get("/bucket?callback").code == "AccessDenied"
    restrict(app, "policy-only")
    assert put(s3, policy(hook)).code == "AccessDenied"


def test_a_bucket_policy_can_give_the_permission(s3: S3, other: S3, hook: Receiver) -> None:
    allow = {"Effect": "Allow", "Principal": {"AWS": ["bob"]}, "Resource": "arn:aws:s3:::bucket"}
    statement = allow | {"Action": ["s3:PutBucketCallback", "s3:GetBucketCallback"]}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
    assert s3.put("/bucket?policy", document).status == 204
    assert put(other, policy(hook)).status == 204
    assert other.get("/bucket?callback").status == 200


# ---------------------------------------------------------------- uploads that know nothing of callbacks


def upload_by_form(s3: S3, key: str, **extra: str) -> Answer:
    conditions: list[Any] = [{"bucket": "bucket"}, {"key": key}, *({n: v} for n, v in extra.items())]
    fields = {"key": key} | extra | forms.v4_fields("alice-key", "alice-secret", conditions)
    data = forms.body(list(fields.items()), CONTENT)
    return s3.request("POST", "/bucket", data, {"Content-Type": forms.CONTENT_TYPE}, signer="none")


def upload_in_parts(s3: S3, key: str, sent: dict[str, str] | None = None) -> Answer:
    upload_id = s3.start_upload(f"/bucket/{key}", sent)
    return s3.complete(f"/bucket/{key}", upload_id, {1: s3.put_part(f"/bucket/{key}", upload_id, 1, b"p")})


def test_every_way_to_upload_reports_and_is_answered_as_by_s3(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook, prefix="in/", suffix=".jpg", applies="default"))
    assert s3.put("/bucket/in/a.jpg", CONTENT).body == b""
    assert upload_by_form(s3, "in/b.jpg").status == 204
    assert upload_in_parts(s3, "in/c.jpg").xml.tag == "CompleteMultipartUploadResult"
    copied = s3.put("/bucket/in/d.jpg", headers={"x-amz-copy-source": "/bucket/in/a.jpg"})
    assert copied.xml.tag == "CopyObjectResult"
    assert copied.headers["x-s3lite-callback-status"] == "ok"
    for key in ("in/a.png", "out/a.jpg"):
        assert "x-s3lite-callback-id" not in s3.put(f"/bucket/{key}", CONTENT).headers
    operations = ["PutObject", "PostObject", "CompleteMultipartUpload", "CopyObject"]
    assert bodies(hook) == [
        f"key=in%2F{name}.jpg&op={operation}&v=" for name, operation in zip("abcd", operations, strict=True)
    ]
    assert {got.webhook for got in hook.requests} == {"valid"}


def test_anonymous_uploads_report_too(s3: S3, anonymous: S3, hook: Receiver) -> None:
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read-write"})
    configure(s3, policy(hook, applies="default"))
    assert anonymous.put("/bucket/key", CONTENT, {"Content-Length": "15"}).status == 200
    assert (bodies(hook), hook.requests[0].webhook) == (["key=key&op=PutObject&v="], "valid")


def test_operations_narrow_a_policy(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook, applies="default", operations=["CopyObject"]))
    s3.put("/bucket/a", CONTENT)
    s3.put("/bucket/b", headers={"x-amz-copy-source": "/bucket/a"})
    assert bodies(hook) == ["key=b&op=CopyObject&v="]


def test_the_longest_prefix_wins_then_the_longest_suffix(s3: S3, hook: Receiver) -> None:
    configure(
        s3,
        policy(hook, "all", "/all", applies="default"),
        policy(hook, "jpg", "/jpg", applies="default", prefix="in/", suffix=".jpg"),
        policy(hook, "in", "/in", applies="default", prefix="in/"),
        policy(hook, "deep", "/deep", applies="default", prefix="in/deep/"),
    )
    for key in ("a.jpg", "in/a.jpg", "in/a", "in/deep/a.jpg"):
        s3.put(f"/bucket/{key}", CONTENT)
    assert [got.target for got in hook.requests] == ["/all", "/jpg", "/in", "/deep"]


def test_a_repeated_complete_keeps_its_answer(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook, applies="default"))
    hook.script.append(Reply(b"", status=500))
    upload_id = s3.start_upload("/bucket/key")
    etags = {1: s3.put_part("/bucket/key", upload_id, 1, b"p")}
    statuses = [
        s3.complete("/bucket/key", upload_id, etags).headers["x-s3lite-callback-status"] for _ in range(3)
    ]
    assert statuses == ["failed", "ok", "ok"]
    assert len({got.headers["webhook-id"] for got in hook.requests}) == 1
    assert len(hook.requests) == 2


@pytest.mark.parametrize("mode", ["async", "sync-retry"])
def test_a_policy_may_deliver_later_and_is_signed_alike(s3: S3, hook: Receiver, mode: str) -> None:
    s3.put("/bucket/source", CONTENT)
    configure(s3, policy(hook, applies="default", callback={"callbackMode": mode}))
    assert s3.put("/bucket/key", CONTENT).status == 200
    assert s3.put("/bucket/copy", headers={"x-amz-copy-source": "/bucket/source"}).status == 200
    hook.wait(2)
    assert set(bodies(hook)) == {"key=key&op=PutObject&v=", "key=copy&op=CopyObject&v="}
    assert {got.webhook for got in hook.requests} == {"valid"}


# ---------------------------------------------------------------- by name


def test_a_request_names_a_policy_and_brings_variables(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook, "other"), policy(hook, prefix="k", variables={"x:w": "fixed"}))
    assert s3.put("/bucket/key", CONTENT, named("p", **{"x:v": "1 & 2", "x:w": "mine"})).status == 200
    assert bodies(hook) == ["key=key&op=PutObject&v=1%20%26%202"]
    s3.put("/bucket/key", CONTENT)
    assert len(hook.requests) == 1
    assert upload_in_parts(s3, "kept", named("p", **{"x:v": "3"})).status == 200
    assert upload_by_form(s3, "kform", callback=encode({"callbackPolicy": "p"})).status == 204
    assert bodies(hook)[1:] == ["key=kept&op=CompleteMultipartUpload&v=3", "key=kform&op=PostObject&v="]


def test_the_variables_of_a_policy_cannot_be_replaced(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook, variables={"x:v": "fixed"}))
    s3.put("/bucket/key", CONTENT, named("p", **{"x:v": "mine"}))
    assert bodies(hook) == ["key=key&op=PutObject&v=fixed"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"callbackPolicy": "nope"}, "The callbackPolicy does not exist."),
        ({"callbackPolicy": 5}, "The callbackPolicy does not exist."),
        ({"callbackPolicy": "p", "callbackReply": "standard"}, "callbackPolicy excludes callbackReply."),
        ({"callbackPolicy": "elsewhere"}, "This callbackPolicy is not for PutObject of this key."),
        ({"callbackPolicy": "copies"}, "This callbackPolicy is not for PutObject of this key."),
    ],
)
def test_names_that_do_not_fit_store_nothing(
    s3: S3, hook: Receiver, asked: dict[str, Any], message: str
) -> None:
    configure(
        s3,
        policy(hook),
        policy(hook, "elsewhere", prefix="x/"),
        policy(hook, "copies", operations=["CopyObject"]),
    )
    answer = s3.put("/bucket/key", CONTENT, {"x-amz-meta-callback": encode(asked)})
    assert (answer.status, answer.code, answer.message) == (400, "InvalidArgument", message)
    assert s3.head("/bucket/key").status == 404


def test_a_policy_that_has_gone_when_the_upload_completes(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook))
    upload_id = s3.start_upload("/bucket/key", named("p"))
    etags = {1: s3.put_part("/bucket/key", upload_id, 1, b"p")}
    s3.delete("/bucket?callback")
    assert s3.complete("/bucket/key", upload_id, etags).message == "The callbackPolicy does not exist."
    assert s3.get(f"/bucket/key?uploadId={upload_id}").status == 200


# ---------------------------------------------------------------- one callback an upload


def test_a_requests_own_callback_stands_in_for_a_default(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook, target="/default", applies="default"), policy(hook, "named", "/named"))
    s3.put("/bucket/key", CONTENT, headers(hook.url("/inline")))
    s3.put("/bucket/key", CONTENT, named("named"))
    assert [got.target for got in hook.requests] == ["/inline", "/named"]


def test_nothing_stands_in_for_one_that_applies_always(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook, target="/always", applies="always"), policy(hook, "named", "/named"))
    for sent in (headers(hook.url("/inline")), named("named")):
        answer = s3.put("/bucket/key", CONTENT, sent)
        assert (answer.status, answer.code) == (403, "AccessDenied")
        assert "callback policy p" in answer.message
    assert s3.head("/bucket/key").status == 404
    s3.put("/bucket/key", CONTENT, named("p", **{"x:v": "1"}))
    s3.put("/bucket/key", CONTENT)
    assert [got.target for got in hook.requests] == ["/always", "/always"]


# ---------------------------------------------------------------- rights

# What a key and a bucket allow, and what then comes of an inline callback and of a policy's name.
RIGHTS = [
    ("inline", "inline", 200, 200), ("inline", "policy-only", 403, 200), ("inline", "off", 403, 403),
    ("policy-only", "inline", 403, 200), ("policy-only", "off", 403, 403),
    ("off", "inline", 403, 403), ("off", "policy-only", 403, 403), ("nonsense", "inline", 403, 403),
]  # fmt: skip


@pytest.mark.parametrize(("of_key", "of_bucket", "inline", "by_name"), RIGHTS)
def test_the_stricter_right_wins_and_defaults_apply_whatever_the_rights(
    app: Application, s3: S3, hook: Receiver, of_key: str, of_bucket: str, inline: int, by_name: int
) -> None:
    configure(s3, policy(hook), policy(hook, "d", applies="default"), right=of_bucket)
    restrict(app, of_key)
    assert s3.put("/bucket/a", CONTENT, headers(hook.url())).status == inline
    assert s3.put("/bucket/b", CONTENT, named("p")).status == by_name
    assert s3.put("/bucket/c", CONTENT).headers["x-s3lite-callback-status"] == "ok"
    assert {"b", "a"} - set(s3.keys("bucket")) == {
        key for key, status in (("a", inline), ("b", by_name)) if status == 403
    }


# ---------------------------------------------------------------- gates by policy


def gated(hook: Receiver, **more: Any) -> dict[str, Any]:
    return policy(hook, applies="always", callback={"callbackMode": "gate"}, **more)


def test_a_gate_decides_about_clients_that_know_nothing_of_it(s3: S3, hook: Receiver) -> None:
    configure(s3, gated(hook, prefix="in/"))
    hook.script.append(Reply(b"infected", status=422, content_type="text/plain"))
    refused = s3.put("/bucket/in/a", CONTENT)
    assert (refused.status, refused.code, refused.message) == (403, "CallbackRejected", "infected")
    assert s3.keys("bucket") == []
    assert s3.put("/bucket/in/a", CONTENT).status == 200


def test_nothing_gets_around_a_gate(s3: S3, other: S3, hook: Receiver) -> None:
    """By copying, renaming, or with a callback of one's own."""
    s3.put("/bucket/raw", CONTENT)
    configure(s3, gated(hook, prefix="in/"))
    hook.default = Reply(b'{"message": "no"}', status=403)
    copied = s3.put("/bucket/in/a", headers={"x-amz-copy-source": "/bucket/raw"})
    assert (copied.status, copied.message) == (403, "no")
    renamed = s3.put("/bucket/in/a?renameObject", headers={"x-amz-rename-source": "/bucket/raw"})
    assert (renamed.status, renamed.code) == (403, "AccessDenied")
    assert s3.put("/bucket/in/a", CONTENT, headers(hook.url())).code == "AccessDenied"
    assert upload_in_parts(s3, "in/a").message == "no"
    assert upload_by_form(s3, "in/a").message == "no"
    assert s3.keys("bucket") == ["raw"]


@pytest.mark.parametrize("content", [CONTENT, b"x" * 9000])
def test_an_admitted_copy_is_the_one_that_was_looked_at(
    app: Application, s3: S3, anonymous: S3, hook: Receiver, content: bytes
) -> None:
    s3.put("/bucket/raw", content)
    body = {"callbackMode": "gate", "callbackBody": "${pendingUrl}", "callbackBodyType": "application/json"}
    configure(s3, policy(hook, applies="always", prefix="in/", callback=body))
    looks: list[bytes] = []

    def look(received) -> None:
        path, _, query = received.body.decode().strip('"').partition(":80")[2].partition("?")
        looks.append(anonymous.send("GET", path, query, b"", {}).body)

    hook._on_request = look
    source = {
        "x-amz-copy-source": "/bucket/raw",
        "x-amz-metadata-directive": "REPLACE",
        "Content-Type": "a/b",
    }
    assert s3.put("/bucket/in/a", headers=source).status == 200
    assert (looks, s3.get("/bucket/in/a").body) == ([content], content)
    assert s3.head("/bucket/in/a").headers["Content-Type"] == "a/b"

    hook._on_request = lambda _received: s3.put("/bucket/raw", b"another") and None
    answer = s3.put("/bucket/in/b", headers=source)
    assert (answer.status, answer.code) == (409, "OperationAborted")
    assert s3.head("/bucket/in/b").status == 404
    with app.services.store.catalog.read() as tx:
        assert (tx.reference_faults(limit=5), tx.counts()["pending"]) == ([], 0)


# ---------------------------------------------------------------- `callback` as a query name


def test_as_a_name_of_buckets_and_as_a_carrier_of_objects_it_never_collides(s3: S3, hook: Receiver) -> None:
    configure(s3, policy(hook))
    value = quote(encode({"callbackPolicy": "p"}), safe="")
    raw = s3.presign("PUT", f"/bucket/key?callback={value}")
    assert s3.open("PUT", raw, CONTENT, {"Content-Length": "15"}).status == 200
    assert bodies(hook) == ["key=key&op=PutObject&v="]
    assert s3.get("/bucket/key?callback=x").body == CONTENT
    assert s3.post("/bucket?callback", b"x").status == 405
    assert s3.get("/?callback").status == 400
    assert json.loads(s3.get("/bucket?callback=ignored").body)["policies"][0]["name"] == "p"
