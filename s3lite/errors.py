"""Every error that s3lite answers: code, HTTP status, message.

Member names are the wire spelling (but for a dot, see `Code.wire_name`), so that a client's error greps straight to its line. Catalog and
blobs speak in ``None`` and ``OSError``; core, auth and wire raise `S3Error`; ``app.py`` turns it
into XML, there and nowhere else.

Source: Amazon S3 API Reference, "Error responses"; rows marked (s) are s3lite's own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple


class ErrorSpec(NamedTuple):
    """HTTP status and default message of a code."""

    status: int
    message: str


@enum.unique
class Code(enum.Enum):
    """The codes. Values must differ: two members with one value would be one member."""

    AccessControlListNotSupported = ErrorSpec(400, "The bucket does not allow ACLs.")
    AccessDenied = ErrorSpec(403, "Access Denied")
    AccessForbidden = ErrorSpec(403, "CORSResponse: This CORS request is not allowed.")
    AnnotationLimitExceeded = ErrorSpec(400, "The object has as many annotations as are allowed.")
    AnnotationNameTooLong = ErrorSpec(400, "The annotation name exceeds 512 bytes.")
    AuthorizationHeaderMalformed = ErrorSpec(400, "The authorization header that you provided is not valid.")
    AuthorizationQueryParametersError = ErrorSpec(
        400, "The authorization query parameters that you provided are not valid."
    )
    BadDigest = ErrorSpec(
        400, "The Content-MD5 or checksum value that you specified did not match what the server received."
    )
    BadRequest = ErrorSpec(400, "Bad Request")
    BucketAlreadyExists = ErrorSpec(
        409,
        "The requested bucket name is not available. The bucket namespace is shared by all users of "
        "the system. Select a different name and try again.",
    )
    BucketAlreadyOwnedByYou = ErrorSpec(
        409, "Your previous request to create the named bucket succeeded and you already own it."
    )
    BucketNotEmpty = ErrorSpec(409, "The bucket that you tried to delete is not empty.")
    CallbackFailed = ErrorSpec(203, "The callback of this upload failed.")
    CallbackRejected = ErrorSpec(403, "The application refused this upload; nothing was stored.")
    ConditionalRequestConflict = ErrorSpec(
        409, "A conflicting operation occurred while this conditional request was in flight; try again."
    )
    CrossLocationLoggingProhibited = ErrorSpec(403, "Cross-location logging is not allowed.")
    EntityTooLarge = ErrorSpec(400, "Your proposed upload exceeds the maximum allowed object size.")
    EntityTooSmall = ErrorSpec(400, "Your proposed upload is smaller than the minimum allowed size.")
    ExpiredToken = ErrorSpec(400, "The provided token has expired.")
    IllegalLocationConstraintException = ErrorSpec(
        400, "The location constraint is incompatible with the region of this endpoint."
    )
    IncompleteBody = ErrorSpec(
        400, "You did not provide the number of bytes specified by the Content-Length HTTP header."
    )
    InsufficientStorage = ErrorSpec(
        503, "The server has no room for this upload. Free space or try again later; nothing was stored."
    )
    InternalError = ErrorSpec(500, "We encountered an internal error. Please try again.")
    InvalidAccessKeyId = ErrorSpec(403, "The access key ID that you provided does not exist in our records.")
    InvalidAction = ErrorSpec(400, "The action is not one of this server.")
    InvalidAnnotationName = ErrorSpec(400, "The annotation name is not valid.")
    InvalidArgument = ErrorSpec(400, "Invalid Argument")
    InvalidBucketAclWithObjectOwnership = ErrorSpec(
        400, "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting."
    )
    InvalidBucketName = ErrorSpec(400, "The specified bucket is not valid.")
    InvalidBucketState = ErrorSpec(409, "The request is not valid with the current state of the bucket.")
    InvalidDigest = ErrorSpec(400, "The Content-MD5 or checksum value that you specified is not valid.")
    InvalidEncryptionAlgorithmError = ErrorSpec(
        400, "The encryption request that you specified is not valid. The valid value is AES256."
    )
    InvalidLocationConstraint = ErrorSpec(400, "The specified location constraint is not valid.")
    InvalidObjectState = ErrorSpec(403, "The operation is not valid for the current state of the object.")
    InvalidPart = ErrorSpec(
        400,
        "One or more of the specified parts could not be found. The part might not have been uploaded, "
        "or the specified entity tag might not have matched the part's entity tag.",
    )
    InvalidPartOrder = ErrorSpec(
        400,
        "The list of parts was not in ascending order. The parts list must be specified in order by "
        "part number.",
    )
    InvalidPolicyDocument = ErrorSpec(400, "The content of the form does not meet the policy's rules.")
    InvalidPrefix = ErrorSpec(400, "The annotation prefix is not valid.")
    InvalidRange = ErrorSpec(416, "The requested range is not satisfiable.")
    InvalidRedirectLocation = ErrorSpec(400, "The website redirect location is not valid.")
    InvalidRequest = ErrorSpec(400, "Invalid Request")
    InvalidRetentionPeriod = ErrorSpec(400, "The retention period that you specified is not valid.")
    InvalidStorageClass = ErrorSpec(400, "The storage class that you specified is not valid.")
    InvalidTag = ErrorSpec(400, "The tag that you provided is not valid.")
    InvalidTargetBucketForLogging = ErrorSpec(400, "The target bucket for logging is not valid.")
    InvalidToken = ErrorSpec(400, "The provided token is malformed or otherwise not valid.")
    InvalidURI = ErrorSpec(400, "The specified URI couldn't be parsed.")
    KMS_NotFoundException = ErrorSpec(400, "The key that you specified does not exist.")
    KeyTooLongError = ErrorSpec(400, "Your key is too long.")
    MalformedACLError = ErrorSpec(
        400, "The ACL that you provided was not well formed or did not validate against our schema."
    )
    MalformedPOSTRequest = ErrorSpec(
        400, "The body of your POST request is not well-formed multipart/form-data."
    )
    MalformedPolicy = ErrorSpec(400, "The policy that you provided is not valid.")
    MalformedXML = ErrorSpec(
        400, "The XML that you provided was not well formed or did not validate against our schema."
    )
    MaxMessageLengthExceeded = ErrorSpec(400, "Your request was too large.")
    MaxPostPreDataLengthExceededError = ErrorSpec(
        400, "Your POST request fields preceding the upload file were too large."
    )
    MetadataTooLarge = ErrorSpec(400, "Your metadata headers exceed the maximum allowed metadata size.")
    MethodNotAllowed = ErrorSpec(405, "The specified method is not allowed against this resource.")
    MissingAction = ErrorSpec(400, "The request must name an Action.")
    MissingAuthenticationToken = ErrorSpec(403, "The request was not signed.")
    MissingContentLength = ErrorSpec(411, "You must provide the Content-Length HTTP header.")
    MissingRequestBodyError = ErrorSpec(400, "You sent an empty body; this request needs one.")
    MissingSecurityHeader = ErrorSpec(400, "Your request is missing a required header.")
    NoSuchAnnotation = ErrorSpec(404, "The specified annotation does not exist on this object.")
    NoSuchBucket = ErrorSpec(404, "The specified bucket does not exist.")
    NoSuchBucketPolicy = ErrorSpec(404, "The bucket policy does not exist.")
    NoSuchCallbackConfiguration = ErrorSpec(404, "The bucket has no callback policies.")
    NoSuchCORSConfiguration = ErrorSpec(404, "The CORS configuration does not exist.")
    NoSuchKey = ErrorSpec(404, "The specified key does not exist.")
    NoSuchLifecycleConfiguration = ErrorSpec(404, "The lifecycle configuration does not exist.")
    NoSuchObjectLockConfiguration = ErrorSpec(
        404, "The specified object does not have an ObjectLock configuration."
    )
    NoSuchPublicAccessBlockConfiguration = ErrorSpec(
        404, "The public access block configuration was not found."
    )
    NoSuchTagSet = ErrorSpec(404, "The TagSet does not exist.")
    NoSuchUpload = ErrorSpec(
        404,
        "The specified multipart upload does not exist. The upload ID might not be valid, or the "
        "multipart upload might have been aborted or completed.",
    )
    NoSuchVersion = ErrorSpec(
        404, "The version ID specified in the request does not match an existing version."
    )
    NoSuchWebsiteConfiguration = ErrorSpec(404, "The specified bucket does not have a website configuration.")
    NotImplemented = ErrorSpec(
        501, "A parameter that you provided implies functionality that is not implemented."
    )
    NotModified = ErrorSpec(304, "Not Modified")
    ObjectLockConfigurationNotFoundError = ErrorSpec(
        404, "Object Lock configuration does not exist for this bucket."
    )
    ObjectNotAppendable = ErrorSpec(409, "The object is not appendable: AppendObject has not made it.")
    OperationAborted = ErrorSpec(
        409, "A conflicting conditional operation is currently in progress against this resource. Try again."
    )
    OwnershipControlsNotFoundError = ErrorSpec(404, "The bucket ownership controls were not found.")
    PermanentRedirect = ErrorSpec(301, "The bucket must be addressed by the specified endpoint.")
    PositionNotEqualToLength = ErrorSpec(
        409, "The position is not the length of the object. x-oss-next-append-position says where to go on."
    )
    PreconditionFailed = ErrorSpec(412, "At least one of the preconditions that you specified did not hold.")
    # Of Ceph's RGW, whose spelling and status clients know; S3 has no quotas.
    QuotaExceeded = ErrorSpec(403, "The quota of the bucket or of its owner is used up.")
    ReplicationConfigurationNotFoundError = ErrorSpec(404, "The replication configuration was not found.")
    RequestExpired = ErrorSpec(403, "Request has expired")
    RequestHeaderSectionTooLarge = ErrorSpec(400, "Your request header section exceeds the allowed size.")
    RequestTimeout = ErrorSpec(
        400, "Your socket connection to the server was not read from or written to within the timeout period."
    )
    RequestTimeTooSkewed = ErrorSpec(
        403, "The difference between the request time and the server's time is too large."
    )
    ServerSideEncryptionConfigurationNotFoundError = ErrorSpec(
        404, "The server-side encryption configuration was not found."
    )
    ServiceUnavailable = ErrorSpec(503, "Service is unable to handle request.")
    SignatureDoesNotMatch = ErrorSpec(
        403,
        "The request signature that the server calculated does not match the signature that you "
        "provided. Check your secret access key and signing method.",
    )
    SlowDown = ErrorSpec(503, "Please reduce your request rate.")
    TooManyBuckets = ErrorSpec(400, "You have attempted to create more buckets than allowed.")
    TooManyParts = ErrorSpec(400, "You have attempted to upload more parts than allowed.")
    UnexpectedContent = ErrorSpec(400, "This request contains unsupported content.")
    UnresolvableGrantByEmailAddress = ErrorSpec(
        400, "The email address that you provided does not match any account on record."
    )
    UnsupportedMediaType = ErrorSpec(415, "The annotation is not text in UTF-8.")
    UserKeyMustBeSpecified = ErrorSpec(
        400,
        "The bucket POST must contain the specified field name. If it is specified, check the order of the fields.",
    )
    XAmzContentChecksumMismatch = ErrorSpec(
        400, "The provided checksum header does not match what was computed."
    )
    XAmzContentSHA256Mismatch = ErrorSpec(
        400, "The provided x-amz-content-sha256 header does not match what was computed."
    )

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.value.status

    @property
    def message(self) -> str:
        """Default message."""
        return self.value.message

    @property
    def wire_name(self) -> str:
        """The code as clients see it: those of KMS have a dot."""
        return self.name.replace("KMS_", "KMS.", 1)


class S3Error(Exception):
    """An answer to the client that is not success.

    ``message`` replaces the code's default text. ``headers`` go onto the answer (Allow,
    Content-Range …). Further keywords become elements of the Error document, in order
    (``BucketName=…``, ``ArgumentName=…``). ``status`` overrides the code's, for the few codes that
    come with two.
    """

    def __init__(
        self,
        code: Code,
        message: str | None = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        **details: str,
    ) -> None:
        super().__init__(code.name)
        self.code = code
        self.message = message or code.message
        self.status = status or code.status
        self.headers = dict(headers or {})
        self.details = details

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid_argument(name: str, value: str, message: str) -> S3Error:
    """InvalidArgument that names the argument, as S3 does; the value is cut at 512 characters."""
    return S3Error(Code.InvalidArgument, message, ArgumentName=name, ArgumentValue=value[:512])
