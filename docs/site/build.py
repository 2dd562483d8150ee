"""Build the documentation as a site: ``python docs/site/build.py DIRECTORY``, as ``make docs`` does.

The pages are written for GitHub and stay as they are. They are copied into a tree for Sphinx, the order of
`SECTIONS` becomes the navigation, and what is beside docs/ (the changes, the licence, sources that pages link to)
comes along. A warning of Sphinx, such as a link that leads nowhere, fails the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"

# By what a reader is after (diataxis.fr): to learn, to get something done, to look something up, to understand.
SECTIONS = {
    "Tutorial": ["first-upload", "tutorial"],
    "How to": [
        "receivers", "callback-policies", "notifications", "access", "encryption", "logging", "oss", "console",
        "embedding", "testing", "operations", "scaling", "observability", "tuning",
    ],
    "Reference": ["compatibility", "settings", "commands", "limits", "errors"],
    "Explanation": [
        "architecture", "callbacks", "durability", "reliability", "attacks", "performance", "comparison", "SECURITY",
    ],
    "The project": ["CHANGELOG", "CONTRIBUTING"],
}  # fmt: skip
BESIDE = ("SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md")
_LINK = re.compile(r"(\]\()(?!https?:)([^)\s#]+)([^)\s]*\))")


def lay_out(tree: Path) -> None:
    """The pages as Sphinx wants them: all in one folder, with whatever else they link to."""
    for page in [*DOCS.glob("*.md"), *map(ROOT.joinpath, BESIDE)]:
        text = _LINK.sub(
            lambda link, page=page: _relinked(link, page, tree), page.read_text(encoding="utf-8")
        )
        if page.stem == "index":
            text += "".join(map(_navigation, SECTIONS.items()))
        (tree / page.name).write_text(text, encoding="utf-8")
    for folder in ("images", "performance", "observability"):
        shutil.copytree(DOCS / folder, tree / folder)
    shutil.copy(DOCS / "site/conf.py", tree)


def _relinked(link: re.Match[str], page: Path, tree: Path) -> str:
    """A link to a page or its pictures stays; any other file is copied beside them."""
    target = (page.parent / link[2]).resolve()
    if (target.is_relative_to(DOCS) and target.is_file()) or target.name in BESIDE:
        where = os.path.relpath(target, DOCS if target.is_relative_to(DOCS) else ROOT)
        return f"{link[1]}{where}{link[3]}"
    if not target.exists():
        return link[0]  # Sphinx says which page it is on
    if target.is_dir():
        target = shutil.make_archive(str(tree / "files" / target.name), "zip", target)  # type: ignore[assignment]
        return f"{link[1]}files/{Path(target).name}{link[3]}"
    copy = tree / "files" / target.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    # Sources are shown as they are, and never taken for pages.
    copy = copy.with_name(copy.name + ".txt") if copy.suffix in (".md", ".py", ".html") else copy
    shutil.copy(target, copy)
    return f"{link[1]}{copy.relative_to(tree)}{link[3] if target.suffix == '.md' else ')'}"


def _navigation(section: tuple[str, list[str]]) -> str:
    caption, pages = section
    return "\n```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(pages) + "\n```\n"


def main() -> int:
    """Exit code of Sphinx."""
    out = Path(sys.argv[1]).resolve()
    script = ROOT / ".venv/docs/node_modules/mermaid/dist/mermaid.esm.min.mjs"
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        lay_out(tree)
        environment = dict(os.environ)
        (tree / "_static").mkdir()
        if script.exists():
            static = tree / "_static/mermaid"
            shutil.copytree(
                script.parent,
                static,
                ignore=shutil.ignore_patterns("*.map", "*.d.ts", "mermaid*.js", "mermaid.esm.mjs"),
            )
            environment["MERMAID_SCRIPT"] = f"mermaid/{script.name}"
        words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "dirhtml", str(tree), str(out)]
        return subprocess.run([sys.executable, *words], env=environment, check=False).returncode  # noqa: S603  # ours


if __name__ == "__main__":
    sys.exit(main())
