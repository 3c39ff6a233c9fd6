// Package e2e runs the whole of Weir against a simulated Cloudflare, a real
// Postgres and a real Prometheus, days of virtual time in minutes, and compares
// what Prometheus holds at the end with what really happened, sample by sample.
//
// One clock drives everything that knows calendar time: the simulator, the
// collectors and the exposers. It begins in the past, runs faster than life
// and never passes the machine's clock, which Prometheus goes by.
//
// Tests named TestBinary… run the shipped programs instead, in step with the
// machine's clock. TestBinaryUpgradesAndGoesBack mixes them with those of the
// commit that testdata/previous-build names.
package e2e
