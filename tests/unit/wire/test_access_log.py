"""Lines of access logs: one line of 27 fields whatever the request holds, and no secret in it."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lite.model import ANONYMOUS
from s3lite.routes import ROUTES
from s3lite.wire.access_log import Record, line, operation_name

HEADER_TEXT = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"))


def record(**values: object) -> Record:
    usual: dict[str, object] = {
        "owner_id": "alice",
        "bucket": "bucket",
        "at_s": 1_549_411_238.0,
        "client_ip": "192.0.2.3",
        "request_id": "3E57427F3EXAMPLE",
        "operation": "REST.GET.OBJECT",
        "key": "key",
        "status": 200,
        "caller": ANONYMOUS,
        "region": "us-east-1",
        "method": "GET",
        "uri": "/bucket/key",
    }
    return Record(**{**usual, **values})


def test_a_line_is_as_s3_writes_it() -> None:
    made = line(record(sent_bytes=113, total_ms=7, user_agent="S3Console/0.4", host_id="s9lz=", host="h:1"))
    assert made.decode() == (
        "alice bucket [06/Feb/2019:00:00:38 +0000] 192.0.2.3 - 3E57427F3EXAMPLE REST.GET.OBJECT key "
        '"GET /bucket/key HTTP/1.1" 200 - 113 - 7 7 "-" "S3Console/0.4" - s9lz= - - - h:1 - - - us-east-1\n'
    )


@given(HEADER_TEXT, HEADER_TEXT, HEADER_TEXT, st.text())
def test_whatever_is_asked_makes_one_line_of_27_fields(uri: str, agent: str, referrer: str, key: str) -> None:
    made = line(record(uri=uri, user_agent=agent, referrer=referrer, key=key, owner_id=key, version_id=agent))
    assert made.count(b"\n") == 1
    splitter = shlex.shlex(made.decode(), posix=True, punctuation_chars=False)
    splitter.whitespace_split, splitter.quotes, splitter.escape, splitter.commenters = True, '"', "", ""
    assert len(list(splitter)) == 28  # the time is two words


@pytest.mark.parametrize(
    "name",
    [
        "X-Amz-Signature",
        "x-amz-security-token",
        "Signature",
        "security-token",
        "X%2DAmz%2dSignature",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-copy-source-server-side-encryption-customer-key",
        "callback",
        "callback-var",
        "x-oss-signature",
    ],
)
def test_secrets_are_taken_out(name: str) -> None:
    made = line(record(uri=f"/b/k?a=1&{name}=HUSH&b=2", referrer=f"http://h/?{name}=HUSH#f;{name}=HUSH"))
    assert b"HUSH" not in made
    assert f"?a=1&{name}=REDACTED&b=2 ".encode() in made


def test_what_is_no_secret_stays() -> None:
    uri = "/b?continuation-token=abc&X-Amz-Credential=AKIA%2F1&prefix=x&uploads"
    assert uri.encode() in line(record(uri=uri))


@pytest.mark.parametrize(
    ("method", "operation", "expected"),
    [
        ("GET", "ListObjectsV2", "REST.GET.BUCKET"),
        ("GET", "GetBucketVersioning", "REST.GET.VERSIONING"),
        ("GET", "GetBucketLogging", "REST.GET.LOGGING_STATUS"),
        ("GET", "GetBucketPolicy", "REST.GET.BUCKETPOLICY"),
        ("GET", "GetObjectTagging", "REST.GET.OBJECT_TAGGING"),
        ("GET", "GetPublicAccessBlock", "REST.GET.PUBLIC_ACCESS_BLOCK"),
        ("PUT", "CopyObject", "REST.COPY.OBJECT"),
        ("PUT", "UploadPart", "REST.PUT.PART"),
        ("POST", "CreateMultipartUpload", "REST.POST.UPLOADS"),
        ("GET", "WebsiteRequest", "WEBSITE.GET.OBJECT"),
        ("BREW", "", "REST.BREW.REQUEST"),
    ],
)
def test_operations_have_the_names_of_s3(method: str, operation: str, expected: str) -> None:
    assert operation_name(method, operation) == expected


def test_every_operation_has_a_name_of_one_word() -> None:
    for route in ROUTES:
        words = operation_name(route.method, route.operation).split(".")
        assert len(words) == 3, route
        assert all(words), route
