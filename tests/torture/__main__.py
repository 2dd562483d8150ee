"""The long campaigns, each until its share of the time is up.

    python -m torture --seed 7 --minutes 30 [--only crash,faults] [--json figures.json]

Prints a line of counts for each, and every finding with the seed that repeats it. Exit code 1 on findings.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import random
import sys
import time
from collections import Counter
from pathlib import Path

from s3lite import bootstrap

CAMPAIGNS = {
    "crash": "torture.crash",
    "faults": "torture.faults",
    "fuzz": "torture.fuzz",
    "histories": "torture.histories",
    "slow": "torture.slow",
}


def main() -> int:
    """Run them one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--minutes", type=float, default=10.0, help="for all campaigns together")
    parser.add_argument("--only", default=",".join(CAMPAIGNS), help=f"some of {', '.join(CAMPAIGNS)}")
    parser.add_argument("--json", type=Path, help="write counts and findings to this file, too")
    options = parser.parse_args()
    logging.getLogger("s3lite").setLevel(logging.CRITICAL)  # faults are meant; findings are printed
    names = options.only.split(",")
    keys = bootstrap.CallbackKeys.generate()  # which they are does not matter, and making them takes long
    bootstrap.CallbackKeys.generate = staticmethod(lambda: keys)  # type: ignore[method-assign]
    figures: dict[str, object] = {"seed": options.seed}
    total = 0
    for number, name in enumerate(names):
        share_s = options.minutes * 60 / len(names)
        begun = time.monotonic()
        counts: Counter[str] = Counter()
        campaign = importlib.import_module(CAMPAIGNS[name]).campaign
        findings = campaign(options.seed + number, begun + share_s, counts)
        took_s = round(time.monotonic() - begun)
        print(
            f"{name} (seed {options.seed + number}, {took_s} s): {dict(sorted(counts.items()))}", flush=True
        )
        for finding in findings:
            print(f"FINDING {finding}", flush=True)
        total += len(findings)
        figures[name] = {"seconds": took_s, "counts": counts, "findings": findings}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"seed {options.seed}: {total} findings")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
