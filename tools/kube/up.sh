#!/usr/bin/env bash
# Starts a one-node Kubernetes in network, mount and PID namespaces of its own; nothing of
# it outlives down.sh, and the machine's network, mounts and sysctls stay as they are. It
# returns when the node is ready and the images under $LAB/images are there. Then
# in.sh kubectl get nodes.
set -euo pipefail
cd "$(dirname "$0")"
source ./common.sh

if [[ -e $LAB/pid ]]; then
  echo "$LAB is in use; tools/kube/down.sh ends it" >&2
  exit 1
fi
mkdir -p "$LAB/log" "$LAB/pki" && chmod 700 "$LAB"
nohup setsid unshare --net --mount --pid --fork --kill-child --mount-proc bash "$PWD/inside.sh" >"$LAB/log/inside.log" 2>&1 </dev/null &
echo $! >"$LAB/pid"
for _ in $(seq 600); do
  if [[ -e $LAB/ready ]]; then exit 0; fi
  kill -0 "$(<"$LAB/pid")" 2>/dev/null || break
  sleep 0.5
done
echo "the cluster is not up; its logs are in $LAB/log" >&2
tail -5 "$LAB/log/inside.log" >&2
exit 1
