// Package cfsimtest starts simulators for tests.
package cfsimtest

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// New makes a simulator or fails the test.
func New(tb testing.TB, c cfsim.Config) *cfsim.Server {
	tb.Helper()
	sim, err := cfsim.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return sim
}

// Start serves sim on a free loopback port until the test ends and returns
// the base URL for clients, which ends in /client/v4.
func Start(tb testing.TB, sim *cfsim.Server) string {
	tb.Helper()
	return "http://" + start(tb, sim, nil) + cfsim.Prefix
}

// StartTLS does the same with HTTPS.
func StartTLS(tb testing.TB, sim *cfsim.Server, conf *tls.Config) string {
	tb.Helper()
	return "https://" + start(tb, sim, conf) + cfsim.Prefix
}

func start(tb testing.TB, sim *cfsim.Server, conf *tls.Config) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := ln.Addr().String()
	if conf != nil {
		ln = tls.NewListener(ln, conf)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sim.Serve(ctx, ln) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return addr
}
