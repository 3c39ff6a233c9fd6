#!/usr/bin/env bash
# make demo: Weir against a simulated Cloudflare, and a Prometheus that scrapes it with the
# shipped configuration and has the day before from the store. Both end with this script, and
# nothing is left. Prometheus is the one in PATH, or the one that the tests have built. Other
# ports: WEIR_EXPOSER_LISTEN and its like, as docs/flags.md has them, and PROMETHEUS_LISTEN.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d "${TMPDIR:-/tmp}/weir-demo.XXXXXX")
pids=()
finish() {
  trap - EXIT INT TERM
  if ((${#pids[@]})); then
    kill -TERM "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" || true
  fi
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 0' INT TERM

echo "make demo: the first build takes a minute or two"
go build -o "$work/weir" ./services/standalone/cmd/weir
began=$SECONDS

prometheus=$(command -v prometheus || true)
if [[ -z $prometheus ]]; then
  cache=${WEIR_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}
  prometheus=$(ls -t "$cache"/prometheus-* 2>/dev/null | head -n 1 || true)
fi

# alive fails, and says so, if a process has ended.
alive() {
  local pid
  for pid in "${pids[@]}"; do
    kill -0 "$pid" 2>/dev/null || { echo "make demo: a process has ended; its log is above. If an address is in use, set another: PROMETHEUS_LISTEN=127.0.0.1:19090 or WEIR_EXPOSER_LISTEN=127.0.0.1:19810, and others of docs/flags.md" >&2; return 1; }
  done
}

# await waits until a URL answers with what is wanted, and fails if a process has ended.
await() {
  until curl -fs "$1" >"$work/answer" 2>/dev/null && grep -q "$2" "$work/answer"; do
    alive
    sleep 0.2
  done
}

exposer=${WEIR_EXPOSER_LISTEN:-127.0.0.1:9810}
graphs=${PROMETHEUS_LISTEN:-127.0.0.1:9090}
data=http://$exposer
(cd "$work" && exec ./weir run --simulate --log-level warn "$@" >weir.out) &
pids+=($!)
await $data/metrics '^cloudflare_zone_requests{'
echo "make demo: Cloudflare is simulated; the names of its zones end in .example"
echo "  samples       $data/metrics"
echo "  status page   $data/status"

if [[ -z $prometheus ]]; then
  echo "make demo: there is no prometheus in PATH, so there is no graph; \"make test-tools\" builds one"
else
  # A minute and a round in twelve hours are for a Prometheus that stays.
  sed -e "s|\.\./alerts|$PWD/deploy/alerts|" -e 's|scrape_interval: 1m|scrape_interval: 5s|' -e 's|scrape_timeout: 30s|scrape_timeout: 5s|' \
    -e "s|127.0.0.1:9810|$exposer|" -e "s|127.0.0.1:9811|${WEIR_EXPOSER_OPS_LISTEN:-127.0.0.1:9811}|" \
    -e "s|127.0.0.1:9821|${WEIR_COLLECTOR_OPS_LISTEN:-127.0.0.1:9821}|" -e "s|127.0.0.1:9090|$graphs|" \
    deploy/prometheus/prometheus.yml >"$work/prometheus.yml"
  "$prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address="$graphs" \
    --web.console.templates=tools/demo --web.enable-remote-write-receiver --log.level=error &
  pids+=($!)
  query='sum+by+(zone)+(sum_over_time(cloudflare_zone_requests%5B1h%5D))'
  await "http://$graphs/api/v1/query?query=$query" '"value"'
  echo "  first graph   http://$graphs/consoles/graph.html  ($((SECONDS - began)) s after the build)"
  then=$((($(date +%s) / 3600 - 20) * 3600)) # GNU's date, or BSD's
  start=$(date -u -d "@$then" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$then" +%Y-%m-%dT%H:%M:%SZ)
  (cd "$work" && ./weir backfill import --to remote-write --remote-write-url "http://$graphs/api/v1/write" \
    --prometheus-url "http://$graphs" --start "$start" >import.out) &&
    echo "  the day before is in it, from the store  ($((SECONDS - began)) s after the build)"
fi
echo "make demo: Ctrl-C ends it and removes what it stored"
while alive; do sleep 0.5; done
exit 1
