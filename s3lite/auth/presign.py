"""Presigned URLs of this server: V4 in the query, for whoever holds a key's secret.

Source: API Reference, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from s3lite.auth import sigv4
from s3lite.auth.payload import UNSIGNED
from s3lite.model import AccessKey
from s3lite.times import amz_date


def presign(
    method: str,
    url: str,
    *,
    key: AccessKey,
    region: str,
    now_s: float,
    expires_s: int,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """``url`` (path percent-encoded, no query) with ``query`` and a signature that is good for ``expires_s`` seconds.

    ``headers`` (lower-case names) must be sent with the request exactly so.
    """
    parts = urlsplit(url)
    signed = {"host": parts.netloc} | dict(headers or {})
    names = sorted(signed)
    date = amz_date(now_s)
    scope = f"{date[:8]}/{region}/{sigv4.SERVICE}/{sigv4.TERMINATOR}"
    parameters = dict(query or {}) | {
        "X-Amz-Algorithm": sigv4.ALGORITHM,
        "X-Amz-Credential": f"{key.access_key}/{scope}",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": ";".join(names),
    }
    encoded = "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(parameters.items())
    )
    request = sigv4.canonical_request(
        method,
        sigv4.canonical_uri(parts.path),
        sigv4.canonical_query(encoded),
        sigv4.canonical_headers(signed, names),
        ";".join(names),
        UNSIGNED,
    )
    secret = sigv4.signing_key(key.secret_key, date[:8], region)
    signature = sigv4.signature(secret, sigv4.string_to_sign(date, scope, request))
    return f"{url}?{encoded}&X-Amz-Signature={signature}"
