package bucketsvc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/rawcodec"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// WatchBuckets implements bucketv1.BucketServiceServer.
func (s *Server) WatchBuckets(req *bucketv1.WatchBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]) error {
	return s.stream(ss, "WatchBuckets", func(ctx context.Context, out *outlet) error {
		return s.watch(ctx, req, out)
	})
}

func (s *Server) watch(ctx context.Context, req *bucketv1.WatchBucketsRequest, out *outlet) error {
	send := out.send
	filter, err := parseFilter(req.GetFilter())
	if err != nil {
		return err
	}
	var cursor *feed.Cursor
	same := func() error { return nil } // fails when the stream must begin anew
	switch start := req.GetStart().(type) {
	case *bucketv1.WatchBucketsRequest_Resume:
		id, at, err := wire.Position(start.Resume)
		if err != nil {
			return badRequest("resume: %v", err)
		}
		if epoch := req.GetCounterEpoch(); epoch != "" {
			if err := s.epochIs(ctx, epoch); err != nil {
				return err
			}
			same = func() error { return s.sameEpoch(ctx, epoch) }
		}
		var set store.Settings
		cursor, set, err = s.c.Feed.Open(ctx, id, at, filter)
		if err != nil {
			return err
		}
		if err := send(infoMessage(s.info(set))); err != nil {
			return err
		}
	case *bucketv1.WatchBucketsRequest_Snapshot:
		head, err := s.snapshot(ctx, start.Snapshot, filter, out)
		if err != nil {
			return err
		}
		// From the head of the snapshot's own transaction: no hole, no overlap.
		cursor, _, err = s.c.Feed.Open(ctx, head.StoreID, head.Position, filter)
		if err != nil {
			return err
		}
	case *bucketv1.WatchBucketsRequest_Counters:
		if req.GetFilter() != nil && !proto.Equal(req.GetFilter(), &bucketv1.Filter{}) {
			return badRequest("filter must be empty on a stream that begins with counters: totals are those of all datasets and scopes")
		}
		if rules := start.Counters.GetRules(); rules != counter.Rules {
			return badRequest("counters.rules is %d; this collector counts by the rules of version %d: run exposers and collectors of one release", rules, counter.Rules)
		}
		id, at, epoch, err := s.counters(ctx, out)
		if err != nil {
			return err
		}
		same = func() error { return s.sameEpoch(ctx, epoch) }
		cursor, _, err = s.c.Feed.Open(ctx, id, at, filter)
		if err != nil {
			return err
		}
	default:
		return badRequest("start is missing; it must be a resume point, a snapshot request or counters")
	}
	for {
		batch, err := cursor.Next(ctx)
		if err != nil {
			return err
		}
		if err := same(); err != nil {
			return err
		}
		for _, frame := range batch.Entries {
			if err := send(rawcodec.Frame(frame)); err != nil {
				return err
			}
		}
		if batch.Progress != nil {
			if err := send(rawcodec.Frame(batch.Progress)); err != nil {
				return err
			}
		}
	}
}

// errReread ends a snapshot that does not reach back far enough: it counted windows
// that turned out to be unreadable. Two clients at one revision would have different
// views (G5).
var errReread = errors.New("unreadable entries were found while reading the snapshot; it must reach back further")

// snapshot sends info, the consistent view and its end, and returns the head at
// which it was read.
func (s *Server) snapshot(ctx context.Context, req *bucketv1.SnapshotRequest, filter feed.Filter, out *outlet) (store.Head, error) {
	send := out.send
	maxAge, maxWindows, err := s.parseSnapshot(req)
	if err != nil {
		return store.Head{}, err
	}
	if err := s.acquire(ctx, s.snapshots, errManySnapshots); err != nil {
		return store.Head{}, err
	}
	defer s.snapshots.Release()
	// An open transaction blocks vacuum and retention, and other snapshots wait, so a
	// snapshot has time limits of its own, besides the one on each message.
	out.hurry(true)
	defer out.hurry(false)
	ctx, cancel := context.WithTimeout(ctx, s.c.Limits.Snapshot)
	defer cancel()

	of, keep, err := s.stored(ctx, filter)
	if err != nil {
		return store.Head{}, err
	}
	before, err := s.c.Store.Head(ctx)
	if err != nil {
		return store.Head{}, fmt.Errorf("snapshot: %w", err)
	}
	if err := send(infoMessage(s.info(before.Settings))); err != nil {
		return store.Head{}, err
	}
	query := store.SnapshotQuery{Filter: of, Since: since(before, maxAge), MaxWindows: maxWindows}
	unread := s.c.Unreadable.Starts(query.Since)
	if maxWindows > 0 {
		query.MaxWindows += unread
	}
	var late []*bucketv1.LateCommit
	if req.GetLateCommits() {
		within := min(req.GetMaxAge().AsDuration(), math.MaxInt64/2) // twice that is searched
		query.Late = &store.LateQuery{Since: since(before, 2*within), Within: within, Found: func(e store.Entry) bool {
			if !keep(&e) {
				return false
			}
			b, err := unreadable.Bucket(&e)
			if err != nil {
				s.c.Unreadable.Note(&e, err)
			}
			if err != nil || b.Zero() {
				return false
			}
			late = append(late, &bucketv1.LateCommit{Dataset: b.Dataset, CommittedAt: wire.Timestamp(e.CommittedAt)})
			return true
		}}
	}
	buckets := uint64(0)
	type start struct {
		dataset string
		at      bucket.Time
	}
	holds := map[start]bool{} // window starts with a readable bucket
	head, err := s.c.Store.Snapshot(ctx, query, func(e store.Entry) error {
		if !keep(&e) {
			return nil
		}
		kind, payload := s.content(&e)
		if kind == bucket.KindBucket {
			buckets++
		}
		if of := (start{e.Key.Dataset, e.Key.Start}); maxWindows > 0 && kind == bucket.KindBucket && !holds[of] {
			// A valid message may still be rejected by readers.
			if _, err := unreadable.Bucket(&e); err != nil {
				s.c.Unreadable.Note(&e, err)
			} else {
				holds[of] = true
			}
		}
		return send(rawcodec.Frame(wire.Frame(e.Position, e.CommittedAt, kind, payload)))
	})
	if err != nil {
		return store.Head{}, fmt.Errorf("snapshot: %w", err)
	}
	if maxWindows > 0 && s.c.Unreadable.Starts(query.Since) > unread {
		return store.Head{}, errReread
	}
	if head.StoreID != before.StoreID {
		return store.Head{}, fmt.Errorf("snapshot of store %s returned store %s: %w", before.StoreID, head.StoreID, feed.ErrHistoryChanged)
	}
	return head, send(&bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_SnapshotEnd{
		SnapshotEnd: &bucketv1.SnapshotEnd{
			Point:        wire.ResumePoint(head.StoreID, head.Position),
			ProgressTime: wire.Timestamp(head.ProgressAt),
			Buckets:      buckets,
			LateCommits:  late,
		},
	}})
}

// sameEpoch fails if counters are in another epoch than a stream's: its reader shows sums that
// a reader of the new one does not. Streams share what one of them has read at intervals.
func (s *Server) sameEpoch(ctx context.Context, epoch string) error {
	s.epochMu.Lock()
	now := time.Now() // for an age, not calendar time
	due := now.Sub(s.epochRead) >= s.c.Limits.Epoch
	if due {
		s.epochRead = now // one stream reads it, without the lock
	}
	known := s.epoch
	s.epochMu.Unlock()
	if !due && (known == "" || known == epoch) {
		return nil
	}
	// What another stream has read may be older than this stream: its reader would take the
	// end for a restore. So it ends only by what the store says now.
	return s.epochIs(ctx, epoch)
}

// epochIs fails if the store says now that counters are in another epoch. A store that cannot
// be read is the feed's business.
func (s *Server) epochIs(ctx context.Context, epoch string) error {
	e, err := totals.EpochOf(ctx, s.c.Store)
	if err != nil {
		return nil //nolint:nilerr // the feed reports a store that cannot be read
	}
	s.epochMu.Lock()
	s.epoch = e.ID
	s.epochMu.Unlock()
	if e.ID != epoch {
		return fmt.Errorf("counters are in epoch %s, and were in %s: %w", e.ID, epoch, feed.ErrHistoryChanged)
	}
	return nil
}

// counters sends info, the dataset versions, the totals of counters and their end, and
// returns the store, the position and the epoch to which they belong.
func (s *Server) counters(ctx context.Context, out *outlet) (storeID string, at bucket.Position, epoch string, err error) {
	if err := s.acquire(ctx, s.snapshots, errManySnapshots); err != nil {
		return "", at, "", err
	}
	defer s.snapshots.Release() // for the memory: totals are read as a whole
	head, err := s.c.Store.Head(ctx)
	if err != nil {
		return "", at, "", fmt.Errorf("totals of counters: %w", err)
	}
	stored, err := totals.Read(ctx, s.c.Store)
	if err != nil {
		return "", at, "", err
	}
	s.epochMu.Lock() // what was just read is newer than what is known
	s.epoch, s.epochRead = stored.Epoch.ID, time.Now()
	s.epochMu.Unlock()
	versions, err := s.c.Store.Datasets(ctx)
	if err != nil {
		return "", at, "", fmt.Errorf("totals of counters: %w", err)
	}
	if err := out.send(infoMessage(s.info(head.Settings))); err != nil {
		return "", at, "", err
	}
	for i := range versions {
		e := &versions[i]
		if e.Revision > stored.Position.Revision {
			break // it follows
		}
		kind, payload := s.content(e)
		if err := out.send(rawcodec.Frame(wire.Frame(e.Position, e.CommittedAt, kind, payload))); err != nil {
			return "", at, "", err
		}
	}
	if err := out.send(&bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_CounterEpoch{CounterEpoch: wire.CounterEpoch(stored.Epoch.Epoch)}}); err != nil {
		return "", at, "", err
	}
	sent := uint64(0)
	if err := stored.Each(func(m *bucketv1.CounterTotals) error {
		sent++
		return out.send(&bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_CounterTotals{CounterTotals: m}})
	}); err != nil {
		return "", at, "", err
	}
	return head.StoreID, stored.Position, stored.Epoch.ID, out.send(&bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_SnapshotEnd{
		SnapshotEnd: &bucketv1.SnapshotEnd{
			Point: wire.ResumePoint(head.StoreID, stored.Position), ProgressTime: wire.Timestamp(head.ProgressAt), Totals: sent,
		},
	}})
}

// since is the time after which a window must end to be within maxAge.
func since(h store.Head, maxAge time.Duration) bucket.Time {
	if maxAge == 0 {
		return endOfTime // no window ends after it
	}
	newest := h.ProgressAt
	if newest.IsZero() {
		// No leader has reported progress yet, but its commits can be shown.
		newest = h.CommittedAt
	}
	if newest.IsZero() {
		return 0 // an empty log
	}
	return bucket.TimeOf(newest.Add(-maxAge))
}

func infoMessage(i *bucketv1.StoreInfo) *bucketv1.WatchBucketsResponse {
	return &bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_Info{Info: i}}
}
