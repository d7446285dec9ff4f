#!/bin/bash
# etcd, API server and controllers without a node, in namespaces of their own. `cargo xtask cluster` runs it under
# `unshare -m -p -n -f`. While the file $WORK/away is there, the API server is not.
set -u
. "$(dirname "$0")/common.sh"
mount --make-rprivate /
mkdir -p "$LOG" "$WORK/etcd"
mount -t tmpfs etcd "$WORK/etcd"
mount -t proc proc /proc
ip link set lo up
export PATH=$BIN:$PATH KUBECONFIG=$WORK/pki/admin.kubeconfig
make_keys >"$LOG/keys.log" 2>&1
start_etcd "$WORK/etcd"
start_api 127.0.0.1
wait_for 120 "API server ready" api_ready
start_controllers
wait_for 60 "service accounts" kubectl get serviceaccount default
: >"$WORK/ready"
while :; do
    if [ -e "$WORK/away" ] && [ -n "$API_PID" ]; then
        kill -9 "$API_PID"
        wait "$API_PID" 2>/dev/null
        API_PID=
        say "API server ended"
        : >"$WORK/gone"
    elif [ ! -e "$WORK/away" ] && [ -z "$API_PID" ]; then
        start_api 127.0.0.1
        rm -f "$WORK/gone"
        wait_for 120 "API server ready again" api_ready
    fi
    sleep 0.2
done
