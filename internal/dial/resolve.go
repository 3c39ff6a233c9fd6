package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/resolver"
)

const (
	// again is the least time between two look-ups of a name, also after failures: that of
	// a collector which was replaced changes within seconds. gRPC's own resolver waits 30 s,
	// and after failures up to two minutes.
	again = time.Second
	// anyway is the time after which a name is looked up though every connection works: a
	// collector that was added is used.
	anyway = 30 * time.Second
	// lookupTimeout bounds one look-up.
	lookupTimeout = 5 * time.Second
)

// NoAddress is in the message of calls to collectors whose name has no address, as that of a
// Service in Kubernetes without pods.
const NoAddress = "has no address"

// lookup finds the addresses of a host, as [net.Resolver.LookupHost] does.
type lookup func(ctx context.Context, host string) ([]string, error)

// names makes resolvers that follow the addresses of one name.
type names struct {
	host, port string
	lookup     lookup
}

// Scheme implements [resolver.Builder].
func (*names) Scheme() string { return "weir-name" }

// Build implements [resolver.Builder].
func (n *names) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &following{names: n, cc: cc, now: make(chan struct{}, 1), cancel: cancel, over: make(chan struct{})}
	go f.run(ctx)
	return f, nil
}

// following is the resolver of one connection.
type following struct {
	*names
	cc     resolver.ClientConn
	now    chan struct{} // holds one if gRPC asked for a look-up
	cancel func()
	over   chan struct{}
	shown  []string // what gRPC has
}

// ResolveNow implements [resolver.Resolver]. gRPC calls it when a connection fails or ends.
func (f *following) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case f.now <- struct{}{}:
	default:
	}
}

// Close implements [resolver.Resolver].
func (f *following) Close() {
	f.cancel()
	<-f.over
}

func (f *following) run(ctx context.Context) {
	defer close(f.over)
	for {
		pause := anyway
		if err := f.look(ctx); err != nil {
			pause = again
			f.cc.ReportError(err) // known addresses stay in use
		}
		least, timer := time.NewTimer(again), time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-f.now:
			// gRPC asks for every failed attempt; a second is often enough.
			select {
			case <-least.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		least.Stop()
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// look finds the addresses and passes them on if they have changed.
func (f *following) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	hosts, err := f.lookup(ctx, f.host)
	if e := (*net.DNSError)(nil); err == nil && len(hosts) == 0 || errors.As(err, &e) && e.IsNotFound {
		return fmt.Errorf("the name %s %s: no collector runs behind it, or WEIR_COLLECTOR_ADDRESS is wrong", f.host, NoAddress)
	} else if err != nil {
		return fmt.Errorf("the name %s cannot be looked up: %w", f.host, err)
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	if slices.Equal(hosts, f.shown) {
		return nil
	}
	var state resolver.State
	for _, h := range hosts {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: net.JoinHostPort(h, f.port)}}})
	}
	if err := f.cc.UpdateState(state); err != nil {
		return fmt.Errorf("use the addresses %q of %s: %w", hosts, f.host, err)
	}
	f.shown = hosts
	return nil
}
