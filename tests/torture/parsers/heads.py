"""Request lines and headers: targets, signatures, conditions, ranges, dates, checksums, tokens and the like."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from torture.parsers import text

from s3lite import times
from s3lite.auth import acl, facts
from s3lite.auth.sessions import SessionTokens
from s3lite.callback import reply
from s3lite.core.listing import decode_token, encode_token
from s3lite.errors import Code
from s3lite.model import ObjectVersion
from s3lite.wire import checksums, conditions, cors, encryption, object_lock, ranges, requests

SIZE = 1000  # of the object whose ranges are asked for
ETAG = "900150983cd24fb0d6963f7d28e17f72"
MODIFIED_MS = 1_794_000_000_000
TOKENS = SessionTokens(b"k" * 32)
_NOW_MS = int(text.NOW * 1000)


def target(data: bytes) -> None:
    """A request line and Host: bucket, key and query; the target that they make means the same again."""
    request = text.parse(data)
    head = text.head(request)
    assert "/" not in head.target.bucket or head.target.virtual_host
    key = quote(head.target.key.encode(), safe="")
    path = f"/{key}" if head.target.virtual_host else f"/{quote(head.target.bucket, safe='')}/{key}"
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in head.query_items)
    again = text.head(request._replace(target=f"{path}?{query}"))
    assert again.target == head.target
    assert again.query_items == head.query_items or not head.query_items


def byte_range(data: bytes) -> None:
    """A Range header lies within the object, or is ignored, or not satisfiable."""
    header = data.decode("latin-1")
    found = ranges.parse_range(header, SIZE)
    if found is not None:
        offset, length = found
        assert 0 <= offset < SIZE
        assert 1 <= length <= SIZE - offset
        assert ranges.parse_range(f"bytes={offset}-{offset + length - 1}", SIZE) == found
    offset, length = ranges.parse_copy_range(header, SIZE)
    assert offset >= 0
    assert 1 <= length <= SIZE - offset


def date(data: bytes) -> None:
    """The date formats: a finite number that reads back, or None."""
    written = data.decode("latin-1")
    for read, write in (
        (times.parse_http_date, times.http_date),
        (times.parse_amz_date, times.amz_date),
        (times.parse_iso8601, times.rfc3339),
    ):
        seconds = read(written)
        if seconds is not None:
            assert seconds < 253_402_300_800  # the year 10000 cannot be written
            assert seconds < 0 or read(write(seconds)) == int(seconds)
    conditions.parse_date(written)
    assert 0 <= reply.retry_after(written, "Sun, 06 Nov 1994 08:49:37 GMT") <= reply.MAX_RETRY_AFTER_S


def condition(data: bytes) -> None:
    """If-* headers of reads, copies, writes and deletes: go on, or one of the known refusals."""
    headers = text.parse(b"GET /\n" + data).lowered
    current = ObjectVersion.__new__(ObjectVersion)
    for name, value in (
        ("etag", ETAG),
        ("size", SIZE),
        ("modified_ms", MODIFIED_MS),
        ("is_delete_marker", False),
    ):
        object.__setattr__(current, name, value)
    about = {"etag": ETAG, "modified_ms": MODIFIED_MS, "now_s": text.NOW}
    known = (None, Code.PreconditionFailed, Code.NotModified, Code.NoSuchKey, Code.InvalidArgument)
    for decide in (
        lambda: conditions.read_decision(headers, **about),
        lambda: conditions.copy_source_decision(headers, **about),
        lambda: conditions.parse_write_conditions(headers).check(current),
        lambda: conditions.parse_write_conditions(headers).check(None),
        lambda: conditions.parse_delete_conditions(headers).check(current),
    ):
        assert text.refusal(decide) in known


def copy_source(data: bytes) -> None:
    """x-amz-copy-source: what is escaped for it reads back."""
    path = facts.source_path(data.decode("latin-1"))
    assert not path.startswith("/")
    assert facts.source_path("/" + quote(path, safe="/", errors="surrogateescape")) == path


def checksum_headers(data: bytes) -> None:
    """Content-MD5, x-amz-checksum-*, x-amz-trailer: what is asked can be computed and compared."""
    request = text.parse(b"PUT /\n" + data)
    asked = checksums.parse_checksum_headers(request.lowered)
    algorithms = [asked.algorithm] if asked.algorithm else []
    assert set(algorithms) <= set(checksums.ALGORITHMS)
    digests = checksums.Digests(algorithms)
    digests.update(request.body)
    for values in (request.lowered, {}):
        refused = text.refusal(lambda values=values: checksums.verify(asked, digests, values))
        assert refused in (None, Code.BadDigest, Code.InvalidRequest)
    checksums.values_in_headers(request.lowered)


def tagging_header(data: bytes) -> None:
    """x-amz-tagging: tags within their limits, which read back."""
    tags = requests.parse_tagging_header(data.decode("latin-1"))
    assert len(tags) <= 10
    again = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in tags)
    assert requests.parse_tagging_header(again) == tuple(sorted(tags))


def continuation_token(data: bytes) -> None:
    """A token: a marker that makes a token of the same meaning."""
    marker = decode_token(data.decode("latin-1"))
    assert decode_token(encode_token(marker)) == marker


def session_token(data: bytes) -> None:
    """A session token that was not made here opens nothing."""
    assert TOKENS.open("ASIAEXAMPLE", data.decode("ascii", "replace")) is None


def encryption_headers(data: bytes) -> None:
    """Server-side encryption of uploads, reads and copy sources."""
    headers = text.parse(b"PUT /\n" + data).lowered
    text.refusal(lambda: encryption.refuse_on_reads(headers))
    text.refusal(lambda: encryption.parse_customer_key(headers, encryption.COPY_SOURCE))
    wanted = encryption.parse_wanted(headers)
    if wanted is not None and wanted.customer_key is not None:
        assert len(wanted.customer_key.key) == 32


def lock_headers(data: bytes) -> None:
    """x-amz-object-lock-*: nothing, or a lock that lies in the future."""
    lock = object_lock.parse_headers(text.parse(b"PUT /\n" + data).lowered, now_ms=_NOW_MS)
    assert lock.retain_until_ms == 0 or lock.retain_until_ms > _NOW_MS


def grant_headers(data: bytes) -> None:
    """x-amz-acl and x-amz-grant-*."""
    headers = text.parse(b"PUT /\n" + data).lowered
    found = acl.grants_from_headers(
        headers,
        owner_id="o",
        resolve_email=lambda email: "e" if "@" in email else None,
        account_exists=lambda account: account == "a",
    )
    made = found or acl.canned_acl(headers.get("x-amz-acl", "private"), owner_id="o", bucket_owner_id="b")
    assert len(made.grants) <= acl.MAX_GRANTS
    assert made.owner_id == "o"


def cors_headers(data: bytes) -> None:
    """A preflight: the names that it asks for are header names."""
    names = cors.requested_headers(data.decode("latin-1"))
    if names is not None:
        assert cors.requested_headers(",".join(names)) == names


PARSERS: dict[str, Callable[[bytes], object]] = {
    "target": target,
    "range": byte_range,
    "date": date,
    "condition": condition,
    "copy-source": copy_source,
    "checksum-headers": checksum_headers,
    "tagging-header": tagging_header,
    "continuation-token": continuation_token,
    "session-token": session_token,
    "encryption-headers": encryption_headers,
    "lock-headers": lock_headers,
    "grant-headers": grant_headers,
    "cors-headers": cors_headers,
}
