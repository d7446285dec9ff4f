#!/bin/bash
# First process of a machine with nothing but cgroup v2: a kubelet without an API server runs the pod of the chart's
# DaemonSet. `cargo xtask cluster` boots it in QEMU and reads the line that begins with VERDICT.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
URL=http://10.123.0.1:9464

verdict() {
    echo "VERDICT $*"
    sleep 1
    echo o >/proc/sysrq-trigger
    sleep 60
}
fail() {
    for log in /log/*.log; do echo "== $log"; tail -n 15 "$log"; done
    for log in /var/log/pods/*/*/*.log; do echo "== $log"; tail -n 15 "$log"; done
    verdict "FAILED: $*"
}

if [ "${1:-}" != inside ]; then
    # From the initial RAM disk, which no container can leave by pivot_root, into a file system of its own.
    mkdir -p /new /proc /sys
    mount -t tmpfs -o size=90% root /new
    cp -a /bin /images /lab /lib /lib64 /usr /new/
    cd /new && mkdir -p dev etc log proc run sys tmp var/lib pods
    mount -t devtmpfs dev /new/dev
    exec switch_root /new /lab/guest.sh inside
fi
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
for dir in dev/shm run tmp; do mount -t tmpfs tmpfs "/$dir"; done
mount -t cgroup2 cgroup /sys/fs/cgroup
mount --make-rshared /
for controller in cpu cpuset io memory pids; do echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control; done
: >/etc/resolv.conf
echo '127.0.0.1 localhost' >/etc/hosts
echo 'root:x:0:0::/:/bin/bash' >/etc/passwd
echo 5b1a0c0e7d3f4f0c8a5e2d9b6c4f1a3e >/etc/machine-id
ip link set lo up
ip addr add 10.123.0.1/32 dev lo
echo "up $(cut -d ' ' -f 1 /proc/uptime) s, Linux $(uname -r), $(grep -c cgroup /proc/mounts) cgroup mount: $(grep cgroup /proc/mounts)"

# Neither overlayfs nor a network for pods: this kernel has no modules with it.
sed 's/snapshotter = .*/snapshotter = "native"/' /lab/containerd.toml >/tmp/containerd.toml
containerd -c /tmp/containerd.toml >/log/containerd.log 2>&1 &
until ctr version >/dev/null 2>&1; do sleep 0.5; done
for image in /images/*.tar; do ctr -n k8s.io images import "$image" >>/log/import.log 2>&1 || fail "cannot import $image"; done
echo "images $(cut -d ' ' -f 1 /proc/uptime) s"
{ cat /lab/kubelet.yaml; echo "staticPodPath: /pods"; echo "makeIPTablesUtilChains: false"; } >/tmp/kubelet.yaml
cp /lab/pod.json /pods/
kubelet --config /tmp/kubelet.yaml --container-runtime remote --hostname-override guest --node-ip 10.123.0.1 \
    --container-runtime-endpoint unix:///run/containerd/containerd.sock --root-dir /var/lib/kubelet >/log/kubelet.log 2>&1 &
for ((n = 0; n < 200; n++)); do
    curl -sf "$URL/readyz" >/tmp/ready && break
    sleep 1
done
[ -s /tmp/ready ] || fail "the agent is not ready after 200 s"
echo "ready $(cut -d ' ' -f 1 /proc/uptime) s: $(cat /tmp/ready)"

curl -sf "$URL/metrics" >/tmp/metrics
hooks=$(grep -c '^leasewarden_hook_attached{.*} 1$' /tmp/metrics)
lost=$(grep '^leasewarden_hook_attached{.*} 0$' /tmp/metrics)
[ "$hooks" -ge 5 ] && [ -z "$lost" ] || fail "hooks: $hooks attached, not: $lost"
pid=$(pgrep -xo leasewarden)
[ -n "$pid" ] || fail "no process leasewarden"
has=$(grep CapEff "/proc/$pid/status" | tr -d '\t')
# DAC_READ_SEARCH 2, NET_ADMIN 12, PERFMON 38, BPF 39: these and no others.
[ "$has" = "CapEff:000000c000001004" ] || fail "capabilities: $has"
grep -q 'NoNewPrivs:.*1' "/proc/$pid/status" || fail "new privileges are allowed"
cgroup=$(cat "/proc/$pid/cgroup")
[[ $cgroup == 0::/kubepods/* ]] || fail "not a pod of the kubelet: $cgroup"

# A cgroup made after the agent began speaks to a service (the kubelet): the agent must see and decode it.
mkdir -p /sys/fs/cgroup/tenant-acme/app
(
    echo "$BASHPID" >/sys/fs/cgroup/tenant-acme/app/cgroup.procs
    for n in 1 2 3 4 5; do curl -s http://127.0.0.1:10248/orders >/dev/null; done
)
for ((n = 0; n < 40; n++)); do
    operations=$(curl -sf "$URL/metrics" | grep '^leasewarden_operations_total{kind="data",protocol="http",service="127.0.0.1:10248"')
    [[ $operations == *' 5' ]] && break
    sleep 0.5
done
[[ $operations == *' 5' ]] || fail "the agent did not see five requests: $operations"
verdict "ok: pure cgroup v2, $hooks hooks attached from the DaemonSet's pod, $has, five requests decoded; $cgroup"
