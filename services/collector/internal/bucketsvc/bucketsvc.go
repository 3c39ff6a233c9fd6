// Package bucketsvc is the gRPC server of weir.bucket.v1.BucketService: the store's
// log and buckets, read-only, from leader and standby alike (G6: no call reaches
// Cloudflare).
//
// A watch is a snapshot, read in one transaction and sent while it is read, followed
// by a cursor of the feed that starts at the snapshot's head, so that there is no gap
// between them. Entries are sent as the bytes in the store, without decoding, unless a
// request selects some families of a bucket. An entry that no reader could decode is
// sent without content. The server must be built with rawcodec.ServerOption.
//
// The errors that end a stream are in one table, in errors.go. Clients that do not
// read are disconnected: sending one message may take Limits.Stall. The reader of a
// snapshot, which holds a transaction and counts against Limits.Snapshots, must also
// read Limits.Pace bytes in each Limits.Progress of waiting.
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
	Unserved(ctx context.Context, f store.Filter, since bucket.Time, age time.Duration) ([]store.Run, error)
	Datasets(ctx context.Context) ([]store.Entry, error)
	Records(ctx context.Context, kind string) ([]store.Record, error)
}

// StatusSource provides what is not in the log: who leads, the scopes, what is missing
// and why. It reads the store's records, on leader and standby alike. Lists may be in
// any order.
type StatusSource interface {
	Role() bucketv1.Role
	// Coverage of a range of windows; the zero window means from each horizon
	// to now. The time is the trusted time for which it was computed.
	Coverage(ctx context.Context, f store.Filter, w bucket.Window) ([]*bucketv1.Coverage, time.Time, error)
	Scopes(ctx context.Context) ([]*bucketv1.ScopeInfo, error)
	// Named returns the scopes whose stored buckets may have one of the zone labels.
	Named(ctx context.Context, zones []string) ([]bucket.Scope, error)
	Datasets(ctx context.Context) ([]*bucketv1.DatasetStatus, error)
	// Problems are conditions that an operator must resolve, in the order that the
	// API defines.
	Problems(ctx context.Context) ([]*bucketv1.Problem, error)
}

// Limits limit concurrent calls and slow clients. Zero fields mean the default. Each
// kind of call has its own limit, so that GetStatus works however many streams,
// snapshots and lists there are.
type Limits struct {
	// Streams is the maximum number of concurrent WatchBuckets and ListBuckets
	// calls. Default 2,048. Further calls are rejected at once, because streams last.
	Streams int
	// Snapshots is the maximum number of concurrent snapshots. Default 4: each
	// holds one of the store's six scans, and two must be left for short reads.
	Snapshots int
	// Lists is the maximum number of concurrent ListBuckets and GetCoverage calls.
	// Default 8: they hold a scan for one page at a time.
	Lists int
	// Calls is the maximum number of concurrent unary calls. Default 64.
	Calls int
	// Queue is how long a snapshot, a list or a unary call waits for its turn before
	// it is rejected. Default 15 s: exposers that start together are served one after
	// another, a snapshot that is not read ends in less (Progress), and it is shorter
	// than the time after which the public client considers a stream dead (30 s).
	Queue time.Duration
	// Stall is how long a client may take to read one message. Default 30 s.
	Stall time.Duration
	// Progress is how long, in total, a snapshot may wait for its reader to read the
	// next Pace bytes; time spent in the store does not count. Default 10 s.
	Progress time.Duration
	// Pace is how many bytes the reader of a snapshot must read in Progress. Default
	// 256 KiB: at a lower rate only a small snapshot completes within Snapshot.
	Pace int
	// Snapshot is the timeout of the transaction of one snapshot. Default 5 min.
	Snapshot time.Duration
	// Unary is the timeout of unary calls, including Queue, unless the client sets a
	// shorter deadline. Default 30 s.
	Unary time.Duration
	// Epoch is the interval at which a stream of counters looks for a new epoch. Default
	// 10 s: readers hide what a new epoch counts for longer than that.
	Epoch time.Duration
	// Message is the maximum size of a unary response in bytes. Default 16 MiB,
	// which is what the public client accepts.
	Message int
}

// Config configures a [Server].
type Config struct {
	Store  Store
	Feed   *feed.Feed // the caller runs it
	Status StatusSource
	// Unreadable collects entries that cannot be read; may be nil.
	Unreadable *unreadable.Register
	// Version is the release of this process, for GetStatus.
	Version string
	// Retention is how long the store keeps buckets; 0: unknown, and no limit on the
	// age of a snapshot's buckets.
	Retention time.Duration
	Limits    Limits
	Logger    *slog.Logger // nil: no logs
}

// Server implements bucketv1.BucketServiceServer.
type Server struct {
	bucketv1.UnimplementedBucketServiceServer
	c       Config
	log     *quiet.Log // clients can cause the same message repeatedly
	streams atomic.Int64

	snapshots, lists, calls proc.Semaphore

	summing proc.Semaphore // size 1; guards the next two
	summary []*bucketv1.DatasetStatus
	summed  time.Time // when summary was read; zero: not yet

	epochMu   sync.Mutex
	epoch     string    // of counters; empty: not known
	epochRead time.Time // when it was read

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
	if min(l.Streams, l.Snapshots, l.Lists, l.Calls, l.Message, l.Pace) < 0 || min(l.Queue, l.Stall, l.Progress, l.Snapshot, l.Unary, l.Epoch, c.Retention) < 0 {
		return nil, errors.New("bucket service: limits must not be negative")
	}
	l.Streams = cmp.Or(l.Streams, 2048)
	l.Snapshots = cmp.Or(l.Snapshots, 4)
	l.Lists = cmp.Or(l.Lists, 8)
	l.Calls = cmp.Or(l.Calls, 64)
	l.Queue = cmp.Or(l.Queue, 15*time.Second)
	l.Epoch = cmp.Or(l.Epoch, 10*time.Second)
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
		snapshots: make(proc.Semaphore, l.Snapshots), lists: make(proc.Semaphore, l.Lists), calls: make(proc.Semaphore, l.Calls),
		summing: make(proc.Semaphore, 1),
	}, nil
}

// Drain ends every stream with DRAINING and rejects new ones, so that clients move to
// another collector before the connection closes. It does not wait; the gRPC server's
// graceful stop does.
func (s *Server) Drain() { s.drainOnce.Do(func() { close(s.draining) }) }

// Streams is the number of open streams, for metrics.
func (s *Server) Streams() int { return int(s.streams.Load()) }

// admit counts a stream against the limit; release ends that.
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

// acquire waits for a slot for up to Limits.Queue, and then returns the error full.
// The caller calls Release.
func (s *Server) acquire(ctx context.Context, slots proc.Semaphore, full error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.c.Limits.Queue, full)
	defer cancel()
	return slots.Acquire(ctx)
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

// fits rejects a response that exceeds the maximum message size.
func (s *Server) fits(m proto.Message) error {
	if n := proto.Size(m); n > s.c.Limits.Message {
		return badRequest("filter: the response has %d bytes and exceeds the maximum message size of %d; request fewer datasets, scopes or windows", n, s.c.Limits.Message)
	}
	return nil
}
