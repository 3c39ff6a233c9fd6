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

// Handler receives what a [Follower] reads. All calls come from one goroutine,
// the one that called Run, in order; a call that takes long delays the stream
// and, if it takes too long, makes the server end it as a slow reader.
//
// Messages belong to the handler once it has them; the follower keeps no
// reference.
type Handler interface {
	// SnapshotBegin says that a new view begins. The old view, if any, stays
	// valid until SnapshotEnd. A second SnapshotBegin discards an unfinished view.
	SnapshotBegin(info *bucketv1.StoreInfo)
	// Info says that a stream was resumed: the view is the one already held.
	Info(info *bucketv1.StoreInfo)
	// Entry is one entry: inside a snapshot (dataset versions, then buckets in
	// ascending order of dataset, window start and scope; revisions do not
	// ascend) or live (revisions ascend). An entry of a kind that this release
	// does not know, or whose stored content cannot be read, has a nil Kind:
	// apply nothing and return nil. An error ends the stream; since the view is
	// then in doubt, a new snapshot follows after a pause.
	Entry(e *bucketv1.Entry) error
	// SnapshotEnd says that the view is complete and stands at point. Progress
	// is the time up to which it is complete, as the leader's clock has it; zero
	// when no leader has said so yet.
	SnapshotEnd(point *bucketv1.ResumePoint, progress time.Time)
	// Progress says that every matching entry up to point has been delivered.
	// Progress time is zero while the stream catches up with the log.
	Progress(point *bucketv1.ResumePoint, progress time.Time)
	// Disconnected says that a stream ended, why, and in what time the next one
	// is opened. [Reason] gives the server's reason. For metrics and logs.
	Disconnected(err error, retryIn time.Duration)
}

// Backoff bounds the pauses between streams. Zero fields mean the default. The
// connection's own pauses are the caller's to bound: see the package's comment.
type Backoff struct {
	// Min is the first pause, Max the longest of the exponential ones; each is
	// shortened by up to half, at random. Defaults 200 ms and 30 s.
	Min, Max time.Duration
	// Long is the pause after errors that repeat until somebody changes
	// something: a refused credential, a malformed request. Default 1 min; at
	// least Max.
	Long time.Duration
}

// Options shape a [Follower]. The zero value follows everything, beginning with
// a snapshot without buckets.
type Options struct {
	// Filter restricts by dataset and scope; nil: all.
	Filter *bucketv1.Filter
	// Snapshot is what a snapshot shall hold; nil: dataset versions only. It is
	// used at the beginning, unless Resume is set, and whenever the point that
	// was reached can no longer be continued.
	Snapshot *bucketv1.SnapshotRequest
	// Resume continues behind a point that the caller has kept; nil: begin with
	// a snapshot.
	Resume *bucketv1.ResumePoint
	// Logger; nil: no logs.
	Logger *slog.Logger
	// Backoff bounds the pauses between streams.
	Backoff Backoff
	// Idle is how long the stream may be silent before it is taken for dead;
	// 0: 30 s. It must exceed the server's interval between progress messages
	// (a few seconds) and the time that the server's database takes to begin a
	// snapshot.
	Idle time.Duration
	// Seed of the jitter; 0: one drawn at random, so that followers that were
	// cut off together do not come back together.
	Seed uint64
}

const (
	defaultMin  = 200 * time.Millisecond
	defaultMax  = 30 * time.Second
	defaultLong = time.Minute
	defaultIdle = 30 * time.Second

	// worksAfter is for how many minimum pauses a stream must have brought
	// something before its end counts as the first failure and not as one more.
	// So a server that serves everybody a little and then drops them is asked
	// at most once in 10 × Backoff.Min, pause included.
	worksAfter = 10

	// maxMessage is the largest message accepted. A bucket with every family at
	// its cardinality limit is far below; gRPC's default of 4 MiB is not far
	// enough above it.
	maxMessage = 16 << 20
)

// Follower keeps a [Handler] in step with a collector. Use [New]; run it once.
type Follower struct {
	rpc  bucketv1.BucketServiceClient
	opts Options
	used atomic.Bool
	wait pauses

	// The rest is owned by Run.
	at     place
	tell   telling
	jumped bool      // the last stream was opened without a pause
	since  time.Time // when the present stream first brought something; zero before
}

// place is what the follower knows about where its handler stands.
type place struct {
	// point is the last applied position; nil before the first complete view.
	point *bucketv1.ResumePoint
	// snapshot: the next stream shall begin with a snapshot.
	snapshot bool
	// broken: the handler's view may not be what point says, so point may bound
	// a snapshot from below but not be resumed from.
	broken bool
	// foreign: a server has said that point is not of its history, so a lower
	// revision is no step back.
	foreign bool
}

// New returns a follower that opens its streams on conn. The connection stays
// the caller's: its credentials, its balancing over several collectors
// (BEHIND and UNAVAILABLE are worth trying elsewhere), its closing.
func New(conn grpc.ClientConnInterface, o Options) (*Follower, error) {
	if conn == nil {
		return nil, errors.New("follow buckets: a connection is required")
	}
	if o.Resume != nil && o.Resume.GetStoreId() == "" {
		return nil, errors.New("follow buckets: the resume point has no store id; use one that SnapshotEnd or Progress gave")
	}
	b := &o.Backoff
	if b.Min < 0 || b.Max < 0 || b.Long < 0 || o.Idle < 0 {
		return nil, fmt.Errorf("follow buckets: back-off %s to %s, long %s, idle %s: none may be negative", b.Min, b.Max, b.Long, o.Idle)
	}
	defaulted(&b.Min, defaultMin)
	defaulted(&b.Max, max(defaultMax, b.Min))
	defaulted(&b.Long, max(defaultLong, b.Max))
	defaulted(&o.Idle, defaultIdle)
	if b.Min > b.Max || b.Max > b.Long {
		return nil, fmt.Errorf("follow buckets: back-off %s to %s, long %s: they must ascend", b.Min, b.Max, b.Long)
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
		tell: telling{log: o.Logger, said: map[string]*said{}},
		wait: pauses{Backoff: *b, rng: rand.New(rand.NewPCG(o.Seed, o.Seed))},
		at:   place{point: o.Resume, snapshot: o.Resume == nil},
	}, nil
}

func defaulted(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// Run follows until ctx ends; trouble with the server is reported to the handler
// and retried for ever. It returns nil when ctx was cancelled, and an error that
// wraps context.DeadlineExceeded when its time was over: a tool that waits for
// something, and cancels when it has it, so knows whether it has. It returns an
// error at once for misuse: a nil handler, or a second call on the same follower.
func (f *Follower) Run(ctx context.Context, h Handler) error {
	if h == nil {
		return errors.New("follow buckets: a handler is required")
	}
	if f.used.Swap(true) {
		return errors.New("follow buckets: a follower runs once; make another")
	}
	for ctx.Err() == nil {
		f.since = time.Time{}
		err := f.stream(ctx, h)
		if ended(ctx, err) {
			break
		}
		pause := f.settle(judge(err), err)
		h.Disconnected(err, pause)
		sleep(ctx, pause)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("follow buckets: %w", ctx.Err())
	}
	return nil // the stream's error is that ctx ended, as it was asked to
}

// ended reports whether a stream ended because ctx has, or is about to: the server
// knows of its deadline, and may be there first.
func ended(ctx context.Context, err error) bool {
	if end, ok := ctx.Deadline(); ok && status.Code(err) == codes.DeadlineExceeded && time.Until(end) < time.Second {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// settle draws the consequences of a stream's end and returns the pause before
// the next one.
func (f *Follower) settle(v verdict, err error) time.Duration {
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
		// Once. A server that answers the snapshot in the same way shall not
		// be asked for snapshots without a pause.
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
