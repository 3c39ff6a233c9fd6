#!/usr/bin/env bash
# Makes a release of the commit that is checked out and tagged, and checks it as a
# user would meet it: checksums, programs, images, an installation from the source, a
# program of somebody else on the modules, the chart.
#   tools/release.sh v1.2.3
set -euo pipefail
cd "$(dirname "$0")/.."

tag=$1
version=${tag#v}
out=$PWD/bin/release/$tag
mkdir -p bin/release
supply=$PWD/bin/.supply
(cd tools/supply && GOWORK=off go build -o "$supply" .)
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
step() { echo "release: $* (after $SECONDS s)"; }

rm -rf "$out"
"$supply" release "$out" "$tag"
revision=$(git rev-parse HEAD)

step check: checksums
(cd "$out" && sha256sum --check --strict --quiet SHA256SUMS)

step check: programs and images
"$supply" inspect "$out" "$version" "$revision"

# Where nothing is left of the repository, so the version must come with the flag.
step check: go install from the source
tar -xzf "$out/weir-$version.src.tar.gz" -C "$work"
for main in collector/cmd/collector exposer/cmd/exposer standalone/cmd/weir; do
  (cd "$work/weir-$version/services/${main%%/*}" && CGO_ENABLED=0 GOWORK=off GOBIN="$work/bin" \
    go install -trimpath -ldflags "-s -w -X github.com/weir-metrics/weir/internal/cli.version=$version" "./${main#*/}")
  "$work/bin/${main##*/}" --version | tee "$work/said"
  grep -q "^${main##*/} $version " "$work/said"
done

# The program of docs/building.md, in a module of its own, from a folder that has what a
# module proxy will have. Without the workspace it may need other versions of modules than
# those that are there, so the proxy of this machine comes last.
step check: go get of the modules
"$supply" proxy "$work/proxy" "$tag"
mkdir "$work/stranger"
sed -n '/^```go$/,/^```$/{//!p}' docs/building.md >"$work/stranger/main.go"
(
  cd "$work/stranger"
  cache=$(go env GOMODCACHE) proxy=$(go env GOPROXY)
  export GOWORK=off GOFLAGS=-modcacherw GOSUMDB=off GOMODCACHE="$work/mod" GOBIN="$work/bin" CGO_ENABLED=0
  export GOPROXY="file://$work/proxy,file://$cache/cache/download,$proxy"
  go mod init stranger.example/tool 2>/dev/null
  go get "github.com/weir-metrics/weir/client@$tag" "github.com/weir-metrics/weir/proto@$tag"
  go mod tidy
  go install -trimpath .
  go version -m "$work/bin/tool" | grep weir-metrics
)

step check: the chart
tools/chart.sh "$out/weir-$version.tgz"

(cd "$out" && ls -l && du -sh .)
cat <<END
release: $tag is made and checked (after $SECONDS s). To publish it, as docs/releasing.md says:
  git tag proto/$tag $revision
  git tag client/$tag $revision
  git push origin $tag proto/$tag client/$tag
END
