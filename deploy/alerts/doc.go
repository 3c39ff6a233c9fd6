// Package alerts tests the alert rules of this folder with promtool: what fires,
// how soon, and what does not fire beside it. The stories are written to
// weir.test.yaml, so that whoever changes a threshold can run
//
//	promtool test rules weir.test.yaml
package alerts

//go:generate go test -run ^TestGenerated -update .
