"""THE TABLE: every operation of the S3 API, a row each.

A row says everything about an operation that is not its body: how a request names it, what the
caller needs, who answers. ``handler`` None: known, answered 501 NotImplemented by name, never taken
for another operation. The first row of a (level, subresource, method) whose ``when`` is present wins.

Source: the API model that ships inside botocore; `tests/test_routes.py` compares the two.
"""

from __future__ import annotations

from s3lite.context import Level, Route
from s3lite.ops import (
    acl,
    append,
    bucket,
    bucket_info,
    bucket_logging,
    callback_policy,
    cors,
    encryption,
    lifecycle,
    listing,
    multipart,
    notification,
    object_annotation,
    object_delete,
    object_lock,
    object_read,
    object_write,
    ownership,
    policy,
    post_object,
    probes,
    public_access,
    rename,
    request_payment,
    service,
    sts,
    tagging,
    versioning,
    website,
)

SERVICE, BUCKET, OBJECT = Level.SERVICE, Level.BUCKET, Level.OBJECT

# Operations that are neither authenticated nor authorised before their handler: the caller of a form is
# known only from its body, and that of STS signs it, browsers ask (OPTIONS) without a signature, and a site is for everyone.
UNSIGNED = frozenset({"PostObject", "PreflightRequest", "SecurityTokenService", "WebsiteRequest"})

# Operations whose body says what they are about: their handler authorises that, and before the body is read
# only those are refused who have the permission nowhere.
BY_BODY = frozenset({"DeleteObjects", "PutObjectTagging"})

WEBSITE = Route("GET", OBJECT, None, "WebsiteRequest", "s3:WebsiteRequest", website.serve)
"""Whatever is asked of BUCKET.domain of a website domain. Not of the API, so no row of the table."""

# fmt: off
ROUTES = (
    # ---- service
    Route("GET",    SERVICE, None,                  "ListDirectoryBuckets",               "s3express:ListAllMyDirectoryBuckets", None, "max-directory-buckets"),
    Route("GET",    SERVICE, None,                  "ListBuckets",                        "s3:ListAllMyBuckets",                 service.list_buckets),
    # The actions of another service, which say in the body what they are.
    Route("POST",   SERVICE, None,                  "SecurityTokenService",               "sts:AssumeRole",                      sts.security_token_service),
    # ---- bucket
    Route("GET",    BUCKET,  None,                  "ListObjects",                        "s3:ListBucket",                       listing.list_objects),
    Route("HEAD",   BUCKET,  None,                  "HeadBucket",                         "s3:ListBucket",                       bucket.head_bucket),
    Route("PUT",    BUCKET,  None,                  "CreateBucket",                       "s3:CreateBucket",                     bucket.create_bucket),
    Route("DELETE", BUCKET,  None,                  "DeleteBucket",                       "s3:DeleteBucket",                     bucket.delete_bucket),
    Route("POST",   BUCKET,  None,                  "WriteGetObjectResponse",             "s3-object-lambda:WriteGetObjectResponse", None, "x-amz-request-route"),
    Route("POST",   BUCKET,  None,                  "PostObject",                         "s3:PutObject",                        post_object.post_object),
    Route("OPTIONS", BUCKET, None,                  "PreflightRequest",                   "s3:PreflightRequest",                 cors.preflight),  # of objects and subresources, too
    Route("GET",    BUCKET,  "list-type",           "ListObjectsV2",                      "s3:ListBucket",                       listing.list_objects_v2),
    Route("GET",    BUCKET,  "versions",            "ListObjectVersions",                 "s3:ListBucketVersions",               listing.list_object_versions),
    Route("GET",    BUCKET,  "uploads",             "ListMultipartUploads",               "s3:ListBucketMultipartUploads",       multipart.list_multipart_uploads),
    Route("POST",   BUCKET,  "delete",              "DeleteObjects",                      "s3:DeleteObject",                     object_delete.delete_objects),
    Route("GET",    BUCKET,  "location",            "GetBucketLocation",                  "s3:GetBucketLocation",                bucket.get_bucket_location),
    Route("GET",    BUCKET,  "acl",                 "GetBucketAcl",                       "s3:GetBucketAcl",                     acl.get_bucket_acl),
    Route("PUT",    BUCKET,  "acl",                 "PutBucketAcl",                       "s3:PutBucketAcl",                     acl.put_bucket_acl),
    Route("GET",    BUCKET,  "tagging",             "GetBucketTagging",                   "s3:GetBucketTagging",                 tagging.get_bucket_tagging),
    Route("PUT",    BUCKET,  "tagging",             "PutBucketTagging",                   "s3:PutBucketTagging",                 tagging.put_bucket_tagging),
    Route("DELETE", BUCKET,  "tagging",             "DeleteBucketTagging",                "s3:PutBucketTagging",                 tagging.delete_bucket_tagging),
    Route("GET",    BUCKET,  "versioning",          "GetBucketVersioning",                "s3:GetBucketVersioning",              versioning.get_bucket_versioning),
    Route("PUT",    BUCKET,  "versioning",          "PutBucketVersioning",                "s3:PutBucketVersioning",              versioning.put_bucket_versioning),
    Route("GET",    BUCKET,  "policyStatus",        "GetBucketPolicyStatus",              "s3:GetBucketPolicyStatus",            policy.get_bucket_policy_status),
    Route("GET",    BUCKET,  "policy",              "GetBucketPolicy",                    "s3:GetBucketPolicy",                  policy.get_bucket_policy),
    Route("PUT",    BUCKET,  "policy",              "PutBucketPolicy",                    "s3:PutBucketPolicy",                  policy.put_bucket_policy),
    Route("DELETE", BUCKET,  "policy",              "DeleteBucketPolicy",                 "s3:DeleteBucketPolicy",               policy.delete_bucket_policy),
    Route("GET",    BUCKET,  "cors",                "GetBucketCors",                      "s3:GetBucketCORS",                    cors.get_bucket_cors),
    Route("PUT",    BUCKET,  "cors",                "PutBucketCors",                      "s3:PutBucketCORS",                    cors.put_bucket_cors),
    Route("DELETE", BUCKET,  "cors",                "DeleteBucketCors",                   "s3:PutBucketCORS",                    cors.delete_bucket_cors),
    Route("GET",    BUCKET,  "lifecycle",           "GetBucketLifecycleConfiguration",    "s3:GetLifecycleConfiguration",        lifecycle.get_bucket_lifecycle_configuration),
    Route("PUT",    BUCKET,  "lifecycle",           "PutBucketLifecycleConfiguration",    "s3:PutLifecycleConfiguration",        lifecycle.put_bucket_lifecycle_configuration),
    Route("DELETE", BUCKET,  "lifecycle",           "DeleteBucketLifecycle",              "s3:PutLifecycleConfiguration",        lifecycle.delete_bucket_lifecycle),
    Route("GET",    BUCKET,  "website",             "GetBucketWebsite",                   "s3:GetBucketWebsite",                 website.get_bucket_website),
    Route("PUT",    BUCKET,  "website",             "PutBucketWebsite",                   "s3:PutBucketWebsite",                 website.put_bucket_website),
    Route("DELETE", BUCKET,  "website",             "DeleteBucketWebsite",                "s3:DeleteBucketWebsite",              website.delete_bucket_website),
    Route("GET",    BUCKET,  "logging",             "GetBucketLogging",                   "s3:GetBucketLogging",                 bucket_logging.get_bucket_logging),
    Route("PUT",    BUCKET,  "logging",             "PutBucketLogging",                   "s3:PutBucketLogging",                 bucket_logging.put_bucket_logging),
    Route("GET",    BUCKET,  "notification",        "GetBucketNotificationConfiguration", "s3:GetBucketNotification",            notification.get_bucket_notification_configuration),
    Route("PUT",    BUCKET,  "notification",        "PutBucketNotificationConfiguration", "s3:PutBucketNotification",            notification.put_bucket_notification_configuration),
    Route("GET",    BUCKET,  "requestPayment",      "GetBucketRequestPayment",            "s3:GetBucketRequestPayment",          request_payment.get_bucket_request_payment),
    Route("PUT",    BUCKET,  "requestPayment",      "PutBucketRequestPayment",            "s3:PutBucketRequestPayment",          request_payment.put_bucket_request_payment),
    Route("GET",    BUCKET,  "accelerate",          "GetBucketAccelerateConfiguration",   "s3:GetAccelerateConfiguration",       probes.get_bucket_accelerate_configuration),
    Route("PUT",    BUCKET,  "accelerate",          "PutBucketAccelerateConfiguration",   "s3:PutAccelerateConfiguration",       None),
    Route("GET",    BUCKET,  "encryption",          "GetBucketEncryption",                "s3:GetEncryptionConfiguration",       encryption.get_bucket_encryption),
    Route("PUT",    BUCKET,  "encryption",          "PutBucketEncryption",                "s3:PutEncryptionConfiguration",       encryption.put_bucket_encryption),
    Route("DELETE", BUCKET,  "encryption",          "DeleteBucketEncryption",             "s3:PutEncryptionConfiguration",       encryption.delete_bucket_encryption),
    Route("GET",    BUCKET,  "replication",         "GetBucketReplication",               "s3:GetReplicationConfiguration",      probes.get_bucket_replication),
    Route("PUT",    BUCKET,  "replication",         "PutBucketReplication",               "s3:PutReplicationConfiguration",      None),
    Route("DELETE", BUCKET,  "replication",         "DeleteBucketReplication",            "s3:PutReplicationConfiguration",      None),
    Route("GET",    BUCKET,  "object-lock",         "GetObjectLockConfiguration",         "s3:GetBucketObjectLockConfiguration", object_lock.get_object_lock_configuration),
    Route("PUT",    BUCKET,  "object-lock",         "PutObjectLockConfiguration",         "s3:PutBucketObjectLockConfiguration", object_lock.put_object_lock_configuration),
    Route("GET",    BUCKET,  "publicAccessBlock",   "GetPublicAccessBlock",               "s3:GetBucketPublicAccessBlock",       public_access.get_public_access_block),
    Route("PUT",    BUCKET,  "publicAccessBlock",   "PutPublicAccessBlock",               "s3:PutBucketPublicAccessBlock",       public_access.put_public_access_block),
    Route("DELETE", BUCKET,  "publicAccessBlock",   "DeletePublicAccessBlock",            "s3:PutBucketPublicAccessBlock",       public_access.delete_public_access_block),
    Route("GET",    BUCKET,  "ownershipControls",   "GetBucketOwnershipControls",         "s3:GetBucketOwnershipControls",       ownership.get_bucket_ownership_controls),
    Route("PUT",    BUCKET,  "ownershipControls",   "PutBucketOwnershipControls",         "s3:PutBucketOwnershipControls",       ownership.put_bucket_ownership_controls),
    Route("DELETE", BUCKET,  "ownershipControls",   "DeleteBucketOwnershipControls",      "s3:PutBucketOwnershipControls",       ownership.delete_bucket_ownership_controls),
    Route("GET",    BUCKET,  "analytics",           "GetBucketAnalyticsConfiguration",    "s3:GetAnalyticsConfiguration",        None, "id"),
    Route("GET",    BUCKET,  "analytics",           "ListBucketAnalyticsConfigurations",  "s3:GetAnalyticsConfiguration",        None),
    Route("PUT",    BUCKET,  "analytics",           "PutBucketAnalyticsConfiguration",    "s3:PutAnalyticsConfiguration",        None),
    Route("DELETE", BUCKET,  "analytics",           "DeleteBucketAnalyticsConfiguration", "s3:PutAnalyticsConfiguration",        None),
    Route("GET",    BUCKET,  "inventory",           "GetBucketInventoryConfiguration",    "s3:GetInventoryConfiguration",        None, "id"),
    Route("GET",    BUCKET,  "inventory",           "ListBucketInventoryConfigurations",  "s3:GetInventoryConfiguration",        None),
    Route("PUT",    BUCKET,  "inventory",           "PutBucketInventoryConfiguration",    "s3:PutInventoryConfiguration",        None),
    Route("DELETE", BUCKET,  "inventory",           "DeleteBucketInventoryConfiguration", "s3:PutInventoryConfiguration",        None),
    Route("GET",    BUCKET,  "metrics",             "GetBucketMetricsConfiguration",      "s3:GetMetricsConfiguration",          None, "id"),
    Route("GET",    BUCKET,  "metrics",             "ListBucketMetricsConfigurations",    "s3:GetMetricsConfiguration",          None),
    Route("PUT",    BUCKET,  "metrics",             "PutBucketMetricsConfiguration",      "s3:PutMetricsConfiguration",          None),
    Route("DELETE", BUCKET,  "metrics",             "DeleteBucketMetricsConfiguration",   "s3:PutMetricsConfiguration",          None),
    Route("GET",    BUCKET,  "intelligent-tiering", "GetBucketIntelligentTieringConfiguration",    "s3:GetIntelligentTieringConfiguration", None, "id"),
    Route("GET",    BUCKET,  "intelligent-tiering", "ListBucketIntelligentTieringConfigurations",  "s3:GetIntelligentTieringConfiguration", None),
    Route("PUT",    BUCKET,  "intelligent-tiering", "PutBucketIntelligentTieringConfiguration",    "s3:PutIntelligentTieringConfiguration", None),
    Route("DELETE", BUCKET,  "intelligent-tiering", "DeleteBucketIntelligentTieringConfiguration", "s3:PutIntelligentTieringConfiguration", None),
    Route("GET",    BUCKET,  "abac",                "GetBucketAbac",                      "s3:GetBucketAbac",                    None),
    Route("PUT",    BUCKET,  "abac",                "PutBucketAbac",                      "s3:PutBucketAbac",                    None),
    Route("GET",    BUCKET,  "session",             "CreateSession",                      "s3express:CreateSession",             None),
    Route("POST",   BUCKET,  "metadataConfiguration",   "CreateBucketMetadataConfiguration",      "s3:CreateBucketMetadataTableConfiguration", None),
    Route("GET",    BUCKET,  "metadataConfiguration",   "GetBucketMetadataConfiguration",         "s3:GetBucketMetadataTableConfiguration",    None),
    Route("DELETE", BUCKET,  "metadataConfiguration",   "DeleteBucketMetadataConfiguration",      "s3:DeleteBucketMetadataTableConfiguration", None),
    Route("POST",   BUCKET,  "metadataTable",           "CreateBucketMetadataTableConfiguration", "s3:CreateBucketMetadataTableConfiguration", None),
    Route("GET",    BUCKET,  "metadataTable",           "GetBucketMetadataTableConfiguration",    "s3:GetBucketMetadataTableConfiguration",    None),
    Route("DELETE", BUCKET,  "metadataTable",           "DeleteBucketMetadataTableConfiguration", "s3:DeleteBucketMetadataTableConfiguration", None),
    Route("PUT",    BUCKET,  "metadataAnnotationTable", "UpdateBucketMetadataAnnotationTableConfiguration", "s3:UpdateBucketMetadataAnnotationTableConfiguration", None),
    Route("PUT",    BUCKET,  "metadataInventoryTable",  "UpdateBucketMetadataInventoryTableConfiguration",  "s3:UpdateBucketMetadataInventoryTableConfiguration",  None),
    Route("PUT",    BUCKET,  "metadataJournalTable",    "UpdateBucketMetadataJournalTableConfiguration",    "s3:UpdateBucketMetadataJournalTableConfiguration",    None),
    # Extensions of s3lite: callbacks by policy. Of objects `callback` is no subresource: it carries one.
    Route("GET",    BUCKET,  "callback",            "GetBucketCallback",                  "s3:GetBucketCallback",                callback_policy.get_bucket_callback),
    Route("PUT",    BUCKET,  "callback",            "PutBucketCallback",                  "s3:PutBucketCallback",                callback_policy.put_bucket_callback),
    Route("DELETE", BUCKET,  "callback",            "DeleteBucketCallback",               "s3:PutBucketCallback",                callback_policy.delete_bucket_callback),
    # An extension of one Ceph RGW, not of S3: known so that it never passes for another operation.
    Route("GET",    BUCKET,  "syncing",             "GetBucketSyncing",                   "s3:GetBucketSyncing",                 None),
    Route("PUT",    BUCKET,  "syncing",             "PutBucketSyncing",                   "s3:PutBucketSyncing",                 None),
    # Operations of Alibaba Cloud OSS (docs/oss.md).
    Route("GET",    BUCKET,  "bucketInfo",          "GetBucketInfo",                      "s3:GetBucketAcl",                     bucket_info.get_bucket_info),
    Route("HEAD",   OBJECT,  "objectMeta",          "GetObjectMeta",                      "s3:GetObject",                        object_read.head_object),
    Route("POST",   OBJECT,  "append",              "AppendObject",                       "s3:PutObject",                        append.append_object),
    # ---- object
    Route("GET",    OBJECT,  None,                  "GetObject",                          "s3:GetObject",                        object_read.get_object),
    Route("HEAD",   OBJECT,  None,                  "HeadObject",                         "s3:GetObject",                        object_read.head_object),
    Route("PUT",    OBJECT,  None,                  "CopyObject",                         "s3:PutObject",                        object_write.copy_object, "x-amz-copy-source"),
    Route("PUT",    OBJECT,  None,                  "PutObject",                          "s3:PutObject",                        object_write.put_object),
    Route("DELETE", OBJECT,  None,                  "DeleteObject",                       "s3:DeleteObject",                     object_delete.delete_object),
    Route("POST",   OBJECT,  "uploads",             "CreateMultipartUpload",              "s3:PutObject",                        multipart.create_multipart_upload),
    Route("PUT",    OBJECT,  "uploadId",            "UploadPartCopy",                     "s3:PutObject",                        multipart.upload_part_copy, "x-amz-copy-source"),
    Route("PUT",    OBJECT,  "uploadId",            "UploadPart",                         "s3:PutObject",                        multipart.upload_part),
    Route("POST",   OBJECT,  "uploadId",            "CompleteMultipartUpload",            "s3:PutObject",                        multipart.complete_multipart_upload),
    Route("DELETE", OBJECT,  "uploadId",            "AbortMultipartUpload",               "s3:AbortMultipartUpload",             multipart.abort_multipart_upload),
    Route("GET",    OBJECT,  "uploadId",            "ListParts",                          "s3:ListMultipartUploadParts",         multipart.list_parts),
    Route("GET",    OBJECT,  "attributes",          "GetObjectAttributes",                "s3:GetObjectAttributes",              object_read.get_object_attributes),
    Route("GET",    OBJECT,  "acl",                 "GetObjectAcl",                       "s3:GetObjectAcl",                     acl.get_object_acl),
    Route("PUT",    OBJECT,  "acl",                 "PutObjectAcl",                       "s3:PutObjectAcl",                     acl.put_object_acl),
    Route("GET",    OBJECT,  "tagging",             "GetObjectTagging",                   "s3:GetObjectTagging",                 tagging.get_object_tagging),
    Route("PUT",    OBJECT,  "tagging",             "PutObjectTagging",                   "s3:PutObjectTagging",                 tagging.put_object_tagging),
    Route("DELETE", OBJECT,  "tagging",             "DeleteObjectTagging",                "s3:DeleteObjectTagging",              tagging.delete_object_tagging),
    Route("GET",    OBJECT,  "torrent",             "GetObjectTorrent",                   "s3:GetObjectTorrent",                 probes.get_object_torrent),
    Route("GET",    OBJECT,  "retention",           "GetObjectRetention",                 "s3:GetObjectRetention",               object_lock.get_object_retention),
    Route("PUT",    OBJECT,  "retention",           "PutObjectRetention",                 "s3:PutObjectRetention",               object_lock.put_object_retention),
    Route("GET",    OBJECT,  "legal-hold",          "GetObjectLegalHold",                 "s3:GetObjectLegalHold",               object_lock.get_object_legal_hold),
    Route("PUT",    OBJECT,  "legal-hold",          "PutObjectLegalHold",                 "s3:PutObjectLegalHold",               object_lock.put_object_legal_hold),
    Route("GET",    OBJECT,  "annotation",          "GetObjectAnnotation",                "s3:GetObjectAnnotation",              object_annotation.get_object_annotation, "annotationName"),
    Route("GET",    OBJECT,  "annotation",          "ListObjectAnnotations",              "s3:ListObjectAnnotations",            object_annotation.list_object_annotations),
    Route("PUT",    OBJECT,  "annotation",          "PutObjectAnnotation",                "s3:PutObjectAnnotation",              object_annotation.put_object_annotation),
    Route("DELETE", OBJECT,  "annotation",          "DeleteObjectAnnotation",             "s3:DeleteObjectAnnotation",           object_annotation.delete_object_annotation),
    Route("PUT",    OBJECT,  "renameObject",        "RenameObject",                       "s3:PutObject",                        rename.rename_object),
    Route("POST",   OBJECT,  "restore",             "RestoreObject",                      "s3:RestoreObject",                    None),
    Route("POST",   OBJECT,  "select",              "SelectObjectContent",                "s3:GetObject",                        None),
    Route("PUT",    OBJECT,  "encryption",          "UpdateObjectEncryption",             "s3:UpdateObjectEncryption",           encryption.update_object_encryption),
)
# fmt: on
