#!/bin/bash
# A whole Kubernetes node of its own: namespaces for mounts, processes, network; the machine's files as a read-only layer
# below a throw-away one. `cargo xtask cluster` runs it under `unshare -m -p -n -u -i -f`; it ends with its parent.
set -u
. "$(dirname "$0")/common.sh"
HERE=$(cd "$(dirname "$0")" && pwd)

if [ "${1:-}" != inside ]; then
    mount --make-rprivate /
    N=$WORK/node
    mkdir -p "$N" "$WORK/layer" "$LOG" "$WORK/data/containerd" "$WORK/data/kubelet"
    mount -t tmpfs layer "$WORK/layer"
    mkdir -p "$WORK/layer/upper" "$WORK/layer/work"
    # The unpacked packages above the machine's own files. Copied, 180 MB: they lie below `/`, and overlayfs refuses
    # layers of which one holds the other.
    cp -a "$ROOT/usr" "$WORK/layer/upper/" || exit 1
    mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/layer/upper,workdir=$WORK/layer/work" "$N" || exit 1
    mount -t proc proc "$N/proc"
    mount -t sysfs sys "$N/sys"
    mount --rbind /sys/fs/cgroup "$N/sys/fs/cgroup"
    mount --rbind /dev "$N/dev"
    for dir in run tmp; do mount -t tmpfs "$dir" "$N/$dir"; done
    for dir in "$WORK" "$BIN" "$ROOT" "$HERE"; do
        mkdir -p "$N$dir"
        mount --bind "$dir" "$N$dir"
    done
    mkdir -p "$N/var/lib/containerd" "$N/var/lib/kubelet" "$N/etc/cni/net.d"
    mount --bind "$WORK/data/containerd" "$N/var/lib/containerd"
    mount --bind "$WORK/data/kubelet" "$N/var/lib/kubelet"
    hostname node1
    ip link set lo up
    ip link add node0 type bridge
    ip addr add 10.123.0.1/24 dev node0
    ip link set node0 up
    ip route add default via 10.123.0.254
    # Not chroot alone: what enters a container's namespace later (kubectl exec, probes) starts at the namespace's own root.
    mkdir -p "$N/.old"
    cd "$N" && pivot_root . .old || exit 1
    exec chroot . "$HERE/node.sh" inside
fi
cd / || exit 1
umount -l /.old
mount --make-rshared /

export PATH=$BIN:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin
cat >/etc/cni/net.d/10-lab.conflist <<EOF
{"cniVersion": "0.3.1", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "subnet": "10.88.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
make_keys >"$LOG/keys.log" 2>&1
mkdir -p /run/etcd
start_etcd /run/etcd
start_api 10.123.0.1
containerd -c "$HERE/containerd.toml" >"$LOG/containerd.log" 2>&1 &
wait_for 120 "API server ready" api_ready
start_controllers
wait_for 30 "containerd ready" ctr version
for image in "$WORK"/images/*.tar; do
    ctr -n k8s.io images import "$image" >>"$LOG/import.log" 2>&1 || say "cannot import $image: $(tail -n 1 "$LOG/import.log")"
done
say "images: $(ctr -n k8s.io images list -q | grep -v '^sha256' | tr '\n' ' ')"
kubelet --config "$HERE/kubelet.yaml" --kubeconfig "$WORK/pki/kubelet.kubeconfig" --container-runtime remote \
    --container-runtime-endpoint unix:///run/containerd/containerd.sock --hostname-override node1 \
    --node-ip 10.123.0.1 --root-dir /var/lib/kubelet >"$LOG/kubelet.log" 2>&1 &
export KUBECONFIG=$WORK/pki/admin.kubeconfig
kubectl create clusterrolebinding proxier --clusterrole system:node-proxier --user system:kube-proxy >/dev/null 2>&1
kube-proxy --kubeconfig "$WORK/pki/proxy.kubeconfig" --proxy-mode iptables --hostname-override node1 \
    --conntrack-max-per-core 0 >"$LOG/proxy.log" 2>&1 &
node_ready() { kubectl get nodes --no-headers | grep -q ' Ready'; }
wait_for 180 "node ready" node_ready
: >"$WORK/ready"
# Until the driver ends us. Everything in here ends with the process namespace.
sleep infinity
