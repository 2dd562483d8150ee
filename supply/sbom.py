"""A CycloneDX bill of materials of s3lite and of what is installed beside it.

    python supply/sbom.py CYCLONEDX-PY PYTHON FILE

PYTHON is that of the environment with requirements.txt in it. The tool does not find s3lite's own version, because
that is in `s3lite/__init__.py` alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(tool: str, python: str, target: str) -> None:
    """Write ``target``."""
    file = Path(target)
    command = [tool, "environment", "--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
    command += ["--output-reproducible", "--spec-version", "1.6", "--output-file", str(file), python]
    subprocess.run(command, check=True)
    document = json.loads(file.read_text(encoding="utf-8"))
    version = re.search(r'__version__ = "(.+)"', (ROOT / "s3lite/__init__.py").read_text(encoding="utf-8"))
    assert version is not None
    document["metadata"]["component"]["version"] = version[1]
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:4])
