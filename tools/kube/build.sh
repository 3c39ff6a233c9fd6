#!/usr/bin/env bash
# Builds what the cluster of up.sh is made of, once per machine, from the pinned modules:
#   kubeall                etcd, control plane, kubelet, kube-proxy and kubectl as one binary
#   containerd, shim, ctr  Debian's is too old for this Kubernetes
#   coredns, helm          cluster DNS; Helm
#   prometheus-operator    and the reloader that its pods have
# runc, the CNI plugins, nft and iptables are Debian's. The first build takes about 15
# minutes of a processor.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/kube/common.sh

if [[ $(uname -s) != Linux || $(id -u) != 0 ]]; then
  echo "the cluster of the test needs Linux and root: it runs in namespaces of its own" >&2
  exit 1
fi
if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
  echo "tools/kube/inside.sh makes the groups of cgroup v1 only, and this machine has v2; use make cluster with another cluster" >&2
  exit 1
fi
missing() {
  command -v runc >/dev/null || echo runc
  command -v nft >/dev/null || echo nftables
  command -v iptables >/dev/null || echo iptables
  command -v conntrack >/dev/null || echo conntrack
  command -v openssl >/dev/null || echo openssl
  test -x /usr/lib/cni/bridge || echo containernetworking-plugins
}
if [[ -n $(missing) ]]; then
  if ! command -v apt-get >/dev/null; then
    echo "missing, to be installed by hand:" $(missing) >&2
    exit 1
  fi
  apt-get install -q -y --no-install-recommends $(missing) >/dev/null
fi

mkdir -p "$BIN"
export CGO_ENABLED=0
pinned() { sed -n "s#^\(require \)\{0,1\}[[:space:]]*$1 \(v[^ ]*\).*#\2#p" "$2"; }
# build NAME VERSION COMMAND…: NAME-VERSION once, and NAME as a link to it.
build() {
  local name=$1 version=$2
  shift 2
  if [[ ! -x $BIN/.$name-$version ]]; then
    echo "kube: building $name $version"
    "$@" -o "$BIN/.$name-$version.next"
    mv "$BIN/.$name-$version.next" "$BIN/.$name-$version"
  fi
  ln -sf ".$name-$version" "$BIN/$name"
}
tool() { GOWORK=off GOFLAGS="-modfile=$PWD/tools/$1.mod" go build -trimpath -ldflags '-s -w' "${@:3}" "$2"; }

kubernetes=$(pinned k8s.io/kubernetes tools/kubeall/go.mod)
stamp=k8s.io/component-base/version
minor=${kubernetes#v1.}
kubeall() { (cd tools/kubeall && GOWORK=off go build -trimpath -ldflags "-s -w -X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}" "$@" .); }
build kubeall "$kubernetes" kubeall
for name in etcd kubectl kubelet kube-apiserver kube-controller-manager kube-proxy kube-scheduler; do
  ln -sf kubeall "$BIN/$name"
done
containerd=github.com/containerd/containerd/v2
version=$(pinned $containerd tools/containerd.mod)
for name in containerd containerd-shim-runc-v2 ctr; do build $name "$version" tool containerd $containerd/cmd/$name; done
build coredns "$(pinned github.com/coredns/coredns tools/coredns.mod)" tool coredns github.com/coredns/coredns
build helm "$(pinned helm.sh/helm/v4 tools/helm.mod)" tool helm helm.sh/helm/v4/cmd/helm
operator=github.com/prometheus-operator/prometheus-operator
version=$(pinned $operator tools/prometheus-operator.mod)
build prometheus-operator "$version" tool prometheus-operator $operator/cmd/operator
build prometheus-config-reloader "$version" tool prometheus-operator $operator/cmd/prometheus-config-reloader
