"""A bucket's configuration: versioning and quota by a form, the rest as the documents that S3 has for them.

The server itself judges a document when it is saved; what it says is shown beside the text.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from s3lite.console.documents import DOCUMENTS, Document
from s3lite.console.visit import Visit
from s3lite.core import quota
from s3lite.core.write import commit, live_bucket
from s3lite.errors import S3Error
from s3lite.model import Bucket
from s3lite.responses import Response
from s3lite.wire import xml

_BY_NAME = {document.subresource: document for document in DOCUMENTS}


def show(visit: Visit) -> Response:
    """The settings of a bucket, one document open."""
    document = _BY_NAME.get(visit.query.get("tab", ""))
    reply = visit.s3.call("GET", visit.rest, query={document.subresource: ""}) if document else None
    text = ""
    if document is not None and reply is not None and reply.ok:
        text = _shown(document, reply.body)
    is_unset = reply is None or reply.ok or reply.status == 404
    return _page(visit, visit.rest, document, text, fault="" if reply is None or is_unset else reply.problem)


def _page(visit: Visit, bucket: str, document: Document | None, text: str, *, fault: str) -> Response:
    versioning = visit.s3.call("GET", bucket, query={"versioning": ""})
    return visit.page(
        "settings.html",
        title=f"Settings of {bucket}",
        bucket=bucket,
        documents=DOCUMENTS,
        document=document,
        text=text,
        versioning=xml.text(versioning.xml, "Status") if versioning.ok else "",
        quota=_quota(visit, bucket),
        fault=fault or versioning.problem,
    )


def save(visit: Visit) -> Response:
    """Save versioning or a document; an empty text removes the document."""
    bucket, tab = visit.form.get("bucket", ""), visit.form.get("tab", "")
    target = f"settings/{quote(bucket)}"
    if tab == "versioning":
        status = "Enabled" if visit.form.get("status") == "Enabled" else "Suspended"
        body = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"
        reply = visit.s3.call("PUT", bucket, query={"versioning": ""}, body=body.encode())
        return visit.back(target, notice=f"Versioning: {status}." if reply.ok else "", fault=reply.problem)
    if tab == "quota":
        return _save_quota(visit, bucket, target)
    document = _BY_NAME.get(tab)
    if document is None:
        return visit.back(target, fault="There is no such setting.")
    text = visit.form.get("text", "").replace("\r\n", "\n").strip()
    if text or document.nothing:
        reply = visit.s3.call("PUT", bucket, query={tab: ""}, body=(text or document.nothing).encode())
    else:
        reply = visit.s3.call("DELETE", bucket, query={tab: ""})
    if not reply.ok:
        return _page(visit, bucket, document, text, fault=reply.problem)
    return visit.back(
        f"{target}?tab={quote(tab)}", notice=f"{document.title} {'saved' if text else 'removed'}."
    )


def _quota(visit: Visit, bucket: str) -> dict[str, Any] | None:
    """What the bucket may hold and holds; None for visitors who may not know."""
    if not visit.is_operator:
        return None
    with visit.services.store.catalog.read() as tx:
        found = tx.bucket(bucket)
        own = [each for each in (tx.quotas_of(found) if found else ()) if each.subject.startswith("bucket ")]
    if not own:
        return {"is_set": False, "max_bytes": "", "max_objects": ""}
    return {
        "is_set": True,
        "max_bytes": "" if own[0].max_bytes is None else str(own[0].max_bytes),
        "max_objects": "" if own[0].max_objects is None else str(own[0].max_objects),
        "bytes": own[0].bytes,
        "objects": own[0].objects,
    }


def _save_quota(visit: Visit, bucket: str, target: str) -> Response:
    """Bound the bucket; for the operator. An empty field is no bound."""
    max_bytes = max_objects = None
    try:
        if text := visit.form.get("max_bytes", "").strip():
            max_bytes = quota.parse_bytes(text)
        if text := visit.form.get("max_objects", "").strip():
            max_objects = quota.parse_objects(text)
    except ValueError as error:
        return visit.back(target, fault=f"The quota is unchanged: {error}.")
    if not visit.is_operator:
        return visit.back(target, fault="Quotas are the operator's to set.")
    store = visit.services.store
    with store.catalog.read() as tx:
        found = tx.bucket(bucket)
    if found is None:
        return visit.back("buckets", fault="There is no such bucket.")
    known: Bucket = found
    try:
        commit(
            store,
            lambda tx: tx.put_bucket_quota(
                live_bucket(tx, known), max_bytes=max_bytes, max_objects=max_objects
            ),
        )
    except S3Error as error:
        return visit.back(target, fault=error.message)
    return visit.back(target, notice="Quota saved." if max_bytes or max_objects else "Quota removed.")


def _shown(document: Document, body: bytes) -> str:
    """A document as it stands in the form; "" for what S3 answers where nothing is configured."""
    if document.nothing and not len(xml.parse(body, None)):
        return ""
    if document.kind == "JSON":
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return xml.indented(body)
