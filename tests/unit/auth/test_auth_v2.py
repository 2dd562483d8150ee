"""Signature version 2: botocore and the seeds' algorithm sign, the authenticator judges."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from unit.auth.authkit import ALICE, NOW, authenticator, head, signed

from s3lite.auth import sigv2
from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead, Target
from s3lite.times import amz_date, http_date

URL = "http://s3.test:8000/b/k"
KEYS = ("plain.txt", "a b+c%d", "照片/é.jpg", "a//b", "~/../x", "100%", "!'()*;:@&=$,", "a%2Fb")
SERVER = authenticator()


def refused(request: RequestHead, code: Code, server: Any = SERVER) -> S3Error:
    with pytest.raises(S3Error) as caught:
        server.request(request)
    assert caught.value.code is code, caught.value
    assert ALICE.secret_key not in str(caught.value.details)
    return caught.value


def mac(text: str) -> str:
    digest = hmac.new(ALICE.secret_key.encode(), text.encode("latin-1"), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def seed_signed(method: str, url: str, headers: dict[str, str] | None = None) -> RequestHead:
    """As the seeds' S3Auth signs: its list of names, whole pairs sorted, empty headers left out."""
    sent = {"Date": http_date(NOW), **(headers or {})}
    lowered = {name.lower(): value.strip() for name, value in sent.items() if value}
    date = "" if "x-amz-date" in lowered else lowered.get("date", "")
    text = f"{method}\n{lowered.get('content-md5', '')}\n{lowered.get('content-type', '')}\n{date}\n"
    text += "".join(f"{name}:{lowered[name]}\n" for name in sorted(lowered) if name.startswith("x-amz-"))
    parts = urlsplit(url)
    text += parts.path or "/"
    words = [pair for pair in sorted(parts.query.split("&")) if pair.partition("=")[0] in sigv2.SEED_S3AUTH]
    if words:
        text += "?" + "&".join(
            name + equals + unquote(value) for name, equals, value in (word.partition("=") for word in words)
        )
    return head(method, url, {**sent, "Authorization": f"AWS {ALICE.access_key}:{mac(text)}"})


def signed_as(resource: str, method: str, url: str, headers: dict[str, str] | None = None) -> RequestHead:
    """A request whose canonical resource is what the caller says."""
    date = http_date(NOW)
    text = f"{method}\n\n\n{date}\n{resource}"
    sent = {"Date": date, "Authorization": f"AWS yly:{mac(text)}", **(headers or {})}
    return head(method, url, sent)


def presigned(method: str = "GET", url: str = URL, headers: dict[str, str] | None = None) -> RequestHead:
    return signed("HmacV1QueryAuth", method, url, headers, expires=600)


# ---------------------------------------------------------------- botocore


@pytest.mark.parametrize("key", KEYS)
def test_keys_as_botocore_sends_them(key: str) -> None:
    url = f"http://s3.test:8000/b/{quote(key, safe='/~')}"
    assert SERVER.request(signed("HmacV1Auth", "GET", url)).identity.scheme == "v2-header"
    assert SERVER.request(presigned(url=url)).identity.scheme == "v2-query"


@pytest.mark.parametrize(
    "query",
    [
        "acl",
        "uploads",
        "uploadId=a%2Bb&partNumber=1",
        "prefix=x&versions",
        "response-content-type=a%20b",
        "list-type=2",
    ],
)
def test_queries_as_botocore_sends_them(query: str) -> None:
    assert SERVER.request(signed("HmacV1Auth", "GET", f"{URL}?{query}")).identity.key == ALICE
    assert SERVER.request(presigned(url=f"{URL}?{query}")).identity.key == ALICE


def test_list_type_may_be_signed() -> None:
    """As botocore 1.26 does; the value is then what was signed."""
    assert (
        SERVER.request(signed_as("/b?list-type=2", "GET", "http://s3.test/b?list-type=2")).identity.key
        == ALICE
    )
    refused(signed_as("/b?list-type=2", "GET", "http://s3.test/b?list-type=1"), Code.SignatureDoesNotMatch)


@pytest.mark.parametrize("auth_path", ["/b", "/b/"])
@pytest.mark.parametrize("path", ["/b", "/b/"])
def test_a_bucket_with_and_without_its_slash(path: str, auth_path: str) -> None:
    request = signed("HmacV1Auth", "GET", f"http://s3.test{path}?acl", auth_path=auth_path)
    assert SERVER.request(request).identity.key == ALICE


@pytest.mark.parametrize(
    ("path", "auth_path"), [("/b/k", "/b/k/"), ("/b/k/", "/b/k"), ("/b", "/b//"), ("/b", "/")]
)
def test_nothing_looser(path: str, auth_path: str) -> None:
    request = signed("HmacV1Auth", "GET", f"http://s3.test{path}", auth_path=auth_path)
    refused(request, Code.SignatureDoesNotMatch)


def test_a_bucket_in_the_host() -> None:
    request = signed("HmacV1Auth", "GET", "http://b.s3.test/a%20k", auth_path="/b/a%20k")
    here = replace(request, target=Target("b", "a k", virtual_host=True))
    assert SERVER.request(here).identity.key == ALICE
    refused(replace(request, target=Target("c", "a k", virtual_host=True)), Code.SignatureDoesNotMatch)


@pytest.mark.parametrize("auth_path", ["/mnt/b/k", "/b/k"])
def test_a_mounted_server(auth_path: str) -> None:
    """Most clients sign what they send; botocore leaves out the path of its endpoint."""
    request = signed("HmacV1Auth", "GET", "http://s3.test/mnt/b/k", auth_path=auth_path)
    assert (
        SERVER.request(replace(request, mount_prefix="/mnt", target=Target("b", "k"))).identity.key == ALICE
    )


def test_a_bucket_named_like_the_mount_prefix() -> None:
    """DELETE /mnt/k, the bucket k signed with its prefix, is not the object k of the bucket mnt."""
    request = signed("HmacV1Auth", "DELETE", "http://s3.test/mnt/mnt/k", auth_path="/mnt/k")
    refused(replace(request, mount_prefix="/mnt", target=Target("mnt", "k")), Code.SignatureDoesNotMatch)


def test_headers_that_count() -> None:
    headers = {
        "x-amz-meta-callback": "e30=",
        "x-amz-acl": "private",
        "Content-Type": "text/plain",
        "Content-MD5": "m",
    }
    request = signed("HmacV1Auth", "PUT", URL, headers)
    identity = SERVER.request(request).identity
    assert identity.signed_headers == {
        "x-amz-meta-callback",
        "x-amz-acl",
        "content-type",
        "content-md5",
        "date",
    }
    for name in headers:
        changed = {**request.headers, name.lower(): "other"}
        refused(replace(request, headers=changed), Code.SignatureDoesNotMatch)
    refused(replace(request, headers={**request.headers, "x-amz-meta-new": "1"}), Code.SignatureDoesNotMatch)


def test_botocore_signs_date_beside_x_amz_date() -> None:
    request = signed("HmacV1Auth", "GET", URL, {"x-amz-date": http_date(NOW)})
    assert SERVER.request(request).identity.key == ALICE


def test_x_amz_date_in_place_of_date() -> None:
    for value in (http_date(NOW), amz_date(NOW)):
        assert SERVER.request(seed_signed("GET", URL, {"x-amz-date": value})).identity.key == ALICE


# ---------------------------------------------------------------- the seeds


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("POST", "?uploads"),
        ("PUT", "?partNumber=1&uploadId=2~x%2By"),
        ("GET", "?uploadId=u"),
        ("PUT", ""),
        ("GET", "?syncing"),
    ],
)
def test_the_seeds(method: str, query: str) -> None:
    headers = {"x-amz-meta-callback": "eyJh", "x-amz-meta-callback-var": "eyJi"}
    identity = SERVER.request(
        seed_signed(method, f"http://127.0.0.1:8000/test1/multiobj{query}", headers)
    ).identity
    assert {"x-amz-meta-callback", "x-amz-meta-callback-var"} <= identity.signed_headers


# ---------------------------------------------------------------- sub-resources


@pytest.mark.parametrize("name", sorted(sigv2.SUBRESOURCES))
def test_a_subresource_that_is_signed(name: str) -> None:
    assert SERVER.request(signed_as(f"/b/k?{name}=v", "GET", f"{URL}?{name}=v")).identity.key == ALICE


@pytest.mark.parametrize("name", sorted(sigv2.SUBRESOURCES - sigv2.INERT))
def test_a_subresource_that_is_not_signed(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        SERVER.request(signed_as("/b/k", "GET", f"{URL}?{name}=v"))
    assert caught.value.code in (Code.AccessDenied, Code.SignatureDoesNotMatch)
    encoded = "".join(f"%{ord(letter):02x}" for letter in name)
    with pytest.raises(S3Error):
        SERVER.request(signed_as("/b/k", "GET", f"{URL}?{encoded}=v"))


@pytest.mark.parametrize("name", ["callback", "encryption", "attributes", "legal-hold"])
def test_what_botocore_leaves_unsigned_is_named(name: str) -> None:
    for request in (signed("HmacV1Auth", "PUT", f"{URL}?{name}=v"), presigned("PUT", f"{URL}?acl&{name}=v")):
        assert name in refused(request, Code.AccessDenied).message


def test_a_callback_added_to_a_presigned_url() -> None:
    request = presigned("PUT")
    for extra in (
        "callback=e30%3D",
        "callback-var=e30%3D",
        "versionId=1",
        "response-content-type=text%2Fhtml",
    ):
        with pytest.raises(S3Error):
            SERVER.request(head("PUT", f"{URL}?{request.query}&{extra}"))
        with pytest.raises(S3Error):
            SERVER.request(head("PUT", f"{URL}?{extra}&{request.query}"))


def test_names_without_effect_may_be_unsigned() -> None:
    assert SERVER.request(seed_signed("PUT", f"{URL}?storageClass=x&acl")).identity.key == ALICE
    assert (
        SERVER.request(signed_as("/b/k?storageClass=x", "PUT", f"{URL}?storageClass=x")).identity.key == ALICE
    )


@pytest.mark.parametrize("resource", ["/b/k?uploads", "/b/k?uploads="])
def test_an_empty_value_signed_either_way(resource: str) -> None:
    assert SERVER.request(signed_as(resource, "POST", f"{URL}?uploads=")).identity.key == ALICE


def test_callback_signed_by_the_rule_of_oss() -> None:
    """Sorted by name, decoded; a "+" that was not encoded stays one."""
    resource = "/b/k?callback=a+b=&callback-var=c/d="
    for query in ("callback-var=c%2Fd%3D&callback=a%2Bb%3D", "callback=a+b=&callback-var=c/d="):
        assert SERVER.request(signed_as(resource, "PUT", f"{URL}?{query}")).identity.key == ALICE


def test_the_table_of_operations_is_covered() -> None:
    """Whatever picks an operation must be signed, but list-type, which most clients leave out."""
    routes = pytest.importorskip("s3lite.routes", exc_type=ImportError)
    words = {row.subresource for row in routes.ROUTES if row.subresource}
    assert words - sigv2.SUBRESOURCES == sigv2.SIGNED_BY_SOME
    assert not words & sigv2.INERT


# ---------------------------------------------------------------- presigned


def test_headers_that_botocore_moves_into_the_url() -> None:
    headers = {"x-amz-meta-callback": "e30+", "x-amz-acl": "private", "Content-Type": "text/plain"}
    request = presigned("PUT", headers=headers)
    assert "x-amz-meta-callback=e30%2B" in request.query
    assert "x-amz-meta-callback" in SERVER.request(request).identity.signed_headers
    sent_too = replace(
        request, headers={**request.headers, "x-amz-acl": "private", "content-type": "text/plain"}
    )
    assert SERVER.request(sent_too).identity.key == ALICE
    differs = replace(request, headers={**request.headers, "x-amz-acl": "public-read"})
    refused(differs, Code.AccessDenied)
    twice = head("PUT", f"{URL}?{request.query}&x-amz-acl=public-read")
    refused(twice, Code.AccessDenied)
    added = head("PUT", f"{URL}?{request.query}&X-Amz-Meta-New=1")
    refused(added, Code.SignatureDoesNotMatch)


def test_x_amz_in_the_query_of_a_request_signed_by_header() -> None:
    request = signed("HmacV1Auth", "PUT", URL)
    added = head("PUT", f"{URL}?x-amz-meta-callback=e30%3D", dict(request.headers))
    refused(added, Code.SignatureDoesNotMatch)


def test_a_presigned_signature_with_its_plus_unencoded() -> None:
    for number in range(40):
        request = presigned(url=f"{URL}{number}")
        if "%2B" in request.query:
            break
    loose = head("GET", f"{URL}{number}?{request.query.replace('%2B', '+')}")
    assert SERVER.request(loose).identity.key == ALICE


@pytest.mark.parametrize("name", ["AWSAccessKeyId", "Signature", "Expires"])
def test_a_presigned_url_without_one_of_its_parts(name: str) -> None:
    request = presigned()
    left = "&".join(piece for piece in request.query.split("&") if not piece.startswith(name + "="))
    refused(head("GET", f"{URL}?{left}"), Code.AccessDenied)
    refused(head("GET", f"{URL}?{request.query}&{name}=1"), Code.AccessDenied)


def test_expiry_of_a_presigned_url() -> None:
    request = presigned()
    assert authenticator(now=NOW + 600).request(request).identity.key == ALICE
    assert refused(request, Code.AccessDenied, authenticator(now=NOW + 601)).message == "Request has expired"
    longer = head("GET", f"{URL}?{request.query.replace('Expires=1', 'Expires=2')}")
    refused(longer, Code.SignatureDoesNotMatch)
    refused(head("GET", f"{URL}?{request.query.replace('Expires=1', 'Expires=x1')}"), Code.AccessDenied)


def test_another_method_or_path() -> None:
    for request in (presigned(), signed("HmacV1Auth", "GET", URL)):
        refused(replace(request, method="PUT"), Code.SignatureDoesNotMatch)
        refused(replace(request, path="/b/other"), Code.SignatureDoesNotMatch)


def test_a_value_that_reads_like_another_subresource() -> None:
    """partNumber=1&uploadId=u must not become a PutObject with partNumber "1&uploadId=u"."""
    request = presigned("PUT", f"{URL}?partNumber=1&uploadId=u")
    forged = head("PUT", f"{URL}?{request.query.replace('1&uploadId=u', '1%26uploadId%3Du')}")
    refused(forged, Code.AccessDenied)
    disposition = f"{URL}?response-content-disposition=attachment%3B%20filename%3Da%26b"
    assert SERVER.request(presigned("GET", disposition)).identity.key == ALICE


def test_a_hoisted_header_that_reads_like_two() -> None:
    request = presigned("PUT", headers={"x-amz-meta-a": "1", "x-amz-meta-b": "2"})
    query = request.query.replace("x-amz-meta-a=1", "x-amz-meta-a=1%0Ax-amz-meta-b:2").replace(
        "&x-amz-meta-b=2", ""
    )
    refused(head("PUT", f"{URL}?{query}"), Code.AccessDenied)


# ---------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("Bad Date", Code.AccessDenied),
        ("", Code.AccessDenied),
        ("Tue, 07 Jul 1950 21:53:04 GMT", Code.AccessDenied),
        ("Tue, 07 Jul 2010 21:53:04 +999999999999999999", Code.AccessDenied),
        ("Tue, 07 Jul 2010 21:53:04 GMT", Code.RequestTimeTooSkewed),
        ("Tue, 07 Jul 2030 21:53:04 GMT", Code.RequestTimeTooSkewed),
        ("Tue, 07 Jul 9999 21:53:04 GMT", Code.RequestTimeTooSkewed),
    ],
)
def test_bad_dates(value: str, code: Code) -> None:
    request = signed("HmacV1Auth", "PUT", URL)
    refused(replace(request, headers={**request.headers, "x-amz-date": value}), code)
    headers = {name: text for name, text in request.headers.items() if name != "date"}
    refused(replace(request, headers={**headers, "date": value}), code)
    refused(replace(request, headers=headers), Code.AccessDenied)


# ---------------------------------------------------------------- payload


def test_framing_that_botocore_announces_by_headers_alone() -> None:
    headers = {
        "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": "3",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    payload = SERVER.request(signed("HmacV1Auth", "PUT", URL, headers)).payload
    assert (payload.kind, payload.has_trailer, payload.signer) == ("chunked", True, None)
