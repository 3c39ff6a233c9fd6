// Package bucketsvc is the gRPC server of weir.bucket.v1.BucketService: the
// store's log and buckets, read only, from leader and standby alike (G6: no
// call reaches Cloudflare).
//
// A watch is a snapshot read in one transaction and sent as it is read, then a
// cursor of the feed that begins at the snapshot's head, so that nothing lies
// between them. Entries are sent as the bytes that the store holds; nothing is
// decoded on the way, except where a request asks for some families of a bucket
// only. The server must be built with rawcodec.ServerOption.
//
// A stream ends with an error of one table, errors.go. No stream holds
// anything for a client that does not read: sending one message may take
// Limits.Stall, then the stream is cut, and with it the transaction of a
// snapshot.
package bucketsvc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
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
	Datasets(ctx context.Context) ([]*bucketv1.DatasetStatus, error)
}

// Limits bound what clients can take. Zero fields mean the default.
type Limits struct {
	// Streams is the most WatchBuckets and ListBuckets calls at once. Default 512.
	Streams int
	// Stall is how long a client may take to make room for one message. Default 1 min.
	Stall time.Duration
	// Snapshot bounds the transaction of one snapshot. Default 5 min.
	Snapshot time.Duration
	// Unary bounds calls with one answer, where the client sets no shorter
	// deadline. Default 30 s.
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
	// Version is the release of this process, for GetStatus.
	Version string
	// Retention is how long the store keeps buckets; 0: not known, and no limit
	// on the age of a snapshot.
	Retention time.Duration
	Limits    Limits
	Logger    *slog.Logger // nil: no logs
}

// Server implements bucketv1.BucketServiceServer.
type Server struct {
	bucketv1.UnimplementedBucketServiceServer
	c       Config
	log     *slog.Logger
	streams atomic.Int64

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
	if l.Streams < 0 || l.Message < 0 || l.Stall < 0 || l.Snapshot < 0 || l.Unary < 0 || c.Retention < 0 {
		return nil, errors.New("bucket service: no limit may be negative")
	}
	setDefault(&l.Streams, 512)
	setDefault(&l.Stall, time.Minute)
	setDefault(&l.Snapshot, 5*time.Minute)
	setDefault(&l.Unary, 30*time.Second)
	setDefault(&l.Message, 16<<20)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{c: c, log: c.Logger, draining: make(chan struct{})}, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
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
