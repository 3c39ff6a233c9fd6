package bucketsvc_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
)

// hanging is a store in which one reading of the epoch takes as long as a test wants. What
// it returns is what was stored when it began.
type hanging struct {
	readable
	armed   atomic.Bool   // the next reading hangs
	hangs   chan struct{} // closed when it does
	release chan struct{} // closed by the test
}

func newHanging(of readable) *hanging {
	return &hanging{readable: of, hangs: make(chan struct{}), release: make(chan struct{})}
}

func (h *hanging) Records(ctx context.Context, kind string) ([]store.Record, error) {
	records, err := h.readable.Records(ctx, kind)
	if kind == totals.KindHeader && h.armed.CompareAndSwap(true, false) {
		close(h.hangs)
		select {
		case <-h.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return records, err
}

// beginEpoch begins counting in a store without entries.
func (r *rig) beginEpoch(t *testing.T, id string) {
	t.Helper()
	a, err := totals.Begin(t.Context(), r.store, id, totals.First, bucket.Position{}, feedtest.T0)
	if err == nil {
		_, err = r.store.get().Append(t.Context(), r.term, bucket.Position{}, store.Batch{CommittedAt: feedtest.T0, Records: a.Batches[0]})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// listener reads a stream of counters until it ends.
type listener struct {
	beats atomic.Int64 // progress messages
	ended chan error   // takes why it ended
}

func (r *rig) listen(t *testing.T) *listener {
	t.Helper()
	s, err := bucketv1.NewBucketServiceClient(r.conn).WatchBuckets(t.Context(), &bucketv1.WatchBucketsRequest{
		Start: &bucketv1.WatchBucketsRequest_Counters{Counters: &bucketv1.CountersRequest{Rules: counter.Rules}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{ended: make(chan error, 1)}
	go func() {
		for {
			m, err := s.Recv()
			if err != nil {
				l.ended <- err
				return
			}
			if m.GetProgress() != nil {
				l.beats.Add(1)
			}
		}
	}()
	return l
}

// more waits until a stream has delivered n more messages.
func (l *listener) more(t *testing.T, n int64) {
	t.Helper()
	want := l.beats.Load() + n
	testkit.Eventually(t, func() error {
		select {
		case err := <-l.ended:
			t.Fatalf("the stream ended: %v", err)
		default:
		}
		if got := l.beats.Load(); got < want {
			return fmt.Errorf("%d heartbeats, want %d", got, want)
		}
		return nil
	})
}

// While the epoch is read for one stream, and the store hangs, the other streams go on (G10).
func TestAStoreThatHangsBlocksNoOtherStreamOfCounters(t *testing.T) {
	db := newSQLite(t)
	through := newHanging(db.store)
	r := newRigReading(t, db, through, bucketsvc.Limits{Epoch: time.Millisecond})
	r.beginEpoch(t, "first")
	var streams []*listener
	for range 3 {
		l := r.listen(t)
		l.more(t, 1)
		streams = append(streams, l)
	}
	through.armed.Store(true)
	<-through.hangs
	before := make([]int64, len(streams))
	for i, l := range streams {
		before[i] = l.beats.Load()
	}
	testkit.Eventually(t, func() error {
		going := 0
		for i, l := range streams {
			if l.beats.Load()-before[i] >= 10 { // more than may be on their way
				going++
			}
		}
		if going != len(streams)-1 {
			return fmt.Errorf("%d of %d streams go on; the store hangs for one", going, len(streams))
		}
		return nil
	})
	close(through.release)
	for _, l := range streams {
		l.more(t, 3)
	}
}

// A reading of the epoch that began before a new epoch, and ends after a stream of the new
// one has begun, does not end that stream: its reader would take the end for a restored
// store. The stream of the old epoch ends (G10).
func TestAStaleEpochEndsNoStream(t *testing.T) {
	db := newSQLite(t)
	through := newHanging(db.store)
	// Long enough for the second stream to ask before it reads the store itself.
	r := newRigReading(t, db, through, bucketsvc.Limits{Epoch: 2 * time.Second})
	r.beginEpoch(t, "first")
	old := r.listen(t)
	old.more(t, 1)
	through.armed.Store(true)
	<-through.hangs
	r.beginEpoch(t, "second")
	fresh := r.listen(t)
	fresh.more(t, 1)
	close(through.release)
	fresh.more(t, 10)
	if err := <-old.ended; client.Reason(err) != client.ReasonHistoryChanged {
		t.Errorf("the stream of the old epoch ended with %v", err)
	}
	fresh.more(t, 3)
}
