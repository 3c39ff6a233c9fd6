// Package collector is the collector service: it reads settled windows from
// Cloudflare, stores each once, and serves the log to exposers.
//
// Several processes may run on one store. All of them serve the BucketService;
// the one that holds the lease also collects.
package collector

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/ops"
	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/smallfile"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/adminsvc"
	"github.com/weir-metrics/weir/services/collector/internal/auth"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/grpcserver"
	"github.com/weir-metrics/weir/services/collector/internal/jobsvc"
	"github.com/weir-metrics/weir/services/collector/internal/lease"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// Deps are the dependencies of a collector. A zero field means the production
// implementation.
type Deps struct {
	Clock  clock.Clock
	Logger *slog.Logger
	// LeaseClock is the clock of an embedded store's lease: machine time, even if
	// Clock is virtual.
	LeaseClock clock.Clock
	// BudgetClock is the clock of the query budget if time is virtual. Nil: machine
	// time in this process and the database's clock in the store, whatever Clock is.
	BudgetClock clock.Clock
	// Transport carries requests to Cloudflare.
	Transport http.RoundTripper
	// GRPC and Ops are open listeners, used instead of the configured
	// addresses; Run closes them.
	GRPC, Ops net.Listener
	// Registry takes the collector's own metrics.
	Registry *prometheus.Registry
	// OpenStore replaces opening the configured database. Run and Close close the
	// store. For tests in which several collectors share an in-process database, or
	// in which it fails.
	OpenStore func(ctx context.Context) (Store, error)
}

// Collector is one process's collector.
type Collector struct {
	config  Config
	deps    Deps
	store   store.Store
	feed    *feed.Feed
	service *bucketsvc.Server
	admin   *adminsvc.Server
	grpc    *grpcserver.Server
	ops     *ops.Ops
	poller  *poll.Poller
	leading atomic.Bool
	secrets *reload.Watch
	trouble *trouble.Board
	writes  *writes.Watch
	dying   atomic.Pointer[error] // why each term of this process ends immediately

	accepted atomic.Bool            // Cloudflare has accepted a token of this store at some time
	refusal  atomic.Pointer[string] // why not; nil: unknown

	open     func(ctx context.Context) (store.Store, error)
	assemble func() error          // creates the parts that need the store
	away     atomic.Pointer[error] // why there is no store yet; nil: there is
}

// New opens the store and prepares everything. It does not serve or send requests yet. If
// Postgres does not respond, New returns no error, and Run waits. A Collector that is not
// run must be closed.
func New(ctx context.Context, config Config, deps Deps) (_ *Collector, err error) {
	if deps.Clock == nil {
		deps.Clock = clock.System()
	}
	if deps.LeaseClock == nil {
		deps.LeaseClock = clock.System()
	}
	ownTime := deps.BudgetClock != nil
	if !ownTime {
		deps.BudgetClock = clock.System()
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Registry == nil {
		deps.Registry = prometheus.NewRegistry()
	}
	if config.Holder == "" {
		config.Holder = holder()
	}
	c := &Collector{config: config, deps: deps}
	datasets, err := c.config.catalogue()
	if err != nil {
		return nil, err
	}
	c.trouble = trouble.New(deps.Logger, deps.Clock.Now, deps.Registry)
	c.writes = writes.New(deps.Logger, deps.Clock.Now, c.trouble, deps.Registry)
	spoiled := unreadable.New(c.trouble, deps.Registry)
	c.secrets = reload.NewWatch(deps.Logger, deps.Clock.Now)
	deps.Registry.MustRegister(c.secrets)
	if deps.Transport == nil {
		if deps.Transport, err = c.source(ctx); err != nil {
			return nil, err
		}
		config = c.config
	}
	credentials, err := config.credentials()
	if err != nil {
		return nil, err
	}
	clients, err := config.clients(deps, c.secrets, credentials)
	if err != nil {
		return nil, err
	}
	door, err := config.door(deps, c.secrets)
	if err != nil {
		return nil, err
	}
	c.open = deps.OpenStore
	if c.open == nil {
		c.open = func(ctx context.Context) (Store, error) { return openStore(ctx, config, deps, c.secrets) }
	}
	registerStore(deps.Registry, c)
	build := cli.BuildInfo()
	if c.ops, err = ops.New(ops.Config{
		Service: "weir-collector", Summary: "Settled Cloudflare buckets, each stored once and streamed over gRPC.",
		Version: build.Version, Revision: build.Revision, Registry: deps.Registry, Ready: c.ready, Pprof: config.Pprof, Logger: deps.Logger,
	}); err != nil {
		return nil, err
	}
	c.assemble = func() error {
		ways, err := c.upstream(credentials, clients, ownTime)
		if err != nil {
			return err
		}
		return c.assembled(datasets, ways, door, spoiled)
	}
	if err := c.begin(ctx); err != nil && !waits(ctx, err) {
		return nil, err
	}
	return c, nil
}

// begin opens the store and creates the parts that need it.
func (c *Collector) begin(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			c.away.Store(&err)
		}
	}()
	if c.store, err = c.open(ctx); err != nil {
		c.store = nil
		return err
	}
	if c.config.anySource {
		var head store.Head
		head, err = c.store.Head(ctx)
		c.config.Simulated = head.Simulated
	}
	if err == nil {
		err = c.checkEncoding(ctx)
	}
	if err == nil {
		err = c.assemble()
	}
	if err != nil {
		err = errors.Join(err, c.store.Close())
		c.store = nil
		return err
	}
	c.away.Store(nil)
	return nil
}

// assembled creates the parts that need the store. It is called once.
func (c *Collector) assembled(datasets *catalogue.Catalogue, ways []upstream.Credential, door grpcserver.Config, spoiled *unreadable.Register) (err error) {
	config, deps := c.config, c.deps
	c.poller = poll.New(poll.Config{
		Store: c.store, Credentials: ways, Clock: deps.Clock, Catalogue: datasets,
		Metrics: poll.NewMetrics(deps.Registry), Trouble: c.trouble, Writes: c.writes, Unreadable: spoiled, Passed: func() { c.dies(nil) },
		Accepted: func() { c.accepted.Store(true) }, Logger: deps.Logger,
		Lookback: config.Lookback, Retention: config.retention(), Interval: config.Interval, LeaseTTL: lease.DefaultTTL,
		Seed: uint64(time.Now().UnixNano()),
	})
	facts := &status.Source{
		Store: c.store, Catalogue: datasets, Clock: deps.Clock, Retention: config.retention(), Leading: c.leading.Load,
		Trouble: c.trouble, Unreadable: spoiled,
	}
	c.feed = feed.New(feed.Config{Source: c.store, Now: deps.Clock.Now, Unreadable: spoiled, Logger: deps.Logger})
	if c.service, err = bucketsvc.New(bucketsvc.Config{
		Store: c.store, Feed: c.feed, Version: cli.BuildInfo().Version, Retention: config.retention(), Unreadable: spoiled, Logger: deps.Logger,
		Status: facts,
	}); err != nil {
		return err
	}
	if c.admin, err = adminsvc.New(adminsvc.Config{
		Store: c.store, Leader: c.poller, Status: facts, Datasets: datasetIDs(datasets), Unreadable: spoiled, Logger: deps.Logger,
		Backfills: &jobsvc.Service{Loop: c.poller, Store: c.store, Clock: deps.Clock, Unreadable: spoiled},
	}); err != nil {
		return err
	}
	door.OnDrain = func() { c.service.Drain(); c.admin.Drain() }
	door.Register = func(r grpc.ServiceRegistrar) {
		bucketv1.RegisterBucketServiceServer(r, c.service)
		adminv1.RegisterAdminServiceServer(r, c.admin)
	}
	if c.grpc, err = grpcserver.New(door); err != nil {
		return err
	}
	registerFeed(deps.Registry, c.feed, c.service)
	return nil
}

// datasetIDs are the ids of the datasets of a catalogue.
func datasetIDs(c *catalogue.Catalogue) (ids []string) {
	for i := range c.Datasets {
		ids = append(ids, c.Datasets[i].Dataset)
	}
	return ids
}

// Close releases the store of a collector that is not run.
func (c *Collector) Close() error {
	if c.store == nil {
		return nil
	}
	return c.store.Close()
}

// Run serves and, while it holds the lease, collects, until ctx ends. Then it reports
// not ready, ends streams within the drain time, releases the lease and closes the store
// last. While Postgres does not respond at start, it waits and serves only the operations
// listener, which reports not ready.
func (c *Collector) Run(ctx context.Context) error {
	// Ends with ctx. Reports not ready before any part ends.
	g := proc.NewGroup(ctx, c.ops.Drain)
	// Serves health, readiness and own metrics.
	g.Add(func(ctx context.Context) error {
		return ops.Serve(ctx, ops.ServerConfig{
			Name: "operations", Address: c.config.OpsListen, Listener: c.deps.Ops, Logger: c.deps.Logger,
			WebConfigFile: c.config.WebConfig, WebConfigSetting: "WEIR_COLLECTOR_WEB_CONFIG_FILE", Watch: c.secrets,
		}, c.ops)
	})
	// Waits for the store, then does everything else.
	g.Add(func(ctx context.Context) error {
		if away := c.away.Load(); away != nil {
			if err := wait(ctx, c.deps.Logger, *away, c.begin); err != nil {
				if ctx.Err() != nil {
					err = nil // a shutdown while waiting is no error
				}
				return errors.Join(err, c.closeListener())
			}
		}
		return c.serve(ctx)
	})
	return errors.Join(g.Run(), c.Close())
}

// serve runs the parts that need the store until ctx ends.
func (c *Collector) serve(ctx context.Context) error {
	listener := c.deps.GRPC
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", c.config.Listen); err != nil {
			return fmt.Errorf("gRPC listener: %w", err)
		}
	}
	g := proc.NewGroup(ctx, nil)
	// Campaigns for the lease, and collects while it holds it.
	g.Add(c.campaign)
	// Follows the log for all streams, until the server below has drained.
	served := make(chan struct{})
	g.AddUnder(served, c.feed.Run)
	// Serves the BucketService.
	g.Add(func(ctx context.Context) error { defer close(served); return c.grpc.Run(ctx, listener) })
	// Learns whether Cloudflare has accepted a token.
	g.Add(c.watchAcceptance)
	// Reports readiness to the gRPC health service.
	g.Add(func(ctx context.Context) error {
		for {
			c.grpc.SetServing(c.ready() == nil)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Run()
}

// closeListener closes the listener of Deps if it will not be served.
func (c *Collector) closeListener() error {
	if c.deps.GRPC == nil {
		return nil
	}
	return c.deps.GRPC.Close()
}

func (c *Collector) campaign(ctx context.Context) error {
	return lease.Run(ctx, lease.Config{
		Store: c.store, Holder: store.Holder(c.config.Holder, instance()), TTL: lease.DefaultTTL, Trust: lease.DefaultTrust, Logger: c.deps.Logger,
		Asked: c.asked, Contested: c.contested,
	}, func(ctx context.Context, won store.Lease) error {
		c.leading.Store(true)
		defer c.leading.Store(false)
		err := c.poller.Lead(ctx, won)
		if ctx.Err() == nil && spoils(err) && !c.writes.Failing(writes.Log) {
			c.dies(err)
		}
		return err
	})
}

// spoils reports whether a term ended because stored state is damaged or cannot be read
// by this binary. The next term would end in the same way.
func spoils(err error) bool {
	return err != nil && slices.Contains([]string{store.Reason(store.ErrCorrupt), store.Other}, store.Reason(err))
}

// dies records that this process cannot lead because of stored state. A nil error ends
// that: this process or another one leads.
func (c *Collector) dies(err error) {
	if err == nil {
		c.dying.Store(nil)
		c.trouble.Clear(trouble.StoreUnreadable, "term")
		return
	}
	err = fmt.Errorf("nothing is collected because stored state cannot be read: %w; remedy: %s", err, store.Remedy(store.ErrCorrupt))
	c.dying.Store(&err)
	c.trouble.Set(trouble.StoreUnreadable, "term", err.Error())
}

// asked records what an attempt to acquire the lease shows about the store.
func (c *Collector) asked(err error) {
	switch {
	case err == nil:
		c.writes.Works(writes.Lease)
	case errors.Is(err, store.ErrHeld): // another process writes
		c.dies(nil)
		c.writes.Works(writes.Lease, writes.Log, writes.Permits, writes.Retention)
	default:
		c.writes.Failed(writes.Lease, err)
	}
}

// contested reports another process with our name that holds the lease.
func (c *Collector) contested(holder string) {
	if holder == "" {
		c.trouble.Clear(trouble.LeaseContested, c.config.Holder)
		return
	}
	c.trouble.Set(trouble.LeaseContested, c.config.Holder, fmt.Sprintf(
		"another process has the same WEIR_COLLECTOR_NAME, %s, and leads (its identity in the lease is %s); this process is a standby; give each process its own name, or leave the setting out",
		c.config.Holder, holder))
}

// ready returns an error if the store does not respond, if this process cannot write to
// it, if its state prevents leading, or if the store is new and Cloudflare has not accepted
// a token. Leaders and standbys are both ready.
func (c *Collector) ready() error {
	if err := c.away.Load(); err != nil {
		return fmt.Errorf("the store does not respond: %w", *err)
	}
	if err := c.feed.Stats().Err; err != nil {
		return fmt.Errorf("the store does not respond: %w", err)
	}
	if err := c.writes.Err(); err != nil {
		return err
	}
	if err := c.dying.Load(); err != nil {
		return *err
	}
	return c.Accepted()
}

// door returns the configuration of the gRPC listener: TLS and authorization.
func (c *Config) door(deps Deps, secrets *reload.Watch) (d grpcserver.Config, err error) {
	d = grpcserver.Config{Logger: deps.Logger, Registerer: deps.Registry, Reflection: c.Reflect, Drain: c.Drain, Tokens: !c.GRPCToken.IsZero() || !c.GRPCAdminToken.IsZero()}
	if c.GRPCFiles.CertFile != "" {
		if d.TLS, err = c.GRPCFiles.Credentials(secrets, "WEIR_GRPC_CERT_FILE"); err != nil {
			return d, fmt.Errorf("TLS of the gRPC listener (WEIR_GRPC_CERT_FILE, WEIR_GRPC_KEY_FILE, WEIR_GRPC_CLIENT_CA_FILE): %w", err)
		}
	}
	var grants []auth.Grant
	if !c.GRPCToken.IsZero() {
		grants = append(grants, auth.Grant{Access: auth.Read, Setting: "WEIR_GRPC_TOKEN_FILE", Tokens: c.GRPCToken})
	}
	if !c.GRPCAdminToken.IsZero() {
		grants = append(grants, auth.Grant{Access: auth.Admin, Setting: "WEIR_GRPC_ADMIN_TOKEN_FILE", Tokens: c.GRPCAdminToken})
	}
	// Also without tokens: methods that need more than read access are never open.
	gate, err := auth.New(auth.Methods, secrets, grants...)
	if err != nil {
		return d, err
	}
	d.Authorize = gate.Authorize
	return d, nil
}

// holder is the default name of this process in the lease: the host name and an instance.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return host + "-" + instance()
}

// instance is a random id that distinguishes this process from all others.
func instance() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return hex.EncodeToString(b[:])
}

func readOptional(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	return smallfile.Read(file, smallfile.YAML)
}
