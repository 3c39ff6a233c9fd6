package bucketsvc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
)

// tallier counts what a stream delivers, and ends it at a revision.
type tallier struct {
	fold     *counter.Fold
	versions map[uint32]*bucket.Definition
	until    bucket.Revision
	moment   time.Time // and until the stream is complete up to it
	stop     context.CancelFunc
	epoch    string
	begun    bucket.Revision // point of the totals
	complete time.Time
	last     error
}

func (c *tallier) SnapshotBegin(*bucketv1.StoreInfo) {
	c.fold, c.versions = counter.New(), map[uint32]*bucket.Definition{}
}
func (c *tallier) Info(*bucketv1.StoreInfo) {}
func (c *tallier) Entry(m *bucketv1.Entry) error {
	e, err := wire.Entry(m)
	if err != nil {
		return err
	}
	if e.Definition != nil {
		c.versions[e.Definition.Version] = e.Definition
	}
	if e.Bucket != nil {
		e.Definition = c.versions[e.Bucket.Version]
	}
	return c.fold.Add(&e)
}

func (c *tallier) CounterEpoch(m *bucketv1.CounterEpoch) error {
	e, err := wire.DecodeCounterEpoch(m)
	c.epoch = e.ID
	return err
}

func (c *tallier) CounterTotals(m *bucketv1.CounterTotals) error {
	t, err := wire.DecodeCounterTotals(m)
	if err != nil {
		return err
	}
	return c.fold.Load(t)
}

func (c *tallier) SnapshotEnd(p *bucketv1.ResumePoint, _ time.Time) {
	c.begun = bucket.Revision(p.GetRevision())
}
func (c *tallier) Complete(until time.Time) { c.complete = until }
func (c *tallier) Progress(p *bucketv1.ResumePoint, _ time.Time) {
	if bucket.Revision(p.GetRevision()) >= c.until && !c.complete.IsZero() && !c.complete.Before(c.moment) {
		c.stop()
	}
}

func (c *tallier) Disconnected(err error, _ time.Duration) {
	c.last = err
	c.stop()
}

func (c *tallier) values(at time.Time) map[string]counter.Value {
	out := map[string]counter.Value{}
	for fam := range c.fold.Families {
		for _, s := range fam.Series() {
			if v, shown := s.At(sample.MillisOf(at)); shown {
				out[fmt.Sprint(fam.Name, s.Zone, s.Values)] = v
			}
		}
	}
	return out
}

// A stream that begins with the totals counts like one that has read the whole epoch, on
// both drivers (G10).
func TestCountersOverTheService(t *testing.T) {
	for name, open := range map[string]func(testing.TB) *database{"SQLite": newSQLite, "Postgres": newPostgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRigOn(t, open(t), bucketsvc.Limits{})
			moment := feedtest.T0
			follow := func() *tallier {
				t.Helper()
				head, err := r.store.Head(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				c := &tallier{until: head.Revision, moment: moment, stop: stop}
				f, err := client.New(r.conn, client.Options{Counters: true, CounterRules: counter.Rules})
				if err != nil {
					t.Fatal(err)
				}
				if err := f.Run(ctx, c); err != nil {
					t.Fatal(err)
				}
				return c
			}
			write := func(a *totals.Advanced, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				for _, records := range a.Batches {
					head, err := r.store.Head(t.Context())
					if err == nil {
						_, err = r.store.get().Append(t.Context(), r.term, head.Position, store.Batch{CommittedAt: feedtest.T0, Records: records})
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			if c := follow(); status.Code(c.last) != codes.Unavailable || client.Reason(c.last) != client.ReasonNoCounters {
				t.Errorf("before any counting: %v", c.last)
			}
			write(totals.Begin(t.Context(), r.store, "first", totals.First, bucket.Position{}, feedtest.T0))
			r.append(t, feedtest.T0, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)})
			commit := func(from, to int) {
				for n := from; n < to; n++ {
					b := feedtest.Bucket("http_5m", feedtest.Zone(n%2), n/2)
					r.append(t, b.Window().End.Std().Add(6*time.Minute), feedtest.Entry{Bucket: b})
				}
			}
			r.progress(t, feedtest.T0) // the time is not known before
			commit(0, 20)
			whole := follow()
			head, err := r.store.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			write(totals.Advance(t.Context(), r.store.get(), head.Position, head.CommittedAt, func() error { return nil }))
			commit(20, 26)
			moment = feedtest.T0.Add(time.Hour)
			r.progress(t, moment)
			begun := follow()
			if begun.begun != head.Revision || begun.epoch != "first" || whole.begun != 0 {
				t.Errorf("the stream began at revision %d of epoch %q, want %d", begun.begun, begun.epoch, head.Revision)
			}
			write(totals.Begin(t.Context(), r.store, "aside", totals.First, bucket.Position{}, feedtest.T0)) // the totals of nothing, before the first entry
			all := follow()
			at := head.CommittedAt.Add(20 * time.Minute)
			if want, got := all.values(at), begun.values(at); len(got) == 0 || !cmp.Equal(want, got) {
				t.Errorf("(-whole log +from totals):\n%s", cmp.Diff(want, got))
			}
		})
	}
}

// A stream ends when another epoch begins, so that no two readers show sums of two epochs
// for long (G10).
func TestANewEpochEndsStreams(t *testing.T) {
	r := newRig(t, bucketsvc.Limits{Epoch: time.Millisecond})
	r.beginEpoch(t, "first")
	s, err := bucketv1.NewBucketServiceClient(r.conn).WatchBuckets(t.Context(), &bucketv1.WatchBucketsRequest{
		Start: &bucketv1.WatchBucketsRequest_Counters{Counters: &bucketv1.CountersRequest{Rules: counter.Rules}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for beats := 0; err == nil; {
		var m *bucketv1.WatchBucketsResponse
		if m, err = s.Recv(); m.GetProgress() != nil {
			if beats++; beats == 3 {
				r.beginEpoch(t, "second")
			}
		}
		if err != nil && beats < 3 {
			t.Errorf("the stream ended after %d heartbeats of the same epoch", beats)
		}
	}
	if client.Reason(err) != client.ReasonHistoryChanged {
		t.Errorf("the stream ended with %v", err)
	}
}

// A stream that goes on from a point says in which epoch its reader counts, and ends if there is
// another one by then. Readers that count by other rules are refused (G10).
func TestCountersOfAnotherEpochOrOtherRules(t *testing.T) {
	r := newRig(t, bucketsvc.Limits{})
	r.beginEpoch(t, "first")
	rpc := bucketv1.NewBucketServiceClient(r.conn)
	watch := func(req *bucketv1.WatchBucketsRequest, until func(*bucketv1.WatchBucketsResponse) bool) error {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, err := rpc.WatchBuckets(ctx, req)
		for err == nil {
			var m *bucketv1.WatchBucketsResponse
			if m, err = s.Recv(); err == nil && until(m) {
				return nil
			}
		}
		return err
	}
	var point *bucketv1.ResumePoint
	if err := watch(&bucketv1.WatchBucketsRequest{
		Start: &bucketv1.WatchBucketsRequest_Counters{Counters: &bucketv1.CountersRequest{Rules: counter.Rules}},
	}, func(m *bucketv1.WatchBucketsResponse) bool {
		point = m.GetSnapshotEnd().GetPoint()
		return point != nil
	}); err != nil {
		t.Fatal(err)
	}
	resume := &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{Resume: point}, CounterEpoch: "first"}
	beat := func(m *bucketv1.WatchBucketsResponse) bool { return m.GetProgress() != nil }
	if err := watch(resume, beat); err != nil {
		t.Errorf("in the same epoch: %v", err)
	}
	r.beginEpoch(t, "second")
	if err := watch(resume, beat); client.Reason(err) != client.ReasonHistoryChanged {
		t.Errorf("a stream that was resumed in another epoch: %v", err)
	}
	for _, rules := range []uint32{0, counter.Rules - 1, counter.Rules + 1} {
		err := watch(&bucketv1.WatchBucketsRequest{
			Start: &bucketv1.WatchBucketsRequest_Counters{Counters: &bucketv1.CountersRequest{Rules: rules}},
		}, beat)
		if client.Reason(err) != client.ReasonBadRequest || !strings.Contains(err.Error(), "rules") {
			t.Errorf("counters of rules %d: %v", rules, err)
		}
	}
}

// A request for counters of some scopes is refused: their sums would be those of all.
func TestCountersHaveNoFilter(t *testing.T) {
	r := newRig(t, bucketsvc.Limits{})
	s, err := bucketv1.NewBucketServiceClient(r.conn).WatchBuckets(t.Context(), &bucketv1.WatchBucketsRequest{
		Filter: &bucketv1.Filter{Datasets: []string{"http_5m"}},
		Start:  &bucketv1.WatchBucketsRequest_Counters{Counters: &bucketv1.CountersRequest{Rules: counter.Rules}},
	})
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.InvalidArgument || client.Reason(err) != client.ReasonBadRequest {
		t.Errorf("counters with a filter: %v", err)
	}
}
