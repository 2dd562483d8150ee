"""Temporary credentials: how they are made, carried, narrowed, and how they end."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import forms
import pytest
from client import S3
from conftest import add_key
from hypothesis import given
from hypothesis import strategies as st

from s3lite.app import Application, create_app
from s3lite.auth.sessions import SessionTokens
from s3lite.errors import S3Error
from s3lite.model import AccessKey, Account, Session
from s3lite.settings import SessionSettings, Settings
from s3lite.times import Clock, rfc3339
from s3lite.wire import sts

UPLOAD = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket/in/*"}],
}
ROLE = {"RoleArn": "arn:aws:iam::alice:role/upload", "RoleSessionName": "browser"}


class Moving(Clock):
    """The system's clock, moved on; clients sign with the system's."""

    offset_s = 0.0

    def time(self) -> float:
        return super().time() + self.offset_s

    def advance(self, seconds: float) -> None:
        self.offset_s += seconds


@pytest.fixture
def clock() -> Moving:
    return Moving()


@pytest.fixture
def app(settings: Settings, clock: Moving) -> Iterator[Application]:
    application = create_app(replace(settings, http=replace(settings.http, clock_skew_s=9999)), clock=clock)
    yield application
    application.close()


def change_key(client: S3, **changes) -> None:
    catalog = client.wsgi.services.store.catalog
    name = client.credentials.access_key
    catalog.write(lambda tx: tx.put_access_key(replace(tx.access_key(name), **changes)))


# ---------------------------------------------------------------- the API


def test_assume_role_answers_as_sts_does(s3: S3, clock) -> None:
    answer = s3.sts(Action="AssumeRole", **ROLE, DurationSeconds="900")
    assert answer.headers["Content-Type"] == "text/xml"
    assert answer.headers["x-amzn-RequestId"] == answer.text("ResponseMetadata/RequestId")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.text("AssumeRoleResult/AssumedRoleUser/AssumedRoleId") == "alice:browser"
    arn = answer.text("AssumeRoleResult/AssumedRoleUser/Arn")
    assert arn == "arn:aws:sts::alice:assumed-role/upload/browser"


@pytest.mark.parametrize("service", ["s3", "sts"])
def test_get_caller_identity(s3: S3, service: str) -> None:
    answer = s3.sts(Action="GetCallerIdentity", service=service)
    found = [answer.text(f"GetCallerIdentityResult/{name}") for name in ("UserId", "Account", "Arn")]
    assert found == ["alice", "alice", "arn:aws:iam::alice:root"]
    session = s3.assume(**ROLE)
    answer = session.sts(Action="GetCallerIdentity", service=service)
    found = [answer.text(f"GetCallerIdentityResult/{name}") for name in ("UserId", "Account", "Arn")]
    assert found == ["alice:browser", "alice", "arn:aws:sts::alice:assumed-role/upload/browser"]


def test_get_session_token_gives_what_the_key_has(s3: S3) -> None:
    limited = add_key(s3, json.dumps(UPLOAD))
    answer = limited.sts(Action="GetSessionToken")
    made = [
        answer.text(f"GetSessionTokenResult/Credentials/{name}")
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
    ]
    session = S3(s3.wsgi, made[0], made[1], token=made[2])
    assert session.put("/bucket/in/a", b"x").status == 200
    assert session.put("/bucket/out", b"x").status == 403


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({"Action": ""}, "MissingAction", ""),
        ({"Action": "ListRoles"}, "InvalidAction", "ListRoles"),
        ({"Action": "AssumeRole", "version": "2010-05-08"}, "InvalidAction", "2010-05-08"),
        ({"RoleArn": ""}, "ValidationError", "RoleArn"),
        ({"RoleSessionName": "a"}, "ValidationError", "RoleSessionName"),
        ({"RoleSessionName": "a b"}, "ValidationError", "RoleSessionName"),
        ({"DurationSeconds": "899"}, "ValidationError", "from 900 to 43200"),
        ({"DurationSeconds": "43201"}, "ValidationError", "from 900 to 43200"),
        ({"DurationSeconds": "1e3"}, "ValidationError", "DurationSeconds"),
        ({"Policy": "{"}, "MalformedPolicyDocument", "line 1"),
        ({"Policy": " " * 2049}, "ValidationError", "may have 2048"),
        ({"Policy": '{"Statement": {"Effect": "Allow"}}'}, "MalformedPolicyDocument", "Missing"),
        ({"PolicyArns.member.1.arn": "arn:x"}, "ValidationError", "PolicyArns"),
        ({"Tags.member.1.Key": "a"}, "ValidationError", "Tags"),
        ({"SerialNumber": "1"}, "ValidationError", "SerialNumber"),
        ({"Action": "GetSessionToken", "TokenCode": "1"}, "ValidationError", "TokenCode"),
    ],
)
def test_calls_that_are_refused(s3: S3, parameters: dict, code: str, message: str) -> None:
    named = ROLE if parameters.get("Action", "AssumeRole") == "AssumeRole" else {}
    answer = s3.sts(**{"Action": "AssumeRole", **named, **parameters})
    assert (answer.status, answer.text("Error/Code"), answer.text("Error/Type")) == (400, code, "Sender")
    assert message in answer.text("Error/Message")


def test_the_longest_session_is_a_setting(settings, clock) -> None:
    app = create_app(replace(settings, sessions=SessionSettings(max_s=1800)), clock=clock)
    root = S3(app, settings.access_key, settings.secret_key)
    assert root.sts(Action="AssumeRole", **ROLE, DurationSeconds="1800").status == 200
    assert root.sts(Action="AssumeRole", **ROLE, DurationSeconds="1801").status == 400
    assert root.sts(Action="GetSessionToken").status == 200  # its default is shortened
    app.close()


def test_who_does_not_sign_gets_nothing(s3: S3, anonymous: S3) -> None:
    answer = anonymous.sts(Action="GetCallerIdentity")
    assert (answer.status, answer.text("Error/Code")) == (403, "MissingAuthenticationToken")
    answer = S3(s3.wsgi, "no-such-key", "secret").sts(Action="GetCallerIdentity")
    assert (answer.status, answer.text("Error/Code")) == (403, "InvalidClientTokenId")
    answer = S3(s3.wsgi, "alice-key", "wrong").sts(Action="GetCallerIdentity")
    assert (answer.status, answer.text("Error/Code")) == (403, "SignatureDoesNotMatch")


def test_the_signature_covers_the_body(s3: S3) -> None:
    sent = {}
    s3.send = lambda *request: sent.update(request=request)  # type: ignore[method-assign]
    s3.sts(Action="GetCallerIdentity")
    method, raw, query, body, headers = sent["request"]
    del s3.send
    other = body.replace(b"GetCallerIdentity", b"GetSessionTokenXX")[: len(body)]
    assert s3.send(method, raw, query, body, headers).status == 200
    changed = body.replace(b"GetCallerIdentity", b"GetSessionToken")
    answer = s3.send(method, raw, query, changed, {**headers, "Content-Length": str(len(changed))})
    assert answer.text("Error/Code") == "SignatureDoesNotMatch"
    unsigned = {**headers, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    assert s3.send(method, raw, query, other, unsigned).status in (400, 403)


def test_an_s3_request_is_not_signed_for_sts(s3: S3) -> None:
    answer = s3.sts(service="ec2", Action="GetCallerIdentity")
    assert (answer.status, answer.text("Error/Code")) == (400, "IncompleteSignature")


def test_a_limited_key_needs_permission_for_a_role(s3: S3) -> None:
    allow = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/up*"}
    limited = add_key(s3, json.dumps({"Statement": [*UPLOAD["Statement"], allow]}))
    assert limited.assume(**ROLE).put("/bucket/in/a", b"x").status == 200
    other = {**ROLE, "RoleArn": "arn:aws:iam::alice:role/other"}
    assert limited.sts(Action="AssumeRole", **other).status == 403
    assert add_key(s3, json.dumps(UPLOAD)).sts(Action="AssumeRole", **ROLE).status == 403


@pytest.mark.parametrize("action", ["AssumeRole", "GetSessionToken"])
def test_a_session_makes_no_sessions(s3: S3, action: str) -> None:
    named = ROLE if action == "AssumeRole" else {}
    answer = s3.assume().sts(Action=action, **named)
    assert (answer.status, answer.text("Error/Code")) == (403, "AccessDenied")


@given(st.binary(max_size=200))
def test_any_body_is_a_form_or_an_error(body: bytes) -> None:
    with suppress(S3Error):
        assert isinstance(sts.parse_parameters(body), dict)


# ---------------------------------------------------------------- what a session may do


def test_a_session_may_do_what_key_and_session_both_allow(s3: S3) -> None:
    both = {"Effect": "Allow", "Action": ["s3:PutObject", "sts:AssumeRole"], "Resource": "*"}
    limited = add_key(s3, json.dumps({"Statement": [both]}))
    wide = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::bucket/in/*"}]}
    session = limited.assume(wide)
    assert session.put("/bucket/in/a", b"x").status == 200
    assert session.put("/bucket/out", b"x").status == 403  # the session's policy
    assert session.get("/bucket/in/a").status == 403  # the key's policy
    assert limited.put("/bucket/out", b"x").status == 200


def test_without_a_policy_a_session_may_do_what_its_key_may(s3: S3) -> None:
    session = s3.assume()
    assert session.put("/bucket/a", b"x").status == 200
    assert session.get("/").texts("Buckets/Bucket/Name") == ["bucket"]


def test_a_narrow_session_on_every_way_into_and_out_of_a_bucket(s3: S3) -> None:
    s3.put("/bucket/secret", b"secret")
    policy = {**UPLOAD, "Statement": [{**UPLOAD["Statement"][0], "Action": ["s3:PutObject", "s3:GetObject"]}]}
    session = s3.assume(policy)
    assert session.get("/bucket?list-type=2").status == 403
    assert session.get("/bucket?versions").status == 403
    assert session.put("/bucket/in/copy", headers={"x-amz-copy-source": "/bucket/secret"}).status == 403
    upload = session.start_upload("/bucket/in/big")
    part = f"/bucket/in/big?partNumber=1&uploadId={upload}"
    assert session.put(part, headers={"x-amz-copy-source": "/bucket/secret"}).status == 403
    etag = session.put_part("/bucket/in/big", upload, 1, b"part")
    assert session.complete("/bucket/in/big", upload, {1: etag}).status == 200
    body = b"<Delete><Object><Key>in/big</Key></Object></Delete>"
    assert session.post("/bucket?delete", body).status == 403
    assert session.put("/bucket/in/x", headers={"x-amz-rename-source": "in/big"}).status == 200  # a plain PUT
    assert session.put("/bucket/in/y?renameObject", headers={"x-amz-rename-source": "secret"}).status == 403
    assert session.get("/").status == session.put("/another").status == 403


def test_policies_can_ask_for_the_session(s3: S3) -> None:
    own = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::bucket/${aws:userid}/*"}
    session = s3.assume({"Version": "2012-10-17", "Statement": [own]}, **ROLE)
    assert session.put("/bucket/alice:browser/a", b"x").status == 200
    assert session.put("/bucket/alice:other/a", b"x").status == 403


def test_what_a_session_stores_belongs_to_its_account(s3: S3) -> None:
    s3.assume(UPLOAD).put("/bucket/in/a", b"x")
    assert s3.get("/bucket/in/a?acl").text("Owner/ID") == "alice"


# ---------------------------------------------------------------- how it is carried


def test_the_token_in_presigned_urls(s3: S3) -> None:
    session = s3.assume(UPLOAD)
    assert session.open("PUT", session.presign("PUT", "/bucket/in/a"), b"x").status == 200
    assert session.open("PUT", session.presign("PUT", "/bucket/out"), b"x").status == 403
    assert session.request("PUT", "/bucket/in/a", b"x", signer="v2").status == 200
    assert session.request("PUT", "/bucket/out", b"x", signer="v2").status == 403


def post(client: S3, fields: dict[str, str]):
    data = forms.body(list(fields.items()))
    return client.request("POST", "/bucket", data, {"Content-Type": forms.CONTENT_TYPE}, signer="none")


@pytest.mark.parametrize("fields_of", [forms.v2_fields, forms.v4_fields])
def test_the_token_in_forms_must_be_covered_by_the_policy(s3: S3, fields_of) -> None:
    session = s3.assume(UPLOAD)
    token = session.credentials.token
    covered = [["starts-with", "$key", ""], {"bucket": "bucket"}, {"x-amz-security-token": token}]
    made = (session.credentials.access_key, session.credentials.secret_key)
    fields = fields_of(*made, covered) | {"key": "in/form", "x-amz-security-token": token}
    assert post(session, fields).status == 204
    assert post(session, {**fields, "key": "out"}).code == "AccessDenied"
    open_ = fields_of(*made, covered[:2]) | {"key": "in/form", "x-amz-security-token": token}
    refused = post(session, open_)
    assert (refused.code, "x-amz-security-token" in refused.message) == ("AccessDenied", True)


def test_a_token_must_be_signed_with_the_rest(s3: S3) -> None:
    answer = s3.open("GET", s3.presign("GET", "/bucket/a"), headers={"x-amz-security-token": "x"})
    assert answer.status in (400, 403)
    first, second = s3.assume(UPLOAD), s3.assume()
    swapped = S3(
        s3.wsgi, first.credentials.access_key, first.credentials.secret_key, token=second.credentials.token
    )
    assert swapped.put("/bucket/out", b"x").code == "InvalidToken"


def test_a_session_without_its_token_is_told_so(s3: S3) -> None:
    made = s3.assume().credentials
    answer = S3(s3.wsgi, made.access_key, made.secret_key).get("/")
    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId")
    assert "x-amz-security-token" in answer.message


@pytest.mark.parametrize("token", ["x", "é", "A" * 9000, base64.b64encode(bytes(80)).decode()])
def test_tokens_that_are_none(s3: S3, token: str) -> None:
    made = s3.assume().credentials
    for access_key in (made.access_key, "alice-key"):
        answer = S3(s3.wsgi, access_key, "secret").get(
            "/", **{"x-amz-security-token": token.encode().decode("latin-1")}
        )
        assert (answer.status, answer.code) == (400, "InvalidToken")


# ---------------------------------------------------------------- how it ends


def test_a_session_expires(s3: S3, clock) -> None:
    session = s3.assume(UPLOAD, DurationSeconds="900")
    clock.advance(890)
    assert session.put("/bucket/in/a", b"x").status == 200
    clock.advance(10)
    answer = session.put("/bucket/in/a", b"x")
    assert (answer.status, answer.code) == (400, "ExpiredToken")
    answer = session.sts(Action="GetCallerIdentity")
    assert (answer.status, answer.text("Error/Code")) == (403, "ExpiredToken")


def test_a_disabled_or_removed_key_takes_its_sessions_with_it(s3: S3) -> None:
    key = add_key(s3)
    session = key.assume()
    change_key(key, enabled=False)
    assert session.get("/").code == "InvalidAccessKeyId"
    change_key(key, enabled=True)
    assert session.get("/").status == 200
    catalog, name = s3.wsgi.services.store.catalog, key.credentials.access_key
    catalog.write(lambda tx: tx.remove_access_key(name))
    assert session.get("/").code == "InvalidAccessKeyId"
    again = AccessKey(name, "another", Account("alice", "alice"), created_ms=7)
    catalog.write(lambda tx: tx.put_access_key(again))
    assert session.get("/").code == "InvalidAccessKeyId"


def test_a_policy_that_its_key_gets_later_binds_a_session(s3: S3, clock) -> None:
    key = add_key(s3)
    session = key.assume()
    assert session.put("/bucket/out", b"x").status == 200
    change_key(key, policy=json.dumps(UPLOAD))
    assert session.put("/bucket/out", b"x").status == 403


def test_sessions_up_to_now_can_be_ended_by_a_policy(s3: S3, clock) -> None:
    key = add_key(s3)
    old = key.assume()
    clock.advance(60)
    rows = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": rfc3339(clock.time())}},
        },
    ]
    change_key(key, policy=json.dumps({"Statement": rows}))
    assert old.get("/").status == 403
    assert key.get("/").status == key.assume().get("/").status == 200


# ---------------------------------------------------------------- tokens by themselves

KEY = AccessKey("key", "secret", Account("alice", "Alice"), created_ms=5)


@given(st.text(max_size=500), st.text(min_size=1, max_size=20))
def test_a_token_carries_a_session_to_every_process(policy: str, name: str) -> None:
    session = Session("S3T1", "arn:role", name, 1, 2, policy)
    secret, token = SessionTokens(b"k" * 32).issue(KEY, session)
    assert SessionTokens(b"k" * 32).open("S3T1", token) == ("key", 5, session, secret)
    assert SessionTokens(b"k" * 32).open("S3T2", token) is None
    assert SessionTokens(b"j" * 32).open("S3T1", token) is None


@given(st.data())
def test_a_changed_token_opens_nothing(data) -> None:
    tokens = SessionTokens(b"k" * 32)
    _, token = tokens.issue(KEY, Session("S3T1", "", "", 1, 2))
    position = data.draw(st.integers(0, len(token) - 2))
    letter = data.draw(st.sampled_from("ABCxyz019-_"))
    changed = token[:position] + letter + token[position + 1 :]
    assert changed == token or tokens.open("S3T1", changed) is None


def test_the_longest_policy_fits_into_a_header() -> None:
    noise = base64.b85encode(bytes(range(256)) * 16).decode()[:4096]
    _, token = SessionTokens(b"k" * 32).issue(KEY, Session("S3T1", "a" * 2048, "n" * 64, 1, 2, noise))
    assert len(token) < 8192
