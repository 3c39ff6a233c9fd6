#!/usr/bin/env bash
# The cluster itself; up.sh runs it as process 1 of fresh namespaces. The node has the
# address 10.99.0.1, at which programs outside of pods can serve pods, and no way out.
set -euo pipefail
ip=10.99.0.1 cg=/weir-kube
cd "$LAB"
say() { echo "$(date +%T.%N | cut -c1-12) $*"; }
mount --make-rshared /
# What the node would leave on the machine's disk goes with the cluster instead.
for d in /var/lib/cni /var/lib/kubelet /var/log/pods /var/log/containers; do
  mkdir -p "$d" "$LAB/disk$d" && mount --bind "$LAB/disk$d" "$d"
done
mount -t tmpfs tmpfs /run
# The machine's name server is not reached from here, and a pull that waits for it keeps its
# pod from ending. That of the cluster knows no other name and says so.
echo "nameserver $ip" > node-resolv.conf
mount --bind node-resolv.conf "$(readlink -f /etc/resolv.conf)"
# The kubelet sets machine-wide sysctls unless they have these values: it sees
# files that have them, in place of the machine's.
for set in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  seen=$LAB/sysctl/${set%=*} && mkdir -p "$(dirname "$seen")" && echo "${set#*=}" > "$seen"
  mount --bind "$seen" "/proc/sys/${set%=*}"
done

ip link set lo up
ip link add node0 type veth peer name node1
ip addr add $ip/24 dev node0
ip link set node0 up && ip link set node1 up
ip route add default via 10.99.0.254 dev node0
sysctl -qw net.ipv4.ip_forward=1

test -s pki/sa.key || openssl genrsa -out pki/sa.key 2048 2>/dev/null
openssl rsa -in pki/sa.key -pubout -out pki/sa.pub 2>/dev/null
: > pki/tokens.csv && chmod 600 pki/tokens.csv
user() { # name of kubeconfig, user, group
  local token; token=$(openssl rand -hex 16)
  echo "$token,$2,$2,\"$3\"" >> pki/tokens.csv
  cat > "$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://$ip:6443", certificate-authority: $LAB/pki/apiserver.crt}}]
users: [{name: me, user: {token: $token}}]
contexts: [{name: lab, context: {cluster: lab, user: me}}]
current-context: lab
END
}
user admin admin system:masters
user controllers system:kube-controller-manager system:authenticated
user scheduler system:kube-scheduler system:authenticated
user proxy system:kube-proxy system:authenticated
user node system:node:lab system:nodes
user dns system:dns system:authenticated
export KUBECONFIG=$LAB/admin.kubeconfig

start() { local name=$1; shift; "$@" > "log/$name.log" 2>&1 & say "started $name"; }
until_ok() { local i; for i in $(seq 400); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; say "gave up: $*"; return 1; }

start etcd etcd --data-dir "$LAB/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --log-level warn
start apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 --cert-dir "$LAB/pki" --advertise-address $ip --secure-port 6443 \
  --service-cluster-ip-range 10.96.0.0/16 --authorization-mode Node,RBAC --token-auth-file pki/tokens.csv --allow-privileged \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file pki/sa.pub --service-account-signing-key-file pki/sa.key \
  --kubelet-preferred-address-types InternalIP
until_ok kubectl get --raw /readyz
say "API ready"
start controllers kube-controller-manager --kubeconfig controllers.kubeconfig --leader-elect=false --use-service-account-credentials \
  --root-ca-file pki/apiserver.crt --service-account-private-key-file pki/sa.key --bind-address 127.0.0.1
start scheduler kube-scheduler --kubeconfig scheduler.kubeconfig --leader-elect=false --bind-address 127.0.0.1
start proxy kube-proxy --kubeconfig proxy.kubeconfig --proxy-mode nftables --cluster-cidr 10.88.0.0/16 --hostname-override lab \
  --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0s --conntrack-tcp-timeout-close-wait 0s

for d in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do mkdir -p /sys/fs/cgroup/$d$cg; done
for f in cpus mems; do cat /sys/fs/cgroup/cpuset/cpuset.$f > /sys/fs/cgroup/cpuset$cg/cpuset.$f; done
mkdir -p cni && cat > cni/10-lab.conflist <<'END'
{"cniVersion": "1.0.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
cat > containerd.toml <<END
version = 3
root = "$LAB/containerd/root"
state = "$LAB/containerd/state"
[grpc]
address = "$LAB/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "docker.io/local/pause:1"
# A root without CAP_SYS_RESOURCE cannot lower scores.
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "$LAB/cni"
END
cat > kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
# How soon a changed Secret is in the pods.
syncFrequency: 5s
cgroupRoot: $cg
clusterDNS: [$ip]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$LAB/containerd.sock
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
failCgroupV1: false
# Images have no registry to come from again: none is removed, however full the machine's disk.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
failSwapOn: false
resolvConf: $LAB/resolv.conf
END
: > resolv.conf
kubectl create clusterrole dns --verb=list,watch --resource=services,namespaces,endpointslices.discovery.k8s.io >/dev/null
kubectl create clusterrolebinding dns --clusterrole=dns --user=system:dns >/dev/null
echo "cluster.local {
  bind $ip
  errors
  kubernetes {
    kubeconfig $LAB/dns.kubeconfig lab
    ttl 1
  }
}
. {
  bind $ip
  template ANY ANY {
    rcode NXDOMAIN
  }
}" > Corefile
start dns coredns -conf Corefile
start containerd containerd --config containerd.toml
until_ok ctr -a "$LAB/containerd.sock" version
for tar in images/*.tar; do test ! -e "$tar" || ctr -a "$LAB/containerd.sock" -n k8s.io images import "$tar"; done
start kubelet kubelet --config kubelet.yaml --kubeconfig node.kubeconfig --root-dir "$LAB/kubelet" --cert-dir "$LAB/pki/kubelet" \
  --hostname-override lab --node-ip $ip
until_ok kubectl wait --for=condition=Ready node/lab --timeout=5s
say "node ready"
until_ok kubectl get serviceaccount default
say ready | tee ready
while :; do sleep 3600 & wait $!; done
