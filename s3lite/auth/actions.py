"""The actions that permissions are named by: which exist, what they are about, and their version twins.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3". Listed are
those of buckets and objects, whether s3lite offers the operation or not: policies that name them are right.
GetBucketCallback and PutBucketCallback are s3lite's own.
"""

from __future__ import annotations

_ON_OBJECTS = """
AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectAnnotation DeleteObjectTagging
DeleteObjectVersion DeleteObjectVersionTagging GetObject GetObjectAcl GetObjectAnnotation GetObjectAttributes
GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion GetObjectVersionAcl
GetObjectVersionAttributes GetObjectVersionForReplication GetObjectVersionTagging GetObjectVersionTorrent
InitiateReplication ListMultipartUploadParts ListObjectAnnotations ObjectOwnerOverrideToBucketOwner PutObject
PutObjectAcl PutObjectAnnotation PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl
PutObjectVersionTagging ReplicateDelete ReplicateObject ReplicateTags RestoreObject UpdateObjectEncryption
"""

_ON_BUCKETS = """
CreateBucket CreateBucketMetadataTableConfiguration DeleteBucket DeleteBucketMetadataTableConfiguration
DeleteBucketOwnershipControls DeleteBucketPolicy DeleteBucketWebsite GetAccelerateConfiguration
GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCallback GetBucketCORS GetBucketLocation GetBucketLogging
GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration
GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus GetBucketPublicAccessBlock
GetBucketRequestPayment GetBucketSyncing GetBucketTagging GetBucketVersioning GetBucketWebsite
GetEncryptionConfiguration GetIntelligentTieringConfiguration GetInventoryConfiguration
GetLifecycleConfiguration GetMetricsConfiguration GetReplicationConfiguration ListAllMyBuckets ListBucket
ListBucketMultipartUploads ListBucketVersions ListTagsForResource PutAccelerateConfiguration
PutAnalyticsConfiguration PutBucketAbac PutBucketAcl PutBucketCallback PutBucketCORS PutBucketLogging PutBucketNotification
PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock
PutBucketRequestPayment PutBucketSyncing PutBucketTagging PutBucketVersioning PutBucketWebsite
PutEncryptionConfiguration PutIntelligentTieringConfiguration PutInventoryConfiguration
PutLifecycleConfiguration PutMetricsConfiguration PutReplicationConfiguration TagResource UntagResource
UpdateBucketMetadataAnnotationTableConfiguration UpdateBucketMetadataInventoryTableConfiguration
UpdateBucketMetadataJournalTableConfiguration
"""

ON_OBJECTS = frozenset(f"s3:{name}" for name in _ON_OBJECTS.split())
"""Actions whose resource is an object (arn:aws:s3:::bucket/key); that of all others is the bucket."""

ACTIONS = ON_OBJECTS | frozenset(f"s3:{name}" for name in _ON_BUCKETS.split())

ASSUME_ROLE = "sts:AssumeRole"

OF_KEYS = ACTIONS | {ASSUME_ROLE}
"""What the policies of keys and sessions may name."""

_VERSIONED = {
    "s3:DeleteObject": "s3:DeleteObjectVersion",
    "s3:DeleteObjectTagging": "s3:DeleteObjectVersionTagging",
    "s3:GetObject": "s3:GetObjectVersion",
    "s3:GetObjectAcl": "s3:GetObjectVersionAcl",
    "s3:GetObjectAttributes": "s3:GetObjectVersionAttributes",
    "s3:GetObjectTagging": "s3:GetObjectVersionTagging",
    "s3:GetObjectTorrent": "s3:GetObjectVersionTorrent",
    "s3:PutObjectAcl": "s3:PutObjectVersionAcl",
    "s3:PutObjectTagging": "s3:PutObjectVersionTagging",
}


def versioned(action: str, version_id: str | None) -> str:
    """The action that a request needs which names a version; the same one where there is no twin."""
    return _VERSIONED.get(action, action) if version_id else action


def resource(action: str, bucket: str, key: str) -> str:
    """The ARN of what an action is about."""
    return f"arn:aws:s3:::{bucket}/{key}" if action in ON_OBJECTS else f"arn:aws:s3:::{bucket}"
