"""Text of policies with wildcards (``*``, ``?``) and policy variables (``${aws:userid}``), to match against.

Matching takes time proportional to the lengths, whatever the pattern: policies are written by tenants.

Source: IAM User Guide, "IAM policy elements: Variables and tags".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_DEFAULT = re.compile(r"([^,\s]+)\s*(?:,\s*'([^']*)'\s*)?")
_SIGNS = ("*", "?", "$")


class Facts(Protocol):
    """What is known of a request, by the lower-case names of condition keys; None for what is not there."""

    def get(self, key: str, /) -> Sequence[str] | None: ...


class _Piece(NamedTuple):
    text: str
    wild: bool = False  # its * and ? are wildcards
    variable: str = ""  # then ``text`` is the default
    has_default: bool = False


class Pattern:
    """``wild``: * and ? are wildcards. ``variables``: ``${…}`` stands for a fact (Version 2012-10-17)."""

    __slots__ = ("_flags", "_pieces", "_regex")

    def __init__(
        self, text: str, *, wild: bool = True, variables: bool = False, ignore_case: bool = False
    ) -> None:
        self._flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._pieces = _split(text, wild=wild) if variables else [_Piece(text, wild)]
        self._regex = None if self.variables() else re.compile(_expression(self._pieces), self._flags)

    def variables(self) -> list[str]:
        """The lower-case names of the facts that it needs."""
        return [piece.variable for piece in self._pieces if piece.variable]

    def is_fixed(self) -> bool:
        """True when it matches one text only, the same for every request."""
        return not self.variables() and not any(
            piece.wild and ("*" in piece.text or "?" in piece.text) for piece in self._pieces
        )

    def matches(self, value: str, facts: Facts) -> bool:
        """Whether it stands for the value. Never, when a variable without default has none."""
        if self._regex is not None:
            return self._regex.fullmatch(value) is not None
        filled = []
        for piece in self._pieces:
            if piece.variable:
                known = facts.get(piece.variable)
                if known is not None and len(known) == 1:
                    piece = _Piece(known[0])
                elif not piece.has_default:
                    return False
            filled.append(piece)
        return re.fullmatch(_expression(filled), value, self._flags) is not None


def _split(text: str, *, wild: bool) -> list[_Piece]:
    pieces, position = [], 0
    for match in _VARIABLE.finditer(text):
        pieces.append(_Piece(text[position : match.start()], wild))
        position = match.end()
        named = _DEFAULT.fullmatch(match[1])
        if match[1] in _SIGNS:
            pieces.append(_Piece(match[1]))
        elif named is None:
            pieces.append(_Piece("", variable=match[1].lower() or "-"))
        else:
            pieces.append(_Piece(named[2] or "", False, named[1].lower(), named[2] is not None))
    pieces.append(_Piece(text[position:], wild))
    return pieces


def _expression(pieces: Sequence[_Piece]) -> str:
    """A regular expression for `re.fullmatch` that never steps back over an earlier wildcard.

    Of ``a*b*c`` the first ``b`` after ``a`` serves as well as any later one, hence the atomic group.
    """
    between = [""]  # what stands between the asterisks
    for piece in pieces:
        runs = piece.text.split("*") if piece.wild else [piece.text]
        for number, run in enumerate(runs):
            if number:
                between.append("")
            between[-1] += re.escape(run).replace(r"\?", ".") if piece.wild else re.escape(run)
    if len(between) == 1:
        return between[0]
    first, *middle, last = between
    return first + "".join(f"(?>.*?{run})" for run in middle if run) + f".*{last}"
