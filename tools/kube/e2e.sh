#!/usr/bin/env bash
# make e2e-kube: the chart in a real cluster. Builds the cluster's programs and the images,
# starts the cluster, runs services/standalone/kube in it, and removes everything.
#
#   RUN=REGEXP  the tests to run; four at a time
#   KEEP=1      leaves the cluster up: tools/kube/in.sh kubectl get pods -A, then
#               tools/kube/down.sh. A next run uses it again, with new images
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/kube/common.sh
step() { echo "== $(date -u +%T) $*"; }

step "programs of the cluster"
tools/kube/build.sh

step "images of this tree, and of the chart before"
work=$(mktemp -d)
finish() {
  local code=$?
  rm -rf "$work"
  if [[ -n ${KEEP:-} ]]; then
    step "the cluster stays up; tools/kube/down.sh ends it"
  else
    tools/kube/down.sh
  fi
  exit $code
}
trap finish EXIT
if [[ -z ${KEEP:-} || ! -e $LAB/ready ]]; then tools/kube/down.sh; fi
rm -rf "$LAB/images"
mkdir -p "$LAB/images" "$work/bin/data" "$work/neighbours"
export CGO_ENABLED=0
programs=(./services/collector/cmd/collector ./services/exposer/cmd/exposer ./services/standalone/cmd/weir)
go build -trimpath -ldflags '-s -w -X github.com/weir-metrics/weir/internal/cli.version=v0.0.0-e2e' -o "$work/bin/" "${programs[@]}"
# The same pin as that of the binaries' upgrade test.
previous=$(grep -v '^#' services/standalone/e2e/testdata/previous-build)
before=$kube_cache/previous-${previous:0:12}
if [[ ! -e $before/bin/weir ]]; then
  rm -rf "$before"
  mkdir -p "$before/tree" "$before/bin.next"
  git archive "$previous" | tar -x -C "$before/tree"
  # Without a repository to take a version from.
  (cd "$before/tree" && GOFLAGS=-buildvcs=false go build -trimpath -ldflags '-s -w' -o "$before/bin.next/" "${programs[@]}")
  mkdir "$before/bin.next/data"
  mv "$before/tree/deploy/helm/weir" "$before/chart"
  rm -rf "$before/tree"
  mv "$before/bin.next" "$before/bin"
fi
# As a release makes them.
supply=$work/supply
(cd tools/supply && GOWORK=off go build -o "$supply" .)
tag=$(sed -n 's/^appVersion: *//p' deploy/helm/weir/Chart.yaml)
"$supply" images deploy/Dockerfile "$work/bin" docker.io/weir "$tag" HEAD "$LAB/images"
"$supply" images deploy/Dockerfile "$before/bin" docker.io/weir previous "$previous" "$LAB/images"
go build -trimpath -ldflags '-s -w' -o "$work/neighbours/" ./tools/kube/pause
cp "$(go run ./internal/promtest/build | grep -o '/[^ ]*/prometheus-[^ ]*' | tail -1)" "$work/neighbours/prometheus"
cp "$BIN/prometheus-config-reloader" "$work/neighbours/"
"$supply" images tools/kube/neighbours.Dockerfile "$work/neighbours" docker.io/local 1 HEAD "$LAB/images"

step "the test's program"
CGO_ENABLED=1 go test -c -o "$LAB/kube.test" ./services/standalone/kube

if [[ -e $LAB/ready ]]; then
  for tar in "$LAB"/images/*.tar; do tools/kube/in.sh ctr -a "$LAB/containerd.sock" -n k8s.io images import "$tar" >/dev/null; done
else
  step "the cluster"
  tools/kube/up.sh
fi
step "the tests"
# module NAME: the folder of a module that tools/kubeschema.mod pins.
module() { GOWORK=off go mod download -json -modfile=tools/kubeschema.mod "$(awk -v name="/$1$" '$1 ~ name {print $1 "@" $2}' tools/kubeschema.mod)" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'; }
# Tests run in the folder of their package.
operator=$(module prometheus-operator)/jsonnet/prometheus-operator certmanager=$(module cert-manager)/deploy/crds
(cd services/standalone/kube && ../../../tools/kube/in.sh env WEIR_KUBE="$LAB" WEIR_KUBE_PREVIOUS="$before/chart" WEIR_KUBE_OPERATOR_CRDS="$operator" WEIR_KUBE_CERTMANAGER_CRDS="$certmanager" \
  "$LAB/kube.test" -test.v -test.parallel 4 -test.timeout 90m -test.run "${RUN:-.}")
