// Package exposer is the stateless half of Weir: it follows a collector's
// BucketService, keeps the recent final buckets in memory as rendered bytes,
// and serves them to any number of Prometheus servers.
//
// Any number of exposers may run side by side. At the same revision they serve
// the same bytes, so a load balancer may send each scrape to a different one.
package exposer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/internal/ops"
	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/internal/reload"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/access"
	"github.com/weir-metrics/weir/services/exposer/internal/compat"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/inquiry"
	"github.com/weir-metrics/weir/services/exposer/internal/meter"
	"github.com/weir-metrics/weir/services/exposer/internal/pages"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

// Deps are the dependencies of an exposer. A zero field means the production
// implementation.
type Deps struct {
	Clock  clock.Clock
	Logger *slog.Logger
	// Conn is a connection to a collector, used instead of the configured
	// addresses. The caller closes it.
	Conn grpc.ClientConnInterface
	// Data and Ops are open listeners, used instead of the configured
	// addresses; Run closes them.
	Data, Ops net.Listener
	// Registry receives the exposer's own metrics.
	Registry *prometheus.Registry
	// Ready, if not nil, is a further condition of readiness on the operations listener, with
	// the reason that it does not hold.
	Ready func() error
	// Backoff bounds the pauses between streams, which are 5 s at most by default; tests
	// shorten them.
	Backoff client.Backoff
}

// Exposer is one process's exposer.
type Exposer struct {
	config   Config
	deps     Deps
	close    func() error // of the connection, if it is ours
	board    *view.Board
	follower *client.Follower
	ingest   *follow.Ingest
	pages    *pages.Fetcher
	counting *counting    // nil: counters are off
	compat   *compat.View // nil: the compatibility page is off
	ops      *ops.Ops
	meter    *meter.Meter
	secrets  *reload.Watch
	tokens   *access.Tokens // nil: the data port asks for none
}

// longestPause is the longest pause between two streams. After an outage of the collectors or
// their database every exposer follows again within it, and two streams of each are little work.
const longestPause = 5 * time.Second

// counting is the counters of an exposer.
type counting struct {
	board    *counters.Board
	follower *client.Follower
	ingest   *counters.Ingest
}

// New builds an exposer. It connects to nothing and serves nothing before Run.
func New(config Config, deps Deps) (_ *Exposer, err error) {
	if deps.Clock == nil {
		deps.Clock = clock.System()
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Registry == nil {
		deps.Registry = prometheus.NewRegistry()
	}
	if deps.Backoff.Max == 0 {
		deps.Backoff.Max = longestPause
	}
	x := &Exposer{config: config, deps: deps, close: func() error { return nil }}
	x.secrets = reload.NewWatch(deps.Logger, deps.Clock.Now)
	deps.Registry.MustRegister(x.secrets)
	if config.Tokens != "" {
		if x.tokens, err = access.Open(config.Tokens, "WEIR_EXPOSER_TOKENS_FILE", x.secrets); err != nil {
			return nil, err
		}
	}
	if deps.Conn == nil {
		conn, err := dial.Open(config.Collector, x.secrets)
		if err != nil {
			return nil, err
		}
		x.deps.Conn, x.close = conn, conn.Close
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	replayAge := time.Duration(config.ReplayHours) * time.Hour
	x.meter = meter.New(deps.Registry)
	x.board = view.NewBoard(deps.Clock, recent.Limits{
		MaxAge: replayAge, Soft: config.SoftSamples, Hard: config.HardSamples,
	}, x.meter.Built)
	deps.Registry.MustRegister(meter.Watch(x.board))
	x.pages = pages.New(x.deps.Conn, x.meter, deps.Logger)
	sinks := []follow.Open{x.board.Sink(x.pages, x.meter, deps.Logger)}
	if config.Counters {
		ends := &counters.Ends{}
		sinks = append(sinks, ends.Open)
		if x.counting, err = x.count(ends); err != nil {
			return nil, err
		}
		if config.Compat == lablabsCompat {
			x.compat = compat.NewView(&compat.Lablabs)
			sinks = append(sinks, x.compat.Open)
			deps.Registry.MustRegister(meter.WatchCompat(x.compat, deps.Clock.Now))
		}
	}
	x.ingest = follow.New(x.meter, deps.Logger, sinks...)
	x.follower, err = client.New(x.deps.Conn, client.Options{
		// The newest windows: the store measures age from its progress time, this
		// process from the later of that and its own clock. Older ones come in pages.
		Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(replayAge), MaxWindows: recent.MaxNewest, LateCommits: true},
		Logger:   deps.Logger, Backoff: deps.Backoff,
	})
	if err != nil {
		return nil, err
	}
	build := cli.BuildInfo()
	x.ops, err = ops.New(ops.Config{
		Service: "weir-exposer", Summary: "Final Cloudflare buckets as Prometheus samples, at their own timestamps.",
		Version: build.Version, Revision: build.Revision, Registry: deps.Registry, Ready: x.ready, Pprof: config.Pprof, Logger: deps.Logger,
	})
	return x, err
}

// ready returns an error until there is a complete view and the condition of Deps holds.
func (x *Exposer) ready() error {
	if x.deps.Ready != nil {
		if err := x.deps.Ready(); err != nil {
			return err
		}
	}
	return x.board.Ready()
}

// count builds the counters, which have a stream of their own: a collector that does not
// know them refuses that one only.
func (x *Exposer) count(ends *counters.Ends) (*counting, error) {
	follower, err := client.New(x.deps.Conn, client.Options{
		Counters: true, CounterRules: counter.Rules, Logger: x.deps.Logger.With("stream", "counters"), Backoff: x.deps.Backoff,
	})
	if err != nil {
		return nil, err
	}
	board := counters.NewBoard(x.deps.Clock, ends)
	x.deps.Registry.MustRegister(meter.WatchCounters(board))
	return &counting{board: board, follower: follower, ingest: counters.NewIngest(board, x.meter, x.deps.Logger)}, nil
}

// Run follows and serves until ctx ends. It then reports "not ready", keeps
// serving for the drain time, lets scrapes finish, and stops following last.
func (x *Exposer) Run(ctx context.Context) error {
	// Both listeners are opened first, so that an address in use is an error
	// before anything starts.
	if err := x.listen(); err != nil {
		return errors.Join(err, x.close())
	}
	// Reports "not ready" before anything else stops.
	g := proc.NewGroup(ctx, func() {
		x.board.Drain()
		x.ops.Drain()
	})
	// Follows the log for as long as the data port serves.
	served := make(chan struct{})
	g.AddUnder(served, func(ctx context.Context) error { return x.follower.Run(ctx, x.ingest) })
	if c := x.counting; c != nil {
		g.AddUnder(served, func(ctx context.Context) error { return c.follower.Run(ctx, c.ingest) })
	}
	// Fetches the pages that are shown now and next.
	g.AddUnder(served, x.pages.Run)
	all := inquiry.New(bucketv1.NewBucketServiceClient(x.deps.Conn), x.board.Now, x.deps.Logger)
	if x.tokens != nil {
		g.AddUnder(served, func(ctx context.Context) error { return x.compareTokens(ctx, x.tokens, all) })
	}
	// Serves scrapes, backfills and the landing page.
	g.Add(func(ctx context.Context) error {
		defer close(served)
		return ops.Serve(ctx, ops.ServerConfig{
			Name: "data", Listener: x.deps.Data, Drain: x.config.Drain, Logger: x.deps.Logger,
			WebConfigFile: x.config.WebConfig, WebConfigSetting: "WEIR_EXPOSER_WEB_CONFIG_FILE", Watch: x.secrets, Tokens: x.tokensSetting(),
		}, x.handler(all))
	})
	// Serves health, readiness and own metrics, until the data port is done.
	g.Add(func(ctx context.Context) error {
		return ops.Serve(ctx, ops.ServerConfig{
			Name: "operations", Listener: x.deps.Ops, Drain: x.config.Drain, Logger: x.deps.Logger,
			WebConfigFile: x.config.OpsWebConfig, WebConfigSetting: "WEIR_EXPOSER_OPS_WEB_CONFIG_FILE", Watch: x.secrets,
		}, x.ops)
	})
	if err := errors.Join(g.Run(), x.close()); err != nil {
		return fmt.Errorf("run exposer: %w", err)
	}
	return nil
}

// listen opens the listeners that were not given.
func (x *Exposer) listen() error {
	for _, l := range []struct {
		name, address string
		listener      *net.Listener
	}{{"data", x.config.Listen, &x.deps.Data}, {"operations", x.config.OpsListen, &x.deps.Ops}} {
		if *l.listener != nil {
			continue
		}
		opened, err := net.Listen("tcp", l.address)
		if err != nil {
			if x.deps.Data != nil {
				err = errors.Join(err, x.deps.Data.Close())
			}
			return fmt.Errorf("%s listener: %w", l.name, err)
		}
		*l.listener = opened
	}
	return nil
}

// tokensSetting is the setting that names the tokens, if there are any.
func (x *Exposer) tokensSetting() string {
	if x.tokens == nil {
		return ""
	}
	return "WEIR_EXPOSER_TOKENS_FILE"
}

func (x *Exposer) handler(all *inquiry.Desk) http.Handler {
	collector := bucketv1.NewBucketServiceClient(x.deps.Conn)
	var board *counters.Board
	if x.counting != nil {
		board = x.counting.board
	}
	var desk *inquiry.Desk
	if x.config.Status {
		desk = all
	}
	return web.New(web.Config{
		Board: x.board, Counters: board, Compat: x.compat, Store: collector, Status: collector, Inquiry: desk, Scopes: all, Tokens: x.tokens, Meter: x.meter,
		MaxScrapes: x.config.MaxScrapes, MaxBackfills: x.config.MaxBackfills,
		MaxBackfillHours: x.config.BackfillMaxHours, CollectionInterval: x.config.Interval,
		Version: cli.BuildInfo().String(), Logger: x.deps.Logger,
	})
}
