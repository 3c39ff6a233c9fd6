#!/usr/bin/env bash
# Checks the Helm chart: lint, rendering of every values file in its ci/ folder,
# the objects against the schemas of Kubernetes and of the Prometheus operator,
# its alerts, its settings against those of the binaries, the Job of docs/doctor.md
# against its pod for helm test, and its unit tests.
# With a chart's package as argument: that package as far as the alerts.
set -euo pipefail
cd "$(dirname "$0")/.."

chart=deploy/helm/weir
package=${1:-$chart}
tool() { GOWORK=off go tool -modfile="tools/$1.mod" -n "$2"; }
helm=$(tool helm helm)
kubeconform=$(tool kubeconform kubeconform)
unittest=$(tool helm-unittest helm-unittest)
promtool=$(go run ./internal/promtest/build | tail -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/schemas" "$work/objects"

for values in "$chart"/ci/*.yaml tools/cluster/values.yaml; do
  echo "chart: $values"
  "$helm" lint --quiet --strict "$package" --values "$values"
  "$helm" template weir "$package" --namespace monitoring --values "$values" >"$work/objects/$(basename "$values")"
done
cp tools/cluster/neighbours.yaml "$work/objects/"

echo "chart: objects against schemas"
go run ./tools/kubeschema "$work/schemas"
validate() { "$kubeconform" -strict -schema-location "$work/schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "$@"; }
validate -summary "$work"/objects/*.yaml
# Schemas that accept anything would pass as well, so they must refuse this.
sed 's/enableServiceLinks:/enableServiceLink:/' "$work/objects/postgres.yaml" >"$work/wrong.yaml"
if validate "$work/wrong.yaml" >/dev/null; then
  echo "the schemas accept a field that does not exist" >&2
  exit 1
fi

echo "chart: alerts"
awk '/^---/ {rule = 0} /^kind: PrometheusRule/ {rule = 1} rule && sub(/^  /, "") && /^groups:|^[ -]/' \
  "$work/objects/everything.yaml" | sed -n '/^groups:/,$p' >"$work/alerts.yaml"
"$promtool" check rules "$work/alerts.yaml"
if grep -n '{}' "$work/alerts.yaml" || [[ $(grep -c 'alert:' "$work/alerts.yaml") != $(grep -c 'alert:' deploy/alerts/weir.rules.yaml) ]]; then
  echo "the chart's alerts see more than their release, or are not all there" >&2
  exit 1
fi

echo "chart: scrape jobs of the install notes"
for mode in standalone postgres; do
  "$helm" install weir "$package" --dry-run=client --namespace monitoring --values "$chart/ci/$mode.yaml" --set prometheus.outOfOrderTimeWindow=30h |
    awk '/Add to the configuration of Prometheus:/ {on = 1; getline; next} /^$/ {on = 0} on {print substr($0, 6)}' >"$work/prometheus.yml"
  "$promtool" check config "$work/prometheus.yml" >/dev/null
  if [[ $(grep -c job_name: "$work/prometheus.yml") != 3 ]]; then
    echo "the install notes of $mode do not have the jobs of replay, counters and operations:" >&2
    cat "$work/prometheus.yml" >&2
    exit 1
  fi
done

if [[ $package != "$chart" ]]; then
  exit
fi

# The binaries would refuse what the schema wrongly lets through, but only in the
# cluster; and nobody could set what it wrongly refuses.
echo "chart: settings"
in_schema() { sed -n "/\"$1Settings\": {/,/^    }/p" "$chart/values.schema.json" | grep -oE '"(CF|WEIR)_[A-Z_]+"' | tr -d '"' | sort; }
of_binary() { if [[ $1 == push ]]; then go run ./services/standalone/cmd/weir push --help; else go run "./services/$1/cmd/$1" run --help; fi | tr -s ' \n' ' ' | grep -oE "\[(CF|WEIR)_[A-Z_]+$2" | grep -oE '[A-Z_]{3,}' | sort -u; }
for service in collector exposer push; do
  unknown=$(comm -23 <(in_schema $service) <(of_binary $service '(, [A-Z_]+)?'))
  missing=$(comm -13 <(in_schema $service) <(of_binary $service ''))
  if [[ -n $unknown$missing ]]; then
    echo "${service}Settings in $chart/values.schema.json: unknown to the binary:" ${unknown:-none}\; \
      "missing, to be allowed or, with a reason in _check.tpl, refused:" ${missing:-none} >&2
    exit 1
  fi
done

echo "chart: the Job of docs/doctor.md"
"$helm" template weir "$chart" --namespace weir --values "$chart/ci/postgres.yaml" --set image.registry=registry.example \
  --set doctor.enabled=true --set doctor.prometheusURL=http://prometheus:9090 --show-only templates/doctor.yaml >"$work/doctor.yaml"
go test -count=1 -run '^TestJobOfTheDoctor$' ./services/standalone/docs -doctor.pod "$work/doctor.yaml" -doctor.job "$work/job.yaml"
validate -summary "$work/job.yaml"

echo "chart: unit tests"
"$unittest" --strict "$chart"
