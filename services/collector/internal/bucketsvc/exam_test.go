package bucketsvc_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/grpcserver"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

func TestExamOnSQLite(t *testing.T) {
	feedtest.Run(t, func(t *testing.T) feedtest.Subject {
		r := newRig(t, bucketsvc.Limits{})
		return feedtest.Subject{
			Conn:     r.conn,
			Append:   r.append,
			Progress: r.progress,
			Backup:   r.backup,
			Retire:   r.retire,
			Drain:    func(testing.TB) { r.service.Drain() },
		}
	})
}

// rig is a collector's reading side: a SQLite store, the feed, the service and
// the server, reached through memory.
type rig struct {
	store   *swap
	feed    *feed.Feed
	service *bucketsvc.Server
	conn    *grpc.ClientConn
	term    store.Term
}

const lease = time.Hour // longer than any test: leases are not what is tested

func newRig(t testing.TB, limits bucketsvc.Limits) *rig {
	path := filepath.Join(t.TempDir(), "weir.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	r := &rig{store: &swap{}}
	r.open(t, path)
	logger := testkit.Logger(t)
	r.feed = feed.New(feed.Config{Source: r.store, Poll: 10 * time.Millisecond, Heartbeat: 20 * time.Millisecond, Page: 3, Logger: logger})
	var err error
	r.service, err = bucketsvc.New(bucketsvc.Config{
		Store: r.store, Feed: r.feed, Status: noStatus{}, Version: "test", Retention: 90 * 24 * time.Hour, Limits: limits, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := grpcserver.New(grpcserver.Config{
		Logger: logger, OnDrain: r.service.Drain, Drain: 5 * time.Second,
		Register: func(s grpc.ServiceRegistrar) { bucketv1.RegisterBucketServiceServer(s, r.service) },
	})
	if err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 16)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.feed.Run(ctx); err != nil {
			t.Errorf("feed: %v", err)
		}
	})
	running.Go(func() {
		if err := server.Run(ctx, l); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	r.conn, err = grpc.NewClient("passthrough:///rig",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.conn.Close(); err != nil {
			t.Errorf("close the connection: %v", err)
		}
		cancel()
		running.Wait()
	})
	return r
}

// open puts the store in the file at path under the running service.
func (r *rig) open(t testing.TB, path string) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	l, err := s.Acquire(t.Context(), "exam", lease)
	if err != nil {
		t.Fatal(err)
	}
	r.term = l.Term
	r.store.set(s, path)
}

func (r *rig) append(t testing.TB, at time.Time, entries ...feedtest.Entry) {
	t.Helper()
	h, err := r.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := store.Batch{CommittedAt: at}
	for _, e := range entries {
		batch.Entries = append(batch.Entries, newEntry(e))
	}
	if _, err := r.store.Append(t.Context(), r.term, h.Position, batch); err != nil {
		t.Fatal(err)
	}
}

func newEntry(e feedtest.Entry) store.NewEntry {
	if d := e.Definition; d != nil {
		return store.NewEntry{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: d.Dataset}, Payload: wire.EncodeDefinition(d)}
	}
	b := e.Bucket
	return store.NewEntry{
		Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin,
		Variant: b.Variant, Rows: b.Len(), SampleInterval: b.SampleInterval, Payload: wire.EncodeBucket(b),
	}
}

func (r *rig) progress(t testing.TB, at time.Time) {
	t.Helper()
	if err := r.store.Renew(t.Context(), r.term, lease, at); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) retire(t testing.TB, before bucket.Time) {
	t.Helper()
	if _, err := r.store.Retire(t.Context(), r.term, before); err != nil {
		t.Fatal(err)
	}
}

// backup copies the file as an operator would, with VACUUM INTO; restoring puts
// the copy in the store's place.
func (r *rig) backup(t testing.TB) func(testing.TB) {
	t.Helper()
	to := filepath.Join(t.TempDir(), fmt.Sprintf("backup-%d.db", time.Now().UnixNano()))
	db, err := sql.Open("sqlite", r.store.path())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `VACUUM INTO ?`, to); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return func(t testing.TB) { r.open(t, to) }
}

// swap is a store that can be replaced by another, as a restore does to the
// database behind a running process.
type swap struct {
	mu   sync.RWMutex
	now  store.Store
	file string
}

func (s *swap) set(to store.Store, file string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.file = to, file
}

func (s *swap) get() store.Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now
}

func (s *swap) path() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.file
}

func (s *swap) Head(ctx context.Context) (store.Head, error) { return s.get().Head(ctx) }
func (s *swap) ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error) {
	return s.get().ReadLog(ctx, after, limit)
}

func (s *swap) ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error) {
	return s.get().ChainAt(ctx, rev)
}

func (s *swap) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error) {
	return s.get().Snapshot(ctx, q, emit)
}

func (s *swap) List(ctx context.Context, q store.ListQuery, emit func(store.Entry) error) error {
	return s.get().List(ctx, q, emit)
}
func (s *swap) Datasets(ctx context.Context) ([]store.Entry, error) { return s.get().Datasets(ctx) }
func (s *swap) Wake() <-chan struct{}                               { return s.get().Wake() }
func (s *swap) Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	return s.get().Append(ctx, term, at, b)
}

func (s *swap) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	return s.get().Renew(ctx, term, ttl, progress)
}

func (s *swap) Retire(ctx context.Context, term store.Term, before bucket.Time) (bucket.Time, error) {
	return s.get().Retire(ctx, term, before)
}

// noStatus is a collector that has not seen a scope yet.
type noStatus struct{}

func (noStatus) Role() bucketv1.Role { return bucketv1.Role_ROLE_LEADER }
func (noStatus) Coverage(context.Context, store.Filter, bucket.Window) ([]*bucketv1.Coverage, time.Time, error) {
	return nil, feedtest.T0, nil
}
func (noStatus) Scopes(context.Context) ([]*bucketv1.ScopeInfo, error)       { return nil, nil }
func (noStatus) Datasets(context.Context) ([]*bucketv1.DatasetStatus, error) { return nil, nil }
