package bucketsvc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// gate lets nobody pass until it is opened, and knows how many came to it.
type gate struct {
	open chan struct{}
	came atomic.Int64
}

func (g *gate) pass(ctx context.Context) error {
	g.came.Add(1)
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Each kind of work has its places; who finds none waits for a while, is told
// when to come back, and meanwhile all else goes on.
func TestWorkOfEachKindIsLimited(t *testing.T) {
	limits := bucketsvc.Limits{Snapshots: 2, Lists: 2, Calls: 2, Queue: 10 * time.Second}
	var g *gate
	st := &stub{
		snapshot: func(ctx context.Context, _ func(store.Entry) error) error { return g.pass(ctx) },
		list:     func(ctx context.Context, _ func(store.Entry) error) error { return g.pass(ctx) },
	}
	source := &gated{pass: func(ctx context.Context) error { return g.pass(ctx) }}
	snapshot := func(b *bench) error {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		s, err := b.rpc.WatchBuckets(ctx, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{}})
		for err == nil {
			var m *bucketv1.WatchBucketsResponse
			if m, err = s.Recv(); m.GetSnapshotEnd() != nil {
				return nil
			}
		}
		return err
	}
	list := func(b *bench) error {
		s, err := b.rpc.ListBuckets(b.Context(), &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: 300})
		if err == nil {
			_, err = s.Recv()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	scopes := func(b *bench) error {
		_, err := b.rpc.ListScopes(b.Context(), &bucketv1.ListScopesRequest{})
		return err
	}
	coverage := func(b *bench) error {
		_, err := b.rpc.GetCoverage(b.Context(), &bucketv1.GetCoverageRequest{})
		return err
	}
	getStatus := func(b *bench) error { _, err := b.rpc.GetStatus(b.Context(), &bucketv1.GetStatusRequest{}); return err }

	for name, c := range map[string]struct {
		busy, one, beside func(b *bench) error
	}{
		"snapshots":          {snapshot, snapshot, func(b *bench) error { return errors.Join(getStatus(b), b.watchOnce()) }},
		"lists":              {list, list, getStatus},
		"lists and coverage": {coverage, list, getStatus},
		"calls":              {scopes, scopes, func(b *bench) error { return b.watchOnce() }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, st, source, limits, func(b *bench) {
				g = &gate{open: make(chan struct{})}
				ended := make(chan error, 2)
				for range 2 {
					go func() { ended <- c.busy(b) }()
				}
				synctest.Wait()
				began := time.Now()
				err := c.one(b)
				b.wantError(err, codes.ResourceExhausted, "TOO_MANY_STREAMS")
				if took := time.Since(began); took != limits.Queue {
					b.Errorf("it was refused after %s; want %s", took, limits.Queue)
				}
				if !toldWhen(err) {
					b.Errorf("%v does not say when to try again", err)
				}
				if err := c.beside(b); err != nil {
					b.Errorf("what is small was not answered: %v", err)
				}
				if n := g.came.Load(); n != 2 {
					b.Errorf("%d came to the store; want 2", n)
				}

				// Whoever still waits when a place is free gets it.
				waiting := make(chan error, 1)
				go func() { waiting <- c.one(b) }()
				time.Sleep(time.Second)
				close(g.open)
				if err := errors.Join(<-waiting, <-ended, <-ended); err != nil {
					b.Errorf("when there was room: %v", err)
				}
			})
		})
	}
}

// Readers that take a message now and then hold no place for longer than a snapshot
// may wait for its reader; whoever reads gets in meanwhile, and a reader that is slow
// but reads has all of it.
func TestSlowReadersOfSnapshotsGiveWay(t *testing.T) {
	const messages = 4000 // far more than buffers and windows of flow control take
	large := feedtest.Bucket("http_5m", feedtest.Zone(1), 0)
	large.Variant = strings.Repeat("x", 1<<15)
	entry := store.Entry{NewEntry: newEntry(feedtest.Entry{Bucket: large})}
	st := &stub{snapshot: func(_ context.Context, emit func(store.Entry) error) error {
		for range messages {
			if err := emit(entry); err != nil {
				return err
			}
		}
		return nil
	}}
	inBubble(t, st, nil, bucketsvc.Limits{}, func(b *bench) {
		read := func(pause time.Duration) (n int, err error) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			s, err := b.rpc.WatchBuckets(ctx, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{}})
			for err == nil {
				var m *bucketv1.WatchBucketsResponse
				if m, err = s.Recv(); m.GetSnapshotEnd() != nil {
					return n, nil
				}
				n++
				time.Sleep(pause)
			}
			return n, err
		}
		slow := make(chan error, 4)
		for range 4 {
			go func() {
				_, err := read(9 * time.Second)
				slow <- err
			}()
		}
		time.Sleep(time.Second)
		began := time.Now()
		if n, err := read(0); err != nil || n <= messages {
			b.Errorf("beside slow readers %d messages, %v", n, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			b.Errorf("a snapshot had to wait for %s", took)
		}
		for range 4 {
			b.wantError(<-slow, codes.ResourceExhausted, "SLOW_READER")
		}
		// Two minutes for all of it is slow, and fast enough.
		if n, err := read(30 * time.Millisecond); err != nil || n <= messages {
			b.Errorf("slowly, %d messages, %v", n, err)
		}
	})
}

// gated is a status source whose scopes and coverage take as long as pass does.
type gated struct {
	noStatus
	pass func(context.Context) error
}

func (g *gated) Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error) { return nil, g.pass(ctx) }

func (g *gated) Coverage(ctx context.Context, _ store.Filter, _ bucket.Window) ([]*bucketv1.Coverage, time.Time, error) {
	return nil, feedtest.T0, g.pass(ctx)
}

// watchOnce opens a stream without a snapshot's buckets and waits for its begin.
func (b *bench) watchOnce() error {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	s, err := b.rpc.WatchBuckets(ctx, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{Resume: &bucketv1.ResumePoint{StoreId: "stub"}}})
	if err == nil {
		_, err = s.Recv()
	}
	return err
}

func toldWhen(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok && r.GetRetryDelay().AsDuration() > 0 {
			return true
		}
	}
	return false
}

// Somebody who waits for a place when the server shuts down is told so at once.
func TestDrainingEndsTheQueue(t *testing.T) {
	g := &gate{}
	st := &stub{snapshot: func(ctx context.Context, _ func(store.Entry) error) error { return g.pass(ctx) }}
	inBubble(t, st, nil, bucketsvc.Limits{Snapshots: 1}, func(b *bench) {
		g.open = make(chan struct{})
		ended := make(chan error, 2)
		for range 2 {
			go func() {
				s, err := b.rpc.WatchBuckets(b.Context(), &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{}})
				for err == nil {
					_, err = s.Recv()
				}
				ended <- err
			}()
		}
		synctest.Wait()
		began := time.Now()
		b.service.Drain()
		for range 2 {
			b.wantError(<-ended, codes.Unavailable, "DRAINING")
		}
		if took := time.Since(began); took != 0 {
			b.Errorf("draining took %s", took)
		}
	})
}

// covering answers GetStatus from a scan of the store, as the collector does.
type covering struct {
	noStatus
	store *swap
}

func (c covering) Datasets(ctx context.Context) ([]*bucketv1.DatasetStatus, error) {
	_, err := c.store.get().Coverage(ctx, store.Filter{}, 0)
	return nil, err
}

// A thousand streams, as many clients that asked for a snapshot and do not read
// it, and lists: whoever asks for the status or for health is answered at once.
func TestSmallCallsAreAnsweredBesideAThousandStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newSQLite(t)
		db.append(t, feedtest.T0, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)})
		for n := range 64 { // more than buffers and windows of flow control take
			b := feedtest.Bucket("http_5m", feedtest.Zone(0), n)
			b.Variant = strings.Repeat("x", 1<<15)
			db.append(t, feedtest.T0.Add(time.Hour), feedtest.Entry{Bucket: b})
		}
		db.progress(t, feedtest.T0.Add(time.Hour))
		p := startProcess(t, processConfig{store: db.store, status: covering{store: db.store}, feed: feed.Config{}, logger: testkit.Logger(t)})
		t.Cleanup(p.stop)
		connect := func() *grpc.ClientConn {
			conn, err := grpc.NewClient("passthrough:///crowd", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.listener.DialContext(ctx) }))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		open := func(rpc bucketv1.BucketServiceClient, age time.Duration) grpc.ServerStreamingClient[bucketv1.WatchBucketsResponse] {
			s, err := rpc.WatchBuckets(ctx, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(age)}}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		for range 5 {
			rpc := bucketv1.NewBucketServiceClient(connect())
			for range 200 {
				s := open(rpc, 0)
				for {
					m, err := s.Recv()
					if err != nil {
						t.Fatal(err)
					}
					if m.GetProgress() != nil {
						break
					}
				}
			}
		}
		for range 20 { // a connection each: their windows fill
			rpc := bucketv1.NewBucketServiceClient(connect())
			open(rpc, 24*time.Hour)
			if _, err := rpc.ListBuckets(ctx, &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: feedtest.T0.Add(time.Hour).Unix()}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := p.service.Streams(); n < 1030 { // 1,040, but for lists that have ended
			t.Fatalf("%d streams are open; want all of them", n)
		}
		conn := connect()
		began := time.Now()
		for range 20 {
			if _, err := bucketv1.NewBucketServiceClient(conn).GetStatus(ctx, &bucketv1.GetStatusRequest{}); err != nil {
				t.Fatal(err)
			}
			if _, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 { // virtual: it passes only while somebody waits
			t.Errorf("small calls waited for %s", took)
		}
	})
}
