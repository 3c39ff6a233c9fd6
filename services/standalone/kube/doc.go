// Package kube tests the chart in a real Kubernetes cluster of one node: installation,
// upgrades, rollbacks and the loss of everything that Weir depends on. What Prometheus
// holds at the end is compared with what the simulated Cloudflare knows to have happened.
//
// "make e2e-kube" starts the cluster (tools/kube) and runs these tests inside its
// namespaces, where pods, Services and the node have addresses; everywhere else they are
// skipped. Each has a namespace of its own, and most of them wait most of their time, so that
// they run side by side.
package kube
