#!/usr/bin/env bash
# Fails when the generated Go of the contract is not what the .proto files give.
# It generates into a folder of its own and leaves the tree alone.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
GOWORK=off go tool -modfile=tools/buf.mod buf generate -o "$fresh"
if ! diff -ru proto/gen "$fresh/proto/gen"; then
  echo "proto/gen is not what proto/weir gives: run make generate and commit the result" >&2
  exit 1
fi
