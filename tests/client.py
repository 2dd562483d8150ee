"""An S3 client for in-process tests: WebTest with lint on, signatures made by botocore.

WebTest sets neither RAW_URI nor ``wsgi.input_terminated``, which real servers do; this does.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote, urlencode

from botocore.auth import HmacV1Auth, S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from lxml import etree
from webtest import TestApp, TestRequest, TestResponse

HOST = "s3.test:80"
REGION = "us-east-1"


class Answer:
    """A response with its XML within reach."""

    def __init__(self, response: TestResponse) -> None:
        self.status: int = response.status_int
        self.headers = response.headers
        self.body: bytes = response.body

    @property
    def xml(self) -> etree._Element:
        root = etree.fromstring(self.body)
        for element in root.iter():
            element.tag = etree.QName(element).localname
        return root

    @property
    def code(self) -> str:
        """The error's code."""
        return self.xml.findtext("Code") or ""

    @property
    def message(self) -> str:
        return self.xml.findtext("Message") or ""

    def text(self, path: str) -> str | None:
        return self.xml.findtext(path)

    def texts(self, path: str) -> list[str]:
        return [element.text or "" for element in self.xml.findall(path)]

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:300]!r}>"


class S3:
    """Requests to one application as one user; ``access_key`` None sends them unsigned."""

    def __init__(
        self,
        app: Any,
        access_key: str | None,
        secret_key: str = "",
        *,
        token: str | None = None,
        host: str = HOST,
        prefix: str = "",
    ) -> None:
        self.wsgi = app
        self.app = TestApp(app, lint=True)
        self.credentials = Credentials(access_key, secret_key, token) if access_key else None
        self.host = host
        self.prefix = prefix

    def anonymous(self) -> S3:
        return S3(self.wsgi, None, host=self.host, prefix=self.prefix)

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        signer: str = "v4",
        raw_path: str | None = None,
        payload_hash: str | None = None,
    ) -> Answer:
        """``path`` is "/bucket/key?query" with the key unescaped; ``raw_path`` is sent as it is."""
        name, _, query = path.partition("?")
        raw = self.prefix + (raw_path or quote(name, safe="/-_.~"))
        signed = dict(headers or {})
        if body or method in ("PUT", "POST"):
            signed.setdefault("Content-Length", str(len(body)))
        url = f"http://{self.host}{raw}" + (f"?{query}" if query else "")
        if self.credentials is not None and signer != "none":
            aws = AWSRequest(method=method, url=url, headers=signed, data=body)
            aws.context["payload_signing_enabled"] = True
            if payload_hash is not None:
                aws.headers["X-Amz-Content-SHA256"] = payload_hash
            if signer == "v4":
                aws.headers["X-Amz-Content-SHA256"] = payload_hash or hashlib.sha256(body).hexdigest()
                _SignAsIs(self.credentials, "s3", REGION).add_auth(aws)
            else:
                HmacV1Auth(self.credentials).add_auth(aws)
            signed = dict(aws.headers.items())
        return self.send(method, raw, query, body, signed)

    def send(self, method: str, raw: str, query: str, body: bytes, headers: dict[str, str]) -> Answer:
        """One request as it is."""
        request = TestRequest.blank(raw + (f"?{query}" if query else ""), method=method, headers=headers)
        request.environ["HTTP_HOST"] = self.host
        request.environ["RAW_URI"] = raw + (f"?{query}" if query else "")
        if body or method in ("PUT", "POST"):
            request.body = body
        if "chunked" in headers.get("Transfer-Encoding", ""):
            request.environ.pop("CONTENT_LENGTH", None)
            request.environ["wsgi.input_terminated"] = True
        if "Content-Length" not in headers and "CONTENT_LENGTH" in request.environ and not body:
            request.environ.pop("CONTENT_LENGTH", None)
        return Answer(self.app.do_request(request, expect_errors=True))

    def presign(
        self, method: str, path: str, *, expires: int = 300, headers: dict[str, str] | None = None
    ) -> str:
        """The raw path and query of a presigned V4 URL."""
        name, _, query = path.partition("?")
        url = f"http://{self.host}{self.prefix}{quote(name, safe='/-_.~')}" + (f"?{query}" if query else "")
        aws = AWSRequest(method=method, url=url, headers=headers or {})
        S3SigV4QueryAuth(self.credentials, "s3", REGION, expires=expires).add_auth(aws)
        return aws.url.partition(self.host)[2]

    def open(self, method: str, raw: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """Follow a presigned URL, unsigned."""
        path, _, query = raw.partition("?")
        return self.send(method, path, query, body, headers or {})

    def sts(self, *, service: str = "sts", version: str = "2011-06-15", **parameters: str) -> Answer:
        """A call of STS, signed as its clients do: without x-amz-content-sha256."""
        body = urlencode({**parameters, "Version": version}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        raw = f"{self.prefix}/"
        if self.credentials is not None:
            aws = AWSRequest(method="POST", url=f"http://{self.host}{raw}", headers=headers, data=body)
            SigV4Auth(self.credentials, service, REGION).add_auth(aws)
            headers = dict(aws.headers.items())
        return self.send("POST", raw, "", body, headers)

    def assume(self, policy: object = None, **parameters: str) -> S3:
        """A client with temporary credentials that this one has asked for."""
        if policy is not None:
            parameters["Policy"] = json.dumps(policy)
        named = {"RoleArn": "arn:aws:iam::any:role/any", "RoleSessionName": "test"}
        answer = self.sts(Action="AssumeRole", **{**named, **parameters})
        assert answer.status == 200, answer
        found = [
            answer.text(f"AssumeRoleResult/Credentials/{name}")
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        ]
        return S3(self.wsgi, found[0], found[1], token=found[2], host=self.host, prefix=self.prefix)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=_names(headers))

    def head(self, path: str, **headers: str) -> Answer:
        return self.request("HEAD", path, headers=_names(headers))

    def put(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        return self.request("PUT", path, body, headers)

    def post(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        return self.request("POST", path, body, headers)

    def delete(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return self.request("DELETE", path, headers=headers)

    # -- frequent sequences

    def start_upload(self, path: str, headers: dict[str, str] | None = None) -> str:
        return self.post(f"{path}?uploads", headers=headers).text("UploadId") or ""

    def put_part(self, path: str, upload_id: str, number: int, body: bytes) -> str:
        answer = self.put(f"{path}?partNumber={number}&uploadId={upload_id}", body)
        assert answer.status == 200, answer
        return answer.headers["ETag"]

    def complete(
        self, path: str, upload_id: str, etags: dict[int, str], headers: dict[str, str] | None = None
    ) -> Answer:
        return self.post(f"{path}?uploadId={upload_id}", complete_document(etags), headers)

    def keys(self, bucket: str, query: str = "") -> list[str]:
        return self.get(f"/{bucket}?list-type=2{query}").texts("Contents/Key")


class _SignAsIs(S3SigV4Auth):
    """botocore's signer without its own opinion of the payload hash."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.headers["X-Amz-Content-SHA256"])

    def _set_necessary_date_headers(self, request: AWSRequest) -> None:
        super()._set_necessary_date_headers(request)

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        kept = request.headers["X-Amz-Content-SHA256"]
        super()._modify_request_before_signing(request)
        del request.headers["X-Amz-Content-SHA256"]
        request.headers["X-Amz-Content-SHA256"] = kept


def complete_document(etags: dict[int, str]) -> bytes:
    """A CompleteMultipartUpload body."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in etags.items()
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
