"""Arrows point one way: a module imports its own layer's folder and the layers below, nothing above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "s3lite"

# Lowest first. Modules of one row may import one another only inside one folder, or where `NEIGHBOURS` says so.
LAYERS: list[set[str]] = [
    {"config", "errors", "ids", "messages", "model", "names", "settings", "times", "waiting"},
    {"wire"},
    {"auth", "catalog", "blobs", "callback", "crypto"},
    {"core"},
    {"responses", "hooks"},
    {"oss"},
    {"context"},
    {"ops"},
    {"routes", "target", "bootstrap"},
    {"console", "dispatch", "exchange", "metrics", "reserved"},
    {"tracing"},
    {"app"},
    {"crew"},
    {"gunicorn_request"},
    {"testing", "cli", "gunicorn_worker"},
    {"gunicorn_conf"},
    {"__main__"},
]
NEIGHBOURS = {("names", "errors"), ("ids", "times"), ("settings", "config"), ("auth", "crypto")}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ONE_DOOR = {
    "lxml": {"wire/xml.py"},
    "urllib3": {"callback/pools.py"},
    "sqlite3": {"catalog/sqlite.py"},
    "rados": {"blobs/rados_link.py"},
    "psycopg": {"catalog/postgres.py", "catalog/postgres_session.py"},
    "multipart": {"wire/form.py"},
    "prometheus_client": {"metrics.py"},
    "opentelemetry": {"tracing.py"},
    "jinja2": {"console/visit.py"},
    "kombu": {"callback/broker.py"},
    "awscrt": {"wire/checksums.py"},
    "anycrc": {"wire/checksums.py"},
    "cryptography": {"crypto/aead.py", "catalog/secrets.py", "callback/signing.py", "callback/verify.py"},
    "greenlet": {"crew.py"},
}

MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def imports(path: Path) -> set[str]:
    """Absolute names of what a module imports, without those for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "s3lite" else {module}
    return found


def unit(path: Path) -> str:
    """The layer's member that a file belongs to: its folder, or its own name at the top."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    here = unit(path)
    for name in imports(path):
        if not name.startswith("s3lite.") or name == "s3lite.__version__":
            continue
        there = name.split(".")[1]
        allowed = there == here or RANK[there] < RANK[here] or (here, there) in NEIGHBOURS
        assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_library_has_one_door(path: Path) -> None:
    for name in imports(path):
        doors = ONE_DOOR.get(name.split(".")[0])
        assert doors is None or str(path.relative_to(ROOT)) in doors, f"{path} imports {name}"


def test_concrete_stores_are_opened_by_bootstrap_alone() -> None:
    concrete = {"s3lite.catalog.open", "s3lite.blobs.open"}
    importers = {str(path.relative_to(ROOT)) for path in MODULES if imports(path) & concrete}
    assert importers == {"bootstrap.py"}
