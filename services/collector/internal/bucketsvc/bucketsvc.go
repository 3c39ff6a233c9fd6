// Package bucketsvc is the gRPC server of weir.bucket.v1.BucketService: the
// store's log and buckets, read only, from leader and standby alike (G6: no
// call reaches Cloudflare).
//
// A watch is a snapshot read in one transaction and sent as it is read, then a
// cursor of the feed that begins at the snapshot's head, so that nothing lies
// between them. Entries are sent as the bytes that the store holds; nothing is
// decoded on the way, except where a request asks for some families of a bucket
// only; what no reader could decode is sent as an entry without content. The server must be built with rawcodec.ServerOption.
//
// A stream ends with an error of one table, errors.go. No stream holds
// anything for a client that does not read: sending one message may take
// Limits.Stall, then the stream is cut, and with it the transaction of a
// snapshot, whose reader has to take Limits.Pace bytes in each Limits.Progress that
// it is waited for: a snapshot holds a place that others wait for.
package bucketsvc

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/internal/quiet"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Store is what the service reads of store.Store.
type Store interface {
	Head(ctx context.Context) (store.Head, error)
	Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error)
	List(ctx context.Context, q store.ListQuery, emit func(store.Entry) error) error
	Datasets(ctx context.Context) ([]store.Entry, error)
}

// StatusSource answers what is not in the log: who leads, which scopes there
// are, what is missing and why. It works from the store's records, on leader and
// standby alike. Lists may come in any order.
type StatusSource interface {
	Role() bucketv1.Role
	// Coverage of a range of windows; the zero window means from each horizon
	// to now. The time is the trusted time for which it was computed.
	Coverage(ctx context.Context, f store.Filter, w bucket.Window) ([]*bucketv1.Coverage, time.Time, error)
	Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error)
	// Named are the scopes whose stored buckets may bear one of the names.
	Named(ctx context.Context, zones []string) ([]bucket.Scope, error)
	Datasets(ctx context.Context) ([]*bucketv1.DatasetStatus, error)
	// Problems are conditions that an operator has to mend, in the order of the
	// contract.
	Problems(ctx context.Context) ([]*bucketv1.Problem, error)
}

// Limits bound what clients can take. Zero fields mean the default. Each kind of
// work has places of its own, so that none can take them all: whoever asks for
// the status finds a place however many streams, snapshots and lists there are.
type Limits struct {
	// Streams is the most WatchBuckets and ListBuckets calls at once. Default
	// 2,048. Another one is refused at once: streams stay.
	Streams int
	// Snapshots is the most snapshots being read at once. Default 4: each holds
	// one of the store's six scans, and two must be left for what is short.
	Snapshots int
	// Lists is the most ListBuckets and GetCoverage calls at work at once.
	// Default 8: they take a scan for a page at a time.
	Lists int
	// Calls is the most calls with one answer at once. Default 64.
	Calls int
	// Queue is how long a snapshot, a list or a call waits for a place before it
	// is refused. Default 15 s: a fleet of exposers that starts at once is served
	// one after the other, a snapshot that is not read ends within it (Progress), and
	// nobody waits for as long as the public client takes a silent stream for dead
	// (30 s).
	Queue time.Duration
	// Stall is how long a client may take to make room for one message. Default 30 s.
	Stall time.Duration
	// Progress is how long, all in all, a snapshot may wait for its reader to take
	// Pace bytes more; the store's own time does not count. Default 10 s.
	Progress time.Duration
	// Pace is how many bytes a snapshot's reader has to take in Progress. Default
	// 256 KiB: at less than that, a snapshot is not whole within Limits.Snapshot
	// unless it is small.
	Pace int
	// Snapshot bounds the transaction of one snapshot. Default 5 min.
	Snapshot time.Duration
	// Unary bounds calls with one answer, where the client sets no shorter
	// deadline; waiting for a place is included. Default 30 s.
	Unary time.Duration
	// Message is the largest single answer in bytes. Default 16 MiB, which is
	// what the public client accepts.
	Message int
}

// Config is what a [Server] works with.
type Config struct {
	Store  Store
	Feed   *feed.Feed // its Run is the caller's to call
	Status StatusSource
	// Unreadable is told of entries that cannot be read; nil: nobody is.
	Unreadable *unreadable.Register
	// Version is the release of this process, for GetStatus.
	Version string
	// Retention is how long the store keeps buckets; 0: not known, and no bound
	// on the age of what a snapshot holds.
	Retention time.Duration
	Limits    Limits
	Logger    *slog.Logger // nil: no logs
}

// Server implements bucketv1.BucketServiceServer.
type Server struct {
	bucketv1.UnimplementedBucketServiceServer
	c       Config
	log     *quiet.Log // clients can cause the same again and again
	streams atomic.Int64

	snapshots, lists, calls proc.Places

	summing proc.Places // one: whoever has it owns the next two
	summary []*bucketv1.DatasetStatus
	summed  time.Time // zero: not yet

	drainOnce sync.Once
	draining  chan struct{} // closed by Drain
}

// New returns a server for the configuration; the store, the feed and the
// status source are required.
func New(c Config) (*Server, error) {
	if c.Store == nil || c.Feed == nil || c.Status == nil {
		return nil, errors.New("bucket service: store, feed and status source are required")
	}
	l := &c.Limits
	if min(l.Streams, l.Snapshots, l.Lists, l.Calls, l.Message, l.Pace) < 0 || min(l.Queue, l.Stall, l.Progress, l.Snapshot, l.Unary, c.Retention) < 0 {
		return nil, errors.New("bucket service: no limit may be negative")
	}
	l.Streams = cmp.Or(l.Streams, 2048)
	l.Snapshots = cmp.Or(l.Snapshots, 4)
	l.Lists = cmp.Or(l.Lists, 8)
	l.Calls = cmp.Or(l.Calls, 64)
	l.Queue = cmp.Or(l.Queue, 15*time.Second)
	l.Stall = cmp.Or(l.Stall, 30*time.Second)
	l.Progress = cmp.Or(l.Progress, 10*time.Second)
	l.Pace = cmp.Or(l.Pace, 256<<10)
	l.Snapshot = cmp.Or(l.Snapshot, 5*time.Minute)
	l.Unary = cmp.Or(l.Unary, 30*time.Second)
	l.Message = cmp.Or(l.Message, 16<<20)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		c: c, log: quiet.New(c.Logger, time.Minute), draining: make(chan struct{}),
		snapshots: make(proc.Places, l.Snapshots), lists: make(proc.Places, l.Lists), calls: make(proc.Places, l.Calls),
		summing: make(proc.Places, 1),
	}, nil
}

// Drain ends every stream with DRAINING and refuses new ones, so that clients
// move to another collector before the connection closes under them. It does
// not wait; the gRPC server's graceful stop does.
func (s *Server) Drain() { s.drainOnce.Do(func() { close(s.draining) }) }

// Streams is the number of streams open now, for metrics.
func (s *Server) Streams() int { return int(s.streams.Load()) }

// admit takes one place among the streams; release gives it back.
func (s *Server) admit() (release func(), err error) {
	select {
	case <-s.draining:
		return nil, errDraining
	default:
	}
	if n := s.streams.Add(1); n > int64(s.c.Limits.Streams) {
		s.streams.Add(-1)
		return nil, errTooManyStreams
	}
	return func() { s.streams.Add(-1) }, nil
}

// enter takes a place, and waits for one no longer than the queue allows; full is
// the error then. The caller leaves the place.
func (s *Server) enter(ctx context.Context, places proc.Places, full error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.c.Limits.Queue, full)
	defer cancel()
	return places.Enter(ctx)
}

// info describes the store to readers.
func (s *Server) info(set store.Settings) *bucketv1.StoreInfo {
	i := &bucketv1.StoreInfo{StoreId: set.StoreID, Simulated: set.Simulated}
	switch set.SampleTimestamp {
	case "end":
		i.SampleTimestamp = bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_END
	case "start":
		i.SampleTimestamp = bucketv1.SampleTimestamp_SAMPLE_TIMESTAMP_START
	}
	if s.c.Retention > 0 {
		i.Retention = durationpb.New(s.c.Retention)
	}
	return i
}

// fits refuses an answer that a client could not take.
func (s *Server) fits(m proto.Message) error {
	if n := proto.Size(m); n > s.c.Limits.Message {
		return badRequest("filter: the answer would have %d bytes, more than the %d that one message may have; ask for fewer datasets, scopes or windows", n, s.c.Limits.Message)
	}
	return nil
}
