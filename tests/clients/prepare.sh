#!/usr/bin/env bash
# prepare.sh [DIRECTORY]: the clients of tests/e2e/test_client_programs.py, each set in an environment of its own.
# They are kept in DIRECTORY, $CLIENTS_DIR or .venv/clients, and installed again only when their list changes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${1:-${CLIENTS_DIR:-$here/../../.venv/clients}}
python=${PYTHON:-python3}

for list in "$here"/*.txt; do
    name=$(basename "$list" .txt)
    mark=$target/$name/.installed
    cmp -s "$list" "$mark" && continue
    [ -x "$target/$name/bin/python" ] || "$python" -m venv "$target/$name"
    "$target/$name/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list"
    cp "$list" "$mark"
done
