"""Byte ranges: of reads (Range), and of part copies (x-amz-copy-source-range).

Sources: RFC 9110, 14.1.2 and 14.2; API Reference, GetObject and UploadPartCopy.
"""

from __future__ import annotations

import re

from s3lite.errors import Code, S3Error, invalid_argument

# 20 digits hold every 64-bit number, and more are no range that anybody means.
_RANGE = re.compile(r"bytes=\s*([0-9]{0,20})-([0-9]{0,20})\s*", re.IGNORECASE)
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,20})-([0-9]{1,20})")


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """(offset, length) of the one range that ``header`` asks for, cut to ``size``; None: send everything.

    Several ranges, other units and what is malformed are ignored, as AWS does ("A server MAY ignore the
    Range header field"). Raises InvalidRange when nothing of the range is there, so of an empty object.
    """
    match = _RANGE.fullmatch(header)
    if match is None:
        return None
    first_text, last_text = match[1], match[2]
    if not first_text and not last_text:
        return None
    if not first_text:
        length = min(int(last_text), size)
        if length == 0:
            raise _unsatisfiable(header, size)
        return size - length, length
    first = int(first_text)
    last = int(last_text) if last_text else size - 1
    if last_text and last < first:
        return None
    if first >= size:
        raise _unsatisfiable(header, size)
    return first, min(last, size - 1) - first + 1


def parse_copy_range(header: str, size: int) -> tuple[int, int]:
    """(offset, length) of x-amz-copy-source-range on a source of ``size`` bytes.

    Raises InvalidArgument (not exactly ``bytes=first-last``) and InvalidRange, with AWS's status of 400,
    when the range does not lie within the source.
    """
    match = _COPY_RANGE.fullmatch(header)
    if match is None or int(match[1]) > int(match[2]):
        raise invalid_argument(
            "x-amz-copy-source-range",
            header,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last "
            "are the zero-based offsets of the first and last bytes to copy",
        )
    first, last = int(match[1]), int(match[2])
    if last >= size:
        raise S3Error(
            Code.InvalidRange,
            f"Range specified is not valid for source object of size: {size}",
            status=400,
            RangeRequested=header,
            ActualObjectSize=str(size),
        )
    return first, last - first + 1


def content_range(offset: int, length: int, size: int) -> str:
    """The Content-Range of a 206."""
    return f"bytes {offset}-{offset + length - 1}/{size}"


def _unsatisfiable(header: str, size: int) -> S3Error:
    return S3Error(
        Code.InvalidRange,
        headers={"Content-Range": f"bytes */{size}"},
        RangeRequested=header,
        ActualObjectSize=str(size),
    )
