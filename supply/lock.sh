#!/usr/bin/env bash
# lock.sh UV: renew requirements.txt and supply/tools.txt from their .in files, with the hashes of every file of
# each release in the public index, and see that Linux on x86-64 and aarch64 is served for every CPython.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=$1

# Nothing of this machine's configuration: other indexes and links would lend other files their hashes.
for name in $(compgen -e | grep -E '^(UV|PIP)_' || true); do unset "$name"; done

lock() {
    "$uv" pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --custom-compile-command "make lock" --output-file "$2" "$1"
}

lock requirements.in requirements.txt
lock supply/tools.in supply/tools.txt
for version in 3.11 3.12 3.13 3.14; do
    for machine in x86_64 aarch64; do
        "$uv" pip install --no-config --quiet --dry-run --target "$(mktemp -d)" --require-hashes \
            --only-binary :all: --python-version "$version" --python-platform "$machine-unknown-linux-gnu" \
            -r requirements.txt
        echo "CPython $version on $machine: a wheel of everything"
    done
done
