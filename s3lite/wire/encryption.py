"""Server-side encryption on the wire: headers of requests and answers, and a bucket's configuration.

Sources: API Reference, PutObject, CopyObject, PutBucketEncryption; User Guide, "Using server-side
encryption with customer-provided keys (SSE-C)"; ceph/s3-tests for which fault is a 400.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.wire import xml

AES256, KMS, DSSE, CUSTOMER = "AES256", "aws:kms", "aws:kms:dsse", "SSE-C"

MODE_HEADER = "x-amz-server-side-encryption"
KEY_ID_HEADER = f"{MODE_HEADER}-aws-kms-key-id"
CONTEXT_HEADER = f"{MODE_HEADER}-context"
BUCKET_KEY_HEADER = f"{MODE_HEADER}-bucket-key-enabled"
CUSTOMER_HEADER = f"{MODE_HEADER}-customer-algorithm"
_CUSTOMER_KEY = f"{MODE_HEADER}-customer-key"
_CUSTOMER_MD5 = f"{MODE_HEADER}-customer-key-md5"
COPY_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
_OF_UPLOADS = frozenset(
    (MODE_HEADER, KEY_ID_HEADER, CONTEXT_HEADER, CUSTOMER_HEADER, _CUSTOMER_KEY, _CUSTOMER_MD5)
)

_CUSTOMER_WORDS = "Requests specifying Server Side Encryption with Customer provided keys must provide "
_MAX_CONTEXT_BYTES = 8192


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """A key that came with a request (SSE-C). Never stored, never shown."""

    key: bytes = field(repr=False)
    md5: str  # Base64


@dataclass(frozen=True, slots=True)
class Wanted:
    """The encryption that an upload is to have. ``mode`` is AES256, aws:kms or SSE-C."""

    mode: str
    key_id: str = ""  # as the client names it; "" for the default one
    context: str = ""  # Base64 of JSON, as sent
    bucket_key: bool = False
    customer_key: CustomerKey | None = None


# ---------------------------------------------------------------- headers of requests


def parse_customer_key(
    headers: Mapping[str, str], prefix: str = f"{MODE_HEADER}-customer-"
) -> CustomerKey | None:
    """The customer's key; None when no header speaks of one. ``prefix`` may be `COPY_SOURCE`.

    Raises InvalidArgument and InvalidEncryptionAlgorithmError.
    """
    algorithm = headers.get(f"{prefix}algorithm", "")
    encoded, md5 = headers.get(f"{prefix}key", ""), headers.get(f"{prefix}key-md5", "")
    if not (algorithm or encoded or md5):
        return None
    if not algorithm:
        raise _customer_fault(f"{prefix}algorithm", "a valid encryption algorithm.")
    if algorithm != AES256:
        raise S3Error(
            Code.InvalidEncryptionAlgorithmError,
            ArgumentName=f"{prefix}algorithm",
            ArgumentValue=algorithm[:64],
        )
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise _customer_fault(f"{prefix}key", "an appropriate secret key: 32 bytes in Base64.")
    if not md5:
        raise _customer_fault(f"{prefix}key-MD5", "the client calculated MD5 of the secret key.")
    computed = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    if not hmac.compare_digest(computed.encode(), md5.encode("utf-8", "replace")):
        raise invalid_argument(
            f"{prefix}key-MD5",
            md5,
            "The calculated MD5 hash of the key did not match the hash that was provided.",
        )
    return CustomerKey(key, computed)


def _customer_fault(name: str, what: str) -> S3Error:
    return invalid_argument(name, "", _CUSTOMER_WORDS + what)


def parse_wanted(headers: Mapping[str, str]) -> Wanted | None:
    """The encryption that an upload's headers ask for; None when they ask for none.

    Raises InvalidArgument (contradictions, unknown values), NotImplemented (aws:kms:dsse), and as
    `parse_customer_key`.
    """
    if _OF_UPLOADS.isdisjoint(headers):
        return None
    customer_key = parse_customer_key(headers)
    mode = headers.get(MODE_HEADER, "")
    if customer_key is not None:
        if mode or headers.get(KEY_ID_HEADER):
            raise invalid_argument(
                MODE_HEADER,
                mode,
                "Server Side Encryption with Customer provided key is incompatible with it.",
            )
        return Wanted(CUSTOMER, customer_key=customer_key)
    if mode:
        check_mode(mode, MODE_HEADER)
    if mode != KMS:
        for name in (KEY_ID_HEADER, CONTEXT_HEADER):
            if headers.get(name):
                raise invalid_argument(name, headers[name], f"{name} needs {MODE_HEADER}: {KMS}.")
        return Wanted(mode) if mode else None
    return Wanted(
        KMS,
        key_id=headers.get(KEY_ID_HEADER, ""),
        context=_context(headers.get(CONTEXT_HEADER, "")),
        bucket_key=_flag(headers.get(BUCKET_KEY_HEADER, ""), BUCKET_KEY_HEADER),
    )


def check_mode(mode: str, name: str) -> None:
    """Raise InvalidArgument for an unknown mode, NotImplemented for the one that is not offered."""
    if mode == DSSE:
        raise S3Error(
            Code.NotImplemented,
            f"{name}: {DSSE} asks for two layers of encryption, and there is one here. Use {KMS}.",
            Header=name,
        )
    if mode not in (AES256, KMS):
        raise invalid_argument(name, mode, "The encryption method specified is not supported")


def _flag(text: str, name: str) -> bool:
    if text.lower() not in ("", "true", "false"):
        raise invalid_argument(name, text, f"{name} must be true or false.")
    return text.lower() == "true"


def _context(text: str) -> str:
    """An encryption context: Base64 of a JSON object of strings, kept as it was sent."""
    if not text:
        return ""
    try:
        context = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        context = None
    if (
        len(text) > _MAX_CONTEXT_BYTES
        or not isinstance(context, dict)
        or not all(isinstance(value, str) for value in context.values())
    ):
        raise invalid_argument(
            CONTEXT_HEADER,
            text,
            f"{CONTEXT_HEADER} must be Base64 of a JSON object whose values are strings.",
        )
    return text


def refuse_on_reads(headers: Mapping[str, str]) -> None:
    """Raise InvalidArgument for headers of uploads on a read: whoever sends them expects what is not done."""
    for name in (MODE_HEADER, KEY_ID_HEADER):
        if name in headers:
            raise invalid_argument(name, headers[name], f"{name} is not supported for this operation.")


# ---------------------------------------------------------------- a bucket's configuration


@dataclass(frozen=True, slots=True)
class BucketDefault:
    """A bucket's encryption configuration. ``wanted`` None: it says nothing of uploads without headers."""

    wanted: Wanted | None
    blocks_customer_keys: bool = False
    document: bytes = b""  # as it is kept and shown


def parse_configuration(data: bytes) -> BucketDefault:
    """A ServerSideEncryptionConfiguration. Raises MalformedXML, InvalidArgument, NotImplemented."""
    root = xml.parse(data, "ServerSideEncryptionConfiguration")
    rules = xml.children(root, "Rule")
    if len(rules) != 1 or len(root) != 1:
        raise xml.malformed("it must have one Rule")
    known = {"ApplyServerSideEncryptionByDefault", "BucketKeyEnabled", "BlockedEncryptionTypes"}
    if {xml.local_name(part) for part in rules[0]} - known:
        raise xml.malformed(f"a Rule holds {', '.join(sorted(known))}")
    bucket_key = xml.text(rules[0], "BucketKeyEnabled").strip()
    if bucket_key not in ("", "true", "false"):
        raise xml.malformed("BucketKeyEnabled must be true or false")
    wanted = _by_default(rules[0], bucket_key == "true")
    blocked = _blocked(rules[0])
    return BucketDefault(wanted, "SSE-C" in blocked, _configuration(wanted, bucket_key, blocked))


stored_configuration = lru_cache(maxsize=256)(parse_configuration)
"""What `BucketDefault.document` said, remembered."""


def _by_default(rule: xml.Element, bucket_key: bool) -> Wanted | None:
    element = xml.child(rule, "ApplyServerSideEncryptionByDefault")
    if element is None:
        return None
    mode, key_id = xml.text(element, "SSEAlgorithm").strip(), xml.text(element, "KMSMasterKeyID").strip()
    if not mode:
        raise xml.malformed("ApplyServerSideEncryptionByDefault needs an SSEAlgorithm")
    if mode != DSSE and mode not in (AES256, KMS):
        raise xml.malformed(f"SSEAlgorithm must be {AES256} or {KMS}")
    check_mode(mode, "SSEAlgorithm")
    if key_id and mode != KMS:
        raise invalid_argument(
            "KMSMasterKeyID",
            key_id,
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms",
        )
    return Wanted(mode, key_id=key_id, bucket_key=bucket_key and mode == KMS)


def _blocked(rule: xml.Element) -> tuple[str, ...]:
    element = xml.child(rule, "BlockedEncryptionTypes")
    if element is None:
        return ()
    names = tuple(xml.text_of(each).strip() for each in xml.children(element, "EncryptionType"))
    if not names or set(names) - {"NONE", "SSE-C"} or len(set(names)) != len(names) or len(names) > 1:
        raise xml.malformed("BlockedEncryptionTypes holds one EncryptionType, NONE or SSE-C")
    return names


def _configuration(wanted: Wanted | None, bucket_key: str, blocked: tuple[str, ...]) -> bytes:
    body = ""
    if wanted is not None:
        key_id = xml.element("KMSMasterKeyID", wanted.key_id) if wanted.key_id else ""
        algorithm = xml.element("SSEAlgorithm", wanted.mode)
        body = f"<ApplyServerSideEncryptionByDefault>{algorithm}{key_id}</ApplyServerSideEncryptionByDefault>"
    if bucket_key:
        body += xml.element("BucketKeyEnabled", bucket_key)
    if blocked:
        types = "".join(xml.element("EncryptionType", name) for name in blocked)
        body += f"<BlockedEncryptionTypes>{types}</BlockedEncryptionTypes>"
    return xml.document("ServerSideEncryptionConfiguration", f"<Rule>{body}</Rule>")


DEFAULT_CONFIGURATION = _configuration(Wanted(AES256), "false", ())
"""What S3 shows of a bucket that nobody has configured."""


# ---------------------------------------------------------------- UpdateObjectEncryption


def parse_object_encryption(data: bytes) -> Wanted:
    """An ObjectEncryption: SSE-KMS under a key named by its ARN. Raises MalformedXML, InvalidRequest."""
    root = xml.parse(data, "ObjectEncryption")
    element = xml.child(root, "SSE-KMS")
    if element is None or len(root) != 1:
        raise S3Error(
            Code.InvalidRequest,
            "Requests that modify an object encryption configuration require a valid new encryption type: SSE-KMS.",
        )
    arn = xml.text(element, "KMSKeyArn").strip()
    if not arn:
        raise S3Error(
            Code.InvalidRequest,
            "Requests that modify an object's encryption type to SSE-KMS require a KMSKeyArn.",
        )
    enabled = xml.text(element, "BucketKeyEnabled").strip()
    if enabled not in ("", "true", "false"):
        raise S3Error(Code.InvalidRequest, "The BucketKeyEnabled value isn't valid: use true or false.")
    return Wanted(KMS, key_id=arn, bucket_key=enabled == "true")
