"""Promises for any input: a changed signed part is refused, and nothing but an S3Error is raised."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from unit.auth.authkit import NOW, authenticator, head, signed

from s3lite.auth import sigv4
from s3lite.errors import S3Error
from s3lite.model import RequestHead, Target
from s3lite.times import amz_date, http_date

SERVER = authenticator(endpoint_aliases=("public.example",))
URL = "http://s3.test:8000/b/a%20key?versionId=v1&acl"
WIRE = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=60)
STARTS = st.sampled_from(
    [
        "",
        "AWS ",
        "AWS yly:",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA256 Credential=yly/20261118/r/s3/aws4_request,SignedHeaders=host,Signature=",
    ]
)
NAMES = st.sampled_from(
    ["date", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "host", "content-type", "content-encoding",
     "x-amz-trailer", "x-amz-meta-a", "content-md5"]
)  # fmt: skip
DATES = st.sampled_from([amz_date(NOW), http_date(NOW)])
QUERY_NAMES = st.sampled_from(
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires",
     "AWSAccessKeyId", "Signature", "Expires", "acl", "callback", "x-amz-acl", "content-type", ""]
)  # fmt: skip


def changed(text: str, index: int, mask: int) -> str:
    """``text`` with one bit pattern of one character flipped."""
    index %= len(text)
    return text[:index] + chr(ord(text[index]) ^ mask) + text[index + 1 :]


@given(
    st.sampled_from(["S3SigV4Auth", "HmacV1Auth"]),
    st.sampled_from(["method", "path", "x-amz-meta-a", "content-type", "authorization", "date"]),
    st.integers(0, 200),
    st.integers(1, 127),
)
def test_a_flipped_character_is_refused(signer: str, part: str, index: int, mask: int) -> None:
    request = signed(signer, "PUT", URL, {"x-amz-meta-a": "value", "Content-Type": "text/plain"})
    sent = dict(request.headers)
    if part in ("method", "path"):
        flipped = replace(request, **{part: changed(getattr(request, part), index, mask)})
        assume(sigv4.canonical_uri(flipped.path) != sigv4.canonical_uri(request.path) or part == "method")
    else:
        name = "x-amz-date" if part == "date" and "x-amz-date" in sent else part
        start = len(sent[name]) - 27 if part == "authorization" else 0  # within the signature
        value = sent[name][:start] + changed(sent[name][start:], index, mask)
        flipped = replace(request, headers={**sent, name: value})
    with pytest.raises(S3Error):
        SERVER.request(flipped)


@given(st.sampled_from(["S3SigV4Auth", "S3SigV4QueryAuth"]), st.integers(0, 500), st.integers(1, 127))
def test_a_flipped_character_of_a_v4_query_is_refused(signer: str, index: int, mask: int) -> None:
    request = signed(signer, "PUT", URL)
    query = changed(request.query, index, mask)
    assume(sigv4.canonical_query(query, drop=()) != sigv4.canonical_query(request.query, drop=()))
    try:
        flipped = head("PUT", f"{URL.partition('?')[0]}?{query}", dict(request.headers))
        result = SERVER.request(flipped)
    except S3Error:
        return
    # Its mechanism's name no longer there: nobody signed, so nothing is granted.
    assert result.identity.key is None


@given(STARTS, WIRE, st.dictionaries(NAMES, WIRE | DATES, max_size=5))
def test_any_headers_give_an_identity_or_an_s3_error(start: str, text: str, headers: dict[str, str]) -> None:
    try:
        result = SERVER.request(head("PUT", URL, {"authorization": start + text, **headers}))
    except S3Error:
        return
    assert result.identity.key is None


@given(st.lists(st.tuples(QUERY_NAMES, st.text(max_size=30) | DATES), max_size=8), WIRE, WIRE)
def test_any_query_gives_an_identity_or_an_s3_error(
    items: list[tuple[str, str]], raw: str, path: str
) -> None:
    request = RequestHead("GET", path, raw, {"host": "h"}, Target("b", ""), items, "/mnt")
    try:
        result = SERVER.request(request, hosts=["é", ""])
    except S3Error:
        return
    assert result.identity.key is None
