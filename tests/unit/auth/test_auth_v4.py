"""Signature version 4: botocore signs, the authenticator judges; then attackers and odd clients."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from unit.auth.authkit import ALICE, GONE, NOW, authenticator, head, signed

from s3lite.auth import sigv4
from s3lite.errors import Code, S3Error
from s3lite.model import AccessKey, Account, RequestHead, Target
from s3lite.times import amz_date, http_date

URL = "http://s3.test:8000/b/k"
KEYS = (
    "plain.txt",
    "a b+c%d",
    "照片/é.jpg",
    "a//b",
    "~/../x",
    "100%",
    "!'()*;:@&=$,",
    "back\\slash",
    "a%2Fb",
)
SERVER = authenticator()


def refused(request: RequestHead, code: Code, server: Any = SERVER, **options: Any) -> S3Error:
    with pytest.raises(S3Error) as caught:
        server.request(request, **options)
    assert caught.value.code is code, caught.value
    shown = str(caught.value) + str(caught.value.details)
    assert ALICE.secret_key not in shown
    return caught.value


def with_headers(request: RequestHead, **changes: str | None) -> RequestHead:
    headers = {**request.headers, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return replace(request, headers={name: value for name, value in headers.items() if value is not None})


def header_signed(url: str = URL, method: str = "GET", headers: dict[str, str] | None = None) -> RequestHead:
    return signed("S3SigV4Auth", method, url, headers)


def presigned(url: str = URL, method: str = "GET", headers: dict[str, str] | None = None) -> RequestHead:
    return signed("S3SigV4QueryAuth", method, url, headers, expires=600)


SIGNERS = pytest.mark.parametrize("sign", [header_signed, presigned], ids=["header", "presigned"])


# ---------------------------------------------------------------- botocore


@SIGNERS
@pytest.mark.parametrize("key", KEYS)
def test_keys_as_botocore_sends_them(sign: Callable[..., RequestHead], key: str) -> None:
    result = SERVER.request(sign(f"http://s3.test:8000/b/{quote(key, safe='/~')}"))
    assert result.identity.key == ALICE
    assert result.identity.account_id == "alice"


@SIGNERS
@pytest.mark.parametrize(
    "query",
    ["acl", "acl=", "prefix=a%20b%2Bc&max-keys=1", "b=2&a=1&a=0", "delimiter=%2F&marker=%E7%85%A7", "x=~-._"],
)
def test_queries_as_botocore_sends_them(sign: Callable[..., RequestHead], query: str) -> None:
    assert SERVER.request(sign(f"{URL}?{query}")).identity.key == ALICE


def test_headers_are_folded_and_listed() -> None:
    request = header_signed(headers={"x-amz-meta-note": "  a   b  ", "Content-Type": "text/plain"})
    identity = SERVER.request(request).identity
    assert identity.scheme == "v4-header"
    assert {"host", "x-amz-meta-note", "content-type", "x-amz-date"} <= identity.signed_headers


def test_utf8_metadata_as_wsgi_shows_it() -> None:
    """The bytes of "à" end in 0xA0, which str.split() takes for white space."""
    wire = "à là".encode().decode("latin-1")
    request = hand_signed(headers={"x-amz-meta-name": wire})
    assert SERVER.request(request).identity.key == ALICE


def test_a_mounted_server() -> None:
    request = header_signed("http://s3.test/mnt/b/k%20k")
    request = replace(request, mount_prefix="/mnt", target=Target("b", "k k"))
    assert SERVER.request(request).identity.key == ALICE


# ---------------------------------------------------------------- our own signer: what botocore does not do


def hand_signed(
    *,
    method: str = "PUT",
    path: str = "/b/k",
    signed_path: str | None = None,
    host: str = "s3.test:8000",
    signed_host: str | None = None,
    headers: dict[str, str] | None = None,
    date: str | None = None,
    region: str = "us-east-1",
    service: str = "s3",
    body: str = "UNSIGNED-PAYLOAD",
    names: list[str] | None = None,
    key: AccessKey = ALICE,
) -> RequestHead:
    """A head signed from the specification's text, with any part out of line."""
    sent = {"x-amz-content-sha256": body, "x-amz-date": amz_date(NOW), **(headers or {})}
    sent = {name: value for name, value in sent.items() if value}
    date = date or amz_date(NOW)
    listed = names if names is not None else sorted([*sent, "host"])
    values = {**sent, "host": signed_host or host}
    lines = "".join(f"{name}:{' '.join(values.get(name.lower(), '').split(' '))}\n" for name in listed)
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    canonical = f"{method}\n{signed_path or path}\n\n{lines}\n{';'.join(listed)}\n{body}"
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    secret = f"AWS4{key.secret_key}".encode()
    for word in scope.split("/"):
        secret = hmac.new(secret, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(
        secret, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}".encode(), hashlib.sha256
    ).hexdigest()
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key.access_key}/{scope}, SignedHeaders={';'.join(listed)}, Signature={signature}"
    )
    return head(method, f"http://{host}{path}", sent)


def test_parts_of_the_header_in_any_order_and_spacing() -> None:
    request = hand_signed()
    scheme, _, rest = request.headers["authorization"].partition(" ")
    parts = [part.strip() for part in rest.split(",")]
    for joined in (",".join(reversed(parts)), " ,  ".join(parts)):
        assert SERVER.request(with_headers(request, authorization=f"{scheme} {joined}")).identity.key == ALICE


@pytest.mark.parametrize("region", ["eu-west-1", "s3.example.org", ""])
def test_any_region_unless_strict(region: str) -> None:
    request = hand_signed(region=region)
    assert SERVER.request(request).identity.key == ALICE
    strict = authenticator(strict_region=True)
    error = refused(request, Code.AuthorizationHeaderMalformed, strict)
    assert error.details["Region"] == "us-east-1"
    assert strict.request(hand_signed()).identity.key == ALICE


def test_strict_region_of_a_presigned_url() -> None:
    request = signed("S3SigV4QueryAuth", "GET", URL, region="mars", expires=60)
    error = refused(request, Code.AuthorizationQueryParametersError, authenticator(strict_region=True))
    assert error.details["Region"] == "us-east-1"


def test_date_header_instead_of_x_amz_date() -> None:
    request = hand_signed(headers={"x-amz-date": "", "date": http_date(NOW)})
    assert "x-amz-date" not in request.headers
    assert SERVER.request(request).identity.key == ALICE


@pytest.mark.parametrize(
    ("sent", "signed_host", "accepted"),
    [
        ("s3.test:80", "s3.test", True),
        ("s3.test:443", "s3.test", True),
        ("s3.test:8000", "s3.test", False),
        ("s3.test", "s3.test:80", False),
        ("internal:9000", "public.example", True),  # an alias
        ("internal:9000", "forwarded.example", True),
        ("internal:9000", "other.example", False),
    ],
)
def test_hosts(sent: str, signed_host: str, accepted: bool) -> None:
    server = authenticator(endpoint_aliases=("public.example",))
    request = hand_signed(host=sent, signed_host=signed_host)
    if accepted:
        assert server.request(request, hosts=["forwarded.example"]).identity.key == ALICE
    else:
        refused(request, Code.SignatureDoesNotMatch, server, hosts=["forwarded.example"])


def test_another_host_counts_only_for_the_same_bucket() -> None:
    """A URL signed for alias/b/k must not act on bucket "evil", key "b/k", by a change of Host."""
    server = authenticator(endpoint_aliases=("public.example",))
    request = hand_signed(host="evil.s3.test", signed_host="public.example")
    evil = replace(request, target=Target("evil", "b/k", virtual_host=True))
    refused(evil, Code.SignatureDoesNotMatch, server, hosts=["public.example"])
    request = hand_signed(path="/k", host="b.s3.test", signed_host="b.public.example")
    kept = replace(request, target=Target("b", "k", virtual_host=True))
    assert server.request(kept).identity.key == ALICE


@pytest.mark.parametrize("path", ["/b/a!(b)'*", "/b/a+b", "/b/%61", "/b/a%2fb"])
def test_paths_signed_as_sent_or_canonically(path: str) -> None:
    assert SERVER.request(hand_signed(path=path)).identity.key == ALICE
    assert SERVER.request(hand_signed(path=path, signed_path=sigv4.canonical_uri(path))).identity.key == ALICE


def test_underscores_that_wsgi_folds() -> None:
    request = hand_signed(headers={"x-amz-meta-a_b": "v"})
    folded = {name.replace("_", "-"): value for name, value in request.headers.items()}
    assert SERVER.request(replace(request, headers=folded)).identity.key == ALICE


# ---------------------------------------------------------------- payloads


@pytest.mark.parametrize(
    ("word", "kind", "has_signer", "signed_trailer", "has_trailer"),
    [
        ("UNSIGNED-PAYLOAD", "unsigned", False, False, False),
        ("A" * 64, "sha256", False, False, False),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "chunked", True, False, False),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "chunked", True, True, True),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "chunked", False, False, True),
    ],
)
def test_payloads(word: str, kind: str, has_signer: bool, signed_trailer: bool, has_trailer: bool) -> None:
    payload = SERVER.request(hand_signed(body=word)).payload
    assert (payload.kind, payload.signer is not None) == (kind, has_signer)
    assert (payload.signed_trailer, payload.has_trailer) == (signed_trailer, has_trailer)
    assert payload.sha256 == ("a" * 64 if kind == "sha256" else "")
    if payload.signer:
        assert payload.signer.timestamp == amz_date(NOW)
        assert payload.signer.signing_key == sigv4.signing_key(
            ALICE.secret_key, amz_date(NOW)[:8], "us-east-1"
        )


def test_payload_words_that_are_none() -> None:
    refused(hand_signed(body="UNSIGNED"), Code.InvalidArgument)
    refused(hand_signed(body="STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), Code.NotImplemented)
    refused(with_headers(hand_signed(), x_amz_content_sha256=None), Code.InvalidRequest)


def test_payload_of_presigned_urls() -> None:
    request = presigned(method="PUT")
    assert SERVER.request(request).payload.kind == "unsigned"
    trailing = with_headers(request, x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert SERVER.request(trailing).payload.has_trailer
    hashed = SERVER.request(with_headers(request, x_amz_content_sha256="b" * 64)).payload
    assert hashed.sha256 == "b" * 64
    in_query = presigned(f"{URL}?X-Amz-Content-Sha256={'c' * 64}", "PUT")
    assert SERVER.request(in_query).payload.sha256 == "c" * 64
    refused(with_headers(in_query, x_amz_content_sha256="UNSIGNED-PAYLOAD"), Code.InvalidArgument)


def test_payload_of_anonymous_requests() -> None:
    chunked = {"content-encoding": "gzip, aws-chunked", "x-amz-decoded-content-length": "3"}
    assert SERVER.request(head("PUT", URL, chunked)).payload.kind == "chunked"
    stored = {"content-encoding": "aws-chunked"}
    assert SERVER.request(head("PUT", URL, stored)).payload.kind == "unsigned"
    word = {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
    refused(head("PUT", URL, word), Code.InvalidRequest)


# ---------------------------------------------------------------- attacks


@SIGNERS
def test_another_method_path_host_or_query(sign: Callable[..., RequestHead]) -> None:
    request = sign(f"{URL}?versionId=1")
    for change in (
        {"method": "DELETE"},
        {"path": "/b/other"},
        {"query": request.query.replace("versionId=1", "versionId=2")},
        {"query": request.query + "&acl"},
        {"query": request.query + "&callback=e30="},
    ):
        refused(replace(request, **change), Code.SignatureDoesNotMatch)
    refused(with_headers(request, host="evil.test"), Code.SignatureDoesNotMatch)


@SIGNERS
def test_an_x_amz_header_added(sign: Callable[..., RequestHead]) -> None:
    error = refused(with_headers(sign(), x_amz_meta_callback="e30="), Code.AccessDenied)
    assert error.details["HeadersNotSigned"] == "x-amz-meta-callback"


def test_host_must_be_signed() -> None:
    request = hand_signed(names=["x-amz-content-sha256", "x-amz-date"])
    assert refused(request, Code.AccessDenied).details["HeadersNotSigned"] == "host"


@pytest.mark.parametrize("name", ["X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Expires", "X-Amz-Date"])
def test_a_presigned_url_without_one_of_its_parts(name: str) -> None:
    request = presigned()
    left = "&".join(piece for piece in request.query.split("&") if not piece.startswith(name + "="))
    refused(head("GET", f"{URL}?{left}"), Code.AuthorizationQueryParametersError)
    again = f"{request.query}&{name}=1"
    refused(head("GET", f"{URL}?{again}"), Code.AuthorizationQueryParametersError)


@pytest.mark.parametrize(
    ("shift_s", "message"),
    [(-901, "Request is not valid yet"), (-899, ""), (600, ""), (601, "Request has expired")],
)
def test_lifetime_of_a_presigned_url(shift_s: int, message: str) -> None:
    server = authenticator(now=NOW + shift_s)
    if message:
        error = refused(presigned(), Code.AccessDenied, server)
        assert error.message == message
        assert "ServerTime" in error.details
    else:
        assert server.request(presigned()).identity.scheme == "v4-query"


@pytest.mark.parametrize(
    ("expires", "status"), [("0", 403), ("-7", 403), ("604801", 403), ("x", 400), ("", 400), ("9" * 30, 400)]
)
def test_expiries_out_of_range(expires: str, status: int) -> None:
    request = presigned()
    query = request.query.replace("X-Amz-Expires=600", f"X-Amz-Expires={expires}")
    error = refused(head("GET", f"{URL}?{query}"), Code.AuthorizationQueryParametersError)
    assert error.status == status


@pytest.mark.parametrize("shift_s", [-901, 901])
def test_replay_of_a_header_outside_the_skew(shift_s: int) -> None:
    error = refused(header_signed(), Code.RequestTimeTooSkewed, authenticator(now=NOW + shift_s))
    assert error.details["MaxAllowedSkewMilliseconds"] == "900000"


@pytest.mark.parametrize("value", ["", "Bad Date", "20260231T000000Z", "Tue, 07 Jul 1950 21:53:04 GMT"])
def test_bad_dates(value: str) -> None:
    refused(with_headers(hand_signed(), x_amz_date=value), Code.AccessDenied)


def test_credential_date_of_another_day() -> None:
    request = hand_signed(date="20260101T000000Z")
    refused(request, Code.AuthorizationHeaderMalformed)


def test_wrong_service() -> None:
    refused(hand_signed(service="iam"), Code.AuthorizationHeaderMalformed)


@pytest.mark.parametrize(
    "key", [GONE, AccessKey("who", "s", Account("x", "X")), AccessKey("é\n", "s", Account("x", "X"))]
)
def test_keys_unknown_or_disabled(key: AccessKey) -> None:
    request = hand_signed(
        key=replace(key, access_key=(key.access_key.isascii() and key.access_key) or "none")
    )
    assert refused(request, Code.InvalidAccessKeyId).message == Code.InvalidAccessKeyId.message


def test_mismatch_shows_what_was_expected_to_be_signed_and_nothing_secret() -> None:
    other = replace(ALICE, secret_key="other")
    request = hand_signed(key=other)
    error = refused(request, Code.SignatureDoesNotMatch)
    assert error.details["AWSAccessKeyId"] == "yly"
    assert error.details["StringToSign"].startswith("AWS4-HMAC-SHA256\n")
    assert error.details["CanonicalRequest"].startswith("PUT\n/b/k\n")
    assert error.details["SignatureProvided"] in request.headers["authorization"]
    real = hand_signed().headers["authorization"].rpartition("=")[2]
    assert real not in str(error.details)


@pytest.mark.parametrize(
    ("signed", "arrived", "named", "said"),
    [
        ({"accept-encoding": "identity"}, {"accept-encoding": "gzip"}, "accept-encoding", "'identity'"),
        ({"connection": "keep-alive"}, {"connection": "close"}, "connection", "as 'close'"),
        ({"x-amz-meta-a": "1"}, {"x-amz-meta-a": None}, "x-amz-meta-a", "did not arrive"),
        ({}, {"host": "inner", "x-forwarded-host": "s3.test"}, "host", "http.endpoint_aliases"),
        ({}, {"host": "inner", "x-original-host": "s3.test"}, "host", "x-original-host"),
        ({"x-amz-meta-a": "1"}, {"x-amz-meta-a": "2"}, "", "signing method."),
        ({}, {"host": "inner", "x-forwarded-host": "other"}, "", "signing method."),
    ],
)
def test_a_mismatch_names_the_header_that_a_proxy_has_changed(
    signed: dict[str, str], arrived: dict[str, str | None], named: str, said: str
) -> None:
    request = hand_signed(host="s3.test", headers=signed)
    headers = {name: value for name, value in {**request.headers, **arrived}.items() if value is not None}
    error = refused(replace(request, headers=headers), Code.SignatureDoesNotMatch)
    assert error.details.get("HeaderThatDiffers", "") == named
    assert said in error.message


def test_security_tokens() -> None:
    refused(hand_signed(headers={"x-amz-security-token": "t"}), Code.InvalidToken)
    refused(presigned(f"{URL}?X-Amz-Security-Token=t"), Code.InvalidToken)


@SIGNERS
def test_two_mechanisms_at_once(sign: Callable[..., RequestHead]) -> None:
    request = sign()
    query = presigned().query
    both = head("GET", f"{URL}?{query}", dict(hand_signed().headers))
    refused(both, Code.InvalidArgument)
    v2 = replace(request, query_items=(*request.query_items, ("Signature", "x")))
    refused(v2, Code.InvalidArgument)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", None),
        ("Basic dXNlcjpwYXNz", Code.InvalidArgument),
        ("Bearer token", Code.InvalidArgument),
        ("HAHAHA", Code.InvalidArgument),
        ("AWS HAHAHA", Code.InvalidArgument),
        ("AWS", Code.InvalidArgument),
        ("AWS4-HMAC-SHA256", Code.AuthorizationHeaderMalformed),
        ("AWS4-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=0", Code.AuthorizationHeaderMalformed),
        ("AWS4-HMAC-SHA256 Credential=a,Credential=b", Code.AuthorizationHeaderMalformed),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", Code.NotImplemented),
        ("AWS é:\x80", Code.AccessDenied),
    ],
)
def test_authorization_headers_that_are_none(value: str, code: Code | None) -> None:
    request = head("PUT", URL, {"authorization": value})
    if code is None:
        assert SERVER.request(request).identity.scheme == "anonymous"
    else:
        error = refused(request, code)
        assert "dXNlcjpwYXNz" not in str(error) + str(error.details)


def test_names_of_signed_headers_cannot_carry_lines() -> None:
    request = presigned()
    query = request.query.replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host%0Ax")
    refused(head("GET", f"{URL}?{query}"), Code.AuthorizationQueryParametersError)


# ---------------------------------------------------------------- pure functions


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", "/"),
        ("/", "/"),
        ("/a//b/../c/.", "/a//b/../c/."),
        ("/a%20b", "/a%20b"),
        ("/a+b", "/a%2Bb"),
        ("/%7e%e7%85%a7", "/~%E7%85%A7"),
        ("/a$b", "/a%24b"),
        ("/100%", "/100%25"),
        ("/%252F", "/%252F"),
    ],
)
def test_canonical_uri(raw: str, canonical: str) -> None:
    assert sigv4.canonical_uri(raw) == canonical


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", ""),
        ("acl", "acl="),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1&A=0", "A=0&a=1&a=2"),
        ("p=a+b%2Bc", "p=a%20b%2Bc"),
        ("p=%2f~", "p=%2F~"),
        ("p=a=b", "p=a%3Db"),
        ("X-Amz-Signature=f&x=1", "x=1"),
        ("&&a=1&", "a=1"),
        ("callback=a&callback-var=b", "callback=a&callback-var=b"),
    ],
)
def test_canonical_query(raw: str, canonical: str) -> None:
    assert sigv4.canonical_query(raw) == canonical
