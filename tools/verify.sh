#!/usr/bin/env bash
# Compares every module in the cache, of the workspace and of each tool, with
# the checksums that go.sum has kept since it was first fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/modules.sh go mod verify
for file in tools/*.mod; do
  echo "$file: $(GOWORK=off GOFLAGS=-modfile="$PWD/$file" go mod verify)"
done
(cd tools/supply && GOWORK=off go mod verify)
(cd tools/otelcol && GOWORK=off go mod verify)
(cd tools/kubeall && GOWORK=off go mod verify)
