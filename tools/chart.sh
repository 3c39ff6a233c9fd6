#!/usr/bin/env bash
# Lints and renders the Helm chart: with its defaults and with every values file
# in its ci/ folder.
set -euo pipefail
cd "$(dirname "$0")/.."

chart=deploy/helm/weir
if [[ ! -f $chart/Chart.yaml ]]; then
  echo "no chart at $chart"
  exit 0
fi
helm=$(GOWORK=off go tool -n -modfile=tools/helm.mod helm)
shopt -s nullglob
for values in "" "$chart"/ci/*.yaml; do
  echo "chart: ${values:-defaults}"
  "$helm" lint --strict "$chart" ${values:+--values "$values"}
  "$helm" template weir "$chart" ${values:+--values "$values"} >/dev/null
done
