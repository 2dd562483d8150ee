#!/usr/bin/env bash
# A PostgreSQL server of one's own, as a plain process on loopback.
#
#   postgres.sh start DIR [SETTING=VALUE ...]   makes DIR when it is missing, starts, prints its URL
#   postgres.sh stop DIR [MODE]                 MODE: fast (default), immediate (as a crash)
#   postgres.sh standby PRIMARY DIR             a streaming copy of PRIMARY's in DIR, which confirms each commit from
#                                               now on; prints a URL of both, for whichever takes writes
#   postgres.sh kill DIR                        kill -9 to all its processes, as a crash of that machine
#   postgres.sh promote DIR                     makes a stand-by a primary
#   postgres.sh install                         Debian's package, as root
#
# PostgreSQL refuses to run as root, so root runs it as the user postgres, which Debian's package makes.
# The server listens on a port of loopback that was free, and on a socket in DIR. `start` on a DIR
# whose server was killed recovers it on the same port.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }

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
    echo "postgresql://s3lite@127.0.0.1:$(port_of "$dir")/postgres"
}

port_of() { sed -n "s/^port = '*\\([0-9]*\\).*/\\1/p" "$1/data/postgresql.conf" | tail -1; }

# Whether the primary in a directory waits for a stand-by.
is_followed() {
    [ "$(as_owner "$(binaries)/psql" -h 127.0.0.1 -p "$(port_of "$1")" -U s3lite -Atc \
        "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'" postgres)" = 1 ]
}

standby() {
    local primary=$1 dir=$2
    mkdir -p "$dir"
    [ "$(id -u)" != 0 ] || chown postgres:postgres "$dir"
    as_owner "$(binaries)/pg_basebackup" -h 127.0.0.1 -p "$(port_of "$primary")" -U s3lite \
        -D "$dir/data" -R -X stream -c fast >&2
    start "$dir" "port=$(free_port)" "unix_socket_directories=$dir" >/dev/null
    echo "synchronous_standby_names = '*'" | as_owner tee -a "$primary/data/postgresql.conf" >/dev/null
    as_owner "$(binaries)/pg_ctl" reload -s -D "$primary/data" >&2
    for _ in $(seq 100); do is_followed "$primary" && break; sleep 0.1; done
    is_followed "$primary" || { tail -5 "$dir/log" >&2; exit 1; }
    echo "postgresql://s3lite@127.0.0.1:$(port_of "$primary"),127.0.0.1:$(port_of "$dir")/postgres?target_session_attrs=read-write"
}

# The server's own process first, so that it starts no others meanwhile.
kill_all() {
    local server children
    server=$(head -1 "$1/data/postmaster.pid")
    children=$(cat "/proc/$server/task/$server/children")
    kill -KILL "$server"
    # shellcheck disable=SC2086  # a list of pids
    kill -KILL $children 2>/dev/null || true
}

case "${1:-} $#" in
    "install 1") apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql ;;
    "start "*) [ $# -ge 2 ] || usage; start "$(realpath -m "$2")" "${@:3}" ;;
    "stop "[23]) as_owner "$(binaries)/pg_ctl" stop -s -w -m "${3:-fast}" -D "$(realpath "$2")/data" >&2 ;;
    "standby 3") standby "$(realpath "$2")" "$(realpath -m "$3")" ;;
    "kill 2") kill_all "$(realpath "$2")" ;;
    "promote 2") as_owner "$(binaries)/pg_ctl" promote -s -w -D "$(realpath "$2")/data" >&2 ;;
    *) usage ;;
esac
