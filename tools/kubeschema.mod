// Sources of the schemas that tools/chart.sh checks the chart's output against:
// Kubernetes' own OpenAPI document and the Prometheus operator's CRDs. Only the
// two module archives are fetched (20 MB and 5 MB) and nothing in them is
// built, so that their own requirements are not listed here.
module github.com/weir-metrics/weir/tools/kubeschema

go 1.26.0

require (
	github.com/prometheus-operator/prometheus-operator v0.94.1
	k8s.io/kubernetes v1.36.3
)
