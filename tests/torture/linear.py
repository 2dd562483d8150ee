"""Is a history of one key linearizable? The search of Wing and Gong, with what failed remembered.

Each operation takes effect at one instant between its call and its return. One without an answer may have
taken effect at any time after its call, or never. Multipart uploads are registers of the same kind: "open"
at first, then "completed" or "aborted" for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NEVER = float("inf")
OPEN, COMPLETED, ABORTED = "open", "completed", "aborted"


@dataclass(frozen=True, slots=True)
class Op:
    """What somebody did, and was told.

    ``kind``: put (value), create (a put where nothing is), swap (a put where ``expected`` is), delete, drop (a
    delete where ``expected`` is, or nothing), get; of an upload: complete, abort. ``result``: what a get saw
    (None: nothing), else whether it was accepted; ignored without an answer.
    """

    kind: str
    value: str | None
    result: object
    called: float
    returned: float = NEVER
    expected: str | None = None


def is_linearizable(history: Sequence[Op], first: str | None = None) -> bool:
    """Whether some order of the operations explains what everybody saw."""
    ops = [op for op in history if op.kind != "get" or op.returned != NEVER]
    needed = frozenset(n for n, op in enumerate(ops) if op.returned != NEVER)
    failed: set[tuple[frozenset[int], str | None]] = set()
    waiting = [(frozenset[int](), first)]
    while waiting:
        done, value = waiting.pop()
        if needed <= done:
            return True
        if (done, value) in failed:
            continue
        failed.add((done, value))
        left = [n for n in range(len(ops)) if n not in done]
        border = min(ops[n].returned for n in left)
        for n in left:
            if ops[n].called <= border:
                after = _apply(ops[n], value)
                if after is not _IMPOSSIBLE:
                    waiting.append((done | {n}, after))
    return False


_IMPOSSIBLE = "impossible"


def _apply(op: Op, value: str | None) -> str | None:
    """The value after ``op``."""
    if op.kind == "get":
        return value if op.result == value else _IMPOSSIBLE
    accepted, after = _outcome(op, value)
    if op.returned != NEVER and op.result is not accepted:
        return _IMPOSSIBLE
    return after if accepted else value


def _outcome(op: Op, value: str | None) -> tuple[bool, str | None]:
    """Whether a register that holds ``value`` accepts a change, and what it holds then."""
    match op.kind:
        case "create":
            return value is None, op.value
        case "swap":
            return value is not None and value == op.expected, op.value
        case "drop":
            return value is None or value == op.expected, None
        case "complete":
            return value != ABORTED, COMPLETED  # repeats get the same answer
        case "abort":
            return value == OPEN, ABORTED
        case "delete":
            return True, None
    return True, op.value
