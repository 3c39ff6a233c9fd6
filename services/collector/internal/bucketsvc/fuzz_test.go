package bucketsvc

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/rawcodec"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// FuzzRequests sends whatever is a message to every method: the answer is one
// that the contract knows, with a reason, and never INTERNAL or a panic.
func FuzzRequests(f *testing.F) {
	add := func(call byte, m proto.Message) {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(call, b)
	}
	zone := wire.ProtoScope(feedtest.Zone(1))
	for _, filter := range []*bucketv1.Filter{nil, {Datasets: []string{"http_5m"}, Scopes: []*bucketv1.Scope{zone}}, {Datasets: []string{"HTTP"}}, {Scopes: []*bucketv1.Scope{{Kind: 7, Id: "x"}}}} {
		add(0, &bucketv1.WatchBucketsRequest{Filter: filter, Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(time.Hour), MaxWindows: 3}}})
		add(0, &bucketv1.WatchBucketsRequest{Filter: filter, Start: &bucketv1.WatchBucketsRequest_Resume{Resume: wire.ResumePoint("still", bucket.Position{})}})
		add(1, &bucketv1.ListBucketsRequest{Filter: filter, StartUnixSeconds: 0, EndUnixSeconds: 300, Families: []string{"a"}})
		add(2, &bucketv1.GetCoverageRequest{Filter: filter, StartUnixSeconds: 300, EndUnixSeconds: 600})
	}
	add(0, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{Resume: &bucketv1.ResumePoint{StoreId: "still", Revision: 1 << 63, Chain: make([]byte, 16)}}})
	add(0, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{MaxAge: &durationpb.Duration{Seconds: -1, Nanos: 1}, MaxWindows: 1 << 31}}})
	add(1, &bucketv1.ListBucketsRequest{StartUnixSeconds: -1, EndUnixSeconds: 1 << 62, PageToken: "AQ"})
	add(3, &bucketv1.ListDatasetsRequest{})

	st := still{}
	fd := feed.New(feed.Config{Source: st, Poll: time.Hour, Catchup: time.Nanosecond})
	s, err := New(Config{Store: st, Feed: fd, Status: stillStatus{st}, Retention: 24 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	go func() { _ = fd.Run(f.Context()) }()
	for fd.Stats().Entries == 0 && fd.Stats().Progress.IsZero() {
		time.Sleep(time.Millisecond) // until the feed has seen its store
	}
	f.Fuzz(func(t *testing.T, call byte, request []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ss := &sink{t: t, ctx: ctx, cancel: cancel}
		var err error
		switch call % 6 {
		case 0:
			var m bucketv1.WatchBucketsRequest
			if proto.Unmarshal(request, &m) != nil {
				return
			}
			err = s.WatchBuckets(&m, &watching{sink: ss})
			if err == nil {
				t.Fatal("a watch ended by itself")
			}
		case 1:
			var m bucketv1.ListBucketsRequest
			if proto.Unmarshal(request, &m) != nil {
				return
			}
			err = s.ListBuckets(&m, &listing{sink: ss})
		case 2:
			var m bucketv1.GetCoverageRequest
			if proto.Unmarshal(request, &m) != nil {
				return
			}
			_, err = s.GetCoverage(ctx, &m)
		case 3:
			_, err = s.ListDatasets(ctx, &bucketv1.ListDatasetsRequest{})
		case 4:
			_, err = s.ListScopes(ctx, &bucketv1.ListScopesRequest{})
		default:
			_, err = s.GetStatus(ctx, &bucketv1.GetStatusRequest{})
		}
		switch code := status.Code(err); {
		case code == codes.OK, ss.enough && code == codes.Canceled:
		case code == codes.Internal, code == codes.Unknown, client.Reason(err) == "":
			t.Fatalf("the answer is %v (reason %q)", err, client.Reason(err))
		}
	})
}

// still is a store with one bucket in which nothing happens.
type still struct{}

func (still) entry() store.Entry {
	b := feedtest.Bucket("http_5m", feedtest.Zone(1), 0)
	batch := store.Batch{CommittedAt: feedtest.T0, Entries: []store.NewEntry{{Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Payload: wire.EncodeBucket(b)}}}
	return store.Entry{Position: batch.Positions(bucket.Position{})[0], CommittedAt: feedtest.T0, NewEntry: batch.Entries[0]}
}

func (s still) Head(context.Context) (store.Head, error) {
	return store.Head{Settings: store.Settings{StoreID: "still", SampleTimestamp: "end"}, Position: s.entry().Position, CommittedAt: feedtest.T0, ProgressAt: feedtest.T0}, nil
}

func (s still) ReadLog(_ context.Context, after bucket.Revision, _ int) ([]store.Entry, error) {
	if after > 0 {
		return nil, nil
	}
	return []store.Entry{s.entry()}, nil
}

func (s still) ChainAt(_ context.Context, rev bucket.Revision) (bucket.Chain, error) {
	if rev > 1 {
		return bucket.Chain{}, store.ErrBeyondHead
	}
	return bucket.Chain{}, nil
}

func (s still) Snapshot(ctx context.Context, _ store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error) {
	if err := emit(s.entry()); err != nil {
		return store.Head{}, err
	}
	return s.Head(ctx)
}

func (s still) List(_ context.Context, _ store.ListQuery, emit func(store.Entry) error) error {
	return emit(s.entry())
}

func (still) Unserved(context.Context, store.Filter, bucket.Time, time.Duration) ([]store.Run, error) {
	return nil, nil
}
func (still) Datasets(context.Context) ([]store.Entry, error) { return nil, nil }
func (still) Wake() <-chan struct{}                           { return nil }
func (still) Role() bucketv1.Role                             { return bucketv1.Role_ROLE_STANDBY }
func (still) Scopes(context.Context) ([]*bucketv1.ScopeInfo, error) {
	return nil, nil
}

func (still) Coverage(context.Context, store.Filter, bucket.Window) ([]*bucketv1.Coverage, time.Time, error) {
	return nil, feedtest.T0, nil
}

// stillStatus is the status source beside it: both have a method Datasets.
func (still) Records(context.Context, string) ([]store.Record, error) { return nil, nil }

type stillStatus struct{ still }

func (stillStatus) Datasets(context.Context) ([]*bucketv1.DatasetStatus, error) { return nil, nil }
func (stillStatus) Named(context.Context, []string) ([]bucket.Scope, error)     { return nil, nil }
func (stillStatus) Problems(context.Context) ([]*bucketv1.Problem, error)       { return nil, nil }

// sink is the server's end of a stream, as far as the service uses it. It
// leaves when progress has come.
type sink struct {
	t      *testing.T
	ctx    context.Context
	cancel context.CancelFunc
	enough bool
}

func (s *sink) Context() context.Context     { return s.ctx }
func (s *sink) SetHeader(metadata.MD) error  { return nil }
func (s *sink) SendHeader(metadata.MD) error { return nil }
func (s *sink) SetTrailer(metadata.MD)       {}
func (s *sink) RecvMsg(any) error            { return nil }

// decode does what the client's end does with what was sent.
func (s *sink) decode(m any, into proto.Message) {
	b, ok := m.(rawcodec.Frame)
	if !ok {
		b, _ = proto.Marshal(m.(proto.Message)) // made by the generated code
	}
	if err := proto.Unmarshal(b, into); err != nil {
		s.t.Fatalf("%T was sent and is no message: %v", m, err)
	}
}

type watching struct{ *sink }

func (w *watching) Send(m *bucketv1.WatchBucketsResponse) error { return w.SendMsg(m) }
func (w *watching) SendMsg(m any) error {
	var got bucketv1.WatchBucketsResponse
	w.decode(m, &got)
	if got.GetProgress() != nil {
		w.enough = true
		w.cancel()
	}
	return nil
}

type listing struct{ *sink }

func (l *listing) Send(m *bucketv1.ListBucketsResponse) error { return l.SendMsg(m) }
func (l *listing) SendMsg(m any) error {
	var got bucketv1.ListBucketsResponse
	l.decode(m, &got)
	if got.GetEntry().GetBucket() == nil || got.GetPageToken() == "" {
		l.t.Fatalf("the list has %v", &got)
	}
	return nil
}
