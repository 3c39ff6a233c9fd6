#!/usr/bin/env bash
# Runs a command where the cluster is: in.sh kubectl get pods -A
set -euo pipefail
source "$(dirname "$0")/common.sh"
# Process 1 of the cluster is the child of the recorded process.
exec nsenter -t "$(pgrep -P "$(<"$LAB/pid")")" -m -n -p --wd="$PWD" -- "$@"
