"""Signatures of the OSS dialect, made with the standard library: requests and forms as users' scripts send them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from email.utils import formatdate
from urllib.parse import quote

import forms
from client import S3, Answer

REGION = "us-east-1"


class Oss:
    """Requests to one application, signed by V1 or V4."""

    def __init__(self, s3: S3, access_key: str, secret_key: str) -> None:
        self.s3 = s3
        self.access_key = access_key
        self.secret_key = secret_key

    def v1(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        signed_query: str | None = None,
        also: dict[str, str] | None = None,
    ) -> Answer:
        """``path`` is /bucket/key?sub-resources; ``also`` are headers added after signing."""
        name, _, query = path.partition("?")
        sent = {"Date": formatdate(usegmt=True)} | (headers or {})
        lower = {name.lower(): value for name, value in sent.items()}
        lines = "".join(f"{name}:{lower[name]}\n" for name in sorted(lower) if name.startswith("x-oss-"))
        signed = query if signed_query is None else signed_query
        resource = (name if name.count("/") > 1 or name == "/" else name + "/") + (
            f"?{signed}" if signed else ""
        )
        text = "\n".join(
            [
                method,
                lower.get("content-md5", ""),
                lower.get("content-type", ""),
                sent["Date"],
                lines + resource,
            ]
        )
        sent["Authorization"] = f"OSS {self.access_key}:{sign_v1(self.secret_key, text)}"
        return self.s3.send(method, quote(name), query, body, sent | (also or {}))

    def form_v1(
        self, fields: dict[str, str], conditions: list[object], content: bytes = b"file content"
    ) -> Answer:
        policy = forms.policy_text(conditions)
        signed = {
            "OSSAccessKeyId": self.access_key,
            "policy": policy,
            "Signature": sign_v1(self.secret_key, policy),
        }
        return self._post(fields | signed, content)

    def form_v4(self, fields: dict[str, str], conditions: list[object]) -> Answer:
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = (date[:8], REGION, "oss", "aliyun_v4_request")
        policy = forms.policy_text(conditions)
        key = b"aliyun_v4" + self.secret_key.encode()
        for part in scope:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signed = {
            "x-oss-signature-version": "OSS4-HMAC-SHA256",
            "x-oss-credential": "/".join((self.access_key, *scope)),
            "x-oss-date": date,
            "policy": policy,
            "x-oss-signature": hmac.new(key, policy.encode(), hashlib.sha256).hexdigest(),
        }
        return self._post(fields | signed, b"file content")

    def _post(self, fields: dict[str, str], content: bytes) -> Answer:
        body = forms.body(list(fields.items()), content)
        headers = {"Content-Type": forms.CONTENT_TYPE, "Content-Length": str(len(body))}
        return self.s3.send("POST", "/bucket", "", body, headers)


def sign_v1(secret_key: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret_key.encode(), text.encode(), hashlib.sha1).digest()).decode()
