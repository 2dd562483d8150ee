"""An S3 answer as the OSS dialect writes it: header names, XML without namespace, other words.

Only XML documents are rewritten, by name of their root; objects' bytes pass untouched. What a document
of OSS has and S3's has not (a ``Type`` per entry, endpoints per bucket) is added, since the SDKs raise
without it.

Source: `docs/oss.md`; what oss2 2.19.1, alibabacloud-oss-v2 1.4.1 and ali-oss 6.23.0 read.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from s3lite.auth.acl import ALL_USERS, AUTHENTICATED_USERS, public_word
from s3lite.errors import Code
from s3lite.model import RequestHead
from s3lite.oss.request import STORAGE_CLASSES
from s3lite.responses import Headers, Response
from s3lite.wire import xml
from s3lite.wire.checksums import is_appendable

_CLASSES = {theirs: ours for ours, theirs in STORAGE_CLASSES.items()}
_RENAMED_CODES = {
    "NoSuchLifecycleConfiguration": "NoSuchLifecycle",
    "KeyTooLongError": "InvalidObjectName",
}
_DROPPED = ("x-amz-checksum-", "x-amz-id-2", "x-amz-bucket-region")
# Documents whose keys S3 never percent-encodes, and OSS does when asked to.
_ENCODED = frozenset(("DeleteResult", "InitiateMultipartUploadResult", "CompleteMultipartUploadResult"))


class About(NamedTuple):
    """What of the exchange an answer depends on."""

    sent: RequestHead  # as the client sent it
    region: str


def rewrite(response: Response, about: About) -> Response:
    """The same answer in the OSS dialect. The response given is used up."""
    headers = _headers(response)
    status, body, error = response.status, response.body, response.error
    if error == Code.PreconditionFailed.name and about.sent.headers.get("x-oss-forbid-overwrite"):
        status, error = 409, "FileAlreadyExists"
    if isinstance(body, bytes) and _is_own_document(response, body):
        body = _document(body, about, error)
        if about.sent.method == "HEAD" and status >= 400:
            headers.append(("x-oss-err", base64.b64encode(body).decode("ascii")))
    size = len(body) if isinstance(body, bytes) else response.size
    return Response(status, headers, body, size=size, error=error)


def _is_own_document(response: Response, body: bytes) -> bool:
    """An XML document of this server: not an object's bytes, nor what an application answered to a callback."""
    return bool(response.error and body) or f'xmlns="{xml.NAMESPACE}"'.encode() in body[:200]


def _headers(response: Response) -> Headers:
    headers: Headers = []
    etag = ""
    for name, value in response.headers:
        lower = name.lower()
        if lower.startswith(_DROPPED):
            continue
        if lower == "etag":
            value = etag = value.upper()
        elif lower == "x-amz-storage-class":
            value = _CLASSES.get(value, value)
        headers.append(("x-oss-" + lower[len("x-amz-") :] if lower.startswith("x-amz-") else name, value))
    names = {name for name, _ in headers}
    if etag and "Last-Modified" in names:
        headers.append(("x-oss-object-type", _type_of(etag)))
    return headers


def _type_of(etag: str) -> str:
    if is_appendable(etag.lower()):
        return "Appendable"
    return "Multipart" if "-" in etag else "Normal"


def _document(body: bytes, about: About, error: str) -> bytes:
    root = xml.parse(body, None)
    xml.without_namespace(root)
    rewriter = _REWRITERS.get(root.tag)
    if rewriter is not None:
        rewriter(root, about)
    if root.tag == "Error":
        _error(root, error)
    for found in root.iter("ETag"):
        found.text = (found.text or "").upper()
    for found in root.iter("StorageClass"):
        found.text = _CLASSES.get(found.text or "", found.text)
    if root.tag in _ENCODED and dict(about.sent.query_items).get("encoding-type") == "url":
        _encode_keys(root)
    return xml.serialise(root)


def _error(root: xml.Element, error: str) -> None:
    code = xml.child(root, "Code")
    if code is not None:
        code.text = _RENAMED_CODES.get(error, error) or code.text


def _encode_keys(root: xml.Element) -> None:
    """Percent-encoded UTF-8 with %20 for a blank: the SDKs decode without "+"."""
    for found in root.iter("Key"):
        found.text = quote(found.text or "", safe="/-_.~")
    xml.append(root, "EncodingType", "url")


def _listing(root: xml.Element, _about: About) -> None:
    entries = [*xml.children(root, "Contents"), *xml.children(root, "Version")]
    for entry in entries:
        xml.append(entry, "Type", _type_of(xml.text(entry, "ETag")))
    # A page of the first listing is followed by its last key even without a delimiter.
    is_first_kind = xml.child(root, "Marker") is not None and xml.child(root, "NextMarker") is None
    if is_first_kind and entries and xml.text(root, "IsTruncated") == "true":
        xml.append(root, "NextMarker", xml.text(entries[-1], "Key"))


def _buckets(root: xml.Element, about: About) -> None:
    for bucket in root.iter("Bucket"):
        xml.append(bucket, "Location", xml.text(bucket, "BucketRegion") or about.region)
        for name in ("ExtranetEndpoint", "IntranetEndpoint"):
            xml.append(bucket, name, _endpoint(about))
        xml.append(bucket, "StorageClass", "STANDARD")


def _endpoint(about: About) -> str:
    return urlsplit(about.sent.origin).netloc


def _location(root: xml.Element, about: About) -> None:
    root.text = root.text or about.region


def _acl(root: xml.Element, _about: About) -> None:
    """S3's grants as the one word that OSS has for them."""
    grants = xml.child(root, "AccessControlList")
    assert grants is not None
    public = {
        xml.text(grant, "Permission")
        for grant in xml.children(grants, "Grant")
        if (grantee := xml.child(grant, "Grantee")) is not None
        and xml.text(grantee, "URI") in (ALL_USERS, AUTHENTICATED_USERS)
    }
    word = public_word(public)
    for grant in xml.children(grants, "Grant"):
        grants.remove(grant)
    xml.append(grants, "Grant", word)


_REWRITERS: Mapping[str, Callable[[xml.Element, About], None]] = {
    "ListBucketResult": _listing,
    "ListVersionsResult": _listing,
    "ListAllMyBucketsResult": _buckets,
    "LocationConstraint": _location,
    "AccessControlPolicy": _acl,
}
