"""Known advisories about what requirements.txt pins: exit code 1 when there are any.

    python supply/audit.py PIP_AUDIT [REQUIREMENTS]

Where the advisory service cannot be reached it says so and ends with 0: a build must not depend on it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def judge(document: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit code and lines of pip-audit's JSON."""
    found, skipped, seen = [], [], 0
    for each in document.get("dependencies", []):
        if "skip_reason" in each:
            skipped.append(each["name"])
            continue
        seen += 1
        for advisory in each["vulns"]:
            fixed = ", ".join(advisory.get("fix_versions") or []) or "no release yet"
            found.append(f"{each['name']} {each['version']}: {advisory['id']}, fixed by {fixed}")
    if found:
        return 1, found
    if not seen:
        return 0, ["the advisory service cannot be reached: nothing was audited"]
    left = f"; nothing is known of {', '.join(skipped)}" if skipped else ""
    return 0, [f"{seen} releases, no advisory{left}"]


def main(program: str, requirements: str) -> int:
    """Run pip-audit. What it cannot do is told and is no failure."""
    command = [program, "--format", "json", "--progress-spinner", "off", "--require-hashes", "--disable-pip"]
    try:
        done = subprocess.run(
            [*command, "--requirement", requirements], capture_output=True, text=True, timeout=300
        )
        code, lines = judge(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        code, lines = 0, [f"nothing was audited: {error}"]
    for line in lines:
        print(f"audit: {line}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else str(ROOT / "requirements.txt")))
