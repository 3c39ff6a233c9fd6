package poll_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// later has an operator do something after the first pass that ends at a time or later. The
// clock stands still until it is done.
func (w *world) later(at time.Time, do func(ctx context.Context)) {
	before := w.config.Passed
	done := false
	w.config.Passed = func() {
		if before != nil {
			before()
		}
		if done || w.clock.Now().Before(at) || w.clock.held.Load() != nil {
			return
		}
		done = true
		over := make(chan struct{})
		w.clock.held.Store(&over)
		go func() {
			defer close(over)
			do(w.t.Context())
		}()
	}
}

var ops = poll.Asked{Requester: "ada", Reason: "the first week is missing"}

// backfills creates a backfill at a time.
func (w *world) backfills(at time.Time, sel jobs.Selection, key string) *jobs.Job {
	w.t.Helper()
	created := new(jobs.Job)
	w.later(at, func(ctx context.Context) {
		j, err := w.poller.CreateBackfill(ctx, sel, key, ops)
		if err != nil {
			w.t.Errorf("create a backfill: %v", err)
			return
		}
		*created = *j
	})
	return created
}

// job reads a backfill from the store.
func (w *world) job(id string) *jobs.Job {
	w.t.Helper()
	for _, j := range w.allJobs() {
		if j.ID == id {
			return j
		}
	}
	w.t.Fatalf("there is no backfill %q", id)
	return nil
}

func (w *world) allJobs() []*jobs.Job {
	w.t.Helper()
	records, err := w.store.Records(w.t.Context(), jobs.Kind)
	if err != nil {
		w.t.Fatal(err)
	}
	progress, err := w.store.Records(w.t.Context(), jobs.KindProgress)
	if err != nil {
		w.t.Fatal(err)
	}
	all, bad := jobs.Read(records, progress)
	for _, of := range bad {
		for _, r := range of {
			w.t.Errorf("record %s %s: %v", r.Kind, r.Key, r.Err)
		}
	}
	return all
}

// ended is a backfill that must be done, with a report in which each window is once.
func (w *world) ended(id string) *jobs.Job {
	w.t.Helper()
	j := w.job(id)
	c := j.Counts
	if j.State != jobs.Done || c.Missing != 0 {
		w.t.Fatalf("the backfill is %s, want done: %+v, last error %q", j.State, c, j.LastError)
	}
	if c.Total != j.Total || c.Present != j.Present || c.Total != c.Present+c.Filled+c.Refused+c.Lost {
		w.t.Errorf("the report does not add up: %+v, %d windows at the beginning, %d present", c, j.Total, j.Present)
	}
	return j
}

// audited reads the audit events.
func (w *world) audited() (all []*bucketv1.AuditEvent) {
	w.t.Helper()
	var after bucket.Revision
	for {
		page, err := w.store.ReadLog(w.t.Context(), after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		for _, e := range page {
			after = e.Revision
			if e.Kind == bucket.KindAudit {
				m, err := wire.AuditEvent(e.Payload)
				if err != nil {
					w.t.Fatal(err)
				}
				all = append(all, m)
			}
		}
	}
}

func actions(events []*bucketv1.AuditEvent) (out []string) {
	for _, e := range events {
		name := strings.TrimPrefix(e.GetAction().String(), "ACTION_BACKFILL_")
		if e.GetRefused() != "" {
			name += " refused"
		}
		out = append(out, name)
	}
	return out
}

// filled checks that every window of a dataset and zone in a range is stored by a backfill.
func (w *world) filled(dataset, zone string, in bucket.Window) {
	w.t.Helper()
	size := w.catalogue.Find(dataset).Size
	stored, missing := w.stored(), 0
	for start := in.Start; start < in.End; start = start.Add(size) {
		b := stored[bucket.Key{Dataset: dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: cfsim.Tag("zone:" + zone)}, Start: start}]
		if b == nil {
			missing++
			continue
		}
		if b.Origin != bucket.Backfill {
			w.t.Errorf("%s has origin %d, want %d", b.Key, b.Origin, bucket.Backfill)
		}
	}
	if missing > 0 {
		w.t.Errorf("%d windows of %s of %s in %s are not stored", missing, dataset, zone, in)
	}
}

// daysAgo is a range before the start of every scope of a world with three hours of lookback.
func daysAgo(from, until time.Duration) bucket.Window {
	day := bucket.TimeOf(began).Floor(24 * time.Hour)
	return bucket.Window{Start: day.Add(-from), End: day.Add(-until)}
}

// A backfill brings what is before the start of a zone, sample by sample what really
// happened, inside the budget, and changes nothing that is said about collecting.
func TestABackfillBringsHistory(t *testing.T) {
	w := newWorld(t, zones("shop.example", "checkout.example", "blog.example"))
	w.only("http_5m", "uniques_1h", "uniques_1d")
	range3 := daysAgo(48*time.Hour, 0)
	j := w.backfills(began.Add(10*time.Minute), jobs.Selection{Window: range3}, "")
	source := status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return true }}
	w.run(9 * time.Minute)
	before, err := source.Datasets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.run(30 * time.Minute)
	done := w.ended(j.ID)
	if done.Counts.Filled == 0 || done.Requests == 0 {
		t.Fatalf("nothing was filled: %+v, %d requests", done.Counts, done.Requests)
	}
	if n := w.checkTruth(); n < int(done.Counts.Filled)/2 {
		t.Fatalf("only %d buckets were compared; %d windows were filled", n, done.Counts.Filled)
	}
	t.Logf("%+v with %d requests, refused %v", done.Counts, done.Requests, done.Refused)
	for _, dataset := range []string{"http_5m", "uniques_1h", "uniques_1d"} {
		w.filled(dataset, "shop.example", range3)
	}
	after, err := source.Datasets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range after {
		if after[i].CompleteUntilUnixSeconds < before[i].CompleteUntilUnixSeconds || after[i].WindowsMissing > before[i].WindowsMissing {
			t.Errorf("collecting was %v and is %v", before[i], after[i])
		}
	}
	if peak := w.sim.Counters().PeakQueries; peak > 150 {
		t.Errorf("%d requests within five minutes; the share is 150", peak)
	}
	if got := actions(w.audited()); !slices.Equal(got, []string{"CREATED", "DONE"}) {
		t.Errorf("audit events are %v", got)
	}
	if runs, err := w.store.Unserved(t.Context(), store.Filter{}, 0, 24*time.Hour); err != nil || len(runs) > 0 {
		t.Errorf("a backfill leaves unserved windows: %v, %v", runs, err)
	}
}
