"""s3lite beside another S3 server that is running already, in the same minutes: A B A B.

    .venv/bin/python bench/compare.py --peer NAME=http://127.0.0.1:9000 --access-key A --secret-key S

Starts s3lite as shipped; the peer's bucket is made and left behind. Both get the same requests from the
same generator. The figures are medians over the rounds and, beside them, the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import harness
from figures import Figures, interleaved, median_ratio
from harness import Signer
from quick import unit


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Rates of both servers by figure."""
    name, _, endpoint = options.peer.partition("=")
    address = urlsplit(endpoint)
    if not name or not address.hostname:
        sys.exit("--peer is NAME=http://HOST:PORT")
    signer = Signer(
        (address.hostname, address.port or 80), options.access_key, options.secret_key, options.region
    )
    with ExitStack() as stack:
        directory = stack.enter_context(harness.scratch(options.dir))
        server = stack.enter_context(harness.s3lite(directory, S3LITE_DURABILITY=options.durability))
        ours, theirs = Figures(Signer(server.address)), Figures(signer)
        order = {}
        for bench in (ours, theirs):
            stack.callback(bench.close)
            bench.prepare()
        peers = theirs.all(form=not options.no_form)
        for figure, ours_measured in ours.all().items():
            order[figure] = ours_measured
            if figure in peers:
                order[f"{name} {figure}"] = peers[figure]
        found = interleaved(order, options.rounds, options.seconds)
    return {
        figure: {
            "s3lite": statistics.median(found[figure]),
            name: statistics.median(found[f"{name} {figure}"]),
            "ratio": median_ratio(found[figure], found[f"{name} {figure}"]),
        }
        for figure in peers
    }


def main() -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", required=True, help="NAME=http://HOST:PORT")
    parser.add_argument("--access-key", required=True, help="of the peer")
    parser.add_argument("--secret-key", required=True, help="of the peer")
    parser.add_argument("--region", default="us-east-1", help="of the peer")
    parser.add_argument("--no-form", action="store_true", help="the peer takes no upload forms")
    parser.add_argument("--durability", choices=("full", "relaxed"), default="full", help="of s3lite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="per figure and round")
    parser.add_argument("--dir", default=None, help="where to make s3lite's data directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    found = measure(options)
    peer = options.peer.partition("=")[0]
    print(f"| | s3lite ({options.durability}) | {peer} | ratio |\n|---|---:|---:|---:|")
    for figure, line in found.items():
        print(
            f"| {figure}, {unit(figure)} | {line['s3lite']:,.0f} | {line[peer]:,.0f} | {line['ratio']:.2f} |"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
