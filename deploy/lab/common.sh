# What node.sh and api.sh share. Wanted: BIN (Kubernetes' programs), ROOT (Debian packages, unpacked), WORK (keys, logs, data).
: "${BIN:?}" "${ROOT:?}" "${WORK:?}"
LOG=$WORK/log
BEGAN=$(date +%s%N)

say() { printf '    %5.1f s  %s\n' "$(awk -v ns=$(($(date +%s%N) - BEGAN)) 'BEGIN { print ns / 1e9 }')" "$*"; }

# wait_for SECONDS WHAT COMMAND…: until the command succeeds; ends the script when it does not in time.
wait_for() {
    local until=$(($(date +%s) + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$until" ]; then
            say "FAILED: no $what in time; logs in $LOG"
            tail -n 5 "$LOG"/*.log
            exit 1
        fi
        sleep 0.2
    done
    say "$what"
}

# Keys, certificates and tokens for one cluster that only this machine ever sees.
make_keys() {
    mkdir -p "$WORK/pki"
    cd "$WORK/pki" || exit 1
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=lab-ca
    openssl req -newkey rsa:2048 -nodes -keyout api.key -out api.csr -subj /CN=kube-apiserver
    printf 'subjectAltName=IP:127.0.0.1,IP:10.0.0.1,IP:10.123.0.1,DNS:localhost,DNS:kubernetes.default.svc' >san
    openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile san -out api.crt
    openssl genrsa -out sa.key 2048
    openssl rsa -in sa.key -pubout -out sa.pub
    : >tokens.csv
    while read -r name user groups; do
        token=$(openssl rand -hex 16)
        echo "$token,$user,$name,\"$groups\"" >>tokens.csv
        cat >"$name.kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $WORK/pki/ca.crt}}]
users: [{name: u, user: {token: "$token"}}]
contexts: [{name: c, context: {cluster: lab, user: u}}]
current-context: c
EOF
    done <<EOF
admin admin system:masters
kubelet system:node:node1 system:nodes
kcm system:kube-controller-manager
sched system:kube-scheduler
proxy system:kube-proxy
EOF
    cd / || exit 1
}

start_etcd() {
    "$ROOT/usr/bin/etcd" --data-dir "$1" --listen-client-urls http://127.0.0.1:2379 \
        --advertise-client-urls http://127.0.0.1:2379 --unsafe-no-fsync --logger zap >"$LOG/etcd.log" 2>&1 &
}

# Its process id is in API_PID: a test stops it and starts it again.
start_api() {
    "$BIN/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --advertise-address "$1" --bind-address 0.0.0.0 \
        --secure-port 6443 --tls-cert-file "$WORK/pki/api.crt" --tls-private-key-file "$WORK/pki/api.key" \
        --token-auth-file "$WORK/pki/tokens.csv" --authorization-mode Node,RBAC \
        --service-cluster-ip-range 10.0.0.0/24 --service-account-issuer https://kubernetes.default.svc \
        --service-account-signing-key-file "$WORK/pki/sa.key" --service-account-key-file "$WORK/pki/sa.pub" \
        --kubelet-preferred-address-types InternalIP \
        --allow-privileged=true --client-ca-file "$WORK/pki/ca.crt" >>"$LOG/apiserver.log" 2>&1 &
    API_PID=$!
}

api_ready() { curl -sk https://127.0.0.1:6443/readyz | grep -q ok; }

start_controllers() {
    K=$WORK/pki/kcm.kubeconfig
    "$BIN/kube-controller-manager" --kubeconfig "$K" --authentication-kubeconfig "$K" --authorization-kubeconfig "$K" \
        --service-account-private-key-file "$WORK/pki/sa.key" --root-ca-file "$WORK/pki/ca.crt" \
        --use-service-account-credentials=true --leader-elect=false >"$LOG/controllers.log" 2>&1 &
    "$BIN/kube-scheduler" --kubeconfig "$WORK/pki/sched.kubeconfig" --leader-elect=false >"$LOG/scheduler.log" 2>&1 &
}
