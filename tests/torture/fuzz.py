"""The long fuzzers: each parser in a process of its own, guided by coverage (atheris, which is libFuzzer).

They begin with the corpus of the repository. An input that breaks a promise is a finding; put it into
``torture/corpus/PARSER`` and it is tried by every run of the tests.

    python -m torture.fuzz PARSER CORPUS... [libFuzzer's options]
"""

from __future__ import annotations

import base64
import importlib.util
import logging
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

_MEMORY_MIB = 2048
_INPUT_S = 10  # of wall clock, before an input counts as a hang
_STARTING_S = 5.0  # of a process, about
_RUNS = re.compile(r"number_of_executed_units:\s*([0-9]+)")
_FAULT = re.compile(r"^(?: === Uncaught Python exception: ===\n(.*)|.*(ERROR: libFuzzer: .*))$", re.MULTILINE)


def campaign(seed: int, until: float, counts: Counter[str]) -> list[str]:
    """Fuzz every parser for an equal share of the time until ``until`` (`time.monotonic`): the findings."""
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: atheris is not installed (tests/torture/requirements.txt): nothing is fuzzed")
        return []
    from torture.parsers import PARSERS

    names = random.Random(seed).sample(sorted(PARSERS), len(PARSERS))
    findings = []
    for number, name in enumerate(names):
        left_s = until - time.monotonic()
        if left_s <= 0:
            counts["parsers left out, for want of time"] += 1
            continue
        share_s = max(left_s / (len(names) - number) - _STARTING_S, 1)
        runs, finding = fuzz(name, seed, int(share_s))
        counts["inputs"] += runs
        counts["parsers"] += 1
        if finding:
            findings.append(finding)
    return findings


def fuzz(name: str, seed: int, seconds: int) -> tuple[int, str]:
    """Fuzz one parser: how many inputs it got, and the finding that ended it, "" if none did."""
    from torture.parsers import CORPUS, MAX_BYTES

    with tempfile.TemporaryDirectory() as directory:
        found = Path(directory, "found")
        found.mkdir()
        done = subprocess.run(
            [
                sys.executable, "-m", "torture.fuzz", name, str(found), str(CORPUS / name), f"-seed={seed % (1 << 31)}",
                f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-timeout={_INPUT_S}",
                f"-rss_limit_mb={_MEMORY_MIB}", f"-artifact_prefix={directory}/", "-print_final_stats=1",
            ],
            capture_output=True,
            check=False,
        )  # fmt: skip
        output = (done.stdout + done.stderr).decode("utf-8", "replace")
        ran = _RUNS.search(output)
        runs = int(ran[1]) if ran else 0
        if done.returncode == 0:
            return runs, ""
        what = _FAULT.search(output)
        said = (what[1] or what[2]) if what else output[-500:]
        inputs = [path for path in Path(directory).iterdir() if path.is_file()]
        shown = base64.b64encode(inputs[0].read_bytes()).decode() if inputs else "none kept"
        return runs, f"{name} (seed {seed}): {said}; the input in Base64: {shown}"


def main() -> None:
    """The process of one parser: never returns, libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["s3lite", "multipart"]):
        from torture.parsers import feed

    logging.getLogger("s3lite").setLevel(logging.CRITICAL)
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda data: feed(name, data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
