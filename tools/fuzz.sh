#!/usr/bin/env bash
# Runs every fuzz target of every module, one after the other, each for
# FUZZTIME (default 1m), and goes on after a failure to find them all. An input
# that fails is left under testdata/fuzz of its package, where it is an ordinary
# test from then on.
#   FUZZTIME=10m tools/fuzz.sh [regexp of targets]
set -euo pipefail
cd "$(dirname "$0")/.."

time="${FUZZTIME:-1m}"
pick="${1:-.}"
failed=()
while IFS= read -r file; do
  dir="$(dirname "$file")"
  while IFS= read -r target; do
    echo "== $dir $target, $time"
    # One worker: the machine may have other work, and the figures of two runs
    # can be compared.
    if ! (cd "$dir" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5s -parallel 1 .); then
      failed+=("$dir $target")
    fi
  done < <(sed -nE 's/^func (Fuzz[A-Za-z0-9]*)\(f \*testing\.F\).*/\1/p' "$file" | grep -E "$pick" || true)
done < <(git ls-files --cached --others --exclude-standard '*_test.go' | xargs grep -lE '^func Fuzz' | sort)

if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
