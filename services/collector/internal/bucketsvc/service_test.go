package bucketsvc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/grpcserver"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
)

// stub is a store that does what a test says; the exam has the real one. A nil
// function answers with nothing.
type stub struct {
	head     func(context.Context) (store.Head, error)
	snapshot func(context.Context, func(store.Entry) error) error
	asked    store.SnapshotQuery // the last one
	list     func(context.Context, func(store.Entry) error) error
	unserved []store.Run
}

func (s *stub) Head(ctx context.Context) (store.Head, error) {
	if s.head != nil {
		return s.head(ctx)
	}
	return store.Head{Settings: store.Settings{StoreID: "stub", SampleTimestamp: "start", Simulated: true}, Holder: "somebody"}, nil
}

func (s *stub) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error) {
	s.asked = q
	if s.snapshot != nil {
		if err := s.snapshot(ctx, emit); err != nil {
			return store.Head{}, err
		}
	}
	return s.Head(ctx)
}

func (s *stub) List(ctx context.Context, _ store.ListQuery, emit func(store.Entry) error) error {
	if s.list != nil {
		return s.list(ctx, emit)
	}
	return nil
}

func (s *stub) Unserved(context.Context, store.Filter, bucket.Time, time.Duration) ([]store.Run, error) {
	return s.unserved, nil
}

func (*stub) Records(context.Context, string) ([]store.Record, error) { return nil, nil }

func (s *stub) Datasets(context.Context) ([]store.Entry, error) { return nil, nil }
func (s *stub) ReadLog(context.Context, bucket.Revision, int) ([]store.Entry, error) {
	return nil, nil
}

func (s *stub) ChainAt(context.Context, bucket.Revision) (bucket.Chain, error) {
	return bucket.Chain{}, nil
}
func (s *stub) Wake() <-chan struct{} { return nil }

// scopes is a status source with something to say about scopes.
type scopes struct {
	noStatus
	list func(context.Context) ([]*bucketv1.ScopeInfo, error)
}

func (s scopes) Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error) { return s.list(ctx) }

type bench struct {
	*testing.T
	rpc     bucketv1.BucketServiceClient
	service *bucketsvc.Server
	logs    *testkit.Logs
}

// inBubble serves the stub in virtual time.
func inBubble(t *testing.T, st *stub, status bucketsvc.StatusSource, limits bucketsvc.Limits, run func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		logger, logs := testkit.RecordingLogger(t)
		f := feed.New(feed.Config{Source: st})
		if status == nil {
			status = noStatus{}
		}
		service, err := bucketsvc.New(bucketsvc.Config{Store: st, Feed: f, Status: status, Limits: limits, Logger: logger, Retention: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		server, err := grpcserver.New(grpcserver.Config{
			Logger: logger, OnDrain: service.Drain,
			Register: func(s grpc.ServiceRegistrar) { bucketv1.RegisterBucketServiceServer(s, service) },
		})
		if err != nil {
			t.Fatal(err)
		}
		l := bufconn.Listen(1 << 10)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- f.Run(ctx) }()
		go func() { ended <- server.Run(ctx, l) }()
		conn, err := grpc.NewClient("passthrough:///stub",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := conn.Close(); err != nil {
				t.Errorf("close the connection: %v", err)
			}
			cancel()
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
		run(&bench{T: t, rpc: bucketv1.NewBucketServiceClient(conn), service: service, logs: logs})
	})
}

func (b *bench) wantError(err error, code codes.Code, reason string) {
	b.Helper()
	if status.Code(err) != code || client.Reason(err) != reason {
		b.Fatalf("error is %v (reason %q); want code %s, reason %q", err, client.Reason(err), code, reason)
	}
}

// What nobody foresaw is INTERNAL with an id; the text, which may name hosts and
// tables, is in the log under the same id and nowhere else.
func TestUnknownErrorsStayInTheLog(t *testing.T) {
	st := &stub{head: func(context.Context) (store.Head, error) {
		return store.Head{}, errors.New("relation secret_table on 10.1.2.3 does not exist")
	}}
	inBubble(t, st, nil, bucketsvc.Limits{}, func(b *bench) {
		_, err := b.rpc.GetStatus(b.Context(), &bucketv1.GetStatusRequest{})
		b.wantError(err, codes.Internal, "INTERNAL")
		text := status.Convert(err).Message()
		if strings.Contains(text, "secret_table") || strings.Contains(text, "10.1.2.3") {
			b.Errorf("the client was told %q", text)
		}
		id := regexp.MustCompile(`[0-9a-f]{12}`).FindString(text)
		if id == "" || b.logs.Count(id) == 0 {
			b.Fatalf("the id in %q is not in the log:\n%s", text, b.logs)
		}
		if !strings.Contains(b.logs.String(), "secret_table") {
			b.Errorf("the log does not have the whole error:\n%s", b.logs)
		}
	})
}

// Clients that ask again and again for what they do not get are a few lines, from
// which their number can be told.
func TestRefusedCallsDoNotFillTheLog(t *testing.T) {
	for name, c := range map[string]struct {
		head  error
		asks  func(b *bench) error
		first string // what the log has of the first
	}{
		"a malformed request": {nil, func(b *bench) error {
			_, err := b.rpc.GetCoverage(b.Context(), &bucketv1.GetCoverageRequest{StartUnixSeconds: 2, EndUnixSeconds: 1})
			return err
		}, "level=INFO msg=\"request rejected\""},
		"a failure of ours": {errors.New("odd"), func(b *bench) error {
			_, err := b.rpc.GetStatus(b.Context(), &bucketv1.GetStatusRequest{})
			return err
		}, "level=ERROR msg=\"call failed\""},
		"a database that is away": {store.ErrUnavailable, func(b *bench) error {
			_, err := b.rpc.GetStatus(b.Context(), &bucketv1.GetStatusRequest{})
			return err
		}, ""}, // the feed tells it
	} {
		t.Run(name, func(t *testing.T) {
			st := &stub{head: func(context.Context) (store.Head, error) { return store.Head{}, c.head }}
			inBubble(t, st, nil, bucketsvc.Limits{}, func(b *bench) {
				const calls = 1000
				for range calls {
					if err := c.asks(b); err == nil {
						b.Fatal("no error")
					}
				}
				time.Sleep(2 * time.Minute)
				loud := 0
				for line := range strings.Lines(b.logs.String()) {
					if !strings.Contains(line, "level=DEBUG") && !strings.Contains(line, "store is unavailable") && !strings.Contains(line, "serving gRPC") {
						loud++
					}
				}
				if c.first == "" && loud != 0 || c.first != "" && (loud != 2 || b.logs.Count(c.first) != 2 || b.logs.Count(" times=999") != 1) {
					b.Errorf("%d lines above debug for %d calls, %d of them %s", loud, calls, b.logs.Count(c.first), c.first)
				}
			})
		})
	}
}

// Named errors keep their text from the client too.
func TestStoreErrorsHideTheirText(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		code   codes.Code
		reason string
	}{
		"away":     {fmt.Errorf("dial 10.1.2.3: %w", store.ErrUnavailable), codes.Unavailable, "STORE_UNAVAILABLE"},
		"too slow": {fmt.Errorf("query on 10.1.2.3: %w", context.DeadlineExceeded), codes.Unavailable, "STORE_UNAVAILABLE"},
		"dropped":  {fmt.Errorf("partition at 10.1.2.3: %w", store.ErrCompacted), codes.OutOfRange, "COMPACTED"},
	} {
		t.Run(name, func(t *testing.T) {
			st := &stub{list: func(context.Context, func(store.Entry) error) error { return c.err }}
			inBubble(t, st, nil, bucketsvc.Limits{}, func(b *bench) {
				s, err := b.rpc.ListBuckets(b.Context(), &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: 300})
				if err == nil {
					_, err = s.Recv()
				}
				b.wantError(err, c.code, c.reason)
				if strings.Contains(err.Error(), "10.1.2.3") {
					b.Errorf("the client was told %v", err)
				}
			})
		})
	}
}

func TestStatusDescribesTheStore(t *testing.T) {
	inBubble(t, &stub{}, nil, bucketsvc.Limits{}, func(b *bench) {
		r, err := b.rpc.GetStatus(b.Context(), &bucketv1.GetStatusRequest{})
		if err != nil {
			b.Fatal(err)
		}
		i := r.GetInfo()
		if !i.GetSimulated() || i.GetSampleTimestamp() != bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START || i.GetRetention().AsDuration() != 24*time.Hour {
			b.Errorf("info is %v", i)
		}
		if r.GetLeader() != "" {
			b.Errorf("leader is %q, whose lease has expired; want none", r.GetLeader())
		}
	})
}

func TestStreamsAreLimited(t *testing.T) {
	inBubble(t, &stub{}, nil, bucketsvc.Limits{Streams: 2}, func(b *bench) {
		watch := func() (context.CancelFunc, error) {
			ctx, cancel := context.WithCancel(b.Context())
			s, err := b.rpc.WatchBuckets(ctx, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{}})
			if err == nil {
				_, err = s.Recv()
			}
			return cancel, err
		}
		leave, err := watch()
		if err != nil {
			b.Fatal(err)
		}
		stay, err := watch()
		if err != nil {
			b.Fatal(err)
		}
		defer stay()
		none, err := watch()
		none()
		b.wantError(err, codes.ResourceExhausted, "TOO_MANY_STREAMS")
		leave()
		synctest.Wait()
		again, err := watch()
		if err != nil {
			b.Fatalf("a place was not given back: %v", err)
		}
		again()
		synctest.Wait()
		if n := b.service.Streams(); n != 1 {
			b.Errorf("%d streams are open; want 1", n)
		}
	})
}

// A client that stops reading in the middle of a snapshot must not keep the
// transaction open.
func TestClientThatDoesNotReadIsCut(t *testing.T) {
	var released chan time.Time // made in the bubble
	var began time.Time
	large := feedtest.Bucket("http_5m", feedtest.Zone(1), 0)
	large.Variant = strings.Repeat("x", 1<<16)
	payload := wire.EncodeBucket(large)
	st := &stub{snapshot: func(ctx context.Context, emit func(store.Entry) error) error {
		began = time.Now()
		defer func() { released <- time.Now() }()
		for { // more than any window of flow control
			if err := emit(store.Entry{NewEntry: store.NewEntry{Kind: bucket.KindBucket, Payload: payload}}); err != nil {
				return err
			}
		}
	}}
	inBubble(t, st, nil, bucketsvc.Limits{Stall: 20 * time.Second}, func(b *bench) {
		released = make(chan time.Time, 1)
		s, err := b.rpc.WatchBuckets(b.Context(), &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{}})
		if err != nil {
			b.Fatal(err)
		}
		end := <-released
		if took := end.Sub(began); took != 10*time.Second {
			b.Errorf("the snapshot was held open for %s; want 10 s", took)
		}
		for err == nil { // what was in flight, then the reason
			_, err = s.Recv()
		}
		b.wantError(err, codes.ResourceExhausted, "SLOW_READER")
		synctest.Wait()
		if n := b.service.Streams(); n != 0 {
			b.Errorf("%d streams are open; want none", n)
		}
	})
}

func TestSnapshotHasABound(t *testing.T) {
	st := &stub{snapshot: func(ctx context.Context, _ func(store.Entry) error) error {
		<-ctx.Done()
		return fmt.Errorf("snapshot: %w", ctx.Err())
	}}
	inBubble(t, st, nil, bucketsvc.Limits{Snapshot: time.Minute}, func(b *bench) {
		s, err := b.rpc.WatchBuckets(b.Context(), &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{}})
		for err == nil {
			_, err = s.Recv()
		}
		b.wantError(err, codes.Unavailable, "STORE_UNAVAILABLE")
	})
}

func TestPanicsAreAnswers(t *testing.T) {
	st := &stub{list: func(context.Context, func(store.Entry) error) error { panic("in a stream") }}
	src := scopes{list: func(context.Context) ([]*bucketv1.ScopeInfo, error) { panic("in a call") }}
	inBubble(t, st, src, bucketsvc.Limits{}, func(b *bench) {
		_, err := b.rpc.ListScopes(b.Context(), &bucketv1.ListScopesRequest{})
		b.wantError(err, codes.Internal, "INTERNAL")
		s, err := b.rpc.ListBuckets(b.Context(), &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: 300})
		if err == nil {
			_, err = s.Recv()
		}
		b.wantError(err, codes.Internal, "INTERNAL")
		if strings.Contains(err.Error(), "in a stream") || b.logs.Count("in a stream") == 0 {
			b.Errorf("the panic belongs into the log, not to the client: %v", err)
		}
		if _, err := b.rpc.GetStatus(b.Context(), &bucketv1.GetStatusRequest{}); err != nil {
			b.Errorf("the server does not answer any more: %v", err)
		}
		if n := b.service.Streams(); n != 0 {
			b.Errorf("%d streams are open; want none", n)
		}
	})
}

func TestClientsDeadlineIsTheirs(t *testing.T) {
	src := scopes{list: func(ctx context.Context) ([]*bucketv1.ScopeInfo, error) { <-ctx.Done(); return nil, ctx.Err() }}
	inBubble(t, &stub{}, src, bucketsvc.Limits{Unary: 10 * time.Second}, func(b *bench) {
		ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
		defer cancel()
		_, err := b.rpc.ListScopes(ctx, &bucketv1.ListScopesRequest{})
		b.wantError(err, codes.DeadlineExceeded, "")
		_, err = b.rpc.ListScopes(b.Context(), &bucketv1.ListScopesRequest{})
		b.wantError(err, codes.Unavailable, "STORE_UNAVAILABLE")
	})
}

func TestAnswersAreBoundedAndSorted(t *testing.T) {
	src := scopes{list: func(context.Context) ([]*bucketv1.ScopeInfo, error) {
		return []*bucketv1.ScopeInfo{
			{Scope: &bucketv1.Scope{Kind: 2, Id: "a"}}, {Scope: &bucketv1.Scope{Kind: 1, Id: "c"}}, {Scope: &bucketv1.Scope{Kind: 1, Id: "b"}},
		}, nil
	}}
	inBubble(t, &stub{}, src, bucketsvc.Limits{}, func(b *bench) {
		r, err := b.rpc.ListScopes(b.Context(), &bucketv1.ListScopesRequest{})
		if err != nil {
			b.Fatal(err)
		}
		order := ""
		for _, s := range r.GetScopes() {
			order += s.GetScope().GetId()
		}
		if order != "bca" {
			b.Errorf("scopes come in the order %q; want kind, then id", order)
		}
	})
	inBubble(t, &stub{}, src, bucketsvc.Limits{Message: 10}, func(b *bench) {
		_, err := b.rpc.ListScopes(b.Context(), &bucketv1.ListScopesRequest{})
		b.wantError(err, codes.InvalidArgument, "BAD_REQUEST")
	})
}

// A reader that wants more than is kept gets all that is kept: the exposer's
// replay and the collector's retention are settings of two people.
func TestSnapshotAgeIsBoundedByRetention(t *testing.T) {
	const retention = 24 * time.Hour // of the bubble's service
	head := store.Head{Settings: store.Settings{StoreID: "stub"}, ProgressAt: feedtest.T0}
	st := &stub{head: func(context.Context) (store.Head, error) { return head, nil }}
	inBubble(t, st, nil, bucketsvc.Limits{}, func(b *bench) {
		for age, want := range map[time.Duration]time.Duration{time.Hour: time.Hour, retention: retention, retention + 1: retention, math.MaxInt64: retention} {
			s, err := b.rpc.WatchBuckets(b.Context(), &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{
				Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(age)},
			}})
			for err == nil {
				var m *bucketv1.WatchBucketsResponse
				if m, err = s.Recv(); m.GetSnapshotEnd() != nil {
					break
				}
			}
			if err != nil {
				b.Errorf("a snapshot of %s: %v", age, err)
			} else if got := feedtest.T0.Sub(st.asked.Since.Std()); got != want {
				b.Errorf("a snapshot of %s reaches back %s; want %s", age, got, want)
			}
		}
	})
}

// summaries is a status source that counts how often it is asked for datasets.
type summaries struct {
	noStatus
	asked int
}

func (s *summaries) Datasets(context.Context) ([]*bucketv1.DatasetStatus, error) {
	s.asked++
	time.Sleep(time.Second) // it reads a lot
	return []*bucketv1.DatasetStatus{{Dataset: "d", WindowsMissing: uint64(s.asked)}}, nil
}

// Many who ask for the status at once, and often, do not make the store read
// all coverage as often.
func TestStatusIsSummedUpOnce(t *testing.T) {
	source := &summaries{}
	inBubble(t, &stub{}, source, bucketsvc.Limits{}, func(b *bench) {
		ask := func() uint64 {
			r, err := b.rpc.GetStatus(b.Context(), &bucketv1.GetStatusRequest{})
			if err != nil {
				b.Error(err)
				return 0
			}
			return r.GetDatasets()[0].GetWindowsMissing()
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { ask() })
		}
		all.Wait()
		if source.asked != 1 {
			b.Errorf("50 calls at once summed up %d times; want once", source.asked)
		}
		time.Sleep(10 * time.Second)
		if got := ask(); got != 2 {
			b.Errorf("ten seconds later the answer is that of reading %d; want a new one", got)
		}
	})
}

// The stored bytes are what is sent, also where this release does not know
// everything that is in them.
func TestPayloadsPassUnread(t *testing.T) {
	known := feedtest.Bucket("d", feedtest.Zone(1), 0)
	unknown := []byte{0xf8, 0x07, 0x2a} // field 127
	payload := append(wire.EncodeBucket(known), unknown...)
	st := &stub{list: func(_ context.Context, emit func(store.Entry) error) error {
		return emit(store.Entry{NewEntry: store.NewEntry{Kind: bucket.KindBucket, Key: known.Key, Payload: payload}})
	}}
	inBubble(t, st, nil, bucketsvc.Limits{}, func(b *bench) {
		s, err := b.rpc.ListBuckets(b.Context(), &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: 300})
		if err != nil {
			b.Fatal(err)
		}
		m, err := s.Recv()
		if err != nil {
			b.Fatal(err)
		}
		if got := m.GetEntry().GetBucket().ProtoReflect().GetUnknown(); string(got) != string(unknown) {
			b.Errorf("the unknown field arrived as %x", got)
		}
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			b.Errorf("the list ends with %v; want EOF", err)
		}
	})
}
