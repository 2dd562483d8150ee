"""The query-subresource dispatcher: a request line against the table of operations.

The query names that occur as subresources in the table pick the operation: none is the bare
resource, two are a 400, one that exists on another level only is a 400, and a method without a row
is a 405. So no operation can be taken for another. OPTIONS asks about another request, whatever that
names, so its one row answers for all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from s3lite.context import Level, Route
from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead, Target

CARRIERS = frozenset({"callback"})
"""Query names that carry something with a request about an object, and pick an operation of buckets."""


class Dispatcher:
    """Finds the row of a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        cells: defaultdict[tuple[Level, str | None], dict[str, list[Route]]] = defaultdict(dict)
        self._preflight = next((route for route in routes if route.method == "OPTIONS"), None)
        for route in routes:
            if route is self._preflight:
                continue
            cells[route.level, route.subresource].setdefault(route.method, []).append(route)
        self._cells = dict(cells)
        self._subresources = frozenset(route.subresource for route in routes if route.subresource)

    def match(self, head: RequestHead, params: Mapping[str, str]) -> Route:
        """The operation that a request names.

        Raises InvalidArgument (two subresources, or one that this level does not have) and
        MethodNotAllowed with Allow.
        """
        level = level_of(head.target)
        if head.method == "OPTIONS" and self._preflight is not None and level is not Level.SERVICE:
            return self._preflight
        words = [name for name in params if name in self._subresources] if params else []
        if level is Level.OBJECT:
            words = [name for name in words if name not in CARRIERS]
        if len(words) > 1:
            raise S3Error(
                Code.InvalidArgument,
                f"Conflicting query string parameters: {', '.join(sorted(words))}. Send one of them.",
                ArgumentName="ResourceType",
                ArgumentValue=words[0],
            )
        word = words[0] if words else None
        cell = self._cells.get((level, word))
        if cell is None:
            raise S3Error(
                Code.InvalidArgument,
                f"The query parameter {word} does not apply to {level.value} requests.",
                ArgumentName=word or "",
                ArgumentValue=params[word] if word else "",
            )
        rows = cell.get(head.method)
        if rows is None:
            raise S3Error(
                Code.MethodNotAllowed,
                headers={"Allow": ", ".join(sorted(cell))},
                Method=head.method,
                ResourceType=(word or level.value).upper(),
            )
        for row in rows:
            if row.when is None or row.when in params or row.when in head.headers:
                return row
        raise S3Error(
            Code.InvalidRequest, f"This request needs {rows[-1].when} to say which operation it is."
        )


def level_of(target: Target) -> Level:
    """Service, bucket or object."""
    if target.key:
        return Level.OBJECT
    return Level.BUCKET if target.bucket else Level.SERVICE
