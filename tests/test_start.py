"""Starting is quick because little is imported: what only some requests need comes with the first of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LATER = {"awscrt", "multipart", "psycopg", "jinja2", "werkzeug", "rich", "click", "boto3", "rados", "numpy"}
_WITH_AN_APPLICATION = _LATER | {"lxml", "urllib3", "cryptography", "sqlite3", "email", "ssl", "logging"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [("import s3lite", _WITH_AN_APPLICATION), ("from s3lite import create_app", _LATER)],
)
def test_imports_are_few(statement: str, absent: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) & absent == set()


def test_importing_touches_nothing(tmp_path) -> None:
    subprocess.run(
        [sys.executable, "-c", "import s3lite.app, s3lite.gunicorn_worker, threading; assert threading.active_count() == 1"],
        cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path), "PATH": ""}, check=True,
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
