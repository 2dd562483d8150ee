"""Every parser that meets bytes of a peer: its corpus again, and inputs near it; `make torture` fuzzes for long."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torture.parsers import CORPUS, PARSERS, feed, seeds

from s3lite.auth import sigv4
from s3lite.wire import aws_chunked

_MEMORY = 8 << 20  # bytes beside 64 times the input
_INPUTS = [path for name in PARSERS for path in seeds(name)]
# What is likely to matter somewhere, to be put between or in place of bytes of the corpus.
_TOKENS = st.sampled_from(
    [
        b"\r\n", b"\n", b"\0", b"%00", b"%0d%0a", b"%", b"%ff", b"\xff", b"\xc3\xa9", b"=", b"&", b";", b",", b":", b"/",
        b"//", b"..", b"?", b'"', b"<!--", b"]]>", b"&amp;", b"&#0;", b"<a/>", b"-1", b"0", b"9" * 25, b"1e400", b"NaN",
        b"[" * 60, b"${", b"*", b"+", b" ", b"\t", b"-", b"--b", b"--", b"\\", b"@", b"#", b"host: bucket.s3.test\n",
    ]
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """What is refused on purpose fills no log, and later tests hear again."""
    logging.getLogger("s3lite").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("s3lite").setLevel(logging.NOTSET)


@pytest.mark.parametrize("path", _INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_input_of_the_corpus_is_taken_or_refused_in_little_memory(path: Path) -> None:
    data = path.read_bytes()
    feed(path.parent.name, data)  # what is kept from a first time is not counted
    tracemalloc.start()
    taken = feed(path.parent.name, data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < _MEMORY + 64 * len(data)
    said = path.name.partition("-")[0]
    assert said in ("valid", "refused", "found"), "a name says what must become of the input"
    assert said == "found" or taken is (said == "valid")


def test_every_parser_has_a_corpus_and_every_corpus_a_parser() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(PARSERS)
    assert all(any(path.name.startswith("valid-") for path in seeds(name)) for name in PARSERS)


@st.composite
def near_the_corpus(draw: st.DrawFn, name: str) -> bytes:
    """A file of the corpus, cut, repeated and mixed with another and with what may matter."""
    data = draw(st.sampled_from(seeds(name))).read_bytes()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        put = draw(
            _TOKENS
            | st.binary(max_size=8)
            | st.just(data[start:end] * 2)
            | st.binary(min_size=end - start, max_size=end - start)
        )
        data = data[:start] + put + data[end:]
    return data


@pytest.mark.parametrize("name", PARSERS)
def test_any_input_near_the_corpus_is_taken_or_refused(name: str) -> None:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        phases=[Phase.generate],
    )
    @given(near_the_corpus(name))
    def check(data: bytes) -> None:
        feed(name, data)

    check()


@pytest.mark.parametrize(
    ("name", "seed", "signed", "forged"),
    [
        ("authorization", "valid-v4", b"/bucket/a%20key", b"/bucket/another"),
        ("authorization", "valid-v2", b"x-amz-acl: private", b"x-amz-acl: public-read"),
        ("authorization", "valid-oss4", b"PUT /bucket", b"DELETE /bucket"),
        ("aws-chunked", "valid-signed", b"01234567", b"76543210"),
    ],
)
def test_a_signature_that_nobody_compares_would_be_found(
    name: str, seed: str, signed: bytes, forged: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (CORPUS / name / seed).read_bytes()
    assert signed in data
    assert feed(name, data.replace(signed, forged)) is False
    monkeypatch.setattr(sigv4, "same", lambda *_: True)
    monkeypatch.setattr(aws_chunked.hmac, "compare_digest", lambda *_: True)
    with pytest.raises(AssertionError):
        feed(name, data.replace(signed, forged))
