"""Every parser that meets bytes of a peer, as a function of bytes, for fuzzers.

A parser here returns or raises S3Error; whatever else it raises, a broken promise (`assert`) included, is a
finding. Inputs are files of ``torture/corpus/NAME``: mostly requests as text, so that people can read them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lxml import etree
from torture.parsers import bodies, documents, heads, signatures, whole

from s3lite import responses
from s3lite.errors import Code, S3Error

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
PARSERS: dict[str, Callable[[bytes], object]] = (
    heads.PARSERS | signatures.PARSERS | bodies.PARSERS | documents.PARSERS | whole.PARSERS
)
MAX_BYTES = 64 << 10
"""Of an input: no parser but those of streams takes more."""
_SLOW_S = 1.0


def feed(name: str, data: bytes) -> bool:
    """Hand an input to a parser: True if it took it, False if it refused it as it should.

    Raises whatever the parser should not have raised, and AssertionError when it took too long.
    """
    started = time.thread_time()
    try:
        PARSERS[name](data)
    except S3Error as problem:
        _check_answer(problem)
        return False
    finally:
        took_s = time.thread_time() - started
    assert took_s < _SLOW_S, f"{name} took {took_s:.2f} s for {len(data)} bytes"
    return True


def seeds(name: str) -> list[Path]:
    """The files of a parser's corpus, in order."""
    return sorted((CORPUS / name).iterdir())


def _check_answer(problem: S3Error) -> None:
    """A refusal is an honest one: a known code that is not the server's fault, in a well-formed document."""
    assert isinstance(problem.code, Code)
    assert problem.code is not Code.InternalError
    assert len(problem.message) < 2000
    for name, value in problem.headers.items():
        assert not set("\r\n\0") & set(name + value)
    answer = responses.error(problem, resource="/", request_id="1", host_id="h")
    if answer.body:
        assert isinstance(answer.body, bytes)
        etree.fromstring(answer.body)
