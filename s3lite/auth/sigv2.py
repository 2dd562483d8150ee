"""Signature version 2 as S3 applies it: pure functions from request parts to the string to sign.

What it covers: method, Content-MD5, Content-Type, a date, every ``x-amz-*``, the path as sent, and the
*sub-resources* among the query parameters. Everything else in the query is unsigned by design.

**Sub-resources.** A client signs those it has on a list, and lists differ: AWS's own of 2006, botocore's,
that of the seeds' ``S3Auth``. `SUBRESOURCES` is the union of them, of what AWS added later, of all that
picks an operation in s3lite's table, and of OSS's ``callback`` and ``callback-var``. Apart stands
``list-type`` (`SIGNED_BY_SOME`), which only changes how a listing is written: botocore 1.26 signs it, later
ones and all others do not. The verifier

1. tries this full list, without and with ``list-type``;
2. then each list of `CLIENTS` by name, and accepts it only when what that client left unsigned is in
   `INERT`: names that neither s3lite nor S3 acts on. A sub-resource that picks an operation, a version,
   a part, a response header or a callback must be signed, or a signature for ``DELETE /b`` would do for
   ``DELETE /b?policy``, and whoever holds a presigned URL could add a callback to it. The client then
   gets AccessDenied that names the parameter, as its own library is what has to change.

So botocore's V2 cannot read ``?encryption``, ``?attributes`` and the like, which it never signed; AWS
refuses it there, too. V4 signs the whole query.

**x-amz-* in the query** counts as headers: botocore's V2 presigner signs ``x-amz-meta-callback`` as a
header, then moves it into the URL (`hoisted`). The same for Content-MD5 and Content-Type of presigned
URLs. In requests signed by header an ``x-amz-*`` in the query counts as well, so that nobody can add one.

**Values** are signed decoded, so ``partNumber=1%26uploadId=u`` would yield the string of
``partNumber=1&uploadId=u`` and turn a signed UploadPart into a PutObject. A value that reads like further
sub-resources is refused (`is_ambiguous`), and so are control characters in hoisted headers.

**Paths** (`resource_paths`): percent-encoding as sent; ``/bucket`` before it when the host named the
bucket; for a bucket with or without a last ``/``. Under a mount prefix most clients sign the full path,
but botocore (``auth_path``) leaves the prefix of its endpoint out: both are accepted, except where the
bucket is named like the prefix and the two readings could be confused.

Source: Developer Guide, "Signing and authenticating REST requests"; botocore.auth.HmacV1Auth.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from s3lite.auth.sigv4 import octets
from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead, Target

_RESPONSE = frozenset(
    f"response-{name}"
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
)
# fmt: off
AWS_2006 = _RESPONSE | {
    "acl", "cors", "delete", "lifecycle", "location", "logging", "notification", "partNumber", "policy",
    "requestPayment", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions",
    "website",
}
SEED_S3AUTH = _RESPONSE | {
    "acl", "cors", "delete", "lifecycle", "location", "logging", "notification", "partNumber", "policy",
    "requestPayment", "syncing", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning",
    "versions", "website",
}
BOTO = _RESPONSE | {
    "accelerate", "acl", "analytics", "cors", "defaultObjectAcl", "delete", "inventory", "lifecycle",
    "location", "logging", "metrics", "notification", "object-lock", "partNumber", "policy",
    "replication", "requestPayment", "restore", "select", "select-type", "storageClass", "tagging",
    "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
}
_LATER = {
    "abac", "annotation", "annotationName", "append", "attributes", "bucketInfo", "encryption",
    "intelligent-tiering", "legal-hold", "metadataAnnotationTable", "metadataConfiguration",
    "metadataInventoryTable", "metadataJournalTable", "metadataTable", "objectMeta", "ownershipControls",
    "policyStatus", "position", "publicAccessBlock", "renameObject", "retention", "session",
}
# fmt: on
CALLBACKS = frozenset(("callback", "callback-var"))
SUBRESOURCES = AWS_2006 | SEED_S3AUTH | BOTO | _LATER | CALLBACKS
SIGNED_BY_SOME = frozenset(("list-type",))
CLIENTS = (("botocore", BOTO), ("S3Auth", SEED_S3AUTH), ("AWS 2006", AWS_2006))
INERT = frozenset(("defaultObjectAcl", "storageClass"))

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_POSITIONAL = ("content-md5", "content-type")


def hoisted(pairs: Iterable[tuple[str, str | None]], *, presigned: bool) -> dict[str, list[str]]:
    """Query parameters (`query_pairs`) that stand for headers: lower-case name to its values."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        lower = name.lower()
        if lower.startswith("x-amz-") or (presigned and lower in _POSITIONAL):
            found.setdefault(lower, []).append(value or "")
    return found


def query_pairs(raw_query: str) -> list[tuple[str, str | None]]:
    """Decoded pairs as wire text, in order; the value is None where there was no ``=``."""
    pairs: list[tuple[str, str | None]] = []
    for piece in raw_query.split("&"):
        if piece:
            name, equals, value = piece.partition("=")
            pairs.append((_decode(name), _decode(value) if equals else None))
    return pairs


def _decode(raw: str) -> str:
    if "%" not in raw and "+" not in raw:
        return raw
    return unquote_to_bytes(octets(raw.replace("+", " "))).decode("latin-1")


def subresource_forms(pairs: Sequence[tuple[str, str | None]], names: frozenset[str]) -> list[str]:
    """``?acl&versionId=v`` of the ``names`` that occur, "" if none: sorted by name, values decoded.

    Two forms when a name has an empty value: clients sign ``?uploads=`` as sent (botocore) or as
    ``?uploads`` (minio-go, the Java SDK), and both mean the same.
    """
    # In Base64 a blank can only be a "+" that the client did not encode.
    chosen = [
        (name, value.replace(" ", "+") if value and name in CALLBACKS else value)
        for name, value in pairs
        if name in names
    ]
    if not chosen:
        return [""]
    chosen.sort(key=lambda pair: pair[0])
    as_sent = "?" + "&".join([name if value is None else f"{name}={value}" for name, value in chosen])
    bare = "?" + "&".join([f"{name}={value}" if value else name for name, value in chosen])
    return [as_sent] if as_sent == bare else [as_sent, bare]


def is_ambiguous(pairs: Iterable[tuple[str, str | None]]) -> bool:
    """True if a sub-resource's value holds text that, signed, reads like another sub-resource."""
    return any(
        piece.partition("=")[0] in SUBRESOURCES
        for name, value in pairs
        if value and "&" in value and name in SUBRESOURCES
        for piece in value.split("&")[1:]
    )


def resource_paths(path: str, target: Target, mount_prefix: str = "") -> list[str]:
    """The canonical paths under which a client may have signed this request (module text, "Paths")."""
    paths = [path or "/"]
    if mount_prefix:
        inner = path[len(mount_prefix) :]
        if not f"{inner}/".startswith(f"{mount_prefix}/"):
            paths.append(inner or "/")
    if target.virtual_host:
        host_bucket = octets("/" + target.bucket).decode("latin-1")
        paths = [host_bucket + path for path in paths]
    if target.bucket and not target.key:
        bare = [path.removesuffix("/") for path in paths]
        paths = [form for path in bare for form in (path, path + "/")]
    return paths


def signed_headers(
    head: RequestHead, hoisted: Mapping[str, Sequence[str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """The x-amz-* values and the positional ones that a V2 signature is made of.

    Raises AccessDenied for a hoisted header that occurs twice (it would be unclear which one is signed)
    or holds a line end (it would read like another header).
    """
    values = {name: value for name, value in head.headers.items() if name.startswith("x-amz-")}
    positional = {name: head.headers.get(name, "") for name in ("content-md5", "content-type")}
    for name, given in hoisted.items():
        known = head.headers.get(name, given[0])
        if any(value != known for value in given):
            raise S3Error(Code.AccessDenied, f"{name[:64]} is given twice, with different values.")
        if _CONTROL.search(name + known):
            raise S3Error(Code.AccessDenied, "A header moved into the query has control characters.")
        (positional if name in positional else values)[name] = known
    return values, positional


def unsigned_subresources(
    present: frozenset[str], matches: Callable[[frozenset[str]], bool]
) -> frozenset[str] | None:
    """Sub-resources that the client, one of the known ones, left out of a signature that is right otherwise.

    None when no known client would have signed the request so.
    """
    tried = {present}
    for _, names in CLIENTS:
        covered = present & names
        if covered not in tried:
            tried.add(covered)
            if matches(covered):
                return present - covered
    return None


def string_to_sign(
    method: str,
    *,
    content_md5: str,
    content_type: str,
    date: str,
    amz_headers: Mapping[str, str],
    resource: str,
) -> str:
    """The string of both forms: ``date`` is the Date header, "" beside x-amz-date, or Expires."""
    folded = "".join([f"{name}:{amz_headers[name].strip(' ')}\n" for name in sorted(amz_headers)])
    return f"{method}\n{content_md5}\n{content_type}\n{date}\n{folded}{resource}"


def signature(secret_key: str, text: str) -> str:
    """Base64 HMAC-SHA1 of a string to sign (or of a form's policy)."""
    secret = secret_key.encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.digest(secret, octets(text), "sha1")).decode("ascii")
