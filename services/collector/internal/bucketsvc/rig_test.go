package bucketsvc_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/grpcserver"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// rig is a collector's reading side: a store, the feed, the service and the
// server, reached through memory.
type rig struct {
	*database
	*process
	conn *grpc.ClientConn
}

// newRig is one collector on a SQLite store.
func newRig(t testing.TB, limits bucketsvc.Limits) *rig { return newRigOn(t, newSQLite(t), limits) }

func newRigOn(t testing.TB, db *database, limits bucketsvc.Limits) *rig {
	return newRigReading(t, db, db.store, limits)
}

// newRigReading is a collector that reads the database through something.
func newRigReading(t testing.TB, db *database, through readable, limits bucketsvc.Limits) *rig {
	r := &rig{database: db, process: startProcess(t, processConfig{
		store: through, limits: limits, logger: testkit.Logger(t),
		feed: feed.Config{Poll: 10 * time.Millisecond, Heartbeat: 20 * time.Millisecond, Page: 3},
	})}
	var err error
	r.conn, err = grpc.NewClient("passthrough:///rig",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return r.listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.conn.Close(); err != nil {
			t.Errorf("close the connection: %v", err)
		}
		r.stop()
	})
	return r
}

// subject is the rig as the exam wants it.
func (r *rig) subject() feedtest.Subject {
	return feedtest.Subject{
		Conn: r.conn, Append: r.append, Progress: r.progress, Backup: r.backup, Retire: r.retire,
		Drain: func(testing.TB) { r.service.Drain() },
	}
}

// readable is what a process reads of a store.
type readable interface {
	feed.Source
	bucketsvc.Store
}

type processConfig struct {
	store     readable
	status    bucketsvc.StatusSource // nil: noStatus
	limits    bucketsvc.Limits
	feed      feed.Config // without Source and Logger
	retention time.Duration
	logger    *slog.Logger
}

// process is what one collector runs for its readers.
type process struct {
	feed     *feed.Feed
	service  *bucketsvc.Server
	listener *bufconn.Listener
	stop     func() // in order, and waits
}

func startProcess(t testing.TB, c processConfig) *process {
	t.Helper()
	p := &process{listener: bufconn.Listen(1 << 16)}
	c.feed.Source, c.feed.Logger = c.store, c.logger
	if c.status == nil {
		c.status = noStatus{}
	}
	p.feed = feed.New(c.feed)
	var err error
	p.service, err = bucketsvc.New(bucketsvc.Config{
		Store: c.store, Feed: p.feed, Status: c.status, Version: "test", Retention: c.retention, Limits: c.limits, Logger: c.logger,
		Unreadable: unreadable.New(nil, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := grpcserver.New(grpcserver.Config{
		Logger: c.logger, OnDrain: p.service.Drain, Drain: 5 * time.Second,
		ConnectionAge: 100 * time.Hour, // virtual hours pass; connections that grow old have a test of their own
		Register:      func(s grpc.ServiceRegistrar) { bucketv1.RegisterBucketServiceServer(s, p.service) },
	})
	if err != nil {
		t.Fatal(err)
	}
	// As in the collector: the feed outlives the server.
	following, unfollow := context.WithCancel(context.Background())
	serving, unserve := context.WithCancel(context.Background())
	var feeding, running sync.WaitGroup
	feeding.Go(func() {
		if err := p.feed.Run(following); err != nil {
			t.Errorf("feed: %v", err)
		}
	})
	running.Go(func() {
		if err := server.Run(serving, p.listener); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	p.stop = func() {
		unserve()
		running.Wait()
		unfollow()
		feeding.Wait()
	}
	return p
}

// noStatus is a collector that has not seen a scope yet.
type noStatus struct{}

func (noStatus) Role() bucketv1.Role { return bucketv1.Role_ROLE_LEADER }
func (noStatus) Coverage(context.Context, store.Filter, bucket.Window) ([]*bucketv1.Coverage, time.Time, error) {
	return nil, feedtest.T0, nil
}
func (noStatus) Scopes(context.Context) ([]*bucketv1.ScopeInfo, error) { return nil, nil }

// Named says that any of the exam's zones may bear the names: which buckets do is
// for the server to see.
func (noStatus) Named(context.Context, []string) (all []bucket.Scope, err error) {
	for n := range 10 {
		all = append(all, feedtest.Zone(n))
	}
	return all, nil
}
func (noStatus) Datasets(context.Context) ([]*bucketv1.DatasetStatus, error) { return nil, nil }
func (noStatus) Problems(context.Context) ([]*bucketv1.Problem, error)       { return nil, nil }
