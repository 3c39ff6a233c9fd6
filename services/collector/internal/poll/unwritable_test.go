package poll_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// refusing is a store whose writes an error may keep from it.
type refusing struct {
	store.Store
	write  func(what string, b *store.Batch) error // of one call; nil: it is made
	lose   int                                     // answers of appends that get lost, though they took effect
	failed int                                     // writes
}

func (r *refusing) Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	if err := r.write("append", &b); err != nil {
		r.failed++
		return bucket.Position{}, fmt.Errorf("append: %w", err)
	}
	head, err := r.Store.Append(ctx, term, at, b)
	if err == nil && r.lose > 0 && len(b.Entries) > 0 {
		r.lose--
		return bucket.Position{}, fmt.Errorf("append: %w", store.ErrNoSpace)
	}
	return head, err
}

func (r *refusing) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	if err := r.write("renew", nil); err != nil {
		r.failed++
		return err
	}
	return r.Store.Renew(ctx, term, ttl, progress)
}

// refuse puts the store of a world behind errors, and tells of them.
func (w *world) refuse(write func(what string, b *store.Batch) error) (*refusing, *testkit.Logs) {
	log, logs := testkit.RecordingLogger(w.t)
	r := &refusing{Store: w.store, write: write}
	w.config.Store = r
	w.config.Logger = log
	w.config.Trouble = trouble.New(log, w.clock.Now, w.registry)
	w.config.Writes = writes.New(log, w.clock.Now, w.config.Trouble, w.registry)
	return r, logs
}

// metric is the sum of the series of a family whose first label has a value, or of
// all of them.
func (w *world) metric(name, label string) (sum float64) {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	found := false
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				found, sum = true, sum+m.GetGauge().GetValue()+m.GetCounter().GetValue()
			}
		}
	}
	if !found {
		w.t.Fatalf("there is no %s with label %q", name, label)
	}
	return sum
}

// For hours a database takes nothing that an operator must make possible: the same
// term goes on, asking once a minute, tells of it, and stores everything when it
// can. A run that ended with an error would fail the test.
func TestATermOutlivesWhatAnOperatorMends(t *testing.T) {
	for _, cause := range []error{store.ErrNoSpace, store.ErrReadOnly, store.ErrDenied, store.ErrSchema, store.ErrCorrupt} {
		for _, kinds := range []string{"append", "append renew"} {
			t.Run(cause.Error()+" "+kinds, func(t *testing.T) {
				w := newWorld(t, zones("shop.example", "api.example"))
				from, to := began.Add(time.Hour), began.Add(3*time.Hour)
				var ready []string
				r, logs := w.refuse(nil)
				r.write = func(what string, _ *store.Batch) error {
					if now := w.clock.Now(); strings.Contains(kinds, what) && now.After(from) && now.Before(to) {
						if err := w.config.Writes.Err(); err != nil {
							ready = append(ready, err.Error())
						}
						return cause
					}
					return nil
				}
				w.run(6 * time.Hour)
				w.checkTruth()
				for _, name := range []string{"shop.example", "api.example"} {
					if n := w.missing(cfsim.Tag("zone:"+name), began.Add(-3*time.Hour)); n != 0 {
						t.Errorf("%s: %d windows are missing", name, n)
					}
				}
				if r.failed < 100 || r.failed > 125 {
					t.Errorf("%d writes were tried in two hours, want one a minute", r.failed)
				}
				if n := w.metric("weir_collector_append_failures_total", store.Reason(cause)); n != float64(r.failed) {
					t.Errorf("%v writes are counted as failed, %d did", n, r.failed)
				}
				if len(ready) < 100 || !strings.Contains(ready[0], store.Remedy(cause)) {
					t.Errorf("not ready at %d attempts: %q", len(ready), ready[:1])
				}
				if n := logs.Count("level=WARN msg=\"the store cannot be written\""); n != 1 {
					t.Errorf("%d warnings, want 1", n)
				}
				// At a minute, and again after an hour.
				if n := logs.Count("level=ERROR msg=\"the store cannot be written"); n != 2 {
					t.Errorf("%d errors, want 2", n)
				}
				if w.config.Writes.Err() != nil || w.metric("weir_collector_store_writable", "") != 1 || len(w.config.Trouble.List(false)) != 0 {
					t.Errorf("it is mended, and told as if it were not: %v", w.config.Trouble.List(false))
				}
			})
		}
	}
}

// What took effect though the store said that it had not ends the term: it is not
// written twice.
func TestAnAppendThatTookEffectIsNotRepeated(t *testing.T) {
	w := newWorld(t, zones("shop.example"))
	r, _ := w.refuse(func(string, *store.Batch) error { return nil })
	r.lose = 1
	if err := w.tryToRun(time.Hour); err == nil || !strings.Contains(err.Error(), store.ErrConflict.Error()) {
		t.Errorf("the term ended with %v, want %v", err, store.ErrConflict)
	}
	w.run(2 * time.Hour)
	w.checkTruth()
}

// Values that the store cannot hold cost themselves: their bucket is a gap with
// its reason, their record is offered again, and everything else is stored at
// once. When the store can hold them they are stored too, without a new term.
func TestWhatTheStoreCannotHoldCostsItself(t *testing.T) {
	w := newWorld(t, nil)
	shop := bucket.Scope{Kind: bucket.Zone, ID: cfsim.Tag("zone:shop.example")}
	start := bucket.TimeOf(began).Floor(5 * time.Minute).Add(time.Hour)
	bad := []bucket.Key{ // two of one batch, and two that follow each other
		{Dataset: "http_5m", Scope: shop, Start: start},
		{Dataset: "http_5m", Scope: shop, Start: start.Add(5 * time.Minute)},
		{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: cfsim.Tag("zone:api.example")}, Start: start},
	}
	mended := began.Add(4 * time.Hour)
	r, logs := w.refuse(nil)
	r.write = func(_ string, b *store.Batch) error {
		if b == nil || !w.clock.Now().Before(mended) {
			return nil
		}
		for _, e := range b.Entries {
			if e.Kind == bucket.KindBucket && slices.Contains(bad, e.Key) {
				return store.ErrInvalid
			}
		}
		for _, rec := range b.Records {
			if rec.Kind == "scope" && strings.Contains(rec.Key, shop.ID) || rec.Kind == ledger.KindGap && strings.Contains(rec.Key, shop.ID) {
				return store.ErrEncoding
			}
		}
		return nil
	}
	w.run(3 * time.Hour)
	w.checkTruth()
	for _, key := range bad {
		if w.stored()[key] != nil {
			t.Errorf("%s is stored", key)
		}
	}
	if n := w.missing(shop.ID, began.Add(-3*time.Hour)); n != 2 {
		t.Errorf("%d windows of shop.example are missing, want 2", n)
	}
	if n := w.missing(bad[2].Scope.ID, began.Add(-3*time.Hour)); n != 1 {
		t.Errorf("%d windows of api.example are missing, want 1", n)
	}
	for _, name := range []string{"checkout.example", "blog.example"} {
		if n := w.missing(cfsim.Tag("zone:"+name), began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", name, n)
		}
	}
	source := status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return false }}
	coverages, _, err := source.Coverage(t.Context(), store.Filter{Datasets: []string{"http_5m"}, Scopes: []bucket.Scope{bad[2].Scope}}, bucket.Window{})
	if err != nil || len(coverages) != 1 {
		t.Fatal(coverages, err)
	}
	if !slices.ContainsFunc(coverages[0].Ranges, func(c *bucketv1.CoverageRange) bool {
		return c.StartUnixSeconds == int64(start) && c.Reason == bucketv1.GapReason_GAP_REASON_INVALID
	}) {
		t.Errorf("the window of api.example is not a gap with its reason: %v", coverages[0].Ranges)
	}
	if n := logs.Count("level=WARN msg=\"the store cannot be written\""); n != 0 || w.metric("weir_collector_store_writable", "") != 1 {
		t.Error("the whole store is told not to be writable for some values")
	}
	if w.metric("weir_collector_append_failures_total", "invalid") == 0 || w.metric("weir_collector_append_failures_total", "encoding") == 0 {
		t.Error("the appends are not counted as failed")
	}
	// Each value for itself, after pauses that grow.
	if r.failed > 400 {
		t.Errorf("%d appends failed in three hours", r.failed)
	}
	w.run(4 * time.Hour)
	for _, zone := range []string{shop.ID, bad[2].Scope.ID} {
		if n := w.missing(zone, began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%d windows of %s are missing when the store can hold them", n, zone)
		}
	}
	records, err := w.store.Records(t.Context(), "scope")
	if err != nil || len(records) != 8 {
		t.Errorf("%d zones are on record, %v; want 8", len(records), err)
	}
	if n := w.metric("weir_collector_problems", string(trouble.InvalidValue)); n != 0 {
		t.Errorf("%v values are told as invalid, want 0", n)
	}
}
