// Package standalone is Weir in one process: the collector and the exposer,
// joined by an in-memory listener over the same gRPC that they speak between
// machines, on one SQLite file. It also runs the simulator.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
)

// Deps are the dependencies of both services. A zero field means the production
// implementation.
type Deps struct {
	Clock  clock.Clock
	Logger *slog.Logger
	// Data, ExposerOps and CollectorOps are open listeners, used instead of the
	// configured addresses.
	Data, ExposerOps, CollectorOps net.Listener
	// GRPC is an open listener on which the collector is served besides; nil: it is
	// reached inside the process only. Run closes it.
	GRPC net.Listener
}

// Run runs both services until ctx ends or one of them fails.
func Run(ctx context.Context, c collector.Config, x exposer.Config, deps Deps) error {
	memory := bufconn.Listen(1 << 20)
	listener := net.Listener(memory)
	if deps.GRPC != nil {
		listener = join(deps.GRPC, memory)
	}
	served, err := collector.New(ctx, c, collector.Deps{
		Clock: deps.Clock, BudgetClock: deps.Clock, Logger: deps.Logger.With("service", "collector"), GRPC: listener, Ops: deps.CollectorOps,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return memory.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return errors.Join(fmt.Errorf("connect the exposer: %w", err), served.Close(), listener.Close())
	}
	follower, err := exposer.New(x, exposer.Deps{
		Clock: deps.Clock, Logger: deps.Logger.With("service", "exposer"), Conn: conn, Data: deps.Data, Ops: deps.ExposerOps,
		Ready: served.Accepted,
	})
	if err != nil {
		return errors.Join(err, conn.Close(), served.Close(), listener.Close())
	}
	// What a service says at its end counts also when it was told to end.
	var collected, exposed error
	g := proc.NewGroup(ctx, nil)
	// Collects, stores, streams.
	g.Add(func(ctx context.Context) error { collected = served.Run(ctx); return nil })
	// Follows, renders, serves.
	g.Add(func(ctx context.Context) error { exposed = follower.Run(ctx); return nil })
	return errors.Join(g.Run(), collected, exposed, conn.Close())
}
