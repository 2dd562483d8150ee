"""A bucket's configuration: versioning by a switch, the rest as the documents that S3 has for them.

The server itself judges a document when it is saved; what it says is shown beside the text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

from s3lite.console.visit import Visit
from s3lite.responses import Response
from s3lite.wire import xml


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration document of S3: the query name that reads and writes it, and one to start from."""

    subresource: str
    title: str
    help: str
    example: str
    kind: str = "XML"
    removable: bool = True


DOCUMENTS = (
    Document(
        "cors",
        "CORS",
        "Which pages of other origins may use this bucket from a browser.",
        """<CORSConfiguration>
  <CORSRule>
    <AllowedOrigin>https://app.example</AllowedOrigin>
    <AllowedMethod>GET</AllowedMethod>
    <AllowedMethod>PUT</AllowedMethod>
    <AllowedHeader>*</AllowedHeader>
    <ExposeHeader>ETag</ExposeHeader>
    <MaxAgeSeconds>3600</MaxAgeSeconds>
  </CORSRule>
</CORSConfiguration>""",
    ),
    Document(
        "policy",
        "Policy",
        "Who may do what, beside the owner. Nothing is public unless this or an ACL says so.",
        """{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": "*",
      "Action": "s3:GetObject",
      "Resource": "arn:aws:s3:::BUCKET/public/*"
    }
  ]
}""",
        kind="JSON",
    ),
    Document(
        "lifecycle",
        "Lifecycle",
        "What is removed by itself, and when.",
        """<LifecycleConfiguration>
  <Rule>
    <ID>tidy</ID>
    <Filter><Prefix>tmp/</Prefix></Filter>
    <Status>Enabled</Status>
    <Expiration><Days>7</Days></Expiration>
    <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>
  </Rule>
</LifecycleConfiguration>""",
    ),
    Document(
        "tagging",
        "Tags",
        "Names and values for your own bookkeeping.",
        """<Tagging>
  <TagSet>
    <Tag><Key>team</Key><Value>photos</Value></Tag>
  </TagSet>
</Tagging>""",
    ),
    Document(
        "website",
        "Website",
        "How the bucket answers as a website, under a domain of `website_domains`.",
        """<WebsiteConfiguration>
  <IndexDocument><Suffix>index.html</Suffix></IndexDocument>
  <ErrorDocument><Key>error.html</Key></ErrorDocument>
</WebsiteConfiguration>""",
    ),
    Document(
        "publicAccessBlock",
        "Public access",
        "Keeps the public out, whatever policy and ACLs say.",
        """<PublicAccessBlockConfiguration>
  <BlockPublicAcls>true</BlockPublicAcls>
  <IgnorePublicAcls>true</IgnorePublicAcls>
  <BlockPublicPolicy>true</BlockPublicPolicy>
  <RestrictPublicBuckets>true</RestrictPublicBuckets>
</PublicAccessBlockConfiguration>""",
    ),
)
_BY_NAME = {document.subresource: document for document in DOCUMENTS}


def show(visit: Visit) -> Response:
    """The settings of a bucket, one document open."""
    document = _BY_NAME.get(visit.query.get("tab", ""))
    reply = visit.s3.call("GET", visit.rest, query={document.subresource: ""}) if document else None
    text = ""
    if document is not None and reply is not None and reply.ok:
        text = _pretty(document, reply.body)
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
    document = _BY_NAME.get(tab)
    if document is None:
        return visit.back(target, fault="There is no such setting.")
    text = visit.form.get("text", "").replace("\r\n", "\n").strip()
    if text:
        reply = visit.s3.call("PUT", bucket, query={tab: ""}, body=text.encode())
    else:
        reply = visit.s3.call("DELETE", bucket, query={tab: ""})
    if not reply.ok:
        return _page(visit, bucket, document, text, fault=reply.problem)
    return visit.back(
        f"{target}?tab={quote(tab)}", notice=f"{document.title} {'saved' if text else 'removed'}."
    )


def _pretty(document: Document, body: bytes) -> str:
    if document.kind == "JSON":
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return xml.indented(body)
