#!/usr/bin/env bash
# Installs the chart into the cluster of the current kubectl context, in a namespace of its
# own beside a Postgres, a simulated Cloudflare and a Prometheus; waits until its doctor
# (helm test) passes; breaks one thing after another and sees the doctor name it; removes
# everything.
#
# The cluster must be able to pull the images of `make image` as $REPOSITORY/collector:$TAG,
# …/exposer and …/weir, and the other two images. It needs kubectl, openssl and go.
#
#   REPOSITORY        weir
#   TAG               what make image gives
#   POSTGRES_IMAGE    postgres:18
#   PROMETHEUS_IMAGE  prom/prometheus:v3.15.0
#   NAMESPACE         weir-chart-test; must not exist
#   HELM              a helm; default: the one that tools/helm.mod pins
#   KEEP=1            leaves the namespace
#   ARGS              more arguments of helm install
set -euo pipefail
cd "$(dirname "$0")/../.."

repository=${REPOSITORY:-weir}
tag=${TAG:-$(git describe --tags --match 'v[0-9]*' --always --dirty | sed s,^v,,)}
namespace=${NAMESPACE:-weir-chart-test}
helm=${HELM:-$(GOWORK=off go tool -modfile=tools/helm.mod -n helm)}
work=$(mktemp -d)

step() { echo "== $(date -u +%T) $*"; }
k() { kubectl --namespace "$namespace" "$@"; }
h() { "$helm" --namespace "$namespace" "$@"; }
filled() {
  sed -e "s|%NAMESPACE%|$namespace|g; s|%REPOSITORY%|$repository|g; s|%TAG%|$tag|g" \
    -e "s|%POSTGRES_IMAGE%|${POSTGRES_IMAGE:-postgres:18}|; s|%PROMETHEUS_IMAGE%|${PROMETHEUS_IMAGE:-prom/prometheus:v3.15.0}|" "tools/cluster/$1"
}
random() { openssl rand -hex 24; }

if kubectl get namespace "$namespace" >/dev/null 2>&1; then
  echo "the namespace $namespace exists; remove it, or give another with NAMESPACE" >&2
  exit 1
fi
finish() {
  local code=$?
  if [[ $code != 0 ]]; then
    step "failed; pods and events"
    k get pods -o wide || true
    k get events --sort-by=.lastTimestamp | tail -20 || true
    k logs -l app.kubernetes.io/instance=weir --tail 5 --prefix --all-containers || true
  fi
  if [[ -z ${KEEP:-} ]]; then
    step "removing the namespace $namespace"
    h uninstall weir --ignore-not-found >/dev/null || true
    kubectl delete namespace "$namespace" --ignore-not-found --timeout 2m || true
  fi
  rm -rf "$work"
}
trap finish EXIT

step "namespace $namespace, secrets"
kubectl create namespace "$namespace"
# Every pod, the doctor's too, is admitted by the restricted standard.
kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted
secret() { # name, then KEY=VALUE…; each in a file, so that no value is an argument
  local name=$1 pair files=()
  shift
  mkdir -p "$work/$name"
  for pair; do
    printf '%s' "${pair#*=}" >"$work/$name/${pair%%=*}"
    files+=("--from-file=$work/$name/${pair%%=*}")
  done
  k create secret generic "$name" "${files[@]}" --dry-run=client -o yaml | k apply -f -
}
owner=$(random) writer=$(random) admin=$(random)
secret postgres "password=$owner" "writer.sql=CREATE ROLE weir LOGIN PASSWORD '$writer';" \
  "owner-url=postgres://owner:$owner@postgres.$namespace.svc/weir?sslmode=disable" "url=postgres://weir:$writer@postgres.$namespace.svc/weir?sslmode=disable"
# The token that the simulator knows; it opens nothing else.
secret cloudflare "token=$(sed -n 's/^const DemoToken = "\(.*\)"$/\1/p' internal/cfsim/scenario.go)"
secret admin "token=$admin"
secret doctor "token=$admin"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=weir-collector \
  -addext "subjectAltName=DNS:weir-collector.$namespace.svc" -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
secret grpc "tls.key=$(<"$work/tls.key")" "tls.crt=$(<"$work/tls.crt")" "ca.crt=$(<"$work/tls.crt")"

step "Postgres, simulated Cloudflare, Prometheus"
filled neighbours.yaml | k apply -f -
for name in postgres cloudflare prometheus; do k rollout status "deployment/$name" --timeout 3m; done

step "helm install"
filled values.yaml >"$work/values.yaml"
# shellcheck disable=SC2086
h install weir deploy/helm/weir --values "$work/values.yaml" --wait --timeout 5m ${ARGS:-} >"$work/notes"
step "collectors start again, over data that was stored before"
sleep 3 # the start of a process is known to a second
k rollout restart deployment/weir-collector
k rollout status deployment/weir-collector --timeout 3m

# examine runs the doctor, and lists the checks with a status: section.check, or the question.
examine() { h test weir --logs --timeout 6m >"$work/report" 2>"$work/errors"; }
checks() { awk -v want="$1" '/^[a-z]+$/ {area = $1} $1 == want {sub(/^ *[a-z]+ +/, ""); sub(/( \[[^]]*\])?: .*/, ""); print area "." $0}' "$work/report"; }

# passes waits until the doctor passes.
passes() {
  SECONDS=0
  until examine; do
    echo "not yet: $(checks fail | tr '\n' ' ')"
    if ((SECONDS > 900)); then
      cat "$work/report" "$work/errors"
      exit 1
    fi
    sleep 5
  done
}

step "the doctor passes"
passes
cat "$work/report"

# broken WHAT CHECK…: the doctor fails, and names these checks.
broken() {
  local what=$1 check
  shift
  step "broken: $what"
  for try in 1 2 3 4 5 6; do
    if ! examine; then
      local missed=
      for check; do checks fail | grep -qxF "$check" || missed+=" $check"; done
      if [[ -z $missed ]]; then
        awk '$1 == "fail"' "$work/report"
        return
      fi
    fi
    sleep 5
  done
  cat "$work/report" "$work/errors"
  echo "$what: the doctor did not name$missed" >&2
  exit 1
}

secret doctor "token=$(random)"
broken "the doctor has a token that the collectors do not know" collector.admin
secret doctor "token=$admin"

k scale deployment/weir-exposer --replicas 0
k wait pod -l app.kubernetes.io/component=exposer --for delete --timeout 2m
broken "no exposer runs" exposer.ready prometheus.target
k scale deployment/weir-exposer --replicas 2
k rollout status deployment/weir-exposer --timeout 5m

k patch service postgres --patch '{"spec": {"selector": {"app": "nobody"}}}'
broken "Postgres is not reachable" store.reachable
k patch service postgres --patch '{"spec": {"selector": {"app": "postgres"}}}'

k scale deployment/weir-collector --replicas 0
k wait pod -l app.kubernetes.io/component=collector --for delete --timeout 2m
broken "no collector runs" collector.reachable
k scale deployment/weir-collector --replicas 2
for name in collector exposer; do k rollout status "deployment/weir-$name" --timeout 5m; done

step "mended: the doctor passes again"
passes
awk '$1 == "warn" || $1 == "skipped" || /passed, /' "$work/report"
step "passed"
