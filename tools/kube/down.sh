#!/usr/bin/env bash
# Ends the cluster and removes its state: its processes go with their PID namespace, its
# mounts and network with theirs.
set -euo pipefail
source "$(dirname "$0")/common.sh"

if pid=$(cat "$LAB/pid" 2>/dev/null) && first=$(pgrep -P "$pid"); then
  kill -9 "$first"
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  sleep 0.5
fi
# Deepest first; only the cluster's own.
for dir in /sys/fs/cgroup/*/weir-kube; do
  if [[ -d $dir ]]; then find "$dir" -depth -type d -exec rmdir {} \; 2>/dev/null || true; fi
done
rm -rf --one-file-system "$LAB"
