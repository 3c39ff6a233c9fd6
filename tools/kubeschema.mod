// Sources of the schemas that tools/chart.sh checks the chart's output against:
// Kubernetes' own OpenAPI document, and the CRDs of the Prometheus operator and of
// cert-manager, which make e2e-kube takes from here too. Only the three module archives
// are fetched (20, 5 and 4 MB) and nothing in them is built, so that their own
// requirements are not listed here.
module github.com/weir-metrics/weir/tools/kubeschema

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.94.1
	k8s.io/kubernetes v1.36.3
)
