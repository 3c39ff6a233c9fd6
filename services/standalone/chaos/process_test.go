package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
)

// process is one process and its supervisor: what ends is started again.
type process struct {
	*surroundings
	w   *world
	run func(ctx context.Context, l *life) error

	mu      sync.Mutex
	current *life
	away    time.Duration // before the next life
	ending  bool          // the present life was told to end
	over    chan struct{} // closed: no further life
}

// supervise runs lives until the process is retired.
func (p *process) supervise() {
	for {
		l, ctx := p.newLife()
		p.mu.Lock()
		p.current, p.ending = l, false
		p.mu.Unlock()
		ended := make(chan error, 1)
		p.w.lives.Go(func() { ended <- p.run(ctx, l) })
		var err error
		select {
		case err = <-ended:
		case <-l.dead:
		}
		p.mu.Lock()
		asked, away := p.ending || l.isDead(), p.away
		p.away = 0
		p.mu.Unlock()
		l.kill()
		if away == 0 {
			away = 5 * time.Second // what a supervisor leaves between two starts
		}
		if err != nil && !asked && !p.excused(err) {
			p.w.report("%s ended by itself: %v", p.name, err)
		}
		select {
		case <-p.over:
			return
		case <-time.After(away):
		}
	}
}

// excused errors at the start are the store's, and those of a token that cannot be
// one: a process that never had a better one does not begin.
func (p *process) excused(err error) bool {
	if strings.Contains(err.Error(), "the token has") && slices.ContainsFunc(p.trouble(), func(e event) bool { return e.Becomes == malformed }) {
		return true
	}
	if strings.Contains(err.Error(), "contains the token of credential") && p.w.swaps() {
		return true // it began between the two writes of a swap
	}
	return errors.Is(err, errNoStore) || errors.Is(err, errHung) || errors.Is(err, errNoConns) || errors.Is(err, errLost)
}

// end ends the present life: by force, or by asking.
func (p *process) end(force bool, away time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.ending = away, true
	if force {
		p.current.kill()
	} else {
		p.current.cancel()
	}
}

// retire ends the process for good, in order.
func (p *process) retire() {
	close(p.over)
	p.end(false, 0)
}

// collector is the life of a collector.
func (w *world) collector(ctx context.Context, l *life) error {
	var c collector.Config
	cli.Defaults(c.Settings())
	if err := w.hold(&c, l.surroundings); err != nil {
		return err
	}
	if w.Odd {
		c.Enable = append(c.Enable, "browsers_1h")
	}
	if w.Workers {
		c.Enable = append(c.Enable, "workers_5m")
	}
	c.GRPCAdminToken = cli.NewSecret(adminToken)
	c.CloudflareURL, c.Simulated = "http://cloudflare.example"+cfsim.Prefix, true
	c.Holder, c.Lookback, c.Disable, c.BudgetShare = l.name, w.Lookback, w.Disable, w.Share
	served, err := collector.New(ctx, c, collector.Deps{
		Clock: l.clock, Logger: w.logger(l.name), Transport: transport{l, cfsimtest.Transport(w.sim)},
		GRPC: w.net.listen(l, "grpc"), Ops: w.net.listen(l, "ops"),
		OpenStore: func(ctx context.Context) (collector.Store, error) {
			s := w.store.Guard(l)
			if _, err := s.Head(ctx); err != nil {
				return nil, fmt.Errorf("open store: %w", err)
			}
			return s, nil
		},
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return served.Run(ctx)
}

// exposer is the life of an exposer.
func (w *world) exposer(ctx context.Context, l *life) error {
	var x exposer.Config
	cli.Defaults(x.Settings())
	x.Drain = time.Second
	conn, err := w.dial(l)
	if err != nil {
		return err
	}
	served, err := exposer.New(x, exposer.Deps{
		Clock: l.clock, Logger: w.logger(l.name), Conn: conn,
		Data: w.net.listen(l, "data"), Ops: w.net.listen(l, "ops"),
	})
	if err != nil {
		return errors.Join(fmt.Errorf("start: %w", err), conn.Close())
	}
	return errors.Join(served.Run(ctx), conn.Close())
}

// dial is the connection to both collectors, balanced as an exposer's is.
func (w *world) dial(l *life) (*grpc.ClientConn, error) {
	list := manual.NewBuilderWithScheme("chaos")
	list.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: leftCollector + "/grpc"}, {Addr: rightCollector + "/grpc"}}})
	return grpc.NewClient("chaos:///collectors",
		grpc.WithResolvers(list),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) { return w.net.dial(ctx, l, to) }))
}

// recorder is the life of the follower that writes everything down.
func (w *world) recorder(ctx context.Context, l *life) error {
	conn, err := w.dial(l)
	if err != nil {
		return err
	}
	f, err := client.New(conn, client.Options{Resume: w.record.point(), Logger: w.logger(l.name), Seed: w.Seed + 1})
	if err == nil {
		err = f.Run(ctx, &recording{record: w.record, l: l})
	}
	return errors.Join(err, conn.Close())
}

func (w *world) logger(name string) *slog.Logger {
	return slog.New(w.logs).With("process", name)
}
