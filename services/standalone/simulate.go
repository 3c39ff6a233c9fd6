package standalone

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector"
)

// simulationSeed makes every simulated world of this binary the same one, so
// that a file with simulated buckets can be continued.
const simulationSeed = 1

// simulate starts a simulated Cloudflare on loopback and points the collector
// at it. The simulator outlives ctx, so that the collector can end its last requests; the
// caller calls stop, which waits until it has ended.
func simulate(ctx context.Context, c *collector.Config, clk clock.Clock, log *slog.Logger) (stop func(), err error) {
	sim, err := cfsim.New(cfsim.Demo(clk, simulationSeed))
	if err != nil {
		return nil, fmt.Errorf("simulate Cloudflare: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("simulate Cloudflare: %w", err)
	}
	c.Simulated = true
	c.CloudflareURL = "http://" + listener.Addr().String() + "/client/v4"
	c.Token = cli.NewSecret(cfsim.DemoToken)
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = sim.Serve(serving, listener) // a simulator that ends badly has nothing to lose
	}()
	log.Debug("Cloudflare is simulated", "url", c.CloudflareURL)
	return func() {
		cancel()
		<-done
	}, nil
}
