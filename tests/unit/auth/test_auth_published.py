"""The examples that AWS publishes, through the whole authenticator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.auth.authkit import authenticator, head

from s3lite.errors import Code, S3Error
from s3lite.model import AccessKey, Account
from s3lite.times import parse_http_date

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "sigv4" / "published.json").read_text(encoding="utf-8")
)
KEY = AccessKey(VECTORS["access_key"], VECTORS["secret_key"], Account("a", "A"))
MAY_24 = 1369353600.0


def by_name(case: dict[str, Any]) -> str:
    return str(case["name"])


@pytest.mark.parametrize("case", VECTORS["v4_header"], ids=by_name)
def test_v4_header(case: dict[str, Any]) -> None:
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={KEY.access_key}/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={case['signed']},Signature={case['signature']}"
    )
    request = head(
        case["method"],
        f"http://{case['host']}{case['uri']}",
        {**case["headers"], "Authorization": authorization},
    )
    result = authenticator(KEY, now=MAY_24).request(request)
    assert result.identity.key == KEY
    assert result.identity.signed_headers == frozenset(case["signed"].split(";"))
    if "chunks" in case["name"]:
        assert result.payload.kind == "chunked"
        assert result.payload.signer is not None
        assert result.payload.signer.seed == case["signature"]
        assert result.payload.signer.scope == "20130524/us-east-1/s3/aws4_request"
    else:
        assert result.payload.sha256 == case["headers"]["x-amz-content-sha256"]


@pytest.mark.parametrize(("later_s", "code"), [(0, None), (86400, None), (86401, Code.AccessDenied)])
def test_v4_presigned(later_s: int, code: Code | None) -> None:
    case = VECTORS["v4_query"]
    request = head("GET", f"https://{case['host']}{case['uri']}")
    server = authenticator(KEY, now=MAY_24 + later_s)
    if code is None:
        assert server.request(request).identity.scheme == "v4-query"
    else:
        with pytest.raises(S3Error) as caught:
            server.request(request)
        assert caught.value.code is code
        assert caught.value.message == "Request has expired"


@pytest.mark.parametrize("case", VECTORS["v2_header"], ids=by_name)
def test_v2_header(case: dict[str, Any]) -> None:
    authorization = f"AWS {KEY.access_key}:{case['signature']}"
    request = head(
        case["method"],
        f"http://host{case['uri']}",
        {**case["headers"], "Authorization": authorization},
        bucket=case["bucket"],
    )
    now = parse_http_date(case["headers"]["date"])
    assert now is not None
    assert authenticator(KEY, now=now).request(request).identity.scheme == "v2-header"
    with pytest.raises(S3Error):
        authenticator(KEY, now=now).request(replace(request, method="DELETE"))


def test_v2_presigned() -> None:
    case = VECTORS["v2_query"]
    request = head("GET", f"http://host{case['uri']}", bucket=case["bucket"])
    assert authenticator(KEY, now=case["now"]).request(request).identity.scheme == "v2-query"
    with pytest.raises(S3Error, match="Request has expired"):
        authenticator(KEY, now=case["now"] + 700).request(request)
