"""The configuration documents that a bucket can have: what the console says of each, and examples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration document of a bucket: the query name that reads and writes it, and one to start from.

    ``nothing`` is what is put to remove it, where S3 has no DELETE for that.
    """

    subresource: str
    title: str
    help: str
    example: str
    kind: str = "XML"
    nothing: str = ""


DOCUMENTS = (
    Document(
        "callback",
        "Callbacks",
        "What uploads here report, and to whom, whatever their clients know of callbacks. The composer writes "
        "this for you.",
        """{
  "policies": [
    {
      "name": "uploads",
      "prefix": "",
      "applies": "default",
      "callback": {
        "callbackUrl": "https://app.example/uploaded",
        "callbackBody": "bucket=${bucket}&key=${object}&size=${size}"
      }
    }
  ]
}""",
        kind="JSON",
    ),
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
        "How the bucket answers as a website, under a domain of website_domains.",
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
    Document(
        "ownershipControls",
        "Ownership",
        "Who owns what others upload, and whether ACLs count. BucketOwnerEnforced switches ACLs off.",
        """<OwnershipControls>
  <Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>
</OwnershipControls>""",
    ),
    Document(
        "encryption",
        "Encryption",
        "How objects are encrypted whose upload does not say. What is stored already stays as it is.",
        """<ServerSideEncryptionConfiguration>
  <Rule>
    <ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>
  </Rule>
</ServerSideEncryptionConfiguration>""",
    ),
    Document(
        "notification",
        "Notifications",
        "Who hears of events here. An ARN names a target of the server's setting notifications.targets; each is sent "
        "a test message first.",
        """<NotificationConfiguration>
  <QueueConfiguration>
    <Id>new-objects</Id>
    <Queue>arn:s3lite:webhook:::hook</Queue>
    <Event>s3:ObjectCreated:*</Event>
  </QueueConfiguration>
</NotificationConfiguration>""",
        nothing="<NotificationConfiguration/>",
    ),
    Document(
        "logging",
        "Access log",
        "A line for each request to this bucket, gathered into objects of another bucket of its owner.",
        """<BucketLoggingStatus>
  <LoggingEnabled>
    <TargetBucket>BUCKET</TargetBucket>
    <TargetPrefix>access-log/</TargetPrefix>
  </LoggingEnabled>
</BucketLoggingStatus>""",
        nothing="<BucketLoggingStatus/>",
    ),
)
