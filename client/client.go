package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Handler receives what a [Follower] reads. All calls come in order from one
// goroutine, the one that called Run. A slow call delays the stream; if it takes too
// long, the server ends the stream (SLOW_READER).
//
// Messages belong to the handler; the follower keeps no reference.
type Handler interface {
	// SnapshotBegin begins a new view. The old view, if any, stays valid until
	// SnapshotEnd. Another SnapshotBegin discards an incomplete view.
	SnapshotBegin(info *bucketv1.StoreInfo)
	// Info is called when a stream was resumed: the current view continues.
	Info(info *bucketv1.StoreInfo)
	// Entry delivers one entry: inside a snapshot (dataset versions, then buckets
	// in ascending order of dataset, window start and scope; revisions do not
	// ascend) or live (revisions ascend). An entry of a kind that this release
	// does not know, or whose stored content cannot be read, has a nil Kind:
	// apply nothing and return nil. An error ends the stream; the view may then be
	// inconsistent, so a new snapshot follows after a pause.
	Entry(e *bucketv1.Entry) error
	// SnapshotEnd completes the view at point. progress is the time up to which
	// the view is complete, by the leader's clock; zero if no leader has reported
	// one yet.
	SnapshotEnd(point *bucketv1.ResumePoint, progress time.Time)
	// Progress means that every matching entry up to point has been delivered.
	// progress is zero while the stream catches up with the log.
	Progress(point *bucketv1.ResumePoint, progress time.Time)
	// Disconnected is called when a stream has ended, with the error and the time
	// until the next stream is opened. [Reason] returns the server's reason. It is
	// for metrics and logs.
	Disconnected(err error, retryIn time.Duration)
}

// LateHandler is implemented by a [Handler] that asks for late commits
// (SnapshotRequest.late_commits).
type LateHandler interface {
	// LateCommits delivers them at the end of a snapshot, right before SnapshotEnd.
	LateCommits(late []*bucketv1.LateCommit)
}

// CounterHandler is implemented by a [Handler] that follows counters
// ([Options.Counters]).
type CounterHandler interface {
	// CounterEpoch and CounterTotals deliver the totals between SnapshotBegin and
	// SnapshotEnd, after the dataset versions. The point of SnapshotEnd is the revision
	// of the totals: it may be lower than one that was applied before. An error is like
	// one of Entry; [ErrOtherRules] is not a fault of the stream.
	CounterEpoch(e *bucketv1.CounterEpoch) error
	CounterTotals(t *bucketv1.CounterTotals) error
	// Complete delivers the time before which all entries that were committed have been
	// delivered (Progress.complete_until), right before Progress; zero while the stream
	// catches up with the log.
	Complete(until time.Time)
}

// Backoff configures the pauses between streams. Zero fields mean the default. The
// caller configures the connection's own backoff: see the package comment.
type Backoff struct {
	// Min and Max are the first and the longest pause of the exponential backoff.
	// Jitter shortens each pause by up to half. Defaults 200 ms and 30 s.
	Min, Max time.Duration
	// Long is the pause after errors that repeat until someone intervenes: a
	// rejected credential, a malformed request. Default 1 min; at least Max.
	Long time.Duration
}

// Options configure a [Follower]. The zero value follows everything, starting with
// a snapshot without buckets.
type Options struct {
	// Filter selects datasets and scopes; nil: all.
	Filter *bucketv1.Filter
	// Snapshot is the content of snapshots; nil: dataset versions only. It is used
	// at the start, unless Resume is set, and whenever the reached point can no
	// longer be resumed.
	Snapshot *bucketv1.SnapshotRequest
	// Counters begins with the totals of counters instead of a snapshot, at the start and
	// whenever the reached point can no longer be resumed. The handler must be a
	// [CounterHandler], and Filter and Resume must be nil.
	Counters bool
	// CounterRules is the version of the rules by which the handler counts. A collector that
	// counts by others refuses the stream.
	CounterRules uint32
	// Resume is a saved point after which to continue; nil: start with a
	// snapshot.
	Resume *bucketv1.ResumePoint
	// Logger; nil: no logs.
	Logger *slog.Logger
	// Backoff bounds the pauses between streams.
	Backoff Backoff
	// Idle is how long the stream may be silent before it is considered dead;
	// 0: 30 s. It must exceed the server's progress interval (a few seconds) and
	// the time that the server's database takes to begin a snapshot.
	Idle time.Duration
	// Seed of the jitter; 0: a random one, so that followers that were
	// disconnected together do not reconnect together.
	Seed uint64
}

const (
	defaultMin  = 200 * time.Millisecond
	defaultMax  = 30 * time.Second
	defaultLong = time.Minute
	defaultIdle = 30 * time.Second

	// worksAfter is how long a stream must have delivered, in minimum pauses,
	// before its end resets the backoff. So a server that accepts streams and then
	// drops them gets at most one request per 10 × Backoff.Min, pause included.
	worksAfter = 10

	// maxMessage is the maximum message size. A bucket with every family at its
	// cardinality limit is far below it, but too close to gRPC's default of 4 MiB.
	maxMessage = 16 << 20
)

// Follower keeps a [Handler] in step with a collector. Use [New]; run it once.
type Follower struct {
	rpc  bucketv1.BucketServiceClient
	opts Options
	used atomic.Bool
	wait pauses

	// The rest is owned by Run.
	at     position
	tell   endLog
	jumped bool      // the last stream was opened without a pause
	since  time.Time // when the current stream first delivered something; zero before
}

// position is the follower's knowledge of its handler's view.
type position struct {
	// point is the last applied point; nil before the first complete view.
	point *bucketv1.ResumePoint
	// snapshot: the next stream must begin with a snapshot.
	snapshot bool
	// broken: the handler's view may differ from point. Then point must not be
	// resumed from, but a snapshot must still not be older than it.
	broken bool
	// epoch is that of counters; empty without any.
	epoch string
	// foreign: a server has reported that point is not of its history, so a lower
	// revision is no step back.
	foreign bool
}

// New returns a follower that opens its streams on conn. The caller owns the
// connection: its credentials, its balancing over several collectors (after BEHIND
// and UNAVAILABLE another collector may work), and closing it.
func New(conn grpc.ClientConnInterface, o Options) (*Follower, error) {
	if conn == nil {
		return nil, errors.New("follow buckets: a connection is required")
	}
	if o.Resume != nil && o.Resume.GetStoreId() == "" {
		return nil, errors.New("follow buckets: the resume point has no store id: use a point from SnapshotEnd or Progress")
	}
	if o.Counters && (o.Filter != nil || o.Resume != nil || o.Snapshot != nil) {
		return nil, errors.New("follow buckets: counters are those of the whole store, from their totals on: filter, snapshot and resume point must be nil")
	}
	b := &o.Backoff
	if b.Min < 0 || b.Max < 0 || b.Long < 0 || o.Idle < 0 {
		return nil, fmt.Errorf("follow buckets: backoff min %s, max %s, long %s, idle %s: must not be negative", b.Min, b.Max, b.Long, o.Idle)
	}
	defaulted(&b.Min, defaultMin)
	defaulted(&b.Max, max(defaultMax, b.Min))
	defaulted(&b.Long, max(defaultLong, b.Max))
	defaulted(&o.Idle, defaultIdle)
	if b.Min > b.Max || b.Max > b.Long {
		return nil, fmt.Errorf("follow buckets: backoff min %s, max %s, long %s: must be in ascending order", b.Min, b.Max, b.Long)
	}
	if o.Snapshot == nil {
		o.Snapshot = &bucketv1.SnapshotRequest{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	return &Follower{
		rpc:  bucketv1.NewBucketServiceClient(conn),
		opts: o,
		tell: endLog{log: o.Logger, logged: map[string]*logged{}},
		wait: pauses{Backoff: *b, rng: rand.New(rand.NewPCG(o.Seed, o.Seed))},
		at:   position{point: o.Resume, snapshot: o.Resume == nil},
	}, nil
}

func defaulted(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// Run follows until ctx ends. Errors of the server are reported to the handler and
// retried for ever. Run returns nil when ctx was cancelled, and an error that wraps
// context.DeadlineExceeded when its deadline passed: a tool that cancels ctx when it
// has what it waits for can tell the two apart. It returns an error at once for a
// nil handler or a second call on the same follower.
func (f *Follower) Run(ctx context.Context, h Handler) error {
	if h == nil {
		return errors.New("follow buckets: a handler is required")
	}
	if _, ok := h.(CounterHandler); f.opts.Counters && !ok {
		return fmt.Errorf("follow buckets: the handler is a %T, which is no CounterHandler", h)
	}
	if f.used.Swap(true) {
		return errors.New("follow buckets: a follower can run only once: create another")
	}
	for ctx.Err() == nil {
		f.since = time.Time{}
		err := f.stream(ctx, h)
		if ended(ctx, err) {
			break
		}
		v := judge(err)
		if f.opts.Counters && f.at.snapshot && status.Code(err) == codes.InvalidArgument {
			v = otherCounters // the request has nothing else that could be malformed
		}
		pause := f.conclude(v, err)
		h.Disconnected(err, pause)
		sleep(ctx, pause)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("follow buckets: %w", ctx.Err())
	}
	return nil // cancelled by the caller
}

// ended reports whether a stream ended because ctx has, or is about to: the server
// knows its deadline and may reach it first.
func ended(ctx context.Context, err error) bool {
	if end, ok := ctx.Deadline(); ok && status.Code(err) == codes.DeadlineExceeded && time.Until(end) < time.Second {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// conclude applies the verdict on the end of a stream and returns the pause before
// the next one.
func (f *Follower) conclude(v verdict, err error) time.Duration {
	switch v.next {
	case asBefore:
	case probe:
		f.at.snapshot = false
	case snapshot:
		f.at.snapshot = true
	}
	f.at.broken = f.at.broken || v.broken
	f.at.foreign = f.at.foreign || v.foreign

	worked := time.Duration(0)
	if !f.since.IsZero() && time.Since(f.since) >= worksAfter*f.opts.Backoff.Min {
		worked = time.Since(f.since)
		f.wait.reset()
		f.jumped = false
	}
	pause := time.Duration(0)
	switch {
	case v.pace == long:
		pause = f.wait.long()
	case v.pace == now && !f.jumped:
		// Only once: a server that fails the snapshot in the same way must not be
		// asked for snapshots without a pause.
		f.jumped = true
	default:
		pause = max(f.wait.next(), f.wait.hinted(retryDelay(err)))
	}
	f.tell.end(v, worked, "err", err, "reason", Reason(err), "retry_in", pause, "revision", f.at.point.GetRevision())
	return pause
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
