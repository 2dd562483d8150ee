"""Buckets and objects: lists, one object with its versions, and what can be done to them."""

from __future__ import annotations

import mimetypes
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from s3lite.console.uploads import PART_BYTES, signed_url
from s3lite.console.visit import Visit
from s3lite.model import NULL_VERSION
from s3lite.responses import Response
from s3lite.wire import xml

_PAGE = 100
_TEXT_BYTES = 64 << 10
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript", "application/x-yaml")
_SHARE_S = {"1 hour": 3600, "1 day": 86_400, "7 days": 604_800}


# ---------------------------------------------------------------- buckets


def buckets(visit: Visit) -> Response:
    """The buckets that the visitor may see."""
    reply = visit.s3.call("GET")
    rows = [
        {"name": xml.text(row, "Name"), "created": xml.text(row, "CreationDate")}
        for row in (reply.xml.iter("{*}Bucket") if reply.ok else ())
    ]
    return visit.page("buckets.html", title="Buckets", rows=rows, fault=reply.problem)


def create_bucket(visit: Visit) -> Response:
    """Make a bucket."""
    name = visit.form.get("name", "").strip()
    headers = {"x-amz-bucket-object-lock-enabled": "true"} if visit.form.get("object_lock") else {}
    reply = visit.s3.call("PUT", name or "-", headers=headers)
    if not reply.ok:
        return visit.back("buckets", fault=reply.problem)
    return visit.back(f"b/{quote(name)}", notice=f"Made {name}.")


def delete_bucket(visit: Visit) -> Response:
    """Remove an empty bucket."""
    name = visit.form.get("bucket", "")
    reply = visit.s3.call("DELETE", name or "-")
    if not reply.ok:
        return visit.back(f"settings/{quote(name)}", fault=reply.problem)
    return visit.back("buckets", notice=f"Removed {name}.")


# ---------------------------------------------------------------- objects


class Crumb(NamedTuple):
    """A part of a prefix, and the prefix that it ends."""

    name: str
    prefix: str


def crumbs(prefix: str) -> list[Crumb]:
    """``a/b/`` as a/ and b/."""
    parts = [part + "/" for part in prefix.split("/")[:-1]]
    return [Crumb(part, "".join(parts[: index + 1])) for index, part in enumerate(parts)]


def objects(visit: Visit) -> Response:
    """A page of a bucket: folders (common prefixes) and objects below a prefix."""
    bucket, prefix = visit.rest, visit.query.get("prefix", "")
    query = {"list-type": "2", "max-keys": str(_PAGE), "encoding-type": "url", "prefix": prefix}
    if not visit.query.get("flat"):
        query["delimiter"] = "/"
    if visit.query.get("token"):
        query["continuation-token"] = visit.query["token"]
    reply = visit.s3.call("GET", bucket, query=query)
    if not reply.ok:
        return visit.page(
            "objects.html", title=bucket, status=reply.status, **_no_objects(bucket, prefix, reply.problem)
        )
    root = reply.xml
    rows = [
        {
            "key": (key := unquote(xml.text(row, "Key"))),
            "name": key[len(prefix) :] if key != prefix else "(this folder)",
            "size": int(xml.text(row, "Size")),
            "modified": xml.text(row, "LastModified"),
            "storage_class": xml.text(row, "StorageClass"),
        }
        for row in xml.children(root, "Contents")
    ]
    folders = [unquote(xml.text(row, "Prefix")) for row in xml.children(root, "CommonPrefixes")]
    return visit.page(
        "objects.html",
        title=bucket,
        bucket=bucket,
        prefix=prefix,
        crumbs=crumbs(prefix),
        rows=rows,
        folders=[{"prefix": folder, "name": folder[len(prefix) :]} for folder in folders],
        flat=bool(visit.query.get("flat")),
        token=xml.text(root, "NextContinuationToken"),
        is_first=not visit.query.get("token"),
        part_bytes=PART_BYTES,
    )


def _no_objects(bucket: str, prefix: str, problem: str) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "prefix": prefix,
        "crumbs": crumbs(prefix),
        "rows": [],
        "folders": [],
        "token": "",
        "flat": False,
        "is_first": True,
        "part_bytes": PART_BYTES,
        "fault": problem,
    }


def delete_objects(visit: Visit) -> Response:
    """Remove the chosen objects, or one version of one."""
    bucket, prefix = visit.form.get("bucket", ""), visit.form.get("prefix", "")
    keys, version_id = visit.lists.get("key", []), visit.form.get("version_id", "")
    version = xml.element("VersionId", version_id) if version_id else ""
    rows = "".join(f"<Object>{xml.element('Key', key)}{version}</Object>" for key in keys)
    target = f"b/{quote(bucket)}?prefix={quote(prefix)}"
    if not rows:
        return visit.back(target, fault="Nothing was chosen.")
    reply = visit.s3.call("POST", bucket, query={"delete": ""}, body=f"<Delete>{rows}</Delete>".encode())
    faults = (
        [xml.text(row, "Message") for row in xml.children(reply.xml, "Error")]
        if reply.ok
        else [reply.problem]
    )
    if faults:
        return visit.back(target, fault=f"{len(faults)} not removed: {faults[0]}")
    return visit.back(target, notice=f"Removed {keys[0] if len(keys) == 1 else f'{len(keys)} objects'}.")


# ---------------------------------------------------------------- one object


def show_object(visit: Visit) -> Response:
    """An object: what it is, a preview, its tags and its versions."""
    bucket, _, key = visit.rest.partition("/")
    version_id = visit.query.get("versionId", "")
    query = {"versionId": version_id} if version_id else {}
    head = visit.s3.call("HEAD", bucket, key, query, headers={"x-amz-checksum-mode": "ENABLED"})
    versions = _versions(visit, bucket, key)
    values: dict[str, Any] = {
        "bucket": bucket,
        "object": key,
        "name": key.rsplit("/", 1)[-1] or key,
        "crumbs": crumbs(key),
        "version_id": version_id,
        "versions": versions,
        "shared": "",
        "share_choices": list(_SHARE_S),
    }
    if not head.ok:
        gone = "This object does not exist, or you may not read it."
        return visit.page(
            "object.html", title=values["name"], status=head.status, found=False, fault=gone, **values
        )
    return visit.page(
        "object.html",
        title=values["name"],
        found=True,
        **values,
        **_described(visit, bucket, key, query, head.headers),
    )


def _described(visit: Visit, bucket: str, key: str, query: dict[str, str], headers: Any) -> dict[str, Any]:
    kind = headers.get("content-type", "")
    size = int(headers.get("content-length", "0"))
    meta = {
        name[len("x-amz-meta-") :]: value for name, value in headers.items() if name.startswith("x-amz-meta-")
    }
    shown = (
        "etag",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
    )
    facts = {name: headers[name] for name in shown if name in headers}
    facts |= {
        name[len("x-amz-") :]: value
        for name, value in headers.items()
        if name.startswith(
            ("x-amz-checksum-", "x-amz-server-side", "x-amz-object-lock", "x-amz-storage", "x-amz-exp")
        )
    }
    tagging = visit.s3.call("GET", bucket, key, {"tagging": "", **query})
    tags = [
        (xml.text(tag, "Key"), xml.text(tag, "Value"))
        for tag in (tagging.xml.iter("{*}Tag") if tagging.ok else ())
    ]
    return {
        "kind": kind,
        "size": size,
        "modified": headers.get("last-modified", ""),
        "facts": facts,
        "meta": meta,
        "tags": tags,
        "url": signed_url(visit, "GET", bucket, key, query),
        "download": signed_url(
            visit, "GET", bucket, key, {**query, "response-content-disposition": _attachment(key)}
        ),
        "preview": _preview(kind, key),
        "text": _text(visit, bucket, key, query, kind, key, size),
    }


def _attachment(key: str) -> str:
    return f"attachment; filename*=UTF-8''{quote(key.rsplit('/', 1)[-1] or 'object', safe='')}"


def _preview(kind: str, key: str) -> str:
    """image, video, audio or "": what a browser can show without running anything."""
    if kind in ("", "application/octet-stream", "binary/octet-stream"):
        kind = mimetypes.guess_type(key)[0] or ""
    family = kind.partition("/")[0]
    return family if family in ("image", "video", "audio") else ""


def _text(
    visit: Visit, bucket: str, key: str, query: dict[str, str], kind: str, name: str, size: int
) -> str | None:
    """The beginning of a text object; None for others."""
    guessed = kind if kind.startswith(_TEXT_TYPES) else mimetypes.guess_type(name)[0] or ""
    if not guessed.startswith(_TEXT_TYPES) or not size:
        return None
    reply = visit.s3.call("GET", bucket, key, query, headers={"range": f"bytes=0-{_TEXT_BYTES - 1}"})
    if not reply.ok:
        return None
    return reply.body.decode("utf-8", "replace") + ("\n…" if size > _TEXT_BYTES else "")


def _versions(visit: Visit, bucket: str, key: str) -> list[dict[str, Any]]:
    """All versions and delete markers of one key, newest first."""
    reply = visit.s3.call(
        "GET", bucket, query={"versions": "", "prefix": key, "max-keys": "100", "encoding-type": "url"}
    )
    if not reply.ok:
        return []
    return [
        {
            "version_id": xml.text(row, "VersionId"),
            "modified": xml.text(row, "LastModified"),
            "size": int(xml.text(row, "Size", "0")),
            "is_latest": xml.text(row, "IsLatest") == "true",
            "is_marker": xml.local_name(row) == "DeleteMarker",
            "is_null": xml.text(row, "VersionId") == NULL_VERSION,
        }
        for row in reply.xml
        if xml.local_name(row) in ("Version", "DeleteMarker") and unquote(xml.text(row, "Key")) == key
    ]


def share(visit: Visit) -> Response:
    """A link that anyone may follow for a while."""
    bucket, key = visit.form.get("bucket", ""), visit.form.get("key", "")
    expires_s = _SHARE_S.get(visit.form.get("expires", ""), 3600)
    link = signed_url(visit, "GET", bucket, key, expires_s=expires_s)
    return visit.page(
        "share.html", title="Share", bucket=bucket, object=key, link=link, expires=visit.form.get("expires")
    )


def save_tags(visit: Visit) -> Response:
    """Replace an object's tags by those of the form, a ``name=value`` per line."""
    bucket, key = visit.form.get("bucket", ""), visit.form.get("key", "")
    pairs = [line.partition("=") for line in visit.form.get("tags", "").splitlines() if line.strip()]
    rows = "".join(
        f"<Tag>{xml.element('Key', name.strip())}{xml.element('Value', value.strip())}</Tag>"
        for name, _, value in pairs
    )
    body = f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()
    reply = visit.s3.call("PUT", bucket, key, {"tagging": ""}, body=body)
    target = f"o/{quote(bucket)}/{quote(key)}"
    return (
        visit.back(target, fault=reply.problem) if not reply.ok else visit.back(target, notice="Tags saved.")
    )


def restore_version(visit: Visit) -> Response:
    """Make an older version the latest, by a copy of it."""
    bucket, key, version_id = (visit.form.get(name, "") for name in ("bucket", "key", "version_id"))
    source = f"/{bucket}/{quote(key)}?versionId={quote(version_id)}"
    reply = visit.s3.call("PUT", bucket, key, headers={"x-amz-copy-source": source})
    target = f"o/{quote(bucket)}/{quote(key)}"
    return (
        visit.back(target, fault=reply.problem)
        if not reply.ok
        else visit.back(target, notice="Version restored.")
    )
