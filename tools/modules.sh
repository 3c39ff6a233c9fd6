#!/usr/bin/env bash
# Runs a command in every module of the workspace with GOWORK=off, as someone
# who has only that module would, and goes on after a failure to show them all.
#   tools/modules.sh go build ./...
set -euo pipefail
cd "$(dirname "$0")/.."

failed=()
while IFS= read -r dir; do
  if ! (cd "$dir" && GOWORK=off "$@"); then
    failed+=("${dir#"$PWD"}")
  fi
done < <(go list -m -f '{{.Dir}}')

if ((${#failed[@]})); then
  echo "failed: '$*' in module ${failed[*]/#/.}" >&2
  exit 1
fi
