package poll_test

import (
	"context"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// One answer with a date of years ago must not stop the collecting: nothing is
// due then, so that no other answer would ever come.
func TestAClockThatWasBehindIsAskedAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.stand(&between{answer: func(a *cloudflare.Response) {
		if now := w.clock.Now(); now.After(began.Add(30*time.Minute)) && now.Before(began.Add(40*time.Minute)) {
			a.Date = a.Date.AddDate(-56, 0, 0)
		}
	}})
	w.run(150 * time.Minute)
	w.checkTruth()
	if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows are missing", n)
	}
}

// A machine whose clock is an hour ahead waits for permits no longer than one
// whose clock is right.
func TestAWaitForPermitsIsAsLongAsItIs(t *testing.T) {
	w := newWorld(t, nil)
	w.config.Clock = &jumping{leaping: w.clock, by: time.Hour}
	budget := w.budget(quota.Urgent, quota.Background, quota.Spare)
	w.run(20 * time.Minute) // each refusal is for a minute
	if budget.denied < 15 {
		t.Errorf("asked for a permit %d times in twenty minutes, want about once a minute", budget.denied)
	}
}

// A longer retention does not want back what a shorter one has dropped: it would
// be fetched anew, and perhaps differ, or be called lost.
func TestALongerRetentionWantsNothingBack(t *testing.T) {
	w := newWorld(t, nil)
	w.config.Lookback, w.config.Retention = 24*time.Hour, 10*time.Hour
	w.run(time.Hour)
	w.config.Retention = 90 * 24 * time.Hour
	w.run(time.Hour)
	border := bucket.TimeOf(began.Add(-10 * time.Hour))
	for key := range w.stored() {
		if key.Start < border {
			t.Fatalf("%s was fetched, which an earlier retention had dropped", key)
		}
	}
	for _, e := range w.entries(bucket.KindGapDecision) {
		if e.Key.Start < border {
			t.Errorf("%s is called lost, which an earlier retention had dropped", e.Key)
		}
	}
}

// measured notes how many entries an append has at most.
type measured struct {
	store.Store
	most int
}

func (m *measured) Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	m.most = max(m.most, len(b.Entries))
	return m.Store.Append(ctx, term, at, b)
}

// An answer that catches up a day of minutes is stored in parts.
func TestALargeAnswerIsStoredInParts(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Settling.Off = true })
	var err error
	if w.catalogue, err = catalogue.Load(nil, catalogue.Options{HTTPSize: time.Minute}); err != nil {
		t.Fatal(err)
	}
	m := &measured{Store: w.store}
	w.config.Catalogue, w.config.Store, w.config.Lookback = w.catalogue, m, 23*time.Hour
	w.run(time.Minute)
	if n := len(w.stored()); n < 6000 {
		t.Fatalf("only %d buckets are stored; the story has lost its subject", n)
	}
	if m.most != 2000 {
		t.Errorf("the largest append had %d entries, want full parts of 2000", m.most)
	}
}
