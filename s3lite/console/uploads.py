"""What the console's script asks for to upload: presigned URLs, the same that applications use.

The bytes go from the browser to the object's own URL; the console never sees them.
"""

from __future__ import annotations

from urllib.parse import quote

from s3lite.auth.presign import presign
from s3lite.console.visit import Visit
from s3lite.errors import Code, S3Error
from s3lite.wire import xml

PART_BYTES = 16 << 20
_EXPIRES_S = 3600


def signed_url(
    visit: Visit,
    method: str,
    bucket: str,
    key: str,
    query: dict[str, str] | None = None,
    *,
    expires_s: int = _EXPIRES_S,
) -> str:
    """An object's URL, signed with the visitor's key."""
    return presign(
        method,
        f"{visit.endpoint}/{bucket}/{quote(key, safe='/-_.~')}",
        key=visit.session.key,
        region=visit.services.settings.region,
        now_s=visit.services.store.clock.time(),
        expires_s=expires_s,
        query=query,
    )


def put(visit: Visit) -> object:
    """The URL for a file of one request. ``part_bytes`` tells from where on to use `start`."""
    document = visit.document
    return {"url": signed_url(visit, "PUT", str(document["bucket"]), str(document["key"]))}


def start(visit: Visit) -> object:
    """Begin a multipart upload."""
    bucket, key = str(visit.document["bucket"]), str(visit.document["key"])
    headers = {"content-type": str(visit.document.get("type") or "application/octet-stream")}
    reply = visit.s3.call("POST", bucket, key, {"uploads": ""}, headers=headers)
    if not reply.ok:
        raise S3Error(Code.InvalidRequest, reply.problem)
    size = int(visit.document["size"])
    part_bytes = max(PART_BYTES, -(-size // visit.services.settings.limits.parts))
    return {"upload_id": xml.text(reply.xml, "UploadId"), "part_bytes": part_bytes}


def part(visit: Visit) -> object:
    """The URL for one part."""
    document = visit.document
    query = {"partNumber": str(int(document["number"])), "uploadId": str(document["upload_id"])}
    return {"url": signed_url(visit, "PUT", str(document["bucket"]), str(document["key"]), query)}


def complete(visit: Visit) -> object:
    """Put the parts together. ``etags`` are those that the parts' answers had, in order.

    ``callback`` is how that of the upload went: ok, queued, failed, or "" without any.
    """
    document = visit.document
    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber>{xml.element('ETag', str(etag))}</Part>"
        for number, etag in enumerate(document["etags"], 1)
    )
    reply = visit.s3.call(
        "POST",
        str(document["bucket"]),
        str(document["key"]),
        {"uploadId": str(document["upload_id"])},
        body=f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode(),
    )
    if not reply.ok:
        raise S3Error(Code.InvalidRequest, reply.problem)
    return {"callback": reply.headers.get("x-s3lite-callback-status", "")}


def abort(visit: Visit) -> object:
    """Give an upload up."""
    document = visit.document
    query = {"uploadId": str(document["upload_id"])}
    visit.s3.call("DELETE", str(document["bucket"]), str(document["key"]), query)
    return {}
