#!/usr/bin/env bash
# A PostgreSQL server of one's own, as a plain process on loopback.
#
#   postgres.sh start DIR [SETTING=VALUE ...]   makes DIR when it is missing, starts, prints its URL
#   postgres.sh stop DIR [MODE]                 MODE: fast (default), immediate (as a crash)
#   postgres.sh install                         Debian's package, as root
#
# PostgreSQL refuses to run as root, so root runs it as the user postgres, which Debian's package makes.
# The server listens on a port of loopback that was free, and on a socket in DIR. `start` on a DIR
# whose server was killed recovers it on the same port.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }

binaries() {
    local found
    found=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
    [ -n "$found" ] || found=$(dirname "$(command -v initdb 2>/dev/null || echo .)")
    [ -x "$found/initdb" ] || { say "PostgreSQL is not installed: $0 install"; exit 3; }
    echo "$found"
}

# Runs a command as the owner of the server.
as_owner() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@")
    else
        (cd / && "$@")
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

make() {
    local dir=$1
    mkdir -p "$dir"
    [ "$(id -u)" != 0 ] || chown postgres:postgres "$dir"
    as_owner "$(binaries)/initdb" -D "$dir/data" -U s3lite -A trust --no-locale -E UTF8 -N >"$dir/initdb.log" 2>&1 ||
        { cat "$dir/initdb.log" >&2; exit 1; }
    as_owner tee -a "$dir/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $(free_port)
unix_socket_directories = '$dir'
max_connections = 200
max_locks_per_transaction = 128
shared_buffers = 64MB
autovacuum_naptime = 10s
CONF
}

start() {
    local dir=$1 setting port
    shift
    [ -f "$dir/data/PG_VERSION" ] || make "$dir"
    for setting in "$@"; do
        echo "${setting%%=*} = '${setting#*=}'" | as_owner tee -a "$dir/data/postgresql.conf" >/dev/null
    done
    as_owner "$(binaries)/pg_ctl" status -D "$dir/data" >/dev/null 2>&1 ||
        as_owner "$(binaries)/pg_ctl" start -s -w -t 60 -D "$dir/data" -l "$dir/log" </dev/null >&2 ||
        { tail -5 "$dir/log" >&2; exit 1; }
    port=$(sed -n 's/^port = //p' "$dir/data/postgresql.conf" | tail -1)
    echo "postgresql://s3lite@127.0.0.1:$port/postgres"
}

case "${1:-} $#" in
    "install 1") apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql ;;
    "start "*) [ $# -ge 2 ] || usage; start "$(realpath -m "$2")" "${@:3}" ;;
    "stop "[23]) as_owner "$(binaries)/pg_ctl" stop -s -w -m "${3:-fast}" -D "$(realpath "$2")/data" >&2 ;;
    *) usage ;;
esac
