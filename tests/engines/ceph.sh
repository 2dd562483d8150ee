#!/usr/bin/env bash
# A Ceph cluster of one's own on loopback, as plain processes: one monitor, three OSDs, and the pool
# s3lite with three copies of each object, of which two must be written (min_size 2).
#
#   ceph.sh start DIR            makes DIR when it is missing, starts what does not run, prints the blobs_url
#   ceph.sh stop DIR [KILL]      ends all of it, in order or not
#   ceph.sh kill DIR osd.N|mon.a kill -9, as a crash of that machine
#   ceph.sh stop-osd DIR osd.N   ends one in order
#   ceph.sh admin DIR ARGUMENT…  the command ceph as client.admin
#   ceph.sh install              Debian's packages, as root
#
# OSDs keep their data in a sparse file each (BlueStore, CEPH_OSD_GIB at most: 6). Clients authenticate by cephx:
# DIR/ceph.conf and DIR/client.keyring (user s3lite, who may use that pool only) are what a node needs.
set -euo pipefail

OSDS=${CEPH_OSDS:-3}
GIB=${CEPH_OSD_GIB:-6}
POOL=s3lite

say() { printf '%s\n' "$*" >&2; }
usage() { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

admin() { timeout 30 ceph --conf "$DIR/ceph.conf" "$@"; }

is_running() { [ -s "$DIR/$1.pid" ] && kill -0 "$(cat "$DIR/$1.pid")" 2>/dev/null; }

# launch NAME COMMAND…: in a session of its own, with DIR/NAME.pid.
launch() {
    local name=$1
    shift
    is_running "$name" && return 0
    setsid bash -c 'echo $$ >"$1"; shift; exec "$@"' _ "$DIR/$name.pid" "$@" >>"$DIR/log/$name.out" 2>&1 </dev/null &
}

# Whether a process has ended, also where nobody has asked yet how it did.
is_gone() { ! kill -0 "$1" 2>/dev/null || grep -qs '^State:.Z' "/proc/$1/status"; }

# halt SIGNAL NAME…: and wait until they are gone.
halt() {
    local signal=$1 name pid
    shift
    for name in "$@"; do is_running "$name" && kill "-$signal" "$(cat "$DIR/$name.pid")"; done
    for name in "$@"; do
        [ -s "$DIR/$name.pid" ] || continue
        pid=$(cat "$DIR/$name.pid")
        for _ in $(seq 100); do is_gone "$pid" && break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
        rm -f "$DIR/$name.pid"
    done
}

retry() {
    local tries=$1
    shift
    for _ in $(seq "$tries"); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
    say "gave up on: $*"
    "$@" >&2
}

configure() {
    local fsid address
    fsid=$(cat /proc/sys/kernel/random/uuid)
    address="[v2:127.0.0.1:$(free_port),v1:127.0.0.1:$(free_port)]"
    mkdir -p "$DIR/mon" "$DIR/log" "$DIR/run"
    cat >"$DIR/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = $address
mon initial members = a
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
run dir = $DIR/run
admin socket = $DIR/run/\$name.\$pid.asok
log file = $DIR/log/\$name.log
mon cluster log file = $DIR/log/cluster.log
osd crush chooseleaf type = 0
osd pool default size = 3
osd pool default min size = 2
osd pool default pg num = 16
osd pool default pgp num = 16
osd pool default pg autoscale mode = off
mon data avail warn = 1
mon data avail crit = 1
mon allow pool delete = true
mon osd adjust heartbeat grace = false
mon osd min down reporters = 1
osd heartbeat grace = 5
osd heartbeat interval = 1
[client.admin]
keyring = $DIR/admin.keyring
[client.s3lite]
keyring = $DIR/client.keyring
[mon]
mon data = $DIR/mon
[osd]
osd data = $DIR/osd.\$id
osd memory target = 939524096
osd objectstore = bluestore
bluestore block create = true
bluestore block size = $((GIB << 30))
bluestore block wal size = 0
bluestore block db size = 0
CONF
    ceph-authtool --create-keyring "$DIR/mon.keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
    ceph-authtool --create-keyring "$DIR/admin.keyring" --gen-key -n client.admin \
        --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
    ceph-authtool "$DIR/mon.keyring" --import-keyring "$DIR/admin.keyring" >/dev/null 2>&1
    monmaptool --create --clobber --fsid "$fsid" --addv a "$address" "$DIR/monmap" >/dev/null
    ceph-mon --conf "$DIR/ceph.conf" --mkfs -i a --monmap "$DIR/monmap" --keyring "$DIR/mon.keyring"
}

register_osd() {
    local number=$1 uuid secret
    mkdir -p "$DIR/osd.$number"
    uuid=$(cat /proc/sys/kernel/random/uuid)
    secret=$(ceph-authtool --gen-print-key)
    [ "$(printf '{"cephx_secret": "%s"}' "$secret" | admin osd new "$uuid" -i -)" = "$number" ]
    ceph-authtool --create-keyring "$DIR/osd.$number/keyring" --name "osd.$number" --add-key "$secret" >/dev/null
    echo "$uuid" >"$DIR/osd.$number.uuid"
}

# run_osd NUMBER: gives it a store first, if it has none.
run_osd() {
    local number=$1
    if [ ! -f "$DIR/osd.$number/ready" ]; then
        ceph-osd --conf "$DIR/ceph.conf" -i "$number" --mkfs --osd-uuid "$(cat "$DIR/osd.$number.uuid")" >>"$DIR/log/mkfs.out" 2>&1
    fi
    launch "osd.$number" ceph-osd --conf "$DIR/ceph.conf" -i "$number" -f
}

are_up() { [ "$(admin osd stat -f json | sed -n 's/.*"num_up_osds":\([0-9]*\).*/\1/p')" = "$OSDS" ]; }

start() {
    local number pids=()
    command -v ceph-mon >/dev/null && command -v ceph-osd >/dev/null || { say "Ceph is not installed: $0 install"; exit 3; }
    ulimit -n 65536 2>/dev/null || true
    [ -f "$DIR/monmap" ] || configure
    launch mon.a ceph-mon --conf "$DIR/ceph.conf" -i a -f
    retry 100 admin mon stat
    for number in $(seq 0 $((OSDS - 1))); do
        [ -f "$DIR/osd.$number.uuid" ] || register_osd "$number"
        run_osd "$number" &
        pids+=($!)
    done
    wait "${pids[@]}"
    retry 150 are_up
    if [ ! -f "$DIR/client.keyring" ]; then
        admin osd pool create "$POOL" 16 >/dev/null 2>&1
        admin osd pool application enable "$POOL" s3lite >/dev/null 2>&1
        admin auth get-or-create client.s3lite mon 'allow r' osd "allow rw pool=$POOL" -o "$DIR/client.keyring"
    fi
    echo "rados://$POOL?conf=$DIR/ceph.conf&user=s3lite"
}

[ $# -ge 1 ] || usage
[ "$1" = install ] || { [ $# -ge 2 ] || usage; DIR=$(realpath -m "$2"); }
case "$1 $#" in
    "install 1")
        apt-get update -qq && apt-get install -y -qq --no-install-recommends ceph-mon ceph-osd ceph-common python3-rados ;;
    "start 2") start ;;
    "stop "[23])
        for pid in "$DIR"/osd.*.pid; do [ -e "$pid" ] && halt "${3:-TERM}" "$(basename "$pid" .pid)"; done
        halt "${3:-TERM}" mon.a ;;
    "kill 3") halt KILL "$3" ;;
    "stop-osd 3") halt TERM "$3" ;;
    "admin "*) admin "${@:3}" ;;
    *) usage ;;
esac
